//! What comes back after a reboot. A reboot is a flush here: the table is gone, the files are not.

use std::fs;

use serde_json::{Value, json};

use crate::support::Namespace;

fn to(port: u16) -> String {
    format!("ports: {{ 80: {port} }}")
}

#[test]
fn what_is_persisted_comes_back_after_a_reboot() {
    let host = Namespace::new().that_boots();
    host.apply(&to(3000));
    let table = host.table();
    let document = host.portmap(["persist", "-o", "json"]).run().succeeds().json();
    let boot = json!({ "action": "restore", "generation": 1, "by": "portmap-nft.service",
                       "same": true, "because": null });
    let expected = json!({ "version": 1, "changed": true, "persisted": 1, "boot": boot });
    assert_eq!(document, expected);
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
    let host = Namespace::new().that_boots();
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
    let host = Namespace::new().that_boots();
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
    let host = Namespace::new().that_boots();
    host.portmap(["persist", "--off"]).run().succeeds();
    host.portmap(["persist"]).run().fails_with(1).says("no active generation");
    host.apply(&to(3000));
    host.portmap(["persist"]).run().succeeds();
    let document = host.portmap(["persist", "--off", "-o", "json"]).run().succeeds().json();
    assert_eq!(document["persisted"], Value::Null);
    assert_eq!((&document["changed"], &document["boot"]), (&json!(true), &Value::Null));
    let again = host.portmap(["persist", "--off", "-o", "json"]).run().succeeds().json();
    assert_eq!(again["changed"], false);
    host.nft("flush ruleset");

    host.portmap(["restore"]).run().succeeds();
    assert_eq!(host.ruleset(), "");
}

#[test]
fn what_others_have_changed_is_not_persisted() {
    let host = Namespace::new().that_boots();
    host.apply(&to(3000));
    host.nft("add element inet portmap ports { tcp . 81 : 3001 }");
    host.portmap(["persist"]).run().fails_with(1).says("+ 81/tcp -> 3001").says("apply");
    host.portmap(["apply", "--persist", "rules.yaml"]).run().succeeds();
    assert_eq!(host.status()["persisted"], host.status()["generation"]);
}

#[test]
fn what_is_on_trial_is_not_persisted() {
    let host = Namespace::new().that_boots();
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
    let host = Namespace::new().that_boots();
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
    let host = Namespace::new().that_boots();
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
    // What configuration management asks: what boot restores is a change too.
    let exit = ["apply", "--persist", "--detailed-exitcode", "rules.yaml"];
    host.portmap(exit).run().succeeds();
    host.portmap(["persist", "--off"]).run().succeeds();
    host.portmap(["plan", "--detailed-exitcode", "rules.yaml"]).run().succeeds();
    host.portmap(["status", "--check"]).run().fails_with(1);
    host.portmap(exit).run().fails_with(2);
    host.portmap(exit).run().succeeds();
    host.portmap(["status", "--check"]).run().succeeds();
}

#[test]
fn restoring_needs_no_place_for_a_lock() {
    let host = Namespace::new().that_boots();
    host.portmap(["apply", "--persist", "-"]).stdin("ports: { 80: 3000 }").run().succeeds();
    let table = host.table();
    host.nft("flush ruleset");
    let setup = "rm $STATE/lock*; mount --bind $STATE $STATE; mount -o remount,ro,bind $STATE";
    host.portmap_mounted(setup, ["restore"]).run().succeeds().says("without the lock");
    assert_eq!(host.table(), table);
    assert_eq!(host.status()["generation"], 1);
}

/// What `persist`, `apply --persist` and `confirm --persist` say where nothing restores.
#[test]
fn what_nothing_will_restore_is_said_and_is_exit_code_3() {
    let host = Namespace::new().that_boots();
    host.apply(&to(3000));
    host.portmap(["persist"]).run().succeeds();
    let boot = json!({ "action": "restore", "generation": 1, "by": "portmap-nft.service",
                       "same": true, "because": null });
    assert_eq!(host.status()["boot"], boot);
    let said = host.portmap(["status"]).run().succeeds().stdout;
    assert!(said.contains("boot restores it (portmap-nft.service)"), "{said}");

    // Masked, so that it is not enabled by portmap.
    let unit = host.etc("systemd/system/portmap-nft.service");
    fs::remove_file(&unit).unwrap();
    std::os::unix::fs::symlink("/dev/null", &unit).unwrap();
    let status = host.status();
    assert_eq!((&status["persisted"], &status["boot"]["action"]), (&json!(1), &json!("nothing")));
    assert_eq!(status["boot"]["because"], "portmap-nft.service is masked");
    let said = host.portmap(["status"]).run().succeeds().says("nothing will restore it at boot");
    assert!(!said.stdout.contains("boot restores"), "{said}");
    let why = "is persisted, but nothing will restore it at boot: portmap-nft.service is masked";
    host.portmap(["persist"]).run().fails_with(3).says(why).says("unmask");
    host.file("rules.yaml", &to(4000));
    for _ in 0..2 {
        // The second time there is nothing to do, and still nothing restores it.
        host.portmap(["apply", "--persist", "rules.yaml"]).run().fails_with(3).says(why);
    }
    assert_eq!(host.status()["persisted"], 2);
    host.portmap(["apply", "--confirm", "1h", "-"]).stdin(&to(5000)).run().succeeds();
    host.portmap(["confirm", "--persist"]).run().fails_with(3).says(why);
    // Nothing has to be done for an empty mapping.
    host.portmap(["clear"]).run().succeeds();
    let said = host.portmap(["persist"]).run().succeeds().stdout;
    assert!(said.contains("it is empty: nothing is mapped after a reboot"), "{said}");
}

