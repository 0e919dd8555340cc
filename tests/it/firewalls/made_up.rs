//! Rulesets made up at random: the verdict is what a connection gets, or that it cannot be told.

use std::time::Duration;

use portmap::firewall::{Answer, judge};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseResult, TestError, TestRunner};

use super::{ANSWERED, OURS, WAYS, read, serving};
use crate::support::World;
use crate::support::namespace::feed;

/// Each takes some 0.1 s. `FIREWALL_CASES` is for who has more time.
const CASES: u32 = 12;
/// A connection that should have been refused is answered within this, or the case shows nothing.
const SILENT: Duration = Duration::from_millis(120);

const MATCHES: &[&str] = &[
    "tcp dport 80",
    "tcp dport 3000",
    "tcp dport { 80, 3000 }",
    "tcp dport != { 22, 80 }",
    "tcp dport 1000-4000",
    "tcp dport < 1024",
    "udp dport 3000",
    "udp dport != 80",
    "th dport 3000",
    "tcp sport 3000",
    "udp sport 80",
    "tcp sport 1-1023",
    "meta l4proto tcp",
    "meta l4proto { udp, sctp }",
    "meta l4proto != tcp",
    "ct state new",
    "ct state established",
    "ct state invalid",
    "ct state untracked",
    "ct state { new, established }",
    "ct state != new",
    "ct status dnat",
    "ct status ! dnat",
    "ct status seen-reply",
    "meta l4proto tcp ct original proto-dst 80",
    "meta l4proto udp ct original proto-dst != 80",
    "ct original ip daddr 192.0.2.1",
    "ct original ip saddr 127.0.0.1",
    "meta l4proto tcp ct reply proto-src 3000",
    "meta l4proto udp ct reply proto-src 80",
    "ct direction reply",
    "ct direction original",
    "ct mark 0",
    "ct mark 7",
    "ct mark and 0x3 == 0x3",
    "meta mark 5",
    "meta mark and 0xf0 != 0",
    "iifname \"eth0\"",
    "iifname \"eth*\"",
    "iifname != \"lo\"",
    "iifname { \"lo\", \"wg0\" }",
    "iif \"lo\"",
    "iif != \"lo\"",
    "oifname \"lo\"",
    "oifname \"eth0\"",
    "oifname != \"eth0\"",
    "oif \"lo\"",
    "ip saddr 192.0.2.0/24",
    "ip saddr 127.0.0.0/8",
    "ip saddr != 10.0.0.0/8",
    "ip saddr 224.0.0.0/4",
    "ip daddr 192.0.2.1",
    "ip daddr 127.0.0.0/8",
    "ip daddr { 192.0.2.0/25, 198.51.100.1 }",
    "ip6 saddr 2001:db8::/32",
    "ip6 daddr 2001:db8::1",
    "ip6 daddr != 2001:db8::/64",
    "ip protocol tcp",
    "ip version 4",
    "ip frag-off & 0x1fff == 0",
    "ip frag-off & 0x3fff != 0",
    "ip ttl > 0",
    "ip6 nexthdr tcp",
    "ip6 hoplimit 0",
    "meta nfproto ipv4",
    "meta nfproto ipv6",
    "meta protocol ip",
    "meta protocol ip6",
    "tcp flags syn / fin,syn,rst,ack",
    "tcp flags & (syn | ack) == syn | ack",
    "tcp flags ack",
    "tcp flags & (fin | syn | rst | ack) != syn",
    "fib daddr type local",
    "fib saddr type local",
    "fib saddr type unicast",
    "fib daddr type != local",
    "fib saddr . iif oif missing",
    "fib saddr . iif oif exists",
    "meta pkttype host",
    "meta l4proto . th dport @services",
    "ip daddr . tcp dport { 192.0.2.1 . 3000, 127.0.0.0/8 . 80-90 }",
    "ip saddr @clients",
    "ip saddr != @clients",
    "meta skuid 0",
    "limit rate 1000/second",
    "tcp option maxseg exists",
    "rt type 0",
    "meta length > 0",
];

const STATEMENTS: &[&str] = &[
    "",
    "",
    "",
    "counter",
    "meta mark set 5",
    "meta mark set meta mark or 0x20",
    "ct mark set 7",
    "ct mark set meta mark",
    "meta mark set ct mark",
    "notrack",
];

const VERDICTS: &[&str] = &[
    "",
    "accept",
    "accept",
    "drop",
    "drop",
    "reject",
    "return",
    "continue",
    "jump sub",
    "goto sub",
    "tcp dport vmap { 80 : drop, 3000 : accept }",
    "tcp dport vmap @ports",
    "ct state vmap { new : accept, established : jump sub, invalid : drop }",
    "iifname vmap { \"lo\" : accept, \"eth0\" : jump sub }",
    "meta mark vmap { 0 : drop, 5 : accept, 7-40 : return }",
    "ip saddr vmap { 10.0.0.0/8 : drop, 127.0.0.0/8 : accept }",
];

const HOOKS: &[&str] = &["prerouting", "input", "output", "postrouting", "input", "prerouting"];
const PRIORITIES: &[i32] = &[-450, -300, -200, -150, -100, -99, 0, 0, 5, 100, 300];

