//! Less memory, or fewer open files, than a command needs: limits are lowered step by step, from
//! enough to where the program cannot even be loaded. After each the exit code has told the effect,
//! nothing is lost, and the next command goes on.

use std::collections::BTreeSet;

use nix::libc::{SIGABRT, SIGSEGV};

use crate::kill::{agree, goes_on, numbers, serving, to};
use crate::support::Namespace;
use crate::support::portmap::Outcome;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Done,
    /// An error without an effect.
    Refused,
    /// An error after the effect.
    Incomplete,
    /// Without memory a program in Rust ends at once.
    Aborted,
    /// By the kernel or the loader of libraries.
    NotLoaded,
}

fn ending(outcome: &Outcome) -> Ending {
    match (outcome.code, outcome.signal) {
        (Some(0), _) => Ending::Done,
        (Some(1), _) => Ending::Refused,
        (Some(3), _) => Ending::Incomplete,
        (Some(126 | 127), _) | (_, Some(SIGSEGV)) => Ending::NotLoaded,
        (_, Some(SIGABRT)) => Ending::Aborted,
        _ => panic!("{outcome}"),
    }
}

fn limited(host: &Namespace, limit: &str, line: &str) -> Outcome {
    let mut portmap = host.portmap_limited(limit, line.split(' '));
    // It would be looked for in as much memory as there is not.
    portmap.env("RUST_BACKTRACE", "0");
    portmap.run()
}

fn memory(bytes: u64) -> String {
    format!("--as={bytes}")
}

/// The least number, to `precision`, that is enough; `low` is not, and `high` is.
fn least(low: u64, high: u64, precision: u64, mut is_enough: impl FnMut(u64) -> bool) -> u64 {
    let (mut low, mut high) = (low, high);
    while high - low > precision {
        let middle = low + (high - low) / 2;
        *(if is_enough(middle) { &mut high } else { &mut low }) = middle;
    }
    high
}

/// The memory in which the program can be loaded, and does next to nothing.
fn loaded(host: &Namespace) -> u64 {
    let check = |bytes| limited(host, &memory(bytes), "check 80:3000").code == Some(0);
    assert!(check(1 << 28), "not in 256 MiB");
    least(1 << 20, 1 << 28, 1 << 14, check)
}

/// Applies `new.yaml`, of which the kernel will say `new`, within a limit. The next command is
/// another apply.
#[track_caller]
fn apply(host: &Namespace, limit: &str, new: &str, next: usize) -> (Ending, Outcome) {
    let (old, known) = (serving(host), numbers(host));
    let outcome = limited(host, limit, "apply --quiet new.yaml");
    let serves = serving(host);
    let ending = ending(&outcome);
    match ending {
        Ending::Done | Ending::Incomplete => assert!(serves == new, "{limit}: {outcome}"),
        Ending::Refused | Ending::NotLoaded => assert!(serves == old, "{limit}: {outcome}"),
        Ending::Aborted => assert!(serves == old || serves == new, "{limit}: {outcome}"),
    }
    if matches!(ending, Ending::Refused | Ending::Incomplete) {
        assert!(outcome.stderr.contains("error: "), "{limit}: {outcome}");
    }
    agree(host, &format!("{limit}: {outcome}"));
    let lost: Vec<_> = known.difference(&numbers(host)).copied().collect();
    // As each change does, it removes the oldest.
    assert!(lost.len() <= 2, "{limit}: lost {lost:?}");
    goes_on(host, &to(next), limit);
    (ending, outcome)
}

/// Lower and lower limits. How the commands ended.
#[track_caller]
fn descend(limits: impl Iterator<Item = String>) -> Vec<(Ending, Outcome)> {
    let host = Namespace::new();
    host.apply(&to(2000));
    host.apply(&to(2001));
    let step = |(run, limit): (usize, String)| {
        let new = to(3000 + run);
        host.file("new.yaml", &new);
        apply(&host, &limit, &new, 4000 + run)
    };
    limits.enumerate().map(step).collect()
}

#[test]
fn an_apply_that_may_open_too_few_files_fails_without_effect() {
    let endings = descend((3..=24).rev().map(|files| format!("--nofile={files}")));
    let kinds: BTreeSet<_> = endings.iter().map(|(ending, _)| *ending).collect();
    assert_eq!(endings[0].0, Ending::Done, "{}", endings[0].1);
    assert!(kinds.contains(&Ending::Refused) && !kinds.contains(&Ending::Aborted), "{kinds:?}");
    for (_, outcome) in endings.into_iter().filter(|(ending, _)| *ending == Ending::Refused) {
        // Of a netlink socket, of a directory of the history, or of the rules file.
        assert!(outcome.stderr.to_lowercase().contains("too many open files"), "{outcome}");
        outcome.says("help: ").says("ulimit -n");
    }
}

#[test]
fn an_apply_that_has_too_little_memory_leaves_the_old_or_the_new() {
    let least = loaded(&Namespace::new());
    let limits = (least - 500_000..=least + 500_000).rev().step_by(50_000).map(memory);
    let endings = descend(limits);
    assert_eq!(endings[0].0, Ending::Done, "{}", endings[0].1);
    let last = &endings[endings.len() - 1];
    assert!(matches!(last.0, Ending::Aborted | Ending::NotLoaded), "{}", last.1);
}

/// The same with so much to do that the memory ends in the middle of it.
#[test]
fn an_abort_amid_many_mappings_leaves_the_old_or_the_new() {
    let host = Namespace::new();
    let least_of_all = loaded(&host);
    let many = |to: u32| (1..=20_000).map(|port| format!("  {port}: {}\n", port + to)).collect();
    let many: String = ["ports:\n".to_owned(), many(20_001)].concat();
    host.file("new.yaml", &many);
    host.apply(&to(2000));
    host.portmap(["apply", "--quiet", "new.yaml"]).run().succeeds();
    let new = serving(&host);
    host.apply(&to(2001));

    let (mut next, mut kinds) = (2002, BTreeSet::new());
    let mut is_enough = |bytes| {
        let (ending, _) = apply(&host, &memory(bytes), &new, next);
        next += 1;
        kinds.insert(ending);
        ending == Ending::Done
    };
    let enough = least_of_all + (1 << 26);
    assert!(is_enough(enough), "not in 64 MiB more than to be loaded");
    least(least_of_all, enough, 1 << 19, is_enough);
    assert!(kinds.contains(&Ending::Aborted), "{kinds:?}");
}

/// A thread of its own is a help, and no more: with none to spare, a large file is applied and
/// shown as any other.
#[test]
fn a_large_file_needs_no_thread() {
    let host = Namespace::new();
    let ports: String = (1..=6000).map(|port| format!("  {port}: {}\n", port + 20_000)).collect();
    host.file("new.yaml", &format!("ports:\n{ports}"));
    for line in ["plan --quiet new.yaml", "apply --quiet new.yaml"] {
        let mut hit = false;
        for call in ["clone3", "clone"] {
            let injected = host.portmap_injected(call, "error=EAGAIN", 1, line.split(' '));
            hit |= injected.hit;
            injected.outcome.succeeds();
        }
        assert!(hit, "{line}: it has no thread of its own");
    }
    assert_eq!(host.status()["mappings"].as_array().unwrap().len(), 6000);
    // What is wrong with the file is said first, as ever.
    host.file("wrong.yaml", &format!("ports:\n{ports}  x: y\n"));
    let injected = host.portmap_injected("clone3", "error=EAGAIN", 1, ["apply", "wrong.yaml"]);
    injected.outcome.fails_with(1).says("wrong.yaml:6002:3");
}
