//! A mapping on trial: the kernel goes back by itself, on time, whatever has become of portmap.

use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::net::counts;
use crate::support::{Listen, Namespace, NoAnswer, World, answer, wait_until};

const OLD: &str = "ports: { 80: 3000, 81: 3000 }";
/// Changes 80, removes 81, adds 82.
const NEW: &str = "ports: { 80: 4000, 82: 4000 }";

/// What the client gets at ports 80, 81, 82.
fn answers(world: &World) -> [Result<String, NoAnswer>; 3] {
    [80, 81, 82].map(|port| world.client.tcp_ask(&format!("192.0.2.1:{port}")))
}

fn old_answers() -> [Result<String, NoAnswer>; 3] {
    [answer("old"), answer("old"), Err(NoAnswer::Refused)]
}

fn new_answers() -> [Result<String, NoAnswer>; 3] {
    [answer("new"), Err(NoAnswer::Refused), answer("new")]
}

struct Stage {
    world: World,
    _servers: [crate::support::net::Server; 2],
}

impl Stage {
    /// The old mapping is active, and both servers run.
    fn new() -> Self {
        let world = World::new().that_boots();
        let servers = [world.host.serve("old", 3000), world.host.serve("new", 4000)];
        world.host.apply(OLD);
        world.host.file("new.yaml", NEW);
        Self { world, _servers: servers }
    }
}

#[test]
fn the_kernel_goes_back_on_time_with_no_process_alive() {
    let Stage { world, _servers } = Stage::new();
    let host = &world.host;
    let log = host.file("monitor", "");
    let mut monitor = host.command("nft");
    monitor.arg("monitor").stdout(std::fs::File::create(&log).unwrap()).stderr(Stdio::null());
    let mut monitor = monitor.spawn().unwrap();
    let seen = || std::fs::read_to_string(&log).unwrap();
    let mut mark = 0;
    wait_until("nft monitor listens", || {
        mark += 1;
        host.nft(&format!("add table inet mark{mark}"));
        seen().contains("mark")
    });

    let start = Instant::now();
    let mut terminal = host.portmap(["apply", "--confirm", "2s", "new.yaml"]).at_terminal();
    terminal.shows("2 s left");
    terminal.kill();
    let committed = Instant::now();
    assert_eq!(answers(&world), new_answers());
    let generation = host.ruleset_generation();
    wait_until("the commit is in the log", || seen().contains("trial"));
    let before = seen();
    wait_until("the old mapping serves again", || answers(&world)[0] == answer("old"));
    let back = Instant::now();
    assert_eq!(answers(&world), old_answers());
    assert!(back >= start + Duration::from_secs(2), "too early: {:?}", back - start);
    assert!(back <= committed + Duration::from_secs(3), "too late: {:?}", back - committed);

    assert_eq!(host.ruleset_generation(), generation);
    host.nft("add table inet finally");
    wait_until("nft monitor tells of the mark", || seen().contains("finally"));
    let log = seen();
    let (between, _) = log[before.len()..].split_once("add table inet finally").unwrap();
    assert!(!between.contains("new generation"), "a commit: {between}");
    monitor.kill().unwrap();
    monitor.wait().unwrap();

    assert_eq!(host.states(), ["1 active", "2 reverted"]);
    let table_with_both = host.layout();
    host.portmap(["persist"]).run().succeeds();
    assert_ne!(host.layout(), table_with_both, "the next command tidies up");
    assert_eq!(host.states(), ["1 active, at boot", "2 reverted"]);
    let fresh = Namespace::new().that_boots();
    fresh.apply(OLD);
    assert_eq!(host.layout(), fresh.layout());
}

#[test]
fn every_connection_is_answered_throughout() {
    let Stage { world, _servers } = Stage::new();
    let host = &world.host;
    let asker = world.client.keep_asking_tcp("192.0.2.1:80");
    let run = |arguments: &[&str]| {
        asker.wait_for(20);
        host.portmap(arguments).run().succeeds();
    };
    for _ in 0..3 {
        run(&["apply", "--confirm", "1h", "new.yaml"]);
        run(&["confirm"]);
        run(&["rollback"]);
        run(&["apply", "--confirm", "1h", "new.yaml"]);
        run(&["rollback"]);
    }
    run(&["apply", "--confirm", "1s", "new.yaml"]);
    wait_until("the trial ends", || host.status()["trial"]["left_seconds"] == 0.0);
    run(&["apply", "rules.yaml"]);
    asker.wait_for(20);

    let outcomes = asker.stop();
    let known = [answer("old"), answer("new")];
    assert!(outcomes.iter().all(|o| known.contains(o)), "{:?}", counts(&outcomes));
    assert!(known.iter().all(|o| outcomes.contains(o)), "{:?}", counts(&outcomes));
}