fn rule(leaf: bool) -> impl Strategy<Value = String> {
    let verdicts: Vec<&str> =
        VERDICTS.iter().filter(|v| !leaf || !v.contains("sub")).copied().collect();
    (vec(select(MATCHES), 0..3), select(STATEMENTS), select(verdicts)).prop_map(
        |(matches, statement, verdict)| {
            let mut words = matches;
            words.extend([statement, verdict]);
            let text = words.join(" ");
            match text.trim().is_empty() {
                true => "counter".to_owned(),
                false => text,
            }
        },
    )
}

fn chain() -> impl Strategy<Value = String> {
    (select(HOOKS), select(PRIORITIES), select(&["accept", "accept", "drop"][..]), vec(rule(false), 1..5))
        .prop_map(|(hook, priority, policy, rules)| {
            let rules = rules.join("\n        ");
            format!("{{\n        type filter hook {hook} priority {priority}; policy {policy};\n        {rules}\n    }}\n")
        })
}

fn ruleset() -> impl Strategy<Value = String> {
    let nat = select(
        &[
            "",
            "",
            "",
            "",
            "tcp dport 80 redirect to :4000",
            "udp dport 80 dnat ip to 192.0.2.1:3000",
        ][..],
    );
    (vec(chain(), 1..4), vec(rule(true), 0..4), nat, select(&[-200, -101, -100][..])).prop_map(|(chains, sub, nat, priority)| {
        let chains: String =
            chains.iter().enumerate().map(|(n, chain)| format!("    chain base{n} {chain}")).collect();
        let nat = match nat {
            "" => String::new(),
            nat => format!("    chain nat {{\n        type nat hook prerouting priority {priority};\n        {nat}\n    }}\n"),
        };
        format!(
            "table inet made_up {{
    set services {{ type inet_proto . inet_service; flags interval; elements = {{ tcp . 3000-3010, udp . 80 }}; }}
    set clients {{ type ipv4_addr; flags interval; elements = {{ 192.0.2.0/24, 10.0.0.0/8 }}; }}
    map ports {{ type inet_service : verdict; elements = {{ 3000 : accept, 22 : drop }}; }}
    chain sub {{\n        {}\n    }}
{chains}{nat}}}\n",
            sub.join("\n        ")
        )
    })
}

/// Fixes the neighbours, whom a made-up ruleset would keep from finding each other.
fn fix_neighbours(world: &World) {
    let mac = |namespace: &crate::support::Namespace| {
        let text =
            namespace.output(namespace.command("ip").args(["-o", "link", "show", "eth0"]), "");
        text.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap().to_owned()
    };
    let (host, client) = (mac(&world.host), mac(&world.client));
    for (namespace, mac, v4, v6) in [
        (&world.host, &client, "192.0.2.2", "2001:db8::2"),
        (&world.client, &host, "192.0.2.1", "2001:db8::1"),
    ] {
        namespace.ip(&format!(
            "neigh replace {v4} lladdr {mac} dev eth0 nud permanent\n\
             neigh replace {v6} lladdr {mac} dev eth0 nud permanent\n"
        ));
    }
}

#[derive(Default, Debug)]
struct Counts {
    refused: usize,
    named: usize,
    unknown: usize,
}

fn case(world: &World, text: &str, load: Load, counts: &mut Counts) -> TestCaseResult {
    if !load(world, text) {
        counts.refused += 1;
        return Ok(());
    }
    // A client's port may be one of an earlier flow, which was let in and is not new any more.
    world.host.conntrack(&["-F"]);
    let rulesets = read(&world.host);
    for way in WAYS {
        let judged = judge(&rulesets, &way.connection());
        let (expected, patience) = match judged.answer {
            Answer::CannotTell => {
                counts.unknown += 1;
                continue;
            }
            Answer::Accepts => (true, ANSWERED),
            Answer::Blocks(_) => (false, SILENT),
        };
        counts.named += 1;
        prop_assert_eq!(way.is_served(world, patience), expected, "{:?}: {:#?}", way, judged);
    }
    Ok(())
}

/// Puts a ruleset in the place of the one before, and says whether that can be.
type Load = fn(&World, &str) -> bool;

fn load(world: &World, text: &str) -> bool {
    world.host.nft_script(&format!("flush ruleset\n{OURS}"));
    feed(world.host.command("nft").args(["-f", "-"]), text).status.success()
}

#[test]
fn no_verdict_is_wrong_for_any_ruleset() {
    let (world, _app) = serving();
    hold(&world, &ruleset(), load);
}

/// Holds the verdicts on some of these rulesets against connections.
pub fn hold(world: &World, rulesets: &impl Strategy<Value = String>, load: Load) {
    fix_neighbours(world);
    let cases = std::env::var("FIREWALL_CASES").ok().and_then(|n| n.parse().ok());
    let mut config = Config { failure_persistence: None, ..Config::default() };
    config.cases = cases.unwrap_or(CASES);
    config.max_shrink_iters = 200;
    let counts = std::cell::RefCell::new(Counts::default());
    let outcome = TestRunner::new(config)
        .run(rulesets, |text| case(world, &text, load, &mut counts.borrow_mut()));
    println!("{:?}", counts.borrow());
    if let Err(error) = outcome {
        match error {
            TestError::Fail(why, text) => panic!("{why}\nfor\n{text}"),
            TestError::Abort(why) => panic!("{why}"),
        }
    }
}
