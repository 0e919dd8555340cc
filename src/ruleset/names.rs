//! The names of our objects, typed: what does not parse as one of them is not ours.

use std::fmt;
use std::str::FromStr;

use super::{Check, Hook, Layer};
use crate::mapping::{Family, Port, Scope, Service};

/// The chains that we know, by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChainName {
    /// The mappings of one service, a rule each: `tcp-80`, `trial-tcp-80`.
    Service(Layer, Service),
    /// In the active layer a base chain (`prerouting`, `output`); in the trial layer the chain
    /// that the gate goes to (`trial-prerouting`, `trial-output`).
    Hook(Layer, Hook),
    /// The base chains that have the flows of a trial tracked apart: `trial-zone-prerouting`,
    /// `trial-zone-output`.
    Zone(Hook),
    /// In the active layer a base chain (`answers`, `direct`); in the trial layer the chain that the
    /// gate goes to.
    Check(Layer, Check),
}

/// The maps that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MapName {
    /// Service to target port: `ports`, `ports-ipv4`, `external`, `local-ipv6`, `trial-ports`, …
    Ports(Layer, Scope, Family),
    /// Service to its chain: `selected`, `trial-selected`.
    Selected(Layer),
    /// The connectionless services that a trial is about; a set: `trial-zoned`.
    Zoned,
    /// Whose sockets may answer for a service from a target; a set: `served`, `trial-served`.
    Served(Layer),
    /// The services and targets of which only what is served may go out; a set: `guarded`.
    Guarded(Layer),
    /// The targets that others may not use directly; a set: `hidden`.
    Hidden(Layer),
}

/// The gate of a trial: set `trial` of nf_proto, with timeouts.
pub const GATE: &str = "trial";

const TRIAL_PREFIX: &str = "trial-";
const ZONE_PREFIX: &str = "trial-zone-";
const ZONED: &str = "trial-zoned";
const SERVED: &str = "served";
const GUARDED: &str = "guarded";
const HIDDEN: &str = "hidden";

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

impl ChainName {
    pub const fn layer(self) -> Layer {
        match self {
            ChainName::Service(layer, _)
            | ChainName::Hook(layer, _)
            | ChainName::Check(layer, _) => layer,
            ChainName::Zone(_) => Layer::Trial,
        }
    }

    /// The chain of the trial's layer that stands in for this one.
    pub const fn on_trial(self) -> Self {
        match self {
            ChainName::Hook(_, hook) => ChainName::Hook(Layer::Trial, hook),
            ChainName::Check(_, check) => ChainName::Check(Layer::Trial, check),
            ChainName::Service(_, service) => ChainName::Service(Layer::Trial, service),
            ChainName::Zone(hook) => ChainName::Zone(hook),
        }
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChainName::Hook(layer, hook) => write!(f, "{}{}", layer.prefix(), hook.name()),
            ChainName::Zone(hook) => write!(f, "{ZONE_PREFIX}{}", hook.name()),
            ChainName::Check(layer, check) => write!(f, "{}{}", layer.prefix(), check.name()),
            ChainName::Service(layer, s) => {
                write!(f, "{}{}-{}", layer.prefix(), s.protocol, s.port)
            }
        }
    }
}

impl FromStr for ChainName {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let hook = |rest: &str| Hook::ALL.into_iter().find(|h| h.name() == rest);
        if let Some(rest) = name.strip_prefix(ZONE_PREFIX) {
            return hook(rest).map(ChainName::Zone).ok_or(());
        }
        let (layer, rest) = split_layer(name);
        if let Some(hook) = hook(rest) {
            return Ok(ChainName::Hook(layer, hook));
        }
        if let Some(check) = Check::ALL.into_iter().find(|check| check.name() == rest) {
            return Ok(ChainName::Check(layer, check));
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
            MapName::Ports(layer, _, _)
            | MapName::Selected(layer)
            | MapName::Served(layer)
            | MapName::Guarded(layer)
            | MapName::Hidden(layer) => layer,
            MapName::Zoned => Layer::Trial,
        }
    }
}

impl MapName {
    /// What it is to nft.
    pub const fn kind(self) -> &'static str {
        match self {
            MapName::Ports(..) | MapName::Selected(_) => "map",
            MapName::Zoned | MapName::Served(_) | MapName::Guarded(_) | MapName::Hidden(_) => "set",
        }
    }

    /// Whether it has an element for each mapping, or nearly: without them the rest of the table
    /// still says what it is.
    pub const fn can_be_large(self) -> bool {
        match self {
            MapName::Ports(..) | MapName::Served(_) | MapName::Guarded(_) | MapName::Hidden(_) => {
                true
            }
            MapName::Selected(_) | MapName::Zoned => false,
        }
    }

    /// Whether its elements count what they are found for, if there are not too many of them. Where
    /// chains are looked up, their rules count.
    pub const fn counts(self) -> bool {
        match self {
            MapName::Ports(..) | MapName::Guarded(_) | MapName::Hidden(_) => true,
            MapName::Selected(_) | MapName::Zoned | MapName::Served(_) => false,
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
            MapName::Zoned => f.write_str(ZONED),
            MapName::Served(layer) => write!(f, "{}{SERVED}", layer.prefix()),
            MapName::Guarded(layer) => write!(f, "{}{GUARDED}", layer.prefix()),
            MapName::Hidden(layer) => write!(f, "{}{HIDDEN}", layer.prefix()),
        }
    }
}

impl FromStr for MapName {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        if name == ZONED {
            return Ok(MapName::Zoned);
        }
        let (layer, rest) = split_layer(name);
        match rest {
            "selected" => return Ok(MapName::Selected(layer)),
            SERVED => return Ok(MapName::Served(layer)),
            GUARDED => return Ok(MapName::Guarded(layer)),
            HIDDEN => return Ok(MapName::Hidden(layer)),
            _ => {}
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
