//! Which tracked flows contradict a new mapping, and their deletion.
//!
//! The kernel translates by the first packet of a flow and remembers: all later packets go where
//! the first one went, whatever has become of the rules. A UDP client that keeps its source port
//! (a resolver, a syslog sender, a VPN peer) and is never silent for as long as conntrack
//! remembers would talk to the old port for ever. So, after a change of the mapping is committed,
//! the flows that the new rules would have sent elsewhere are deleted, and only those. The next
//! packet of such a flow is a first one again.
//!
//! # Only connectionless protocols
//!
//! UDP and UDP-Lite have no connection, so nothing is lost with conntrack's memory of one. TCP,
//! SCTP and DCCP hold state in both endpoints: an established connection whose packets suddenly
//! go to another port, or come back from one, is only reset. New connections follow the new rules
//! anyway, also from the same client port: conntrack gives up a closed flow when a new SYN (INIT,
//! Request) arrives for it. So established connections drain at the old target, as after a reload
//! of any server.
//!
//! # Which flows are ours
//!
//! Those whose first packet was sent to an address of this host and to a port whose mappings
//! differ between before and after. Of these we leave alone:
//!
//! - what was translated to another address (Docker, a load balancer, a `redirect`): we translate
//!   the port alone;
//! - what was translated to a port that the mapping before would not have given: another
//!   program's rule did that, and will do it again. This spares also a flow of ours that is older
//!   than `before` (its cleaning failed then); it cannot be told from another program's.
//!
//! An untranslated flow, on the other hand, is deleted whatever `before` says of it, if `after`
//! translates it without fail: it may be older than the mapping, and nobody's rule holds it.
//!
//! Conntrack does not know the interface by which a flow arrived. A flow is judged for every
//! interface that could matter, and contradicts only if no interface explains both what was done
//! with it and that it is to stay so.
//!
//! Earlier builds translated with `redirect`, which rewrites the address too. Where their table
//! has been replaced, [`redirected`] finds their flows: those that went to another address of this
//! host, to the port that the mapping before gives. None of them is as it would be made now.
//!
//! # Order and races
//!
//! Cleaning comes after the commit: a flow that comes up again while or after it runs does so by
//! the new rules. Deleting is by tuple, zone and identity (`CTA_ID`). The identity is a hash of the
//! tuple and of the flow's place in memory, so it can hit a flow that took the place of the one
//! that was judged; but only the same client's to the same port, and the next packet brings it up
//! once more.
//!
//! What remains:
//!
//! - A packet that passed the old rules but is entered in the table only after we read it:
//!   microseconds, or longer if it waits in an NFQUEUE.
//! - An answer that a server sends after its flow is deleted. To conntrack it is the first packet
//!   of a flow that the server begins. If that server listens on the service port itself (a
//!   mapping was put in front of a running server), the client's next packet counts as the answer,
//!   is not translated, and reaches that server until the two pause for 30 seconds. Such flows
//!   cannot be told from those that a service begins on its own account (an NTP server asks others
//!   from port 123, and must get their answers), so flows begun by this host's service ports are
//!   never deleted.
//!
//! Addresses made local only by a route (`ip route add local 192.0.2.0/24 dev lo`) are not known
//! here as this host's. Their flows are left alone.

#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::mapping::changes::do_the_same;
use crate::mapping::{
    Family, InterfacePattern, Mapping, MappingSet, Port, Protocol, Scope, Selector, Service, Target,
};

/// One direction of a flow: what its packets carry as the sender sent them. (The scope of a
/// link-local address is not known.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// A flow as conntrack knows it. The reply's source is the endpoint that really answers, its destination
/// the client as the answerer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    pub protocol: Protocol,
    pub original: Tuple,
    pub reply: Tuple,
}

/// The addresses of this host, as far as packets sent to them are translated
/// (`fib daddr type local`).
#[derive(Clone, Debug, Default)]
pub struct LocalAddresses(HashSet<IpAddr>);

impl LocalAddresses {
    /// Loopback addresses (127.0.0.0/8, ::1) need not be named.
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self(addresses.into_iter().collect())
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.0.contains(&address)
    }
}

/// Whether `flow` is to be deleted because `after` would not do with it what was done.
///
/// Never true for a service that does not differ between the two, nor for a protocol with
/// connections.
pub fn contradicts(
    flow: &Flow,
    before: &MappingSet,
    after: &MappingSet,
    local: &LocalAddresses,
) -> bool {
    let Some(service) = service_of(flow) else { return false };
    let (before, after) = (before.of(service), after.of(service));
    if do_the_same(before, after) || !local.contains(flow.original.destination.ip()) {
        return false;
    }
    let Some(present) = Present::of(flow) else { return false };

    let interfaces = conceivable_interfaces(before, after);
    let stays = |mappings: &[Mapping], interface: &str| {
        present.agrees(outcome(mappings, flow, local, interface), service.port)
    };
    let explained = |interface: &&String| stays(before, interface);
    match (interfaces.iter().any(|i| explained(&i)), present) {
        (true, _) => !interfaces.iter().filter(explained).any(|i| stays(after, i)),
        (false, Present::Untranslated) => !interfaces.iter().any(|i| stays(after, i)),
        (false, Present::Translated(_)) => false,
    }
}

