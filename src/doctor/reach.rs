//! Whether the clients that a mapping is meant for find a listener at its target.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::Value;

use super::around::Facts;
use super::finding::{Code, Severity};
use super::holder::{Holder, written};
use crate::host::listeners::{Listener, Listening};
use crate::host::network::Interface;
use crate::mapping::{Family, Mapping, Port, Protocol, Scope};

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    Outside,
    Here,
}

/// What becomes of the clients that a mapping is meant for, as far as listeners decide it. Equal
/// for neighbouring mappings whose targets the same programs hold in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It cannot be seen who listens.
    Unknown,
    All,
    Nobody,
    /// Somebody listens, but with this other protocol.
    OtherProtocol(Protocol, Vec<Holder>),
    LoopbackOnly(Vec<Holder>),
    OneFamilyOnly(Family, Vec<Holder>, Missing),
    OneAddressOnly(Vec<Holder>, Missing),
}

impl Reach {
    /// The finding that it leads to.
    pub fn code(&self) -> Option<Code> {
        match self {
            Reach::Unknown | Reach::All => None,
            Reach::Nobody => Some(Code::NobodyListens),
            Reach::OtherProtocol(..) => Some(Code::OtherProtocol),
            Reach::LoopbackOnly(_) => Some(Code::LoopbackOnly),
            Reach::OneFamilyOnly(..) => Some(Code::OneFamilyOnly),
            Reach::OneAddressOnly(..) => Some(Code::OneAddressOnly),
        }
    }
}

/// Addresses of this host at which nobody answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Whether clients from outside are among those who get no answer.
    pub outside: bool,
    pub addresses: Vec<IpAddr>,
}

impl Missing {
    /// Clients of this machine alone can mostly do with another address.
    pub fn severity(&self) -> Severity {
        if self.outside { Severity::Error } else { Severity::Warning }
    }

    pub fn to_json(&self) -> Value {
        self.addresses.iter().map(IpAddr::to_string).collect()
    }

    /// `192.0.2.1, [::1] and 3 more`
    pub fn in_words(&self) -> String {
        const SHOWN: usize = 3;
        let mut words: Vec<_> = self.addresses.iter().map(|a| written(*a)).collect();
        let more = words.len().saturating_sub(SHOWN);
        words.truncate(SHOWN);
        let list = words.join(", ");
        if more > 0 { format!("{list} and {more} more") } else { list }
    }
}

/// The listeners on a port, by who holds them.
pub fn holders(listening: &Listening, protocol: Protocol, port: Port) -> Vec<Holder> {
    Holder::of(listening.on(protocol, port))
}

/// Which clients of a mapping connect to which of this host's addresses. Addresses of a link alone
/// are left out: hardly anybody is sent there.
pub fn paths(mapping: &Mapping, interfaces: &[Interface]) -> Vec<(From, IpAddr)> {
    let selector = &mapping.selector;
    let meant = |address: &IpAddr| {
        let addresses = selector.matches().map(|m| m.addresses.as_slice()).unwrap_or_default();
        selector.family().covers(Family::of(&(*address).into()))
            && !is_link_local(*address)
            && (addresses.is_empty() || addresses.iter().any(|net| net.contains(address)))
    };
    let mut own: Vec<IpAddr> =
        interfaces.iter().flat_map(|i| &i.addresses).copied().filter(meant).collect();
    own.sort();
    own.dedup();
    let outside = own.iter().filter(|a| selector.scope() != Scope::Local && !a.is_loopback());
    let here = own.iter().filter(|_| selector.scope() != Scope::External);
    let outside = outside.map(|a| (From::Outside, *a));
    outside.chain(here.map(|a| (From::Here, *a))).collect()
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Whether a listener serves clients from there who connect to this address.
fn serves(
    listener: &Listener,
    (from, address): (From, IpAddr),
    mapping: &Mapping,
    interfaces: &[Interface],
) -> bool {
    if !listener.serves(address) {
        return false;
    }
    let Some(bound) = &listener.interface else { return true };
    match from {
        // What stays on this host arrives on its loopback interface.
        From::Here => bound == "lo",
        From::Outside => {
            let arriving = mapping.selector.matches().map(|m| m.interfaces.as_slice());
            match arriving.unwrap_or_default() {
                [] => {
                    let here = interfaces.iter().find(|interface| interface.name == *bound);
                    here.is_some_and(|interface| interface.addresses.contains(&address))
                }
                named => named.iter().all(|pattern| pattern.matches(bound)),
            }
        }
    }
}

/// The listeners that the kernel would give to clients of a mapping who take this path: those bound
/// to the address before those on all, then those bound to the interface or made for IPv4 alone
/// (`compute_score()` of the kernel's inet_hashtables.c and udp.c). Several only where it takes its
/// pick.
pub fn answering<'f>(
    path: (From, IpAddr),
    mapping: &Mapping,
    facts: &'f Facts,
) -> Vec<&'f Listener> {
    let at_target = facts.listening.on(mapping.service.protocol, mapping.to.port());
    let rank = |l: &Listener| {
        let narrower = u8::from(l.interface.is_some()) + u8::from(l.address.is_ipv4());
        (!l.address.is_unspecified(), narrower)
    };
    let serving = at_target.iter().filter(|l| serves(l, path, mapping, &facts.interfaces));
    let serving: Vec<_> = serving.collect();
    let best = serving.iter().map(|l| rank(l)).max();
    serving.into_iter().filter(|l| Some(rank(l)) == best).collect()
}

