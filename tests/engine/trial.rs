//! A trial has an identity: who watches one acts on it and on no other.

use super::*;
use portmap::engine::{Cause, Effect, Fate, Refusal, TrialId};

/// Generation 1 is active, 2 on trial.
fn on_trial() -> (Host, TrialId) {
    let host = Host::with(&["80:3000"]);
    let change = host.try_out("80:4000").unwrap();
    let (trial, time) = change.trial.unwrap();
    assert_eq!((trial, time), (TrialId(id(2)), MINUTE));
    (host, trial)
}

fn refusal(error: &Error) -> &Refusal {
    let Cause::Refused(refusal) = error.cause() else { panic!("{error}") };
    refusal
}

/// Everything that a countdown does at its end.
fn act(host: &Host, trial: TrialId) -> [Result<()>; 3] {
    [
        host.engine().confirm(Some(trial), false).map(drop),
        host.engine().end_trial(trial).map(drop),
        host.engine().tidy_trial(trial).map(drop),
    ]
}

/// It is there, for a time that only confirming makes longer.
#[test]
fn nobody_goes_back_to_what_is_on_trial_nor_is_shown_that() {
    let (host, _) = on_trial();
    let request = RollbackRequest { to: Some(id(2).into()), message: None };
    for refused in [host.engine().roll_back(&request), host.engine().preview_rollback(&request)] {
        let error = fails(refused);
        assert!(matches!(refusal(&error), Refusal::OnTrial { .. }), "{error}");
    }
    assert_eq!(host.layer(Layer::Trial), "80:4000");
}

#[test]
fn a_trial_is_kept_or_ended_as_was_said() {
    let (host, trial) = on_trial();
    assert!(matches!(host.engine().fate(trial).unwrap(), Fate::Running { left } if left == MINUTE));
    let change = host.engine().confirm(Some(trial), false).unwrap();
    assert!(change.shortfall.is_none());
    assert_eq!((host.active().as_str(), host.layer(Layer::Trial).as_str()), ("80:4000", ""));
    assert_eq!(host.stamped(), Some(2));
    assert_eq!(host.outcomes(), [Outcome::Committed; 2]);

    let (host, trial) = on_trial();
    let ended = host.engine().end_trial(trial).unwrap();
    assert!(ended.was_running && ended.change.shortfall.is_none());
    assert_eq!((host.active().as_str(), host.stamped()), ("80:3000", Some(1)));
    assert_eq!(host.outcomes(), [Outcome::Committed, Outcome::Reverted]);

    let (host, trial) = on_trial();
    host.kernel.pass(MINUTE);
    assert_eq!(host.engine().fate(trial).unwrap(), Fate::Expired);
    assert_eq!(host.engine().tidy_trial(trial).unwrap(), Fate::Expired);
    assert_eq!((host.active().as_str(), host.layer(Layer::Trial).as_str()), ("80:3000", ""));
    assert_eq!(host.outcomes(), [Outcome::Committed, Outcome::Reverted]);
}

#[test]
fn a_trial_that_was_confirmed_elsewhere_is_neither_ended_nor_reverted() {
    for overtaken in [false, true] {
        let (host, trial) = on_trial();
        host.engine().confirm(None, false).unwrap();
        if overtaken {
            host.apply("80:5000").unwrap();
        }
        let (active, outcomes) = (host.active(), host.outcomes());
        let [kept, ended, tidied] = act(&host, trial);
        for error in [fails(kept), fails(ended)] {
            assert!(matches!(refusal(&error), Refusal::Confirmed { .. }), "{error}");
            assert_eq!(error.effect, Effect::Unchanged);
        }
        tidied.unwrap();
        assert_eq!(host.engine().tidy_trial(trial).unwrap(), Fate::Confirmed);
        assert_eq!(host.engine().fate(trial).unwrap(), Fate::Confirmed);
        assert_eq!((host.active(), host.outcomes()), (active, outcomes));
    }
}

#[test]
fn a_trial_that_was_ended_elsewhere_is_not_confirmed() {
    let (host, trial) = on_trial();
    host.roll_back().unwrap();
    let [kept, ended, tidied] = act(&host, trial);
    for error in [fails(kept), fails(ended)] {
        assert!(matches!(refusal(&error), Refusal::Ended { .. }), "{error}");
    }
    tidied.unwrap();
    assert_eq!(host.engine().fate(trial).unwrap(), Fate::Ended);
    assert_eq!(host.active(), "80:3000");
}

