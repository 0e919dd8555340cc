//! The rulesets of a network namespace, in the kernel's own terms.

use std::collections::BTreeMap;
use std::fmt;

use super::expr::{Data, Expr};

/// Everything that looks at packets on their way to a program of this host: nftables of all
/// families, and legacy iptables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rulesets {
    pub tables: Vec<Table>,
    /// Tables of legacy iptables that are there and could not be read.
    pub unread: Vec<Unread>,
    /// By name; only where somebody has rules for packets that are below an interface.
    pub devices: BTreeMap<String, Device>,
}

/// What there is to know of a network device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    pub is_bridge: bool,
    /// Those that packets pass before they are this one's: ports of a bridge, what a VLAN is on.
    pub below: Vec<String>,
}

/// Rules that are there and cannot be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    pub family: Family,
    /// `filter`, `nat`, …
    pub table: String,
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    Inet,
    Ip,
    Ip6,
    Netdev,
    Bridge,
    Arp,
}

impl Family {
    /// `NFPROTO_*` of `linux/netfilter.h`
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Family::Inet,
            2 => Family::Ip,
            3 => Family::Arp,
            5 => Family::Netdev,
            7 => Family::Bridge,
            10 => Family::Ip6,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Family::Inet => "inet",
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
            Family::Netdev => "netdev",
            Family::Bridge => "bridge",
            Family::Arp => "arp",
        }
    }

    /// Whether packets of this family of addresses pass its hooks at the host.
    pub fn sees(self, ipv6: bool) -> bool {
        match self {
            Family::Inet => true,
            Family::Ip => !ipv6,
            Family::Ip6 => ipv6,
            Family::Netdev | Family::Bridge | Family::Arp => false,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Who keeps the rules: the kernel's nftables, or the older iptables beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Backend {
    #[default]
    Nftables,
    Legacy,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub family: Family,
    pub name: String,
    pub backend: Backend,
    /// Its base chains are not called.
    pub dormant: bool,
    pub chains: Vec<Chain>,
    pub sets: BTreeMap<String, Set>,
}

impl Table {
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.name == name)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.backend, self.family) {
            (Backend::Nftables, family) => write!(f, "table {family} {}", self.name),
            (Backend::Legacy, Family::Ip6) => write!(f, "ip6tables-legacy table {}", self.name),
            (Backend::Legacy, _) => write!(f, "iptables-legacy table {}", self.name),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    pub name: String,
    /// `None` if it is only reached by jumps.
    pub base: Option<BaseChain>,
    pub rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseChain {
    pub hook: Hook,
    pub priority: i32,
    pub kind: Kind,
    pub drops: bool,
    /// Of the hooks of devices.
    pub devices: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    Ingress,
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
    Egress,
}

impl Hook {
    /// `enum nf_inet_hooks` or, in family netdev, `enum nf_dev_hooks` of `linux/netfilter.h`.
    pub fn from_number(number: u32, family: Family) -> Option<Self> {
        if family == Family::Netdev {
            return [Hook::Ingress, Hook::Egress].get(number as usize).copied();
        }
        let inet = [
            Hook::Prerouting,
            Hook::Input,
            Hook::Forward,
            Hook::Output,
            Hook::Postrouting,
            Hook::Ingress,
        ];
        inet.get(number as usize).copied()
    }

    pub fn name(self) -> &'static str {
        match self {
            Hook::Ingress => "ingress",
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
            Hook::Egress => "egress",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Filter,
    Nat,
    Route,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// `NFTA_RULE_HANDLE`; 0 in legacy tables.
    pub handle: u64,
    pub exprs: Vec<Expr>,
    pub comment: Option<String>,
    /// As its owner wrote it, where that is at hand.
    pub text: Option<String>,
}

/// A set or a map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Set {
    pub anonymous: bool,
    /// Its elements come and go: a rule, or a timeout, changes them.
    pub dynamic: bool,
    pub intervals: bool,
    /// The lengths of the fields of a concatenation, in bytes. Each begins at a multiple of four.
    pub fields: Vec<usize>,
    /// nft's number of the key's type: `include/datatype.h` of nftables.
    pub key_type: u32,
    pub key_len: usize,
    pub data_len: usize,
    pub elements: Vec<Element>,
    /// The element for everything that is not there.
    pub catch_all: Option<Data>,
    pub has_catch_all: bool,
}

/// Keys from `from` to `to`, both included; in a concatenation, field by field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    pub from: Vec<u8>,
    pub to: Vec<u8>,
    /// In maps.
    pub data: Option<Data>,
}
