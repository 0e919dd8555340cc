//! What others did to our own chains: `plan` says it, `status` warns of it, `apply` repairs it and
//! says that something was changed.

use serde_json::{Value, json};

use crate::support::{Namespace, NoAnswer, World, answer, wait_until};

const RULES: &str = "ports: { 80: 3000 }";

/// The handle of the first rule of a chain that contains `text`.
#[track_caller]
pub fn handle(host: &Namespace, chain: &str, text: &str) -> String {
    let list = ["--handle", "list", "chain", "inet", "portmap", chain];
    let listing = host.output(host.command("nft").args(list), "");
    let line = listing.lines().find(|line| line.contains(text));
    let line = line.unwrap_or_else(|| panic!("{text}: {listing}"));
    line.rsplit_once("# handle ").expect("a handle").1.to_owned()
}

#[track_caller]
fn delete_rule(host: &Namespace, chain: &str, text: &str) {
    let handle = handle(host, chain, text);
    host.nft(&format!("delete rule inet portmap {chain} handle {handle}"));
}

/// Each command says what was done to `chain`, by its exit code too, until it is repaired.
#[track_caller]
fn seen_and_repaired(host: &Namespace, chain: &str) {
    host.file("rules.yaml", RULES);
    let chain = format!("chain {chain}");
    let warned = host.portmap(["status"]).run().succeeds().says(&chain);
    assert!(warned.stderr.contains("portmap apply"), "{warned}");
    assert!(host.status()["drift"].as_str().is_some_and(|drift| drift.contains(&chain)));

    let plan = ["plan", "--detailed-exitcode", "rules.yaml"];
    let said = host.portmap(plan).run().fails_with(2);
    assert!(said.stdout.contains("repair table inet portmap"), "{said}");
    assert!(said.stdout.contains(&chain), "{said}");
    let document = host.portmap(["plan", "-o", "json", "rules.yaml"]).run().succeeds().json();
    assert_eq!((&document["changed"], &document["changes"]), (&json!(true), &json!([])));

    let apply = ["apply", "--detailed-exitcode", "rules.yaml"];
    let said = host.portmap(apply).run().fails_with(2);
    assert!(said.stdout.contains("repair table inet portmap"), "{said}");
    assert!(said.stdout.contains("the mappings are unchanged; the table was repaired"), "{said}");

    let fresh = Namespace::new();
    fresh.apply(RULES);
    assert_eq!(host.layout(), fresh.layout());
    assert_eq!(host.status()["drift"], Value::Null);
    let generation = host.ruleset_generation();
    host.portmap(plan).run().succeeds();
    host.portmap(apply).run().succeeds();
    assert_eq!(host.ruleset_generation(), generation);
}

#[test]
fn a_chain_that_was_emptied_is_filled_again() {
    let host = Namespace::new();
    let _app = host.serve("app", 3000);
    host.apply(RULES);
    host.nft("flush chain inet portmap output");
    assert_eq!(host.tcp_ask("127.0.0.1:80"), Err(NoAnswer::Refused));
    seen_and_repaired(&host, "output");
    assert_eq!(host.tcp_ask("127.0.0.1:80"), answer("app"));
    assert_eq!(host.states(), ["1 active"], "the same mapping is the same generation");

    host.nft("flush chain inet portmap prerouting");
    seen_and_repaired(&host, "prerouting");
}

#[test]
fn forwarded_packets_are_left_alone_again() {
    let world = World::new().with_behind();
    let (host, client) = (&world.host, &world.client);
    let _web = world.behind().serve("web", 80);
    host.apply(RULES);
    assert_eq!(client.tcp_ask("203.0.113.2:80"), answer("web"));
    delete_rule(host, "prerouting", "fib daddr type");
    assert_eq!(client.tcp_ask("203.0.113.2:80"), Err(NoAnswer::Refused), "taken to port 3000");
    seen_and_repaired(host, "prerouting");
    assert_eq!(client.tcp_ask("203.0.113.2:80"), answer("web"));
}

#[test]
fn each_rule_is_missed_where_it_was() {
    for rule in ["fib daddr type", "tcp flags", "map @ports"] {
        let host = Namespace::new();
        host.apply(RULES);
        delete_rule(&host, "output", rule);
        seen_and_repaired(&host, "output");
    }
}

#[test]
fn a_rule_that_is_doubled_or_out_of_order_is_seen() {
    let host = Namespace::new();
    host.apply(RULES);
    let rule = "fib daddr type != local return";
    host.nft(&format!("add rule inet portmap output {rule}"));
    seen_and_repaired(&host, "output");
    delete_rule(&host, "output", "fib daddr type");
    host.nft(&format!("add rule inet portmap output {rule}"));
    seen_and_repaired(&host, "output");
}

#[test]
fn what_is_added_behind_a_trial_is_told_while_it_runs_and_after() {
    let host = Namespace::new();
    host.apply(RULES);
    let trial = |time| {
        host.portmap(["apply", "--confirm", time, "-"])
            .stdin("ports: { 80: 4000 }")
            .run()
            .succeeds()
    };
    let told = || {
        let drift = host.status()["drift"].as_str().map(str::to_owned);
        host.portmap(["status"]).run().succeeds().says("+ 81/tcp -> 3001");
        drift
    };
    trial("1h");
    assert_eq!(host.status()["drift"], Value::Null);
    host.nft("add element inet portmap ports { tcp . 81 : 3001 }");
    assert_eq!(told().as_deref(), Some("+ 81/tcp -> 3001"));
    host.portmap(["rollback"]).run().succeeds();
    assert_eq!(told().as_deref(), Some("+ 81/tcp -> 3001"), "it is no part of the trial");
    host.apply(RULES);

    trial("1s");
    wait_until("the trial ends", || host.status()["trial"]["left_seconds"] == 0.0);
    assert_eq!(host.status()["drift"], Value::Null);
    host.nft("add element inet portmap ports { tcp . 81 : 3001 }");
    assert_eq!(told().as_deref(), Some("+ 81/tcp -> 3001"));
    host.apply(RULES);
    assert_eq!(host.status()["drift"], Value::Null);
}

/// Nobody else can change it, root neither.
#[test]
fn a_table_that_another_process_owns_is_told_as_that() {
    let host = Namespace::new();
    if !host.has_owners() {
        return;
    }
    let mut nft = host.command("nft");
    nft.arg("-i").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
    let mut nft = nft.spawn().expect("nft(8)");
    let mut words = nft.stdin.take().expect("piped");
    std::io::Write::write_all(&mut words, b"add table inet portmap { flags owner; }\n").unwrap();
    wait_until("the table is there", || host.nft("list tables").contains("inet portmap"));
    host.file("rules.yaml", RULES);
    host.portmap(["status"]).run().succeeds().says("owned by a process");
    let refused = host.portmap(["apply", "rules.yaml"]).run().fails_with(1);
    refused.says("a running process has made the table its own").says("nft -i");
    drop(words);
    nft.wait().expect("nft(8) ends");
    host.portmap(["apply", "rules.yaml"]).run().succeeds();
}
