//! The text of one scalar to a value, or what is wrong with it.

use crate::formats::closest;
use crate::formats::diagnostic::{excerpt, listed, quoted};
use crate::mapping::{
    Comment, Direct, Family, INTERFACE_NAME_MAX, InterfacePattern, InvalidComment, Port, PortRange,
    Protocol, Scope, Uid, User, UserName,
};

use super::mistakes;
use super::ports::{BadPorts, Protocols, ports};
use super::report::Complaint;
use super::source::{Names, Services};

/// The left side: `80`, `6000-6063`, `http-alt`, each also with `/udp` or `/tcp+udp` after it.
/// The protocols are those of the suffix, if there is one.
pub(super) fn service(
    text: &str,
    unless_said: Protocols,
    names: Names,
) -> Result<(PortRange, Option<Protocols>), Complaint> {
    let is_name = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic());
    let (left, said) = match text.split_once('/') {
        Some((first, _)) if first.parse::<Protocol>().is_ok() => (text, None),
        Some((ports, suffix)) => (ports, Some(protocols(suffix)?)),
        None => (text, None),
    };
    if is_name(left) && !left.contains(['/', ':', ',', ' ']) {
        let port = named(left, said.unwrap_or(unless_said), names.services)?;
        return Ok((PortRange::one(port), said));
    }
    ports(left).map(|ports| (ports, said)).map_err(|bad| not_ports(bad, left, mistakes::left))
}

/// The right side: `3000` or `16000-16063`.
pub(super) fn target(text: &str) -> Result<PortRange, Complaint> {
    ports(text).map_err(|bad| not_ports(bad, text, mistakes::right))
}

/// Both sides go one to one.
pub(super) fn check_widths(ports: PortRange, to: PortRange) -> Result<(), Complaint> {
    if ports.span() == to.span() {
        return Ok(());
    }
    let width = |ports: PortRange| match ports.span() {
        0 => "one port".to_owned(),
        more => format!("{} ports", u32::from(more) + 1),
    };
    let message = format!("{ports} is {}, but {to} is {}", width(ports), width(to));
    let help = match PortRange::spanning(to.first(), ports.span()) {
        Some(fitting) => format!("ranges are mapped one to one: write `{fitting}`"),
        None => "ranges are mapped one to one: both sides need the same number of ports".into(),
    };
    Err(Complaint::new(message).help(help))
}

fn not_ports(bad: BadPorts, text: &str, help: fn(&str) -> String) -> Complaint {
    let complaint = Complaint::new(format!("{} is not a port", quoted(text)));
    match bad {
        BadPorts::Text => complaint.help(help(text)),
        BadPorts::OutOfRange => Complaint::new(format!("{} is not a port", excerpt(text)))
            .help("ports are numbers from 1 to 65535"),
        BadPorts::LeadingZero(port) => {
            Complaint::new(format!("{} has a leading zero", quoted(text)))
                .help(format!("write `{port}` without it"))
        }
        BadPorts::Backwards(first, last) => {
            Complaint::new(format!("the range {first}-{last} is backwards"))
                .help(format!("write `{last}-{first}`"))
        }
    }
}

fn named(name: &str, protocols: Protocols, services: &Services) -> Result<Port, Complaint> {
    let found = |protocol| Some((protocol, services(name, protocol)?));
    let known: Vec<_> = Protocol::ALL.into_iter().filter_map(found).collect();
    let wanted = |&&(protocol, _): &&(Protocol, Port)| protocols.contains(protocol);
    let mut ports = known.iter().filter(wanted).map(|&(_, port)| port);
    let Some(port) = ports.next() else {
        return Err(unknown_name(name, &known));
    };
    if ports.any(|other| other != port) {
        let message = format!("{} is a different port for each protocol", quoted(name));
        return Err(Complaint::new(message).help("write one entry for each protocol"));
    }
    // A name that is listed for some of the protocols means the same port for the others.
    Ok(port)
}

fn unknown_name(name: &str, known: &[(Protocol, Port)]) -> Complaint {
    match known.first() {
        Some((protocol, port)) => Complaint::new(format!(
            "the services database has {} for {protocol} only",
            quoted(name)
        ))
        .help(format!("write `{}/{protocol}`, or the number, {port}", excerpt(name))),
        None => Complaint::new(format!("{} is not in the services database", quoted(name)))
            .help("write the number, or add the name to /etc/services"),
    }
}

/// `tcp` or `tcp+udp`.
pub(super) fn protocols(text: &str) -> Result<Protocols, Complaint> {
    let mut protocols = Protocols::default();
    for name in text.split('+') {
        protocols.insert(protocol(name)?);
    }
    Ok(protocols)
}

fn protocol(name: &str) -> Result<Protocol, Complaint> {
    if name.is_empty() {
        return Err(Complaint::new("the protocol is missing after the `/`")
            .help("write one, as in `53/udp`"));
    }
    name.parse().map_err(|()| {
        let complaint = unknown("a protocol", name, &Protocol::ALL.map(Protocol::name));
        let parts: Vec<&str> = name.split([',', '/', '&', '|', ' ']).map(str::trim).collect();
        let are_known =
            parts.len() > 1 && parts.iter().all(|part| part.parse::<Protocol>().is_ok());
        match are_known {
            true => complaint.help(format!("join protocols with `+`: `{}`", parts.join("+"))),
            false => complaint,
        }
    })
}

pub(super) fn scope(text: &str) -> Result<Scope, Complaint> {
    let found = Scope::ALL.into_iter().find(|scope| scope.name() == text);
    found.ok_or_else(|| unknown("a scope", text, &Scope::ALL.map(Scope::name)))
}

