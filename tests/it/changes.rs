//! What a change does to what was there before: to the kernel's tables, to connections under
//! way, to what others have put there, and to those who do the same at the same time.

use std::collections::BTreeSet;

use crate::support::net::counts;
use crate::support::{Namespace, NoAnswer, World, answer, wait_until};

/// Plain entries, one with selectors, a comment, a range.
const SOME_OF_EVERYTHING: &str = "\
ports:
  - { port: 80, to: 3000, comment: the shop }
  - { port: 53/udp, to: 5353, families: [ipv4] }
  - { port: 443, to: 9443, interfaces: [\"wg*\"] }
  - { port: 443, to: 8443 }
  - { port: 6000-6003, to: 16000-16003, scope: external }
";

#[test]
fn render_prints_what_apply_leaves_in_the_kernel() {
    let host = Namespace::new();
    host.apply(SOME_OF_EVERYTHING);
    let rendered = host.portmap(["render", "rules.yaml"]).run().succeeds().stdout;

    let other = Namespace::new();
    other.nft_script(&rendered);
    assert_eq!(other.table(), host.table(), "nft makes the same of it");
    other.nft_script(&rendered);
    assert_eq!(other.table(), host.table(), "and again, in place of what is there");
    let rules = host.dir().join("rules.yaml");
    let plan = ["plan".as_ref(), "--detailed-exitcode".as_ref(), rules.as_os_str()];
    other.portmap(plan).run().succeeds();
}

#[test]
fn the_listing_reads_well() {
    let host = Namespace::new();
    host.apply("ports: { 80: { to: 3000, comment: the shop } }");

    let expected = r#"table inet portmap {
	map ports {
		type inet_proto . inet_service : inet_service
		size 64
		counter
		elements = { tcp . 80 counter packets 0 bytes 0 comment "the shop" : 3000 }
	}

	chain prerouting {
		type nat hook prerouting priority dstnat - 1; policy accept;
		fib daddr type != local return
		tcp flags != syn / fin,syn,rst,ack return
		meta l4proto { tcp, udp, dccp, sctp, udplite } dnat to :meta l4proto . th dport map @ports
	}

	chain output {
		type nat hook output priority -101; policy accept;
		fib daddr type != local return
		tcp flags != syn / fin,syn,rst,ack return
		meta l4proto { tcp, udp, dccp, sctp, udplite } dnat to :meta l4proto . th dport map @ports
	}
}
"#;
    // Where nft breaks lines depends on its version, and so does how it writes some things.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let listed = words(&host.table())
        .replace("tcp flags & (fin | syn | rst | ack) != syn", "tcp flags != syn / fin,syn,rst,ack")
        .replace("hook output priority dstnat - 1;", "hook output priority -101;");
    assert_eq!(listed, words(expected));
}

#[test]
fn a_second_apply_changes_nothing() {
    let host = Namespace::new();
    host.apply(SOME_OF_EVERYTHING);
    let (generation, table) = (host.ruleset_generation(), host.table());

    let outcome = host.portmap(["apply", "-o", "json", "rules.yaml"]).run().succeeds();

    assert_eq!(outcome.json()["version"], 1);
    assert_eq!(outcome.json()["changed"], false);
    assert_eq!(host.ruleset_generation(), generation);
    assert_eq!(host.table(), table);
}

#[test]
fn the_exit_code_tells_of_changes_if_asked() {
    let host = Namespace::new();
    let rules = host.file("rules.yaml", "ports: { 80: 3000 }");
    let run = |command: &str| {
        host.portmap([command.as_ref(), "--detailed-exitcode".as_ref(), rules.as_os_str()]).run()
    };

    run("plan").fails_with(2);
    assert_eq!(host.ruleset(), "", "a plan changes nothing");
    run("apply").fails_with(2);
    run("plan").succeeds();
    run("apply").succeeds();
}

#[test]
fn a_dry_run_changes_nothing() {
    let host = Namespace::new();
    host.apply("ports: { 80: 3000 }");
    let (generation, ruleset) = (host.ruleset_generation(), host.ruleset());

    let outcome =
        host.portmap(["apply", "--dry-run", "-"]).stdin("ports: { 80: 4000, 443: 8443 }").run();

    let outcome = outcome.succeeds();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert!(lines.iter().any(|l| l.starts_with('~') && l.contains("80/tcp")), "{outcome}");
    assert!(lines.iter().any(|l| l.starts_with('+') && l.contains("443/tcp")), "{outcome}");
    assert_eq!(host.ruleset_generation(), generation);
    assert_eq!(host.ruleset(), ruleset);
}

#[test]
fn counters_of_unchanged_mappings_go_on() {
    let world = World::new();
    let (_app, _tls) = (world.host.serve("app", 3000), world.host.serve("tls", 8443));
    world.host.apply("ports: { 80: 3000, 443: 8443 }");
    for _ in 0..3 {
        assert_eq!(world.client.tcp_ask("192.0.2.1:80"), answer("app"));
    }
    assert_eq!(world.client.tcp_ask("192.0.2.1:443"), answer("tls"));

    world.host.apply("ports: { 80: 3000, 443: 9443, 990: 2990 }");

    let counters = world.host.counters();
    assert_eq!(counters["ports tcp . 80"], 3);
    assert_eq!(counters["ports tcp . 443"], 0, "another mapping, another counter");
    assert_eq!(counters["ports tcp . 990"], 0);
}

#[test]
fn a_udp_client_follows_a_change() {
    let world = World::new();
    let (_old, _new) = (world.host.serve("old", 5353), world.host.serve("new", 5454));
    world.host.apply("ports: { 53/udp: 5353 }");
    let clients = [
        world.client.udp_client(40000, "192.0.2.1:53"),
        world.client.udp_client(40001, "[2001:db8::1]:53"),
        world.host.udp_client(40002, "127.0.0.1:53"),
        world.host.udp_client(40003, "[::1]:53"),
    ];
    for client in &clients {
        assert_eq!(client.ask(), answer("old"));
    }

    world.host.apply("ports: { 53/udp: 5454 }");
    for client in &clients {
        assert_eq!(client.ask(), answer("new"));
    }

    world.host.portmap(["clear"]).run().succeeds();
    for client in &clients {
        assert_eq!(client.ask(), Err(NoAnswer::Refused));
    }
}

#[test]
fn a_udp_client_of_a_port_that_is_mapped_only_now_follows_as_well() {
    let world = World::new();
    let (_direct, _app) = (world.host.serve("direct", 53), world.host.serve("app", 5353));
    world.host.apply("ports: { 80: 3000 }");
    let client = world.client.udp_client(40000, "192.0.2.1:53");
    assert_eq!(client.ask(), answer("direct"));

    world.host.apply("ports: { 80: 3000, 53/udp: 5353 }");

    assert_eq!(client.ask(), answer("app"));
}

#[test]
fn flows_that_a_change_is_not_about_stay_tracked() {
    let world = World::new().with_behind();
    let _servers = [
        world.host.serve("old", 5353),
        world.host.serve("new", 5454),
        world.host.serve("log", 5514),
        world.behind().serve("other machine", 53),
    ];
    world.host.apply("ports: { 53/udp: 5353, 514/udp: 5514 }");
    let changed = world.client.udp_client(40000, "192.0.2.1:53");
    let unchanged = world.client.udp_client(40001, "192.0.2.1:514");
    let forwarded = world.client.udp_client(40002, "203.0.113.2:53");
    assert_eq!(changed.ask(), answer("old"));
    assert_eq!(unchanged.ask(), answer("log"));
    assert_eq!(forwarded.ask(), answer("other machine"));

    world.host.apply("ports: { 53/udp: 5454, 514/udp: 5514 }");

    let flows = world.host.conntrack_flows();
    let tracked = |port: u16| flows.iter().any(|flow| flow.contains(&format!("sport={port} ")));
    assert!(!tracked(40000), "{flows:#?}");
    assert!(tracked(40001), "{flows:#?}");
    assert!(tracked(40002), "{flows:#?}");
}

#[test]
fn an_established_connection_of_an_unchanged_mapping_goes_on() {
    let world = World::new();
    let _app = world.host.serve("app", 3000);
    world.host.apply("ports: { 80: 3000, 443: 8443 }");
    let mut connection = world.client.tcp_connect("192.0.2.1:80").unwrap();
    assert_eq!(connection.ask(), answer("app"));

    world.host.apply("ports: { 80: 3000, 443: 9443 }");

    assert_eq!(connection.ask(), answer("app"));
}

#[test]
fn nobody_notices_an_apply() {
    let world = World::new();
    let _app = world.host.serve("app", 3000);
    world.host.apply("ports: { 80: 3000 }");
    let asker = world.client.keep_asking_tcp("192.0.2.1:80");

    for _ in 0..5 {
        asker.wait_for(10);
        world.host.apply("ports: { 80: 3000, 443: 8443 }");
        asker.wait_for(10);
        world.host.apply("ports: { 80: { to: 3000, scope: external }, 990: 2990 }");
        asker.wait_for(10);
        world.host.apply("ports: { 80: 3000 }");
    }

    let outcomes = asker.stop();
    assert!(outcomes.iter().all(|o| *o == answer("app")), "{:?}", counts(&outcomes));
}

#[test]
fn two_applies_at_once_end_in_one_of_the_two_states() {
    let world = World::new();
    let (_a, _b) = (world.host.serve("a", 3000), world.host.serve("b", 4000));
    let one = world.host.file("a.yaml", "ports: { 80: 3000, 81: 3000, 82: 3000 }");
    let two = world.host.file("b.yaml", "ports: { 80: 4000, 81: 4000, 83: 4000 }");

    for _ in 0..10 {
        let runs = [&one, &two]
            .map(|file| world.host.portmap(["apply".as_ref(), file.as_os_str()]).start());
        for run in runs {
            run.wait().succeeds();
        }

        let answers: Vec<_> =
            (80..=83).map(|port| world.client.tcp_ask(&format!("192.0.2.1:{port}"))).collect();
        let (a, b, none) = (answer("a"), answer("b"), Err(NoAnswer::Refused));
        let a_state = [a.clone(), a.clone(), a.clone(), none.clone()];
        let b_state = [b.clone(), b.clone(), none.clone(), b.clone()];
        assert!(answers == a_state || answers == b_state, "{answers:?}");
    }
}

/// That it also notices what was done is the next test.
#[test]
fn nothing_is_lost_when_another_program_commits_all_the_time() {
    const ROUNDS: usize = 60;
    let host = Namespace::new();
    host.nft("add table inet foreign");
    host.nft("add set inet foreign seen { type inet_service; }");

    std::thread::scope(|scope| {
        scope.spawn(|| {
            for port in 1..=ROUNDS {
                host.nft(&format!("add element inet foreign seen {{ {port} }}"));
            }
        });
        for round in 1..=ROUNDS / 3 {
            host.apply(&format!("ports: {{ 80: {}, 443: 8443 }}", 3000 + round));
        }
    });

    let foreign = host.nft_json("list set inet foreign seen");
    let elements = foreign.iter().find_map(|o| o["set"]["elem"].as_array());
    let elements: BTreeSet<u64> =
        elements.into_iter().flatten().map(|e| e.as_u64().unwrap()).collect();
    assert_eq!(elements, (1..=ROUNDS as u64).collect());
    let fresh = Namespace::new();
    fresh.apply(&format!("ports: {{ 80: {}, 443: 8443 }}", 3000 + ROUNDS / 3));
    assert_eq!(host.table(), fresh.table());
}

/// Without compare and swap, the first transaction would leave port 80 out, and only a second one
/// could repair that.
#[test]
fn what_another_program_does_between_reading_and_committing_is_seen() {
    let before = "ports: { 80: 3000, 81: 3000 }";
    let after = "ports: { 80: 3000, 81: 3000, 443: 8443 }";
    let fresh = Namespace::new();
    fresh.apply(before);
    fresh.file("new.yaml", after);
    let command = ["apply", "new.yaml"];
    let seen = fresh.portmap_injected("sendto", "delay_enter=1", 1, command);
    let commit = seen.first_commit();
    seen.hits().succeeds();

    let host = Namespace::new();
    host.apply(before);
    host.file("new.yaml", after);
    let generation = host.ruleset_generation();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            host.portmap_injected("sendto", "delay_enter=2000000", commit, command).hits()
        });
        // The last thing before the commit.
        let intent = host.dir().join("state/generations/000002.yaml");
        wait_until("the intent is on disk", || intent.exists());
        host.nft("delete element inet portmap ports { tcp . 80 }");
        assert_eq!(host.ruleset_generation(), generation + 1, "the commit came first");
        run.join().unwrap().succeeds();
    });

    assert_eq!(host.table(), fresh.table());
    assert_eq!(host.ruleset_generation(), generation + 2);
}

