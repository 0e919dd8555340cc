//! The text of one scalar to a value, or what is wrong with it.

use ipnet::IpNet;

use crate::diagnostic::quoted;
use crate::mapping::{
    COMMENT_MAX, Family, INTERFACE_NAME_MAX, InterfacePattern, Port, Protocol, Scope,
};

use super::Lookup;
use super::report::Complaint;

/// A set of protocols, one bit for each by its place in [`Protocol::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Protocols(u8);

impl Protocols {
    pub(super) const TCP: Protocols = Protocols(1);

    pub(super) fn insert(&mut self, protocol: Protocol) {
        self.0 |= 1 << protocol as u8;
    }

    pub(super) fn contains(self, protocol: Protocol) -> bool {
        self.0 & (1 << protocol as u8) != 0
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Protocol> {
        Protocol::ALL.into_iter().filter(move |&protocol| self.contains(protocol))
    }

    pub(super) fn union(self, other: Protocols) -> Protocols {
        Protocols(self.0 | other.0)
    }
}

/// `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    pub first: Port,
    pub last: Port,
}

impl Ports {
    /// How many ports follow the first.
    pub(super) fn span(self) -> u16 {
        self.last.get() - self.first.get()
    }
}

impl std::fmt::Display for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.span() {
            0 => self.first.fmt(f),
            _ => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// The left side: `80`, `6000-6063`, `http-alt`, each also with `/udp` or `/tcp+udp` behind it.
/// The protocols are those of the suffix, if there is one.
pub(super) fn service(
    text: &str,
    unless_said: Protocols,
    services: &Lookup,
) -> Result<(Ports, Option<Protocols>), Complaint> {
    let (ports, said) = match text.split_once('/') {
        Some((ports, suffix)) => (ports, Some(protocols(suffix)?)),
        None => (text, None),
    };
    if ports.starts_with(|c: char| c.is_ascii_alphabetic()) {
        let port = named(ports, said.unwrap_or(unless_said), services)?;
        return Ok((Ports { first: port, last: port }, said));
    }
    Ok((self::ports(ports)?, said))
}

/// The right side: `3000` or `16000-16063`.
pub(super) fn target(text: &str) -> Result<Ports, Complaint> {
    if let Some((port, _)) = text.split_once('/') {
        return Err(Complaint::new(format!("{} is not a port", quoted(text)))
            .help(format!("the protocol stands on the left; write `{}`", shown(port))));
    }
    if text.starts_with(|c: char| c.is_ascii_alphabetic()) && !text.contains([':', '.']) {
        return Err(Complaint::new(format!("{} is not a port", quoted(text)))
            .help("names work on the left side only; write the number"));
    }
    ports(text)
}

/// `80` or `6000-6063`.
fn ports(text: &str) -> Result<Ports, Complaint> {
    let Some((first, last)) = text.split_once('-').filter(|(first, _)| !first.is_empty()) else {
        let port = port(text)?;
        return Ok(Ports { first: port, last: port });
    };
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(Complaint::new(format!("the range {first}-{last} runs backwards"))
            .help(format!("write `{last}-{first}`")));
    }
    Ok(Ports { first, last })
}

fn port(text: &str) -> Result<Port, Complaint> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number {
        let complaint = Complaint::new(format!("{} is not a port", quoted(text)));
        return Err(complaint.help(not_a_number(text)));
    }
    match text.parse().ok().and_then(Port::new) {
        Some(port) if text.starts_with('0') => {
            Err(Complaint::new(format!("the port {} begins with a zero", quoted(text)))
                .help(format!("write `{port}`")))
        }
        Some(port) => Ok(port),
        None => Err(Complaint::new(format!("{} is not a port", shown(text)))
            .help("ports are numbers from 1 to 65535")),
    }
}

fn not_a_number(text: &str) -> String {
    let sides: Vec<&str> = text.split(':').collect();
    let numeric = |s: &&str| !s.is_empty() && s.len() < 6 && s.bytes().all(|b| b.is_ascii_digit());
    match sides[..] {
        [left, right] if numeric(&left) && numeric(&right) => {
            format!("write `{left}: {right}`, with a space behind the colon")
        }
        [_, .., right] if numeric(&right) => {
            format!("connections stay on this host; write only the port, `{right}`")
        }
        _ if text.trim() != text || text.contains(' ') => {
            "write it without spaces, as in `80` or `6000-6063`".into()
        }
        _ => "a port is a number from 1 to 65535, a range is `6000-6063`".into(),
    }
}

/// Text of the file for the middle of a sentence.
fn shown(text: &str) -> String {
    quoted(text).trim_matches('`').to_owned()
}

fn named(name: &str, protocols: Protocols, services: &Lookup) -> Result<Port, Complaint> {
    let found = |protocol| Some((protocol, services(name, protocol)?));
    let known: Vec<_> = Protocol::ALL.into_iter().filter_map(found).collect();
    let wanted = |&&(protocol, _): &&(Protocol, Port)| protocols.contains(protocol);
    let mut ports = known.iter().filter(wanted).map(|&(_, port)| port);
    let Some(port) = ports.next() else {
        return Err(unknown_name(name, &known));
    };
    if ports.any(|other| other != port) {
        let message = format!("{} is another port for each protocol", quoted(name));
        return Err(Complaint::new(message).help("write one entry for each protocol"));
    }
    // A name that is listed for some of the protocols means the same port for the others.
    Ok(port)
}

