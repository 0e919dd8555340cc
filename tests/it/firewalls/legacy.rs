//! Legacy iptables beside nftables: what is said of its rules is what a connection gets. Where the
//! kernel or the host has it no more, there is nothing to see.

use portmap::firewall::{Answer, How, Owner, judge, other_nat, remedy};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{ANSWERED, Figures, OURS, SILENT, WAYS, files, judged, made_up, read, serving};
use crate::support::namespace::feed;
use crate::support::{Namespace, World, skip};

const PROGRAMS: [&str; 2] = ["iptables-legacy-restore", "ip6tables-legacy-restore"];

/// All tables as they are before anybody writes a rule.
const EMPTY: &str = "*raw\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\nCOMMIT
*mangle\n:PREROUTING ACCEPT\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\nCOMMIT
*nat\n:PREROUTING ACCEPT\n:INPUT ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\nCOMMIT
*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n";

fn restore(host: &Namespace, program: &str, text: &str) -> Result<(), String> {
    let output = feed(host.command(program).args(["-w", "-n"]), text);
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn clear(host: &Namespace) {
    for program in PROGRAMS {
        host.output(host.command(program).arg("-w"), EMPTY);
    }
}

fn has_legacy(host: &Namespace) -> bool {
    let mut command = host.command("sh");
    let script = PROGRAMS.map(|program| format!("{program} -w -n </dev/null")).join(" && ");
    let list = "iptables-legacy -w -S && ip6tables-legacy -w -S";
    let has = feed(command.args(["-c", &format!("{script} && {list}")]), "").status.success();
    if !has {
        skip("there is no legacy iptables here");
    }
    has
}

/// `iptables-legacy` with these words. Those of other tests may hold its lock.
fn iptables(host: &Namespace, words: &str) {
    host.output(host.command("iptables-legacy").arg("-w").args(words.split(' ')), "");
}

/// `make firewalls` shows what it prints.
#[test]
fn no_verdict_is_wrong() {
    let mut figures = Figures::default();
    let (world, _app) = serving();
    if !has_legacy(&world.host) {
        return;
    }
    let files = files();
    let written = files.iter().filter(|(name, _)| !name.ends_with(".nft"));
    let mut pairs = 0;
    for (name, text) in written {
        clear(&world.host);
        let program = PROGRAMS[usize::from(name.ends_with(".v6"))];
        restore(&world.host, program, text).unwrap_or_else(|why| panic!("{name}: {why}"));
        let before = figures.unknown;
        figures.add(name, &world);
        println!("{name}, legacy: {} of {} cannot be told", figures.unknown - before, WAYS.len());
        pairs += WAYS.len();
    }
    figures.are_told(&format!("{pairs} pairs with legacy iptables: {figures}"));
}

#[test]
fn rules_are_judged_and_shown_as_they_were_saved() {
    let (world, _app) = serving();
    let host = &world.host;
    if !has_legacy(host) {
        return;
    }
    let way = WAYS[0];
    let dropped = Answer::Blocks(How::Dropped);
    for (rules, answer, shown) in [
        ("-A INPUT -p tcp --dport 80 -j DROP", Answer::Accepts, None),
        (
            "-A INPUT -p tcp --dport 3000 -j DROP",
            dropped,
            Some("chain INPUT, rule 1: -A INPUT -p tcp -m tcp --dport 3000 -j DROP"),
        ),
        ("-P INPUT DROP", dropped, Some("chain INPUT: policy drop")),
        (
            "-P INPUT DROP\n-A INPUT -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT",
            Answer::Accepts,
            None,
        ),
        (
            "-P INPUT DROP\n-A INPUT -m conntrack --ctstate DNAT --ctorigdstport 80 -j ACCEPT",
            Answer::Accepts,
            None,
        ),
        (
            "-A INPUT -p tcp -m multiport --dports 22,2000:4000 -j REJECT --reject-with tcp-reset",
            Answer::Blocks(How::Rejected),
            Some("--reject-with tcp-reset"),
        ),
        (
            "-N mine\n-A INPUT -j mine\n-A mine ! -i lo -p tcp --syn -j DROP",
            dropped,
            Some("chain mine, rule 1: -A mine ! -i lo -p tcp"),
        ),
        (
            "-t raw -A PREROUTING -p tcp --dport 80 -j CT --notrack",
            { Answer::Blocks(How::NotTracked) },
            Some("iptables-legacy table raw"),
        ),
        (
            "-t mangle -A PREROUTING -p tcp -j MARK --set-mark 7\n\
             -A INPUT -m mark --mark 7 -j DROP",
            dropped,
            Some("-A INPUT -m mark --mark 0x7 -j DROP"),
        ),
        ("-A INPUT -m mac --mac-source 02:00:00:00:00:01 -j DROP", Answer::CannotTell, Some("mac")),
        (
            "-A INPUT -m comment --comment x\\-j\\DROP -m limit --limit 9/s -j DROP",
            Answer::CannotTell,
            Some("limit"),
        ),
    ] {
        clear(host);
        feed(host.command("iptables-legacy").args(["-w", "-X"]), "");
        rules.lines().for_each(|words| iptables(host, words));
        let verdict = judged(&world, way);
        assert_eq!(verdict.answer, answer, "{rules}: {verdict:#?}");
        let patience = if answer == Answer::Accepts { ANSWERED } else { SILENT };
        let is_served = way.is_served(&world, patience);
        assert!(
            answer == Answer::CannotTell || is_served == (answer == Answer::Accepts),
            "{rules}"
        );
        assert_eq!(judged(&world, WAYS[1]).answer, Answer::Accepts, "IPv6 has none: {rules}");
        if let Some(shown) = shown {
            let text = verdict.deciding.unwrap().text;
            assert!(text.starts_with("iptables-legacy table ") && text.contains(shown), "{text}");
        }
    }
}

#[test]
fn what_to_type_lets_clients_in() {
    let (world, _app) = serving();
    let host = &world.host;
    if !has_legacy(host) {
        return;
    }
    for rules in [
        "-P INPUT DROP",
        "-A INPUT -p tcp --dport 3000 -j REJECT",
        "-A OUTPUT -p tcp --sport 3000 -j DROP",
        "-t raw -A PREROUTING -p tcp --dport 80 -j DROP",
    ] {
        clear(host);
        iptables(host, rules);
        if rules.starts_with("-P") {
            iptables(host, "-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT");
        }
        assert!(!WAYS[0].is_served(&world, SILENT), "{rules}");
        let rulesets = read(host);
        let deciding = judge(&rulesets, &WAYS[0].connection()).deciding.unwrap();
        assert!(matches!(deciding.owner, Owner::Iptables(_)), "{deciding:#?}");
        for command in remedy(&rulesets, &deciding, &WAYS[0].traffic()) {
            iptables(host, command.strip_prefix("iptables-legacy ").expect(&command));
        }
        let now = judged(&world, WAYS[0]);
        assert_eq!(now.answer, Answer::Accepts, "{rules}: {now:#?}");
        assert!(WAYS[0].is_served(&world, ANSWERED), "{rules}");
    }
}

/// Its NAT hooks are those of nftables, and stand behind portmap's.
#[test]
fn its_translation_comes_behind_ours() {
    let (world, _app) = serving();
    if !has_legacy(&world.host) {
        return;
    }
    let _other = world.host.serve("other", 4000);
    iptables(&world.host, "-t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 4000");
    let rulesets = read(&world.host);
    let found = other_nat(&rulesets, &WAYS[0].connection());
    assert_eq!((found.len(), found[0].priority), (1, -100), "{found:#?}");
    assert!(found[0].deciding.text.starts_with("iptables-legacy table nat, chain PREROUTING"));
    assert_eq!(judged(&world, WAYS[0]).answer, Answer::Accepts);
    assert!(WAYS[0].is_served(&world, ANSWERED));
}

const PROTOCOLS: &[&str] = &[
    "",
    "",
    "",
    "-p tcp",
    "! -p tcp",
    "-p udp",
    "-p tcp --dport 80",
    "-p tcp --dport 3000",
    "-p tcp ! --dport 22",
    "-p udp --dport 1000:4000",
    "-p tcp --sport 3000",
    "-p udp ! --sport 80",
    "-p tcp --syn",
    "-p tcp ! --syn",
    "-p tcp --tcp-flags SYN,ACK SYN,ACK",
    "-p tcp -m multiport --dports 22,80,3000",
    "-p udp -m multiport ! --ports 53,80:90",
    "-p sctp",
];

/// Of arriving and of leaving packets.
const INTERFACES: [&[&str]; 2] = [
    &["", "", "-i eth0", "! -i lo", "-i eth+", "! -i wg+"],
    &["", "", "-o lo", "! -o eth0", "-o e+", "-m owner --uid-owner 0"],
];

/// Of IPv4 and IPv6.
const ADDRESSES: [&[&str]; 2] = [
    &["", "", "", "-s 192.0.2.0/24", "-s 127.0.0.0/8", "! -s 10.0.0.0/8", "-d 192.0.2.1", "! -f"],
    &["", "", "", "-s 2001:db8::/32", "-d 2001:db8::1", "! -d 2001:db8::/64", "-s fe80::/10"],
];

const MATCHES: &[&str] = &[
    "",
    "",
    "-m conntrack --ctstate NEW",
    "-m conntrack --ctstate ESTABLISHED,RELATED",
    "-m conntrack ! --ctstate INVALID",
    "-m conntrack --ctstate DNAT",
    "-m conntrack --ctstate UNTRACKED",
    "-m conntrack --ctorigdstport 80",
    "-m conntrack ! --ctorigdstport 79:81",
    "-m conntrack --ctdir REPLY",
    "-m conntrack --ctstatus SEEN_REPLY",
    "-m state --state NEW",
    "-m addrtype --dst-type LOCAL",
    "-m addrtype ! --src-type LOCAL",
    "-m mark --mark 5",
    "-m mark ! --mark 0x1/0x1",
    "-m connmark --mark 7",
    "-m pkttype --pkt-type unicast",
    "-m comment --comment \"a -j DROP\"",
    "-m limit --limit 1000/sec",
    "-m ttl --ttl-gt 0",
];

const TARGETS: &[&str] = &[
    "-j ACCEPT",
    "-j ACCEPT",
    "-j DROP",
    "-j DROP",
    "-j RETURN",
    "-j sub",
    "-g sub",
    "-j MARK --set-mark 5",
    "-j MARK --set-xmark 0x1/0x3",
    "-j CONNMARK --set-mark 7",
    "-j CONNMARK --restore-mark",
    "",
];

const CHAINS: &[(&str, Chains)] = &[
    ("raw", &["PREROUTING", "OUTPUT"]),
    ("mangle", &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]),
    ("filter", &["INPUT", "OUTPUT"]),
    ("filter", &["INPUT", "OUTPUT"]),
];