#[test]
fn what_others_put_into_our_table_is_reported_and_replaced() {
    let host = Namespace::new();
    host.apply("ports: { 80: 3000 }");
    let table = host.table();

    let intrusions = [
        ("add rule inet portmap output tcp dport 9999 drop", "chain output"),
        ("add chain inet portmap strange", "chain strange"),
        ("add set inet portmap odd { type ipv4_addr; }", "odd"),
        ("add element inet portmap ports { tcp . 81 : 3001 }", "81/tcp"),
    ];
    for (intrusion, named) in intrusions {
        host.nft(intrusion);
        assert_ne!(host.table(), table, "{intrusion}");

        let outcome = host.portmap(["apply", "rules.yaml"]).run().succeeds();

        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(said.contains(named), "{intrusion}: nothing said of `{named}`: {outcome}");
        assert_eq!(host.table(), table, "{intrusion}");
    }
    // An element is a mapping that the file does not have. The rest is not ours at all.
    host.nft("add rule inet portmap output tcp dport 9999 drop");
    host.portmap(["apply", "rules.yaml"]).run().succeeds().says("chain output");
}

#[test]
fn a_flushed_ruleset_is_put_back() {
    let world = World::new();
    let _app = world.host.serve("app", 3000);
    world.host.apply("ports: { 80: 3000 }");
    world.host.nft("flush ruleset");
    assert_eq!(world.client.tcp_ask("192.0.2.1:80"), Err(NoAnswer::Refused));

    world.host.apply("ports: { 80: 3000 }");

    assert_eq!(world.client.tcp_ask("192.0.2.1:80"), answer("app"));
}

