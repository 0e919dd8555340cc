//! A command is asked to end, by TERM, INT or HUP, at the calls that matter. It ends by the signal,
//! as any program does, and what it leaves is the old state or the new one; or, where a trial or a
//! guard must not be left to itself, it is brought to its end, and the exit code tells which.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc::RecvTimeoutError;

use nix::sys::signal::Signal;

use crate::guard::Guard;
use crate::kill::{APPLY, Story, agree, at_every, each_call, goes_on, serving, to, words};
use crate::support::portmap::PROGRAM;
use crate::support::{Namespace, PATIENCE, wait_until};

/// The ways in which a program is asked to end: by a service manager, a key, a lost terminal.
const SIGNALS: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

fn injected(signal: Signal) -> String {
    format!("signal={}", signal.as_str())
}

/// One of them at every call; for each kind of call the next one.
fn asked_to_end(calls: &[&str], story: &Story) {
    let (before, after) = (Cell::new(0), Cell::new(0));
    for (call, signal) in calls.iter().zip(SIGNALS.into_iter().cycle()) {
        at_every(&[call], &injected(signal), story, |outcome, changed, what| {
            assert_eq!(outcome.signal, Some(signal as i32), "{what}: {outcome}");
            let count = if changed { &after } else { &before };
            count.set(count.get() + 1);
        });
    }
    assert!(before.get() > 0 && after.get() > 0, "{before:?} {after:?}");
}

#[test]
fn apply_is_asked_to_end() {
    asked_to_end(&["sendto", "fsync", "rename", "flock", "connect"], &APPLY);
}

#[test]
fn rollback_is_asked_to_end() {
    let before = |host: &Namespace, run| {
        host.portmap(["apply", "-"]).stdin(&to(3000 + run)).run().succeeds();
    };
    let story = Story { before: &before, command: &|_| words("rollback --quiet") };
    asked_to_end(&["sendto", "rename"], &story);
}

/// `apply --confirm` at a terminal, where somebody keeps what is asked about.
fn trial_is_asked_to_end(
    host: &Namespace,
    call: &str,
    signal: Signal,
    when: usize,
) -> (Option<i32>, bool) {
    let trial = ["apply", "--confirm", "1h", "new.yaml"];
    let portmap = host.portmap_to_inject(call, &injected(signal), when, trial);
    let mut terminal = portmap.at_terminal();
    if terminal.comes_to("Enter keeps") {
        terminal.press("\n");
    }
    let (code, screen) = terminal.ends();
    let (hit, _) = host.was_hit(when);
    let what = format!("{call} {when} {signal}: {code:?}: {screen}");
    agree(host, &what);
    assert!(host.status()["trial"].is_null(), "a trial was left to itself: {what}");
    let expected = match code {
        Some(0) => {
            assert!(screen.contains("kept: generation"), "{what}");
            to(3001)
        }
        Some(1) => {
            assert!(hit && screen.contains("the previous mapping is active again"), "{what}");
            to(2000)
        }
        // Before it had begun.
        None => {
            assert!(hit && !screen.contains("on trial"), "{what}");
            to(2000)
        }
        Some(_) => panic!("{what}"),
    };
    assert_eq!(serving(host), expected, "{what}");
    goes_on(host, &to(2000), &what);
    (code, hit)
}

#[test]
fn a_trial_at_a_terminal_is_not_left_to_itself_when_it_is_asked_to_end() {
    let host = Namespace::new();
    host.apply(&to(2000));
    host.file("new.yaml", &to(3001));
    let mut codes = BTreeSet::new();
    let calls = ["sendto", "fsync", "rename", "flock"];
    for (call, signal) in calls.into_iter().zip(SIGNALS.into_iter().cycle()) {
        for when in 1.. {
            let (code, hit) = trial_is_asked_to_end(&host, call, signal, when);
            codes.insert(code);
            if !hit {
                assert!(when > 1, "{call}: never called");
                break;
            }
        }
    }
    assert_eq!(codes, BTreeSet::from([None, Some(0), Some(1)]), "too early, in time, too late");
}

