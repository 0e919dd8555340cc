//! The elements of anonymous sets: networks and interface names as nft writes them.
//!
//! A set of single values is a plain hash. As soon as one of them means many, the set is of
//! intervals: an element where each begins and, flagged, one behind where it ends. Neighbours are
//! merged, as nft does in anonymous sets; reading splits them again into the fewest prefixes,
//! which is the canonical form of `IpNet::aggregate`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::kernel::netlink::wire::Malformed;
use crate::mapping::InterfacePattern;

/// `IFNAMSIZ`
pub const NAME_LEN: usize = 16;

/// One element: the key, and whether an interval ends before it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    pub key: Vec<u8>,
    pub end: bool,
    /// `SET_ELEM_F_INTERVAL_OPEN`: nft's remark that the interval reaches to the end of the space.
    pub open: bool,
}

/// The elements of a set and what nft says about their number (`NFTA_SET_DESC_SIZE`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elements {
    pub list: Vec<Element>,
    pub interval: bool,
    pub size: u32,
}

/// From first to last value, inclusive, in a space of keys of some bytes.
type Range = (u128, u128);

fn highest(key_len: usize) -> u128 {
    u128::MAX >> (128 - key_len * 8)
}

fn key(value: u128, key_len: usize) -> Vec<u8> {
    value.to_be_bytes()[16 - key_len..].to_vec()
}

fn value(key: &[u8]) -> u128 {
    key.iter().fold(0, |value, byte| (value << 8) | u128::from(*byte))
}

