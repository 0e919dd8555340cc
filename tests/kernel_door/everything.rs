//! A ruleset with every kind of map, chain and rule, and the nft text that means the same.

use std::time::Duration;

use portmap::mapping::{
    Comment, Family, GenerationId, InterfacePattern, Mapping, Matches, Port, Protocol, Scope,
    Selector, Service, Target, Uid, User, UserName,
};
use portmap::plan::Step;
use portmap::ruleset::{
    Answer, ChainName, Check, CheckRule, Counter, Gate, Hook, Layer, Map, MapName, MapShape,
    PortData, Rule, Ruleset, Stamp,
};

pub const PREROUTING: ChainName = ChainName::Hook(Layer::Active, Hook::Prerouting);
pub const OUTPUT: ChainName = ChainName::Hook(Layer::Active, Hook::Output);
pub const ANSWERS: ChainName = ChainName::Check(Layer::Active, Check::Answers);
pub const DIRECT: ChainName = ChainName::Check(Layer::Active, Check::Direct);
pub const PORTS: MapName = MapName::Ports(Layer::Active, Scope::Both, Family::Both);
pub const PLAIN: MapShape = MapShape { size: 64, counted: false };
pub const COUNTED: MapShape = MapShape { size: 64, counted: true };

pub fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

pub fn service(protocol: Protocol, number: u16) -> Service {
    Service { protocol, port: port(number) }
}

pub fn tcp(number: u16) -> Service {
    service(Protocol::Tcp, number)
}

pub fn target(to: u16, comment: Option<&str>) -> PortData {
    PortData { to: Target::new(port(to)), comment: comment.map(|text| Comment::new(text).unwrap()) }
}

/// A rule for 990/tcp; `matches` are interfaces, sources, addresses.
pub fn select(scope: Scope, family: Family, matches: [&[&str]; 3], to: u16) -> Rule {
    let [interfaces, sources, addresses] = matches;
    let interface = |name: &&str| match name.strip_suffix('*') {
        Some(prefix) => InterfacePattern::prefix(prefix).unwrap(),
        None => InterfacePattern::name(name).unwrap(),
    };
    let matches = Matches {
        interfaces: interfaces.iter().map(interface).collect(),
        sources: sources.iter().map(|net| net.parse().unwrap()).collect(),
        addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
    };
    let selector = Selector::new(scope, family, matches).unwrap();
    Rule::Select(Box::new(Mapping { selector, ..Mapping::new(tcp(990), Target::new(port(to))) }))
}

pub fn commented(rule: Rule, comment: &str) -> Rule {
    match rule {
        Rule::Select(mut mapping) => {
            mapping.comment = Some(Comment::new(comment).unwrap());
            Rule::Select(mapping)
        }
        other => other,
    }
}

pub fn shape_of(name: MapName) -> MapShape {
    match name {
        PORTS | MapName::Guarded(_) | MapName::Hidden(Layer::Active) => COUNTED,
        _ => PLAIN,
    }
}

/// What makes `ruleset` from nothing.
pub fn make(ruleset: &Ruleset) -> Vec<Step> {
    let mut steps = vec![Step::AddTable];
    steps.extend(ruleset.chains.keys().map(|name| Step::AddChain(*name)));
    if let Some(gate) = ruleset.gate {
        steps.extend([Step::AddGate, Step::OpenGate { timeout: gate.timeout }]);
    }
    for (name, map) in &ruleset.maps {
        steps.push(Step::AddMap { name: *name, shape: shape_of(*name) });
        steps.push(match map {
            Map::Ports(list) => Step::AddPorts {
                map: *name,
                elements: list.iter().map(|(s, t)| (*s, t.clone(), None)).collect(),
            },
            Map::Selected(list) | Map::Services(list) => {
                let services = list.iter().map(|service| (*service, None)).collect();
                Step::AddServices { map: *name, services }
            }
            Map::Answers(list) => Step::AddAnswers {
                map: *name,
                answers: list.iter().map(|answer| (answer.clone(), None)).collect(),
            },
        });
    }
    for (chain, rules) in &ruleset.chains {
        steps.extend(rules.iter().map(|rule| Step::AddRule {
            chain: *chain,
            before: None,
            rule: rule.clone(),
            counter: Counter::default(),
        }));
    }
    steps
}

