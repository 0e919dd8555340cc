//! Entries in the words of other programs, and what they are called here.

use std::net::IpAddr;

use crate::formats::diagnostic::{excerpt, listed as in_quotes};
use crate::mapping::Protocol;

use super::ports;

/// Where an entry is written, and so how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `80: 3000`
    Line,
    /// `{ port: 80, to: 3000 }`
    Item,
    /// `80:3000`
    Argument,
}

/// An entry as it was probably meant.
struct Meant<'t> {
    /// One address of this host; `None` for all.
    address: Option<IpAddr>,
    /// `80`, `6000-6063`, `http`.
    port: String,
    protocols: Option<&'t str>,
    to: String,
}

/// `80:3000`, `80 -> 3000`, `0.0.0.0:80:3000`, `80:3000/udp`, `udp/80:3000`, …: the entry in the
/// form that belongs here. `None` if `text` is not recognised as one.
pub(super) fn entry(text: &str, form: Form) -> Option<String> {
    let Meant { address, port, protocols, to } = meant(text)?;
    let service = match protocols {
        Some(protocols) => format!("{port}/{protocols}"),
        None => port,
    };
    let address = address.map(in_yaml);
    Some(match (form, address) {
        (Form::Line, None) => format!("{service}: {to}"),
        (Form::Line, Some(a)) => format!("{service}: {{ to: {to}, addresses: [{a}] }}"),
        (Form::Item, None) => format!("{{ port: {service}, to: {to} }}"),
        (Form::Item, Some(a)) => format!("{{ port: {service}, to: {to}, addresses: [{a}] }}"),
        (Form::Argument, None) => format!("{service}:{to}"),
        (Form::Argument, Some(_)) => return None,
    })
}

fn meant(text: &str) -> Option<Meant<'_>> {
    if let Some((port, to)) = ranges_in_one(text) {
        return Some(Meant { address: None, port, protocols: None, to });
    }
    const ARROWS: [&str; 4] = ["->", "=>", "→", "="];
    let arrow = ARROWS.iter().find_map(|arrow| text.split_once(arrow));
    let (left, right) = arrow.or_else(|| text.rsplit_once(':'))?;
    let (to, behind) = split_protocols(right.trim());
    let to = any_ports(to.trim_start_matches(':'))?;
    let (left, on_left) = split_protocols(left.trim());
    let (left, before) = split_leading_protocol(left);
    let (address, port) = match any_ports(left) {
        Some(port) => (None, port),
        None => match left.rsplit_once(':') {
            Some((address, port)) => (own_address(address)?, any_ports(port)?),
            None if is_name(left) => (None, left.to_owned()),
            None => return None,
        },
    };
    Some(Meant { address, port, protocols: on_left.or(before).or(behind), to })
}

fn in_yaml(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        // A colon at the end of a plain scalar would make it a key.
        IpAddr::V6(address) => format!("\"{address}\""),
    }
}

/// `80/udp` as `80` and `udp`.
fn split_protocols(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once('/') {
        Some((ports, protocols)) if ports::known_protocols(protocols).is_some() => {
            (ports, Some(protocols))
        }
        _ => (text, None),
    }
}

/// `udp/80`, `udp:80` or `udp 80` as `80` and `udp`.
fn split_leading_protocol(text: &str) -> (&str, Option<&str>) {
    match text.split_once(['/', ':', ' ']) {
        Some((protocol, ports)) if protocol.parse::<Protocol>().is_ok() => (ports, Some(protocol)),
        _ => (text, None),
    }
}

/// A port or a range, however the range is written.
fn any_ports(text: &str) -> Option<String> {
    let text = text.trim();
    match range(text) {
        Some(range) => Some(range),
        None => ports::ports(text).ok().map(|ports| ports.to_string()),
    }
}

