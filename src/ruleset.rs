//! Our table as a value: what the kernel holds for a [`MappingSet`](crate::mapping::MappingSet).
//!
//! The room is pure. [`desired`] makes the value, [`Ruleset::mapping`] reads it back,
//! `Display` writes it as text that `nft -f` accepts and makes the same table of.
//!
//! # The layout
//!
//! Both NAT chains first let everything pass that is not for this host, and what is no beginning of
//! a TCP connection, then look the port up in a map: one lookup for all mappings without
//! selectors. Mappings that only name a scope or a family have maps of their own, consulted by the
//! hooks and families concerned. A service with real selectors, or with several mappings that
//! overlap, has a chain, entered through a verdict map; it is looked up last, so that it costs the
//! plain ones nothing.
//!
//! Only the port is translated. A `redirect` would rewrite the address too, to loopback or to the
//! first of the interface, and a program that listens on another one would not be found.
//!
//! During a trial (see `portmap apply --confirm`) a second layer of the same shape is in the
//! table. A gate before the first layer sends packets to it while the gate's elements live. While
//! they do, two filter chains have the connectionless flows that the trial is about tracked in a
//! conntrack zone of their own: the packets of such a flow meet its entry from before again, or
//! none, as soon as the gate shuts.
//!
//! Where a mapping has a `user`, or hides its target (`direct: refuse`), a filter chain watches:
//! `answers` what this host answers to translated connections, `direct` what arrives for a hidden
//! target and was not translated. Each looks into sets of its layer, and during a trial has the
//! same gate. A table that needs neither has neither.

#![forbid(unsafe_code)]

mod base;
mod between;
mod checks;
mod layout;
mod names;
mod stamp;
mod table;
mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::mapping::{Comment, Mapping, Protocol, Scope, Service, Target, Uid, User};

pub use base::{BASE_CHAINS, BaseChain, HookPoint, Kind, LAYOUT, Policy, TABLE};
pub use layout::{Trial, desired};
pub use names::{ChainName, GATE, MapName};
pub use stamp::Stamp;
pub use table::{Lifetime, Run, RunId, RunTable, TableName, TraceId, TraceTable};
pub use text::Script;

/// The conntrack zone in which the connectionless flows of a trial are tracked. Others use small
/// numbers; this one is `pm` in ASCII.
pub const TRIAL_ZONE: u16 = 0x706d;

/// A map with more elements than this is made without counters. The kernel allocates a counter
/// per element and processor (about 2.4 µs each): four fifths of the time to commit a full map.
pub const COUNTED_MAX: usize = 4096;

/// The mapping in force, or the one on trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    Active,
    Trial,
}

/// The two NAT hooks in which a destination can be rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Packets that arrive.
    Prerouting,
    /// Packets made on this machine.
    Output,
}

impl Hook {
    pub const ALL: [Hook; 2] = [Hook::Prerouting, Hook::Output];

    pub const fn name(self) -> &'static str {
        match self {
            Hook::Prerouting => "prerouting",
            Hook::Output => "output",
        }
    }

    /// Which mappings a packet in this hook can belong to.
    pub const fn scope(self) -> Scope {
        match self {
            Hook::Prerouting => Scope::External,
            Hook::Output => Scope::Local,
        }
    }
}

/// What the filter chains watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// What this host answers to translated connections: whose socket says it.
    Answers,
    /// What others send to a target without a translation.
    Direct,
}

impl Check {
    pub const ALL: [Check; 2] = [Check::Answers, Check::Direct];

    pub const fn name(self) -> &'static str {
        match self {
            Check::Answers => "answers",
            Check::Direct => "direct",
        }
    }
}

/// What a rule of ours does. There are no others in our chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `fib daddr type != local return`: first in each NAT chain. Carries the stamp (as the
    /// rule's comment) in `prerouting`.
    ForThisHost(Option<Stamp>),
    /// `tcp flags != syn / fin,syn,rst,ack return`: a connection that is older than
    /// connection tracking in this namespace looks new in mid-stream, and is left alone.
    OnlyNewTcp,
    /// `meta nfproto @trial goto trial-prerouting`: to the chain of this name, which is one of the
    /// trial's layer.
    Gate(ChainName),
    /// `[meta nfproto ipv4] meta l4proto {…} dnat to :meta l4proto . th dport map @ports`.
    /// The match on the protocols is for nft, which does not accept `dnat to :…` without one.
    Lookup(MapName),
    /// `meta l4proto . th dport vmap @selected`
    Dispatch(Layer),
    /// In the chain of a service: `meta l4proto tcp iifname … ip saddr … counter dnat to :3000`
    Select(Box<Mapping>),
    /// A `Lookup` or a `Select` as earlier builds made it, with `redirect to :…`. Only found,
    /// and replaced by what is in it; never wanted.
    Redirect(Box<Rule>),
    /// `meta nfproto @trial meta l4proto . th dport @trial-zoned fib daddr type local ct original
    /// zone set 28781`
    Zone,
    /// A rule of a filter chain.
    Check(CheckRule),
}

