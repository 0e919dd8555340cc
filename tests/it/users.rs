//! Who may answer, and who may use a target itself: with servers of several users, asked from
//! outside and here, over IPv4 and IPv6.

use std::time::Duration;

use crate::support::net::{Ask, Server};
use crate::support::{Namespace, NoAnswer, World, answer, wait_until};

/// Whose answers are wanted, and somebody else. Numbers that no host gives to anybody.
const RIGHT: u32 = 70001;
const OTHER: u32 = 70002;

type Answers = Vec<Result<String, NoAnswer>>;

/// What every client in the world hears at these ports, over tcp and udp. Silence is waited for
/// only briefly.
fn ask(world: &World, ports: &[u16]) -> Answers {
    let questions = |addresses: &[&str]| -> Vec<Ask> {
        let ports = || ports.iter();
        let places = addresses.iter().flat_map(|a| ports().map(move |port| format!("{a}:{port}")));
        let places = places.map(|place| place.parse().unwrap());
        places.flat_map(|to| [Ask::Tcp(to), Ask::Udp(to)]).collect()
    };
    let patience = Duration::from_millis(300);
    let outside = questions(&["192.0.2.1", "[2001:db8::1]"]);
    let here = questions(&["127.0.0.1", "192.0.2.1", "[::1]", "[2001:db8::1]"]);
    let mut answers = world.client.ask_all(&outside, patience);
    answers.extend(world.host.ask_all(&here, patience));
    answers
}

#[track_caller]
fn all_hear(world: &World, ports: &[u16], wanted: Result<String, NoAnswer>) {
    wait_until(&format!("every answer at {ports:?} is {wanted:?}"), || {
        ask(world, ports).iter().all(|heard| *heard == wanted)
    });
}

/// Nobody hears anything from now on.
#[track_caller]
fn nobody_hears(world: &World, ports: &[u16]) {
    for heard in ask(world, ports) {
        assert_eq!(heard, Err(NoAnswer::TimedOut), "at {ports:?}");
    }
}

fn serve(host: &Namespace, uid: u32, name: &str, ports: &[u16]) -> Vec<Server> {
    ports.iter().map(|port| host.serve_as(uid, name, *port)).collect()
}

#[test]
fn an_impostor_is_not_heard() {
    let world = World::new();
    let host = &world.host;
    host.apply(&format!(
        "ports: {{ 80/tcp+udp: {{ to: 3000, user: {RIGHT} }}, 81/tcp+udp: 3001 }}"
    ));
    all_hear(&world, &[80, 81], Err(NoAnswer::Refused));
    {
        let _impostor = serve(host, OTHER, "impostor", &[3000, 3001]);
        nobody_hears(&world, &[80]);
        // Who is asked directly, or without a user, is not concerned.
        all_hear(&world, &[81, 3000], answer("impostor"));
    }
    {
        let _right = serve(host, RIGHT, "right", &[3000]);
        all_hear(&world, &[80], answer("right"));
    }
    {
        let _impostor = serve(host, OTHER, "impostor", &[3000]);
        nobody_hears(&world, &[80]);
    }
    let _right = serve(host, RIGHT, "right", &[3000]);
    all_hear(&world, &[80], answer("right"));
    let status = host.status();
    for mapping in status["mappings"].as_array().unwrap() {
        let (port, dropped) = (&mapping["port"], &mapping["dropped_answers"]);
        let counted = dropped.as_u64().is_some_and(|n| n > 0);
        assert!(if port == 80 { counted } else { dropped.is_null() }, "{mapping}");
    }
    let text = host.portmap(["status"]).run().succeeds();
    let sentence = format!("answers of another user than {RIGHT} were dropped");
    assert!(text.stdout.contains(&sentence), "{text}");
}

#[test]
fn one_service_may_have_several_users() {
    let world = World::new();
    let host = &world.host;
    host.apply(&format!(
        "ports: [{{ port: 80, to: 3000, scope: local, user: {RIGHT} }},
                 {{ port: 80, to: 4000, scope: external, user: {OTHER} }}]"
    ));
    let _servers = [host.serve_as(RIGHT, "here", 3000), host.serve_as(OTHER, "outside", 4000)];
    assert_eq!(host.tcp_ask("127.0.0.1:80"), answer("here"));
    assert_eq!(world.client.tcp_ask("192.0.2.1:80"), answer("outside"));
    drop(_servers);
    let _exchanged = [host.serve_as(OTHER, "here", 3000), host.serve_as(RIGHT, "outside", 4000)];
    assert_eq!(ask(&world, &[80]).iter().filter(|heard| heard.is_ok()).count(), 0);
}