/// A rule of some chain of the table, as somebody types it.
fn rule(family: usize, table: &'static str, chains: Chains) -> impl Strategy<Value = String> {
    let words = (select(PROTOCOLS), select(ADDRESSES[family]), select(MATCHES));
    let place = (select(chains), any::<prop::sample::Index>(), 0..6u8);
    (words, select(TARGETS), place).prop_map(move |(words, target, (chain, at, special))| {
        let (protocol, address, more) = words;
        let leaves = matches!(chain, "OUTPUT" | "POSTROUTING");
        let interfaces = INTERFACES[usize::from(leaves)];
        let target = match (special, target) {
            (1, "-j DROP") if table == "filter" => "-j REJECT",
            (1, _) if table == "raw" => "-j CT --notrack",
            (_, target) => target,
        };
        let (chain, interface) = match special == 0 && !target.ends_with("sub") {
            // From wherever it is reached.
            true => ("sub", ""),
            false => (chain, interfaces[at.index(interfaces.len())]),
        };
        format!("-A {chain} {interface} {protocol} {address} {more} {target}\n")
    })
}

type Chains = &'static [&'static str];

fn table(family: usize) -> impl Strategy<Value = String> {
    let rules = move |(table, chains): (&'static str, Chains)| {
        let heads = move |drops: bool| -> String {
            let policy = |chain: &str| match drops && Some(&chain) == chains.last() {
                true => "DROP",
                false => "ACCEPT",
            };
            chains.iter().map(|chain| format!(":{chain} {} [0:0]\n", policy(chain))).collect()
        };
        (vec(rule(family, table, chains), 1..7), any::<bool>()).prop_map(move |(rules, drops)| {
            format!("*{table}\n{}:sub - [0:0]\n{}COMMIT\n", heads(drops), rules.concat())
        })
    };
    select(CHAINS).prop_flat_map(rules)
}

/// One or two tables of each family, one behind another.
fn ruleset() -> impl Strategy<Value = String> {
    (
        vec(table(0), 1..3),
        vec(table(1), 1..3),
        select(
            &[
                "",
                "table inet fw { chain input {
        type filter hook input priority 0; meta mark 5 drop; tcp dport 3000 meta mark set 5; }; }",
            ][..],
        ),
    )
        .prop_map(|(v4, v6, nft)| format!("{}\0{}\0{nft}", v4.concat(), v6.concat()))
}

fn load(world: &World, text: &str) -> bool {
    let host = &world.host;
    clear(host);
    host.nft_script(&format!("flush ruleset\n{OURS}"));
    let parts: Vec<&str> = text.split('\0').collect();
    // The second of two tables of a name replaces the first.
    let restored = |at: usize| feed(&mut host.command(PROGRAMS[at]), parts[at]).status.success();
    let loaded = restored(0) && restored(1);
    host.nft_script(parts[2]);
    loaded
}

#[test]
fn no_verdict_is_wrong_for_any_ruleset() {
    let (world, _app) = serving();
    if has_legacy(&world.host) {
        made_up::hold(&world, &ruleset(), load);
    }
}
