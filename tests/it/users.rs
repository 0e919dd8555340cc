//! Who may answer, and who may use a target itself: with servers that are processes of
//! several users, asked from outside and here, over IPv4 and IPv6.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use crate::support::net::{Ask, Asker, counts};
use crate::support::{NoAnswer, PATIENCE, World, answer, skip, wait_until};

/// Whose answers are wanted, and somebody else. Numbers that no host gives to anybody.
const RIGHT: u32 = 70001;
const OTHER: u32 = 70002;

/// How long a client waits where it is to hear nothing: the shorter, the sooner it asks again.
const FOR_SILENCE: Duration = Duration::from_millis(300);

/// And where it is to hear something, before it is asked once more: within [`PATIENCE`].
const FOR_AN_ANSWER: Duration = Duration::from_secs(4);

type Answers = Vec<Result<String, NoAnswer>>;

/// What every client in the world hears at these ports, over tcp and udp. Each waits for so long.
fn ask(world: &World, ports: &[u16], patience: Duration) -> Answers {
    let questions = |addresses: &[&str]| -> Vec<Ask> {
        let ports = || ports.iter();
        let places = addresses.iter().flat_map(|a| ports().map(move |port| format!("{a}:{port}")));
        let places = places.map(|place| place.parse().unwrap());
        places.flat_map(|to| [Ask::Tcp(to), Ask::Udp(to)]).collect()
    };
    let outside = questions(&["192.0.2.1", "[2001:db8::1]"]);
    let here = questions(&["127.0.0.1", "192.0.2.1", "[::1]", "[2001:db8::1]"]);
    let mut answers = world.client.ask_all(&outside, patience);
    answers.extend(world.host.ask_all(&here, patience));
    answers
}

#[track_caller]
fn all_hear(world: &World, ports: &[u16], wanted: Result<String, NoAnswer>) {
    wait_until(&format!("every answer at {ports:?} is {wanted:?}"), || {
        ask(world, ports, FOR_AN_ANSWER).iter().all(|heard| *heard == wanted)
    });
}

/// Nobody hears anything from now on.
#[track_caller]
fn nobody_hears(world: &World, ports: &[u16]) {
    for heard in ask(world, ports, FOR_SILENCE) {
        assert_eq!(heard, Err(NoAnswer::TimedOut), "at {ports:?}");
    }
}

#[test]
fn an_impostor_is_not_heard() {
    let world = World::new();
    let host = &world.host;
    host.apply(&format!(
        "ports: {{ 80/tcp+udp: {{ to: 3000, user: {RIGHT} }}, 81/tcp+udp: 3001 }}"
    ));
    let flow = world.client.udp_client(5000, "192.0.2.1:80");
    all_hear(&world, &[80, 81], Err(NoAnswer::Refused));
    {
        let _impostor = host.serve_as(OTHER, "impostor", &[3000, 3001]);
        nobody_hears(&world, &[80]);
        // Who is asked directly, or without a user, is not concerned.
        all_hear(&world, &[81, 3000], answer("impostor"));
    }
    {
        let _right = host.serve_as(RIGHT, "right", &[3000]);
        all_hear(&world, &[80], answer("right"));
        assert_eq!(flow.ask(), answer("right"));
    }
    {
        let _impostor = host.serve_as(OTHER, "impostor", &[3000]);
        nobody_hears(&world, &[80]);
        assert_eq!(flow.ask(), Err(NoAnswer::TimedOut), "nor by who was answered before");
    }
    let _right = host.serve_as(RIGHT, "right", &[3000]);
    all_hear(&world, &[80], answer("right"));
    assert_eq!(flow.ask(), answer("right"));
    let status = host.status();
    for mapping in status["mappings"].as_array().unwrap() {
        let (port, dropped) = (&mapping["port"], &mapping["dropped_answers"]);
        let counted = dropped.as_u64().is_some_and(|n| n > 0);
        assert!(if port == 80 { counted } else { dropped.is_null() }, "{mapping}");
    }
    let text = host.portmap(["status"]).run().succeeds();
    let sentence = "answers of users who may not answer were dropped";
    assert!(text.stdout.contains(sentence), "{text}");
}

