//! What is active beside what was applied, and what a reboot will bring.

use std::time::Duration;

use crate::doctor::examine::examine;
use crate::doctor::examine::tests::{codes, healthy, number, service};
use crate::doctor::facts::{Boot, Facts, Guard, Subject, Table, Trial};
use crate::doctor::finding::Code;
use crate::doctor::tests::set;
use crate::mapping::MappingSet;

#[test]
fn a_table_that_is_gone_is_told_with_the_way_back() {
    let gone = |lost| {
        move |f: &mut Facts| {
            f.table = Table::Absent { lost };
            f.mapping = MappingSet::default();
        }
    };
    assert_eq!(codes(gone(number(2))), ["error not-applied"]);
    assert_eq!(codes(gone(None)), ["error not-applied"], "the rules of the directory are not");
    let nothing = |f: &mut Facts| {
        gone(None)(f);
        f.files.mapping = None;
    };
    assert_eq!(codes(nothing), [""; 0]);
    // One remedy for a port is enough, and that which leaves out nothing of what is lost.
    let asked = |port, lost| {
        move |f: &mut Facts| {
            gone(lost)(f);
            (f.asked, f.lost) = (vec![service(port)], set("80: 3000"));
        }
    };
    assert_eq!(codes(asked(80, number(2))), ["error not-applied"]);
    assert_eq!(codes(asked(80, None)), ["error not-applied"]);
    assert_eq!(codes(asked(81, number(2))), ["error not-applied", "error not-mapped"]);
    let mut facts = healthy();
    asked(81, number(2))(&mut facts);
    facts.files.mapping = None;
    let findings = examine(&facts).findings;
    assert_eq!((findings[1].code, &findings[1].remedy[0].command), (Code::NotMapped, &None));
}

#[test]
fn drift_and_trials_are_told() {
    let table = |drift: Option<&str>, left: Option<u64>| {
        let trial = left.map(|left| Trial { number: number(3), left: Duration::from_secs(left) });
        let drift = drift.map(str::to_owned);
        codes(|f| f.table = Table::Present { serving: number(2), drift, trial })
    };
    assert_eq!(table(None, None), [""; 0]);
    assert_eq!(table(Some("a rule"), None), ["error drifted"]);
    assert_eq!(table(None, Some(30)), ["warning on-trial"]);
    assert_eq!(table(None, Some(0)), [""; 0], "its time is up");
}

#[test]
fn what_a_reboot_brings_is_compared_with_what_is_active() {
    assert_eq!(codes(|f| f.boot.persisted = None), ["note not-persisted"]);
    assert_eq!(codes(|f| f.boot.persisted = number(1)), [""; 0], "the same mapping");
    assert_eq!(codes(|f| f.boot.is_same = Some(false)), ["warning boot-differs"]);
    assert_eq!(codes(|f| f.boot.is_same = None), ["warning boot-differs"], "not in the history");
    let missing = || Some(("it is not enabled".to_owned(), "enable it".to_owned()));
    assert_eq!(codes(|f| f.boot.missing = missing()), ["warning boot-unit"]);
    let nothing = |f: &mut Facts| (f.boot.missing, f.boot.is_same) = (missing(), Some(false));
    assert_eq!(codes(nothing), ["warning boot-unit"], "nothing else is restored either");
    let empty = |f: &mut Facts| (nothing(f), f.boot.is_empty = true).0;
    assert_eq!(codes(empty), ["note not-persisted"]);
    let applies = |f: &mut Facts| {
        let persisted = None;
        f.boot = Boot { persisted, applies: true, missing: missing(), ..Boot::default() };
    };
    assert_eq!(codes(applies), [""; 0], "boot applies the files");
    let flushers = vec![("/etc/nftables.conf".to_owned(), "nftables.service".to_owned())];
    let flushed = |f: &mut Facts| f.boot.flushers = flushers.clone();
    assert_eq!(codes(flushed), ["warning will-be-flushed"]);
    let guarded = |f: &mut Facts| (flushed(f), f.guard.pid = Some(7)).0;
    assert_eq!(codes(guarded), ["note will-be-flushed"]);
    let cleared = |f: &mut Facts| {
        (f.table, f.mapping) = (Table::Absent { lost: None }, set(""));
        (f.files.mapping, f.boot.is_same) = (None, Some(false));
    };
    assert_eq!(codes(cleared), ["warning boot-differs"]);
    let mut facts = healthy();
    cleared(&mut facts);
    let command = examine(&facts).findings[0].remedy[0].command.clone();
    assert_eq!(command.as_deref(), Some("sudo portmap persist --off"));
    // What would be is not active.
    assert_eq!(codes(|f| (f.subject, f.boot.persisted) = (Subject::Rules, None)), [""; 0]);
}

#[test]
fn a_guard_that_should_run_and_does_not_is_missed() {
    assert_eq!(codes(|f| f.guard.is_wanted = true), ["warning guard-down"]);
    assert_eq!(codes(|f| f.guard = Guard { pid: Some(7), is_wanted: true }), [""; 0]);
    let advice = |guard| {
        let mut facts = healthy();
        (facts.table, facts.guard) = (Table::Absent { lost: number(2) }, guard);
        facts.mapping = set("");
        let examination = examine(&facts);
        let gone = examination.findings.iter().find(|f| f.code == Code::NotApplied).unwrap();
        gone.remedy.iter().map(|remedy| remedy.text.clone()).collect::<Vec<_>>().join("; ")
    };
    assert!(advice(Guard::default()).contains("enable --now portmap-nft-guard"));
    assert!(advice(Guard { pid: Some(7), is_wanted: true }).contains("process 7 guards"));
}

#[test]
fn rules_files_are_compared_with_what_is_active() {
    let other = codes(|f| f.files.mapping = Some(set("80: 3001")));
    assert_eq!(other, ["warning files-disagree"]);
    assert_eq!(codes(|f| f.files.mapping = None), [""; 0]);
    let distrust = vec![("others may write the file".to_owned(), None)];
    assert_eq!(codes(|f| f.files.distrust = distrust), ["error file-trust"]);
}
