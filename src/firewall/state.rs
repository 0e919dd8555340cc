//! What is known at one moment of a packet's way, as far as rules can change it.

use std::rc::Rc;

use super::connection::{Connection, DESTINATION_PORT, Headers, Leg, SOURCE_PORT, address_fields};
use super::value::{Byte, any, either, exactly};

/// What connection tracking knows of the packet: which of these can be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracking {
    /// It has not seen the packet.
    pub absent: bool,
    pub tracked: bool,
    /// A rule exempted it.
    pub untracked: bool,
    /// Not seen, but a rule has given it a zone, a helper or the like.
    pub template: bool,
}

impl Tracking {
    pub const ABSENT: Tracking =
        Tracking { absent: true, tracked: false, untracked: false, template: false };

    fn or(self, other: Self) -> Self {
        Tracking {
            absent: self.absent || other.absent,
            tracked: self.tracked || other.tracked,
            untracked: self.untracked || other.untracked,
            template: self.template || other.template,
        }
    }

    /// Behind connection tracking's own hook.
    fn seen(self) -> Self {
        Tracking {
            absent: false,
            tracked: self.tracked || self.absent || self.template,
            untracked: self.untracked,
            template: false,
        }
    }

    /// Behind `notrack`, which passes over what is tracked already.
    pub fn exempted(self) -> Self {
        Tracking { absent: false, untracked: self.untracked || self.absent, ..self }
    }
}

/// Whether something has been done: which of the two can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    pub no: bool,
    pub yes: bool,
}

impl Done {
    pub const NO: Done = Done { no: true, yes: false };
    pub const YES: Done = Done { no: false, yes: true };

    fn or(self, other: Self) -> Self {
        Done { no: self.no || other.no, yes: self.yes || other.yes }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub headers: Rc<Headers>,
    /// The packet's, in the machine's own order.
    pub mark: [Byte; 4],
    /// The connection's.
    pub connection_mark: [Byte; 4],
    pub tracking: Tracking,
    /// Whether portmap's rules have sent the connection to its target.
    pub translated: Done,
    /// Whether the connection's source is translated by anybody.
    pub source_translated: Done,
}

impl State {
    /// The first packet of a connection, before the first hook.
    pub fn first(connection: &Connection) -> Self {
        Self {
            headers: Rc::new(Headers::new(connection, Leg::Open)),
            mark: [Byte::ANY; 4],
            connection_mark: [Byte::ZERO; 4],
            tracking: Tracking::ABSENT,
            translated: Done::NO,
            source_translated: Done::NO,
        }
    }

    /// A later packet of a connection whose last one ended in this state.
    pub fn next(&self, connection: &Connection, leg: Leg) -> Self {
        let mut headers = Headers::new(connection, leg);
        if self.source_translated.yes {
            // To whom the server answers is not known.
            let (source, destination, len) = address_fields(connection.is_ipv6());
            let client = if leg.is_answer() { destination } else { source };
            headers.network[client..client + len].copy_from_slice(&any(len));
        }
        Self {
            headers: Rc::new(headers),
            mark: [Byte::ANY; 4],
            tracking: Tracking::ABSENT,
            ..self.clone()
        }
    }

    /// What is known if the packet can be in either state.
    pub fn join(&mut self, other: &State) {
        if self.headers != other.headers {
            let headers = Rc::make_mut(&mut self.headers);
            headers.network = either(&headers.network, &other.headers.network);
            headers.transport = either(&headers.transport, &other.headers.transport);
        }
        for (byte, other) in self.mark.iter_mut().zip(other.mark) {
            *byte = byte.or(other);
        }
        for (byte, other) in self.connection_mark.iter_mut().zip(other.connection_mark) {
            *byte = byte.or(other);
        }
        self.tracking = self.tracking.or(other.tracking);
        self.translated = self.translated.or(other.translated);
        self.source_translated = self.source_translated.or(other.source_translated);
    }

    /// Behind connection tracking's own hook.
    pub fn track(&mut self) {
        self.tracking = self.tracking.seen();
    }

    /// Writes the port that the packet goes to.
    pub fn set_destination_port(&mut self, port: u16) {
        self.set_port(DESTINATION_PORT, port);
    }

    pub fn set_source_port(&mut self, port: u16) {
        self.set_port(SOURCE_PORT, port);
    }

    fn set_port(&mut self, at: usize, port: u16) {
        let bytes = exactly(&port.to_be_bytes());
        Rc::make_mut(&mut self.headers).transport[at..at + 2].copy_from_slice(&bytes);
    }

    /// The source may be anything now.
    pub fn forget_source(&mut self, ipv6: bool) {
        let (source, _, len) = address_fields(ipv6);
        let headers = Rc::make_mut(&mut self.headers);
        headers.network[source..source + len].copy_from_slice(&any(len));
        headers.transport[SOURCE_PORT..SOURCE_PORT + 2].copy_from_slice(&any(2));
    }
}

/// Either of them, if there is one.
pub fn join(one: Option<State>, other: Option<State>) -> Option<State> {
    match (one, other) {
        (Some(mut one), Some(other)) => {
            one.join(&other);
            Some(one)
        }
        (one, other) => one.or(other),
    }
}
