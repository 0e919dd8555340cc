//! What a probe found on one path: what the client got, and what the rules say about it.

use std::net::{IpAddr, SocketAddr};

use super::tale::{Outcome, Story};
use crate::mapping::{Family, Mapping, Scope, Service};

/// From where it was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Here,
    Outside,
}

impl Side {
    pub const fn name(self) -> &'static str {
        match self {
            Side::Here => "here",
            Side::Outside => "outside",
        }
    }
}

/// A way to a service: from where, and by which of this host's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    pub service: Service,
    pub side: Side,
    pub address: IpAddr,
}

impl Path {
    pub fn to(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.service.port.get())
    }

    /// Whether one of these mappings, all of the service, is meant for it: `Some(false)` where none
    /// is, `None` where that depends on an interface or a source that a probe does not have.
    pub fn is_meant(&self, mappings: &[Mapping]) -> Option<bool> {
        let side = match self.side {
            Side::Here => Scope::Local,
            Side::Outside => Scope::External,
        };
        let mut is_meant = Some(false);
        for mapping in mappings {
            let selector = &mapping.selector;
            let family = Family::of(&self.address.into());
            if !selector.scope().covers(side) || !selector.family().covers(family) {
                continue;
            }
            match selector.matches() {
                None => return Some(true),
                Some(matches) => {
                    let is_address = matches.addresses.is_empty()
                        || matches.addresses.iter().any(|net| net.contains(&self.address));
                    let is_open = matches.interfaces.is_empty() && matches.sources.is_empty();
                    match (is_address, is_open) {
                        (true, true) => return Some(true),
                        (true, false) => is_meant = None,
                        (false, _) => {}
                    }
                }
            }
        }
        is_meant
    }
}

/// What the client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// A TCP connection that a program took and kept, or a datagram.
    Answered,
    /// A TCP connection that the kernel accepted, and no program took.
    NotTaken,
    /// A TCP connection that the program closed or reset at once.
    Closed,
    Reset,
    Refused,
    Silence,
    Unreachable,
    /// It could not be tried.
    Failed(String),
}

impl Got {
    pub const fn name(&self) -> &'static str {
        match self {
            Got::Answered => "answered",
            Got::NotTaken => "not-taken",
            Got::Closed => "closed",
            Got::Reset => "reset",
            Got::Refused => "refused",
            Got::Silence => "silence",
            Got::Unreachable => "unreachable",
            Got::Failed(_) => "failed",
        }
    }
}

/// One path, tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    pub path: Path,
    pub got: Got,
    /// `None` if the kernel said nothing about it.
    pub story: Option<Story>,
}

impl Probed {
    /// Whether a client on this path is served; `None` if that was not shown: a UDP program need
    /// not answer what a probe sends.
    pub fn is_served(&self) -> Option<bool> {
        let udp_silence = self.path.service.protocol.is_connectionless()
            && !matches!(
                self.story.as_ref().map(|story| &story.outcome),
                Some(Outcome::Dropped(_) | Outcome::Rejected(_) | Outcome::AnswerDropped(_))
            );
        match self.got {
            // Closing at once is an answer: the program speaks first, or does not like silence.
            Got::Answered | Got::Closed => Some(true),
            Got::Silence if udp_silence => None,
            Got::Failed(_) => None,
            _ => Some(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::{Matches, Port, Protocol, Selector, Target};

    fn path(side: Side, address: &str) -> Path {
        let service = Service { protocol: Protocol::Tcp, port: Port::new(80).unwrap() };
        Path { service, side, address: address.parse().unwrap() }
    }

    fn mapping(selector: Selector) -> Mapping {
        let service = path(Side::Here, "::1").service;
        let to = Target::new(Port::new(3000).unwrap());
        Mapping { selector, ..Mapping::new(service, to) }
    }

    #[test]
    fn a_path_is_meant_by_what_the_mapping_says() {
        let here = path(Side::Here, "127.0.0.1");
        let outside = path(Side::Outside, "192.0.2.1");
        let anyone = mapping(Selector::ANYONE);
        assert_eq!(here.is_meant(&[anyone]), Some(true));
        let external = mapping(Selector::of(Scope::External, Family::Ipv4));
        assert_eq!(here.is_meant(std::slice::from_ref(&external)), Some(false));
        assert_eq!(outside.is_meant(std::slice::from_ref(&external)), Some(true));
        assert_eq!(path(Side::Outside, "2001:db8::1").is_meant(&[external]), Some(false));
        let net = |text: &str| text.parse().unwrap();
        let selected = |sources, addresses| {
            let matches = Matches { sources, addresses, ..Matches::default() };
            mapping(Selector::new(Scope::Both, Family::Both, matches).unwrap())
        };
        let from = selected(vec![net("203.0.113.0/24")], Vec::new());
        assert_eq!(outside.is_meant(&[from]), None);
        let to = selected(Vec::new(), vec![net("192.0.2.1/32")]);
        assert_eq!(outside.is_meant(std::slice::from_ref(&to)), Some(true));
        assert_eq!(here.is_meant(&[to]), Some(false));
        assert_eq!(here.is_meant(&[]), Some(false));
    }

    #[test]
    fn silence_of_a_datagram_shows_nothing() {
        let mut probed = Probed { path: path(Side::Here, "::1"), got: Got::Silence, story: None };
        assert_eq!(probed.is_served(), Some(false));
        probed.path.service.protocol = Protocol::Udp;
        assert_eq!(probed.is_served(), None);
        probed.got = Got::Refused;
        assert_eq!(probed.is_served(), Some(false));
    }
}
