//! Firewalls, understood: what the rules of this host, whoever made them, do with a connection that
//! portmap translates.
//!
//! [`judge`] sends the packets of a connection that does not exist yet through all tables and hooks
//! in the kernel's order, as the kernel would: its rules are programs of a small machine with 64
//! bytes of registers, and that machine is here again, with registers of which not everything is
//! known ([`value`]). The client's address and port are not, nor are marks that somebody else may
//! have set, rates, chances, the time. Where a rule may match or not, both ways are followed; if
//! they end alike, that is the verdict, and otherwise it cannot be told. An expression that is not
//! understood may do anything. Nothing is guessed.
//!
//! The room is pure: the tables are read in [`crate::kernel`].

#![forbid(unsafe_code)]

mod beneath;
mod connection;
mod exec;
pub mod expr;
mod facts;
pub mod legacy;
mod lookup;
mod machine;
mod matches;
mod owner;
mod show;
mod state;
mod tables;
pub mod value;
mod walk;
pub mod xt;

pub use beneath::matters as has_rules_beneath;
pub use connection::{Client, Connection, Interface, Leg};
pub use machine::{How, Spot};
pub use owner::{Owner, Traffic, Undo};
pub use show::text;
pub use tables::{
    Backend, BaseChain, Chain, Device, Element, Family, Hook, Kind, Rule, Rulesets, Set, Table,
    Unread,
};

use expr::{Expr, Translation};
use machine::{Block, Split};
use value::Truth;
pub use walk::OURS;
use walk::Walk;
use xt::Target;

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No rule keeps it from its program, whoever the client is.
    Accepts,
    /// Some rule does, whoever the client is.
    Blocks(How),
    /// It depends on what is not known, or on what is not understood.
    CannotTell,
}

/// What the rules do with a connection, and which of them decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    pub answer: Answer,
    /// The rule or policy that decides; where it cannot be told, the first one that leaves it open.
    pub deciding: Option<Deciding>,
    /// Where it cannot be told, the reason: `depends on the client's address`.
    pub why: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Deciding {
    pub spot: Spot,
    /// Of the connection's packets, the one that it decides about.
    pub leg: Leg,
    pub hook: Hook,
    pub family: Family,
    pub table: String,
    pub chain: String,
    /// Counted from 1; `None` for the policy.
    pub rule: Option<usize>,
    /// As its owner would write it: `table inet fw, chain input, rule 7: tcp dport 22 drop`.
    pub text: String,
    pub owner: Owner,
}

/// Judges a connection. The work grows with the number of rules.
pub fn judge(rulesets: &Rulesets, connection: &Connection) -> Judgement {
    let ipv6 = connection.is_ipv6();
    if let Some(unread) = rulesets.unread.iter().find(|unread| unread.family.sees(ipv6)) {
        return Judgement {
            answer: Answer::CannotTell,
            deciding: None,
            why: Some(format!(
                "there are rules of legacy iptables ({}, table {}) that cannot be read: {}",
                unread.family, unread.table, unread.why
            )),
        };
    }
    let mut walk = Walk::new(rulesets, connection);
    let through = walk.all();
    let log = &walk.machine.log;
    let block = |block: &Block| {
        let Block { spot, leg, hook, .. } = *block;
        deciding(rulesets, spot, leg, hook)
    };
    let clear = through && log.blocks.is_empty();
    let beneath = if clear { beneath::first(rulesets, connection) } else { None };
    if let Some((spot, hook)) = beneath {
        return Judgement {
            answer: Answer::CannotTell,
            deciding: Some(deciding(rulesets, spot, Leg::Open, hook)),
            why: Some("sees packets below the interface, and is not evaluated".to_owned()),
        };
    }
    match (through, log.blocks.last()) {
        (false, Some(last)) => {
            Judgement { answer: Answer::Blocks(last.how), deciding: Some(block(last)), why: None }
        }
        (true, None) => {
            Judgement { answer: Answer::Accepts, deciding: log.accepting().map(block), why: None }
        }
        _ => {
            let split = log.decisive_split();
            let open = |split: &Split| deciding(rulesets, split.spot, split.leg, split.hook);
            Judgement {
                answer: Answer::CannotTell,
                deciding: split.map(open).or_else(|| log.blocks.first().map(block)),
                why: split.map(|split| split.why.to_string()),
            }
        }
    }
}

/// A rule by another program that translates the same connection.
#[derive(Clone, Debug, PartialEq)]
pub struct OtherNat {
    pub deciding: Deciding,
    /// Of its chain.
    pub priority: i32,
    /// Whether it translates for sure, or depending on what is not known.
    pub certain: bool,
    /// Whether it comes before portmap's rules, and so wins. Of two at one priority the kernel does
    /// not tell.
    pub wins: Truth,
}

/// Whether anybody but portmap has a rule that can change where new connections to this host go.
pub fn is_translated_by_others(rulesets: &Rulesets) -> bool {
    let translates = |expr: &Expr| match expr {
        Expr::Nat { translation, .. } => *translation != Translation::Source,
        Expr::Target(Target::Nat(name)) => !matches!(name.as_str(), "SNAT" | "MASQUERADE"),
        _ => false,
    };
    let others = rulesets.tables.iter().filter(|table| !walk::is_ours(table));
    let mut rules = others.flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
    rules.any(|rule| rule.exprs.iter().any(translates))
}

/// Who else translates a connection: for what portmap would do with it, see [`judge`].
pub fn other_nat(rulesets: &Rulesets, connection: &Connection) -> Vec<OtherNat> {
    let alone = Connection { target: None, ..connection.clone() };
    let mut walk = Walk::new(rulesets, &alone);
    let through = walk.first();
    let log = &walk.machine.log;
    let mut found: Vec<OtherNat> = Vec::new();
    for block in log.blocks.iter().filter(|block| block.how == How::Translated) {
        if found.iter().any(|other| other.deciding.spot == block.spot) {
            continue;
        }
        let chain = &rulesets.tables[block.spot.table].chains[block.spot.chain];
        let base = log.base_of(rulesets, block).or(chain.base.as_ref());
        let priority = base.map_or(0, |base| base.priority);
        found.push(OtherNat {
            deciding: deciding(rulesets, block.spot, block.leg, block.hook),
            priority,
            certain: through.is_none() && log.blocks.len() == 1,
            wins: match connection.target {
                Some(_) if priority == OURS => Truth::Maybe,
                target => Truth::from(target.is_none() || priority < OURS),
            },
        });
    }
    found
}

/// What there is to say of a rule, or of a policy, that decides about a packet in a hook.
pub fn deciding(rulesets: &Rulesets, spot: Spot, leg: Leg, hook: Hook) -> Deciding {
    let table = &rulesets.tables[spot.table];
    let chain = &table.chains[spot.chain];
    Deciding {
        spot,
        leg,
        hook,
        family: table.family,
        table: table.name.clone(),
        chain: chain.name.clone(),
        rule: spot.rule.map(|index| index + 1),
        text: show::place(table, chain, spot.rule),
        owner: owner::of(rulesets, spot),
    }
}

/// What to type so that these connections get past a rule or policy that drops or rejects them.
pub fn remedy(rulesets: &Rulesets, deciding: &Deciding, traffic: &Traffic) -> Vec<String> {
    owner::remedy(rulesets, deciding, traffic)
}

/// How to have a rule removed that translates these connections.
pub fn undo(rulesets: &Rulesets, deciding: &Deciding, traffic: &Traffic) -> Undo {
    owner::undo(rulesets, deciding, traffic)
}
