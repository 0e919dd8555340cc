//! The table and its base chains, as data: layout, text, encoding and reading all go by this.

use super::{ChainName, Check, Hook, Layer};

/// The one table, of family inet. Nothing of ours is outside it.
pub const TABLE: &str = "portmap";

/// Goes up whenever another table is made of the same mapping: then a table that a stamp calls up to
/// date is not.
pub const LAYOUT: u8 = 2;

/// A chain that the kernel calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseChain {
    pub name: ChainName,
    pub kind: Kind,
    pub hook: HookPoint,
    pub priority: i32,
    pub policy: Policy,
}

/// Where on a packet's way the kernel calls a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPoint {
    Prerouting,
    Input,
    Output,
}

impl HookPoint {
    pub const fn name(self) -> &'static str {
        match self {
            HookPoint::Prerouting => "prerouting",
            HookPoint::Input => "input",
            HookPoint::Output => "output",
        }
    }

    const fn of(hook: Hook) -> Self {
        match hook {
            Hook::Prerouting => HookPoint::Prerouting,
            Hook::Output => HookPoint::Output,
        }
    }
}

/// What a base chain may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sees the first packet of each connection, and may translate it.
    Nat,
    /// Sees every packet.
    Filter,
}

/// What becomes of a packet that no rule has decided about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Accept,
    Drop,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Nat => "nat",
            Kind::Filter => "filter",
        }
    }
}

impl Policy {
    pub const fn name(self) -> &'static str {
        match self {
            Policy::Accept => "accept",
            Policy::Drop => "drop",
        }
    }
}

/// Just ahead of -100 (`NF_IP_PRI_NAT_DST`), where iptables, Docker and CNI plugins sit: the
/// first one decides, whatever the order in which the programs were started.
const TRANSLATE: i32 = -101;

/// `NF_IP_PRI_RAW`: ahead of -200, where connection tracking looks a packet up.
const BEFORE_TRACKING: i32 = -300;

/// `NF_IP_PRI_FILTER`: where other firewalls are. A packet must please all of them.
const FILTER: i32 = 0;

/// The base chains that the table can have.
pub const BASE_CHAINS: [BaseChain; 6] = [
    nat(Hook::Prerouting),
    nat(Hook::Output),
    zone(Hook::Prerouting),
    zone(Hook::Output),
    filter(Check::Answers, HookPoint::Output),
    filter(Check::Direct, HookPoint::Input),
];

const fn nat(hook: Hook) -> BaseChain {
    let name = ChainName::Hook(Layer::Active, hook);
    let hook = HookPoint::of(hook);
    BaseChain { name, kind: Kind::Nat, hook, priority: TRANSLATE, policy: Policy::Accept }
}

const fn zone(hook: Hook) -> BaseChain {
    let (name, priority) = (ChainName::Zone(hook), BEFORE_TRACKING);
    let hook = HookPoint::of(hook);
    BaseChain { name, kind: Kind::Filter, hook, priority, policy: Policy::Accept }
}

const fn filter(check: Check, hook: HookPoint) -> BaseChain {
    let (name, priority) = (ChainName::Check(Layer::Active, check), FILTER);
    BaseChain { name, kind: Kind::Filter, hook, priority, policy: Policy::Accept }
}

impl ChainName {
    /// How the kernel calls it; `None` for a chain that only our rules and maps lead to.
    pub fn base(self) -> Option<&'static BaseChain> {
        BASE_CHAINS.iter().find(|base| base.name == self)
    }
}
