//! Somebody else commits while we do.

use super::*;
use portmap::engine::{Cause, Effect, Refusal};

/// As often as the engine tries.
const ATTEMPTS: usize = 50;

#[test]
fn a_race_that_is_lost_is_run_again() {
    let host = Host::with(&["80:3000"]);
    for n in 1..=10 {
        host.kernel.race(n, |_| {});
    }
    let change = host.apply("80:4000").unwrap();
    assert!(change.has_effect && change.shortfall.is_none());
    assert_eq!((host.kernel.tried(), host.kernel.made().len()), (11, 1));
    assert_eq!((host.active().as_str(), host.stamped()), ("80:4000", Some(2)));
    assert_eq!(host.outcomes(), [Outcome::Committed; 2]);
    assert_eq!(host.drift(), None);
}

#[test]
fn what_the_winner_of_a_race_did_to_our_table_is_seen() {
    let host = Host::with(&["80:3000"]);
    host.kernel.race(1, add_mapping(tcp(81), 3001));
    host.kernel.race(2, |model| model.replace(None));
    host.apply("80:4000").unwrap();
    assert_eq!(host.active(), "80:4000");
    assert_eq!(host.drift(), None);
}

#[test]
fn who_loses_every_race_gives_up_and_has_changed_nothing() {
    let host = Host::with(&["80:3000"]);
    for n in 1..=ATTEMPTS {
        host.kernel.race(n, |_| {});
    }
    let error = fails(host.apply("80:4000"));
    assert!(matches!(error.cause(), Cause::Refused(Refusal::Restless { .. })), "{error}");
    assert_eq!(error.effect, Effect::Unchanged);
    assert!(error.help().unwrap().contains("nft monitor"));
    assert_eq!(host.kernel.tried(), ATTEMPTS);
    assert_eq!((host.active().as_str(), host.stamped()), ("80:3000", Some(1)));
    assert_eq!(host.outcomes(), [Outcome::Committed, Outcome::Failed]);
}

#[test]
fn what_is_changed_before_it_is_read_back_is_repaired() {
    let host = Host::with(&["80:3000"]);
    host.kernel.tamper_after(1, add_mapping(tcp(80), 6666));
    host.kernel.tamper_after(2, |model| model.replace(None));
    host.apply("80:4000").unwrap();
    assert_eq!(host.kernel.made().len(), 3);
    assert_eq!((host.active().as_str(), host.stamped()), ("80:4000", Some(2)));
    assert_eq!(host.drift(), None);
}

#[test]
fn who_is_contradicted_each_time_gives_up_and_says_over_what() {
    let host = Host::with(&["80:3000"]);
    for n in 1..=ATTEMPTS {
        host.kernel.tamper_after(n, add_mapping(tcp(81), 6666));
    }
    let error = fails(host.apply("80:4000"));
    let Cause::Refused(Refusal::Contested { left }) = error.cause() else { panic!("{error}") };
    assert!(left.contains("delete element 81/tcp from map ports"), "{left}");
    assert_eq!(error.effect, Effect::Changed);
    assert_eq!(host.kernel.tried(), ATTEMPTS);
    assert_eq!(host.active(), "80:4000 81:6666");
    assert_eq!(host.outcomes(), [Outcome::Committed; 2], "it is in the kernel");
    assert_eq!(host.drift().unwrap(), "+ 81/tcp -> 6666");
}

/// Another portmap with another state directory, or without history: our lock says nothing to it.
fn other_begins_a_trial(of: &'static str) -> impl FnMut(&mut Model) + Send {
    move |model| {
        let other = Host::new();
        let table = model.observed();
        let host = Host { kernel: FakeKernel::new(table.as_ref()), ..other };
        host.try_out(of).unwrap();
        model.replace(host.kernel.table().as_ref());
    }
}

#[test]
fn a_trial_that_somebody_else_begins_meanwhile_is_not_ended() {
    for before_ours in [true, false] {
        let host = Host::with(&["80:3000"]);
        if before_ours {
            host.kernel.race(1, other_begins_a_trial("80:5000"));
        } else {
            host.kernel.tamper_after(1, other_begins_a_trial("80:5000"));
        }
        let error = fails(host.apply("80:4000"));
        assert!(matches!(error.cause(), Cause::Refused(Refusal::OnTrial { .. })), "{error}");
        let effect = if before_ours { Effect::Unchanged } else { Effect::Changed };
        assert_eq!(error.effect, effect);
        assert_eq!(host.layer(Layer::Trial), "80:5000", "it runs");
        assert_eq!(host.active(), if before_ours { "80:3000" } else { "80:4000" });
    }
}

#[test]
fn a_change_between_reading_and_locking_is_seen() {
    let host = Host::with(&["80:3000"]);
    let mut engine = host.engine();
    let snapshot = engine.read_kernel().unwrap();
    host.apply("80:4000").unwrap();
    let change = engine.apply(&request("80:5000"), snapshot).unwrap();
    assert_eq!(words(&change.before), "80:4000");
    let history = host.history();
    assert_eq!(history.header(id(3)).unwrap().parent, Some(id(2).into()));
    assert_eq!(host.active(), "80:5000");
}

#[test]
fn a_trial_that_runs_out_between_reading_and_locking_is_over() {
    let host = Host::with(&["80:3000"]);
    host.try_out("80:4000").unwrap();
    let mut engine = host.engine();
    let snapshot = engine.read_kernel().unwrap();
    // No commit: the generation of the ruleset stays.
    host.kernel.pass(MINUTE);
    let change = engine.apply(&request("80:5000"), snapshot).unwrap();
    assert_eq!(words(&change.before), "80:3000");
    assert_eq!(host.active(), "80:5000");
    let expected = [Outcome::Committed, Outcome::Reverted, Outcome::Committed];
    assert_eq!(host.outcomes(), expected);
    assert_eq!(host.history().header(id(3)).unwrap().parent, Some(id(1).into()));
}
