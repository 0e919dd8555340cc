//! Where the connections of a service go.

use std::fmt;

use super::Port;

/// The port of this host that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target(Port);

impl Target {
    pub const fn new(port: Port) -> Self {
        Self(port)
    }

    pub const fn port(self) -> Port {
        self.0
    }

    /// The target of the service `distance` ports further on, in a range that is mapped one to one.
    pub const fn further(self, distance: u16) -> Option<Self> {
        match self.0.further(distance) {
            Some(port) => Some(Self(port)),
            None => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
