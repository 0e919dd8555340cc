//! Our table as it is in the kernel.
//!
//! Sets, rules, objects and flowtables are dumped for our table alone (kernels honour
//! `NFTA_*_TABLE` in these requests since 4.10 at the latest); chains are dumped for the whole
//! family, whatever is asked. The table's name is checked again here in any case.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::libc;

use super::abi::*;
use super::expr::Expr;
use super::interval::Element;
use super::query;
use super::rule::{self, Sets};
use super::sets::{self, Definition, Found};
use crate::kernel::Error;
use crate::kernel::netlink::socket::Socket;
use crate::kernel::netlink::wire::{Attrs, Malformed, Message, be_u32, be_u64, text};
use crate::ruleset::{
    ChainName, Counter, Counters, GATE, Gate, Hook, HookPoint, Layer, Map, MapName, Observed,
    Policy, Rule, Stamp, TABLE,
};

/// `NFT_MSG_GETFLOWTABLE`
const GET_FLOWTABLE: i32 = 23;

/// The generation of the whole ruleset.
pub fn generation(socket: &mut Socket) -> Result<u32, Error> {
    let mut generation = None;
    query::get(socket, libc::NFT_MSG_GETGEN, &[], |message| {
        generation = message.attrs()?.find(NFTA_GEN_ID)?.map(be_u32).transpose()?;
        Ok(())
    })?;
    generation.ok_or(Error::Malformed("a generation without number"))
}

/// The comment of the first rule in `prerouting`, if it is a stamp.
pub fn stamp(socket: &mut Socket) -> Result<Option<Stamp>, Error> {
    let chain = ChainName::Hook(Layer::Active, Hook::Prerouting);
    let name = chain.to_string();
    let mut first = None;
    let outcome = rules(socket, Some(&name), |rule| {
        if first.is_none() && rule.chain == name {
            first = Some(rule.comment.and_then(|comment| comment.parse().ok()));
        }
        Ok(())
    });
    match outcome {
        // No table, no chain.
        Err(Error::Kernel { errno: libc::ENOENT }) => Ok(None),
        Err(e) => Err(e),
        Ok(()) => Ok(first.flatten()),
    }
}

/// How much of a table to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Whole,
    /// All but the elements of maps and sets that can be large, which are left empty.
    Outline,
}

/// The table, or `None` if there is none. Not one moment of it unless the generation before and
/// after is the same.
pub fn table(socket: &mut Socket, extent: Extent) -> Result<Option<Observed>, Error> {
    let mut seen = Observed::default();
    let present =
        query::get(socket, libc::NFT_MSG_GETTABLE, &[(NFTA_TABLE_NAME, TABLE)], |message| {
            let attrs = message.attrs()?;
            let flags = attrs.find(NFTA_TABLE_FLAGS)?.map(be_u32).transpose()?.unwrap_or(0);
            if flags != 0 {
                seen.foreign.push(format!("flags {flags:#x} of table {TABLE}{}", dormant(flags)));
            }
            if has_comment(attrs, NFTA_TABLE_USERDATA)? {
                seen.foreign.push(format!("comment of table {TABLE}"));
            }
            Ok(())
        });
    match present {
        Err(Error::Kernel { errno: libc::ENOENT }) => return Ok(None),
        other => other?,
    }
    chains(socket, &mut seen)?;
    let definitions = definitions(socket)?;
    known_sets(socket, &definitions, extent, &mut seen)?;
    others(socket, &mut seen)?;
    known_rules(socket, &definitions, &mut seen)?;
    Ok(Some(seen))
}

fn dormant(flags: u32) -> &'static str {
    if flags & 1 != 0 { " (dormant)" } else { "" }
}

/// Whether the message is about our table; `attribute` is where its name is.
fn is_ours(message: &Message, attribute: u16) -> Result<bool, Malformed> {
    let name = message.attrs()?.find(attribute)?;
    let inet = message.family() == Some(libc::NFPROTO_INET as u8);
    Ok(inet && name.map(text).transpose()? == Some(TABLE))
}

