//! What the guard does about a table that was changed: the engine's part, told by a witness who did
//! it.

use super::*;
use portmap::engine::{By, Cause, Expected, Mended, Refusal, Seen, Vigil, Witness};
use portmap::history::Error as HistoryError;
use portmap::kernel;
use portmap::mapping::Point;

/// Says what it is told to say.
struct Told(By);

impl Witness for Told {
    fn who(&mut self, _: u32) -> std::result::Result<Option<By>, kernel::Error> {
        Ok(Some(self.0))
    }
}

/// A guard that has seen what is active.
fn guarding(host: &Host) -> Vigil {
    let mut vigil = Vigil::default();
    assert!(matches!(look(host, &mut vigil, By::Unknown), Seen::Well { is_news: true, .. }));
    vigil
}

fn look(host: &Host, vigil: &mut Vigil, by: By) -> Seen {
    host.engine().watch_over(vigil, &mut Told(by)).unwrap()
}

#[track_caller]
fn is_damaged(host: &Host, vigil: &mut Vigil, by: By) {
    let seen = look(host, vigil, by);
    assert!(matches!(seen, Seen::Damaged), "{seen:?}");
}

#[track_caller]
fn mend(host: &Host, vigil: &mut Vigil) -> Mended {
    is_damaged(host, vigil, By::Other);
    host.engine().mend(vigil, &mut Told(By::Other)).unwrap().expect("it was damaged")
}

fn wipe(model: &mut Model) {
    model.replace(None);
}

#[test]
fn a_table_that_is_gone_comes_back_in_one_commit() {
    let host = Host::with(&["80:3000", "80:4000"]);
    let mut vigil = guarding(&host);
    for round in 1..=3 {
        host.kernel.tamper(wipe);
        let mended = mend(&host, &mut vigil);
        assert_eq!((mended.active, mended.damage), (Point::from(id(2)), None));
        assert_eq!(host.kernel.made().len(), round);
    }
    assert_eq!((host.active().as_str(), host.stamped()), ("80:4000", Some(2)));
    assert_eq!(host.outcomes(), [Outcome::Committed; 2], "it is no new generation");
    assert!(matches!(look(&host, &mut vigil, By::Unknown), Seen::Well { is_news: false, .. }));
}

#[test]
fn a_table_that_was_changed_is_repaired_and_it_is_told_how() {
    let host = Host::with(&["80:3000"]);
    let mut vigil = guarding(&host);
    host.kernel.tamper(add_mapping(tcp(81), 3001));
    assert_eq!(mend(&host, &mut vigil).damage.as_deref(), Some("+ 81/tcp -> 3001"));
    // With the rule goes the stamp: the guard still knows which generation it was.
    host.kernel.tamper(remove_rules(Hook::Prerouting, |_| true));
    let damage = mend(&host, &mut vigil).damage.unwrap();
    assert!(damage.starts_with("add to chain prerouting: ") && damage.ends_with(" more"));
    assert_eq!((host.active().as_str(), host.stamped(), host.drift()), ("80:3000", Some(1), None));
    assert_eq!(host.outcomes(), [Outcome::Committed]);
}

#[test]
fn an_older_table_out_of_a_saved_ruleset_is_replaced() {
    let host = Host::with(&["80:3000"]);
    let saved = host.kernel.table();
    host.apply("80:4000").unwrap();
    let mut vigil = guarding(&host);
    host.kernel.tamper(|model| model.replace(saved.as_ref()));
    mend(&host, &mut vigil);
    assert_eq!((host.active().as_str(), host.stamped()), ("80:4000", Some(2)));
}

#[test]
fn what_a_portmap_does_is_left_alone_and_guarded() {
    let host = Host::with(&["80:3000"]);
    let mut vigil = guarding(&host);
    host.apply("80:4000").unwrap();
    assert!(matches!(
        look(&host, &mut vigil, By::Portmap),
        Seen::Well { is_news: true, mappings: 1 }
    ));
    host.engine().clear(true).unwrap();
    // Even if the last thing that is heard of is another program's commit.
    assert!(matches!(look(&host, &mut vigil, By::Other), Seen::Well { mappings: 0, .. }));
    host.roll_back().unwrap();
    assert!(matches!(look(&host, &mut vigil, By::Portmap), Seen::Well { mappings: 1, .. }));
    host.engine().clear(false).unwrap();
    assert!(matches!(look(&host, &mut vigil, By::Portmap), Seen::Well { mappings: 0, .. }));
    assert_eq!((vigil.expected(), host.kernel.table()), (Expected::Nothing, None));
}

