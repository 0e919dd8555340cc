//! A history that cannot be read or written: never taken for empty, always with a remedy, and in
//! the way of a change only where the way back would be lost.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use crate::support::{Namespace, needs_other_users, wait_until};

const FULL: &str = "mount -t tmpfs -o size=16k,mode=755 none $STATE; \
                    mkdir -p $STATE/generations; head -c 1M /dev/zero 2>/dev/null >$STATE/generations/fill || true";
const READ_ONLY: &str = "mount --bind $STATE $STATE; mount -o remount,bind,ro $STATE";

fn to(port: u16) -> String {
    format!("ports:\n  80: {port}\n")
}

fn generation(host: &Namespace, number: u64) -> PathBuf {
    host.dir().join(format!("state/generations/{number:06}.yaml"))
}

fn serving(host: &Namespace) -> String {
    host.portmap(["show"]).run().succeeds().stdout
}

#[test]
fn a_damaged_generation_is_named_hides_no_other_and_stops_no_apply() {
    type Damage = fn(&str) -> String;
    let damages: [(Damage, &str); 4] = [
        (|_| String::new(), "damaged"),
        (|text| text[..text.len() / 2].to_owned(), "damaged"),
        (|text| text.replace("outcome: committed", "outcome: reverted!"), "damaged"),
        (|text| text.replace("version: 2", "version: 9"), "newer portmap"),
    ];
    for (damage, says) in damages {
        let host = Namespace::new().that_boots();
        for port in [3001, 3002, 3003] {
            host.apply(&to(port));
        }
        let path = generation(&host, 2);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, damage(&text)).unwrap();

        host.portmap(["history"]).run().succeeds().says("000002.yaml").says(says);
        assert_eq!(host.states(), ["1 past", "2 damaged", "3 active"]);
        assert!(host.history()[1]["error"].as_str().unwrap().contains(says));
        for command in [&["show", "2"][..], &["rollback"], &["rollback", "--dry-run"]] {
            let outcome = host.portmap(command).run().fails_with(1);
            let outcome = outcome.says("000002.yaml").says(says).says("help: ");
            assert!(!outcome.stderr.contains("--no-history"), "{outcome}");
        }
        assert_eq!(serving(&host), to(3003));
        host.apply(&to(3004));
        host.portmap(["persist"]).run().succeeds();
        host.portmap(["rollback", "--to", "1"]).run().succeeds();
        assert!(path.exists(), "what is damaged is never removed");
    }
}

#[test]
fn a_changed_mapping_is_noticed() {
    let host = Namespace::new();
    host.apply(&to(3001));
    host.apply(&to(3002));
    for number in [1, 2] {
        let path = generation(&host, number);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("80: 300", "80: 400")).unwrap();
    }
    host.portmap(["show", "1"]).run().fails_with(1).says("damaged");
    host.portmap(["rollback"]).run().fails_with(1).says("000001.yaml").says("damaged");
    host.portmap(["status"]).run().succeeds().says("000002.yaml");
    let problems = host.status()["problems"].to_string();
    assert!(problems.contains("000002.yaml"), "{problems}");
    host.portmap(["persist"]).run().fails_with(1).says("000002.yaml");
    assert_eq!(serving(&host), to(3002));
}

#[test]
fn what_belongs_to_others_is_not_believed() {
    needs_other_users();
    let host = Namespace::new().that_boots();
    host.portmap(["apply", "--persist", "-"]).stdin(&to(3001)).run().succeeds();
    let state = host.dir().join("state");
    chown(&state, Some(1), None).unwrap();
    for command in [&["rollback"][..], &["restore"], &["history"], &["show", "1"], &["persist"]] {
        let outcome = host.portmap(command).run().fails_with(1).says("uid 1").says("chown root");
        assert!(!outcome.stderr.contains("--no-history"), "{outcome}");
    }
    host.portmap(["status"]).run().succeeds().says("uid 1");
    let apply = host.portmap(["apply", "-"]).stdin(&to(3002)).run().fails_with(1);
    apply.says("uid 1").says("chown root").says("--no-history");
    assert_eq!(serving(&host), to(3001));
    host.portmap(["apply", "--no-history", "-"]).stdin(&to(3002)).run().succeeds();
    assert_eq!(serving(&host), to(3002));

    chown(&state, Some(0), None).unwrap();
    fs::set_permissions(state.join("generations"), fs::Permissions::from_mode(0o777)).unwrap();
    host.portmap(["apply", "-"]).stdin(&to(3003)).run().fails_with(1).says("mode 0777");
}

