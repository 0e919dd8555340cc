//! Our table as it is in the kernel.
//!
//! Sets, rules, objects and flowtables are dumped for our table alone (kernels honour
//! `NFTA_*_TABLE` in these requests since 4.10 at the latest); chains are dumped for the whole
//! family, whatever is asked. The table's name is checked again here in any case.

mod rules;

use std::collections::BTreeMap;
use std::time::Duration;

use nix::libc;

use super::abi::*;
use super::sets::{Definition, Found};
use super::{query, userdata};
use crate::kernel::Error;
use crate::kernel::netlink::socket::Socket;
use crate::kernel::netlink::wire::{Attrs, Malformed, Message, be_u32, text};
use crate::ruleset::{
    ChainName, Counter, Counters, GATE, Gate, Hook, HookPoint, Layer, Map, MapName, Observed,
    Policy, RunId, Stamp, TABLE, TableName, TraceId,
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
    let outcome = rules::each(&mut Source::main(socket), Some(&name), |rule| {
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

/// One table, and the socket over which it is read.
pub struct Source<'a> {
    socket: &'a mut Socket,
    table: TableName,
    /// The same as the kernel has it.
    name: String,
}

/// A table apart from what is in it.
pub struct Head<'a> {
    pub flags: u32,
    /// The address of the netlink socket that owns it.
    pub owner: Option<u32>,
    pub userdata: Option<&'a [u8]>,
}

/// The table, or `None` if there is none, and whether there are tables of runs or traces. Not one
/// moment of it unless the generation before and after is the same.
pub fn tables(socket: &mut Socket, extent: Extent) -> Result<(Option<Observed>, bool), Error> {
    let mut found = None;
    let mut has_others = false;
    heads(socket, |name, head| {
        if name == TABLE {
            found = Some(Observed { foreign: additions(head), ..Observed::default() });
        }
        has_others |= name.parse::<RunId>().is_ok() || name.parse::<TraceId>().is_ok();
    })?;
    if let Some(seen) = &mut found {
        Source::main(socket).content(extent, seen)?;
    }
    Ok((found, has_others))
}

/// What is at the table itself that portmap does not put there.
fn additions(Head { flags, userdata, .. }: Head) -> Vec<String> {
    let flags = (flags != 0).then(|| format!("flags {flags:#x} of table {TABLE}{}", named(flags)));
    let is_commented = userdata.is_some_and(is_commented);
    let comment = is_commented.then(|| format!("comment of table {TABLE}"));
    flags.into_iter().chain(comment).collect()
}

/// Passes on each table of the family, by name.
pub fn heads(socket: &mut Socket, mut each: impl FnMut(&str, Head)) -> Result<(), Error> {
    query::dump(socket, libc::NFT_MSG_GETTABLE, &[], |message| {
        if message.family() == Some(query::FAMILY) {
            let attrs = message.attrs()?;
            let name = attrs.find(NFTA_TABLE_NAME)?.map(text).transpose()?.ok_or(Malformed)?;
            each(name, Head::read(attrs)?);
        }
        Ok(())
    })
}

fn named(flags: u32) -> &'static str {
    match (flags & TABLE_DORMANT != 0, flags & TABLE_OWNER != 0) {
        (true, _) => " (dormant)",
        (_, true) => " (owned by a process)",
        _ => "",
    }
}

impl<'a> Head<'a> {
    fn read(attrs: Attrs<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            flags: attrs.find(NFTA_TABLE_FLAGS)?.map(be_u32).transpose()?.unwrap_or(0),
            owner: attrs.find(NFTA_TABLE_OWNER)?.map(be_u32).transpose()?,
            userdata: attrs.find(NFTA_TABLE_USERDATA)?,
        })
    }

    pub fn is_owned(&self) -> bool {
        self.flags & TABLE_OWNER != 0
    }

    /// What does not read as user data is no comment of portmap's.
    pub fn comment(&self) -> Option<&'a str> {
        self.userdata.and_then(|data| userdata::read_comment(data).ok().flatten())
    }
}

impl<'a> Source<'a> {
    pub fn new(socket: &'a mut Socket, table: TableName) -> Self {
        Self { socket, table, name: table.to_string() }
    }

    fn main(socket: &'a mut Socket) -> Self {
        Self::new(socket, TableName::Main)
    }