/// Every kind of client, at this port. Each waits for so long.
fn askers(
    world: &World,
    port: u16,
    kinds: &[fn(SocketAddr) -> Ask],
    patience: Duration,
) -> Vec<Asker> {
    let outside = ["192.0.2.1", "[2001:db8::1]"].map(|address| (&world.client, address));
    let here = ["127.0.0.1", "[::1]", "192.0.2.1"].map(|address| (&world.host, address));
    let mut askers = Vec::new();
    for (from, address) in outside.into_iter().chain(here) {
        let to = format!("{address}:{port}").parse().unwrap();
        askers.extend(kinds.iter().map(|kind| from.keep_asking(kind(to), patience)));
    }
    askers
}

#[test]
fn an_impostor_gets_nothing_through_while_the_right_one_comes_and_goes() {
    const TURNS: usize = 6;
    let world = World::new();
    let host = &world.host;
    // What 81 hears shows that the impostor answers.
    host.apply(&format!(
        "ports: {{ 80/tcp+udp: {{ to: 3000, user: {RIGHT} }}, 81/tcp+udp: 3000 }}"
    ));
    let guarded = askers(&world, 80, &[Ask::Tcp, Ask::Udp], FOR_SILENCE);
    let open = askers(&world, 81, &[Ask::Tcp, Ask::Udp], FOR_SILENCE);
    for _ in 0..TURNS {
        // Whoever is first has the port, and the other waits for the next moment without it.
        let mut right = None;
        wait_until("the right one has its port", || {
            right = host.try_serve_as(RIGHT, "right", &[3000]);
            right.is_some()
        });
        guarded.iter().for_each(|asker| asker.wait_to_hear(&answer("right")));
        drop(right);
        let mut impostor = None;
        wait_until("the impostor has the port", || {
            impostor = host.try_serve_as(OTHER, "impostor", &[3000]);
            impostor.is_some()
        });
        open.iter().for_each(|asker| asker.wait_to_hear(&answer("impostor")));
        guarded.iter().for_each(|asker| asker.wait_for(1));
    }
    for (nth, asker) in guarded.into_iter().enumerate() {
        let outcomes = asker.stop();
        let counts = counts(&outcomes);
        assert_eq!(counts.get(&answer("impostor")), None, "{nth}: {counts:?}");
        assert!(counts.get(&answer("right")).is_some_and(|n| *n >= TURNS), "{nth}: {counts:?}");
    }
}

#[test]
fn one_service_may_have_several_users() {
    let world = World::new();
    let host = &world.host;
    host.apply(&format!(
        "ports: [{{ port: 80, to: 3000, scope: local, user: {RIGHT} }},
                 {{ port: 80, to: 4000, scope: external, user: {OTHER} }}]"
    ));
    let servers = [host.serve_as(RIGHT, "here", &[3000]), host.serve_as(OTHER, "outside", &[4000])];
    assert_eq!(host.tcp_ask("127.0.0.1:80"), answer("here"));
    assert_eq!(world.client.tcp_ask("192.0.2.1:80"), answer("outside"));
    drop(servers);
    let _exchanged =
        [host.serve_as(OTHER, "here", &[3000]), host.serve_as(RIGHT, "outside", &[4000])];
    assert_eq!(ask(&world, &[80], FOR_SILENCE).iter().filter(|heard| heard.is_ok()).count(), 0);
}

#[test]
fn no_connection_of_the_right_user_is_lost() {
    let world = World::new();
    let host = &world.host;
    let rules = |comment: &str| {
        format!("ports: {{ 80/tcp+udp: {{ to: 3000, user: {RIGHT}, comment: {comment} }} }}")
    };
    host.apply(&rules("first"));
    let mut right = host.serve_as(RIGHT, "right", &[3000]);
    // A connection whose first answer is dropped is made a second later all the same: no answer may
    // be dropped.
    let none_is_lost = |askers: Vec<Asker>| {
        for asker in askers {
            asker.wait_for(50);
            let outcomes = asker.stop();
            let counts = counts(&outcomes);
            assert!(outcomes.iter().all(|outcome| *outcome == answer("right")), "{counts:?}");
        }
        let mappings = host.status()["mappings"].take();
        for mapping in mappings.as_array().unwrap() {
            assert_eq!(mapping["dropped_answers"], 0, "{mapping}");
        }
    };
    let all = askers(&world, 80, &[Ask::Tcp, Ask::Udp], PATIENCE);
    for comment in ["second", "third", "fourth"] {
        all.iter().for_each(|asker| asker.wait_for(50));
        host.apply(&rules(comment));
    }
    none_is_lost(all);

    // The app restarts as one does that loses nobody: another process of the same user listens
    // beside it, and takes over who waits in its queue when it closes (Linux 5.14).
    if !host.hands_over_its_queue() {
        skip(
            "this kernel cannot give who waits at a socket that closes to another one (Linux 5.14)",
        );
        return;
    }
    let all = askers(&world, 80, &[Ask::Tcp], PATIENCE);
    for comment in ["fifth", "sixth", "seventh", "eighth"] {
        all.iter().for_each(|asker| asker.wait_for(50));
        let next = host.serve_as(RIGHT, "right", &[3000]);
        host.apply(&rules(comment));
        right.retire();
        right = next;
    }
    none_is_lost(all);
}

