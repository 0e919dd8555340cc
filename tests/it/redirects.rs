//! Given this file, this client gets that answer.

use crate::support::Listen::{Tcp, Udp};
use crate::support::{Namespace, NoAnswer, World, answer};

const REFUSED: Result<String, NoAnswer> = Err(NoAnswer::Refused);

/// How a client may call the host: over the veth pair, and from the host itself.
const FROM_OUTSIDE: [&str; 2] = ["192.0.2.1", "[2001:db8::1]"];
const FROM_ITSELF: [&str; 4] = ["127.0.0.1", "[::1]", "192.0.2.1", "[2001:db8::1]"];

#[track_caller]
fn tcp(client: &Namespace, hosts: &[&str], port: u16, expected: Result<String, NoAnswer>) {
    for host in hosts {
        assert_eq!(client.tcp_ask(&format!("{host}:{port}")), expected, "tcp to {host}:{port}");
    }
}

#[track_caller]
fn udp(client: &Namespace, hosts: &[&str], port: u16, expected: Result<String, NoAnswer>) {
    for host in hosts {
        assert_eq!(client.udp_ask(&format!("{host}:{port}")), expected, "udp to {host}:{port}");
    }
}

#[test]
fn a_plain_mapping_serves_everybody() {
    let world = World::new();
    let (_web, _dns) = (world.host.serve("web", 3000), world.host.serve("dns", 5353));

    world.host.apply(
        "ports:
           80: 3000
           53/udp: 5353",
    );

    tcp(&world.client, &FROM_OUTSIDE, 80, answer("web"));
    udp(&world.client, &FROM_OUTSIDE, 53, answer("dns"));
    tcp(&world.host, &FROM_ITSELF, 80, answer("web"));
    udp(&world.host, &FROM_ITSELF, 53, answer("dns"));
}

#[test]
fn a_protocol_that_is_not_named_is_not_redirected() {
    let world = World::new();
    let (_web, _dns) = (world.host.serve("web", 3000), world.host.serve("dns", 5353));

    world.host.apply(
        "ports:
           80: 3000
           53/udp: 5353",
    );

    udp(&world.client, &FROM_OUTSIDE, 80, REFUSED);
    tcp(&world.client, &FROM_OUTSIDE, 53, REFUSED);
}

#[test]
fn two_protocols_can_share_an_entry() {
    let world = World::new();
    let _log = world.host.serve("log", 5514);

    world.host.apply("ports: { 514/tcp+udp: 5514 }");

    tcp(&world.client, &FROM_OUTSIDE, 514, answer("log"));
    udp(&world.client, &FROM_OUTSIDE, 514, answer("log"));
}

#[test]
fn the_app_sees_the_clients_address() {
    let world = World::new();
    let _app = world.host.serve("app", 3000);

    world.host.apply("ports: { 80/tcp+udp: 3000 }");

    assert_eq!(world.client.tcp_seen_as("192.0.2.1:80"), Ok("192.0.2.2".parse().unwrap()));
    assert_eq!(world.client.udp_seen_as("[2001:db8::1]:80"), Ok("2001:db8::2".parse().unwrap()));
}

#[test]
fn rules_are_read_from_standard_input_and_from_directories() {
    let world = World::new();
    let (_web, _tls) = (world.host.serve("web", 3000), world.host.serve("tls", 8443));

    world.host.portmap(["apply", "-"]).stdin("ports: { 80: 3000 }").run().succeeds();
    tcp(&world.client, &FROM_OUTSIDE, 80, answer("web"));
    tcp(&world.client, &FROM_OUTSIDE, 443, REFUSED);

    world.host.file("rules.d/10-web.yaml", "ports: { 80: 3000 }");
    world.host.file("rules.d/20-tls.yml", "ports: { 443: 8443 }");
    world.host.file("rules.d/30-not-rules.txt", "ports: { 80: 4000 }");
    world.host.portmap(["apply", "rules.d"]).run().succeeds();
    tcp(&world.client, &FROM_OUTSIDE, 80, answer("web"));
    tcp(&world.client, &FROM_OUTSIDE, 443, answer("tls"));
}

#[test]
fn scope_external_leaves_this_machines_own_clients_alone() {
    let world = World::new();
    let _app = world.host.serve("app", 3000);

    world.host.apply("ports: { 80: { to: 3000, scope: external } }");

    tcp(&world.client, &FROM_OUTSIDE, 80, answer("app"));
    tcp(&world.host, &FROM_ITSELF, 80, REFUSED);
}

