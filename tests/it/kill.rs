//! A command is killed, or its disk fails, at every system call that writes. What it leaves is the
//! old state or the new one, the kernel and the disk agree, and the next command goes on from it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;

use crate::signals::{guards_are_struck, run_is_struck};
use crate::support::portmap::{Injected, Outcome};
use crate::support::{Namespace, World, answer};

/// All by which a command writes to the disk or the kernel. Killed before each of them, it has
/// been killed after each as well.
const WRITING: [&str; 9] =
    ["mkdir", "fchmod", "ftruncate", "write", "fsync", "rename", "sendto", "unlink", "flock"];

/// Nobody makes so many calls.
const CALLS_MAX: usize = 200;

/// 1, 2, … for as long as `run` says that the program made so many calls. One that it never makes
/// does not belong into the test.
#[track_caller]
pub fn each_call(what: &str, mut run: impl FnMut(usize) -> Injected) {
    for when in 1..=CALLS_MAX {
        let Injected { hit, outcome, .. } = run(when);
        if !hit {
            assert!(when > 1, "{what}: never called");
            assert!(outcome.code == Some(0) && outcome.stderr.is_empty(), "{what}: {outcome}");
            return;
        }
    }
    panic!("{what}: more than {CALLS_MAX} calls");
}

pub fn to(port: usize) -> String {
    format!("ports:\n  80: {port}\n")
}

/// What the kernel does, as a rules file.
pub fn serving(host: &Namespace) -> String {
    host.portmap(["show"]).run().succeeds().stdout
}

/// The kernel and the disk say the same; before anybody has mended anything.
#[track_caller]
pub fn agree(host: &Namespace, what: &str) {
    let status = host.status();
    let (drift, problems, foreign) = (&status["drift"], &status["problems"], &status["foreign"]);
    assert!(drift.is_null(), "{what}: {status}");
    assert!(problems.as_array().unwrap().is_empty(), "{what}: {status}");
    assert!(foreign.as_array().unwrap().is_empty(), "{what}: {status}");
    let states = host.states();
    if let Some(number) = status["generation"].as_u64() {
        let shown = host.portmap(["show".to_owned(), number.to_string()]).run().succeeds().stdout;
        assert_eq!(shown, serving(host), "{what}: generation {number}, {states:?}");
        let on_trial = !status["trial"].is_null() && status["trial"]["left_seconds"] != 0.0;
        let expected = if on_trial { "on trial" } else { "active" };
        let line = format!("{number} {expected}");
        assert!(states.iter().any(|s| s.starts_with(&line)), "{what}: {line}: {states:?}");
    }
    let active = states.iter().filter(|state| state.contains("active")).count();
    assert!(active <= 1, "{what}: {states:?}");
    assert!(!states.iter().any(|state| state.contains("damaged")), "{what}: {states:?}");
}

/// The next change works, and leaves nothing open or half written behind.
#[track_caller]
pub fn goes_on(host: &Namespace, rules: &str, what: &str) {
    host.portmap(["apply", "-"]).stdin(rules).run().succeeds();
    assert_eq!(serving(host), rules, "{what}");
    agree(host, what);
    let states = host.states();
    assert!(!states.iter().any(|s| s.contains("unfinished")), "{what}: {states:?}");
    assert!(!states.iter().any(|s| s.contains("on trial")), "{what}: {states:?}");
    let state = host.dir().join("state");
    for dir in [&state, &state.join("generations")] {
        for entry in fs::read_dir(dir).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.ends_with(".tmp"), "{what}: {name} is left");
        }
    }
}

/// A command, and what came before it.
pub struct Story<'a> {
    /// Brings the host into the state from which `command` starts.
    pub before: &'a dyn Fn(&Namespace, usize),
    pub command: &'a dyn Fn(usize) -> Vec<String>,
}