#[test]
fn a_generation_that_was_never_seen_is_put_back_all_the_same() {
    let host = Host::with(&["80:3000"]);
    let mut vigil = guarding(&host);
    host.apply("80:4000").unwrap();
    host.kernel.tamper(wipe);
    assert_eq!(mend(&host, &mut vigil).active, Point::from(id(2)));
    assert_eq!(host.active(), "80:4000");
}

#[test]
fn a_mapping_that_is_not_in_the_history_is_not_guarded() {
    let host = Host::with(&["80:3000"]);
    let mut vigil = guarding(&host);
    let keeps_history = false;
    host.request(&ApplyRequest { keeps_history, ..request("80:4000") }).unwrap();
    look(&host, &mut vigil, By::Portmap);
    assert_eq!(vigil.expected(), Expected::Unrecorded);
    host.kernel.tamper(wipe);
    assert!(matches!(look(&host, &mut vigil, By::Other), Seen::Lost));
    assert_eq!((vigil.expected(), host.kernel.table()), (Expected::Nothing, None));
}

#[test]
fn at_the_beginning_what_is_gone_comes_back_where_a_reboot_would_bring_it_too() {
    let host = Host::with(&["80:3000"]);
    host.kernel.tamper(wipe);
    assert!(matches!(look(&host, &mut Vigil::default(), By::Unknown), Seen::Well { .. }));
    host.apply("80:3000").unwrap();
    host.engine().persist().unwrap();
    host.kernel.tamper(wipe);
    mend(&host, &mut Vigil::default());
    assert_eq!(host.active(), "80:3000");
    host.apply("80:4000").unwrap();
    host.kernel.tamper(wipe);
    assert!(matches!(look(&host, &mut Vigil::default(), By::Unknown), Seen::Well { .. }));
    host.apply("80:3000").unwrap();
    host.engine().clear(true).unwrap();
    assert!(matches!(look(&host, &mut Vigil::default(), By::Unknown), Seen::Well { .. }));
}

#[test]
fn a_trial_goes_on_for_the_time_that_it_had() {
    for is_remade in [false, true] {
        let host = Host::with(&["80:3000"]);
        host.try_out("80:4000").unwrap();
        let mut vigil = guarding(&host);
        host.kernel.pass(MINUTE / 4);
        if is_remade {
            let strange = "set strange".to_owned();
            host.kernel.tamper(change_table(move |table| table.foreign.push(strange.clone())));
        } else {
            host.kernel.tamper(add_mapping(tcp(80), 6666));
            host.kernel.tamper(remove_rules(Hook::Output, |_| true));
        }
        assert!(mend(&host, &mut vigil).is_on_trial);
        assert_eq!((host.drift(), host.outcomes()[1]), (None, Outcome::Trial));
        assert_eq!(
            (host.active().as_str(), host.layer(Layer::Trial).as_str()),
            ("80:3000", "80:4000")
        );
        let left = host.kernel.table().unwrap().ruleset.gate.unwrap().left;
        assert_eq!(left, MINUTE * 3 / 4, "as long as it would have");
        host.kernel.pass(MINUTE);
        host.kernel.tamper(wipe);
        assert!(!mend(&host, &mut vigil).is_on_trial);
        assert_eq!((host.active().as_str(), host.outcomes()[1]), ("80:3000", Outcome::Reverted));
    }
}

#[test]
fn a_trial_whose_table_is_gone_is_over() {
    let host = Host::with(&["80:3000"]);
    host.try_out("80:4000").unwrap();
    let mut vigil = guarding(&host);
    host.kernel.tamper(wipe);
    assert_eq!(mend(&host, &mut vigil).active, Point::from(id(1)));
    assert_eq!((host.active().as_str(), host.layer(Layer::Trial).as_str()), ("80:3000", ""));
    assert_eq!(host.outcomes(), [Outcome::Committed, Outcome::Reverted]);
}