#[test]
fn a_change_says_when_boot_still_brings_another_mapping() {
    let host = Namespace::new().that_boots();
    host.portmap(["apply", "--persist", "-"]).stdin(&to(3000)).run().succeeds();
    let another = "boot still restores another mapping, generation 1 (portmap-nft.service)";
    host.apply(&to(4000)).says(another).says("`portmap persist` makes it restore this one");
    host.apply(&to(5000));
    host.portmap(["rollback"]).run().succeeds().says(another);
    // Another generation, with the same mapping.
    let said = host.portmap(["rollback", "1"]).run().succeeds();
    assert!(!said.stderr.contains("another mapping"), "{said}");
    host.portmap(["clear"]).run().succeeds().says(another).says("`portmap persist --off`");
    let said = host.portmap(["apply", "-"]).stdin(&to(3000)).run().succeeds();
    assert!(!said.stderr.contains("another mapping"), "{said}");
    let said = host.portmap(["clear", "--persist"]).run().succeeds();
    assert!(said.stdout.contains("nothing is restored at boot from now on"), "{said}");
    assert_eq!(host.status()["persisted"], Value::Null);
    host.portmap(["restore"]).run().succeeds();
    assert_eq!(host.ruleset(), "");
}

#[test]
fn a_restored_mapping_never_replaces_a_live_one_silently() {
    let host = Namespace::new().that_boots();
    host.portmap(["apply", "--persist", "-"]).stdin(&to(3000)).run().succeeds();
    host.apply(&to(4000));
    let lost = "generation 2 was active last, and is not the one that is persisted";
    host.portmap(["restore", "--quiet"]).run().succeeds().says(lost).says("portmap rollback 2");
    let said = host.portmap(["restore"]).run().succeeds();
    assert!(!said.stderr.contains(lost), "it is the active one now: {said}");
    // As the service does when it is restarted.
    host.apply(&to(4000));
    host.portmap(["clear", "--no-history"]).run().succeeds();
    host.portmap(["restore"]).run().succeeds().says("was active last");
}

#[test]
fn reload_takes_up_the_files_in_etc_and_keeps_them_for_boot() {
    let host = Namespace::new().that_boots();
    let reload = || host.portmap(["reload"]).run();
    let said = reload().succeeds();
    assert!(said.stdout.contains("nothing to restore"), "{said}");
    host.portmap(["apply", "--persist", "-"]).stdin(&to(3000)).run().succeeds();
    host.apply(&to(4000));
    reload().succeeds().says("generation 2 was active last");
    assert_eq!(host.status()["generation"], 1);

    host.file("etc/portmap/web.yaml", &to(5000));
    host.file("etc/portmap/web.yaml.example", "not rules");
    reload().succeeds();
    let status = host.status();
    assert_eq!((&status["generation"], &status["persisted"]), (&json!(3), &json!(3)));
    let said = reload().succeeds();
    assert!(said.stdout.contains("nothing to do"), "{said}");

    let table = host.table();
    host.file("etc/portmap/web.yaml", &to(6000));
    host.file("etc/portmap/wrong.yaml", "ports: { 81: 0 }");
    reload().fails_with(1).says("wrong.yaml");
    assert_eq!((host.table(), &host.status()["persisted"]), (table.clone(), &json!(3)));

    // Nothing is persisted: systemd reloads the unit at boot, which must not apply anything.
    fs::remove_file(host.etc("portmap/wrong.yaml")).unwrap();
    host.portmap(["clear", "--persist"]).run().succeeds();
    reload().succeeds();
    assert_eq!(host.ruleset(), "");
    host.portmap(["rollback"]).run().succeeds();
    host.portmap(["persist"]).run().succeeds();
    assert_eq!(host.table(), table);

    // What a flush has taken comes back, and not what nobody has asked for yet.
    host.nft("flush ruleset");
    reload().succeeds().says("`portmap apply --persist` takes up the files");
    assert_eq!(host.table(), table);
    reload().succeeds();
    assert_eq!(host.status()["persisted"], host.status()["generation"]);
    assert_ne!(host.table(), table);
}
