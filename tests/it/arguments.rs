//! Mappings on the command line, in place of files.

use crate::support::{Namespace, World, answer};

#[test]
fn a_mapping_can_be_given_in_place_of_a_file() {
    let world = World::new();
    let _app = world.host.serve("app", 3000);
    let arguments = ["apply", "80:3000", "53/udp:3000"];
    world.host.portmap(arguments).run().succeeds();
    assert_eq!(world.client.tcp_ask("192.0.2.1:80"), answer("app"));
    assert_eq!(world.client.udp_ask("192.0.2.1:53"), answer("app"));

    let again = world.host.portmap(arguments).run().succeeds();
    assert!(again.stdout.contains("what 80:3000, 53/udp:3000 say\n"), "{again}");
    let plan = world.host.portmap(["plan", "80:3000", "81:3001", "53/udp:3000"]).run().succeeds();
    assert!(plan.stdout.contains("81/tcp -> 3001") && !plan.stdout.contains("80/tcp"), "{plan}");
}

#[test]
fn arguments_and_files_make_one_mapping() {
    let host = Namespace::new();
    host.file("web.yaml", "ports: { 80: 3000 }");
    host.file("443:8443", "ports: { 443: 9443 }");
    let check = |arguments: &[&str]| host.portmap(["check"].iter().chain(arguments)).run();

    check(&["web.yaml", "443:8443", "6000-6003:16000-16003"]).succeeds();
    let rendered = host.portmap(["render", "443:8443"]).run().succeeds();
    assert!(rendered.stdout.contains("8443") && !rendered.stdout.contains("9443"), "{rendered}");
    let rendered = host.portmap(["render", "./443:8443"]).run().succeeds();
    assert!(rendered.stdout.contains("9443"), "{rendered}");

    let twice = check(&["web.yaml", "80:4000"]).fails_with(1);
    assert!(twice.stderr.contains("argument 2:1: error: 80/tcp is mapped twice\n"), "{twice}");
    assert!(twice.stderr.contains("web.yaml:1:10: first mapped here\n"), "{twice}");
}

#[test]
fn what_is_nearly_a_mapping_is_answered_with_one_unless_it_is_a_file() {
    let host = Namespace::new();
    let check = |argument: &str| host.portmap(["check", argument]).run();
    check("80->3000").fails_with(1).says("help: write `80:3000`");
    host.file("80->3000", "ports: { 80: 3000 }");
    check("80->3000").succeeds();
    check("80").fails_with(1).says("`80:3000`");
    check("rules").fails_with(1).says("check the path; a mapping is written as `80:3000`");
}

#[test]
fn a_problem_of_an_argument_has_a_column_and_no_line() {
    let host = Namespace::new();
    let wrong = host.portmap(["-o", "json", "check", "81:3000", "80:70000"]).run().fails_with(1);
    let document: serde_json::Value = serde_json::from_str(&wrong.stderr).expect("JSON");
    let error = &document["errors"][0];
    assert_eq!(error["file"], "argument 2");
    assert_eq!(error["line"], serde_json::Value::Null);
    assert_eq!(error["column"], 4);
}

/// Given a port that needs no privilege, only check says so, and it is never an error.
#[test]
fn a_note_is_only_shown_by_check() {
    let host = Namespace::new();
    let note = "8080 is unprivileged: any user can bind it";
    let run = |arguments: &[&str]| host.portmap(arguments).run().succeeds();
    assert!(run(&["check", "8080:3000"]).stderr.contains(note));
    run(&["check", "--strict", "8080:3000"]);
    let json = run(&["-o", "json", "check", "8080:3000"]).json();
    assert_eq!(
        (&json["warnings"], &json["notes"][0]["message"]),
        (&serde_json::json!([]), &note.into())
    );
    let _app = host.serve("app", 3000);
    for command in ["plan", "apply", "render"] {
        assert_eq!(run(&[command, "8080:3000"]).stderr, "", "{command}");
    }
}
