//! Ports one after another.

use std::fmt;

use super::Port;

/// A port and how many follow it: `80`, `6000-6063`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: Port,
    span: u16,
}

impl PortRange {
    pub const fn one(port: Port) -> Self {
        Self { first: port, span: 0 }
    }

    /// Both ends are part of it. `None` if `last` comes before `first`.
    pub const fn new(first: Port, last: Port) -> Option<Self> {
        match last.get().checked_sub(first.get()) {
            Some(span) => Some(Self { first, span }),
            None => None,
        }
    }

    /// `first` and the `span` ports that follow; `None` if there are not so many.
    pub const fn spanning(first: Port, span: u16) -> Option<Self> {
        match first.further(span) {
            Some(_) => Some(Self { first, span }),
            None => None,
        }
    }

    pub const fn first(self) -> Port {
        self.first
    }

    pub fn last(self) -> Port {
        self.first.further(self.span).expect("a range ends at a port")
    }

    /// How many ports follow the first.
    pub const fn span(self) -> u16 {
        self.span
    }

    pub const fn contains(self, port: Port) -> bool {
        self.first.get() <= port.get() && port.get() - self.first.get() <= self.span
    }

    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last() && other.first <= self.last()
    }

    pub fn iter(self) -> impl Iterator<Item = Port> {
        (0..=self.span).filter_map(move |distance| self.first.further(distance))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.span {
            0 => self.first.fmt(f),
            _ => write!(f, "{}-{}", self.first, self.last()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(number: u16) -> Port {
        Port::new(number).expect("not 0")
    }

    #[test]
    fn a_range_ends_within_the_ports() {
        assert_eq!(PortRange::spanning(port(65535), 1), None);
        assert_eq!(PortRange::new(port(2), port(1)), None);
        let all = PortRange::new(port(1), port(65535)).expect("a range");
        assert_eq!((all.iter().count(), all.last().get()), (65535, 65535));
    }

    #[test]
    fn ends_belong_to_a_range() {
        let range = PortRange::new(port(5), port(7)).expect("a range");
        assert_eq!(range.to_string(), "5-7");
        assert_eq!(PortRange::one(port(5)).to_string(), "5");
        let inside: Vec<_> = (1..=9).filter(|n| range.contains(port(*n))).collect();
        assert_eq!(inside, [5, 6, 7]);
        let touching = PortRange::new(port(7), port(9)).expect("a range");
        assert!(range.overlaps(touching) && touching.overlaps(range));
        assert!(!range.overlaps(PortRange::one(port(8))));
    }
}
