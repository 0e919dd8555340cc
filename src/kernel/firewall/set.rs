//! Sets and maps with their elements.

use std::collections::BTreeMap;

use nix::libc;

use super::{Tables, bounded, dump, expr, table};
use crate::firewall::expr::Data;
use crate::firewall::{Element, Set};
use crate::kernel::Error;
use crate::kernel::netlink::socket::Socket;
use crate::kernel::netlink::wire::{Attrs, Malformed, be_u32, text};
use crate::kernel::nft::abi::*;

/// `NFT_SET_EVAL`: rules add elements.
const EVAL: u32 = 0x20;
/// `NFT_SET_ELEM_CATCHALL`
const CATCH_ALL: u32 = 0x2;
const NFTA_SET_DESC_CONCAT: u16 = 2;
const NFTA_SET_FIELD_LEN: u16 = 1;
const NFTA_SET_ELEM_KEY_END: u16 = 10;

/// An element as it was dumped.
struct Raw {
    key: Vec<u8>,
    key_end: Option<Vec<u8>>,
    data: Option<Data>,
    ends: bool,
    catch_all: bool,
}

pub fn read(socket: &mut Socket, tables: &mut Tables) -> Result<(), Error> {
    let mut found = Vec::new();
    dump(socket, (libc::NFT_MSG_GETSET, 0), &[], |message| {
        let family = message.family().ok_or(Malformed)?;
        let Some(table) = table(tables, &message, NFTA_SET_TABLE)? else { return Ok(()) };
        let (name, set) = definition(message.attrs()?)?;
        found.push((family, table.name.clone(), name, set));
        Ok(())
    })?;
    for (family, table, name, mut set) in found {
        let mut raw = Vec::new();
        let attrs =
            [(NFTA_SET_ELEM_LIST_TABLE, table.as_str()), (NFTA_SET_ELEM_LIST_SET, name.as_str())];
        dump(socket, (libc::NFT_MSG_GETSETELEM, family), &attrs, |message| {
            if let Some(list) = message.attrs()?.find(NFTA_SET_ELEM_LIST_ELEMENTS)? {
                for element in Attrs(list) {
                    raw.push(element_of(element?.1)?);
                }
            }
            Ok(())
        })?;
        fill(&mut set, raw);
        if let Some(table) = tables.get_mut(&(family, table)) {
            table.sets.insert(name, set);
        }
    }
    Ok(())
}

fn definition(attrs: Attrs) -> Result<(String, Set), Malformed> {
    let number = |kind| -> Result<u32, Malformed> {
        Ok(attrs.find(kind)?.map(be_u32).transpose()?.unwrap_or(0))
    };
    let flags = number(NFTA_SET_FLAGS)?;
    let name = text(attrs.find(NFTA_SET_NAME)?.ok_or(Malformed)?)?.to_owned();
    let mut fields = Vec::new();
    if let Some(desc) = attrs.find(NFTA_SET_DESC)? {
        let list = Attrs(desc).find(NFTA_SET_DESC_CONCAT)?;
        for field in list.into_iter().flat_map(Attrs) {
            let len = Attrs(field?.1).find(NFTA_SET_FIELD_LEN)?.ok_or(Malformed)?;
            fields.push(bounded(be_u32(len)?)?);
        }
    }
    let set = Set {
        anonymous: flags & SET_ANONYMOUS != 0,
        dynamic: flags & EVAL != 0,
        intervals: flags & SET_INTERVAL != 0,
        fields: if fields.len() > 1 { fields } else { Vec::new() },
        key_type: number(NFTA_SET_KEY_TYPE)?,
        key_len: bounded(number(NFTA_SET_KEY_LEN)?)?,
        data_len: bounded(number(NFTA_SET_DATA_LEN)?)?,
        ..Set::default()
    };
    Ok((name, set))
}