    /// Passes on what the table says of itself; `false` if there is no such table.
    pub fn head(&mut self, mut each: impl FnMut(Head)) -> Result<bool, Error> {
        let attrs = [(NFTA_TABLE_NAME, self.name.as_str())];
        let answer = query::get(self.socket, libc::NFT_MSG_GETTABLE, &attrs, |message| {
            each(Head::read(message.attrs()?)?);
            Ok(())
        });
        match answer {
            Err(Error::Kernel { errno: libc::ENOENT }) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// All that is in the table.
    pub fn content(&mut self, extent: Extent, seen: &mut Observed) -> Result<(), Error> {
        chains(self, seen)?;
        let definitions = definitions(self)?;
        known_sets(self, &definitions, extent, seen)?;
        others(self, seen)?;
        rules::known(self, &definitions, seen)
    }

    /// Asks for all objects of a kind; `attribute` is where the name of their table is.
    fn dump(
        &mut self,
        kind: i32,
        attribute: u16,
        more: &[(u16, &str)],
        mut each: impl FnMut(Message) -> Result<(), Malformed>,
    ) -> Result<(), Error> {
        let Self { socket, name, .. } = self;
        let attrs = [&[(attribute, name.as_str())], more].concat();
        query::dump(socket, kind, &attrs, |message| {
            let table = message.attrs()?.find(attribute)?.map(text).transpose()?;
            let inet = message.family() == Some(libc::NFPROTO_INET as u8);
            if inet && table == Some(name) { each(message) } else { Ok(()) }
        })
    }
}

fn chains(source: &mut Source, seen: &mut Observed) -> Result<(), Error> {
    let table = source.table;
    source.dump(libc::NFT_MSG_GETCHAIN, NFTA_CHAIN_TABLE, &[], |message| {
        let attrs = message.attrs()?;
        let name = text(attrs.find(NFTA_CHAIN_NAME)?.ok_or(Malformed)?)?;
        match name.parse() {
            Ok(chain) if is_as_made(table, chain, attrs)? => {
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
    Ok(attrs.find(attribute)?.is_some_and(is_commented))
}

/// What does not read as user data is a comment for all we know.
fn is_commented(userdata: &[u8]) -> bool {
    !matches!(userdata::read_comment(userdata), Ok(None))
}

/// Hook, priority, policy and type, and nothing else.
fn is_as_made(table: TableName, chain: ChainName, attrs: Attrs) -> Result<bool, Malformed> {
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
        && u32_of(found, NFTA_HOOK_PRIORITY)? == Some(table.priority(base) as u32)
        && found.find(NFTA_HOOK_DEV)?.is_none()
        && found.find(NFTA_HOOK_DEVS)?.is_none()
        && u32_of(attrs, NFTA_CHAIN_POLICY)? == Some(policy as u32)
        && attrs.find(NFTA_CHAIN_TYPE)?.map(text).transpose()? == Some(base.kind.name()))
}

fn definitions(source: &mut Source) -> Result<BTreeMap<String, Definition>, Error> {
    let mut definitions = BTreeMap::new();
    source.dump(libc::NFT_MSG_GETSET, NFTA_SET_TABLE, &[], |message| {
        let set = Definition::read(message.attrs()?)?;
        definitions.insert(set.name.clone(), set);
        Ok(())
    })?;
    Ok(definitions)
}

/// Our maps and the gate, with their elements. Anonymous sets belong to the rules.
fn known_sets(
    source: &mut Source,
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
                        _ => map(source, name, seen)?,
                    };
                    seen.ruleset.maps.insert(name, map);
                }
                None => seen.foreign.push(format!("{kind} {name} (not as portmap makes it)")),
            },
            Err(()) if set.name == GATE && set.is_gate() => {
                seen.ruleset.gate = Some(gate(source, seen)?);
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
    source: &mut Source,
    set: &str,
    mut each: impl FnMut(Found) -> Result<(), Malformed>,
) -> Result<(), Error> {
    let attrs = [(NFTA_SET_ELEM_LIST_SET, set)];
    let kind = libc::NFT_MSG_GETSETELEM;
    source.dump(kind, NFTA_SET_ELEM_LIST_TABLE, &attrs, |message| {
        let Some(list) = message.attrs()?.find(NFTA_SET_ELEM_LIST_ELEMENTS)? else {
            return Ok(());
        };
        for attr in Attrs(list) {
            each(Found::read(attr?.1)?)?;
        }
        Ok(())
    })
}

fn map(source: &mut Source, name: MapName, seen: &mut Observed) -> Result<Map, Error> {
    let mut map = Map::empty(name);
    let (counters, foreign) = (&mut seen.counters, &mut seen.foreign);
    elements(source, &name.to_string(), |found| {
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
fn gate(source: &mut Source, seen: &mut Observed) -> Result<Gate, Error> {
    let mut gate: Option<Gate> = None;
    elements(source, GATE, |found| {
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
fn others(source: &mut Source, seen: &mut Observed) -> Result<(), Error> {
    let kinds = [
        (libc::NFT_MSG_GETOBJ, NFTA_OBJ_TABLE, NFTA_OBJ_NAME, "object"),
        (GET_FLOWTABLE, NFTA_FLOWTABLE_TABLE, NFTA_FLOWTABLE_NAME, "flowtable"),
    ];
    for (request, table, name, kind) in kinds {
        source.dump(request, table, &[], |message| {
            let name = text(message.attrs()?.find(name)?.ok_or(Malformed)?)?;
            seen.foreign.push(format!("{kind} {name}"));
            Ok(())
        })?;
    }
    Ok(())
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
            tables(&mut socket, Extent::Whole).unwrap().0.unwrap().foreign
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
