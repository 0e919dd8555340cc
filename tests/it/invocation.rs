//! What the environment and the bits of the program's file may decide.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use nix::fcntl::OFlag;
use rustix::fs::{XattrFlags, setxattr};

use crate::support::portmap::PROGRAM;
use crate::support::{Namespace, namespace, needs_other_users, skip};

/// The user that a command without privileges runs as, and somebody who is not in the tests' way.
const NOBODY: u32 = 65534;
const EVE: u32 = 12345;

/// A copy of the program where everybody can execute it.
fn copy(host: &Namespace) -> PathBuf {
    host.executable(PROGRAM, "portmap")
}

/// Gives the program CAP_NET_ADMIN, as `setcap cap_net_admin+ep` does.
fn set_capability(program: &Path) {
    // `struct vfs_cap_data` of linux/capability.h, revision 2: permitted and effective.
    let words = [0x0200_0001u32, 1 << 12, 0, 0, 0];
    let attribute: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    setxattr(program, "security.capability", &attribute, XattrFlags::empty()).unwrap();
}

/// Runs a copy with these words and variables, for a user without privileges.
#[track_caller]
fn run_as_nobody(
    host: &Namespace,
    program: &Path,
    words: &[&str],
    variables: &[(&str, &str)],
) -> Output {
    let mut command = host.command(program);
    command.args(words).envs(variables.iter().copied()).current_dir(host.dir());
    namespace::without_privileges(&mut command);
    namespace::feed(&mut command, "")
}