pub fn everything() -> Ruleset {
    let mut ruleset = Ruleset::default();
    let ipv4 = MapName::Ports(Layer::Active, Scope::External, Family::Ipv4);
    let trial = MapName::Ports(Layer::Trial, Scope::Both, Family::Both);
    let udplite = service(Protocol::UdpLite, 65535);
    ruleset.maps = [
        (PORTS, Map::Ports(vec![(tcp(80), target(3000, Some("hello")))])),
        (ipv4, Map::Ports(vec![(tcp(81), target(3001, None))])),
        (trial, Map::Ports(vec![(udplite, target(1, None))])),
        (MapName::Selected(Layer::Active), Map::Selected(vec![tcp(990)])),
        (MapName::Zoned, Map::Services(vec![service(Protocol::Udp, 53), udplite])),
        (MapName::Served(Layer::Active), Map::Answers(answers(true))),
        (MapName::Guarded(Layer::Active), Map::Answers(answers(false))),
        (MapName::Hidden(Layer::Active), Map::Services(vec![tcp(3000)])),
        (MapName::Served(Layer::Trial), Map::Answers(answers(true))),
        (MapName::Guarded(Layer::Trial), Map::Answers(answers(false))),
        (MapName::Hidden(Layer::Trial), Map::Services(vec![tcp(3000), udplite])),
    ]
    .into();
    let hour = Duration::from_secs(3600);
    ruleset.gate = Some(Gate { timeout: hour, left: hour });
    let stamp = Stamp {
        generation: GenerationId::new(12),
        ruleset: 57,
        input: "1f00c2d3e4f5a6b78091a2b3c4d5e6f7".parse().ok(),
    };
    let prerouting = vec![
        Rule::ForThisHost(Some(stamp)),
        Rule::OnlyNewTcp,
        Rule::Gate(ChainName::Hook(Layer::Trial, Hook::Prerouting)),
        Rule::Lookup(PORTS),
        Rule::Lookup(ipv4),
        Rule::Dispatch(Layer::Active),
    ];
    ruleset.chains = [
        (ChainName::Hook(Layer::Trial, Hook::Prerouting), vec![Rule::Lookup(trial)]),
        (PREROUTING, prerouting),
        (OUTPUT, vec![Rule::ForThisHost(None), Rule::Lookup(PORTS)]),
        (ANSWERS, check(Check::Answers, Layer::Active)),
        (ANSWERS.on_trial(), check(Check::Answers, Layer::Trial)),
        (DIRECT, check(Check::Direct, Layer::Active)),
        (DIRECT.on_trial(), check(Check::Direct, Layer::Trial)),
        (ChainName::Zone(Hook::Prerouting), vec![Rule::Zone]),
        (ChainName::Zone(Hook::Output), vec![Rule::Zone]),
        (ChainName::Service(Layer::Active, tcp(990)), selectors()),
    ]
    .into();
    ruleset
}

/// The answers of a web server and of a name server, with or without the users who may give them.
fn answers(served: bool) -> Vec<Answer> {
    let user = |uid, name: &str| User { uid: Uid::new(uid).unwrap(), name: UserName::new(name) };
    let answer = |service, to, user| Answer {
        service,
        to: Target::new(port(to)),
        user: Some(user).filter(|_| served),
    };
    vec![
        answer(tcp(80), 3000, user(33, "www-data")),
        answer(service(Protocol::Udp, 53), 5353, user(u32::MAX - 1, "")),
    ]
}

/// All rules of a filter chain; the gate is in the first layer.
fn check(check: Check, layer: Layer) -> Vec<Rule> {
    let gate = Rule::Gate(ChainName::Check(Layer::Trial, check));
    let (passes, rules) = match check {
        Check::Answers => (
            vec![CheckRule::OnlyTranslated, CheckRule::OnlyReplies, CheckRule::OnlySynAck],
            vec![CheckRule::Answers(layer)],
        ),
        Check::Direct => (
            vec![CheckRule::OnlyOutside, CheckRule::OnlyDirect],
            vec![CheckRule::RefuseTcp(layer), CheckRule::RefuseOther(layer)],
        ),
    };
    let rules = rules.into_iter().map(Rule::Check);
    match layer {
        Layer::Active => passes.into_iter().map(Rule::Check).chain([gate]).chain(rules).collect(),
        Layer::Trial => rules.collect(),
    }
}

