//! What is read, and what its meaning depends on.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;

use crate::mapping::{Port, PortRange, Protocol, Uid};

/// The text of one file or argument, and the name that messages give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub(super) name: String,
    /// Without a byte order mark.
    pub(super) text: String,
    pub(super) form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    File,
    Argument,
}

impl Source {
    /// A file, by the name that the user gave it.
    pub fn file(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), form: Form::File }
    }

    /// A mapping on the command line, the `number`th argument.
    pub fn argument(number: usize, text: &str) -> Self {
        let name = format!("argument {number}");
        Self { name, text: text.to_owned(), form: Form::Argument }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The name of the file; `None` for a mapping on the command line.
    pub fn file_name(&self) -> Option<&str> {
        (self.form == Form::File).then_some(&self.name)
    }

    /// What to call it in a sentence: a file by its name, an argument by its text.
    pub fn title(&self) -> &str {
        match self.form {
            Form::File => &self.name,
            Form::Argument => &self.text,
        }
    }
}

/// What warnings depend on. The defaults are the kernel's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    /// `net.ipv4.ip_local_port_range`, for IPv6 as well (ip-sysctl.rst).
    pub ephemeral: RangeInclusive<u16>,
    /// `net.ipv4.ip_unprivileged_port_start`: ports below need `CAP_NET_BIND_SERVICE`.
    pub unprivileged_start: u16,
}

impl Default for Facts {
    fn default() -> Self {
        Self { ephemeral: 32768..=60999, unprivileged_start: 1024 }
    }
}

impl Facts {
    /// Where an application can be told to listen: so many ports in a row that need no privilege,
    /// and that the kernel does not give to outgoing connections. From 3000 up, then from below.
    pub fn targets(&self, span: u16) -> impl Iterator<Item = PortRange> + use<> {
        const USUAL: u16 = 3000;
        let (start, ephemeral) = (self.unprivileged_start.max(1), self.ephemeral.clone());
        let usual = USUAL.max(start);
        let ports = (usual..=u16::MAX).chain(start..usual).filter_map(Port::new);
        ports.filter_map(move |port| PortRange::spanning(port, span)).filter(move |range| {
            range.last().get() < *ephemeral.start() || range.first().get() > *ephemeral.end()
        })
    }
}

/// What names mean on this host.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    pub services: &'a Services<'a>,
    pub users: &'a Users<'a>,
}

/// Finds a name of the services database, services(5).
pub type Services<'a> = dyn Fn(&str, Protocol) -> Option<Port> + 'a;

/// Finds the number of a user, getpwnam(3); `None` if there is no such user.
pub type Users<'a> = dyn Fn(&str) -> io::Result<Option<Uid>> + 'a;

impl Names<'_> {
    /// A host that knows no names.
    pub const NONE: Names<'static> = Names { services: &|_, _| None, users: &|_| Ok(None) };
}

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_outside_of_both_ranges() {
        let facts = Facts { ephemeral: 3002..=60000, unprivileged_start: 2998 };
        let targets: Vec<_> = facts.targets(1).map(|range| range.to_string()).collect();
        assert_eq!(targets[..2], ["3000-3001", "60001-60002"]);
        assert_eq!(targets[targets.len() - 2..], ["2998-2999", "2999-3000"]);
        assert_eq!(targets.len(), 1 + 5534 + 2);
    }
}