#[test]
fn a_countdown_ends_by_each_signal() {
    let host = Namespace::new();
    host.apply(&to(2000));
    host.file("new.yaml", &to(3001));
    for signal in SIGNALS.into_iter().chain([Signal::SIGQUIT]) {
        let trial = ["apply", "--confirm", "1h", "new.yaml"];
        let mut terminal = host.portmap(trial).at_terminal();
        terminal.shows("Enter keeps");
        assert_eq!(serving(&host), to(3001));
        terminal.signal(signal);
        let (code, screen) = terminal.ends();
        assert_eq!(code, Some(1), "{signal}: {screen}");
        assert!(screen.contains("the previous mapping is active again"), "{signal}: {screen}");
        assert_eq!(serving(&host), to(2000), "{signal}");
        agree(&host, signal.as_str());
        assert!(host.states().last().unwrap().ends_with("reverted"), "{signal}");
    }
}

#[test]
fn a_run_is_asked_to_end() {
    run_is_struck(&SIGNALS);
}

/// A command ends with its signal, before it is begun and after; and its mapping ends with it.
pub fn run_is_struck(signals: &[Signal]) {
    let host = Namespace::new();
    host.apply(&to(2000));
    let states = host.states();
    let run = ["run", "81:3000", "--user", "root", "--", "/bin/true"];
    let calls = ["sendto", "execve", "connect"];
    for (call, signal) in calls.into_iter().zip(signals.iter().cycle()) {
        each_call(&format!("run {call}"), |when| {
            let injected = host.portmap_injected(call, &injected(*signal), when, run);
            let what = format!("{call} {when} {signal}: {}", injected.outcome);
            if injected.hit {
                assert_eq!(injected.outcome.signal, Some(*signal as i32), "{what}");
            }
            host.has_no_runs_soon();
            assert_eq!((serving(&host), host.states()), (to(2000), states.clone()), "{what}");
            host.portmap(run).run().succeeds();
            injected
        });
    }
    goes_on(&host, &to(2001), "run");
}

/// What became of a guard, and whether the signal came to it. When it stands the table is removed,
/// and when that is back, it is ended.
fn guard_is_struck(
    host: &Namespace,
    call: &str,
    signal: Signal,
    when: usize,
) -> (ExitStatus, bool) {
    let mut command = host.command("strace");
    // As a child of the guard, so that who ends the guard need not end strace.
    command.arg("-D").args(host.strace_that_injects(call, &injected(signal), when));
    command.args([PROGRAM, "-o", "json", "guard"]);
    command.env("PORTMAP_STATE_DIR", host.dir().join("state")).env_remove("NOTIFY_SOCKET");
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let _ = std::fs::remove_file(host.strace_log());
    let mut guard = Guard::start(&mut command);
    let mut has_put_back = false;
    loop {
        match guard.events.recv_timeout(PATIENCE) {
            Ok(event) if event["event"] == "guarding" => drop(host.nft("flush ruleset")),
            Ok(event) => {
                assert_eq!(event["event"], "put-back");
                has_put_back = true;
                guard.kill(Signal::SIGTERM);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{call} {when} {signal}: it neither works nor ends")
            }
        }
    }
    let status = guard.child.wait().unwrap();
    let has_ended =
        || std::fs::read_to_string(host.strace_log()).is_ok_and(|log| log.contains("+++"));
    wait_until("strace has ended", has_ended);
    let (hit, _) = host.was_hit(when);
    let what = format!("{call} {when} {signal}: {status}");
    assert!(hit || (has_put_back && status.code() == Some(0)), "{what}");
    let serves = serving(host);
    let is_as_left = serves.is_empty() && !has_put_back;
    assert!(serves == to(2000) || is_as_left, "{what}: {serves}");
    let is_gone = || !host.ruleset().contains("portmap-guard");
    wait_until("the guard's own table is gone", is_gone);
    assert!(host.status()["guard"].is_null(), "{what}");
    agree(host, &what);
    (status, hit)
}

/// A guard at the calls of its first look and of a repair.
pub fn guards_are_struck(signals: &[Signal], check: impl Fn(ExitStatus, Signal)) {
    let host = Namespace::new();
    host.apply(&to(2000));
    for (call, signal) in ["sendto", "flock"].into_iter().zip(signals.iter().cycle()) {
        for when in 1.. {
            let (status, hit) = guard_is_struck(&host, call, *signal, when);
            goes_on(&host, &to(2000), call);
            if !hit {
                assert!(when > 1, "{call}: never called");
                break;
            }
            check(status, *signal);
        }
    }
}

#[test]
fn a_guard_that_is_asked_to_end_ends_what_it_has_begun() {
    guards_are_struck(&SIGNALS, |status, _| assert_eq!(status.code(), Some(0), "{status}"));
}
