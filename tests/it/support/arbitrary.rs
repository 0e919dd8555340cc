//! Strategies for the values of `portmap::mapping`, for every test that wants any of them.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use portmap::mapping::{
    Comment, Direct, Family, INTERFACE_NAME_MAX, InterfacePattern, Mapping, MappingSet, Matches,
    Port, Protocol, Scope, Selector, Service, Target, Uid, User, UserName,
};
use proptest::prelude::*;
use proptest::sample::select;

/// Sets that a file can say: no mapping is out of reach, and none goes where another begins.
pub fn mapping_sets() -> impl Strategy<Value = MappingSet> {
    prop::collection::vec(runs(), 0..12).prop_map(|runs| {
        let mappings = runs.into_iter().flatten().collect();
        MappingSet::new(agreed(without_chains(without_unreachable(mappings))))
    })
}

/// Several that have much in common, as mappings that follow each other on a machine do.
#[allow(dead_code, reason = "not every crate that includes this file has a use for it")]
pub fn neighbours(n: usize) -> impl Strategy<Value = Vec<MappingSet>> {
    // Half of them want the same port, so that the order among them counts.
    let crowded = mappings().prop_map(|mapping| {
        let service = Service { protocol: Protocol::Tcp, port: Port::new(80).expect("not 0") };
        vec![Mapping { service, ..mapping }]
    });
    let whole = prop::collection::vec(prop_oneof![runs(), crowded], 0..8);
    // What each makes of a mapping of the whole: mostly the same.
    let edits = prop_oneof![4 => Just(0u8), 2 => Just(1), 4 => 2..7u8];
    let edits = (prop::collection::vec(edits, 8), prop::bool::weighted(0.3));
    let edits = prop::collection::vec(edits, n);
    (whole, edits).prop_map(|(whole, edits)| {
        let variant = |(edits, backwards): (Vec<u8>, bool)| {
            let runs = whole.iter().zip(edits).map(|(run, edit)| varied(run.clone(), edit));
            let mut runs: Vec<_> = runs.collect();
            if backwards {
                runs.reverse();
            }
            let mappings = runs.into_iter().flatten().collect();
            MappingSet::new(agreed(without_chains(without_unreachable(mappings))))
        };
        edits.into_iter().map(variant).collect()
    })
}

fn varied(mut run: Vec<Mapping>, edit: u8) -> Vec<Mapping> {
    for mapping in &mut run {
        match edit {
            1 => return Vec::new(),
            2 => {
                mapping.to = Port::new(mapping.to.port().get() ^ 1).map_or(mapping.to, Target::new)
            }
            3 => mapping.comment = Some(Comment::new("another one").unwrap()),
            4 => {
                mapping.selector = Selector::of(mapping.selector.scope(), mapping.selector.family())
            }
            5 => mapping.user = mapping.user.is_none().then(someone),
            6 => {
                mapping.direct =
                    if mapping.direct == Direct::Allow { Direct::Refuse } else { Direct::Allow }
            }
            _ => {}
        }
    }
    run
}

fn someone() -> User {
    User { uid: Uid::new(33).expect("a user"), name: UserName::new("www-data") }
}

/// Neighbouring ports that go to neighbouring ports: 1 to 4 of them.
fn runs() -> impl Strategy<Value = Vec<Mapping>> {
    (mappings(), 0..4u16).prop_map(|(first, more)| {
        let nth = |n| {
            let service = Service { port: first.service.port.further(n)?, ..first.service };
            Some(Mapping { service, to: first.to.further(n)?, ..first.clone() })
        };
        (0..=more).filter_map(nth).collect()
    })
}

pub fn targets() -> impl Strategy<Value = Target> {
    ports().prop_map(Target::new)
}

pub fn mappings() -> impl Strategy<Value = Mapping> {
    let directs = prop_oneof![3 => Just(Direct::Allow), 1 => Just(Direct::Refuse)];
    let parts = (services(), targets(), selectors(), prop::option::of(comments()));
    (parts, prop::option::weighted(0.3, users()), directs).prop_map(
        |((service, to, selector, comment), user, direct)| Mapping {
            service,
            to,
            selector,
            comment,
            user,
            direct,
        },
    )
}

pub fn users() -> impl Strategy<Value = User> {
    let name = prop_oneof!["[a-z_][a-z0-9_-]{0,15}", "[^\"\\p{Cc}]{1,20}"];
    let uid = prop_oneof![0..70000u32, 0..u32::MAX];
    let uid = uid.prop_map(|number| Uid::new(number).expect("below the highest"));
    (uid, prop::option::of(name))
        .prop_map(|(uid, name)| User { uid, name: name.and_then(|name| UserName::new(&name)) })
}

/// Often one of a few, so that services meet.
pub fn services() -> impl Strategy<Value = Service> {
    let port = prop_oneof![(80..90u16).prop_map(|n| Port::new(n).expect("not 0")), ports()];
    (select(&Protocol::ALL), port).prop_map(|(protocol, port)| Service { protocol, port })
}