#[test]
fn no_connection_of_the_right_user_is_lost() {
    let world = World::new();
    let host = &world.host;
    let rules = |comment: &str| {
        format!("ports: {{ 80: {{ to: 3000, user: {RIGHT}, comment: {comment} }} }}")
    };
    host.apply(&rules("first"));
    let _right = host.serve_as(RIGHT, "right", 3000);
    let askers = [
        host.keep_asking_tcp("127.0.0.1:80"),
        host.keep_asking_tcp("[::1]:80"),
        world.client.keep_asking_tcp("192.0.2.1:80"),
    ];
    for comment in ["second", "third", "fourth"] {
        askers.iter().for_each(|asker| asker.wait_for(50));
        host.apply(&rules(comment));
    }
    for asker in askers {
        asker.wait_for(50);
        let lost: Vec<_> = asker.stop().into_iter().filter(|o| *o != answer("right")).collect();
        assert_eq!(lost, []);
    }
}

#[test]
fn a_hidden_target_is_refused_to_others() {
    let world = World::new();
    let host = &world.host;
    let _servers = serve(host, RIGHT, "app", &[3000]);
    let kept = world.client.tcp_connect("192.0.2.1:3000");
    host.apply("ports: { 80/tcp+udp: { to: 3000, direct: refuse } }");
    all_hear(&world, &[80], answer("app"));
    for address in ["192.0.2.1:3000", "[2001:db8::1]:3000"] {
        assert_eq!(world.client.tcp_ask(address), Err(NoAnswer::Refused), "tcp {address}");
        assert_eq!(world.client.udp_ask(address), Err(NoAnswer::Refused), "udp {address}");
    }
    for address in ["127.0.0.1:3000", "192.0.2.1:3000", "[::1]:3000"] {
        assert_eq!(host.tcp_ask(address), answer("app"), "tcp {address}");
        assert_eq!(host.udp_ask(address), answer("app"), "udp {address}");
    }
    assert_eq!(kept.unwrap().ask(), answer("app"), "a connection from before goes on");
    let status = host.status();
    assert_eq!(status["mappings"][0]["refused_directly"], 2, "{status}");
    host.apply("ports: { 80/tcp+udp: 3000 }");
    all_hear(&world, &[3000], answer("app"));
    assert!(!host.table().contains("hook input"), "{}", host.table());
}

#[test]
fn a_trial_of_users_ends_by_itself() {
    let world = World::new();
    let host = &world.host;
    let rules = |uid, direct| {
        format!("ports: {{ 80/tcp+udp: {{ to: 3000, user: {uid}, direct: {direct} }} }}")
    };
    host.apply(&rules(RIGHT, "allow"));
    let _right = serve(host, RIGHT, "right", &[3000]);
    all_hear(&world, &[80], answer("right"));
    let new = host.file("new.yaml", &rules(OTHER, "refuse"));
    let new = new.to_str().unwrap();
    host.portmap(["apply", "--confirm", "1h", new]).run().succeeds();
    nobody_hears(&world, &[80]);
    assert_eq!(world.client.tcp_ask("192.0.2.1:3000"), Err(NoAnswer::Refused));
    host.portmap(["rollback"]).run().succeeds();
    all_hear(&world, &[80, 3000], answer("right"));
    // No process ends this one.
    host.portmap(["apply", "--confirm", "1s", new]).run().succeeds();
    all_hear(&world, &[80, 3000], answer("right"));
    host.portmap(["apply", "--confirm", "1h", new]).run().succeeds();
    host.portmap(["confirm"]).run().succeeds();
    nobody_hears(&world, &[80]);
    host.portmap(["rollback"]).run().succeeds();
    all_hear(&world, &[80, 3000], answer("right"));
}

#[test]
fn what_somebody_takes_out_of_the_table_is_seen_and_put_back() {
    let world = World::new();
    let host = &world.host;
    let rules = format!("ports: {{ 80: {{ to: 3000, user: {RIGHT}, direct: refuse }} }}");
    host.apply(&rules);
    let before = host.blocks();
    for change in [
        "flush chain inet portmap answers",
        "flush chain inet portmap direct",
        "flush set inet portmap guarded",
        "flush set inet portmap served",
        "add element inet portmap served { tcp . 80 . 3000 . 5 }",
        "insert rule inet portmap answers accept",
    ] {
        host.nft(change);
        assert!(!host.status()["drift"].is_null(), "{change}");
        host.apply(&rules);
        assert_eq!(host.blocks(), before, "{change}");
    }
}