#[test]
fn clear_removes_our_table_and_nothing_else() {
    let host = Namespace::new();
    host.nft_script(
        "table ip portmap {
             chain of_somebody_else {
             }
         }
         table inet nat {
             chain prerouting {
                 type nat hook prerouting priority dstnat;
                 tcp dport 80 redirect to :8080
             }
         }",
    );
    let before = host.ruleset();
    host.apply(SOME_OF_EVERYTHING);
    assert_ne!(host.ruleset(), before);

    host.portmap(["clear"]).run().succeeds();
    assert_eq!(host.ruleset(), before);

    let generation = host.ruleset_generation();
    host.portmap(["clear"]).run().succeeds();
    assert_eq!(host.ruleset_generation(), generation, "there is nothing left to clear");
}

#[test]
fn a_file_with_an_error_changes_nothing() {
    let host = Namespace::new();
    host.apply("ports: { 80: 3000 }");
    let generation = host.ruleset_generation();

    for wrong in ["", "ports: {}", "ports: { 80: 0 }", "ports: { 80: 3000 ", "prots: { 80: 3000 }"]
    {
        let file = host.file("wrong.yaml", wrong);
        host.portmap(["apply".as_ref(), file.as_os_str()]).run().fails_with(1).says("wrong.yaml");
    }

    assert_eq!(host.ruleset_generation(), generation);
}