/// `effect` at the first, second, … call, as long as there are so many. Checks, besides what
/// [`agree`] checks, that the kernel does what it did before or what the command wants.
pub fn at_every(calls: &[&str], effect: &str, story: &Story, check: impl Fn(&Outcome, bool, &str)) {
    let host = Namespace::new().that_boots();
    let mut run = 0;
    for call in calls {
        each_call(&format!("{call} {effect}"), |when| {
            run += 2;
            (story.before)(&host, run);
            let old = serving(&host);
            let numbers = numbers(&host);
            let command = (story.command)(run);
            let what = format!("{} {call} {when} {effect}", command.join(" "));
            let injected = host.portmap_injected(call, effect, when, &command);
            let changed = serving(&host) != old;
            agree(&host, &format!("{what}: {}", injected.outcome));
            if injected.hit {
                check(&injected.outcome, changed, &what);
            }
            let lost: Vec<_> = numbers.difference(&self::numbers(&host)).copied().collect();
            assert!(lost.len() <= 2, "{what}: lost {lost:?}");
            goes_on(&host, &to(3001 + run), &what);
            injected
        });
    }
}

pub fn numbers(host: &Namespace) -> BTreeSet<u64> {
    host.history().as_array().unwrap().iter().map(|g| g["number"].as_u64().unwrap()).collect()
}

fn killed(calls: &[&str], story: &Story) {
    at_every(calls, "signal=KILL", story, |outcome, _, what| {
        assert!(outcome.code.is_none(), "{what}: {outcome}");
    });
}

pub fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn file(host: &Namespace, run: usize) {
    host.file("new.yaml", &to(3000 + run));
}

pub const APPLY: Story = Story { before: &file, command: &|_| words_of_apply() };

/// Without a history, and without a table.
const FIRST_APPLY: Story = Story {
    before: &|host, run| {
        let _ = fs::remove_dir_all(host.dir().join("state"));
        host.nft("flush ruleset");
        file(host, run);
    },
    command: &|_| words_of_apply(),
};

fn words_of_apply() -> Vec<String> {
    words("apply --quiet new.yaml")
}

#[test]
fn apply_is_killed() {
    killed(&WRITING, &APPLY);
}

#[test]
fn the_first_apply_is_killed() {
    killed(&["mkdir", "fchmod", "fsync", "rename", "write"], &FIRST_APPLY);
}

#[test]
fn apply_and_persist_are_killed() {
    let story = Story { before: &file, command: &|_| words("apply --quiet --persist new.yaml") };
    killed(&["write", "fsync", "rename", "sendto"], &story);
}

#[test]
fn persist_is_killed() {
    const PERSISTING: [&str; 6] = ["fchmod", "ftruncate", "write", "fsync", "rename", "flock"];
    let before = |host: &Namespace, run| {
        host.portmap(["apply", "-"]).stdin(&to(3000 + run)).run().succeeds();
    };
    killed(&PERSISTING, &Story { before: &before, command: &|_| words("persist --quiet") });
    let before = |host: &Namespace, run| {
        host.portmap(["apply", "--persist", "-"]).stdin(&to(3000 + run)).run().succeeds();
    };
    let calls = ["ftruncate", "write", "fsync", "unlink", "flock"];
    killed(&calls, &Story { before: &before, command: &|_| words("persist --quiet --off") });
}

#[test]
fn rollback_is_killed() {
    let before = |host: &Namespace, run| {
        host.portmap(["apply", "-"]).stdin(&to(3000 + run)).run().succeeds();
    };
    let calls = ["fchmod", "ftruncate", "write", "fsync", "rename", "sendto", "unlink", "flock"];
    killed(&calls, &Story { before: &before, command: &|_| words("rollback --quiet") });
}

#[test]
fn clear_is_killed() {
    killed(&WRITING, &Story { before: &file, command: &|_| words("clear --quiet") });
}

fn on_trial(host: &Namespace, run: usize) {
    let trial = ["apply", "--confirm", "1h", "-"];
    host.portmap(trial).stdin(&to(3000 + run)).run().succeeds();
}

