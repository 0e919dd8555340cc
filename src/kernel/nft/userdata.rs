//! What libnftnl and nft keep with tables, sets, rules and elements (`libnftnl/udata.h`), of which
//! the kernel knows nothing: entries of type, length and value. Numbers are in the processor's
//! order.

use super::rule::Field;
use crate::kernel::netlink::wire::{Malformed, text};
use crate::ruleset::MapName;

/// `NFTNL_UDATA_TABLE_COMMENT`, and the same for rules and elements.
const COMMENT: u8 = 0;
/// `NFTNL_UDATA_SET_ELEM_FLAGS`
const ELEM_FLAGS: u8 = 1;
/// `NFTNL_SET_ELEM_F_INTERVAL_OPEN`
const INTERVAL_OPEN: u32 = 1;

/// `NFTNL_UDATA_SET_KEYBYTEORDER` and so on.
const KEY_BYTEORDER: u8 = 0;
const DATA_BYTEORDER: u8 = 1;
const MERGE_ELEMENTS: u8 = 2;
const KEY_TYPEOF: u8 = 3;
const DATA_INTERVAL: u8 = 6;
const SET_COMMENT: u8 = 7;
/// `NFTNL_UDATA_SET_TYPEOF_EXPR` and `NFTNL_UDATA_SET_TYPEOF_DATA`
const TYPEOF_EXPR: u8 = 0;
const TYPEOF_DATA: u8 = 1;

/// `BYTEORDER_HOST_ENDIAN` and `BYTEORDER_BIG_ENDIAN` of nft's `datatype.h`.
const UNORDERED: u32 = 0;
const HOST_ENDIAN: u32 = 1;
const BIG_ENDIAN: u32 = 2;
/// `EXPR_PAYLOAD`, `EXPR_META` and `EXPR_CONCAT` of nft's `expression.h`.
const PAYLOAD: u32 = 7;
const META: u32 = 9;
const CONCAT: u32 = 13;
/// `NFT_META_IIFNAME` and `NFT_META_L4PROTO`
const IIFNAME: u32 = 6;
const L4PROTO: u32 = 16;

/// Entries one after another.
#[derive(Default)]
struct Entries(Vec<u8>);

impl Entries {
    fn bytes(mut self, kind: u8, value: &[u8]) -> Self {
        let len = u8::try_from(value.len()).expect("an entry has less than 256 bytes");
        self.0.extend([kind, len]);
        self.0.extend_from_slice(value);
        self
    }

    fn number(self, kind: u8, value: u32) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// What a key is made from, so that nft can say it when it lists the set.
    fn key_typeof(self, expr: u32, data: Entries) -> Self {
        let value = Entries::default().number(TYPEOF_EXPR, expr).bytes(TYPEOF_DATA, &data.0);
        self.bytes(KEY_TYPEOF, &value.0)
    }
}

/// As nft 1.0.6 writes it, byte for byte.
pub fn of_map(name: MapName) -> Vec<u8> {
    let entries = Entries::default().number(KEY_BYTEORDER, UNORDERED);
    let of_map = |entries: Entries, order: u32| {
        let entries = entries.number(DATA_BYTEORDER, order).key_typeof(CONCAT, Entries::default());
        entries.number(DATA_INTERVAL, 0)
    };
    let entries = match name {
        MapName::Ports(..) => of_map(entries, BIG_ENDIAN),
        MapName::Selected(_) => of_map(entries, UNORDERED),
        MapName::Zoned | MapName::Served(_) | MapName::Guarded(_) | MapName::Hidden(_) => {
            entries.key_typeof(CONCAT, Entries::default())
        }
    };
    entries.0
}

pub fn of_gate() -> Vec<u8> {
    Entries::default().number(KEY_BYTEORDER, UNORDERED).0
}