/// Whether an earlier build, with `before` in the kernel, translated `flow` to another address
/// of this host.
pub fn redirected(flow: &Flow, before: &MappingSet, local: &LocalAddresses) -> bool {
    let Some(service) = service_of(flow) else { return false };
    let (asked, answers) = (flow.original.destination, flow.reply.source);
    let moved = answers.ip() != asked.ip();
    if !moved || !local.contains(asked.ip()) || !local.contains(answers.ip()) {
        return false;
    }
    let mappings = before.of(service);
    conceivable_interfaces(mappings, &[]).iter().any(|interface| {
        outcome(mappings, flow, local, interface)
            .is_some_and(|to| to.port().get() == answers.port())
    })
}

/// The service that the client of a connectionless flow asked for.
pub fn service_of(flow: &Flow) -> Option<Service> {
    let port = Port::new(flow.original.destination.port())?;
    flow.protocol.is_connectionless().then_some(Service { protocol: flow.protocol, port })
}

/// What was done with the first packet of a flow.
#[derive(Clone, Copy)]
enum Present {
    /// It went where it was sent.
    Untranslated,
    /// It went to this port of the same address.
    Translated(u16),
}

impl Present {
    /// `None` if it was sent on to another address.
    ///
    /// Told by who answers, not by `IPS_DST_NAT`: IPVS rewrites the reply without setting it.
    fn of(flow: &Flow) -> Option<Self> {
        let (asked, answers) = (flow.original.destination, flow.reply.source);
        if answers == asked {
            Some(Present::Untranslated)
        } else if answers.ip() == asked.ip() {
            Some(Present::Translated(answers.port()))
        } else {
            None
        }
    }

    /// Whether `outcome` would have led to this. A translation to the very port that was asked
    /// for looks like none.
    fn agrees(self, outcome: Option<Target>, asked: Port) -> bool {
        match (self, outcome) {
            (Present::Untranslated, None) => true,
            (Present::Untranslated, Some(to)) => to.port() == asked,
            (Present::Translated(port), Some(to)) => to.port().get() == port,
            (Present::Translated(_), None) => false,
        }
    }
}

/// Where the mappings of one service send a flow that arrives on `interface` (or, if it is this
/// host's own, that does not); `None` if they leave it alone.
fn outcome(
    mappings: &[Mapping],
    flow: &Flow,
    local: &LocalAddresses,
    interface: &str,
) -> Option<Target> {
    mappings.iter().find(|m| selects(&m.selector, flow, local, interface)).map(|m| m.to)
}

fn selects(selector: &Selector, flow: &Flow, local: &LocalAddresses, interface: &str) -> bool {
    let (client, asked) = (flow.original.source.ip(), flow.original.destination.ip());
    // What this host sends is seen in the output hook; when it comes back in by the loopback
    // device, it has its translation (or its none) already.
    let scope = if local.contains(client) { Scope::Local } else { Scope::External };
    let family = Family::of(&IpNet::from(asked));
    selector.scope().covers(scope)
        && selector.family().covers(family)
        && selector.matches().is_none_or(|m| {
            (m.interfaces.is_empty() || m.interfaces.iter().any(|i| is_named(interface, i)))
                && lies_in(client, &m.sources)
                && lies_in(asked, &m.addresses)
        })
}

fn lies_in(address: IpAddr, networks: &[IpNet]) -> bool {
    networks.is_empty() || networks.iter().any(|n| n.contains(&address))
}

fn is_named(interface: &str, pattern: &InterfacePattern) -> bool {
    match pattern {
        InterfacePattern::Name(name) => interface == &**name,
        InterfacePattern::Prefix(prefix) => interface.starts_with(&**prefix),
    }
}

/// Cannot be in an interface's name (`dev_valid_name` in the kernel), so a name that ends in it
/// is matched by prefixes only.
const NOT_IN_A_NAME: char = '/';

/// A name for each way in which these mappings can tell interfaces apart.
fn conceivable_interfaces(before: &[Mapping], after: &[Mapping]) -> Vec<String> {
    let patterns =
        before.iter().chain(after).filter_map(|m| m.selector.matches()).flat_map(|m| &m.interfaces);
    let mut interfaces = vec![String::from(NOT_IN_A_NAME)];
    for pattern in patterns {
        interfaces.push(match pattern {
            InterfacePattern::Name(name) => name.to_string(),
            InterfacePattern::Prefix(prefix) => format!("{prefix}{NOT_IN_A_NAME}"),
        });
    }
    interfaces
}

#[cfg(test)]
mod tests;