fn selectors() -> Vec<Rule> {
    use Family::{Both, Ipv4, Ipv6};
    use Scope::{External, Local};
    let any = Scope::Both;
    let two_networks = &["10.0.0.0/8", "203.0.113.0/24"];
    let two_hosts = &["192.0.2.10/32", "192.0.2.12/32"];
    let neighbours = &["10.0.0.0/9", "10.128.0.0/10", "11.0.0.1/32"];
    let first = select(External, Ipv4, [&[], two_networks, two_hosts], 1);
    vec![
        commented(first, "ftps for the scanner"),
        select(any, Ipv6, [&["eth0", "wg*"], &["2001:db8::/32"], &[]], 2),
        select(any, Ipv4, [&["wg*"], &[], &[]], 3),
        select(any, Both, [&["eth0", "eth1"], &[], &[]], 4),
        select(any, Ipv4, [&["exactly15chars0"], &["10.1.0.0/17"], &["1.2.3.4/32"]], 5),
        select(any, Ipv6, [&[], &["2001:db8::/33"], &["fe80::1/128"]], 6),
        select(
            any,
            Ipv6,
            [&[], &["2001:db8::/32", "2001:db9::1/128"], &["::1/128", "fe80::1/128"]],
            7,
        ),
        select(any, Ipv4, [&[], &["0.0.0.0/1", "255.0.0.0/8"], &[]], 8),
        select(any, Ipv4, [&[], neighbours, &[]], 9),
        select(any, Ipv6, [&[], &["::/16", "ff00::/8"], &[]], 10),
        select(any, Ipv4, [&[], &["0.0.0.0/0"], &[]], 11),
        select(any, Ipv4, [&[], &["10.0.0.0/31", "10.0.0.4/32"], &[]], 12),
        select(Local, Both, [&[], &[], &[]], 13),
        select(External, Ipv6, [&[], &[], &[]], 14),
        select(any, Both, [&[], &[], &[]], 15),
    ]
}