#[test]
fn scope_local_leaves_clients_outside_alone() {
    let world = World::new();
    let _app = world.host.serve("app", 3000);

    world.host.apply("ports: { 80: { to: 3000, scope: local } }");

    tcp(&world.host, &FROM_ITSELF, 80, answer("app"));
    tcp(&world.client, &FROM_OUTSIDE, 80, REFUSED);
}

#[test]
fn each_scope_can_have_its_own_target() {
    let world = World::new();
    let (_app, _admin) = (world.host.serve("app", 3000), world.host.serve("admin", 4000));

    world.host.apply(
        "ports:
           - { port: 80, to: 3000, scope: external }
           - { port: 80, to: 4000, scope: local }",
    );

    tcp(&world.client, &FROM_OUTSIDE, 80, answer("app"));
    tcp(&world.host, &FROM_ITSELF, 80, answer("admin"));
}

#[test]
fn a_family_that_is_not_named_is_not_redirected() {
    let world = World::new();
    let _app = world.host.serve("app", 3000);

    world.host.apply("ports: { 80: { to: 3000, families: [ipv4] } }");
    tcp(&world.client, &["192.0.2.1"], 80, answer("app"));
    tcp(&world.host, &["127.0.0.1", "192.0.2.1"], 80, answer("app"));
    tcp(&world.client, &["[2001:db8::1]"], 80, REFUSED);
    tcp(&world.host, &["[::1]", "[2001:db8::1]"], 80, REFUSED);

    world.host.apply("ports: { 80: { to: 3000, families: [ipv6] } }");
    tcp(&world.client, &["192.0.2.1"], 80, REFUSED);
    tcp(&world.client, &["[2001:db8::1]"], 80, answer("app"));
}

#[test]
fn defaults_hold_for_entries_that_do_not_say_otherwise() {
    let world = World::new();
    let _app = world.host.serve("app", 3000);

    world.host.apply(
        "
ports:
  80: 3000
  81: { to: 3000, families: [ipv6] }
defaults:
  families: [ipv4]
",
    );

    tcp(&world.client, &["192.0.2.1"], 80, answer("app"));
    tcp(&world.client, &["[2001:db8::1]"], 80, REFUSED);
    tcp(&world.client, &["192.0.2.1"], 81, REFUSED);
    tcp(&world.client, &["[2001:db8::1]"], 81, answer("app"));
}

#[test]
fn an_interface_is_matched_by_name() {
    let world = World::new().with_second_link();
    let _app = world.host.serve("app", 3000);

    world.host.apply("ports: { 80: { to: 3000, interfaces: [eth0] } }");

    tcp(&world.client, &["192.0.2.1", "[2001:db8::1]"], 80, answer("app"));
    tcp(&world.client, &["198.51.100.1", "[2001:db8:1::1]"], 80, REFUSED);
    tcp(&world.host, &FROM_ITSELF, 80, REFUSED);
}

#[test]
fn an_interface_is_matched_by_the_beginning_of_its_name() {
    let world = World::new().with_second_link();
    let _app = world.host.serve("app", 3000);

    world.host.apply("ports: { 80: { to: 3000, interfaces: [\"wg*\"] } }");

    tcp(&world.client, &["192.0.2.1", "[2001:db8::1]"], 80, REFUSED);
    tcp(&world.client, &["198.51.100.1", "[2001:db8:1::1]"], 80, answer("app"));
}

#[test]
fn a_source_is_where_the_client_is() {
    let world = World::new().with_behind();
    let _app = world.host.serve("app", 3000);

    world.host.apply("ports: { 80: { to: 3000, sources: [203.0.113.0/24, 2001:db8:2::/64] } }");

    tcp(world.behind(), &FROM_OUTSIDE, 80, answer("app"));
    tcp(&world.client, &FROM_OUTSIDE, 80, REFUSED);
    tcp(&world.host, &["127.0.0.1", "[::1]"], 80, REFUSED);
}

#[test]
fn an_address_is_the_one_that_the_client_called() {
    let world = World::new().with_address("192.0.2.10/24").with_address("2001:db8::10/64");
    // A UDP server that is to answer from a second address must listen on it.
    let udp_places = ["192.0.2.1", "192.0.2.10", "[2001:db8::10]"].map(|a| format!("{a}:3000"));
    let places: Vec<_> = udp_places.iter().map(|place| Udp(place)).collect();
    let _app = world.host.serve_at("app", &[&[Tcp("[::]:3000")], &places[..]].concat());

    world
        .host
        .apply("ports: { 80/tcp+udp: { to: 3000, addresses: [192.0.2.10, \"2001:db8::10\"] } }");

    for who in [&world.client, &world.host] {
        tcp(who, &["192.0.2.10", "[2001:db8::10]"], 80, answer("app"));
        udp(who, &["192.0.2.10", "[2001:db8::10]"], 80, answer("app"));
        tcp(who, &["192.0.2.1", "[2001:db8::1]"], 80, REFUSED);
    }
}