#[test]
fn a_full_disk_refuses_a_change_that_could_not_be_taken_back() {
    let host = Namespace::new();
    fs::create_dir(host.dir().join("state")).unwrap();
    let table = host.ruleset();
    host.file("rules.yaml", &to(3001));

    let outcome = host.portmap_mounted(FULL, ["apply", "rules.yaml"]).run().fails_with(1);
    outcome.says("No space left").says("free space").says("--no-history");
    assert_eq!(host.ruleset(), table);
    let trial = ["apply", "--confirm", "1h", "rules.yaml"];
    let outcome = host.portmap_mounted(FULL, trial).run().fails_with(1).says("free space");
    assert!(!outcome.stderr.contains("--no-history"), "it has no such option then: {outcome}");

    host.portmap_mounted(FULL, ["apply", "--no-history", "rules.yaml"]).run().succeeds();
    assert_eq!(serving(&host), to(3001));
    host.portmap_mounted(FULL, ["clear"]).run().fails_with(1).says("--no-history");
    host.portmap_mounted(FULL, ["clear", "--no-history"]).run().succeeds();
    assert_eq!(host.ruleset(), table);
}

#[test]
fn a_read_only_disk_restores_and_shows_but_refuses_changes() {
    let host = Namespace::new().that_boots();
    host.portmap(["apply", "--persist", "-"]).stdin(&to(3001)).run().succeeds();
    host.file("rules.yaml", &to(3002));
    host.nft("flush ruleset");

    host.portmap_mounted(READ_ONLY, ["restore"]).run().succeeds();
    assert_eq!(serving(&host), to(3001));
    let read = |command: &[&str]| host.portmap_mounted(READ_ONLY, command).run();
    for command in [&["status"][..], &["history"], &["show", "1"], &["rollback", "--dry-run"]] {
        read(command).succeeds();
    }
    read(&["apply", "rules.yaml"]).fails_with(1).says("read-write").says("--no-history");
    let outcome = read(&["rollback"]).fails_with(1).says("read-write");
    assert!(!outcome.stderr.contains("--no-history"), "{outcome}");
    read(&["persist", "--off"]).fails_with(1).says("read-write");
    assert_eq!(serving(&host), to(3001));

    // What a killed command left is no reason not to restore.
    host.portmap_injected("rename", "signal=KILL", 2, ["apply", "rules.yaml"]).hits();
    assert_eq!(host.states().last().unwrap(), "2 active", "but it is not written down");
    fs::write(host.dir().join("state/boot.tmp"), "half").unwrap();
    host.nft("flush ruleset");
    host.portmap_mounted(READ_ONLY, ["restore"]).run().succeeds();
    assert_eq!(serving(&host), to(3001));
    read(&["apply", "--no-history", "rules.yaml"]).succeeds();
    assert_eq!(serving(&host), to(3002));
}

#[test]
fn a_full_disk_restores() {
    let host = Namespace::new().that_boots();
    host.portmap(["apply", "--persist", "-"]).stdin(&to(3001)).run().succeeds();
    host.nft("flush ruleset");
    let full = "cp -a $STATE /tmp/.$$; mount -t tmpfs -o size=64k,mode=755 none $STATE; \
                cp -a /tmp/.$$/. $STATE; rm -r /tmp/.$$; \
                mkdir -p $STATE/generations; head -c 1M /dev/zero 2>/dev/null >$STATE/generations/fill || true";
    host.portmap_mounted(full, ["restore"]).run().succeeds();
    assert_eq!(serving(&host), to(3001));
}