/// `8000:8010` or `8000..8010` as `8000-8010`.
fn range(text: &str) -> Option<String> {
    let separators = ["..=", "...", "..", "–", "—", " - ", ":"];
    let (first, last) = separators.iter().find_map(|separator| text.split_once(separator))?;
    let range = format!("{}-{}", first.trim(), last.trim());
    ports::ports(&range).is_ok().then_some(range)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
}

/// An address before a port on the left; the inner `None` is all of them.
fn own_address(text: &str) -> Option<Option<IpAddr>> {
    let text = text.trim().trim_start_matches('[').trim_end_matches(']');
    if matches!(text, "" | "*") {
        return Some(None);
    }
    let address: IpAddr = text.parse().ok()?;
    Some((!address.is_unspecified()).then_some(address))
}

/// Both sides as ranges with colons: `8000:8010: 9000:9010`.
pub(super) fn ranges(left: &str, right: &str) -> Option<String> {
    // Nearly all entries end here.
    if !left.contains(':') {
        return None;
    }
    let (left, protocols) = split_protocols(left);
    let protocols = protocols.map_or_else(String::new, |protocols| format!("/{protocols}"));
    Some(format!("{}{protocols}: {}", range(left)?, range(right)?))
}

/// `8000:8010:9000:9010`.
fn ranges_in_one(text: &str) -> Option<(String, String)> {
    let pieces: Vec<&str> = text.split(':').collect();
    let [first, last, to_first, to_last] = pieces[..] else { return None };
    Some((range(&format!("{first}:{last}"))?, range(&format!("{to_first}:{to_last}"))?))
}

/// What to do about a left side that is not a port.
pub(super) fn left(text: &str) -> String {
    if let Some(list) = listed(text) {
        return format!("write one entry for each port: {list}");
    }
    let (ports, protocol) = split_leading_protocol(text);
    if let (Some(protocol), Ok(ports)) = (protocol, ports::ports(ports.trim())) {
        return format!("put the protocol after the port: `{ports}/{protocol}`");
    }
    let on_address = |(address, port)| Some((own_address(address)?, ports::ports(port).ok()?));
    match text.rsplit_once(':').and_then(on_address) {
        None => number(text),
        Some((None, port)) => format!(
            "write `{port}`, which covers all addresses of this host; the key `addresses` \
             selects some of them"
        ),
        Some((Some(address), port)) => {
            let address = in_yaml(address);
            format!(
                "select the address in the entry: `{port}: {{ to: …, addresses: [{address}] }}`"
            )
        }
    }
}

/// What to do about a right side that is not a port.
pub(super) fn right(text: &str) -> String {
    right_of(None, text)
}

/// The same; of an argument, whose left side `service` is, what is to be typed in its place.
pub(super) fn right_of(service: Option<&str>, text: &str) -> String {
    let is_name = text.starts_with(|c: char| c.is_ascii_alphabetic()) && !text.contains([':', '.']);
    if let Some((_, rest)) = text.split_once("://") {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        return match authority.rsplit_once(':') {
            Some((host, port)) => of_host(host, Some(port), service),
            None => of_host(authority, None, service),
        };
    }
    if text.starts_with(['/', '.', '~', '@']) || text.starts_with("unix:") {
        return "portmap maps a port to a port: let the application listen on one, or put a \
                reverse proxy in front of its socket"
            .into();
    }
    if let (port, Some(_)) = split_protocols(text) {
        return format!(
            "put the protocol on the left, as in `53/udp: 5353`, and write `{}` here",
            excerpt(port)
        );
    }
    match text.rsplit_once(':') {
        Some(("", port)) if ports::ports(port).is_ok() => format!("write `{port}`"),
        Some((host, port)) if ports::ports(port).is_ok() && range(text).is_none() => {
            of_host(host, Some(port), service)
        }
        _ if listed(text).is_some() => "an entry has one target".into(),
        _ if text == "localhost" || text.parse::<IpAddr>().is_ok() => of_host(text, None, service),
        _ if is_name => "names are only known on the left: write the number".into(),
        _ => number(text),
    }
}

