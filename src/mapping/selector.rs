//! For whom a mapping is meant.

use std::sync::Arc;

use ipnet::IpNet;

use super::interface::{InterfacePattern, canonical_interfaces};

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
    scope: Scope,
    family: Family,
    matches: Option<Arc<Matches>>,
}

impl Selector {
    /// All connections: both scopes, both families, no further condition.
    pub const ANYONE: Selector =
        Selector { scope: Scope::Both, family: Family::Both, matches: None };

    pub const fn of(scope: Scope, family: Family) -> Self {
        Self { scope, family, matches: None }
    }

    pub const fn scope(&self) -> Scope {
        self.scope
    }

    pub const fn family(&self) -> Family {
        self.family
    }

    /// What needs a rule of its own in the kernel; `None` if it is nothing.
    pub fn matches(&self) -> Option<&Matches> {
        self.matches.as_deref()
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
            && list_covers(&mine.interfaces, &theirs.interfaces, InterfacePattern::covers)
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

fn canonical_networks(networks: Vec<IpNet>) -> Vec<IpNet> {
    let mut networks = IpNet::aggregate(&networks);
    networks.sort();
    networks
}
