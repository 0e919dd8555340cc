//! Names of ports, from the services database: opened when first asked.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use crate::mapping::{Port, Protocol};

/// The services database, services(5), read when first asked. Only the file: names that NSS would
/// find elsewhere are not known.
pub struct Services {
    path: PathBuf,
    names: OnceCell<HashMap<(String, Protocol), Port>>,
}

impl Services {
    pub const PATH: &str = "/etc/services";

    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), names: OnceCell::new() }
    }

    /// `None` also if there is no such file.
    pub fn lookup(&self, name: &str, protocol: Protocol) -> Option<Port> {
        let read = || services(&fs::read_to_string(&self.path).unwrap_or_default());
        self.names.get_or_init(read).get(&(name.to_owned(), protocol)).copied()
    }
}

impl Default for Services {
    fn default() -> Self {
        Self::new(Self::PATH)
    }
}

/// Lines of `name port/protocol alias…  # comment`; the first of a name counts.
pub(super) fn services(text: &str) -> HashMap<(String, Protocol), Port> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or("").split_whitespace();
        let (Some(name), Some(port)) = (words.next(), words.next()) else { continue };
        let Some((port, protocol)) = port.split_once('/') else { continue };
        let port = port.parse().ok().and_then(Port::new);
        let (Some(port), Ok(protocol)) = (port, protocol.parse()) else { continue };
        for name in std::iter::once(name).chain(words) {
            names.entry((name.to_owned(), protocol)).or_insert(port);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_database_knows_aliases_and_protocols() {
        let names = services("# comment\nhttp 80/tcp www # web\ntftp\t69/udp\nodd 0/tcp x/y\n");
        let port = |name: &str, protocol| names.get(&(name.to_owned(), protocol)).map(|p| p.get());
        assert_eq!(port("www", Protocol::Tcp), Some(80));
        assert_eq!(port("http", Protocol::Udp), None);
        assert_eq!(port("tftp", Protocol::Udp), Some(69));
        assert_eq!(port("odd", Protocol::Tcp), None);
    }
}
