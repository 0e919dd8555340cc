//! What a user asks for, as a value: which service port of this host goes to which other port,
//! and for whom.
//!
//! The room is pure. Values here are already checked; text is read in [`crate::config`].

#![forbid(unsafe_code)]

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;

/// A transport port, 1 to 65535. Port 0 is reserved (RFC 6335, section 6) and never on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(NonZeroU16);

impl Port {
    /// `None` for 0.
    pub const fn new(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }

    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The transport protocols that the kernel's redirect can translate: those for which
/// `nf_nat_proto.c` rewrites a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Dccp,
    Sctp,
    UdpLite,
}

impl Protocol {
    pub const ALL: [Protocol; 5] =
        [Protocol::Tcp, Protocol::Udp, Protocol::Dccp, Protocol::Sctp, Protocol::UdpLite];

    /// The number in the IP header (IANA protocol numbers; `netinet/in.h`).
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Dccp => 33,
            Protocol::Sctp => 132,
            Protocol::UdpLite => 136,
        }
    }

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.number() == number)
    }

    /// The name in the services database, in nft and in our files.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Dccp => "dccp",
            Protocol::Sctp => "sctp",
            Protocol::UdpLite => "udplite",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Protocol {
    type Err = ();

    fn from_str(s: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|p| p.name() == s).ok_or(())
    }
}

/// What a client connects to: a protocol and a port of this host. Ordered as shown to people:
/// by protocol, then by port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    pub protocol: Protocol,
    pub port: Port,
}

impl fmt::Display for Service {
    /// `80/tcp`, as in services(5).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

/// Whose connections are redirected: those that arrive from outside (prerouting hook), those made
/// on this machine (output hook), or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    #[default]
    Both,
    External,
    Local,
}

impl Scope {
    pub const ALL: [Scope; 3] = [Scope::Both, Scope::External, Scope::Local];

    pub const fn name(self) -> &'static str {
        match self {
            Scope::Both => "both",
            Scope::External => "external",
            Scope::Local => "local",
        }
    }

    pub fn overlaps(self, other: Scope) -> bool {
        self == other || self == Scope::Both || other == Scope::Both
    }

    pub fn covers(self, other: Scope) -> bool {
        self == other || self == Scope::Both
    }
}

/// Which IP versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    #[default]
    Both,
    Ipv4,
    Ipv6,
}

impl Family {
    pub const ALL: [Family; 3] = [Family::Both, Family::Ipv4, Family::Ipv6];

    pub const fn name(self) -> &'static str {
        match self {
            Family::Both => "both",
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        }
    }

    pub fn of(net: &IpNet) -> Self {
        match net {
            IpNet::V4(_) => Family::Ipv4,
            IpNet::V6(_) => Family::Ipv6,
        }
    }

    pub fn overlaps(self, other: Family) -> bool {
        self == other || self == Family::Both || other == Family::Both
    }

    pub fn covers(self, other: Family) -> bool {
        self == other || self == Family::Both
    }
}

/// The name of a network interface, or the beginning of one followed by `*`.
///
/// The kernel's limit is 15 bytes (`IFNAMSIZ` less the closing zero). A beginning of that length is
/// a whole name: [`Selector::new`] makes it one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InterfacePattern {
    Name(Arc<str>),
    Prefix(Arc<str>),
}

/// `IFNAMSIZ` of `linux/if.h`, less the closing zero.
pub const INTERFACE_NAME_MAX: usize = 15;

impl fmt::Display for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InterfacePattern::Name(name) => f.write_str(name),
            InterfacePattern::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// The part of a selector that needs a rule of its own in the kernel. Empty lists mean "any".
/// `sources` and `addresses` are aggregated (`IpNet::aggregate`), sorted, and of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Matches {
    /// Arriving interfaces, sorted, without duplicates or names that a prefix beside them covers.
    pub interfaces: Vec<InterfacePattern>,
    /// Where the client's address lies.
    pub sources: Vec<IpNet>,
    /// Which of this host's own addresses the client connected to.
    pub addresses: Vec<IpNet>,
}

/// For whom a mapping is meant.
///
/// Invariants, kept by [`Selector::new`]: `matches` is never empty; with interfaces the scope is
/// `External`; with sources or addresses the family is not `Both`, and all of them are of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    pub scope: Scope,
    pub family: Family,
    pub matches: Option<Arc<Matches>>,
}

/// The longest comment, in bytes: `NFTNL_UDATA_COMMENT_MAXLEN` of `libnftnl/udata.h`.
pub const COMMENT_MAX: usize = 128;

/// One service port and where its connections go. A range in the file is as many of these.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mapping {
    pub service: Service,
    pub selector: Selector,
    pub to: Port,
    /// Shown by status and in the kernel's listing. At most [`COMMENT_MAX`] bytes, no control
    /// characters, no double quote: nft's grammar has no escape for one.
    pub comment: Option<Arc<str>>,
}

/// All that is wanted, sorted by service; mappings of one service stand in the order in which the
/// kernel tries them, and the first that matches wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MappingSet {
    mappings: Vec<Mapping>,
}

impl Selector {
    /// Everybody: both scopes, both families, no further condition.
    pub const ANYONE: Selector =
        Selector { scope: Scope::Both, family: Family::Both, matches: None };

    pub fn of(scope: Scope, family: Family) -> Self {
        Self { scope, family, matches: None }
    }