fn chains(socket: &mut Socket, seen: &mut Observed) -> Result<(), Error> {
    query::dump(socket, libc::NFT_MSG_GETCHAIN, &[(NFTA_CHAIN_TABLE, TABLE)], |message| {
        if !is_ours(&message, NFTA_CHAIN_TABLE)? {
            return Ok(());
        }
        let attrs = message.attrs()?;
        let name = text(attrs.find(NFTA_CHAIN_NAME)?.ok_or(Malformed)?)?;
        match name.parse() {
            Ok(chain) if is_as_made(chain, attrs)? => {
                seen.ruleset.chains.insert(chain, Vec::new());
                seen.handles.insert(chain, Vec::new());
            }
            Ok(_) => seen.foreign.push(format!("chain {name} (not as portmap makes it)")),
            Err(()) => seen.foreign.push(format!("chain {name}")),
        }
        Ok(())
    })
}

/// Whether user data holds a comment. nft since 1.1.7 also notes its own version there.
fn has_comment(attrs: Attrs, attribute: u16) -> Result<bool, Malformed> {
    let Some(data) = attrs.find(attribute)? else { return Ok(false) };
    Ok(sets::read_comment(data)?.is_some())
}

/// Hook, priority, policy and type, and nothing else.
fn is_as_made(chain: ChainName, attrs: Attrs) -> Result<bool, Malformed> {
    let flags = attrs.find(NFTA_CHAIN_FLAGS)?.map(be_u32).transpose()?.unwrap_or(0);
    if flags & !CHAIN_BASE != 0
        || attrs.find(NFTA_CHAIN_COUNTERS)?.is_some()
        || has_comment(attrs, NFTA_CHAIN_USERDATA)?
    {
        return Ok(false);
    }
    let found = attrs.find(NFTA_CHAIN_HOOK)?.map(Attrs);
    let (found, base) = match (found, chain.base()) {
        (None, None) => return Ok(true),
        (Some(found), Some(base)) => (found, base),
        _ => return Ok(false),
    };
    let hook = match base.hook {
        HookPoint::Prerouting => libc::NF_INET_PRE_ROUTING,
        HookPoint::Input => libc::NF_INET_LOCAL_IN,
        HookPoint::Output => libc::NF_INET_LOCAL_OUT,
    };
    let policy = match base.policy {
        Policy::Accept => libc::NF_ACCEPT,
        Policy::Drop => libc::NF_DROP,
    };
    let u32_of = |attrs: Attrs, kind| attrs.find(kind)?.map(be_u32).transpose();
    Ok(u32_of(found, NFTA_HOOK_HOOKNUM)? == Some(hook as u32)
        && u32_of(found, NFTA_HOOK_PRIORITY)? == Some(base.priority as u32)
        && found.find(NFTA_HOOK_DEV)?.is_none()
        && found.find(NFTA_HOOK_DEVS)?.is_none()
        && u32_of(attrs, NFTA_CHAIN_POLICY)? == Some(policy as u32)
        && attrs.find(NFTA_CHAIN_TYPE)?.map(text).transpose()? == Some(base.kind.name()))
}

fn definitions(socket: &mut Socket) -> Result<BTreeMap<String, Definition>, Error> {
    let mut definitions = BTreeMap::new();
    query::dump(socket, libc::NFT_MSG_GETSET, &[(NFTA_SET_TABLE, TABLE)], |message| {
        if is_ours(&message, NFTA_SET_TABLE)? {
            let set = Definition::read(message.attrs()?)?;
            definitions.insert(set.name.clone(), set);
        }
        Ok(())
    })?;
    Ok(definitions)
}

/// Our maps and the gate, with their elements. Anonymous sets belong to the rules.
fn known_sets(
    socket: &mut Socket,
    definitions: &BTreeMap<String, Definition>,
    extent: Extent,
    seen: &mut Observed,
) -> Result<(), Error> {
    for set in definitions.values().filter(|set| !set.is_anonymous()) {
        let kind = if set.flags & SET_MAP != 0 { "map" } else { "set" };
        match set.name.parse::<MapName>() {
            Ok(name) => match set.shape(name) {
                Some(shape) => {
                    seen.shapes.insert(name, shape);
                    let map = match (extent, name) {
                        (Extent::Outline, name) if name.can_be_large() => Map::empty(name),
                        _ => map(socket, name, seen)?,
                    };
                    seen.ruleset.maps.insert(name, map);
                }
                None => seen.foreign.push(format!("{kind} {name} (not as portmap makes it)")),
            },
            Err(()) if set.name == GATE && set.is_gate() => {
                seen.ruleset.gate = Some(gate(socket, seen)?);
            }
            Err(()) if set.name == GATE => {
                seen.foreign.push(format!("{kind} {GATE} (not as portmap makes it)"));
            }
            Err(()) => seen.foreign.push(format!("{kind} {}", set.name)),
        }
    }
    Ok(())
}