pub fn reach(mapping: &Mapping, listening: &Listening, interfaces: &[Interface]) -> Reach {
    let protocol = mapping.service.protocol;
    if !listening.is_seen(protocol) {
        return Reach::Unknown;
    }
    let at_target = listening.on(protocol, mapping.to.port());
    if at_target.is_empty() {
        return nobody(mapping, listening);
    }
    let is_loopback =
        |l: &Listener| l.address.is_loopback() || l.interface.as_deref() == Some("lo");
    if is_meant_outside(mapping) && at_target.iter().all(is_loopback) {
        return Reach::LoopbackOnly(Holder::of(at_target));
    }
    let is_missing = |path: &(From, IpAddr)| {
        !at_target.iter().any(|listener| serves(listener, *path, mapping, interfaces))
    };
    let missing: Vec<_> = paths(mapping, interfaces).into_iter().filter(is_missing).collect();
    if missing.is_empty() {
        return Reach::All;
    }
    let only = only_family(at_target);
    let of_others = |family: Family| {
        missing.iter().all(|(_, address)| !family.covers(Family::of(&(*address).into())))
    };
    let outside = missing.iter().any(|(from, _)| *from == From::Outside);
    let mut addresses: Vec<_> = missing.iter().map(|(_, address)| *address).collect();
    addresses.sort();
    addresses.dedup();
    let missing = Missing { outside, addresses };
    match only {
        Some(family) if of_others(family) => {
            Reach::OneFamilyOnly(family, Holder::of(at_target), missing)
        }
        _ => Reach::OneAddressOnly(Holder::of(at_target), missing),
    }
}

fn nobody(mapping: &Mapping, listening: &Listening) -> Reach {
    let other = match mapping.service.protocol {
        Protocol::Tcp => Protocol::Udp,
        Protocol::Udp => Protocol::Tcp,
        _ => return Reach::Nobody,
    };
    match holders(listening, other, mapping.to.port()) {
        holders if holders.is_empty() => Reach::Nobody,
        holders => Reach::OtherProtocol(other, holders),
    }
}

/// Whether clients from outside are among those whom a mapping is for.
fn is_meant_outside(mapping: &Mapping) -> bool {
    let addresses = mapping.selector.matches().map(|m| m.addresses.as_slice());
    let addresses = addresses.unwrap_or_default();
    mapping.selector.scope() != Scope::Local
        && (addresses.is_empty() || addresses.iter().any(|net| !net.addr().is_loopback()))
}

/// The family that all of these listeners serve, if it is one.
fn only_family(listeners: &[Listener]) -> Option<Family> {
    let mut families = listeners.iter().map(|l| match l.wildcard() {
        Some(family) => family,
        None => Family::of(&l.address.into()),
    });
    let first = families.next().filter(|family| *family != Family::Both)?;
    families.all(|family| family == first).then_some(first)
}
