//! Our table as a value: what stands in the kernel for a [`MappingSet`].
//!
//! The room is pure. [`desired`] makes the value, [`Ruleset::mappings`] reads it back,
//! `Display` writes it as `nft -f` input, byte for byte what `nft list table inet portmap` prints.
//!
//! # The layout
//!
//! Both base chains first let everything pass that is not for this host, then look the port up in
//! a map: one lookup for all mappings without selectors. Mappings that only name a scope or a
//! family stand in maps of their own, consulted by the hooks and families concerned. A service
//! with real selectors, or with several mappings that overlap, has a chain, entered through a
//! verdict map; it is looked up last, so that it costs the plain ones nothing.
//!
//! During a trial (see `portmap apply --confirm`) a second layer of the same shape stands in the
//! table. A gate before the first layer sends packets to it while the gate's elements live.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::mapping::{
    Family, Mapping, MappingSet, Port, Protocol, Scope, Selector, Service, is_disjoint,
};

/// The one table, of family inet. Nothing of ours stands outside it.
pub const TABLE: &str = "portmap";

/// Just ahead of -100 (`NF_IP_PRI_NAT_DST`), where iptables, Docker and CNI plugins sit: whoever
/// comes first decides, whatever the order in which the programs were started.
pub const PRIORITY: i32 = -101;

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

/// The chains that we know, by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChainName {
    /// The mappings of one service, a rule each: `tcp-80`, `trial-tcp-80`.
    Service(Layer, Service),
    /// In the active layer a base chain (`prerouting`, `output`); in the trial layer the chain
    /// that the gate goes to (`trial-prerouting`, `trial-output`).
    Hook(Layer, Hook),
}

/// The maps that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MapName {
    /// Service to target port: `ports`, `ports-ipv4`, `external`, `local-ipv6`, `trial-ports`, …
    Ports(Layer, Scope, Family),
    /// Service to its chain: `selected`, `trial-selected`.
    Selected(Layer),
}

/// The gate of a trial: set `trial` of nf_proto, with timeouts.
pub const GATE: &str = "trial";

const TRIAL_PREFIX: &str = "trial-";

fn split_layer(name: &str) -> (Layer, &str) {
    match name.strip_prefix(TRIAL_PREFIX) {
        Some(rest) => (Layer::Trial, rest),
        None => (Layer::Active, name),
    }
}

impl Layer {
    fn prefix(self) -> &'static str {
        match self {
            Layer::Active => "",
            Layer::Trial => TRIAL_PREFIX,
        }
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChainName::Hook(layer, hook) => write!(f, "{}{}", layer.prefix(), hook.name()),
            ChainName::Service(layer, s) => {
                write!(f, "{}{}-{}", layer.prefix(), s.protocol, s.port)
            }
        }
    }
}

impl FromStr for ChainName {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let (layer, rest) = split_layer(name);
        if let Some(hook) = Hook::ALL.into_iter().find(|h| h.name() == rest) {
            return Ok(ChainName::Hook(layer, hook));
        }
        let (protocol, port) = rest.split_once('-').ok_or(())?;
        let port = port.parse().ok().and_then(Port::new).ok_or(())?;
        let chain = ChainName::Service(layer, Service { protocol: protocol.parse()?, port });
        // Not every spelling that parses is ours: `tcp-080`.
        if chain.to_string() == name { Ok(chain) } else { Err(()) }
    }
}

impl MapName {
    const fn base(scope: Scope, family: Family) -> &'static str {
        match (scope, family) {
            (Scope::Both, Family::Both) => "ports",
            (Scope::Both, Family::Ipv4) => "ports-ipv4",
            (Scope::Both, Family::Ipv6) => "ports-ipv6",
            (Scope::External, Family::Both) => "external",
            (Scope::External, Family::Ipv4) => "external-ipv4",
            (Scope::External, Family::Ipv6) => "external-ipv6",
            (Scope::Local, Family::Both) => "local",
            (Scope::Local, Family::Ipv4) => "local-ipv4",
            (Scope::Local, Family::Ipv6) => "local-ipv6",
        }
    }

    pub const fn layer(self) -> Layer {
        match self {
            MapName::Ports(layer, _, _) | MapName::Selected(layer) => layer,
        }
    }
}