    /// Brings `matches` into the canonical form and keeps the invariants: aggregates networks,
    /// drops covered interface names, takes the `*` from a name that is as long as names can be,
    /// narrows the scope to `External` if interfaces are named and the family to that of the
    /// networks.
    ///
    /// `None` where nothing could ever match: interfaces with scope `Local`, networks of both
    /// families or of another one than `family`. (A file's entry with networks of both families
    /// is two mappings, one for each.)
    pub fn new(scope: Scope, family: Family, matches: Matches) -> Option<Self> {
        let interfaces = canonical_interfaces(matches.interfaces);
        let sources = canonical_networks(matches.sources);
        let addresses = canonical_networks(matches.addresses);
        let scope = match (interfaces.is_empty(), scope) {
            (true, scope) => scope,
            (false, Scope::Local) => return None,
            (false, _) => Scope::External,
        };
        let mut narrowed = family;
        for net in sources.iter().chain(&addresses) {
            if !narrowed.covers(Family::of(net)) {
                return None;
            }
            narrowed = Family::of(net);
        }
        let matches = Matches { interfaces, sources, addresses };
        let matches = (matches != Matches::default()).then(|| Arc::new(matches));
        Some(Self { scope, family: narrowed, matches })
    }

    /// Whether every connection that `other` matches is matched by `self`. May say `false` for
    /// sets of networks that only cover in combination; never `true` wrongly.
    pub fn covers(&self, other: &Selector) -> bool {
        let any = Matches::default();
        let mine = self.matches.as_deref().unwrap_or(&any);
        let theirs = other.matches.as_deref().unwrap_or(&any);
        self.scope.covers(other.scope)
            && self.family.covers(other.family)
            && list_covers(&mine.interfaces, &theirs.interfaces, interface_covers)
            && list_covers(&mine.sources, &theirs.sources, |a, b| a.contains(b))
            && list_covers(&mine.addresses, &theirs.addresses, |a, b| a.contains(b))
    }

    /// Whether a connection is conceivable that both match, by scope and family alone.
    pub fn overlaps(&self, other: &Selector) -> bool {
        self.scope.overlaps(other.scope) && self.family.overlaps(other.family)
    }
}

/// An empty list means "any", so it covers all and only it covers an empty one.
fn list_covers<T>(mine: &[T], theirs: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
    mine.is_empty()
        || (!theirs.is_empty() && theirs.iter().all(|t| mine.iter().any(|m| covers(m, t))))
}

fn interface_covers(a: &InterfacePattern, b: &InterfacePattern) -> bool {
    match (a, b) {
        (InterfacePattern::Name(a), InterfacePattern::Name(b)) => a == b,
        (InterfacePattern::Name(_), InterfacePattern::Prefix(_)) => false,
        (InterfacePattern::Prefix(a), InterfacePattern::Name(b) | InterfacePattern::Prefix(b)) => {
            b.starts_with(&**a)
        }
    }
}

fn canonical_interfaces(mut interfaces: Vec<InterfacePattern>) -> Vec<InterfacePattern> {
    for interface in &mut interfaces {
        // There is no longer name that could begin with it, and neither nft nor iptables takes a
        // pattern of so many bytes with its `*`.
        if let InterfacePattern::Prefix(prefix) = interface
            && prefix.len() >= INTERFACE_NAME_MAX
        {
            *interface = InterfacePattern::Name(Arc::clone(prefix));
        }
    }
    interfaces.sort();
    interfaces.dedup();
    let covered = |i: &InterfacePattern| {
        interfaces.iter().any(|other| other != i && interface_covers(other, i))
    };
    interfaces.iter().filter(|i| !covered(i)).cloned().collect()
}

fn canonical_networks(networks: Vec<IpNet>) -> Vec<IpNet> {
    let mut networks = IpNet::aggregate(&networks);
    networks.sort();
    networks
}

impl MappingSet {
    /// Sorts by service; the order of mappings of one service is kept, except that mappings whose
    /// order cannot matter (none overlaps another) are put into the canonical one.
    pub fn new(mut mappings: Vec<Mapping>) -> Self {
        mappings.sort_by_key(|m| m.service);
        for same_service in mappings.chunk_by_mut(|a, b| a.service == b.service) {
            if is_disjoint(same_service) {
                same_service.sort();
            }
        }
        Self { mappings }
    }

    pub fn len(&self) -> usize {
        self.mappings.len()
    }

    pub fn is_empty(&self) -> bool {
        self.mappings.is_empty()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Mapping> {
        self.mappings.iter()
    }

    /// The mappings of one service after another, each group in order of evaluation.
    pub fn services(&self) -> impl Iterator<Item = &[Mapping]> {
        self.mappings.chunk_by(|a, b| a.service == b.service)
    }

    /// The mappings of `service` in order of evaluation; empty if there are none.
    pub fn of(&self, service: Service) -> &[Mapping] {
        let start = self.mappings.partition_point(|m| m.service < service);
        let len = self.mappings[start..].partition_point(|m| m.service == service);
        &self.mappings[start..start + len]
    }
}

impl<'a> IntoIterator for &'a MappingSet {
    type Item = &'a Mapping;
    type IntoIter = std::slice::Iter<'a, Mapping>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Whether the mappings of one service need no rules: none asks for more than scope and family,
/// and no connection is meant by two of them.
pub fn is_disjoint(same_service: &[Mapping]) -> bool {
    same_service.iter().enumerate().all(|(i, m)| {
        m.selector.matches.is_none()
            && same_service[..i].iter().all(|earlier| !earlier.selector.overlaps(&m.selector))
    })
}
