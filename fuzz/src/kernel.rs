//! What the kernel answers to questions and commits, and what it tells unasked.

use portmap::formats::rules::{self, Facts, Source};
use portmap::host::holders::Process;
use portmap::kernel::events::{Commit, Commits};
use portmap::kernel::fuzzing::{self, replay};
use portmap::kernel::{CommitError, Extent, Kernel, Netlink, conntrack, links};
use portmap::plan::{Step, plan};
use portmap::ruleset::desired;

use crate::names;

/// The generation of the ruleset for which everything is committed here.
pub const GENERATION: u32 = 7;

/// `RESTART` of `asm-generic/errno.h`
const ERESTART: i32 = 85;

thread_local! {
    static STEPS: Vec<Step> = steps();
}

/// Some of each kind.
pub fn steps() -> Vec<Step> {
    let text = "ports:\n\
        - { port: 80, to: 3000 }\n\
        - { port: 81, to: 3001, sources: [192.0.2.0/24] }\n\
        - { port: 53/udp, to: 5353, scope: external }\n\
        - { port: 90-99, to: 9090-9099 }\n";
    let loaded = rules::load(&[Source::file("f", text)], &Facts::default(), names());
    let set = loaded.mappings.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    plan(Some(&desired(&set, None, None)), None)
}

/// The first byte chooses the question.
pub fn answers(data: &[u8]) {
    let Some((question, data)) = data.split_first() else { return };
    let mut kernel = Netlink::open().expect("a socket");
    match question {
        b'c' => committed(&mut kernel, data),
        b's' => {
            if let Ok(Some(stamp)) = replay(data, || kernel.stamp()) {
                assert_eq!(stamp.to_string().parse(), Ok(stamp));
            }
        }
        b'r' => {
            let Ok(found) = replay(data, || kernel.runs()) else { return };
            assert!(found.runs.is_sorted_by_key(|run| run.table.id));
            assert!(found.traces.is_sorted_by_key(|trace| trace.id));
            for run in &found.runs {
                let _ = run.mapping();
                assert!(matches!(plan(None, Some(&run.observed))[..], [Step::DeleteTable]));
            }
        }
        b'o' => _ = replay(data, || kernel.snapshot(Extent::Outline)),
        b'd' => _ = replay(data, links::devices),
        _ => _ = replay(data, || kernel.generation()),
    }
}

/// What is said of a commit is what the first refusal says.
fn committed(kernel: &mut Netlink, data: &[u8]) {
    let outcome = STEPS.with(|steps| replay(data, || kernel.commit(steps, GENERATION)));
    let answers = replay(data, fuzzing::answers);
    let refusal = answers.iter().flatten().find(|(_, errno)| *errno != 0).copied();
    match (outcome, refusal) {
        (Ok(()) | Err(CommitError::Netlink(_)), None) => {}
        (Err(CommitError::Netlink(_)), Some(_)) => assert!(answers.is_err()),
        (Err(CommitError::Raced), Some((_, errno))) => assert_eq!(errno, ERESTART),
        (Err(CommitError::Refused { step, errno, .. }), Some((sequence, refused))) => {
            assert_eq!(errno, refused);
            assert!(!step.is_empty());
            // There is one for the beginning, and at most some for each step.
            if sequence <= 1 {
                assert_eq!(step, "open the transaction");
            }
        }
        (outcome, refusal) => panic!("{outcome:?} where the kernel says {refusal:?}"),
    }
}

/// The answers of connection tracking.
pub fn connections(data: &[u8]) {
    let _ = replay(data, conntrack::translated_connections);
    let _ = replay(data, conntrack::forget_translated_connections);
    let _ = replay(data, conntrack::clear_trial_flows);
}

/// What the kernel tells of everybody's commits: whatever it was, the next one is known by name.
pub fn commits(data: &[u8]) {
    let mut commits = Commits::deaf().expect("a socket");
    replay(data, || {
        // One that is no netlink ends a listening.
        for _ in 0..4 {
            let _ = commits.listen(GENERATION);
        }
    });
    let (generation, pid) = (GENERATION + 2, 4711);
    let message = fuzzing::told(&["other", "portmap"], generation, Some((pid, b"nft\0")));
    let len = u16::try_from(message.len()).expect("short").to_le_bytes();
    let may_differ = replay(&[&len, &message[..]].concat(), || commits.listen(GENERATION));
    assert!(matches!(may_differ, Ok(true)));
    let process = Some(Process { pid, name: "nft".to_owned() });
    assert_eq!(commits.last(), Some(&Commit { generation, process }));
    assert!(matches!(replay(&[], || commits.listen(generation)), Ok(false)));
}