fn elements(
    socket: &mut Socket,
    set: &str,
    mut each: impl FnMut(Found) -> Result<(), Malformed>,
) -> Result<(), Error> {
    let attrs = [(NFTA_SET_ELEM_LIST_TABLE, TABLE), (NFTA_SET_ELEM_LIST_SET, set)];
    query::dump(socket, libc::NFT_MSG_GETSETELEM, &attrs, |message| {
        let Some(list) = message.attrs()?.find(NFTA_SET_ELEM_LIST_ELEMENTS)? else {
            return Ok(());
        };
        for attr in Attrs(list) {
            each(Found::read(attr?.1)?)?;
        }
        Ok(())
    })
}

fn map(socket: &mut Socket, name: MapName, seen: &mut Observed) -> Result<Map, Error> {
    let mut map = Map::empty(name);
    let (counters, foreign) = (&mut seen.counters, &mut seen.foreign);
    elements(socket, &name.to_string(), |found| {
        if take(&found, name, &mut map, counters).is_err() {
            foreign.push(format!("element {} of {} {name}", found.describe(), name.kind()));
        }
        Ok(())
    })?;
    match &mut map {
        Map::Ports(list) => list.sort_unstable_by_key(|(service, _)| *service),
        Map::Selected(services) | Map::Services(services) => services.sort_unstable(),
        Map::Answers(answers) => answers.sort_unstable(),
    }
    Ok(map)
}

/// Adds an element to a map, and what it has counted. An error if it is none of ours.
fn take(
    found: &Found,
    name: MapName,
    map: &mut Map,
    counters: &mut Counters,
) -> Result<(), Malformed> {
    let counted = |counter: Counter| (counter != Counter::default()).then_some(counter);
    match map {
        Map::Ports(list) => {
            let (service, target, counter) = found.port()?;
            counters.elements.extend(counted(counter).map(|c| ((name, service), c)));
            list.push((service, target));
        }
        Map::Selected(services) => services.push(found.selected(name.layer())?),
        Map::Services(services) => {
            let (service, counter) = found.member()?;
            counters.elements.extend(counted(counter).map(|c| ((name, service), c)));
            services.push(service);
        }
        Map::Answers(answers) => {
            let (answer, counter) = found.answer()?;
            let key = (name.layer(), answer.service, answer.to);
            counters.dropped.extend(counted(counter).map(|c| (key, c)));
            answers.push(answer);
        }
    }
    Ok(())
}

/// The gate; `left` is the least of its elements', and zero when all of them are gone (as is the
/// timeout then, which only the elements know).
fn gate(socket: &mut Socket, seen: &mut Observed) -> Result<Gate, Error> {
    let mut gate: Option<Gate> = None;
    elements(socket, GATE, |found| {
        match found.gate() {
            Ok((_, timeout, left)) => {
                let left = gate.map_or(left, |gate| gate.left.min(left));
                gate = Some(Gate { timeout, left });
            }
            Err(Malformed) => {
                seen.foreign.push(format!("element {} of set {GATE}", found.describe()));
            }
        }
        Ok(())
    })?;
    Ok(gate.unwrap_or(Gate { timeout: Duration::ZERO, left: Duration::ZERO }))
}

