//! A lock that is not portmap's own, or somebody else's: refused by name, at once, with a way out,
//! and nothing is changed. Root truncates and writes it, so what stands there decides what root
//! writes.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::support::{Namespace, needs_other_users, skip, wait_until};

/// A host with a mapping, and a file that nobody is to touch.
fn host() -> Namespace {
    let host = Namespace::new();
    host.apply("ports: { 80: 3000 }");
    host.file("precious", "precious");
    host
}

/// With this in place of the lock, and of the queue before it, all that changes something says so
/// and does nothing, and what only reads works.
#[track_caller]
fn is_refused(host: &Namespace, put: impl Fn(&Path), says: &str) {
    let table = host.ruleset();
    for name in ["lock", "lock.queue"] {
        let lock = host.dir().join("state").join(name);
        fs::remove_file(&lock).unwrap();
        put(&lock);
        for command in [&["apply", "81:3001"][..], &["rollback"], &["clear"], &["persist"]] {
            let outcome = host.portmap(command).run().fails_with(1).says(name).says(says);
            assert!(outcome.stderr.contains("help: "), "{outcome}");
            let outcome = host.portmap([command, &["-ojson"]].concat()).run().fails_with(1);
            let errors: serde_json::Value = serde_json::from_str(&outcome.stderr).unwrap();
            let message = errors["errors"][0]["message"].as_str().unwrap();
            assert!(message.contains(name), "{outcome}");
        }
        assert_eq!(host.ruleset(), table);
        assert_eq!(host.states(), ["1 active"]);
        for command in [&["status"][..], &["history"], &["plan", "81:3001"], &["show"]] {
            host.portmap(command).run().succeeds();
        }
        assert_eq!(fs::read_to_string(host.dir().join("precious")).unwrap(), "precious");
        fs::remove_file(&lock).or_else(|_| fs::remove_dir(&lock)).unwrap();
        host.portmap(["persist", "--off"]).run().succeeds();
    }
    host.portmap(["apply", "81:3001"]).run().succeeds();
}

#[test]
fn that_is_a_symbolic_link() {
    let host = host();
    let precious = host.dir().join("precious");
    is_refused(&host, |lock| symlink(&precious, lock).unwrap(), "symbolic link");
}

/// What it leads to is not made.
#[test]
fn that_is_a_symbolic_link_to_nothing() {
    let host = host();
    let nothing = host.dir().join("nothing");
    is_refused(&host, |lock| symlink(&nothing, lock).unwrap(), "symbolic link");
    assert!(!nothing.exists());
}

#[test]
fn that_has_a_second_name() {
    let host = host();
    let precious = host.dir().join("precious");
    is_refused(&host, |lock| fs::hard_link(&precious, lock).unwrap(), "oo many links");
}

/// Nobody waits for the other end of a pipe.
#[test]
fn that_is_no_file() {
    let fifo = |lock: &Path| mkfifo(lock, Mode::from_bits_truncate(0o600)).unwrap();
    is_refused(&host(), fifo, "not a regular file");
    let directory = |lock: &Path| fs::create_dir(lock).unwrap();
    is_refused(&host(), directory, "move it away");
    let socket = |lock: &Path| drop(UnixListener::bind(lock).unwrap());
    is_refused(&host(), socket, "ls -ld");
}

/// Who owns it can hold it for ever, and give it another length while it is held.
#[test]
fn that_belongs_to_somebody_else() {
    needs_other_users();
    let of_another = |lock: &Path| {
        fs::write(lock, "").unwrap();
        chown(lock, Some(70001), None).unwrap();
    };
    is_refused(&host(), of_another, "70001");
    let of_everybody = |lock: &Path| {
        fs::write(lock, "").unwrap();
        fs::set_permissions(lock, fs::Permissions::from_mode(0o666)).unwrap();
    };
    is_refused(&host(), of_everybody, "mode 0666");
}

/// Not even root writes a file that is immutable. Some file systems have no such files.
#[test]
fn that_cannot_be_written() {
    let host = host();
    let lock = host.dir().join("state/lock");
    let change = |flag: &str| {
        let mut chattr = host.command("chattr");
        let status = chattr.arg(flag).arg(&lock).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if !change("+i") {
        skip(&format!("chattr +i does not work in {}", host.dir().display()));
        return;
    }
    let outcome = host.portmap(["apply", "81:3001"]).run();
    assert!(change("-i"));
    outcome.fails_with(1).says("state/lock").says("help: ");
    assert_eq!(host.states(), ["1 active"]);
}

/// The directory is root's.
#[test]
fn in_a_directory_that_the_user_may_not_write() {
    let host = host();
    let table = host.ruleset();
    let outcome = host.portmap_unprivileged(["persist"]).run().fails_with(1);
    assert!(outcome.stderr.contains("help: "), "{outcome}");
    assert_eq!(host.ruleset(), table);
}

#[test]
fn that_is_held_by_a_process_that_does_not_end() {
    let host = host();
    let table = host.ruleset();
    for name in ["lock", "lock.queue"] {
        let lock = host.dir().join("state").join(name);
        let mut holder = host.command("flock");
        let mut holder = holder.arg("--no-fork").arg(&lock).args(["sleep", "60"]).spawn().unwrap();
        let mut try_it = host.command("flock");
        try_it.arg("--nonblock").arg(&lock).arg("true");
        wait_until("it is held", || !try_it.status().unwrap().success());
        for command in [&["apply", "81:3001"][..], &["rollback"], &["clear"], &["persist"]] {
            let command = [command, &["--wait", "50ms"]].concat();
            let outcome = host.portmap(&command).run().fails_with(1);
            outcome.says("locked by").says("50ms").says("--wait");
        }
        assert_eq!((host.ruleset(), host.states()), (table.clone(), vec!["1 active".into()]));
        // Who waits long enough has it.
        let waiting = host.portmap(["persist", "--off", "--wait", "20s"]).start();
        holder.kill().unwrap();
        holder.wait().unwrap();
        waiting.wait().succeeds();
    }
}
