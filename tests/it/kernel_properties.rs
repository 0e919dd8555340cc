//! What holds for every mapping and every change, on the real kernel: what is read is what was
//! written, a plan leads where it should, and nft makes the same of our text.

use std::time::Duration;

use portmap::kernel::{Extent, Kernel, Netlink, Snapshot};
use portmap::mapping::MappingSet;
use portmap::plan::{Step, plan};
use portmap::ruleset::{Observed, Ruleset, Trial, desired};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

use crate::support::Namespace;
use crate::support::arbitrary::{mapping_sets, neighbours};

/// Each takes some 30 ms. `PROPTEST_CASES` is for who has more time.
const CASES: u32 = 40;

/// Tries the property in this namespace, and shrinks what it fails for.
#[track_caller]
fn for_any<S: Strategy>(
    host: &Namespace,
    strategy: impl FnOnce() -> S + Send,
    property: impl Fn(S::Value) -> Result<(), TestCaseError> + Send,
) {
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    let outcome = host.run(|| {
        TestRunner::new(config).run(&strategy(), property).map_err(|error| match error {
            TestError::Fail(why, value) => format!("{why}\nfor {value:#?}"),
            TestError::Abort(why) => why.to_string(),
        })
    });
    outcome.unwrap_or_else(|why| panic!("{why}"));
}

fn snapshot(kernel: &mut impl Kernel) -> Result<Snapshot, TestCaseError> {
    kernel.snapshot(Extent::Whole).map_err(|e| TestCaseError::fail(e.to_string()))
}

/// Commits the plan. It may be `altered` on its way.
fn reach(
    wanted: Option<&Ruleset>,
    altered: impl Fn(&mut Step),
) -> Result<Option<Observed>, TestCaseError> {
    let mut kernel = Netlink::open().map_err(|e| TestCaseError::fail(e.to_string()))?;
    let Snapshot { generation, table, .. } = snapshot(&mut kernel)?;
    let mut steps = plan(wanted, table.as_ref());
    steps.iter_mut().for_each(altered);
    let committed = kernel.commit(&steps, generation);
    committed.map_err(|e| {
        let steps: String = steps.iter().map(|step| format!("{step}\n")).collect();
        TestCaseError::fail(format!("{e}\n{steps}"))
    })?;
    Ok(snapshot(&mut kernel)?.table)
}

fn as_it_is(_: &mut Step) {}

/// Maps without counters, so that the next change has to make them anew.
fn without_counters(step: &mut Step) {
    if let Step::AddMap { shape, .. } = step {
        shape.counted = false;
    }
}

fn table(mapping: &MappingSet, trial: Option<&MappingSet>) -> Option<Ruleset> {
    let trial = trial.map(|mapping| Trial { mapping, time: Duration::from_secs(3600), zone: true });
    (!mapping.is_empty() || trial.is_some()).then(|| desired(mapping, trial, None))
}

fn is_as_wanted(found: Option<Observed>, wanted: Option<&Ruleset>) -> Result<(), TestCaseError> {
    let found = found.map(|mut found| {
        if let Some(gate) = &mut found.ruleset.gate {
            gate.left = gate.timeout;
        }
        found
    });
    let foreign: Vec<_> = found.iter().flat_map(|found| &found.foreign).collect();
    prop_assert!(foreign.is_empty(), "{:?}", foreign);
    prop_assert_eq!(found.as_ref().map(|found| &found.ruleset), wanted);
    let more = plan(wanted, found.as_ref());
    prop_assert!(more.is_empty(), "still to do: {:?}", more);
    Ok(())
}

#[test]
fn a_change_leads_there_and_reads_back() {
    let host = Namespace::new();
    let trial = || prop::bool::weighted(0.3);
    for_any(
        &host,
        || (neighbours(4), trial(), trial(), trial()),
        |(sets, first, second, uncounted)| {
            let [a, b, c, d] = &sets[..] else { unreachable!("4") };
            let before = table(a, first.then_some(b));
            let made = reach(before.as_ref(), if uncounted { without_counters } else { as_it_is })?;
            if !uncounted {
                is_as_wanted(made, before.as_ref())?;
            }
            let after = table(c, second.then_some(d));
            is_as_wanted(reach(after.as_ref(), as_it_is)?, after.as_ref())
        },
    );
}

#[test]
fn nft_makes_of_our_text_what_we_make() {
    let host = Namespace::new();
    for_any(
        &host,
        || (mapping_sets(), prop::option::weighted(0.3, mapping_sets())),
        |(set, trial)| {
            reach(None, as_it_is)?;
            let Some(wanted) = table(&set, trial.as_ref()) else { return Ok(()) };
            is_as_wanted(reach(Some(&wanted), as_it_is)?, Some(&wanted))?;
            let ours = host.blocks();

            reach(None, as_it_is)?;
            host.nft_script(&wanted.to_string());
            let theirs = host.blocks();
            let mut kernel = Netlink::open().expect("as before");
            is_as_wanted(snapshot(&mut kernel)?.table, Some(&wanted))?;
            prop_assert_eq!(ours, theirs, "{}", wanted);
            Ok(())
        },
    );
}