/// A directory of this user's.
fn directory_of(user: u32, path: &Path) {
    fs::create_dir(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    chown(path, Some(user), None).unwrap();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn set_user_id_it_refuses_to_run() {
    needs_other_users();
    let host = Namespace::new();
    let program = copy(&host);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    let mut command = host.command(&program);
    command.args(["apply", "80:3000"]);
    namespace::without_privileges(&mut command);
    let output = namespace::feed(&mut command, "");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("set-user-ID") && said.contains("chmod u-s"), "{said}");
    assert_eq!(host.ruleset(), "");
}

#[test]
fn with_capabilities_of_its_file_it_ignores_the_environment() {
    needs_other_users();
    let host = Namespace::new();
    host.apply("ports: { 80: 3000 }");
    let program = copy(&host);
    let run = || {
        let mut command = host.command(&program);
        command.args(["show", "1"]).env("PORTMAP_STATE_DIR", host.dir().join("state"));
        namespace::without_privileges(&mut command);
        namespace::feed(&mut command, "")
    };
    let output = run();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    set_capability(&program);
    let said = String::from_utf8(run().stderr).unwrap();
    assert!(said.contains("/var/lib/portmap"), "the default: {said}");
}

#[test]
fn with_capabilities_of_its_file_nobody_else_is_made_responsible() {
    needs_other_users();
    let host = Namespace::new();
    let program = copy(&host);
    set_capability(&program);
    let state = host.dir().join("theirs");
    directory_of(NOBODY, &state);
    let with_state = |words: &[&str], variables: &[(&str, &str)]| {
        let words = [&["--state-dir", state.to_str().unwrap()], words].concat();
        let output = run_as_nobody(&host, &program, &words, variables);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let sudo = [("SUDO_UID", "1"), ("SUDO_GID", "1"), ("SUDO_USER", "daemon")];
    with_state(&["apply", "80:3000"], &sudo);
    let history: serde_json::Value =
        serde_json::from_str(&with_state(&["history", "-o", "json"], &[])).unwrap();
    assert_eq!(history["generations"][0]["uid"], NOBODY, "{history}");
    assert_ne!(history["generations"][0]["who"], "daemon", "{history}");

    // Nor is the command of a run somebody else's.
    let words = ["run", "443:3000", "--", "id", "-u"];
    assert_eq!(with_state(&words, &sudo).trim(), NOBODY.to_string());
}

#[test]
fn with_capabilities_of_its_file_it_answers_no_completion_script() {
    needs_other_users();
    let host = Namespace::new();
    let program = copy(&host);
    let asked = || {
        let variables = [("PORTMAP_COMPLETE", "bash"), ("_CLAP_COMPLETE_INDEX", "1")];
        run_as_nobody(&host, &program, &["--", "portmap", "cl"], &variables)
    };
    let answered = asked();
    assert!(text(&answered.stdout).contains("clear"), "{}", text(&answered.stderr));
    set_capability(&program);
    let ignored = asked();
    assert_eq!((ignored.status.code(), text(&ignored.stdout)), (Some(64), String::new()));
}

/// `PATH` is searched for the command of a run, which is the caller's own and begins without
/// privilege; and for nothing else.
#[test]
fn with_capabilities_of_its_file_it_looks_for_a_command_once_it_has_none() {
    needs_other_users();
    let host = Namespace::new();
    let program = copy(&host);
    set_capability(&program);
    let tool = host.file("tool.sh", "#!/bin/sh\necho $PORT $PORTMAP_PORTS\ncat /proc/$$/status\n");
    host.executable(tool, "bin/tool");
    let path = format!("{}:/usr/bin:/bin", host.dir().join("bin").display());
    let variables = [("PATH", path.as_str()), ("PORT", "9")];
    let output = run_as_nobody(&host, &program, &["run", "80", "--", "tool"], &variables);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    // The free target that was chosen, and not what the environment says.
    let (ports, status) = said.split_once('\n').unwrap();
    let (port, mapping) = ports.split_once(' ').unwrap();
    assert_eq!(mapping, format!("80/tcp:{port}"));
    assert_ne!(port, "9");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(status.contains(&format!("\n{set}:\t0000000000000000\n")), "{set}: {status}");
    }
    assert!(status.contains("\nNoNewPrivs:\t1\n"), "{status}");
    assert!(status.contains(&format!("\nUid:\t{NOBODY}\t{NOBODY}\t")), "{status}");
}

#[test]
fn a_variable_for_completions_makes_no_command_do_nothing() {
    let host = Namespace::new();
    let mut apply = host.portmap(["apply", "80:3000"]);
    apply.env("PORTMAP_COMPLETE", "bash");
    apply.run().succeeds().says("PORTMAP_COMPLETE is set");
    assert!(host.ruleset().contains("3000"));

    let mut asked = host.portmap(["--", "portmap", "cl"]);
    asked.env("PORTMAP_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "1");
    assert!(asked.run().succeeds().stdout.contains("clear"));
    // What a script asks with is no command otherwise.
    host.portmap(["--", "apply", "80:3000"]).run().fails_with(64);
}

#[test]
fn manual_pages_are_written_through_no_link() {
    let host = Namespace::new();
    let precious = host.file("precious", "precious");
    let dir = host.dir().join("man");
    fs::create_dir_all(dir.join("man8")).unwrap();
    symlink(&precious, dir.join("man8/portmap.8")).unwrap();
    let man = || host.portmap(["man".as_ref(), "--output-dir".as_ref(), dir.as_os_str()]).run();
    man().succeeds();
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    assert!(fs::symlink_metadata(dir.join("man8/portmap.8")).unwrap().is_file());

    fs::remove_dir_all(dir.join("man5")).unwrap();
    symlink(host.dir(), dir.join("man5")).unwrap();
    man().fails_with(1).says("man5");
    assert!(!host.dir().join("portmap-rules.5").exists());
}

#[test]
fn root_writes_manual_pages_only_where_nobody_else_decides_what_is_there() {
    needs_other_users();
    let host = Namespace::new();
    let at = |name: &str| host.dir().join(name);
    let (target, foreign, shared) = (at("target"), at("foreign"), at("shared"));
    directory_of(0, &target);
    directory_of(EVE, &foreign);
    directory_of(0, &shared);
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
    for (name, owner) in [("link", EVE), ("mine", 0)] {
        symlink(&target, shared.join(name)).unwrap();
        lchown(shared.join(name), Some(owner), None).unwrap();
    }
    let man = |dir: PathBuf, sudo: Option<u32>| {
        let mut man = host.portmap(["man".as_ref(), "--output-dir".as_ref(), dir.as_os_str()]);
        man.env("SUDO_UID", sudo.unwrap_or_default().to_string());
        man.run()
    };
    let of_eve = "belongs to uid 12345, not to root";
    let elsewhere = "name a directory that only root may write";
    man(foreign.clone(), None).fails_with(1).says(of_eve).says(elsewhere);
    man(foreign.join("share/man"), None).fails_with(1).says(of_eve).says(elsewhere);
    man(shared.clone(), None).fails_with(1).says("is open to all").says(elsewhere);
    let link = shared.join("link");
    for way in [link.clone(), link.join("man")] {
        let refused = man(way, None).fails_with(1).says(of_eve).says("(a symbolic link)");
        refused.says(&format!("name what it leads to: `readlink -f {}`", link.display()));
    }
    for (dir, names) in [(&target, 0), (&foreign, 0), (&shared, 2)] {
        assert_eq!(fs::read_dir(dir).unwrap().count(), names, "nothing is written: {dir:?}");
    }
    // What the one who asked root decides, and what root does.
    man(foreign.join("share/man"), Some(EVE)).succeeds();
    assert!(foreign.join("share/man/man8/portmap.8").exists());
    man(shared.join("mine/man"), None).succeeds();
    assert!(target.join("man/man8/portmap.8").exists());
    // A section of somebody else's, in a directory of root's.
    chown(target.join("man/man5"), Some(EVE), None).unwrap();
    man(target.join("man"), None).fails_with(1).says("man5 belongs to uid 12345");
}

#[test]
fn a_build_by_an_ordinary_user_writes_manual_pages_wherever_they_can() {
    needs_other_users();
    let host = Namespace::new();
    let program = copy(&host);
    let theirs = host.dir().join("theirs");
    directory_of(NOBODY, &theirs);
    symlink("theirs", host.dir().join("link")).unwrap();
    let words = ["man", "--output-dir", "link/man"];
    let output = run_as_nobody(&host, &program, &words, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    fs::remove_dir_all(theirs.join("man")).unwrap();

    // Debian's packages were long built so: it says that a user is root, and is not.
    if host.command("fakeroot").arg("true").output().is_err() {
        eprintln!("left out: no fakeroot here");
        return;
    }
    let mut command = host.command("fakeroot");
    command.arg(&program).args(words).current_dir(host.dir());
    namespace::without_privileges(&mut command);
    let output = namespace::feed(&mut command, "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(theirs.join("man/man8/portmap.8").exists());
}

/// What only root may read, and is no rules file.
fn secret(host: &Namespace) -> PathBuf {
    let secret = host.file("secret", "root:$6$salt$hash:19000\nports: { 80: hunter2 }\n");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    secret
}

#[test]
fn root_shows_nothing_of_a_file_that_its_caller_may_not_read() {
    needs_other_users();
    let host = Namespace::new();
    let secret = secret(&host);
    for format in ["text", "json"] {
        let words = ["check".as_ref(), "-o".as_ref(), format.as_ref(), secret.as_os_str()];
        let mut check = host.portmap(words);
        check.env("SUDO_UID", "12345");
        let outcome = check.run().fails_with(1).says("may not read it");
        for part in ["hash", "hunter2", "19000"] {
            assert!(!outcome.stderr.contains(part), "{outcome}");
        }
    }
    host.portmap(["check".as_ref(), secret.as_os_str()]).run().fails_with(1).says("root:");
}

/// To open a file as a place (`O_PATH`) takes no right to read it, and sudo passes it on.
#[test]
fn root_reads_no_descriptor_that_its_caller_could_not_read() {
    needs_other_users();
    let host = Namespace::new();
    let secret = secret(&host);
    let check = |flags: i32| {
        let opened = fs::File::options().read(true).custom_flags(flags).open(&secret).unwrap();
        let mut check = host.command(PROGRAM);
        check.args(["check", "/dev/fd/1"]).env("SUDO_UID", "12345");
        let output = check.stdin(Stdio::null()).stdout(opened).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr).to_owned()
    };
    let said = check(OFlag::O_PATH.bits());
    assert!(said.contains("Bad file descriptor") && !said.contains("hash"), "{said}");
    // Whoever could open it to read knows what it says.
    let said = check(0);
    assert!(said.contains("hash"), "{said}");
}

#[test]
fn a_program_that_it_runs_gets_no_descriptor_and_no_variable_of_its() {
    if !Path::new("/usr/bin/systemctl").exists() {
        skip("systemd is not installed");
        return;
    }
    let host = Namespace::new();
    let dir = host.dir().display();
    let script = host.file(
        "systemctl.sh",
        &format!(
            "#!/bin/sh\nenv >>{dir}/env\nfor fd in /proc/$$/fd/*; do readlink $fd; done >>{dir}/fds\n"
        ),
    );
    let fake = host.executable(script, "systemctl");
    let mounts = format!(
        "unset PORTMAP_STATE_DIR; mount -t tmpfs -o mode=755 none /run; \
         mkdir -p /run/systemd/system; mount -t tmpfs -o mode=755 none /etc/systemd/system; echo [Service] >/etc/systemd/system/portmap-nft.service; \
         mount -t tmpfs -o mode=755 none /var/lib; \
         mount --bind {} /usr/bin/systemctl",
        fake.display()
    );
    let mut apply = host.portmap_mounted(&mounts, ["apply", "--persist", "80:3000"]);
    apply.env("LEAKED", "yes");
    let outcome = apply.run();
    let seen = |name: &str| {
        let read = fs::read_to_string(host.dir().join(name));
        read.unwrap_or_else(|e| panic!("systemctl was not run: {e}: {outcome}"))
    };
    let (variables, descriptors) = (seen("env"), seen("fds"));
    assert!(variables.contains("PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"), "{variables}");
    assert!(!variables.contains("LEAKED"), "{variables}");
    for ours in ["socket:", "/var/lib/portmap", "anon_inode"] {
        assert!(!descriptors.contains(ours), "{descriptors}");
    }
}
