//! What an entry or the defaults say: which connections it applies to, and who may answer them.

use std::sync::Arc;

use ipnet::IpNet;

use crate::mapping::{Direct, Family, InterfacePattern, Matches, Scope, Selector, User};

use super::ports::Protocols;
use super::report::{Complaint, Concern, Report, Spot};

/// A value and where its key is.
#[derive(Clone, Debug)]
pub(super) struct Said<T> {
    pub value: T,
    pub spot: Spot,
}

impl<T> Said<T> {
    pub(super) fn at(spot: Spot, value: Option<T>) -> Option<Self> {
        Some(Self { value: value?, spot })
    }
}

/// What an entry or `defaults` says; `None` is nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Criteria {
    pub protocols: Option<Said<Protocols>>,
    pub scope: Option<Said<Scope>>,
    pub families: Option<Said<Family>>,
    /// An empty list, here and below, is "any", against the defaults.
    pub interfaces: Option<Said<Vec<InterfacePattern>>>,
    pub sources: Option<Said<Vec<IpNet>>>,
    pub addresses: Option<Said<Vec<IpNet>>>,
    /// `any` is said, too, against the defaults.
    pub user: Option<Said<Option<User>>>,
    pub direct: Option<Said<Direct>>,
}

impl Criteria {
    /// What an entry says, and the defaults for the rest.
    pub(super) fn or(self, defaults: &Criteria) -> Criteria {
        Criteria {
            protocols: self.protocols.or_else(|| defaults.protocols.clone()),
            scope: self.scope.or_else(|| defaults.scope.clone()),
            families: self.families.or_else(|| defaults.families.clone()),
            interfaces: self.interfaces.or_else(|| defaults.interfaces.clone()),
            sources: self.sources.or_else(|| defaults.sources.clone()),
            addresses: self.addresses.or_else(|| defaults.addresses.clone()),
            user: self.user.or_else(|| defaults.user.clone()),
            direct: self.direct.or_else(|| defaults.direct.clone()),
        }
    }

    /// Whose sockets may answer.
    pub(super) fn user(&self) -> Option<User> {
        self.user.as_ref().and_then(|said| said.value.clone())
    }

    pub(super) fn direct(&self) -> Direct {
        self.direct.as_ref().map_or_else(Direct::default, |said| said.value)
    }

    pub(super) fn protocols(&self) -> Protocols {
        self.protocols.as_ref().map_or(Protocols::TCP, |said| said.value)
    }

    /// One selector, or one for each family if networks of both are named.
    pub(super) fn selectors(&self) -> Result<Arc<[Selector]>, (Spot, Complaint)> {
        self.check_scope()?;
        self.check_families()?;
        let scope = self.scope.as_ref().map_or(Scope::Both, |said| said.value);
        let said = self.families.as_ref().map_or(Family::Both, |said| said.value);
        let families: &[Family] = match self.networks().next() {
            Some(_) => &[Family::Ipv4, Family::Ipv6],
            None => &[Family::Both],
        };
        let families = families.iter().filter(|family| self.allows(**family));
        Ok(families
            .filter_map(|&family| {
                let narrowed = if family == Family::Both { said } else { family };
                Selector::new(scope, narrowed, self.matches(family))
            })
            .collect())
    }

    /// The lists of networks that restrict.
    fn networks(&self) -> impl Iterator<Item = (&'static str, &Said<Vec<IpNet>>)> {
        let lists = [("sources", &self.sources), ("addresses", &self.addresses)];
        lists
            .into_iter()
            .filter_map(|(name, said)| Some((name, said.as_ref()?)))
            .filter(|(_, said)| !said.value.is_empty())
    }

    fn allows(&self, family: Family) -> bool {
        family == Family::Both || self.networks().all(|(_, said)| has(said, family))
    }

    fn matches(&self, family: Family) -> Matches {
        let of_family = |said: &Option<Said<Vec<IpNet>>>| {
            let networks = said.iter().flat_map(|said| &said.value);
            networks.filter(|net| family.covers(Family::of(net))).copied().collect()
        };
        Matches {
            interfaces: self.interfaces.as_ref().map_or_else(Vec::new, |said| said.value.clone()),
            sources: of_family(&self.sources),
            addresses: of_family(&self.addresses),
        }
    }

    /// Whether anything is said about which connections are meant.
    pub(super) fn has_selectors(&self) -> bool {
        self.scope.is_some()
            || self.families.is_some()
            || self.interfaces.is_some()
            || self.sources.is_some()
            || self.addresses.is_some()
    }

    /// Loopback addresses for connections from outside. The kernel drops such packets as martians,
    /// unless `net.ipv4.conf.*.route_localnet` is set.
    pub(super) fn warn(&self, report: &mut Report) {
        let has_interfaces = self.interfaces.as_ref().is_some_and(|said| !said.value.is_empty());
        let scope = self.scope.as_ref().map_or(Scope::Both, |said| said.value);
        if scope != Scope::External && !has_interfaces {
            return;
        }
        for (name, said) in self.networks() {
            if let Some(net) = said.value.iter().find(|net| is_loopback(net)) {
                report.warn(Concern::NeverMatches, said.spot, || {
                    let message = format!("`{name}` has {net}, which never matches from outside");
                    Complaint::new(message)
                        .help("for connections made on this machine, use `scope: local`")
                });
            }
        }
    }

    fn check_scope(&self) -> Result<(), (Spot, Complaint)> {
        let (Some(scope), Some(interfaces)) = (&self.scope, &self.interfaces) else {
            return Ok(());
        };
        if scope.value != Scope::Local || interfaces.value.is_empty() {
            return Ok(());
        }
        let message = "connections made on this machine do not arrive on an interface";
        let complaint = Complaint::new(message)
            .help("`interfaces` implies `scope: external`: remove one of the two")
            .related(interfaces.spot, "the interfaces are given here");
        Err((scope.spot, complaint))
    }

    /// Every network must be of a family that is selected, and that all lists have.
    fn check_families(&self) -> Result<(), (Spot, Complaint)> {
        for (name, said) in self.networks() {
            for family in [Family::Ipv4, Family::Ipv6] {
                if has(said, family) {
                    self.check_family(name, said.spot, family)?;
                }
            }
        }
        Ok(())
    }

    fn check_family(
        &self,
        name: &str,
        spot: Spot,
        family: Family,
    ) -> Result<(), (Spot, Complaint)> {
        let shown = family.name();
        if let Some(families) = self.families.as_ref().filter(|f| !f.value.covers(family)) {
            let message = format!("`{name}` has {shown} networks, but `families` excludes {shown}");
            let complaint = Complaint::new(message)
                .help(format!("remove the {shown} networks, or add `{shown}` to `families`"))
                .related(families.spot, "the families are given here");
            return Err((spot, complaint));
        }
        let lacking = self.networks().find(|(_, other)| !has(other, family));
        let Some((other, said)) = lacking else { return Ok(()) };
        let message =
            format!("`{name}` has {shown} networks, but `{other}` has none: they never match");
        let complaint = Complaint::new(message)
            .help(format!("add {shown} networks to `{other}`, or remove them from `{name}`"))
            .related(said.spot, format!("`{other}` is given here"));
        Err((spot, complaint))
    }
}

fn has(said: &Said<Vec<IpNet>>, family: Family) -> bool {
    said.value.iter().any(|net| Family::of(net) == family)
}

fn is_loopback(net: &IpNet) -> bool {
    net.network().is_loopback() && net.broadcast().is_loopback()
}