pub const TEXT: &str = r#"
table inet portmap {
    map ports {
        type inet_proto . inet_service : inet_service
        size 64
        counter
        elements = { tcp . 80 counter packets 0 bytes 0 comment "hello" : 3000 }
    }
    map external-ipv4 {
        type inet_proto . inet_service : inet_service
        size 64
        elements = { tcp . 81 : 3001 }
    }
    map trial-ports {
        type inet_proto . inet_service : inet_service
        size 64
        elements = { udplite . 65535 : 1 }
    }
    map selected {
        type inet_proto . inet_service : verdict
        size 64
        elements = { tcp . 990 : goto tcp-990 }
    }
    set trial-zoned {
        type inet_proto . inet_service
        size 64
        elements = { udp . 53, udplite . 65535 }
    }
    set served {
        type inet_proto . inet_service . inet_service . uid
        size 64
        elements = { tcp . 80 . 3000 . 33 comment "www-data", udp . 53 . 5353 . 4294967294 }
    }
    set guarded {
        type inet_proto . inet_service . inet_service
        size 64
        counter
        elements = { tcp . 80 . 3000, udp . 53 . 5353 }
    }
    set hidden {
        type inet_proto . inet_service
        size 64
        counter
        elements = { tcp . 3000 }
    }
    set trial-served {
        type inet_proto . inet_service . inet_service . uid
        size 64
        elements = { tcp . 80 . 3000 . 33 comment "www-data", udp . 53 . 5353 . 4294967294 }
    }
    set trial-guarded {
        type inet_proto . inet_service . inet_service
        size 64
        counter
        elements = { tcp . 80 . 3000, udp . 53 . 5353 }
    }
    set trial-hidden {
        type inet_proto . inet_service
        size 64
        elements = { tcp . 3000, udplite . 65535 }
    }
    set trial {
        type nf_proto
        flags timeout
        elements = { ipv4 timeout 1h, ipv6 timeout 1h }
    }
    chain tcp-990 {
        meta l4proto tcp iif != 0 ip saddr { 10.0.0.0/8, 203.0.113.0/24 } ip daddr { 192.0.2.10, 192.0.2.12 } counter packets 0 bytes 0 dnat to :1 comment "ftps for the scanner"
        meta l4proto tcp iifname { "eth0", "wg*" } ip6 saddr 2001:db8::/32 counter packets 0 bytes 0 dnat to :2
        meta l4proto tcp iifname "wg*" meta nfproto ipv4 counter packets 0 bytes 0 dnat to :3
        meta l4proto tcp iifname { "eth0", "eth1" } counter packets 0 bytes 0 dnat to :4
        meta l4proto tcp iifname "exactly15chars0" ip saddr 10.1.0.0/17 ip daddr 1.2.3.4 counter packets 0 bytes 0 dnat to :5
        meta l4proto tcp ip6 saddr 2001:db8::/33 ip6 daddr fe80::1 counter packets 0 bytes 0 dnat to :6
        meta l4proto tcp ip6 saddr { 2001:db8::/32, 2001:db9::1 } ip6 daddr { ::1, fe80::1 } counter packets 0 bytes 0 dnat to :7
        meta l4proto tcp ip saddr { 0.0.0.0/1, 255.0.0.0/8 } counter packets 0 bytes 0 dnat to :8
        meta l4proto tcp ip saddr { 10.0.0.0/9, 10.128.0.0/10, 11.0.0.1 } counter packets 0 bytes 0 dnat to :9
        meta l4proto tcp ip6 saddr { ::/16, ff00::/8 } counter packets 0 bytes 0 dnat to :10
        meta l4proto tcp ip saddr 0.0.0.0/0 counter packets 0 bytes 0 dnat to :11
        meta l4proto tcp ip saddr { 10.0.0.0/31, 10.0.0.4 } counter packets 0 bytes 0 dnat to :12
        meta l4proto tcp iif 0 counter packets 0 bytes 0 dnat to :13
        meta l4proto tcp iif != 0 meta nfproto ipv6 counter packets 0 bytes 0 dnat to :14
        meta l4proto tcp counter packets 0 bytes 0 dnat to :15
    }
    chain trial-prerouting {
        meta l4proto { tcp, udp, dccp, sctp, udplite } dnat to :meta l4proto . th dport map @trial-ports
    }
    chain prerouting {
        type nat hook prerouting priority -101; policy accept;
        fib daddr type != local return comment "generation 12, ruleset 57, input 1f00c2d3e4f5a6b78091a2b3c4d5e6f7"
        tcp flags != syn / fin,syn,rst,ack return
        meta nfproto @trial goto trial-prerouting
        meta l4proto { tcp, udp, dccp, sctp, udplite } dnat to :meta l4proto . th dport map @ports
        meta nfproto ipv4 meta l4proto { tcp, udp, dccp, sctp, udplite } dnat to :meta l4proto . th dport map @external-ipv4
        meta l4proto . th dport vmap @selected
    }
    chain trial-answers {
        meta l4proto { tcp, udp, dccp, sctp, udplite } meta l4proto . ct original proto-dst . th sport . meta skuid != @trial-served meta l4proto . ct original proto-dst . th sport @trial-guarded drop
    }
    chain trial-direct {
        tcp flags syn / fin,syn,rst,ack meta l4proto . tcp dport @trial-hidden reject with tcp reset
        meta l4proto != tcp ct direction original meta l4proto . th dport @trial-hidden reject
    }
    chain answers {
        type filter hook output priority 0; policy accept;
        ct status ! dnat return
        ct direction original return
        tcp flags != syn,ack / fin,syn,rst,ack return
        meta nfproto @trial goto trial-answers
        meta l4proto { tcp, udp, dccp, sctp, udplite } meta l4proto . ct original proto-dst . th sport . meta skuid != @served meta l4proto . ct original proto-dst . th sport @guarded drop
    }
    chain direct {
        type filter hook input priority 0; policy accept;
        iif "lo" return
        ct status dnat return
        meta nfproto @trial goto trial-direct
        tcp flags syn / fin,syn,rst,ack meta l4proto . tcp dport @hidden reject with tcp reset
        meta l4proto != tcp ct direction original meta l4proto . th dport @hidden reject
    }
    chain trial-zone-prerouting {
        type filter hook prerouting priority -300; policy accept;
        meta nfproto @trial meta l4proto . th dport @trial-zoned fib daddr type local ct original zone set 28781
    }
    chain trial-zone-output {
        type filter hook output priority -300; policy accept;
        meta nfproto @trial meta l4proto . th dport @trial-zoned fib daddr type local ct original zone set 28781
    }
    chain output {
        type nat hook output priority -101; policy accept;
        fib daddr type != local return
        meta l4proto { tcp, udp, dccp, sctp, udplite } dnat to :meta l4proto . th dport map @ports
    }
}
"#;
