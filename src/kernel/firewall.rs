//! Reads the rulesets of everybody: all tables of all families over netlink, and those of legacy
//! iptables.

mod expr;
mod legacy;
mod set;

use std::collections::BTreeMap;

use nix::libc;

use super::netlink::socket::{Request, Socket};
use super::netlink::wire::{Attrs, Malformed, Message, Writer, be_u32, be_u64, text};
use super::nft::abi::*;
use super::nft::moment::consistent;
use super::nft::query::nft_type;
use super::nft::userdata;
use super::{Error, links};
use crate::firewall::{
    Backend, BaseChain, Chain, Family, Hook, Kind, Rule, Rulesets, Table, has_rules_beneath,
};
use crate::ruleset::TABLE;

/// `NFT_TABLE_F_DORMANT`
const DORMANT: u32 = 1;
/// `NFTA_DEVICE_NAME`
const DEVICE_NAME: u16 = 1;

/// `NFT_DATA_VALUE_MAXLEN`, in bytes: of data in registers, keys of sets, and what maps have for them.
const LONGEST: u32 = 64;

/// Tables by family and name.
type Tables = BTreeMap<(u8, String), Table>;

/// All rules of nftables in this network namespace, as they were at one generation, and those of
/// legacy iptables, which has none. Begins again if the ruleset changes meanwhile.
///
/// # Errors
///
/// [`Error::Restless`] if it keeps changing; without CAP_NET_ADMIN the kernel refuses.
pub fn read() -> Result<Rulesets, Error> {
    let (_, mut tables) = consistent(&mut Socket::open()?, tables)?;
    let (legacy, unread) = legacy::read();
    tables.extend(legacy);
    let devices = match has_rules_beneath(&tables) {
        true => links::devices()?,
        false => BTreeMap::new(),
    };
    Ok(Rulesets { tables, unread, devices })
}

fn bounded(len: u32) -> Result<usize, Malformed> {
    if len <= LONGEST { Ok(len as usize) } else { Err(Malformed) }
}

/// The rules of nftables, if somebody else has a chain that can change where connections to this
/// host go; otherwise nothing.
///
/// # Errors
///
/// As of [`read`].
pub fn translations_of_others() -> Result<Rulesets, Error> {
    let mut socket = Socket::open()?;
    let (_, is_there) = consistent(&mut socket, has_translations_of_others)?;
    let tables = if is_there { consistent(&mut socket, tables)?.1 } else { Vec::new() };
    Ok(Rulesets { tables, ..Rulesets::default() })
}

fn has_translations_of_others(socket: &mut Socket) -> Result<bool, Error> {
    let mut is_there = false;
    dump(socket, (libc::NFT_MSG_GETCHAIN, 0), &[], |message| {
        let attrs = message.attrs()?;
        let kind = attrs.find(NFTA_CHAIN_TYPE)?.map(text).transpose()?;
        let table = text(attrs.find(NFTA_CHAIN_TABLE)?.ok_or(Malformed)?)?;
        let hook = attrs.find(NFTA_CHAIN_HOOK)?.map(Attrs);
        let number = hook.map(|hook| hook.find(NFTA_HOOK_HOOKNUM)).transpose()?.flatten();
        let number = number.map(be_u32).transpose()?.map(|number| number as i32);
        let is_before = matches!(number, Some(libc::NF_INET_PRE_ROUTING | libc::NF_INET_LOCAL_OUT));
        is_there |= kind == Some("nat") && is_before && table != TABLE;
        Ok(())
    })?;
    Ok(is_there)
}

/// Asks for all objects of a kind, of a family or (0) of all.
fn dump(
    socket: &mut Socket,
    (kind, family): (i32, u8),
    attrs: &[(u16, &str)],
    mut each: impl FnMut(Message) -> Result<(), Malformed>,
) -> Result<(), Error> {
    let request = Request { kind: nft_type(kind), family, dump: true };
    let write = |writer: &mut Writer| {
        for (attribute, value) in attrs {
            writer.attr_str(*attribute, value);
        }
    };
    socket.ask(request, &write, &mut each)
}

