//! What comes back after a reboot. A reboot is a flush here: the table is gone, the files are not.

use std::fs;

use serde_json::{Value, json};

use crate::support::Namespace;

fn to(port: u16) -> String {
    format!("ports: {{ 80: {port} }}")
}

#[test]
fn what_is_persisted_comes_back_after_a_reboot() {
    let host = Namespace::new();
    host.apply(&to(3000));
    let table = host.table();
    let document = host.portmap(["persist", "-o", "json"]).run().succeeds().json();
    assert_eq!(document, json!({ "version": 1, "changed": true, "persisted": 1 }));
    let again = host.portmap(["persist", "-o", "json"]).run().succeeds().json();
    assert_eq!(again["changed"], false);
    host.apply(&to(4000));
    host.nft("flush ruleset");

    host.portmap(["restore"]).run().succeeds();

    assert_eq!(host.table(), table);
    assert_eq!(host.states(), ["1 active, at boot", "2 past"]);
    assert_eq!(host.status()["drift"], Value::Null);
    host.portmap(["rollback"]).run().succeeds();
    assert_eq!(host.ruleset(), "", "before the first one was nothing");
}

#[test]
fn restore_does_nothing_twice() {
    let host = Namespace::new();
    host.portmap(["apply", "--persist", "-"]).stdin(&to(3000)).run().succeeds();
    host.nft("flush ruleset");
    let first = host.portmap(["restore", "-o", "json"]).run().succeeds().json();
    assert_eq!((&first["changed"], &first["generation"]), (&json!(true), &json!(1)));
    let generation = host.ruleset_generation();

    let said = host.portmap(["restore"]).run().succeeds();
    assert!(said.stdout.contains("nothing to do"), "{said}");
    let second = host.portmap(["restore", "-o", "json"]).run().succeeds().json();
    assert_eq!((&second["changed"], &second["generation"]), (&json!(false), &json!(1)));
    assert_eq!(host.ruleset_generation(), generation);
}

#[test]
fn where_nothing_is_persisted_nothing_is_restored() {
    let host = Namespace::new();
    let said = host.portmap(["restore"]).run().succeeds();
    assert!(said.stdout.contains("no mapping is persisted"), "{said}");
    assert!(!host.dir().join("state").exists());
    host.apply(&to(3000));
    host.nft("flush ruleset");
    host.portmap(["restore", "-o", "json"]).run().succeeds();
    assert_eq!(host.ruleset(), "");
}

#[test]
fn persist_ends_when_asked() {
    let host = Namespace::new();
    host.portmap(["persist", "--off"]).run().succeeds();
    host.portmap(["persist"]).run().fails_with(1).says("no active generation");
    host.apply(&to(3000));
    host.portmap(["persist"]).run().succeeds();
    let document = host.portmap(["persist", "--off", "-o", "json"]).run().succeeds().json();
    assert_eq!(document, json!({ "version": 1, "changed": true, "persisted": null }));
    let again = host.portmap(["persist", "--off", "-o", "json"]).run().succeeds().json();
    assert_eq!(again["changed"], false);
    host.nft("flush ruleset");

    host.portmap(["restore"]).run().succeeds();
    assert_eq!(host.ruleset(), "");
}

#[test]
fn what_others_have_changed_is_not_persisted() {
    let host = Namespace::new();
    host.apply(&to(3000));
    host.nft("add element inet portmap ports { tcp . 81 : 3001 }");
    host.portmap(["persist"]).run().fails_with(1).says("+ 81/tcp -> 3001").says("apply");
    host.portmap(["apply", "--persist", "rules.yaml"]).run().succeeds();
    assert_eq!(host.status()["persisted"], host.status()["generation"]);
}

#[test]
fn what_is_on_trial_is_not_persisted() {
    let host = Namespace::new();
    host.apply(&to(3000));
    host.portmap(["apply", "--confirm", "1h", "-"]).stdin(&to(4000)).run().succeeds();
    host.portmap(["persist"]).run().fails_with(1).says("on trial");
    host.portmap(["restore"]).run().succeeds();
    assert_eq!(host.status()["persisted"], Value::Null);
    let both = ["apply", "--persist", "--confirm", "1h", "rules.yaml"];
    host.portmap(both).run().fails_with(64);

    host.portmap(["confirm", "--persist"]).run().succeeds();
    assert_eq!(host.states(), ["1 past", "2 active, at boot"]);
}

#[test]
fn a_damaged_boot_pointer_is_reported_and_never_taken_for_none() {
    let host = Namespace::new();
    host.portmap(["apply", "--persist", "-"]).stdin(&to(3000)).run().succeeds();
    let pointer = host.dir().join("state/boot");
    for damage in ["", "version: 1\ngeneration: 7\n", "version: 99\n"] {
        fs::write(&pointer, damage).unwrap();
        let message = host.portmap(["restore"]).run().fails_with(1).says("state/boot");
        assert!(message.stderr.contains("help:"), "{message}");
        host.portmap(["status"]).run().succeeds().says("state/boot");
        host.portmap(["history"]).run().succeeds().says("state/boot");
        let problems = host.status()["problems"].to_string();
        assert!(problems.contains("state/boot"), "{problems}");
        host.apply("ports: { 80: 4000 }");
        host.apply(&to(3000));
    }
    host.portmap(["persist"]).run().succeeds();
    host.nft("flush ruleset");
    host.portmap(["restore"]).run().succeeds();
    fs::write(&pointer, "").unwrap();
    host.portmap(["persist", "--off"]).run().succeeds();
    assert!(!pointer.exists());
}

#[test]
fn applying_and_persisting_again_says_what_boot_restores() {
    let host = Namespace::new();
    host.file("rules.yaml", "ports: { 80: 3000 }");
    let apply = ["apply", "--persist", "-o", "json", "rules.yaml"];
    let first = host.portmap(apply).run().succeeds().json();
    assert_eq!(first["persisted"], serde_json::json!({ "before": null, "after": 1 }));
    // The second time the stamp answers; then the table has to.
    for foreign in ["list ruleset", "add table ip x"] {
        host.nft(foreign);
        let again = host.portmap(apply).run().succeeds().json();
        assert_eq!(again["persisted"], serde_json::json!({ "before": 1, "after": 1 }));
        assert_eq!(again["changed"], false);
    }
}

#[test]
fn restoring_needs_no_place_for_a_lock() {
    let host = Namespace::new();
    host.portmap(["apply", "--persist", "-"]).stdin("ports: { 80: 3000 }").run().succeeds();
    let table = host.table();
    host.nft("flush ruleset");
    let setup = "rm $STATE/lock*; mount --bind $STATE $STATE; mount -o remount,ro,bind $STATE";
    host.portmap_mounted(setup, ["restore"]).run().succeeds().says("without the lock");
    assert_eq!(host.table(), table);
    assert_eq!(host.status()["generation"], 1);
}
