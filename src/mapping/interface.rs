//! Names of network interfaces.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// `IFNAMSIZ` of `linux/if.h`, less the closing zero.
pub const INTERFACE_NAME_MAX: usize = 15;

/// The name of an interface, or the beginning of one: 1 to [`INTERFACE_NAME_MAX`] bytes that the
/// kernel (`dev_valid_name`) and the programs that show it accept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(Arc<str>);

/// Why a text is not the name of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidInterface {
    #[error("is empty")]
    Empty,
    #[error("is longer than the {INTERFACE_NAME_MAX} bytes of an interface name")]
    TooLong,
    #[error("has a character that no interface name has")]
    Character,
    #[error("is not the name of an interface")]
    Reserved,
}

impl InterfaceName {
    pub fn new(name: &str) -> Result<Self, InvalidInterface> {
        let wrong = |c: char| c.is_whitespace() || c.is_control() || "/:\"\\*".contains(c);
        match name {
            "" => Err(InvalidInterface::Empty),
            "." | ".." => Err(InvalidInterface::Reserved),
            _ if name.len() > INTERFACE_NAME_MAX => Err(InvalidInterface::TooLong),
            _ if name.contains(wrong) => Err(InvalidInterface::Character),
            _ => Ok(Self(name.into())),
        }
    }
}

impl Deref for InterfaceName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a network interface, or the beginning of one followed by `*`.
///
/// A beginning as long as names can be is a whole name: [`Selector::new`](super::Selector::new)
/// makes it one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InterfacePattern {
    Name(InterfaceName),
    Prefix(InterfaceName),
}

impl InterfacePattern {
    pub fn name(name: &str) -> Result<Self, InvalidInterface> {
        InterfaceName::new(name).map(Self::Name)
    }

    /// Whether an interface of this name is meant.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Name(whole) => **whole == *name,
            Self::Prefix(beginning) => name.starts_with(&**beginning),
        }
    }

    pub fn prefix(prefix: &str) -> Result<Self, InvalidInterface> {
        match prefix {
            // The beginning of a name, though not a name.
            "." | ".." => Ok(Self::Prefix(InterfaceName(prefix.into()))),
            _ => InterfaceName::new(prefix).map(Self::Prefix),
        }
    }

    /// Whether every interface that `other` means is meant by `self`.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(a), Self::Name(b)) => a == b,
            (Self::Name(_), Self::Prefix(_)) => false,
            (Self::Prefix(a), Self::Name(b) | Self::Prefix(b)) => b.starts_with(&**a),
        }
    }
}

impl fmt::Display for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// Sorted, without duplicates or names that a prefix beside them covers.
pub(super) fn canonical_interfaces(mut interfaces: Vec<InterfacePattern>) -> Vec<InterfacePattern> {
    for interface in &mut interfaces {
        // No longer name could begin with it, and neither nft nor iptables takes a pattern of so
        // many bytes with its `*`.
        match interface {
            InterfacePattern::Prefix(prefix) if prefix.len() >= INTERFACE_NAME_MAX => {
                *interface = InterfacePattern::Name(prefix.clone());
            }
            _ => {}
        }
    }
    interfaces.sort();
    interfaces.dedup();
    let covered =
        |i: &InterfacePattern| interfaces.iter().any(|other| other != i && other.covers(i));
    interfaces.iter().filter(|i| !covered(i)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_the_kernel_accepts() {
        for name in ["lo", "eth0", "wg-ä", "odd+", "exactly15chars0"] {
            assert_eq!(InterfaceName::new(name).as_deref(), Ok(name));
        }
        for name in
            ["", ".", "..", "a/b", "a b", "a:b", "a\u{1b}", "a*", "a\"b", "longer15chars012"]
        {
            assert!(InterfaceName::new(name).is_err(), "{name:?}");
        }
    }
}
