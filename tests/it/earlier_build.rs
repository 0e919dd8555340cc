//! A table that an earlier build made, with `redirect` and without the rule for new connections, is
//! understood, and replaced in one transaction; what was counted goes on being counted.

use crate::support::{Namespace, World, answer};

const RULES: &str = "\
ports:
  - { port: 80, to: 3000 }
  - { port: 53/udp, to: 5353, families: [ipv4] }
  - { port: 81, to: 3000, sources: [192.0.2.0/24], comment: the net }
  - { port: 81, to: 4000 }
";

/// Replaces portmap's table by what an earlier build would have made of the same mapping.
fn as_an_earlier_build(host: &Namespace) {
    let table = host.nft("list table inet portmap");
    let mut earlier = String::new();
    let mut in_zone = false;
    for line in table.lines() {
        let begins =
            line.starts_with("\tchain trial-zone-") || line.starts_with("\tset trial-zoned");
        in_zone = (in_zone || begins) && line != "\t}";
        if !in_zone && !begins && !line.contains("tcp flags ") {
            earlier.push_str(&with_short_digest(&line.replace("dnat to", "redirect to")));
            earlier.push('\n');
        }
    }
    // What was cut out leaves its closing braces.
    let earlier = earlier.replace("\t}\n\n\t}\n", "\t}\n").replace("\t}\n\t}\n", "\t}\n");
    host.nft_script(&format!("delete table inet portmap\n{earlier}"));
    assert!(host.ruleset().contains("redirect to") && !host.ruleset().contains("dnat to"));
}

/// Its digests had 64 bits.
fn with_short_digest(line: &str) -> String {
    match line.split_once(", input ") {
        Some((before, digest)) => format!("{before}, input {}{}", &digest[..16], &digest[32..]),
        None => line.to_owned(),
    }
}

fn connect(world: &World) {
    for to in ["192.0.2.1:80", "[2001:db8::1]:80", "192.0.2.1:81", "[2001:db8::1]:81"] {
        assert_eq!(world.client.tcp_ask(to), answer("app"), "{to}");
    }
}

/// All counters of the table, by the line that they are in.
fn counters(host: &Namespace) -> Vec<String> {
    let table = host.nft("list table inet portmap");
    let counting = table.lines().filter(|line| line.contains("counter packets"));
    counting.map(|line| line.trim().replace("redirect to", "dnat to")).collect()
}

#[test]
fn its_table_is_replaced_in_one_transaction_with_its_counters() {
    let world = World::new();
    let host = &world.host;
    let _servers = [host.serve("app", 3000), host.serve("app", 4000)];
    host.apply(RULES);
    connect(&world);
    let layout = host.layout();
    as_an_earlier_build(host);
    connect(&world);
    let before = counters(host);
    assert!(before.iter().any(|line| line.contains("counter packets 4 ")), "{before:?}");
    assert_eq!(host.status()["mappings"].as_array().unwrap().len(), 4);
    let generation = host.ruleset_generation();

    host.portmap(["apply", "rules.yaml"]).run().succeeds();

    assert_eq!(host.ruleset_generation(), generation + 1);
    assert_eq!(counters(host), before);
    assert_eq!(host.layout(), layout);
    assert_eq!(host.states(), ["1 active"]);
    connect(&world);
    host.portmap(["apply", "rules.yaml"]).run().succeeds();
    assert_eq!(host.ruleset_generation(), generation + 1, "nothing is left to do");
}

#[test]
fn its_trial_can_be_confirmed_and_rolled_back() {
    for (end, target) in [("confirm", "app"), ("rollback", "old")] {
        let world = World::new();
        let host = &world.host;
        let _servers = [host.serve("old", 3000), host.serve("app", 4000)];
        host.apply("ports: [{ port: 80, to: 3000 }, { port: 81, to: 3000, scope: external }]");
        let new = "ports: [{ port: 80, to: 4000 }, { port: 81, to: 4000, interfaces: [eth0] }]";
        host.portmap(["apply", "--confirm", "1h", "-"]).stdin(new).run().succeeds();
        as_an_earlier_build(host);
        connect(&world);
        assert_eq!(host.status()["trial"]["generation"], 2);

        host.portmap([end]).run().succeeds();

        let ruleset = host.ruleset();
        assert!(!ruleset.contains("redirect") && !ruleset.contains("trial"), "{ruleset}");
        for to in ["192.0.2.1:80", "192.0.2.1:81"] {
            assert_eq!(world.client.tcp_ask(to), answer(target), "{end}: {to}");
        }
        let counted = counters(host).iter().any(|line| line.contains("counter packets 3 "));
        assert_eq!(counted, end == "confirm", "{:?}", counters(host));
    }
}