fn element_of(bytes: &[u8]) -> Result<Raw, Malformed> {
    let mut raw = Raw { key: Vec::new(), key_end: None, data: None, ends: false, catch_all: false };
    let value = |nest| -> Result<Vec<u8>, Malformed> {
        Ok(Attrs(nest).find(NFTA_DATA_VALUE)?.ok_or(Malformed)?.to_vec())
    };
    for attr in Attrs(bytes) {
        match attr? {
            (NFTA_SET_ELEM_KEY, nest) => raw.key = value(nest)?,
            (NFTA_SET_ELEM_KEY_END, nest) => raw.key_end = Some(value(nest)?),
            (NFTA_SET_ELEM_DATA, nest) => raw.data = expr::data(nest)?,
            (NFTA_SET_ELEM_FLAGS, flags) => {
                let flags = be_u32(flags)?;
                raw.ends = flags & ELEM_INTERVAL_END != 0;
                raw.catch_all = flags & CATCH_ALL != 0;
            }
            _ => {}
        }
    }
    Ok(raw)
}

fn fill(set: &mut Set, raw: Vec<Raw>) {
    let (catch_all, mut raw): (Vec<Raw>, Vec<Raw>) =
        raw.into_iter().partition(|element| element.catch_all);
    if let Some(element) = catch_all.into_iter().next() {
        set.has_catch_all = true;
        set.catch_all = element.data;
    }
    if !set.intervals || !set.fields.is_empty() {
        set.elements = raw
            .into_iter()
            .map(|Raw { key, key_end, data, .. }| Element {
                to: key_end.unwrap_or_else(|| key.clone()),
                from: key,
                data,
            })
            .collect();
        return;
    }
    // An interval reaches to the next thing that begins or ends, and the last one to the end.
    raw.sort_by(|a, b| a.key.cmp(&b.key).then(b.ends.cmp(&a.ends)));
    let keys: BTreeMap<usize, Vec<u8>> =
        raw.iter().enumerate().map(|(at, element)| (at, element.key.clone())).collect();
    for (at, element) in raw.into_iter().enumerate().filter(|(_, element)| !element.ends) {
        let next = keys.range(at + 1..).map(|(_, key)| key).find(|key| **key > element.key);
        let to = match (element.key_end, next) {
            (Some(end), _) => end,
            (None, Some(next)) => before(next.clone()),
            (None, None) => vec![0xff; element.key.len()],
        };
        set.elements.push(Element { from: element.key, to, data: element.data });
    }
}

/// The number before this one, which is not 0.
fn before(mut key: Vec<u8>) -> Vec<u8> {
    for byte in key.iter_mut().rev() {
        let (less, borrowed) = byte.overflowing_sub(1);
        *byte = less;
        if !borrowed {
            break;
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netlink::wire::Writer;

    fn raw(key: &[u8], ends: bool) -> Raw {
        Raw { key: key.to_vec(), key_end: None, data: None, ends, catch_all: false }
    }

    /// What is shown of a rule walks over all of a key, and a map's unknown data is made room for.
    #[test]
    fn lengths_that_no_set_has_are_not_taken() {
        let with = |attribute: u16, len: u32| {
            let mut writer = Writer::with_capacity(64);
            writer.attr_str(NFTA_SET_NAME, "set");
            writer.attr_u32(attribute, len);
            definition(Attrs(&writer.bytes)).map(|(_, set)| (set.key_len, set.data_len))
        };
        assert_eq!(with(NFTA_SET_KEY_LEN, 64).unwrap(), (64, 0));
        assert_eq!(with(NFTA_SET_DATA_LEN, 16).unwrap(), (0, 16));
        for attribute in [NFTA_SET_KEY_LEN, NFTA_SET_DATA_LEN] {
            assert!(with(attribute, 65).is_err());
            assert!(with(attribute, u32::MAX).is_err());
        }
    }

    #[test]
    fn intervals_are_put_together_again() {
        let mut set = Set { intervals: true, ..Set::default() };
        // As the kernel dumps them: in any order, ends flagged, neighbours sharing a border.
        let dumped = [
            raw(&[2, 0], true),
            raw(&[1, 0], false),
            raw(&[0, 0], true),
            raw(&[2, 0], false),
            raw(&[3, 0], true),
            raw(&[255, 0], false),
        ];
        fill(&mut set, dumped.into());
        let found: Vec<_> = set.elements.iter().map(|e| (e.from.clone(), e.to.clone())).collect();
        let wanted = [
            (vec![1, 0], vec![1, 255]),
            (vec![2, 0], vec![2, 255]),
            (vec![255, 0], vec![255, 255]),
        ];
        assert_eq!(found, wanted);
    }
}
