//! What the engine reads from the history and writes to it, and what follows where it cannot.

use super::*;
use portmap::engine::{Cause, Effect, Refusal};
use portmap::history::{Error as HistoryError, Nowhere};
use portmap::mapping::Point;

fn in_force(host: &Host, mapping: &str, persist: bool) -> Option<u64> {
    host.engine().in_force(digest(mapping), persist).unwrap().map(GenerationId::get)
}

#[test]
fn what_is_in_force_is_known_without_reading_the_table() {
    let host = Host::new();
    assert_eq!(in_force(&host, "80:3000", false), None, "there is no table");
    host.apply("80:3000").unwrap();
    assert_eq!(in_force(&host, "80:3000", false), Some(1));
    assert_eq!(in_force(&host, "80:4000", false), None, "another input");
    assert_eq!(in_force(&host, "80:3000", true), None, "it is not persisted");
    host.engine().persist().unwrap();
    assert_eq!(in_force(&host, "80:3000", true), Some(1));

    host.kernel.tamper(|_| {});
    assert_eq!(in_force(&host, "80:3000", false), None, "somebody has committed");
    assert!(!host.apply("80:3000").unwrap().is_committed, "the longer way finds the same");
}

#[test]
fn what_a_killed_command_left_is_not_passed_over() {
    let host = Host::new();
    host.apply("80:3000").unwrap();
    let leftover = host.block(2);
    fs::write(&leftover, "half").unwrap();
    assert_eq!(in_force(&host, "80:3000", false), None, "half a file");
    fs::remove_file(&leftover).unwrap();
    assert_eq!(in_force(&host, "80:3000", false), Some(1));

    host.kernel.refuse(2, nix::libc::EPERM);
    let _ = fails(host.apply("80:4000"));
    assert_eq!(in_force(&host, "80:3000", false), Some(1), "that it failed is written down");
    fs::remove_dir_all(host.state()).unwrap();
    assert_eq!(in_force(&host, "80:3000", false), None, "the history is lost");
}

#[test]
fn a_generation_that_is_still_open_is_not_in_force() {
    let host = Host::new();
    host.kernel.afterwards(1, occupy(host.block(1)));
    let change = host.apply("80:3000").unwrap();
    assert!(change.shortfall.is_some());
    assert!(!host.block(1).exists(), "what it could not finish writing it has removed");
    assert_eq!(host.outcomes(), [Outcome::Intent]);
    assert_eq!(in_force(&host, "80:3000", false), None);
    host.told();
    host.apply("80:3000").unwrap();
    let told = host.told();
    assert!(told[0].contains("generation 1 reached the kernel"), "{told:?}");
    assert_eq!(host.outcomes(), [Outcome::Committed]);
    assert_eq!(in_force(&host, "80:3000", false), Some(1));
}

#[test]
fn a_trial_is_never_in_force() {
    let host = Host::new();
    host.apply("80:3000").unwrap();
    host.try_out("80:4000").unwrap();
    assert_eq!(in_force(&host, "80:4000", false), None);
    assert_eq!(in_force(&host, "80:3000", false), None);
}

#[test]
fn where_there_is_nothing_to_do_no_lock_is_needed() {
    let host = Host::new();
    host.apply("80:3000").unwrap();
    let held = History::lock(host.state(), Duration::ZERO).unwrap();
    assert_eq!(in_force(&host, "80:3000", false), Some(1));
    assert!(!host.apply("80:3000").unwrap().is_committed);
    for mapping in [request("80:4000"), ApplyRequest { keeps_history: false, ..request("80:4000") }]
    {
        let error = fails(host.request(&mapping));
        assert!(matches!(error.cause(), Cause::History(HistoryError::Locked { .. })), "{error}");
        assert!(!error.help().unwrap().contains("--no-history"), "it will be free");
    }
    drop(held);
    host.apply("80:4000").unwrap();
}

#[test]
fn what_cannot_be_written_down_before_is_not_done() {
    let host = Host::with(&["80:3000"]);
    let wordy = ApplyRequest { message: Some("x".repeat(2 << 20)), ..request("80:4000") };
    let error = fails(host.request(&wordy));
    assert!(matches!(error.cause(), Cause::History(HistoryError::TooLarge { .. })), "{error}");
    assert!(error.to_string().starts_with("write the history: "), "{error}");

    fs::create_dir(host.block(2)).unwrap();
    for result in [host.apply("80:4000").map(drop), host.engine().clear(true).map(drop)] {
        let error = fails(result);
        assert!(matches!(error.cause(), Cause::History(_)), "{error}");
        assert_eq!(error.effect, Effect::Unchanged);
        assert!(error.help().unwrap().contains("--no-history"), "{error}");
    }
    let without_way_out = [
        fails(host.try_out("80:4000")),
        fails(host.request(&ApplyRequest { persist: true, ..request("80:4000") })),
        fails(host.roll_back()),
    ];
    for error in without_way_out {
        assert_eq!(error.effect, Effect::Unchanged);
        assert!(!error.help().unwrap().contains("--no-history"), "{error}");
    }
    assert_eq!(host.kernel.tried(), 0);
    assert_eq!((host.active().as_str(), host.outcomes().len()), ("80:3000", 1));
    host.request(&ApplyRequest { keeps_history: false, ..request("80:4000") }).unwrap();
    assert_eq!(host.active(), "80:4000");
}