#[test]
fn a_user_who_gets_another_number_is_noticed() {
    let world = World::new().that_boots();
    let host = &world.host;
    let passwd = |uid: u32| format!("root:x:0:0::/root:/bin/sh\napp:x:{uid}:{uid}::/:/bin/false\n");
    let rules = host.file("rules.yaml", "ports: { 80/tcp+udp: { to: 3000, user: app } }");
    let apply = || {
        let output = host.portmap(["apply", "--output", "json", rules.to_str().unwrap()]).run();
        let said: serde_json::Value = serde_json::from_str(&output.succeeds().stdout).unwrap();
        said["changed"].as_bool().unwrap()
    };
    let _right = host.serve_as(RIGHT, "right", &[3000]);
    fs::write(host.etc("passwd"), passwd(OTHER)).unwrap();
    assert_eq!((apply(), apply()), (true, false));
    nobody_hears(&world, &[80]);
    fs::write(host.etc("passwd"), passwd(RIGHT)).unwrap();
    assert_eq!((apply(), apply()), (true, false));
    all_hear(&world, &[80], answer("right"));
    // However the file spells it.
    fs::write(&rules, r#"ports: { 80/tcp+udp: { to: 3000, "u\x73er": app } }"#).unwrap();
    assert!(!apply());
    fs::write(host.etc("passwd"), passwd(OTHER)).unwrap();
    assert_eq!((apply(), apply()), (true, false));
    nobody_hears(&world, &[80]);
}

#[test]
fn a_hidden_target_is_refused_to_others() {
    let world = World::new();
    let host = &world.host;
    let _app = host.serve_as(RIGHT, "app", &[3000]);
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
    let _right = host.serve_as(RIGHT, "right", &[3000]);
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

#[test]
fn what_was_stopped_goes_on_being_counted() {
    let world = World::new();
    let host = &world.host;
    let rules = |uid: u32, comment: &str| {
        format!(
            "ports: {{ 80: {{ to: 3000, user: {uid}, direct: refuse, comment: {comment} }},
                       81: {{ to: 3001, user: {RIGHT} }} }}"
        )
    };
    host.apply(&rules(RIGHT, "first"));
    let _impostor = host.serve_as(OTHER, "impostor", &[3000]);
    let ask = || {
        let heard = host.ask_all(&[Ask::Tcp("127.0.0.1:80".parse().unwrap())], FOR_SILENCE);
        assert_eq!(heard, [Err(NoAnswer::TimedOut)]);
        assert_eq!(world.client.tcp_ask("192.0.2.1:3000"), Err(NoAnswer::Refused));
    };
    let stopped = || {
        let mapping = &host.status()["mappings"][0];
        ["dropped_answers", "refused_directly"].map(|what| mapping[what].as_u64().unwrap())
    };
    ask();
    // The kernel of the one who listens answers once more after a second.
    let before = stopped();
    assert!(before.iter().all(|count| *count > 0), "{before:?}");
    let is_kept = |before: [u64; 2], what: &str| {
        let now = stopped();
        assert!(now.iter().zip(before).all(|(now, before)| *now >= before), "{what}: {now:?}");
        now
    };
    // The table is made anew.
    host.nft("add chain inet portmap somebodys");
    host.apply(&rules(RIGHT, "second"));
    let before = is_kept(before, "made anew");
    // Those of a trial are added when it is confirmed.
    let trial = host.file("trial.yaml", &rules(RIGHT, "third"));
    let trial = trial.to_str().unwrap();
    host.portmap(["apply", "--confirm", "1h", trial]).run().succeeds();
    ask();
    host.portmap(["confirm"]).run().succeeds();
    let [_, refused] = is_kept([before[0] + 1, before[1] + 1], "confirmed");
    assert_eq!(refused, before[1] + 1);
}
