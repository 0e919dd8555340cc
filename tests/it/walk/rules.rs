//! Small rules files by chance, and what a client gets by them: reckoned here from their meaning
//! alone, not as the kernel does it.

use std::net::IpAddr;

use portmap::mapping::{
    Direct, Family, Mapping, MappingSet, Matches, Port, Protocol, Scope, Selector, Service, Target,
};

/// Chance that can be repeated: SplitMix64 (Steele, Lea, Flood 2014).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

pub const fn service(protocol: Protocol, port: u16) -> Service {
    Service { protocol, port: Port::new(port).expect("not 0") }
}

/// What clients ask for.
pub const SERVICES: [Service; 3] =
    [service(Protocol::Tcp, 80), service(Protocol::Tcp, 81), service(Protocol::Udp, 53)];

/// Somebody listens on all but the last.
pub const TARGETS: [(u16, Option<&str>); 3] = [(3000, Some("a")), (3001, Some("b")), (3002, None)];

/// Where a question comes from, and to which address it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    pub is_outside: bool,
    pub to: &'static str,
    source: &'static str,
}

pub const SIDES: [Side; 4] = [
    Side { is_outside: true, to: "192.0.2.1", source: "192.0.2.2" },
    Side { is_outside: true, to: "[2001:db8::1]", source: "2001:db8::2" },
    Side { is_outside: false, to: "127.0.0.1", source: "127.0.0.1" },
    Side { is_outside: false, to: "[::1]", source: "::1" },
];

impl Side {
    fn source(&self) -> IpAddr {
        self.source.parse().expect("an address")
    }

    fn is_meant_by(&self, selector: &Selector) -> bool {
        let scope = match selector.scope() {
            Scope::Both => true,
            Scope::External => self.is_outside,
            Scope::Local => !self.is_outside,
        };
        let family = match selector.family() {
            Family::Both => true,
            Family::Ipv4 => self.source().is_ipv4(),
            Family::Ipv6 => self.source().is_ipv6(),
        };
        let sources = selector.matches().map_or(&[][..], |matches| &matches.sources);
        let source = sources.is_empty() || sources.iter().any(|net| net.contains(&self.source()));
        scope && family && source
    }
}

/// Where `set` sends who asks from `side` for `service`; to itself if it says nothing.
pub fn target(set: &MappingSet, side: &Side, service: Service) -> Port {
    let meant = set.of(service).iter().find(|m| side.is_meant_by(&m.selector));
    meant.map_or(service.port, |m| m.to.port())
}

/// Whether other hosts may not ask for `target` itself.
pub fn is_hidden(set: &MappingSet, protocol: Protocol, target: u16) -> bool {
    let same = |m: &&Mapping| m.service.protocol == protocol && m.to.port().get() == target;
    set.iter().find(same).is_some_and(|m| m.direct == Direct::Refuse)
}

/// A mapping of at least one service.
pub fn any_rules(dice: &mut Dice) -> MappingSet {
    loop {
        let mut mappings = Vec::new();
        // One word on each target, whatever is mapped there.
        let hidden: Vec<_> = TARGETS.iter().map(|_| dice.one_in(6)).collect();
        for service in SERVICES {
            let selectors = selectors(dice);
            for selector in selectors {
                let index = dice.below(TARGETS.len());
                let to = Target::new(Port::new(TARGETS[index].0).expect("not 0"));
                let direct = if hidden[index] { Direct::Refuse } else { Direct::Allow };
                mappings.push(Mapping { selector, direct, ..Mapping::new(service, to) });
            }
        }
        if !mappings.is_empty() {
            return MappingSet::new(mappings);
        }
    }
}

/// For whom a service is mapped: one selector after the other.
fn selectors(dice: &mut Dice) -> Vec<Selector> {
    let scope = |scope| Selector::of(scope, Family::Both);
    let family = |family| Selector::of(Scope::Both, family);
    let (v4, v6) = (family(Family::Ipv4), family(Family::Ipv6));
    let neighbours =
        Matches { sources: vec!["192.0.2.0/24".parse().expect("a network")], ..Matches::default() };
    let sourced = Selector::new(Scope::Both, Family::Both, neighbours).expect("not contradictory");
    match dice.below(10) {
        0 | 1 => vec![],
        2..=4 => vec![Selector::ANYONE],
        5 => vec![scope(Scope::External)],
        6 => vec![scope(Scope::External), scope(Scope::Local)],
        7 => vec![v4],
        8 => vec![v4, v6],
        _ => vec![sourced, Selector::ANYONE],
    }
}
