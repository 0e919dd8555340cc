//! A ruleset with every kind of map, chain and rule, and the nft text that means the same.

use std::time::Duration;

use portmap::mapping::{
    Comment, Family, GenerationId, InterfacePattern, Mapping, Matches, Port, Protocol, Scope,
    Selector, Service, Target,
};
use portmap::plan::Step;
use portmap::ruleset::{
    ChainName, Counter, Gate, Hook, Layer, Map, MapName, MapShape, PortData, Rule, Ruleset, Stamp,
};

pub const PREROUTING: ChainName = ChainName::Hook(Layer::Active, Hook::Prerouting);
pub const OUTPUT: ChainName = ChainName::Hook(Layer::Active, Hook::Output);
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
    Rule::Select(Box::new(Mapping {
        service: tcp(990),
        selector,
        to: Target::new(port(to)),
        comment: None,
    }))
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
    if name == PORTS { COUNTED } else { PLAIN }
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
            Map::Selected(list) | Map::Zoned(list) => {
                Step::AddServices { map: *name, services: list.clone() }
            }
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
        (MapName::Zoned, Map::Zoned(vec![service(Protocol::Udp, 53), udplite])),
    ]
    .into();
    let minute = Duration::from_secs(60);
    ruleset.gate = Some(Gate { timeout: minute, left: minute });
    let stamp = Stamp {
        generation: GenerationId::new(12),
        ruleset: 57,
        input: "1f00c2d3e4f5a6b78091a2b3c4d5e6f7".parse().ok(),
    };
    let prerouting = vec![
        Rule::ForThisHost(Some(stamp)),
        Rule::OnlyNewTcp,
        Rule::Gate(Hook::Prerouting),
        Rule::Lookup(PORTS),
        Rule::Lookup(ipv4),
        Rule::Dispatch(Layer::Active),
    ];
    ruleset.chains = [
        (ChainName::Hook(Layer::Trial, Hook::Prerouting), vec![Rule::Lookup(trial)]),
        (PREROUTING, prerouting),
        (OUTPUT, vec![Rule::ForThisHost(None), Rule::Lookup(PORTS)]),
        (ChainName::Zone(Hook::Prerouting), vec![Rule::Zone]),
        (ChainName::Zone(Hook::Output), vec![Rule::Zone]),
        (ChainName::Service(Layer::Active, tcp(990)), selectors()),
    ]
    .into();
    ruleset
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
    set trial {
        type nf_proto
        flags timeout
        elements = { ipv4 timeout 1m, ipv6 timeout 1m }
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