#[test]
fn confirm_keeps_what_was_on_trial() {
    let Stage { world, _servers } = Stage::new();
    let host = &world.host;
    let said = host.portmap(["apply", "--confirm", "1s", "new.yaml"]).run().succeeds().stdout;
    assert!(said.contains("generation 2 is on trial for 1s"), "{said}");
    host.portmap(["confirm"]).run().succeeds();
    sleep(Duration::from_millis(1300));

    assert_eq!(answers(&world), new_answers());
    assert_eq!(host.states(), ["1 past", "2 active"]);
    assert_eq!(host.status()["drift"], Value::Null);
    assert_eq!(host.status()["trial"], Value::Null);
    let fresh = Namespace::new();
    fresh.apply(NEW);
    host.portmap(["rollback", "--to", "0"]).run().succeeds();
    host.apply(NEW);
    assert_eq!(host.layout(), fresh.layout());
    host.portmap(["confirm"]).run().fails_with(1).says("nothing is on trial");
}

#[test]
fn rollback_ends_a_trial_at_once() {
    let Stage { world, _servers } = Stage::new();
    let host = &world.host;
    let table = host.layout();
    let apply = ["apply", "--confirm", "1h", "new.yaml"];
    host.portmap(apply).run().succeeds();
    let preview = host.portmap(["rollback", "--dry-run"]).run().succeeds();
    assert!(preview.stdout.contains("+ 81/tcp"), "{preview}");
    assert_eq!(answers(&world), new_answers());

    host.portmap(["rollback"]).run().succeeds();
    assert_eq!(answers(&world), old_answers());
    assert_eq!(host.states(), ["1 active", "2 reverted"]);
    assert_eq!(host.layout(), table);

    host.portmap(apply).run().succeeds();
    host.portmap(["rollback", "--to", "99"]).run().fails_with(1).says("no generation 99");
    assert_eq!(answers(&world), new_answers(), "a mistake does not end it");
    host.portmap(["rollback", "--to", "0"]).run().succeeds();
    assert_eq!(host.ruleset(), "");
    assert_eq!(host.states(), ["1 past", "2 reverted", "3 reverted", "4 active"]);

    host.portmap(["rollback", "--to", "1"]).run().succeeds();
    host.portmap(apply).run().succeeds();
    host.portmap(["clear"]).run().succeeds();
    assert_eq!(host.states()[5..], ["6 reverted", "7 active"]);
    host.portmap(["rollback"]).run().succeeds();
    assert_eq!(answers(&world), old_answers());
}

#[test]
fn a_second_apply_during_a_trial_is_refused_with_the_time_left() {
    let Stage { world, _servers } = Stage::new();
    let host = &world.host;
    let mut trial = ["apply", "-o", "json", "--confirm", "100s", "new.yaml"].to_vec();
    let document = host.portmap(&trial).run().succeeds().json();
    assert_eq!(document["changed"], true);
    assert_eq!((&document["generation"], &document["trial_seconds"]), (&json!(2), &json!(100.0)));
    let generation = host.ruleset_generation();

    let refused = host.portmap(["apply", "rules.yaml"]).run().fails_with(1);
    let left = refused.stderr.split_once(" for ").unwrap().1.split_once(" more seconds").unwrap().0;
    assert!((90..=100).contains(&left.parse::<u32>().unwrap()), "{refused}");
    let refused = refused.says("portmap confirm").says("portmap rollback");
    assert_eq!(refused.stdout, "");
    trial.remove(1);
    trial.remove(1);
    host.portmap(&trial).run().fails_with(1).says("on trial");
    host.portmap(["apply", "--no-history", "rules.yaml"]).run().fails_with(1).says("on trial");

    assert_eq!(host.ruleset_generation(), generation);
    let status = host.status();
    assert_eq!((&status["generation"], &status["trial"]["generation"]), (&json!(2), &json!(2)));
    let left = status["trial"]["left_seconds"].as_f64().unwrap();
    assert!((90.0..=100.0).contains(&left), "{status}");
    assert_eq!(status["drift"], Value::Null);
    assert_eq!(host.states(), ["1 active", "2 on trial"]);
    let said = host.portmap(["status"]).run().succeeds().stdout;
    assert!(said.contains("generation 2 is on trial for "), "{said}");
    let at_boot = "not restored at boot; run `portmap confirm --persist` to enable";
    assert!(said.contains(at_boot), "persist is refused now: {said}");
    assert!(said.contains("4000") && !said.contains("3000"), "what serves: {said}");
}