#[test]
fn what_cannot_be_written_down_after_is_done_and_the_shortfall_says_so() {
    let host = Host::with(&["80:3000"]);
    host.kernel.afterwards(1, occupy(host.block(2)));
    let change = host.apply("80:4000").unwrap();
    let shortfall = change.shortfall.as_ref().expect("it could not be recorded");
    assert_eq!(shortfall.effect, Effect::Changed);
    assert!(shortfall.to_string().contains("finish generation 2"), "{shortfall}");
    assert!(change.has_effect);
    assert_eq!((host.active().as_str(), host.outcomes()[1]), ("80:4000", Outcome::Intent));
    // The next command sweeps, and learns it from the stamp.
    host.apply("80:5000").unwrap();
    assert_eq!(host.outcomes(), [Outcome::Committed; 3]);
}

#[test]
fn a_trial_whose_end_cannot_be_written_down_has_ended() {
    let host = Host::with(&["80:3000"]);
    host.try_out("80:4000").unwrap();
    // The second commit is its last.
    host.kernel.afterwards(3, occupy(host.block(2)));
    let RolledBack::Trial(ended) = host.roll_back().unwrap() else { panic!("a trial ran") };
    let shortfall = ended.change.shortfall.expect("it could not be recorded");
    assert_eq!(shortfall.effect, Effect::Changed);
    assert_eq!((host.active().as_str(), host.outcomes()[1]), ("80:3000", Outcome::Trial));
    host.apply("80:5000").unwrap();
    assert_eq!(host.outcomes()[1], Outcome::Reverted);
}

#[test]
fn what_is_active_but_not_persisted_is_a_shortfall() {
    let host = Host::with(&["80:3000"]);
    fs::create_dir(host.state().join("boot")).unwrap();
    let persist = |mapping| host.request(&ApplyRequest { persist: true, ..request(mapping) });
    let change = persist("80:4000").unwrap();
    let shortfall = change.shortfall.as_ref().expect("it could not be persisted");
    assert_eq!(shortfall.effect, Effect::Changed);
    assert!(shortfall.to_string().contains("boot does not restore it"), "{shortfall}");
    assert_eq!((host.active().as_str(), change.persisted), ("80:4000", None));
    // Nothing to change in the kernel: then nothing was.
    let change = persist("80:4000").unwrap();
    assert_eq!(change.shortfall.expect("it could not be persisted").effect, Effect::Unchanged);

    host.try_out("80:5000").unwrap();
    let change = host.engine().confirm(None, true).unwrap();
    assert_eq!(change.shortfall.expect("it could not be persisted").effect, Effect::Changed);
    assert_eq!(host.active(), "80:5000");

    fs::remove_dir(host.state().join("boot")).unwrap();
    let change = persist("80:5000").unwrap();
    assert!(change.is_change() && !change.is_committed && change.shortfall.is_none());
    assert_eq!(host.history().boot().unwrap(), Some(id(3)));
}

#[test]
fn rollback_leads_back_to_the_beginning_and_then_nowhere() {
    let host = Host::with(&["80:3000", "80:4000", "80:5000"]);
    for expected in ["80:4000", "80:3000", ""] {
        host.roll_back().unwrap();
        assert_eq!(host.active(), expected);
    }
    assert_eq!(host.kernel.table(), None);
    let error = fails(host.roll_back());
    let Cause::Refused(Refusal::Nowhere { nowhere, last: None }) = error.cause() else {
        panic!("{error}")
    };
    assert_eq!((*nowhere, error.effect), (Nowhere::Beginning, Effect::Unchanged));

    let to = |to: u64| {
        let request = RollbackRequest { to: Some(to.into()), message: None };
        host.engine().roll_back(&request)
    };
    to(3).unwrap();
    assert_eq!(host.active(), "80:5000");
    let RolledBack::To(_, change) = to(3).unwrap() else { panic!("no trial runs") };
    assert!(!change.is_committed);
    assert!(matches!(fails(to(99)).cause(), Cause::History(HistoryError::Missing { .. })));
    to(0).unwrap();
    assert_eq!(host.kernel.table(), None);
}

