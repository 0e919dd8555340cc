//! Selectors that name what this host does not have.

use ipnet::IpNet;

use super::finding::{Code, Finding, Severity};
use crate::host::network::Interface;
use crate::mapping::{InterfacePattern, Mapping};

/// What a mapping asks for and this host has not. Equal for neighbouring mappings with the same
/// selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Absent {
    interfaces: Vec<InterfacePattern>,
    addresses: Vec<IpNet>,
}

impl Absent {
    pub fn of(mapping: &Mapping, interfaces: &[Interface]) -> Self {
        let Some(matches) = mapping.selector.matches() else { return Self::default() };
        let named =
            |pattern: &&InterfacePattern| !interfaces.iter().any(|i| pattern.matches(&i.name));
        let own = |net: &&IpNet| {
            let is_loopback = net.addr().is_loopback();
            !is_loopback && !interfaces.iter().flat_map(|i| &i.addresses).any(|a| net.contains(a))
        };
        Self {
            interfaces: matches.interfaces.iter().filter(named).cloned().collect(),
            addresses: matches.addresses.iter().filter(own).copied().collect(),
        }
    }

    /// `services` names the mapped ports.
    pub fn findings(&self, services: &str) -> Vec<Finding> {
        let interfaces = self.interfaces.iter().map(|pattern| {
            let what = match pattern {
                InterfacePattern::Name(_) => format!("this host has no interface {pattern}"),
                InterfacePattern::Prefix(_) => {
                    format!("no interface of this host matches {pattern}")
                }
            };
            Finding::new(Code::NoSuchInterface, Severity::Warning, what)
                .because(format!("{services} is not mapped there until there is one"))
                .command("see what interfaces there are", "ip -brief address")
                .evidence("interface", pattern.to_string())
        });
        let addresses = self.addresses.iter().map(|net| {
            let (net, what) = match net.prefix_len() == net.max_prefix_len() {
                true => (net.addr().to_string(), "this host does not have the address"),
                false => (net.to_string(), "this host has no address in"),
            };
            Finding::new(Code::NoSuchAddress, Severity::Warning, format!("{what} {net}"))
                .because(format!("{services} is not mapped there until it has"))
                .command("see what addresses there are", "ip -brief address")
                .evidence("address", net)
        });
        interfaces.chain(addresses).collect()
    }
}
