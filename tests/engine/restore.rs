//! What boot restores: best effort, for a port that is not mapped is worse than a history that is
//! not written.

use super::*;
use portmap::engine::{Cause, Effect, Forgotten, Restored};
use portmap::history::Error as HistoryError;

/// Persisted, and rebooted: the table is gone.
fn rebooted() -> Host {
    let host = Host::with(&["80:3000"]);
    host.engine().persist().unwrap();
    host.kernel.tamper(|model| model.replace(None));
    host
}

#[test]
fn what_is_persisted_comes_back_under_its_own_number() {
    let host = rebooted();
    let Restored::Generation { number, mappings, change, .. } =
        host.engine().restore(false).unwrap()
    else {
        panic!("it is persisted")
    };
    assert_eq!((number, mappings, change.has_effect), (id(1), 1, true));
    assert_eq!((host.active().as_str(), host.stamped()), ("80:3000", Some(1)));
    assert_eq!(host.outcomes(), [Outcome::Committed]);
    assert!(matches!(host.engine().restore(true).unwrap(), Restored::Present));
    let Restored::Generation { change, .. } = host.engine().restore(false).unwrap() else {
        panic!("it is persisted")
    };
    assert!(!change.is_committed);
}

#[test]
fn where_nothing_is_persisted_nothing_is_made() {
    let host = Host::new();
    assert!(matches!(host.engine().restore(false).unwrap(), Restored::Nothing));
    assert!(!host.state().exists());
    assert_eq!(host.engine().forget().unwrap(), Forgotten::Nothing);
    let host = rebooted();
    assert_eq!(host.engine().forget().unwrap(), Forgotten::Pointer);
    assert!(matches!(host.engine().restore(false).unwrap(), Restored::Nothing));
    assert_eq!(host.kernel.table(), None);
}

#[test]
fn a_lock_that_cannot_be_taken_is_told_and_no_hindrance() {
    let host = rebooted();
    let lock = host.state().join("lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    host.engine().restore(false).unwrap();
    let told = host.told();
    assert!(told[0].starts_with("shortfall: go on without the lock: "), "{told:?}");
    assert_eq!((host.active().as_str(), host.stamped()), ("80:3000", Some(1)));
    // A change needs it.
    assert_eq!(fails(host.apply("80:4000")).effect, Effect::Unchanged);
}

#[test]
fn a_directory_that_cannot_be_written_is_told_and_no_hindrance() {
    let host = Host::with(&["80:3000"]);
    host.engine().persist().unwrap();
    host.kernel.afterwards(1, occupy(host.block(2)));
    host.apply("80:4000").unwrap();
    host.kernel.tamper(|model| model.replace(None));
    fs::create_dir(host.block(2)).unwrap();
    host.engine().restore(false).unwrap();
    assert!(host.told()[0].starts_with("shortfall: go on without the lock: remove "));
    assert_eq!((host.active().as_str(), host.outcomes()[1]), ("80:3000", Outcome::Intent));
    fs::remove_dir(host.block(2)).unwrap();
    host.engine().restore(false).unwrap();
    assert_eq!(host.outcomes(), [Outcome::Committed, Outcome::Failed]);
}

#[test]
fn who_holds_the_lock_is_not_overtaken() {
    let host = rebooted();
    let _held = History::lock(host.state(), Duration::ZERO).unwrap();
    let error = fails(host.engine().restore(false));
    assert!(matches!(error.cause(), Cause::History(HistoryError::Locked { .. })), "{error}");
    assert_eq!((error.effect, host.kernel.tried()), (Effect::Unchanged, 0));
}

#[test]
fn what_is_damaged_is_not_restored() {
    let host = rebooted();
    fs::write(host.state().join("generations/000001.yaml"), "rubbish").unwrap();
    let error = fails(host.engine().restore(false));
    assert!(matches!(error.cause(), Cause::History(HistoryError::Damaged { .. })), "{error}");
    let status = host.engine().status().unwrap();
    assert_eq!((status.boot, status.problems.len()), (None, 1), "it says that boot would fail");
    fs::remove_file(host.state().join("generations/000001.yaml")).unwrap();
    let status = host.engine().status().unwrap();
    assert_eq!((status.boot, status.problems.len()), (None, 1), "missing is no better");
    fs::write(host.state().join("boot"), "rubbish").unwrap();
    let error = fails(host.engine().restore(false));
    assert_eq!((error.effect, host.kernel.tried()), (Effect::Unchanged, 0));
}