#[test]
fn a_trial_that_cannot_be_recognised_is_waited_for() {
    let host = Host::with(&["80:3000"]);
    host.try_out("80:4000").unwrap();
    let mut vigil = guarding(&host);
    host.kernel.tamper(remove_rules(Hook::Prerouting, |_| true));
    let seen = look(&host, &mut vigil, By::Other);
    assert!(matches!(seen, Seen::Wait(left) if left == MINUTE), "{seen:?}");
    assert_eq!(host.kernel.tried(), 1, "that of the trial");
    host.kernel.pass(MINUTE);
    assert_eq!(mend(&host, &mut vigil).active, Point::from(id(1)));
    assert_eq!((host.active().as_str(), host.stamped()), ("80:3000", Some(1)));
}

#[test]
fn who_changes_the_table_meanwhile_is_heard_before_anything_is_done() {
    /// Says that the table has been changed since it was read; the second time, that a portmap did it.
    struct Late(Vec<Option<By>>, FakeKernel);
    impl Witness for Late {
        fn who(&mut self, _: u32) -> std::result::Result<Option<By>, kernel::Error> {
            let said = self.0.remove(0);
            if said.is_none() {
                self.1.tamper(wipe);
            }
            Ok(said)
        }
    }
    let host = Host::with(&["80:3000"]);
    let mut vigil = guarding(&host);
    host.kernel.tamper(add_mapping(tcp(81), 3001));
    is_damaged(&host, &mut vigil, By::Other);
    let mut witness = Late(vec![None, Some(By::Portmap)], host.kernel.clone());
    assert!(host.engine().mend(&mut vigil, &mut witness).unwrap().is_none());
    assert_eq!((vigil.expected(), host.kernel.tried()), (Expected::Nothing, 0));
    let mut witness = Late(vec![None, Some(By::Portmap)], host.kernel.clone());
    let seen = host.engine().watch_over(&mut vigil, &mut witness).unwrap();
    assert!(matches!(seen, Seen::Well { is_news: false, mappings: 0 }), "{seen:?}");
}

#[test]
fn a_portmap_that_holds_the_lock_is_not_disturbed() {
    let host = Host::with(&["80:3000"]);
    let mut vigil = guarding(&host);
    host.kernel.tamper(wipe);
    is_damaged(&host, &mut vigil, By::Other);
    let held = History::lock(host.state(), Duration::ZERO).unwrap();
    let error = fails(host.engine().mend(&mut vigil, &mut Told(By::Other)));
    assert!(matches!(error.cause(), Cause::History(HistoryError::Locked { .. })), "{error}");
    assert_eq!(host.kernel.tried(), 0);
    drop(held);
    mend(&host, &mut vigil);
}

#[test]
fn who_undoes_each_repair_is_not_fought_for_ever() {
    let host = Host::with(&["80:3000"]);
    let mut vigil = guarding(&host);
    host.kernel.tamper(wipe);
    for n in 1..=200 {
        host.kernel.tamper_after(n, wipe);
    }
    is_damaged(&host, &mut vigil, By::Other);
    let error = fails(host.engine().mend(&mut vigil, &mut Told(By::Other)));
    assert!(matches!(error.cause(), Cause::Refused(Refusal::Contested { .. })), "{error}");
}

#[test]
fn there_is_one_guard_and_others_know_its_process() {
    let host = Host::with(&["80:3000"]);
    assert_eq!(host.engine().status().unwrap().guard, None);
    let guarding = host.engine().stand_guard().unwrap();
    assert!(guarding.is_some());
    // Locks of this kind are a process's: only another one sees them. tests/it has one.
    drop(guarding);
    fs::remove_file(host.state().join("guard")).unwrap();
    fs::create_dir(host.state().join("guard")).unwrap();
    assert!(host.engine().stand_guard().unwrap().is_none());
    assert!(host.told()[0].starts_with("shortfall: go on, though nobody is told of the guard: "));
}
