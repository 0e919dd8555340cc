//! The rules of a table, with the anonymous sets that belong to them.

use std::collections::BTreeMap;

use nix::libc;

use super::{Source, elements};
use crate::kernel::Error;
use crate::kernel::netlink::wire::{Attrs, Malformed, be_u64, text};
use crate::kernel::nft::abi::*;
use crate::kernel::nft::expr::Expr;
use crate::kernel::nft::interval::Element;
use crate::kernel::nft::rule::{self, Sets};
use crate::kernel::nft::sets::Definition;
use crate::kernel::nft::userdata;
use crate::ruleset::{ChainName, Counter, Observed, Rule};

/// A rule as it was dumped.
pub struct RawRule<'a> {
    pub chain: &'a str,
    handle: u64,
    expressions: &'a [u8],
    pub comment: Option<&'a str>,
    /// Has what no rule of ours has, or a comment that is no text.
    foreign: bool,
}

impl<'a> RawRule<'a> {
    fn read(attrs: Attrs<'a>) -> Result<Self, Malformed> {
        let mut rule =
            Self { chain: "", handle: 0, expressions: &[], comment: None, foreign: false };
        for attr in attrs {
            let (kind, value) = attr?;
            match kind {
                NFTA_RULE_CHAIN => rule.chain = text(value)?,
                NFTA_RULE_HANDLE => rule.handle = be_u64(value)?,
                NFTA_RULE_EXPRESSIONS => rule.expressions = value,
                NFTA_RULE_COMPAT => rule.foreign = true,
                NFTA_RULE_USERDATA => match userdata::read_comment(value) {
                    Ok(comment) => rule.comment = comment,
                    Err(Malformed) => rule.foreign = true,
                },
                _ => {}
            }
        }
        Ok(rule)
    }
}

pub fn each(
    source: &mut Source,
    chain: Option<&str>,
    mut take: impl FnMut(RawRule) -> Result<(), Malformed>,
) -> Result<(), Error> {
    let chain = chain.map(|chain| (NFTA_RULE_CHAIN, chain));
    let kind = libc::NFT_MSG_GETRULE;
    source.dump(kind, NFTA_RULE_TABLE, chain.as_slice(), |message| {
        take(RawRule::read(message.attrs()?)?)
    })
}

/// A rule whose sets still have to be fetched: one dump at a time goes over a socket.
struct Pending {
    chain: ChainName,
    handle: u64,
    exprs: Vec<Expr>,
    comment: Option<String>,
}

/// The rules of chains of ours, each with its counter.
pub fn known(
    source: &mut Source,
    definitions: &BTreeMap<String, Definition>,
    seen: &mut Observed,
) -> Result<(), Error> {
    let mut pending = Vec::new();
    each(source, None, |rule| {
        // The rules of a foreign chain are named with it.
        let Some(chain) = rule.chain.parse().ok().filter(|c| seen.ruleset.chains.contains_key(c))
        else {
            return Ok(());
        };
        match Expr::decode_all(rule.expressions) {
            Ok(exprs) if !rule.foreign => {
                let comment = rule.comment.map(str::to_owned);
                pending.push(Pending { chain, handle: rule.handle, exprs, comment });
            }
            _ => seen.foreign.push(foreign_rule(rule.handle, chain)),
        }
        Ok(())
    })?;
    let mut fetched = Fetched { source, definitions, failed: None };
    for Pending { chain, handle, exprs, comment } in pending {
        let read = rule::decode(&exprs, comment.as_deref(), chain, &mut fetched);
        if let Some(error) = fetched.failed.take() {
            return Err(error);
        }
        match read {
            Ok((rule, counter)) => keep(seen, chain, handle, rule, counter),
            Err(Malformed) => seen.foreign.push(foreign_rule(handle, chain)),
        }
    }
    Ok(())
}

fn foreign_rule(handle: u64, chain: ChainName) -> String {
    format!("rule (handle {handle}) in chain {chain}")
}

fn keep(seen: &mut Observed, chain: ChainName, handle: u64, rule: Rule, counter: Counter) {
    let rules = seen.ruleset.chains.entry(chain).or_default();
    if counter != Counter::default() {
        seen.counters.rules.insert((chain, rules.len()), counter);
    }
    rules.push(rule);
    seen.handles.entry(chain).or_default().push(handle);
}

/// Anonymous sets, read from the kernel when a rule names one.
struct Fetched<'a, 's> {
    source: &'a mut Source<'s>,
    definitions: &'a BTreeMap<String, Definition>,
    failed: Option<Error>,
}

impl Sets for Fetched<'_, '_> {
    fn elements(&mut self, set: &str) -> Result<(Vec<Element>, bool), Malformed> {
        let definition = self.definitions.get(set).ok_or(Malformed)?;
        if !definition.is_plain_anonymous() {
            return Err(Malformed);
        }
        let mut list = Vec::new();
        let mut foreign = false;
        let outcome = elements(self.source, set, |found| {
            match found.anonymous() {
                Ok(element) => list.push(element),
                Err(Malformed) => foreign = true,
            }
            Ok(())
        });
        match outcome {
            Ok(()) if !foreign => Ok((list, definition.flags & SET_INTERVAL != 0)),
            Ok(()) => Err(Malformed),
            Err(error) => {
                self.failed = Some(error);
                Err(Malformed)
            }
        }
    }
}
