//! A kernel that does not answer: what a command sends to it is swallowed on the way.

use std::fmt::Display;
use std::thread;

use crate::support::Namespace;
use crate::support::portmap::Outcome;

const BEFORE: &str = "ports: { 80: 3000 }";
const AFTER: &str = "ports: { 80: 4000 }";

/// The call says that all was sent.
const SWALLOWED: &str = "retval=1";

fn host() -> Namespace {
    let host = Namespace::new();
    host.apply(BEFORE);
    host.file("new.yaml", AFTER);
    host
}

/// Applies the new rules where these of what it sends do not arrive.
fn deaf(host: &Namespace, swallowed: impl Display) -> Outcome {
    host.portmap_injected("sendto", SWALLOWED, swallowed, ["apply", "new.yaml"]).hits()
}

/// Which of what it sends is the commit.
fn commit() -> usize {
    host().portmap_injected("sendto", "delay_enter=1", 1, ["apply", "new.yaml"]).first_commit()
}

const SILENT: &str = "it has not answered for 10 seconds";

/// Each takes these ten seconds; so they wait at the same time.
#[test]
fn who_is_not_answered_gives_up_and_says_what_has_become_of_it() {
    let commit = commit();
    thread::scope(|scope| {
        scope.spawn(|| {
            let host = host();
            let before = host.table();
            deaf(&host, "1+").fails_with(1).says(SILENT).says("see `dmesg`");
            assert_eq!(host.table(), before);
            assert_eq!(host.states(), ["1 active"], "it has not come to a new generation");
        });
        scope.spawn(|| {
            // Neither the commit nor the question whether it was made.
            let host = host();
            let before = host.table();
            deaf(&host, format!("{commit}..{}", commit + 1)).fails_with(1).says(SILENT);
            assert_eq!(host.table(), before);
            assert_eq!(host.states(), ["1 active", "2 failed"]);
        });
        scope.spawn(|| {
            // The question alone.
            let host = host();
            let outcome = deaf(&host, commit + 1).fails_with(3);
            outcome.says("the mapping is in the kernel").says(SILENT);
            assert!(host.table().contains("4000"), "{}", host.table());
            assert_eq!(host.states(), ["1 past", "2 active"]);
        });
    });
}

/// The answers to a commit are not waited for: the kernel's own number tells that there was none.
#[test]
fn a_commit_that_does_not_arrive_is_not_taken_for_made() {
    let host = host();
    let before = host.table();
    let outcome = deaf(&host, commit()).fails_with(1);
    outcome.says("the kernel reported no error and committed nothing");
    assert_eq!(host.table(), before);
    assert_eq!(host.states(), ["1 active", "2 failed"]);
    host.portmap(["apply", "new.yaml"]).run().succeeds();
}