fn merged(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if before.1.checked_add(1).is_none_or(|next| first <= next) => {
                before.1 = before.1.max(last);
            }
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn elements(ranges: Vec<Range>, key_len: usize) -> Elements {
    let element = |v, end| Element { key: key(v, key_len), end, open: false };
    if ranges.iter().all(|(first, last)| first == last) {
        let list: Vec<_> = ranges.iter().map(|(v, _)| element(*v, false)).collect();
        return Elements { size: list.len() as u32, list, interval: false };
    }
    let ranges = merged(ranges);
    let mut list = Vec::with_capacity(ranges.len() * 2 + 1);
    let begins_later = ranges.first().is_some_and(|r| r.0 != 0);
    if begins_later {
        list.push(element(0, true));
    }
    // nft counts an end for each, also where there is none.
    let size = (ranges.len() * 2 + usize::from(begins_later)) as u32;
    for (first, last) in ranges {
        list.push(element(first, false));
        if last == highest(key_len) {
            list.last_mut().expect("just pushed").open = true;
        } else {
            list.push(element(last + 1, true));
        }
    }
    Elements { list, interval: true, size }
}

/// The ranges that the elements of a set cover; none of them if `interval` is not its kind.
fn ranges(found: &[Element], interval: bool, key_len: usize) -> Result<Vec<Range>, Malformed> {
    if found.iter().any(|e| e.key.len() != key_len) {
        return Err(Malformed);
    }
    if !interval {
        return Ok(merged(found.iter().map(|e| (value(&e.key), value(&e.key))).collect()));
    }
    let mut sorted: Vec<(u128, bool)> = found.iter().map(|e| (value(&e.key), !e.end)).collect();
    sorted.sort_unstable();
    let mut ranges = Vec::new();
    let mut begun = None;
    for (at, begins) in sorted {
        match (begun, begins) {
            (None, true) => begun = Some(at),
            (Some(first), false) if at > first => {
                ranges.push((first, at - 1));
                begun = None;
            }
            // The element before all intervals, or one end for two neighbours.
            (None, false) => {}
            _ => return Err(Malformed),
        }
    }
    ranges.extend(begun.map(|first| (first, highest(key_len))));
    Ok(merged(ranges))
}

/// The fewest blocks of 2^n aligned values that make up the range, as (first value, n), with n a
/// multiple of `step`.
fn blocks(range: Range, bits: u32, step: u32) -> Vec<(u128, u32)> {
    let (mut first, last) = range;
    let mut blocks = Vec::new();
    loop {
        let fits = |n: u32| {
            let mask = if n == 128 { u128::MAX } else { (1 << n) - 1 };
            first & mask == 0 && last - first >= mask
        };
        let n = (0..=bits).rev().filter(|n| n % step == 0).find(|n| fits(*n)).unwrap_or(0);
        blocks.push((first, n));
        let mask = if n == 128 { u128::MAX } else { (1 << n) - 1 };
        if first + mask >= last {
            return blocks;
        }
        first += mask + 1;
    }
}

fn address_len(ipv6: bool) -> usize {
    if ipv6 { 16 } else { 4 }
}

fn address(value: u128, ipv6: bool) -> IpAddr {
    if ipv6 { Ipv6Addr::from(value).into() } else { Ipv4Addr::from(value as u32).into() }
}

/// The bytes of an address in network order.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// The network of `prefix` bits whose address is `bytes`; the bits behind must be zero.
pub fn network(bytes: &[u8], prefix: u8, ipv6: bool) -> Result<IpNet, Malformed> {
    if bytes.len() != address_len(ipv6) {
        return Err(Malformed);
    }
    let net = IpNet::new(address(value(bytes), ipv6), prefix).map_err(|_| Malformed)?;
    if net.trunc() == net { Ok(net) } else { Err(Malformed) }
}

/// How many bits a mask leaves at the beginning; an error if it has others.
pub fn prefix_len(mask: &[u8]) -> Result<u32, Malformed> {
    let ones: u32 = mask.iter().map(|b| b.count_ones()).sum();
    let leading = mask.iter().take_while(|b| **b == 0xff).count();
    let rest = mask.get(leading).map_or(0, |b| b.leading_ones());
    if ones == leading as u32 * 8 + rest { Ok(ones) } else { Err(Malformed) }
}

/// `networks` are of one family, without overlap.
pub fn of_networks(networks: &[IpNet]) -> Elements {
    let key_len = networks.first().map_or(4, |net| octets(net.addr()).len());
    let range = |net: &IpNet| (value(&octets(net.network())), value(&octets(net.broadcast())));
    elements(networks.iter().map(range).collect(), key_len)
}

pub fn to_networks(found: &[Element], interval: bool, ipv6: bool) -> Result<Vec<IpNet>, Malformed> {
    let bits = address_len(ipv6) as u32 * 8;
    let mut networks = Vec::new();
    for range in ranges(found, interval, address_len(ipv6))? {
        for (first, n) in blocks(range, bits, 1) {
            let prefix = (bits - n) as u8;
            networks.push(IpNet::new(address(first, ipv6), prefix).map_err(|_| Malformed)?);
        }
    }
    Ok(networks)
}

fn name_range(pattern: &InterfacePattern) -> Range {
    let (name, fill) = match pattern {
        InterfacePattern::Name(name) => (name, 0),
        InterfacePattern::Prefix(prefix) => (prefix, 0xff),
    };
    let padded = |with: u8| {
        let mut key = [with; NAME_LEN];
        let len = name.len().min(NAME_LEN);
        key[..len].copy_from_slice(&name.as_bytes()[..len]);
        u128::from_be_bytes(key)
    };
    (padded(0), padded(fill))
}

pub fn of_interfaces(patterns: &[InterfacePattern]) -> Elements {
    elements(patterns.iter().map(name_range).collect(), NAME_LEN)
}

pub fn to_interfaces(
    found: &[Element],
    interval: bool,
) -> Result<Vec<InterfacePattern>, Malformed> {
    let mut patterns = Vec::new();
    for range in ranges(found, interval, NAME_LEN)? {
        for (first, n) in blocks(range, 128, 8) {
            let key = first.to_be_bytes();
            patterns.push(match n {
                0 => name(&key)?,
                _ => prefix(&key[..NAME_LEN - n as usize / 8])?,
            });
        }
    }
    patterns.sort();
    Ok(patterns)
}

/// A name of the full length, filled up with zeros, at least one.
pub fn name(key: &[u8]) -> Result<InterfacePattern, Malformed> {
    let len = key.iter().position(|b| *b == 0).ok_or(Malformed)?;
    if key[len..].iter().any(|b| *b != 0) {
        return Err(Malformed);
    }
    InterfacePattern::name(text(&key[..len])?).map_err(|_| Malformed)
}

/// The beginning of a name: not empty, no zeros.
pub fn prefix(key: &[u8]) -> Result<InterfacePattern, Malformed> {
    InterfacePattern::prefix(text(key)?).map_err(|_| Malformed)
}

fn text(key: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(key).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        let mut nets = IpNet::aggregate(&texts.iter().map(|t| t.parse().unwrap()).collect());
        nets.sort();
        nets
    }

    #[test]
    fn networks_survive_the_way_through_elements() {
        for (texts, size) in [
            // The sizes are those that nft 1.0.6 asks for.
            (&["192.0.2.10/32", "192.0.2.12/32"][..], 2),
            (&["10.0.0.0/8", "203.0.113.0/24"], 5),
            (&["10.0.0.0/8", "255.0.0.0/8"], 5),
            (&["0.0.0.0/1", "255.0.0.0/8"], 4),
            (&["10.0.0.0/9", "10.128.0.0/10", "11.0.0.1/32"], 5),
            (&["10.0.0.0/31", "10.0.0.2/32"], 3),
            (&["::/16", "ff00::/8"], 4),
            (&["2001:db8::/32", "2001:db9::1/128"], 5),
        ] {
            let nets = nets(texts);
            let made = of_networks(&nets);
            let ipv6 = nets[0].addr().is_ipv6();
            assert_eq!(made.size, size, "{texts:?}");
            assert_eq!(to_networks(&made.list, made.interval, ipv6), Ok(nets));
        }
    }

    #[test]
    fn interfaces_survive_the_way_through_elements() {
        let name = |n: &str| InterfacePattern::name(n).expect("a name");
        let prefix = |n: &str| InterfacePattern::prefix(n).expect("a prefix");
        for patterns in [
            vec![name("eth0"), name("eth1")],
            vec![name("eth0"), prefix("wg")],
            // Neighbours: the interval of one ends where the next begins.
            vec![name("ac"), prefix("ab")],
            vec![prefix("ab"), prefix("ac")],
            vec![name("exactly15chars0"), prefix("exactly15chars1")],
        ] {
            let made = of_interfaces(&patterns);
            assert_eq!(to_interfaces(&made.list, made.interval), Ok(patterns));
        }
    }

    #[test]
    fn elements_that_make_no_intervals_are_errors() {
        let element = |key: u32, end| Element { key: key.to_be_bytes().into(), end, open: false };
        let twice = [element(1, false), element(2, false)];
        assert_eq!(to_networks(&twice, true, false), Err(Malformed));
        assert_eq!(to_networks(&twice, true, true), Err(Malformed));
        assert_eq!(to_interfaces(&twice, false), Err(Malformed));
        assert_eq!(to_interfaces(&[], true), Ok(vec![]));
    }
}