/// Objects (named counters and the like) and flowtables: none of them is ours.
fn others(socket: &mut Socket, seen: &mut Observed) -> Result<(), Error> {
    let kinds = [
        (libc::NFT_MSG_GETOBJ, NFTA_OBJ_TABLE, NFTA_OBJ_NAME, "object"),
        (GET_FLOWTABLE, NFTA_FLOWTABLE_TABLE, NFTA_FLOWTABLE_NAME, "flowtable"),
    ];
    for (request, table, name, kind) in kinds {
        query::dump(socket, request, &[(table, TABLE)], |message| {
            if is_ours(&message, table)? {
                let name = text(message.attrs()?.find(name)?.ok_or(Malformed)?)?;
                seen.foreign.push(format!("{kind} {name}"));
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// A rule as it was dumped.
struct RawRule<'a> {
    chain: &'a str,
    handle: u64,
    expressions: &'a [u8],
    comment: Option<&'a str>,
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
                NFTA_RULE_USERDATA => match sets::read_comment(value) {
                    Ok(comment) => rule.comment = comment,
                    Err(Malformed) => rule.foreign = true,
                },
                _ => {}
            }
        }
        Ok(rule)
    }
}

fn rules(
    socket: &mut Socket,
    chain: Option<&str>,
    mut each: impl FnMut(RawRule) -> Result<(), Malformed>,
) -> Result<(), Error> {
    let mut attrs = vec![(NFTA_RULE_TABLE, TABLE)];
    attrs.extend(chain.map(|chain| (NFTA_RULE_CHAIN, chain)));
    query::dump(socket, libc::NFT_MSG_GETRULE, &attrs, |message| {
        if is_ours(&message, NFTA_RULE_TABLE)? {
            each(RawRule::read(message.attrs()?)?)
        } else {
            Ok(())
        }
    })
}

/// A rule whose sets still have to be fetched: one dump at a time goes over a socket.
struct Pending {
    chain: ChainName,
    handle: u64,
    exprs: Vec<Expr>,
    comment: Option<String>,
}

fn known_rules(
    socket: &mut Socket,
    definitions: &BTreeMap<String, Definition>,
    seen: &mut Observed,
) -> Result<(), Error> {
    let mut pending = Vec::new();
    rules(socket, None, |rule| {
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
    let mut fetched = Fetched { socket, definitions, failed: None };
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
struct Fetched<'a> {
    socket: &'a mut Socket,
    definitions: &'a BTreeMap<String, Definition>,
    failed: Option<Error>,
}

impl Sets for Fetched<'_> {
    fn elements(&mut self, set: &str) -> Result<(Vec<Element>, bool), Malformed> {
        let definition = self.definitions.get(set).ok_or(Malformed)?;
        if !definition.is_plain_anonymous() {
            return Err(Malformed);
        }
        let mut list = Vec::new();
        let mut foreign = false;
        let outcome = elements(self.socket, set, |found| {
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

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::kernel::nft::batch::Batch;

    /// What is foreign in a table that is made with this user data, in a namespace of its own.
    fn foreign(userdata: &[u8]) -> Vec<String> {
        let in_namespace = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let mut socket = Socket::open().unwrap();
            let mut batch = Batch::open(Some(generation(&mut socket).unwrap()), 0);
            batch.at_step(0);
            let message = batch.begin(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, 0);
            batch.writer.attr_str(NFTA_TABLE_NAME, TABLE);
            batch.writer.attr(NFTA_TABLE_USERDATA, userdata);
            batch.writer.end(message);
            batch.close();
            let first = socket.reserve_sequences(batch.origins.len() as u32);
            batch.number(first);
            let answers = socket.transact(&batch.writer.bytes).unwrap();
            assert!(answers.iter().all(|answer| answer.errno == 0), "{answers:?}");
            table(&mut socket, Extent::Whole).unwrap().unwrap().foreign
        };
        thread::scope(|scope| scope.spawn(in_namespace).join().unwrap())
    }

    #[test]
    fn only_a_comment_is_a_comment() {
        // NFTNL_UDATA_TABLE_NFTVER and NFTNL_UDATA_TABLE_NFTBLD, as nft 1.1.7 writes them.
        let versions = &[1, 4, 1, 1, 7, 0, 2, 8, 0, 0, 0, 0, 0x68, 0, 0, 0];
        assert_eq!(foreign(versions), [] as [&str; 0]);
        assert_eq!(foreign(&[1, 4, 1, 1, 7, 0, 0, 3, b'm', b'e', 0]), ["comment of table portmap"]);
    }
}