#[test]
fn a_copied_stamp_is_not_believed() {
    let (host, other) = (Namespace::new(), Namespace::new());
    host.apply("ports: { 80: 3000 }");
    let copy = host.nft("list table inet portmap").replace(": 3000", ": 6666");
    other.nft_script(&copy);
    assert_eq!(other.ruleset_generation(), host.ruleset_generation());

    // With the history of the host where the stamp is from, all but the kernel agrees.
    let state = host.dir().join("state");
    let rules = host.dir().join("rules.yaml");
    let apply = ["apply".as_ref(), rules.as_os_str(), "--state-dir".as_ref(), state.as_os_str()];
    let outcome = other.portmap(apply).run().succeeds();
    assert!(outcome.stdout.contains("~ 80/tcp: 6666 -> 3000"), "{outcome}");
    assert_eq!(other.table(), host.table());
}

#[test]
fn growing_is_not_mistaken_for_somebody_elses_doing() {
    let host = Namespace::new();
    host.apply("ports: { 80: 3000 }");
    for rules in ["ports: { 1-200: 3001-3200 }", "ports: { 80: 3000 }"] {
        let outcome = host.apply(rules);
        assert!(!outcome.stderr.contains("table inet portmap"), "{outcome}");
    }
}

#[test]
fn warnings_are_repeated() {
    let host = Namespace::new();
    let _app = host.serve("app", 40000);
    let first = host.apply("ports: { 80: 40000 }");
    assert!(first.stderr.contains("warning"), "{first}");
    let generation = host.ruleset_generation();
    let second = host.apply("ports: { 80: 40000 }");
    assert_eq!(second.stderr, first.stderr);
    assert_eq!(host.ruleset_generation(), generation);
}

#[test]
fn connections_of_a_trial_are_counted_on() {
    let host = Namespace::new();
    host.ip("link set lo up");
    let _app = host.serve("app", 8443);
    let ask =
        |times: usize| (0..times).for_each(|_| assert!(host.tcp_ask("127.0.0.1:443").is_ok()));
    host.apply("ports: { 80: 3000, 443: 8443 }");
    ask(3);
    host.file("new.yaml", "ports: { 80: 4000, 443: 8443 }");
    host.portmap(["apply", "--confirm", "60s", "new.yaml"]).run().succeeds();
    ask(2);
    host.portmap(["confirm"]).run().succeeds();
    assert_eq!(host.counters()["ports tcp . 443"], 5);
}