/// What to do about an address, perhaps with a port, on the right.
fn of_host(host: &str, port: Option<&str>, service: Option<&str>) -> String {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = host.parse::<IpAddr>();
    let is_own = address.is_ok_and(|a| a.is_loopback() || a.is_unspecified());
    let only = match (port.filter(|port| ports::ports(port).is_ok()), service.map(excerpt)) {
        (Some(port), Some(service)) => format!("write `{service}:{port}`"),
        (Some(port), None) => format!("write only the port, `{port}`"),
        (None, Some(service)) => format!("write only a port, as in `{service}:3000`"),
        (None, None) => "write only a port, as in `80: 3000`".into(),
    };
    if is_own || matches!(host, "localhost" | "*" | "") {
        return format!("{only}: the target is always on this host");
    }
    let host = excerpt(host);
    format!(
        "portmap maps to ports of this host only: if {host} is this host, {only}; otherwise use a \
         reverse proxy, or a DNAT rule in your firewall"
    )
}

/// What to do about text where a number belongs.
fn number(text: &str) -> String {
    if let Some(range) = range(text) {
        return format!("write a range with a hyphen: `{range}`");
    }
    if text.contains(['$', '%']) || text.contains("{{") {
        return "variables are not replaced in the file: write the number".into();
    }
    if ports::ports(&text.replace(' ', "")).is_ok() {
        return "write it without spaces, as in `80` or `6000-6063`".into();
    }
    "a port is a number from 1 to 65535, a range is `6000-6063`".into()
}

/// `80, 443` as "`80` and `443`".
fn listed(text: &str) -> Option<String> {
    list(text, |piece| ports::ports(split_protocols(piece).0).is_ok()).map(|list| in_quotes(&list))
}

/// The pieces of a list, if all of them are of a kind.
fn list(text: &str, is_kind: impl Fn(&str) -> bool) -> Option<Vec<&str>> {
    const MOST: usize = 8;
    let text = text.trim_start_matches(['[', '{', '(']).trim_end_matches([']', '}', ')']);
    let pieces: Vec<&str> =
        text.split([',', ';', ' ']).map(str::trim).filter(|piece| !piece.is_empty()).collect();
    let is_list = (2..=MOST).contains(&pieces.len()) && pieces.iter().all(|piece| is_kind(piece));
    is_list.then_some(pieces)
}

/// What to type in place of an argument that is a list: `80:3000,443:8443`, or `80,443:3000`.
pub(super) fn several(text: &str, is_mapping: impl Fn(&str) -> bool) -> Option<String> {
    if let Some(mappings) = list(text, &is_mapping) {
        return Some(mappings.join(" "));
    }
    let (left, to) = text.rsplit_once(':')?;
    let of = |port: &str| format!("{port}:{}", to.trim());
    let ports = list(left, |port| is_mapping(&of(port)))?;
    Some(ports.into_iter().map(of).collect::<Vec<_>>().join(" "))
}

/// The key that is probably meant by a word of another program, with what else is to be said.
pub(super) fn key(text: &str) -> Option<&'static str> {
    Some(match text.to_ascii_lowercase().as_str() {
        "published" | "from" | "listen" | "source_port" | "host_port" | "dport" => "port",
        "target" | "too" | "dest" | "destination" | "container_port" | "to_port" | "redirect" => {
            "to"
        }
        "family" | "ip_version" | "version" => "families",
        "proto" | "protocols" | "transport" => "protocol",
        "iface" | "ifname" | "dev" | "device" | "iif" => "interfaces",
        "clients" | "source" | "saddr" | "src" | "allow" => "sources",
        "address" | "bind" | "host_ip" | "hostip" | "daddr" | "ip" => "addresses",
        "description" | "name" | "note" | "desc" => "comment",
        "owner" | "uid" | "skuid" | "account" => "user",
        "target_access" | "direct_access" => "direct",
        "mappings" | "rules" | "redirects" | "forwards" => "ports",
        _ => return None,
    })
}