pub fn ports() -> impl Strategy<Value = Port> {
    (1..=u16::MAX).prop_map(|n| Port::new(n).expect("not 0"))
}

pub fn selectors() -> impl Strategy<Value = Selector> {
    let plain = (select(&Scope::ALL), select(&Family::ALL))
        .prop_map(|(scope, family)| Selector::of(scope, family));
    let special = (select(&Scope::ALL), select(&Family::ALL), matches())
        .prop_filter_map("contradicts itself", |(scope, family, matches)| {
            Selector::new(scope, family, matches)
        });
    prop_oneof![Just(Selector::ANYONE), plain, special]
}

fn matches() -> impl Strategy<Value = Matches> {
    let networks = || {
        let of = |net: BoxedStrategy<IpNet>| prop::collection::vec(net, 0..3);
        prop_oneof![of(ipv4().boxed()), of(ipv6().boxed())]
    };
    (prop::collection::vec(interfaces(), 0..3), networks(), networks())
        .prop_map(|(interfaces, sources, addresses)| Matches { interfaces, sources, addresses })
}

fn ipv4() -> impl Strategy<Value = IpNet> {
    let plain = (any::<u32>(), 0..=32u8).prop_map(|(bits, len)| {
        IpNet::V4(Ipv4Net::new(Ipv4Addr::from(bits), len).expect("a length").trunc())
    });
    let is_unspecified =
        |net: &IpNet| net.prefix_len() >= 8 && net.addr().to_string().starts_with("0.");
    plain.prop_filter("an address of a host", move |net| {
        !(is_unspecified(net) || net.addr().is_multicast() && net.prefix_len() >= 4)
    })
}

fn ipv6() -> impl Strategy<Value = IpNet> {
    let plain = (any::<u128>(), 0..=127u8).prop_map(|(bits, len)| {
        IpNet::V6(Ipv6Net::new(Ipv6Addr::from(bits), len).expect("a length").trunc())
    });
    let usable =
        |net: &IpNet| net.addr().to_canonical() == net.addr() && !net.addr().is_multicast();
    plain.prop_filter("an address of a host", usable)
}

pub fn interfaces() -> impl Strategy<Value = InterfacePattern> {
    let usual = "[a-z][a-z0-9_.@-]{0,14}";
    let odd = "[^\\s\\pC/:\"\\\\*]{1,5}";
    let name = prop_oneof![usual, odd].prop_filter("a name", |name| {
        name.len() <= INTERFACE_NAME_MAX && name != "." && name != ".."
    });
    (name, any::<bool>()).prop_map(|(name, is_prefix)| match is_prefix {
        true => InterfacePattern::prefix(&name).unwrap(),
        false => InterfacePattern::name(&name).unwrap(),
    })
}

pub fn comments() -> impl Strategy<Value = Comment> {
    let text =
        prop_oneof!["[a-z ]{1,20}", "[^\"\\p{Cc}]{1,40}", "[-#:&*!|>'%@`{}\\[\\], ?\\\\]{1,8}"];
    text.prop_filter_map("short", |text| Comment::new(&text).ok())
}

fn without_unreachable(mappings: Vec<Mapping>) -> Vec<Mapping> {
    let mut kept: Vec<Mapping> = Vec::new();
    for mapping in mappings {
        let is_reached = |m: &Mapping| !m.selector.overlaps(&mapping.selector);
        let of_matches =
            |m: &Mapping| m.selector.matches().is_some() && !m.selector.covers(&mapping.selector);
        let same = kept.iter().filter(|m| m.service == mapping.service);
        if same.into_iter().all(|m| is_reached(m) || of_matches(m)) {
            kept.push(mapping);
        }
    }
    kept
}

/// One user for all mappings of a service to a target, and one word on each target's direct use. A
/// port that is mapped to itself has neither.
fn agreed(mut mappings: Vec<Mapping>) -> Vec<Mapping> {
    let is_identity = |m: &Mapping| m.to.port() == m.service.port;
    let itself = |m: &Mapping| Service { port: m.to.port(), ..m.service };
    let identities: HashSet<Service> =
        mappings.iter().filter(|m| is_identity(m)).map(itself).collect();
    let (mut users, mut directs) = (HashMap::new(), HashMap::new());
    for m in &mut mappings {
        if is_identity(m) {
            m.user = None;
        }
        if identities.contains(&itself(m)) {
            m.direct = Direct::Allow;
        }
        let user = m.user.take();
        m.user.clone_from(users.entry((m.service, m.to)).or_insert(user));
        m.direct = *directs.entry(itself(m)).or_insert(m.direct);
    }
    mappings
}

fn without_chains(mappings: Vec<Mapping>) -> Vec<Mapping> {
    let services: HashSet<Service> = mappings.iter().map(|m| m.service).collect();
    let is_chain = |m: &Mapping| {
        let to = m.to.port();
        to != m.service.port && services.contains(&Service { port: to, ..m.service })
    };
    mappings.into_iter().filter(|m| !is_chain(m)).collect()
}