#[test]
fn after_an_expiry_every_command_knows_and_the_next_change_tidies() {
    let Stage { world, _servers } = Stage::new();
    let host = &world.host;
    let table = host.layout();
    type After<'a> = (&'a [&'a str], i32, &'a str);
    let after: [After; 5] = [
        (&["confirm"], 1, "the trial is over"),
        (&["apply", "rules.yaml"], 0, ""),
        (&["persist"], 0, ""),
        (&["restore"], 0, ""),
        (&["rollback", "--to", "1"], 0, ""),
    ];
    for (round, (command, code, says)) in after.iter().enumerate() {
        host.portmap(["apply", "--confirm", "1s", "new.yaml"]).run().succeeds();
        wait_until("the trial ends", || host.status()["trial"]["left_seconds"] == 0.0);
        let status = host.status();
        assert_eq!((&status["generation"], &status["drift"]), (&json!(1), &Value::Null));
        let said = host.portmap(["status"]).run().succeeds().stdout;
        assert!(said.contains("the time is up, and generation 1 is active again"), "{said}");
        assert_eq!(host.portmap(["show"]).run().succeeds().stdout.matches("3000").count(), 2);

        host.portmap(*command).run().fails_with(*code).says(says);

        assert_eq!(host.layout(), table, "{command:?}");
        assert!(host.states()[0].starts_with("1 active"), "{command:?}: {:?}", host.states());
        assert_eq!(host.states()[round + 1], format!("{} reverted", round + 2), "{command:?}");
        assert_eq!(host.states().len(), round + 2, "{command:?}: {:?}", host.states());
    }
}

#[test]
fn a_trial_that_starts_from_nothing_ends_in_nothing() {
    let world = World::new().that_boots();
    let host = &world.host;
    let _server = host.serve("new", 4000);
    host.file("new.yaml", NEW);
    host.portmap(["apply", "--confirm", "1s", "new.yaml"]).run().succeeds();
    assert_eq!(answers(&world), new_answers());
    wait_until("the trial ends", || answers(&world)[0] == Err(NoAnswer::Refused));
    assert_eq!(host.status()["generation"], Value::Null);
    host.portmap(["confirm"]).run().fails_with(1).says("the trial is over");
    assert_eq!(host.ruleset(), "");
    assert_eq!(host.states(), ["1 reverted"]);

    host.portmap(["apply", "--confirm", "1h", "new.yaml"]).run().succeeds();
    host.portmap(["confirm"]).run().succeeds();
    assert_eq!(answers(&world), new_answers());
    host.portmap(["rollback"]).run().succeeds();
    assert_eq!(host.ruleset(), "");
}

#[test]
fn a_mapping_with_selectors_is_tried_and_undone() {
    let world = World::new().that_boots().with_second_link();
    let host = &world.host;
    let any = [Listen::Tcp("[::]:3000")];
    let _old = host.serve_at("old", &any);
    let _new = host.serve("new", 4000);
    let answers = || {
        ["192.0.2.1:80", "198.51.100.1:80", "[2001:db8::1]:80"].map(|to| world.client.tcp_ask(to))
    };
    let old = "ports: [{ port: 80, to: 3000, interfaces: [eth0] }]";
    let new = "ports: [{ port: 80, to: 4000, interfaces: [wg0] }, { port: 80, to: 3000, families: [ipv4] }]";
    host.apply(old);
    let table = host.layout();
    let on_old = [answer("old"), Err(NoAnswer::Refused), answer("old")];
    let on_new = [answer("old"), answer("new"), Err(NoAnswer::Refused)];
    assert_eq!(answers(), on_old);

    host.portmap(["apply", "--confirm", "2s", "-"]).stdin(new).run().succeeds();
    assert_eq!(answers(), on_new);
    wait_until("the trial ends", || answers() == on_old);
    host.portmap(["persist"]).run().succeeds();
    assert_eq!(host.layout(), table);

    host.portmap(["apply", "--confirm", "1h", "-"]).stdin(new).run().succeeds();
    host.portmap(["confirm"]).run().succeeds();
    assert_eq!(answers(), on_new);
    assert_eq!(host.status()["drift"], Value::Null);
}

