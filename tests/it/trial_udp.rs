//! A trial ends on time for clients that never stop sending, too: what they are answered by is what
//! the gate says, and not what connection tracking remembers.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::net::UdpAsker;
use crate::support::{Namespace, NoAnswer, World, answer, wait_until};

/// 54 is mapped by the trial alone; there, a server listens on the port itself.
const OLD: &str = "ports: { 53/udp: 5353, 443/udp: 5353, 80: 3000 }";
const NEW: &str = "ports: { 53/udp: 5454, 443/udp: 5454, 54/udp: 5454, 80: 4000 }";

struct Stage {
    world: World,
    clients: Vec<(String, UdpAsker)>,
    _servers: Vec<crate::support::net::Server>,
}

impl Stage {
    fn new() -> Self {
        let world = World::new();
        let host = &world.host;
        let servers = vec![
            host.serve("old", 5353),
            host.serve("old", 54),
            host.serve("new", 5454),
            host.serve("old", 3000),
            host.serve("new", 4000),
        ];
        host.apply(OLD);
        host.file("new.yaml", NEW);
        let outside = [("192.0.2.1", &world.client), ("[2001:db8::1]", &world.client)];
        let here = ["127.0.0.1", "192.0.2.1", "[::1]", "[2001:db8::1]"].map(|a| (a, host));
        let mut clients = Vec::new();
        for (address, place) in [&outside[..], &here].concat() {
            for port in [53, 443, 54] {
                let to = format!("{address}:{port}");
                let source = 40000 + clients.len() as u16;
                clients.push((to.clone(), place.keep_asking_udp(source, &to)));
            }
        }
        let stage = Self { world, clients, _servers: servers };
        stage.all_come_to("old");
        stage
    }

    fn host(&self) -> &Namespace {
        &self.world.host
    }

    fn try_new(&self, time: &str) {
        self.host().portmap(["apply", "--confirm", time, "new.yaml"]).run().succeeds();
    }

    #[track_caller]
    fn all_come_to(&self, name: &str) {
        wait_until("all clients are answered by that server", || {
            self.clients.iter().all(|(_, client)| client.last() == Some(answer(name)))
        });
    }

    /// From now on each client hears this server, from its third question on at the latest.
    #[track_caller]
    fn are_answered_by(&self, name: &str) {
        let now = Instant::now();
        sleep(Duration::from_millis(1500));
        for (to, client) in &self.clients {
            let heard = client.since(now);
            assert!(heard.len() > 4, "{to}: {heard:?}");
            assert!(heard[2..].iter().all(|a| *a == answer(name)), "{to}: {heard:?}");
        }
    }
}

#[test]
fn at_the_end_the_old_target_answers_with_no_process_alive() {
    let stage = Stage::new();
    let start = Instant::now();
    stage.try_new("2s");
    stage.all_come_to("new");
    let generation = stage.host().ruleset_generation();

    sleep((start + Duration::from_secs(3)).saturating_duration_since(Instant::now()));
    stage.are_answered_by("old");
    assert_eq!(stage.host().ruleset_generation(), generation, "nobody has tidied up");

    // The next one meets neither the flows of this one nor its rules.
    stage.try_new("2s");
    stage.all_come_to("new");
    stage.all_come_to("old");
    stage.are_answered_by("old");
}

#[test]
fn confirm_keeps_the_new_target() {
    let stage = Stage::new();
    stage.try_new("1h");
    stage.all_come_to("new");
    stage.host().portmap(["confirm"]).run().succeeds();
    stage.are_answered_by("new");
    let flows = stage.host().conntrack_flows();
    assert!(!flows.iter().any(|flow| flow.contains("zone")), "{flows:#?}");
}

#[test]
fn rollback_goes_back_to_the_old_target() {
    let stage = Stage::new();
    stage.try_new("1h");
    stage.all_come_to("new");
    stage.host().portmap(["rollback"]).run().succeeds();
    stage.are_answered_by("old");
    let flows = stage.host().conntrack_flows();
    assert!(!flows.iter().any(|flow| flow.contains("zone")), "{flows:#?}");
}

/// The service is on trial, but not for this client: both its flows, that of the zone and that from
/// before, have the same reply. The kernel gives one of them another source port.
#[test]
fn a_client_for_whom_nothing_changes_is_served_throughout() {
    let world = World::new();
    let host = &world.host;
    let _servers = [host.serve("old", 5353), host.serve("new", 5454)];
    host.apply("ports: { 53/udp: 5353 }");
    let kept = [world.client.keep_asking_udp(40000, "192.0.2.1:53")];
    let moved = [host.keep_asking_udp(40001, "127.0.0.1:53")];
    let heard = |clients: &[UdpAsker], name: &str| {
        clients.iter().all(|client| client.last() == Some(answer(name)))
    };
    wait_until("both are answered", || heard(&kept, "old") && heard(&moved, "old"));
    let start = Instant::now();
    host.portmap(["apply", "--confirm", "2s", "-"])
        .stdin(
            "ports: [{ port: 53/udp, to: 5353, sources: [192.0.2.2] }, { port: 53/udp, to: 5454 }]",
        )
        .run()
        .succeeds();
    wait_until("the trial is on", || heard(&moved, "new"));
    wait_until("the trial is over", || heard(&moved, "old"));
    sleep(Duration::from_millis(600));
    let outcomes = kept[0].since(start);
    assert!(outcomes.iter().all(|a| *a == answer("old")), "{outcomes:?}");

    // The same, kept: again with flows of the zone that must not be in the way.
    host.portmap(["apply", "--confirm", "1h", "-"])
        .stdin(
            "ports: [{ port: 53/udp, to: 5353, sources: [192.0.2.2] }, { port: 53/udp, to: 5454 }]",
        )
        .run()
        .succeeds();
    wait_until("the trial is on", || heard(&moved, "new"));
    let start = Instant::now();
    host.portmap(["confirm"]).run().succeeds();
    sleep(Duration::from_millis(800));
    for (client, name) in [(&kept[0], "old"), (&moved[0], "new")] {
        let outcomes = client.since(start);
        assert!(outcomes.iter().all(|a| *a == answer(name)), "{outcomes:?}");
    }
}

#[test]
fn a_client_that_is_refused_after_the_trial_is_refused_on_time() {
    let world = World::new();
    let _new = world.host.serve("new", 5454);
    world.host.file("new.yaml", "ports: { 53/udp: 5454 }");
    let client = world.client.keep_asking_udp(40000, "192.0.2.1:53");
    wait_until("nobody listens", || client.last() == Some(Err(NoAnswer::Refused)));
    world.host.portmap(["apply", "--confirm", "2s", "new.yaml"]).run().succeeds();
    wait_until("the trial is on", || client.last() == Some(answer("new")));
    wait_until("the trial is over", || client.last() == Some(Err(NoAnswer::Refused)));
}

/// A connection from before the trial goes on through it, and one of the trial goes on after it.
#[test]
fn connections_are_not_split() {
    let stage = Stage::new();
    let client = &stage.world.client;
    let mut before = client.tcp_connect("192.0.2.1:80").unwrap();
    assert_eq!(before.ask(), answer("old"));
    stage.try_new("2s");
    let mut during = client.tcp_connect("192.0.2.1:80").unwrap();
    assert_eq!((before.ask(), during.ask()), (answer("old"), answer("new")));
    stage.all_come_to("old");
    assert_eq!((before.ask(), during.ask()), (answer("old"), answer("new")));
}