impl fmt::Display for MapName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MapName::Ports(layer, scope, family) => {
                write!(f, "{}{}", layer.prefix(), Self::base(*scope, *family))
            }
            MapName::Selected(layer) => write!(f, "{}selected", layer.prefix()),
        }
    }
}

impl FromStr for MapName {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let (layer, rest) = split_layer(name);
        if rest == "selected" {
            return Ok(MapName::Selected(layer));
        }
        for scope in Scope::ALL {
            for family in Family::ALL {
                if Self::base(scope, family) == rest {
                    return Ok(MapName::Ports(layer, scope, family));
                }
            }
        }
        Err(())
    }
}

/// What a rule of ours does. There are no others in our chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `fib daddr type != local return`: first in each base chain. Carries the stamp (as the
    /// rule's comment) in `prerouting`.
    ForThisHost(Option<Stamp>),
    /// `meta nfproto @trial goto trial-prerouting`
    Gate(Hook),
    /// `[meta nfproto ipv4] meta l4proto {…} redirect to :meta l4proto . th dport map @ports`.
    /// The match on the protocols is for nft, which does not accept `redirect to` without one.
    Lookup(MapName),
    /// `meta l4proto . th dport vmap @selected`
    Dispatch(Layer),
    /// In the chain of a service: `meta l4proto tcp iifname … ip saddr … counter redirect to :3000`
    Select(Box<Mapping>),
}

/// Where the mapping in the kernel comes from. It is the comment of a rule, and so changes in the
/// same transaction as what it describes.
///
/// Text form: `generation 12, ruleset 57, input 1f00c2d3e4f5a6b7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Our own generation, the number in the history; 0 if no history is kept.
    pub generation: u64,
    /// The generation of the whole ruleset (`NFTA_GEN_ID`) that the commit made. While the
    /// kernel still reports it, nobody has committed anything since.
    pub ruleset: u32,
    /// A digest of the input that was applied, if it is known.
    pub input: Option<u64>,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {}, ruleset {}", self.generation, self.ruleset)?;
        match self.input {
            Some(input) => write!(f, ", input {input:016x}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Stamp {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(", ");
        let mut field = |name: &str| {
            parts
                .next()
                .map(|part| part.strip_prefix(name).and_then(|v| v.strip_prefix(' ')).ok_or(()))
        };
        let generation = field("generation").ok_or(())??.parse().map_err(drop)?;
        let ruleset = field("ruleset").ok_or(())??.parse().map_err(drop)?;
        let input = match field("input") {
            None => None,
            Some(hex) => Some(u64::from_str_radix(hex?, 16).map_err(drop)?),
        };
        Ok(Self { generation, ruleset, input })
    }
}

/// The target of one element of a map of ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub to: Port,
    pub comment: Option<Arc<str>>,
}

/// A map and its elements, sorted by service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Map {
    Ports(Vec<(Service, Target)>),
    /// To the chain of the same service and layer, always; the verdict is `goto`.
    Selected(Vec<Service>),
}

impl Map {
    pub fn len(&self) -> usize {
        match self {
            Map::Ports(elements) => elements.len(),
            Map::Selected(services) => services.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How large a map is made for `len` elements (`NFTA_SET_DESC_SIZE`), and whether it counts.
///
/// With a size the kernel takes a fixed hash table, which it fills in half the time; but the size
/// is a limit as well, so there is headroom.
pub fn map_shape(len: usize) -> MapShape {
    let size = (len * 2).next_power_of_two().clamp(64, 65535 * Protocol::ALL.len());
    MapShape { size: size as u32, counted: len <= COUNTED_MAX }
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
    /// By chain and position of the rule in `ruleset.chains`.
    pub rules: BTreeMap<(ChainName, usize), Counter>,
}
