//! Ports and protocols as text, without a word about what is wrong.

use crate::mapping::{Port, PortRange, Protocol};

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

/// Why a text is not a port or a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadPorts {
    /// Not made of numbers.
    Text,
    /// The number is 0 or more than 65535.
    OutOfRange,
    /// The number is right, with zeros before it.
    LeadingZero(Port),
    /// Higher than the end.
    Backwards(Port, Port),
}

/// `80` or `6000-6063`.
pub(super) fn ports(text: &str) -> Result<PortRange, BadPorts> {
    let Some((first, last)) = text.split_once('-') else {
        return port(text).map(PortRange::one);
    };
    let (first, last) = (port(first)?, port(last)?);
    PortRange::new(first, last).ok_or(BadPorts::Backwards(first, last))
}

fn port(text: &str) -> Result<Port, BadPorts> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BadPorts::Text);
    }
    let port = text.parse().ok().and_then(Port::new).ok_or(BadPorts::OutOfRange)?;
    if text.starts_with('0') { Err(BadPorts::LeadingZero(port)) } else { Ok(port) }
}

/// `tcp` or `tcp+udp`; `None` if any of them is unknown.
pub(super) fn known_protocols(text: &str) -> Option<Protocols> {
    let mut protocols = Protocols::default();
    for name in text.split('+') {
        protocols.insert(name.parse().ok()?);
    }
    Some(protocols)
}