/// The rules of the filter chains. They see every packet, so the first ones let go what does not
/// concern them.
///
/// Where the kernel has no connection-tracking entry or no socket for a packet, `ct` and
/// `meta skuid` match nothing, not even `!=`: so its own refusals, which have no socket, always go
/// out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckRule {
    /// `ct status ! dnat return`
    OnlyTranslated,
    /// `ct direction original return`
    OnlyReplies,
    /// `tcp flags != syn,ack / fin,syn,rst,ack return`: who accepts a connection decides once.
    OnlySynAck,
    /// Drops the answer of a guarded mapping, if its socket is not of the user that is served. The
    /// last lookup is that of the set whose elements count.
    ///
    /// `meta l4proto . ct original proto-dst . th sport . meta skuid != @served meta l4proto . ct
    /// original proto-dst . th sport @guarded drop`, after a match on the protocols, without which
    /// nft does not know what `ct original proto-dst` is.
    Answers(Layer),
    /// `iif "lo" return`
    OnlyOutside,
    /// `ct status dnat return`
    OnlyDirect,
    /// `tcp flags syn / fin,syn,rst,ack meta l4proto . tcp dport @hidden reject with tcp reset`:
    /// connections from before go on.
    RefuseTcp(Layer),
    /// `meta l4proto != tcp ct direction original meta l4proto . th dport @hidden reject`: a program
    /// may ask other machines from that port, and gets their answers.
    RefuseOther(Layer),
}

/// A translated service, as it shows in an answer: who the client asked, and where the answer comes
/// from. Of mappings of one service to one target, the answers cannot be told apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Answer {
    pub service: Service,
    pub to: Target,
    /// Whose socket may answer; `None` in the set of those that are guarded.
    pub user: Option<User>,
}

impl Answer {
    /// What an element of the set is found by: all but the user's name, which is its comment.
    pub fn key(&self) -> (Service, Target, Option<Uid>) {
        (self.service, self.to, self.user.as_ref().map(|user| user.uid))
    }
}

/// What an element of a map of ports holds beside its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortData {
    pub to: Target,
    pub comment: Option<Comment>,
}

/// A map and its elements, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Map {
    Ports(Vec<(Service, PortData)>),
    /// To the chain of the same service and layer, always; the verdict is `goto`.
    Selected(Vec<Service>),
    /// Not a map but a set.
    Services(Vec<Service>),
    /// A set as well.
    Answers(Vec<Answer>),
}

impl Rule {
    /// Equality apart from the stamp, which says where a table comes from and not what it does.
    pub fn same_effect(&self, other: &Rule) -> bool {
        match (self, other) {
            (Rule::ForThisHost(_), Rule::ForThisHost(_)) => true,
            _ => self == other,
        }
    }

    /// The same rule as it is made today.
    pub fn modern(&self) -> &Rule {
        match self {
            Rule::Redirect(rule) => rule,
            rule => rule,
        }
    }
}

impl Map {
    /// One of this name, without elements.
    pub fn empty(name: MapName) -> Self {
        match name {
            MapName::Ports(..) => Map::Ports(Vec::new()),
            MapName::Selected(_) => Map::Selected(Vec::new()),
            MapName::Zoned | MapName::Hidden(_) => Map::Services(Vec::new()),
            MapName::Served(_) | MapName::Guarded(_) => Map::Answers(Vec::new()),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Map::Ports(elements) => elements.len(),
            Map::Selected(services) | Map::Services(services) => services.len(),
            Map::Answers(answers) => answers.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where a map of ports sends a service.
    pub fn target(&self, service: Service) -> Option<&PortData> {
        let Map::Ports(elements) = self else { return None };
        let at = elements.binary_search_by_key(&service, |(service, _)| *service).ok()?;
        Some(&elements[at].1)
    }
}

/// How large a map is made for `len` elements (`NFTA_SET_DESC_SIZE`), and whether it counts.
///
/// With a size the kernel takes a fixed hash table, which it fills in half the time; but the size
/// is a limit as well, so there is headroom.
pub fn map_shape(name: MapName, len: usize) -> MapShape {
    let size = (len * 2).next_power_of_two().clamp(64, 65535 * Protocol::ALL.len());
    MapShape { size: size as u32, counted: name.counts() && len <= COUNTED_MAX }
}

/// What of a map does not change while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapShape {
    /// The most elements it can hold; 0: no limit.
    pub size: u32,
    /// Whether its elements have counters.
    pub counted: bool,
}

/// Connections and the bytes of their first packets, as the kernel counts them in a NAT chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    pub packets: u64,
    pub bytes: u64,
}

/// The trial layer's gate as it is to be set, or as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// How long the elements live from the moment they are made.
    pub timeout: Duration,
    /// What is left of it; zero if the elements are gone and only the set remains.
    pub left: Duration,
}

/// The table, without what the kernel adds to it (counters, handles).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    pub maps: BTreeMap<MapName, Map>,
    pub chains: BTreeMap<ChainName, Vec<Rule>>,
    pub gate: Option<Gate>,
}

/// The table as it was found in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// All of it that we understand.
    pub ruleset: Ruleset,
    /// The shape of each map in `ruleset.maps`.
    pub shapes: BTreeMap<MapName, MapShape>,
    /// Rule handles (`NFTA_RULE_HANDLE`), as many and in the same order as `ruleset.chains` has rules.
    pub handles: BTreeMap<ChainName, Vec<u64>>,
    /// Counters that are not zero.
    pub counters: Counters,
    /// What does not belong there, each described for people: `rule (handle 7) in chain output`.
    pub foreign: Vec<String>,
}

/// Counters that are not zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub elements: BTreeMap<(MapName, Service), Counter>,
    /// Answers of other users that were dropped, by what was answered.
    pub dropped: BTreeMap<(Layer, Service, Target), Counter>,
    /// By chain and position of the rule in `ruleset.chains`.
    pub rules: BTreeMap<(ChainName, usize), Counter>,
}