#[test]
fn the_trial_of_another_is_left_alone() {
    let (host, first) = on_trial();
    host.roll_back().unwrap();
    let second = host.try_out("80:5000").unwrap().trial.unwrap().0;
    assert_ne!(first, second);
    let [kept, ended, tidied] = act(&host, first);
    for error in [fails(kept), fails(ended)] {
        assert!(matches!(refusal(&error), Refusal::Ended { .. }), "{error}");
    }
    tidied.unwrap();
    assert_eq!(host.engine().tidy_trial(first).unwrap(), Fate::Ended);
    assert!(matches!(host.engine().fate(second).unwrap(), Fate::Running { .. }));
    assert_eq!(host.layer(Layer::Trial), "80:5000");

    // Expired, and still not his.
    host.kernel.pass(MINUTE);
    assert_eq!(host.engine().tidy_trial(first).unwrap(), Fate::Ended);
    assert_eq!(host.layer(Layer::Trial), "80:5000");
}

#[test]
fn what_has_run_out_cannot_be_kept() {
    let (host, trial) = on_trial();
    host.kernel.pass(MINUTE);
    let error = fails(host.engine().confirm(Some(trial), false));
    assert!(matches!(refusal(&error), Refusal::TrialOver), "{error}");
    assert_eq!(error.effect, Effect::Unchanged, "the kernel had gone back before");
    assert_eq!(host.active(), "80:3000");
    assert_eq!(host.outcomes(), [Outcome::Committed, Outcome::Reverted]);
    let error = fails(host.engine().confirm(None, false));
    assert!(matches!(refusal(&error), Refusal::NothingOnTrial), "{error}");
}

#[test]
fn while_a_trial_runs_only_its_end_is_allowed() {
    let (host, _) = on_trial();
    let table = host.kernel.table();
    let errors = [
        fails(host.apply("80:5000")),
        fails(host.try_out("80:5000")),
        fails(host.engine().persist()),
        fails(host.request(&ApplyRequest { keeps_history: false, ..request("80:5000") })),
    ];
    for error in errors {
        assert!(matches!(refusal(&error), Refusal::OnTrial { left } if *left == MINUTE), "{error}");
        assert_eq!(error.effect, Effect::Unchanged);
        assert!(error.help().unwrap().contains("portmap confirm"), "{error}");
    }
    assert_eq!(host.kernel.table(), table);
    assert_eq!(host.outcomes(), [Outcome::Committed, Outcome::Trial]);

    let change = host.engine().clear(true).unwrap();
    assert!(change.has_effect && change.shortfall.is_none());
    assert_eq!(host.kernel.table(), None);
    assert_eq!(host.outcomes(), [Outcome::Committed, Outcome::Reverted, Outcome::Committed]);
}

#[test]
fn a_trial_of_what_is_active_is_none() {
    let host = Host::with(&["80:3000"]);
    let change = host.try_out("80:3000").unwrap();
    assert_eq!((change.trial, change.has_effect), (None, false));
    assert_eq!(host.outcomes(), [Outcome::Committed]);
}

#[test]
fn flows_of_a_trial_go_with_it_and_none_before() {
    let (host, trial) = on_trial();
    assert_eq!(host.kernel.trial_flows_cleared(), 1, "those of an earlier one");
    assert_eq!(host.kernel.cleaned(), [], "clients come back to where they were");
    host.engine().confirm(Some(trial), false).unwrap();
    // Between the two commits, and when nothing makes any more of them.
    assert_eq!(host.kernel.trial_flows_cleared(), 3);
    // Those from before the trial also before the commit: its clients would return to them.
    let (old, new) = (set("80:3000"), set("80:4000"));
    let cleaned = [(old.clone(), new.clone()), (old, new.clone()), (new.clone(), new)];
    assert_eq!(host.kernel.cleaned(), cleaned);
}

/// A packet that goes by the rules of the old one must not find the gate open.
#[test]
fn what_is_left_of_a_trial_goes_before_the_next_one_begins() {
    let (host, _) = on_trial();
    host.kernel.pass(MINUTE);
    let before = host.kernel.tried();
    host.try_out("80:5000").unwrap();
    assert_eq!(host.kernel.tried(), before + 2);
    assert_eq!((host.active().as_str(), host.layer(Layer::Trial).as_str()), ("80:3000", "80:5000"));
    assert_eq!(host.outcomes(), [Outcome::Committed, Outcome::Reverted, Outcome::Trial]);
}