/// `ipv4` or `ipv6`; both are a list.
pub(super) fn family(text: &str) -> Result<Family, Complaint> {
    let families = [Family::Ipv4, Family::Ipv6];
    let found = families.into_iter().find(|family| family.name() == text);
    let help = match text.to_ascii_lowercase().as_str() {
        "inet" | "both" | "all" | "any" | "dual" => {
            "leave `families` out for both, or write `[ipv4, ipv6]`"
        }
        "ip" | "ip4" | "inet4" | "v4" | "4" | "ipv4" => "write `ipv4`",
        "ip6" | "inet6" | "v6" | "6" | "ipv6" => "write `ipv6`",
        _ => return found.ok_or_else(|| unknown("a family", text, &families.map(Family::name))),
    };
    found.ok_or_else(|| Complaint::new(format!("{} is not a family", quoted(text))).help(help))
}

/// `eth0` or `wg*`. The rules are those of the kernel's `dev_valid_name`, and no quote or
/// backslash, which nft's text cannot show.
pub(super) fn interface(text: &str) -> Result<InterfacePattern, Complaint> {
    let bad = |what: &str| Complaint::new(format!("{} {what}", quoted(text)));
    let (name, is_prefix) = match text.strip_suffix('*') {
        Some(prefix) => (prefix, true),
        None => (text, false),
    };
    match name {
        "" if is_prefix => {
            return Err(bad("would match every interface")
                .help("leave `interfaces` out, or write `scope: external`"));
        }
        "" => return Err(Complaint::new("the name of an interface is empty")),
        "." | ".." if !is_prefix => return Err(bad("is not a valid interface name")),
        _ => {}
    }
    if name.len() > INTERFACE_NAME_MAX {
        let message =
            format!("is longer than {INTERFACE_NAME_MAX} bytes, the limit for an interface name");
        return Err(bad(&message));
    }
    if name.contains('*') {
        return Err(bad("has a `*` that is not at its end")
            .help("a pattern is the start of a name and a `*`, as in `wg*`"));
    }
    let refused = |c: char| c.is_whitespace() || c.is_control() || "/:\"\\".contains(c);
    if let Some(c) = name.chars().find(|&c| refused(c)) {
        return Err(bad(&format!("contains {c:?}, which an interface name cannot"))
            .help("`ip link` lists the interfaces of this host"));
    }
    let pattern = match is_prefix {
        true => InterfacePattern::prefix(name),
        false => InterfacePattern::name(name),
    };
    pattern.map_err(|why| bad(&why.to_string()))
}

pub(super) fn comment(text: &str) -> Result<Comment, Complaint> {
    Comment::new(text).map_err(|why| {
        Complaint::new(why.to_string()).help(match why {
            InvalidComment::Empty => "leave it out",
            InvalidComment::TooLong(_) => "shorten it",
            InvalidComment::Quote => {
                "leave the double quotes out, or write `'` in their place inside the text"
            }
            InvalidComment::Control => "write it on one line",
        })
    })
}

/// A name, a number, or both as in `33(www-data)`: then the number counts, and the name is a
/// remark. `None` for `any`.
pub(super) fn user(text: &str, names: Names) -> Result<Option<User>, Complaint> {
    if text == ANY_USER {
        return Ok(None);
    }
    let bad = || {
        Complaint::new(format!("{} is not a user", quoted(text)))
            .help("write the name or the number of a user, or `any` for all of them")
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let with_name = text.strip_suffix(')').and_then(|text| text.split_once('('));
    let (number, name) = match with_name {
        Some((number, name)) if is_number(number) => (number, Some(name)),
        _ if is_number(text) => (text, None),
        _ => return named_user(UserName::new(text).ok_or_else(bad)?, names).map(Some),
    };
    let uid = number.parse().ok().and_then(Uid::new).ok_or_else(|| {
        Complaint::new(format!("{} is not a user", excerpt(number)))
            .help("users have numbers from 0 to 4294967294")
    })?;
    let name = name.map(|name| UserName::new(name).ok_or_else(bad)).transpose()?;
    Ok(Some(User { uid, name }))
}

/// What `user` says against the defaults.
pub(super) const ANY_USER: &str = "any";

fn named_user(name: UserName, names: Names) -> Result<User, Complaint> {
    let number = "write the number of the user, as in `user: 33`";
    match (names.users)(&name) {
        Ok(Some(uid)) => Ok(User { uid, name: Some(name) }),
        Ok(None) => Err(Complaint::new(format!("there is no user {}", quoted(&name)))
            .help("`getent passwd` lists the users; create the user first")),
        Err(why) => Err(Complaint::new(format!("look up the user {}: {why}", quoted(&name)))
            .help(format!("try again, or {number}"))),
    }
}

pub(super) fn direct(text: &str) -> Result<Direct, Complaint> {
    let found = Direct::ALL.into_iter().find(|direct| direct.name() == text);
    let help = match text.to_ascii_lowercase().as_str() {
        "deny" | "drop" | "reject" | "block" | "no" | "false" | "off" => "write `refuse`",
        "accept" | "open" | "yes" | "true" | "on" => "write `allow`",
        _ => {
            let known = Direct::ALL.map(Direct::name);
            return found.ok_or_else(|| unknown("allowed for `direct`", text, &known));
        }
    };
    Err(Complaint::new(format!("{} is not allowed for `direct`", quoted(text))).help(help))
}

/// `text` is not one of `known`: says which was probably meant, or what there is.
pub(super) fn unknown(what: &str, text: &str, known: &[&str]) -> Complaint {
    let complaint = Complaint::new(format!("{} is not {what}", quoted(text)));
    match closest(text, known) {
        Some(meant) => complaint.help(format!("did you mean `{meant}`?")),
        None => complaint.help(format!("write one of {}", listed(known))),
    }
}