#[test]
fn the_first_entry_that_matches_wins() {
    let world = World::new().with_second_link().with_behind();
    let _servers = [
        world.host.serve("vpn app", 4000),
        world.host.serve("app for one", 5000),
        world.host.serve("app for the net", 6000),
        world.host.serve("app", 3000),
    ];

    world.host.apply(
        "ports:
           - { port: 80, to: 4000, interfaces: [\"wg*\"] }
           - { port: 80, to: 5000, sources: [192.0.2.2/32] }
           - { port: 80, to: 6000, sources: [192.0.2.0/24] }
           - { port: 80, to: 3000 }",
    );

    tcp(&world.client, &["198.51.100.1", "[2001:db8:1::1]"], 80, answer("vpn app"));
    tcp(&world.client, &["192.0.2.1"], 80, answer("app for one"));
    tcp(&world.host, &["192.0.2.1"], 80, answer("app for the net"));
    tcp(&world.client, &["[2001:db8::1]"], 80, answer("app"));
    tcp(world.behind(), &FROM_OUTSIDE, 80, answer("app"));
    tcp(&world.host, &["127.0.0.1", "[::1]"], 80, answer("app"));
}

#[test]
fn the_same_entries_in_another_order_mean_something_else() {
    let world = World::new();
    let (_one, _net) = (world.host.serve("one", 5000), world.host.serve("net", 6000));
    let narrow = "- { port: 80, to: 5000, sources: [192.0.2.2/32] }";
    let wide = "- { port: 80, to: 6000, addresses: [192.0.2.1/32] }";

    world.host.apply(&format!("ports:\n  {narrow}\n  {wide}\n"));
    tcp(&world.client, &["192.0.2.1"], 80, answer("one"));

    world.host.apply(&format!("ports:\n  {wide}\n  {narrow}\n"));
    tcp(&world.client, &["192.0.2.1"], 80, answer("net"));
}

#[test]
fn a_range_is_mapped_one_to_one() {
    let world = World::new();
    let _servers: Vec<_> =
        (16000..=16003).map(|port| world.host.serve(&format!("app on {port}"), port)).collect();

    world.host.apply("ports: { 6000-6003: 16000-16003 }");

    for port in 6000..=6003 {
        let expected = answer(&format!("app on {}", port + 10000));
        tcp(&world.client, &FROM_OUTSIDE, port, expected.clone());
        tcp(&world.host, &FROM_ITSELF, port, expected);
    }
    tcp(&world.client, &FROM_OUTSIDE, 5999, REFUSED);
    tcp(&world.client, &FROM_OUTSIDE, 6004, REFUSED);
}

#[test]
fn other_machines_are_left_alone() {
    let world = World::new().with_behind();
    let _app = world.host.serve("app", 3000);
    let _client = world.client.serve("client's own", 80);
    let _behind = world.behind().serve("other machine", 80);

    world.host.apply(
        "ports:
           - { port: 80/tcp+udp, to: 4000, sources: [198.51.100.0/24] }
           - { port: 80/tcp+udp, to: 3000 }",
    );

    let behind = ["203.0.113.2", "[2001:db8:2::2]"];
    tcp(&world.client, &behind, 80, answer("other machine"));
    udp(&world.client, &behind, 80, answer("other machine"));
    let client = ["192.0.2.2", "[2001:db8::2]"];
    tcp(&world.host, &client, 80, answer("client's own"));
    udp(&world.host, &client, 80, answer("client's own"));
    tcp(&world.client, &["203.0.113.1", "[2001:db8:2::1]"], 80, answer("app"));
}

#[test]
fn a_port_that_is_not_mapped_works_as_before() {
    let world = World::new();
    let _app = world.host.serve("app", 3000);
    let _ssh = world.host.serve_at("ssh", &[Tcp("[::]:22"), Udp("[::]:22")]);

    world.host.apply("ports: { 80: 3000 }");

    tcp(&world.client, &FROM_OUTSIDE, 22, answer("ssh"));
    udp(&world.client, &FROM_OUTSIDE, 22, answer("ssh"));
    tcp(&world.client, &FROM_OUTSIDE, 3000, answer("app"));
    tcp(&world.host, &FROM_ITSELF, 22, answer("ssh"));
}