/// The old mapping is always the same one; a trial that is left running is ended.
fn a_trial_is_killed(calls: &[&str], command: &str, before: &dyn Fn(&Namespace, usize)) {
    let host = Namespace::new().that_boots();
    host.apply(&to(2000));
    let mut run = 0;
    for call in calls {
        each_call(&format!("{command} {call}"), |when| {
            run += 1;
            before(&host, run);
            let what = format!("{command} {call} {when}");
            let injected = host.portmap_injected(call, "signal=KILL", when, words(command));
            agree(&host, &what);
            let port = serving(&host);
            let expected = [to(2000), to(3000 + run)];
            assert!(expected.contains(&port), "{what}: {port}");
            if !host.status()["trial"].is_null() {
                host.portmap(["rollback"]).run().succeeds();
            }
            goes_on(&host, &to(2000), &what);
            injected
        });
    }
}

#[test]
fn a_trial_is_killed_at_its_beginning() {
    a_trial_is_killed(
        &["write", "fsync", "rename", "sendto"],
        "apply --quiet --confirm 1h new.yaml",
        &file,
    );
}

#[test]
fn confirm_is_killed() {
    a_trial_is_killed(
        &["write", "fsync", "rename", "sendto", "unlink"],
        "confirm --quiet",
        &on_trial,
    );
}

#[test]
fn the_end_of_a_trial_is_killed() {
    a_trial_is_killed(&["write", "fsync", "rename", "sendto"], "rollback --quiet", &on_trial);
}

/// On a full or failing disk a command fails with the reason and a remedy, and all is as before;
/// or, where only the record of it was not finished, the exit code says that the kernel was changed.
fn fails(story: &Story, calls: &[&str]) {
    for error in ["ENOSPC", "EIO"] {
        at_every(calls, &format!("error={error}"), story, |outcome, changed, what| {
            let text = if error == "EIO" { "os error 5" } else { "os error 28" };
            match outcome.code {
                Some(0) if outcome.stderr.is_empty() => {}
                Some(0) => assert!(outcome.stderr.contains(text), "{what}: {outcome}"),
                Some(1) => {
                    assert!(outcome.stderr.contains(text), "{what}: {outcome}");
                    assert!(outcome.stderr.contains("help: "), "{what}: {outcome}");
                    assert!(!changed, "{what}: changed all the same: {outcome}");
                }
                Some(3) => {
                    assert!(outcome.stderr.contains(text), "{what}: {outcome}");
                    assert!(outcome.stderr.contains("help: "), "{what}: {outcome}");
                    assert!(changed, "{what}: nothing was changed: {outcome}");
                }
                _ => panic!("{what}: {outcome}"),
            }
        });
    }
}

#[test]
fn the_disk_of_an_apply_fails() {
    fails(&APPLY, &["write", "fsync", "rename", "fchmod", "ftruncate", "flock"]);
}

#[test]
fn the_disk_of_the_first_apply_fails() {
    fails(&FIRST_APPLY, &["mkdir", "fchmod", "write", "fsync", "rename"]);
}

#[test]
fn the_disk_of_an_apply_and_persist_fails() {
    let story = Story { before: &file, command: &|_| words("apply --quiet --persist new.yaml") };
    fails(&story, &["fsync", "rename"]);
}

#[test]
fn the_disk_of_a_rollback_fails() {
    let before = |host: &Namespace, run| {
        host.portmap(["apply", "-"]).stdin(&to(3000 + run)).run().succeeds();
    };
    fails(
        &Story { before: &before, command: &|_| words("rollback --quiet") },
        &["fsync", "rename"],
    );
}