#[test]
fn udp_clients_come_back_with_the_command_that_tidies() {
    let world = World::new().that_boots();
    let host = &world.host;
    let _servers = [host.serve("old", 5353), host.serve("new", 5454)];
    host.apply("ports: { 53/udp: 5353 }");
    let client = world.client.udp_client(40000, "192.0.2.1:53");
    assert_eq!(client.ask(), answer("old"));
    host.portmap(["apply", "--confirm", "1s", "-"])
        .stdin("ports: { 53/udp: 5454 }")
        .run()
        .succeeds();
    assert_eq!(client.ask(), answer("new"));
    wait_until("the trial ends", || host.status()["trial"]["left_seconds"] == 0.0);

    host.portmap(["persist"]).run().succeeds();

    assert_eq!(client.ask(), answer("old"));
}

#[test]
fn a_trial_lasts_from_a_second_to_a_day() {
    let host = Namespace::new();
    let rules = host.file("rules.yaml", OLD);
    let run = |time: &str| {
        let start = ["apply".as_ref(), "--confirm".as_ref(), time.as_ref(), rules.as_os_str()];
        host.portmap(start).run()
    };
    for wrong in ["0s", "999ms", "25h", "86401", "soon", "-1s"] {
        run(wrong).fails_with(64);
    }
    assert_eq!(host.ruleset(), "");
    for (time, seconds) in [("24h", 86400.0), ("1", 1.0)] {
        run(time).succeeds();
        let left = host.status()["trial"]["left_seconds"].as_f64().unwrap();
        assert!(left > seconds - 1.0 && left <= seconds, "{time}: {left}");
        host.portmap(["rollback"]).run().succeeds();
    }
}

#[test]
fn at_a_terminal_enter_keeps() {
    let Stage { world, _servers } = Stage::new();
    let mut terminal = world.host.portmap(["apply", "--confirm", "1h", "new.yaml"]).at_terminal();
    // Nobody has seen a question yet.
    terminal.press("\n");
    terminal.shows("Enter keeps");
    sleep(Duration::from_millis(200));
    assert_eq!(world.host.states(), ["1 active", "2 on trial"]);
    terminal.press("\n");
    let (code, screen) = terminal.ends();
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains("generation 2 is active"), "{screen}");
    assert_eq!(answers(&world), new_answers());
    assert_eq!(world.host.states(), ["1 past", "2 active"]);
}

#[test]
fn at_a_terminal_ctrl_c_goes_back() {
    let Stage { world, _servers } = Stage::new();
    let mut terminal = world.host.portmap(["apply", "--confirm", "1h", "new.yaml"]).at_terminal();
    terminal.shows("Enter keeps");
    assert_eq!(answers(&world), new_answers());
    terminal.press("\x03");
    let (code, screen) = terminal.ends();
    assert_eq!(code, Some(1), "{screen}");
    assert!(screen.contains("the previous mapping is active again"), "{screen}");
    assert_eq!(answers(&world), old_answers());
    assert_eq!(world.host.states(), ["1 active", "2 reverted"]);
}

#[test]
fn a_lost_terminal_goes_back_at_once() {
    let Stage { world, _servers } = Stage::new();
    let mut terminal = world.host.portmap(["apply", "--confirm", "1h", "new.yaml"]).at_terminal();
    terminal.shows("Enter keeps");
    terminal.hang_up();
    wait_until("the old mapping serves again", || answers(&world) == old_answers());
    terminal.ends();
    assert_eq!(world.host.states(), ["1 active", "2 reverted"]);
}