fn unknown_name(name: &str, known: &[(Protocol, Port)]) -> Complaint {
    match known.first() {
        Some((protocol, port)) => {
            Complaint::new(format!("{} is not known for this protocol", quoted(name)))
                .help(format!("write `{}/{protocol}` or the number, {port}", shown(name)))
        }
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
        return Err(Complaint::new("the name of a protocol is missing").help("as in `53/udp`"));
    }
    name.parse().map_err(|()| unknown("a protocol", name, &Protocol::ALL.map(Protocol::name)))
}

pub(super) fn scope(text: &str) -> Result<Scope, Complaint> {
    let found = Scope::ALL.into_iter().find(|scope| scope.name() == text);
    found.ok_or_else(|| unknown("a scope", text, &Scope::ALL.map(Scope::name)))
}

/// `ipv4` or `ipv6`; both are a list.
pub(super) fn family(text: &str) -> Result<Family, Complaint> {
    let families = [Family::Ipv4, Family::Ipv6];
    let found = families.into_iter().find(|family| family.name() == text);
    found.ok_or_else(|| unknown("a family", text, &families.map(Family::name)))
}

/// `192.0.2.10`, `2001:db8::1` or `203.0.113.0/24`.
pub(super) fn network(text: &str) -> Result<IpNet, Complaint> {
    let complaint = || {
        Complaint::new(format!("{} is neither an address nor a network", quoted(text)))
            .help("write an address, `192.0.2.10`, or a network, `203.0.113.0/24`")
    };
    if !text.contains('/') {
        return text.parse().map(|address| single(text, address)).map_err(|_| complaint())?;
    }
    let net: IpNet = text.parse().map_err(|_| complaint())?;
    if net.trunc() != net {
        let bits = net.prefix_len();
        return Err(Complaint::new(format!("{text} has bits set behind the first {bits}")).help(
            format!(
                "write `{}` for the network, `{}` for the one address",
                net.trunc(),
                net.addr()
            ),
        ));
    }
    Ok(net)
}

/// IPv4 addresses arrive as such, never in their IPv6 disguise (`::ffff:192.0.2.1`).
fn single(text: &str, address: std::net::IpAddr) -> Result<IpNet, Complaint> {
    let canonical = address.to_canonical();
    if canonical != address {
        return Err(Complaint::new(format!("{} is an IPv4 address in IPv6 form", quoted(text)))
            .help(format!("write `{canonical}`")));
    }
    Ok(IpNet::from(address))
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
                .help("leave `interfaces` out, or set `scope: external`"));
        }
        "" => return Err(Complaint::new("the name of an interface is empty")),
        "." | ".." if !is_prefix => return Err(bad("is no name for an interface")),
        _ => {}
    }
    if name.len() > INTERFACE_NAME_MAX {
        let message = format!("is longer than the {INTERFACE_NAME_MAX} bytes of an interface name");
        return Err(bad(&message));
    }
    if name.contains('*') {
        return Err(bad("has a `*` that is not at its end")
            .help("a pattern is the beginning of a name and a `*`: `wg*`"));
    }
    let refused = |c: char| c.is_whitespace() || c.is_control() || "/:\"\\".contains(c);
    if let Some(c) = name.chars().find(|&c| refused(c)) {
        return Err(bad(&format!("has a {c:?}, which no interface name can have"))
            .help("see the names with `ip link`"));
    }
    Ok(match is_prefix {
        true => InterfacePattern::Prefix(name.into()),
        false => InterfacePattern::Name(name.into()),
    })
}

/// What nft can show and the kernel can keep, see [`crate::mapping::Mapping::comment`].
pub(super) fn comment(text: &str) -> Result<&str, Complaint> {
    if text.len() > COMMENT_MAX {
        let message = format!("the comment has {} bytes, more than {COMMENT_MAX}", text.len());
        return Err(Complaint::new(message).help("shorten it"));
    }
    if text.contains('"') {
        return Err(Complaint::new("the comment has a double quote, which nft cannot show")
            .help("use a single quote"));
    }
    if text.chars().any(char::is_control) {
        return Err(Complaint::new("the comment has a line break or another control character")
            .help("write it on one line"));
    }
    if text.is_empty() {
        return Err(Complaint::new("the comment is empty").help("leave it out"));
    }
    Ok(text)
}

/// `text` is not one of `known`: says which are, and which was meant.
pub(super) fn unknown(what: &str, text: &str, known: &[&str]) -> Complaint {
    let complaint = Complaint::new(format!("{} is not {what}", quoted(text)));
    match closest(text, known) {
        Some(meant) => complaint.help(format!("did you mean `{meant}`?")),
        None => complaint.help(format!("there are {}", listed(known))),
    }
}

/// The one of `known` that `text` was probably meant to be.
pub(super) fn closest<'k>(text: &str, known: &[&'k str]) -> Option<&'k str> {
    const LONGEST: usize = 24;
    if text.len() > LONGEST {
        return None;
    }
    let text = text.to_lowercase();
    let distance = |known: &&str| strsim::osa_distance(&text, known);
    let near = |known: &&&str| distance(known) <= known.len().min(6) / 3;
    known.iter().filter(near).min_by_key(|known| distance(known)).copied()
}

pub(super) fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => format!("`{one}`"),
        [most @ .., last] => {
            let most: Vec<_> = most.iter().map(|word| format!("`{word}`")).collect();
            format!("{} and `{last}`", most.join(", "))
        }
    }
}