#[test]
fn what_a_reboot_took_is_what_rollback_brings_back() {
    let host = Host::with(&["80:3000", "80:4000"]);
    host.kernel.tamper(|model| model.replace(None));
    assert_eq!(host.engine().status().unwrap().lost, Some(id(2)));
    let RolledBack::To(target, _) = host.roll_back().unwrap() else { panic!("no trial runs") };
    assert_eq!((target, host.active().as_str()), (Point::from(2), "80:4000"));
    assert_eq!(host.engine().status().unwrap().lost, None);
}

#[test]
fn a_rollback_to_what_is_damaged_changes_nothing() {
    let host = Host::with(&["80:3000", "80:4000"]);
    fs::write(host.state().join("generations/000001.yaml"), "rubbish").unwrap();
    let error = fails(host.roll_back());
    assert!(matches!(error.cause(), Cause::History(HistoryError::Damaged { .. })), "{error}");
    assert_eq!((error.effect, host.kernel.tried()), (Effect::Unchanged, 0));
}

#[test]
fn what_was_made_without_history_has_no_way_back_until_it_is_adopted() {
    let host = Host::new();
    host.request(&ApplyRequest { keeps_history: false, ..request("80:3000") }).unwrap();
    assert_eq!((host.active().as_str(), host.stamped()), ("80:3000", None));
    assert_eq!(host.outcomes(), []);
    assert!(fails(host.roll_back()).to_string().contains("not in the history"));
    let change = host.apply("80:3000").unwrap();
    assert_eq!((change.has_effect, change.generation), (false, Some(id(1))));
    assert_eq!((host.stamped(), host.outcomes()), (Some(1), vec![Outcome::Committed]));
}

#[test]
fn a_stamp_with_the_highest_number_blocks_nothing() {
    let host = Host::with(&["80:3000"]);
    host.kernel.tamper(change_table(|table| {
        let name = ChainName::Hook(Layer::Active, Hook::Prerouting);
        let rules = table.ruleset.chains.get_mut(&name).unwrap();
        let Rule::ForThisHost(Some(stamp)) = &mut rules[0] else { panic!("{rules:?}") };
        stamp.generation = GenerationId::new(u64::MAX);
    }));
    host.apply("80:4000").unwrap();
    assert_eq!((host.active().as_str(), host.stamped()), ("80:4000", Some(2)));
}

#[test]
fn a_table_stays_for_connections_and_goes_with_the_next_command() {
    type Next = fn(&Host);
    let nexts: [Next; 2] =
        [|host| drop(host.engine().persist()), |host| drop(host.engine().clear(true).unwrap())];
    for (index, next) in nexts.into_iter().enumerate() {
        let host = Host::with(&["80:3000"]);
        host.kernel.connect(&[tcp(80)]);
        let RolledBack::To(_, change) = host.roll_back().unwrap() else { panic!("no trial runs") };
        assert!(change.is_idle && change.has_effect);
        assert_eq!((host.active().as_str(), host.drift()), ("", None));
        assert!(host.kernel.table().is_some(), "the empty table");
        host.kernel.connect(&[]);
        next(&host);
        assert_eq!(host.kernel.table(), None, "command {index}");
        assert!(host.told().is_empty(), "no connection was cut");
    }
}

#[test]
fn a_trial_from_nothing_leaves_connections_alone_when_it_ends() {
    for expires in [true, false] {
        let host = Host::new();
        let trial = host.try_out("80:3000").unwrap().trial.unwrap().0;
        host.kernel.connect(&[tcp(80)]);
        if expires {
            host.kernel.pass(MINUTE);
            host.engine().tidy_trial(trial).unwrap();
        } else {
            host.roll_back().unwrap();
        }
        assert_eq!((host.active().as_str(), host.layer(Layer::Trial).as_str()), ("", ""));
        assert!(host.kernel.table().is_some(), "the empty table");
        assert_eq!(host.outcomes(), [Outcome::Reverted]);
        // It serves for the next mapping as well.
        host.apply("80:4000").unwrap();
        assert_eq!((host.active().as_str(), host.drift()), ("80:4000", None));
    }
}

#[test]
fn clear_cuts_connections_and_says_so_first() {
    let host = Host::with(&["80:3000"]);
    host.kernel.connect(&[tcp(80), tcp(80), tcp(443)]);
    host.engine().preview_clear().unwrap();
    // Which rule translated a connection is not known to anybody.
    assert_eq!(host.told(), ["3 connections cut"], "before anything is done");
    assert!(host.kernel.table().is_some());
    host.kernel.refuse(1, nix::libc::EPERM);
    let _ = fails(host.engine().clear(true));
    assert_eq!(host.told(), ["3 connections cut"], "before it is tried");
    let change = host.engine().clear(true).unwrap();
    assert!(!change.is_idle);
    assert_eq!(host.kernel.table(), None);
}