#[test]
fn at_a_terminal_the_time_runs_out() {
    let Stage { world, _servers } = Stage::new();
    let table = world.host.layout();
    let mut terminal = world.host.portmap(["apply", "--confirm", "1s", "new.yaml"]).at_terminal();
    terminal.shows("time is up");
    let (code, screen) = terminal.ends();
    assert_eq!(code, Some(1), "{screen}");
    assert_eq!(world.host.layout(), table);
    assert_eq!(world.host.states(), ["1 active", "2 reverted"]);
}

#[test]
fn a_countdown_heeds_what_is_decided_elsewhere() {
    let Stage { world, _servers } = Stage::new();
    let mut terminal = world.host.portmap(["apply", "--confirm", "1h", "new.yaml"]).at_terminal();
    terminal.shows("Enter keeps");
    world.host.portmap(["confirm"]).run().succeeds();
    let (code, screen) = terminal.ends();
    assert_eq!(code, Some(0), "{screen}");

    let back = ["apply", "--confirm", "1h", "rules.yaml"];
    let mut terminal = world.host.portmap(back).at_terminal();
    terminal.shows("Enter keeps");
    world.host.portmap(["rollback"]).run().succeeds();
    let (code, screen) = terminal.ends();
    assert_eq!(code, Some(1), "{screen}");
    assert_eq!(answers(&world), new_answers());
}

#[test]
fn a_rollback_too_late_takes_no_more_than_the_trial() {
    let host = Namespace::new();
    host.apply("ports: { 80: 3000 }");
    let table = host.table();
    host.file("new.yaml", "ports: { 80: 4000 }");
    host.portmap(["apply", "--confirm", "1s", "new.yaml"]).run().succeeds();
    wait_until("the time is up", || host.status()["trial"]["left_seconds"] == 0.0);
    let said = host.portmap(["rollback", "--dry-run"]).run().succeeds().stdout;
    assert!(said.contains("no mapping differs"), "{said}");
    let outcome = host.portmap(["rollback", "--detailed-exitcode"]).run().succeeds();
    assert!(outcome.stdout.contains("over already"), "{outcome}");
    assert_eq!(host.table(), table);
    assert_eq!(host.states(), ["1 active", "2 reverted"]);
    // The next one goes back from what serves.
    host.portmap(["rollback"]).run().succeeds();
    assert_eq!(host.ruleset(), "");
}

#[test]
fn a_confirm_that_fails_does_not_say_that_it_was_done() {
    let host = Namespace::new();
    host.apply("ports: { 80: 3000 }");
    host.file("new.yaml", "ports: { 80: 4000 }");
    for send in 1.. {
        host.portmap(["apply", "--confirm", "60s", "new.yaml"]).run().succeeds();
        let run = host.portmap_injected("sendto", "error=ENOBUFS", send, ["confirm"]);
        let outcome = run.outcome;
        let kept = host.status()["trial"] == Value::Null;
        if !run.hit {
            assert!(kept && send > 10 && outcome.code == Some(0), "{send}: {outcome}");
            break;
        }
        // Reading the flows is tried again.
        let said = outcome.stderr.contains("the mapping is in the kernel, but");
        assert_eq!(said || outcome.code == Some(0), kept, "{send}: {outcome}");
        host.portmap(["rollback"]).run().succeeds();
    }
}

#[test]
fn a_trial_of_a_first_mapping_leaves_nothing_to_clear() {
    let host = Namespace::new();
    host.file("new.yaml", "ports: { 80: 4000 }");
    host.portmap(["apply", "--confirm", "1s", "new.yaml"]).run().succeeds();
    wait_until("the time is up", || host.status()["trial"]["left_seconds"] == 0.0);
    host.portmap(["clear"]).run().succeeds();
    assert_eq!(host.ruleset(), "");
    assert_eq!(host.states(), ["1 reverted"]);
}

#[test]
fn the_trials_layer_outlives_the_gate_by_a_commit() {
    let host = Namespace::new();
    host.apply("ports: { 80: 3000 }");
    host.file("new.yaml", "ports: { 80: 4000 }");
    for end in ["confirm", "rollback"] {
        host.apply("ports: { 80: 3000 }");
        host.portmap(["apply", "--confirm", "60s", "new.yaml"]).run().succeeds();
        let generation = host.ruleset_generation();
        host.portmap([end]).run().succeeds();
        assert_eq!(host.ruleset_generation(), generation + 2, "{end}");
        assert!(!host.ruleset().contains("trial"), "{end}: {}", host.ruleset());
    }
}