/// The pointer is in place when only the directory could not be synced: boot will find it.
#[test]
fn a_pointer_that_is_in_place_is_no_failure_without_effect() {
    let host = Namespace::new().that_boots();
    for (command, persisted) in [(&["persist"][..], Some(1)), (&["persist", "--off"], None)] {
        host.apply(&to(3000));
        let mut codes = BTreeSet::new();
        each_call("persist", |when| {
            let before = host.status()["persisted"].as_u64();
            let injected = host.portmap_injected("fsync", "error=EIO", when, command);
            let changed = host.status()["persisted"].as_u64() != before;
            if injected.hit {
                let code = injected.outcome.code;
                assert_eq!(code, Some(if changed { 3 } else { 1 }), "{}", injected.outcome);
                codes.insert(code);
                // As before, for the next call.
                let back =
                    if persisted.is_some() { &["persist", "--off"][..] } else { &["persist"] };
                host.portmap(back).run().succeeds();
            }
            injected
        });
        assert!(codes.contains(&Some(3)), "{codes:?}");
        assert_eq!(host.status()["persisted"].as_u64(), persisted);
    }
}

#[test]
fn a_failed_commit_spoils_no_good_generation() {
    let host = Namespace::new().that_boots();
    host.portmap(["apply", "--persist", "-"]).stdin(&to(3000)).run().succeeds();
    each_call("restore", |when| {
        host.nft("flush ruleset");
        let injected = host.portmap_injected("sendto", "error=ENOBUFS", when, ["restore"]);
        agree(&host, &format!("restore {when}: {}", injected.outcome));
        let states = host.states();
        assert!(!states[0].contains("failed"), "restore {when}: {states:?}");
        injected
    });
}

#[test]
fn udp_clients_of_a_killed_change_follow_with_the_next_command() {
    let world = World::new();
    let host = &world.host;
    let _servers = [host.serve("old", 5353), host.serve("new", 5454)];
    let rules = ["ports: { 53/udp: 5353 }", "ports: { 53/udp: 5454 }"];
    let mut stranded = 0;
    each_call("apply", |when| {
        host.apply(rules[0]);
        let client = world.client.udp_client(40000, "192.0.2.1:53");
        assert_eq!(client.ask(), answer("old"));
        host.file("new.yaml", rules[1]);
        let command = ["apply", "new.yaml"];
        let injected = host.portmap_injected("sendto", "signal=KILL", when, command);
        let reached = host.portmap(["show"]).run().succeeds().stdout.contains("5454");
        stranded += usize::from(reached && client.ask() == answer("old"));

        host.portmap(["apply", "new.yaml"]).run().succeeds();

        assert_eq!(client.ask(), answer("new"), "killed at call {when}");
        injected
    });
    assert!(stranded > 0, "this test has never seen what it is about");
}

#[test]
fn restore_is_killed() {
    let before = |host: &Namespace, run| {
        let apply = ["apply", "--persist", "-"];
        host.portmap(apply).stdin(&to(3000 + run)).run().succeeds();
        host.nft("flush ruleset");
    };
    let story = Story { before: &before, command: &|_| words("restore --quiet") };
    killed(&["ftruncate", "write", "sendto", "flock"], &story);
}

#[test]
fn reload_is_killed() {
    let before = |host: &Namespace, run| {
        host.file("etc/portmap/web.yaml", &to(3000 + run));
        // What is not there is not reloaded but restored.
        if host.ruleset().is_empty() {
            host.apply(&to(2000));
        }
    };
    let story = Story { before: &before, command: &|_| words("reload --quiet") };
    killed(&["fsync", "rename", "sendto", "flock"], &story);
}

#[test]
fn confirm_and_persist_are_killed() {
    a_trial_is_killed(&["fsync", "rename", "sendto"], "confirm --quiet --persist", &on_trial);
}

#[test]
fn a_run_is_killed() {
    run_is_struck(&[Signal::SIGKILL]);
}

#[test]
fn a_guard_is_killed() {
    guards_are_struck(&[Signal::SIGKILL], |status, signal| {
        assert_eq!(status.signal(), Some(signal as i32), "{status}");
    });
}
