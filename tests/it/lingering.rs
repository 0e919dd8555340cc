//! Connections through a mapping that goes: every command but `clear` leaves them alone, and
//! `clear` says first how many it cuts. Nothing else in these namespaces keeps connection tracking
//! awake.

use crate::support::net::TcpConnection;
use crate::support::{Namespace, NoAnswer, World, answer, wait_until};

const RULES: &str = "ports: { 80: 3000 }";

/// From outside by IPv4 and IPv6, and from the host itself.
fn connect(world: &World) -> Vec<TcpConnection> {
    let outside = ["192.0.2.1:80", "[2001:db8::1]:80"].map(|to| world.client.tcp_connect(to));
    let here = world.host.tcp_connect("127.0.0.1:80");
    outside.into_iter().chain([here]).map(Result::unwrap).collect()
}

#[track_caller]
fn all_answer(connections: &mut [TcpConnection]) {
    for connection in connections {
        assert_eq!(connection.ask(), answer("app"));
    }
}

/// Nothing is mapped, but `connections` go on; the first command after their end removes the table.
#[track_caller]
fn they_go_on_and_the_table_goes_after_them(world: &World, mut connections: Vec<TcpConnection>) {
    all_answer(&mut connections);
    assert_eq!(world.client.tcp_ask("192.0.2.1:80"), Err(NoAnswer::Refused));
    let tidies = || {
        world.host.portmap(["persist"]).run();
        world.host.ruleset().is_empty()
    };
    assert!(!tidies());
    all_answer(&mut connections);
    assert_eq!(world.host.status()["drift"], serde_json::Value::Null);
    drop(connections);
    wait_until("the table goes", tidies);
}

#[test]
fn connections_survive_a_rollback_to_nothing() {
    let world = World::new();
    let _app = world.host.serve("app", 3000);
    world.host.apply(RULES);
    let mut connections = connect(&world);
    all_answer(&mut connections);
    let said = world.host.portmap(["rollback"]).run().succeeds();
    assert!(said.stderr.contains("established connections go on"), "{said}");
    they_go_on_and_the_table_goes_after_them(&world, connections);
}

#[test]
fn connections_survive_the_end_of_a_trial_from_nothing() {
    for expires in [true, false] {
        let world = World::new();
        let host = &world.host;
        let _app = host.serve("app", 3000);
        host.file("rules.yaml", RULES);
        let time = if expires { "2s" } else { "1h" };
        host.portmap(["apply", "--confirm", time, "rules.yaml"]).run().succeeds();
        let mut connections = connect(&world);
        all_answer(&mut connections);
        if expires {
            wait_until("the trial ends", || host.status()["trial"]["left_seconds"] == 0.0);
            all_answer(&mut connections);
        } else {
            host.portmap(["rollback"]).run().succeeds();
        }
        they_go_on_and_the_table_goes_after_them(&world, connections);
        assert_eq!(host.states(), ["1 reverted"]);
    }
}

#[test]
fn clear_says_how_many_connections_it_cuts() {
    let world = World::new();
    let host = &world.host;
    let _app = host.serve("app", 3000);
    host.apply(RULES);
    let mut connections = connect(&world);
    all_answer(&mut connections);
    host.portmap(["clear", "--dry-run"]).run().succeeds().says("3 established connections");
    all_answer(&mut connections);
    host.portmap(["clear"]).run().succeeds().says("3 established connections");
    assert_eq!(host.ruleset(), "");
    for connection in &mut connections {
        assert_ne!(connection.ask(), answer("app"));
    }
}

#[test]
fn where_no_connection_is_cut_clear_says_nothing() {
    let host = Namespace::new();
    let _app = host.serve("app", 3000);
    host.apply(RULES);
    let mut past_the_mapping = host.tcp_connect("127.0.0.1:3000").unwrap();
    let said = host.portmap(["clear"]).run().succeeds();
    assert_eq!(said.stderr, "", "{said}");
    assert_eq!(past_the_mapping.ask(), answer("app"));
}