pub(super) fn tables(socket: &mut Socket) -> Result<Vec<Table>, Error> {
    let mut order = Vec::new();
    let mut tables = Tables::new();
    dump(socket, (libc::NFT_MSG_GETTABLE, 0), &[], |message| {
        let attrs = message.attrs()?;
        let number = message.family().ok_or(Malformed)?;
        let Some(family) = Family::from_number(number) else { return Ok(()) };
        let name = text(attrs.find(NFTA_TABLE_NAME)?.ok_or(Malformed)?)?.to_owned();
        let flags = attrs.find(NFTA_TABLE_FLAGS)?.map(be_u32).transpose()?.unwrap_or(0);
        order.push((number, name.clone()));
        tables.insert(
            (number, name.clone()),
            Table {
                family,
                name,
                backend: Backend::Nftables,
                dormant: flags & DORMANT != 0,
                chains: Vec::new(),
                sets: BTreeMap::new(),
            },
        );
        Ok(())
    })?;
    chains(socket, &mut tables)?;
    set::read(socket, &mut tables)?;
    rules(socket, &mut tables)?;
    Ok(order.iter().filter_map(|key| tables.remove(key)).collect())
}

/// The table that a message is about.
fn table<'t>(
    tables: &'t mut Tables,
    message: &Message,
    attribute: u16,
) -> Result<Option<&'t mut Table>, Malformed> {
    let family = message.family().ok_or(Malformed)?;
    let name = text(message.attrs()?.find(attribute)?.ok_or(Malformed)?)?;
    Ok(tables.get_mut(&(family, name.to_owned())))
}

fn chains(socket: &mut Socket, tables: &mut Tables) -> Result<(), Error> {
    dump(socket, (libc::NFT_MSG_GETCHAIN, 0), &[], |message| {
        let Some(table) = table(tables, &message, NFTA_CHAIN_TABLE)? else { return Ok(()) };
        let attrs = message.attrs()?;
        let name = text(attrs.find(NFTA_CHAIN_NAME)?.ok_or(Malformed)?)?.to_owned();
        let base = match attrs.find(NFTA_CHAIN_HOOK)? {
            Some(hook) => base(attrs, Attrs(hook), table.family)?,
            None => None,
        };
        table.chains.push(Chain { name, base, rules: Vec::new() });
        Ok(())
    })
}

fn base(attrs: Attrs, hook: Attrs, family: Family) -> Result<Option<BaseChain>, Malformed> {
    let number = |attrs: Attrs, kind| attrs.find(kind)?.map(be_u32).transpose();
    let Some(at) = number(hook, NFTA_HOOK_HOOKNUM)?.and_then(|n| Hook::from_number(n, family))
    else {
        return Ok(None);
    };
    let priority = number(hook, NFTA_HOOK_PRIORITY)?.unwrap_or(0) as i32;
    let kind = match attrs.find(NFTA_CHAIN_TYPE)?.map(text).transpose()? {
        Some("nat") => Kind::Nat,
        Some("route") => Kind::Route,
        _ => Kind::Filter,
    };
    let drops = number(attrs, NFTA_CHAIN_POLICY)? == Some(libc::NF_DROP as u32);
    let mut devices = Vec::new();
    for attr in hook {
        match attr? {
            (NFTA_HOOK_DEV, name) => devices.push(text(name)?.to_owned()),
            (NFTA_HOOK_DEVS, list) => {
                for device in Attrs(list) {
                    let (kind, name) = device?;
                    if kind == DEVICE_NAME {
                        devices.push(text(name)?.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    devices.sort();
    devices.dedup();
    Ok(Some(BaseChain { hook: at, priority, kind, drops, devices }))
}

fn rules(socket: &mut Socket, tables: &mut Tables) -> Result<(), Error> {
    dump(socket, (libc::NFT_MSG_GETRULE, 0), &[], |message| {
        let Some(table) = table(tables, &message, NFTA_RULE_TABLE)? else { return Ok(()) };
        let mut rule = Rule::default();
        let mut chain = None;
        for attr in message.attrs()? {
            match attr? {
                (NFTA_RULE_CHAIN, name) => chain = Some(text(name)?),
                (NFTA_RULE_HANDLE, handle) => rule.handle = be_u64(handle)?,
                (NFTA_RULE_EXPRESSIONS, list) => rule.exprs = expr::read_all(list)?,
                (NFTA_RULE_USERDATA, data) => {
                    let comment = userdata::read_comment(data).ok().flatten();
                    rule.comment = comment.map(str::to_owned);
                }
                _ => {}
            }
        }
        // Rules come chain by chain, mostly in the order of the chains.
        let chain = chain.ok_or(Malformed)?;
        if let Some(chain) = table.chains.iter_mut().rev().find(|other| other.name == chain) {
            chain.rules.push(rule);
        }
        Ok(())
    })
}
