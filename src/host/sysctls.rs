//! Settings of this network namespace, proc(5).

use std::fs;
use std::path::Path;
use std::str::FromStr;

const NET: &str = "/proc/sys/net";

/// `net.ipv4.ip_unprivileged_port_start`
pub fn unprivileged_start() -> Option<u16> {
    number("ipv4/ip_unprivileged_port_start")
}

/// `net.ipv4.ip_local_port_range`
pub fn ephemeral() -> Option<(u16, u16)> {
    range(&read("ipv4/ip_local_port_range")?)
}

/// `net.ipv4.ip_local_reserved_ports`: from and to.
pub fn reserved() -> Vec<(u16, u16)> {
    ranges(&read("ipv4/ip_local_reserved_ports").unwrap_or_default())
}

/// How many connections are tracked, and how many can be; `None` where none are.
pub fn conntrack() -> Option<(u64, u64)> {
    number("netfilter/nf_conntrack_count").zip(number("netfilter/nf_conntrack_max"))
}

fn read(name: &str) -> Option<String> {
    fs::read_to_string(Path::new(NET).join(name)).ok()
}

fn number<T: FromStr>(name: &str) -> Option<T> {
    read(name)?.trim().parse().ok()
}

/// `32768 60999`, the first not above the second.
pub(super) fn range(text: &str) -> Option<(u16, u16)> {
    let mut words = text.split_whitespace().map(str::parse);
    let (low, high) = (words.next()?.ok()?, words.next()?.ok()?);
    (low <= high && words.next().is_none()).then_some((low, high))
}

/// `80,8000-8010`
pub(super) fn ranges(text: &str) -> Vec<(u16, u16)> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some((from.parse().ok()?, to.parse().ok()?))
    };
    text.trim().split(',').filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_are_numbers_and_ranges() {
        assert_eq!(ranges("80,8000-8010\n"), [(80, 80), (8000, 8010)]);
        assert_eq!(ranges("\n"), []);
    }

    #[test]
    fn a_range_is_two_numbers_in_order() {
        assert_eq!(range("32768\t60999\n"), Some((32768, 60999)));
        for text in ["", "1", "2 1", "1 2 3", "1 65536", "a b"] {
            assert_eq!(range(text), None, "{text}");
        }
    }

    #[test]
    fn every_host_has_an_ephemeral_range() {
        let (low, high) = ephemeral().expect("proc is mounted");
        assert!(low < high);
    }
}