/// Of a set without a name.
pub fn of_field(field: Field, is_interval: bool) -> Vec<u8> {
    let is_address = matches!(field, Field::Address { .. });
    let order = if is_address { BIG_ENDIAN } else { HOST_ENDIAN };
    let mut entries = Entries::default().number(KEY_BYTEORDER, order);
    if is_interval {
        entries = entries.number(MERGE_ELEMENTS, 1);
    }
    let data = Entries::default();
    let entries = match field {
        Field::L4Proto => entries.key_typeof(META, data.number(0, L4PROTO)),
        Field::Interface => entries.key_typeof(META, data.number(0, IIFNAME)),
        // nft's own numbers of the protocol and of its field.
        Field::Address { ipv6, source } => {
            let first = if ipv6 { 8 } else { 11 };
            let (protocol, field) = (12 + u32::from(ipv6), first + u32::from(!source));
            entries.key_typeof(PAYLOAD, data.number(0, protocol).number(1, field))
        }
    };
    entries.0
}

/// Of an element that begins an interval without an end.
pub fn of_open_element() -> Vec<u8> {
    Entries::default().number(ELEM_FLAGS, INTERVAL_OPEN).0
}

/// With its closing zero.
pub fn comment(comment: &str) -> Vec<u8> {
    Entries::default().bytes(COMMENT, &[comment.as_bytes(), &[0]].concat()).0
}

/// The comment of a table, a rule or an element.
pub fn read_comment(data: &[u8]) -> Result<Option<&str>, Malformed> {
    find(data, COMMENT).map(text).transpose()
}

/// Whether a set has a comment.
pub fn is_commented(of_set: &[u8]) -> bool {
    find(of_set, SET_COMMENT).is_some()
}

fn find(data: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = data;
    while let [kind, len, tail @ ..] = rest {
        let value = tail.get(..usize::from(*len))?;
        if *kind == wanted {
            return Some(value);
        }
        rest = &tail[value.len()..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::{Family, Scope};
    use crate::ruleset::Layer;

    /// As nft 1.0.6 writes it on a processor that stores the least byte first.
    #[test]
    #[cfg(target_endian = "little")]
    #[rustfmt::skip]
    fn it_is_that_of_nft() {
        let ports = MapName::Ports(Layer::Active, Scope::Both, Family::Both);
        assert_eq!(
            of_map(ports),
            [0, 4, 0, 0, 0, 0, 1, 4, 2, 0, 0, 0, 3, 8, 0, 4, 13, 0, 0, 0, 1, 0, 6, 4, 0, 0, 0, 0]
        );
        assert_eq!(
            of_map(MapName::Selected(Layer::Active)),
            [0, 4, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0, 3, 8, 0, 4, 13, 0, 0, 0, 1, 0, 6, 4, 0, 0, 0, 0]
        );
        assert_eq!(
            of_map(MapName::Hidden(Layer::Active)),
            [0, 4, 0, 0, 0, 0, 3, 8, 0, 4, 13, 0, 0, 0, 1, 0]
        );
        assert_eq!(
            of_field(Field::Interface, false),
            [0, 4, 1, 0, 0, 0, 3, 14, 0, 4, 9, 0, 0, 0, 1, 6, 0, 4, 6, 0, 0, 0]
        );
        assert_eq!(
            of_field(Field::Address { ipv6: true, source: false }, true),
            [0, 4, 2, 0, 0, 0, 2, 4, 1, 0, 0, 0, 3, 20, 0, 4, 7, 0, 0, 0,
             1, 12, 0, 4, 13, 0, 0, 0, 1, 4, 9, 0, 0, 0]
        );
        assert_eq!(of_open_element(), [1, 4, 1, 0, 0, 0]);
    }

    #[test]
    fn numbers_are_in_the_processors_order() {
        assert_eq!(of_gate(), [&[KEY_BYTEORDER, 4][..], &0u32.to_ne_bytes()].concat());
        assert_eq!(of_open_element(), [&[ELEM_FLAGS, 4][..], &1u32.to_ne_bytes()].concat());
    }

    #[test]
    fn a_comment_is_found_among_others() {
        let data = [&of_open_element()[..], &comment("the shop")].concat();
        assert_eq!(read_comment(&data), Ok(Some("the shop")));
        assert_eq!(read_comment(&of_open_element()), Ok(None));
        assert_eq!(read_comment(&[COMMENT, 9, 1]), Ok(None));
    }
}