#[test]
fn a_lost_history_is_not_an_empty_one() {
    let host = Namespace::new();
    host.apply(&to(3001));
    host.apply(&to(3002));
    fs::remove_dir_all(host.dir().join("state")).unwrap();

    host.portmap(["rollback"]).run().fails_with(1).says("not in the history");
    assert_eq!(serving(&host), to(3002));
    host.portmap(["persist"]).run().fails_with(1);
    host.apply(&to(3003));
    assert_eq!(host.states(), ["3 active"]);
}

#[test]
fn who_waits_for_the_lock_is_told_for_whom() {
    let host = Namespace::new();
    host.apply(&to(3001));
    let lock = host.dir().join("state/lock");
    let mut holder = host.command("flock");
    let mut holder = holder.arg(&lock).args(["sleep", "60"]).spawn().unwrap();
    wait_until("somebody holds the lock", || {
        host.portmap(["persist", "--wait", "0s"]).run().code == Some(1)
    });
    host.file("other.yaml", &to(3002));
    let outcome = host.portmap(["apply", "--wait", "100ms", "other.yaml"]).run().fails_with(1);
    let outcome = outcome.says("locked by process").says("--wait");
    assert!(!outcome.stderr.contains("--no-history"), "a lock is given back: {outcome}");
    for command in [&["status"][..], &["history"], &["show"], &["plan", "other.yaml"]] {
        host.portmap(command).run().succeeds();
    }
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn status_says_what_boot_could_not_restore() {
    type Damage = fn(&std::path::Path);
    let damages: [(Damage, &str, &str); 2] = [
        (|path| fs::remove_file(path).unwrap(), "there is no generation 1", "generation 1"),
        (|path| fs::write(path, "rubbish").unwrap(), "damaged", "000001.yaml"),
    ];
    for (damage, says, listed) in damages {
        let host = Namespace::new().that_boots();
        host.portmap(["apply", "--persist", "-"]).stdin(&to(3001)).run().succeeds();
        let said = host.portmap(["status"]).run().succeeds();
        assert!(said.stdout.contains("boot restores it"), "{said}");

        damage(&generation(&host, 1));
        let said = host.portmap(["status"]).run().succeeds().says("000001.yaml").says(says);
        assert!(!said.stdout.contains("boot restores"), "{said}");
        assert!(said.stderr.contains("help: ") || said.stderr.contains("note: "), "{said}");
        let status = host.status();
        assert_eq!(status["persisted"], serde_json::Value::Null, "{status}");
        assert!(status["problems"].to_string().contains(says), "{status}");

        let said = host.portmap(["history"]).run().succeeds();
        assert!(!said.stdout.contains("nothing was applied yet"), "{said}");
        assert!(said.stderr.contains(listed), "{said}");
        host.portmap(["restore"]).run().fails_with(1).says("000001.yaml");
        host.apply(&to(3002));
        assert_eq!(host.states().last().unwrap(), "2 active");
    }
}

#[test]
fn a_stamp_with_the_highest_number_blocks_nothing() {
    let host = Namespace::new();
    host.apply(&to(3001));
    let stamp = format!("generation {}, ruleset 1", u64::MAX);
    host.nft("flush chain inet portmap prerouting");
    host.nft_script(&format!(
        "add rule inet portmap prerouting fib daddr type != local return comment \"{stamp}\""
    ));
    host.portmap(["status"]).run().succeeds();
    host.apply(&to(3002));
    assert_eq!(serving(&host), to(3002));
    assert_eq!(host.states(), ["1 past", "2 active"]);
}

#[test]
fn a_state_directory_that_is_a_loop_of_links_is_named() {
    let host = Namespace::new();
    std::os::unix::fs::symlink("state", host.dir().join("state")).unwrap();
    let apply = |host: &Namespace| host.portmap(["apply", "-"]).stdin(&to(3001)).run();
    apply(&host).fails_with(1).says("state").says("symbolic link");
    for command in [&["history"][..], &["persist"], &["restore"], &["rollback"]] {
        host.portmap(command).run().fails_with(1).says("symbolic link");
    }
    host.portmap(["status"]).run().succeeds().says("symbolic link");
    assert_eq!(host.ruleset(), "");
}

#[test]
fn paths_in_commands_to_type_are_quoted() {
    let host = Namespace::new().that_boots();
    let dir = host.dir().join("a dir; it's");
    let portmap = |words: &[&str]| {
        let mut portmap = host.portmap(words).stdin(&to(3001));
        portmap.env("PORTMAP_STATE_DIR", dir.to_str().unwrap());
        portmap.run()
    };
    // The unit restores from another directory.
    let help = r"`portmap restore --state-dir '";
    portmap(&["apply", "--persist", "-"]).fails_with(3).says(help).says(r"/a dir; it'\''s'`");
    fs::write(dir.join("boot"), "rubbish").unwrap();
    portmap(&["restore"]).fails_with(1).says(r"/a dir; it'\''s/boot'");
}

/// What fails after the kernel was changed is exit code 3, and says what.
#[test]
fn the_exit_code_tells_a_shortfall_from_a_failure() {
    let host = Namespace::new().that_boots();
    host.apply(&to(3001));
    let boot = host.dir().join("state/boot");
    fs::create_dir(&boot).unwrap();
    let persist = |to: &str, code| {
        let outcome = host.portmap(["apply", "--persist", "-"]).stdin(to).run().fails_with(code);
        let outcome = outcome.says("boot does not restore it").says("help: ");
        assert!(!outcome.stderr.contains("nothing was changed"), "{outcome}");
    };
    persist(&to(3002), 3);
    assert_eq!(serving(&host), to(3002));
    persist(&to(3002), 1);
    host.portmap(["persist"]).run().fails_with(1);

    let trial = ["apply", "--confirm", "1h", "-"];
    host.portmap(trial).stdin(&to(3003)).run().succeeds();
    let outcome = host.portmap(["confirm", "--persist"]).run().fails_with(3);
    outcome.says("boot does not restore it");
    assert_eq!(serving(&host), to(3003));
    assert_eq!(host.states().last().unwrap(), "3 active");
    fs::remove_dir(&boot).unwrap();
    host.portmap(["persist"]).run().succeeds();
}

#[test]
fn a_change_that_cannot_be_printed_is_made_and_exits_with_3() {
    let host = Namespace::new();
    host.apply(&to(3001));
    host.file("new.yaml", &to(3002));
    let unprinted = |words: &[&str]| host.portmap_mounted("exec >/dev/full", words).run();
    unprinted(&["apply", "new.yaml"]).fails_with(3).says("the change was made");
    assert_eq!(serving(&host), to(3002));
    unprinted(&["apply", "new.yaml"]).fails_with(1);
    unprinted(&["rollback"]).fails_with(3).says("the change was made");
    assert_eq!(serving(&host), to(3001));
    unprinted(&["apply", "--confirm", "1h", "new.yaml"]).fails_with(3);
    unprinted(&["confirm"]).fails_with(3).says("the change was made");
    assert_eq!(serving(&host), to(3002));
    unprinted(&["clear"]).fails_with(3).says("the change was made");
    assert_eq!(host.ruleset(), "");
    unprinted(&["clear"]).fails_with(1);
}

#[test]
fn one_directory_serves_one_network_namespace() {
    let (host, other) = (Namespace::new(), Namespace::new());
    host.apply(&to(3001));
    let mut resident = host.command("sleep").arg("600").spawn().unwrap();
    let dir = host.dir().join("state");
    let elsewhere = |words: &[&str]| {
        let mut portmap = other.portmap(words).stdin(&to(3002));
        portmap.env("PORTMAP_STATE_DIR", dir.to_str().unwrap());
        portmap.run()
    };
    elsewhere(&["apply", "-"]).fails_with(1).says("another network namespace").says("--state-dir");
    assert_eq!((other.ruleset().as_str(), host.states()), ("", vec!["1 active".to_owned()]));
    resident.kill().unwrap();
    resident.wait().unwrap();
    elsewhere(&["apply", "-"]).succeeds();
    assert_eq!(serving(&other), to(3002));
}
