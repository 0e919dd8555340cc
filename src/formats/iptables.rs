//! The mapping as input for iptables-restore(8) and ip6tables-restore(8), for machines that are
//! not to have an nftables table of their own.
//!
//! The room is pure. iptables knows no maps, so there is a rule for each port and hook: the same
//! connections are translated, at a price that grows with the number of ports.

#![forbid(unsafe_code)]

use std::fmt::{self, Display, Formatter};

use ipnet::IpNet;

use crate::mapping::{Direct, Family, InterfacePattern, Mapping, MappingSet, Protocol, Scope};

/// The `nat` table's part for one family, to be fed to `iptables-restore --noflush` or
/// `ip6tables-restore --noflush`. `family` is not `Both`: each program has its own file.
pub struct Script<'a> {
    pub mapping: &'a MappingSet,
    pub family: Family,
}

/// The two hooks of the `nat` table in which a destination can be translated.
#[derive(Clone, Copy)]
enum Hook {
    /// Packets that arrive.
    Prerouting,
    /// Packets made on this machine.
    Output,
}

impl Hook {
    const ALL: [Hook; 2] = [Hook::Prerouting, Hook::Output];

    /// Which mappings a packet in this hook can belong to.
    const fn scope(self) -> Scope {
        match self {
            Hook::Prerouting => Scope::External,
            Hook::Output => Scope::Local,
        }
    }
}

const fn chain(hook: Hook) -> &'static str {
    match hook {
        Hook::Prerouting => "PORTMAP-EXTERNAL",
        Hook::Output => "PORTMAP-LOCAL",
    }
}

const fn base_chain(hook: Hook) -> &'static str {
    match hook {
        Hook::Prerouting => "PREROUTING",
        Hook::Output => "OUTPUT",
    }
}

impl Display for Script<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let program = if self.family == Family::Ipv6 { "ip6tables" } else { "iptables" };
        writeln!(f, "# Load once, with: {program}-restore --noflush")?;
        for mapping in self.mapping.iter().filter(|m| m.selector.family().covers(self.family)) {
            write_left_out(f, mapping)?;
        }
        writeln!(f, "*nat")?;
        for hook in Hook::ALL {
            writeln!(f, ":{} - [0:0]", chain(hook))?;
        }
        for hook in Hook::ALL {
            let (base, chain) = (base_chain(hook), chain(hook));
            writeln!(f, "-A {base} -m addrtype --dst-type LOCAL -j {chain}")?;
        }
        for hook in Hook::ALL {
            // A connection that is older than connection tracking looks new in mid-stream.
            writeln!(f, "-A {} -p tcp -m tcp ! --syn -j RETURN", chain(hook))?;
        }
        for hook in Hook::ALL {
            for mapping in self.mapping {
                self.write_mapping(f, hook, mapping)?;
            }
        }
        writeln!(f, "COMMIT")
    }
}

impl Script<'_> {
    fn write_mapping(&self, f: &mut Formatter<'_>, hook: Hook, m: &Mapping) -> fmt::Result {
        let selector = &m.selector;
        if !selector.scope().covers(hook.scope()) || !selector.family().covers(self.family) {
            return Ok(());
        }
        let Some(port) = port_match(m) else {
            return writeln!(
                f,
                "# {} -> {}: iptables translates no {}",
                m.service, m.to, m.service.protocol
            );
        };
        let matches = selector.matches();
        let interfaces = matches.map(|m| m.interfaces.as_slice()).unwrap_or_default();
        for interface in interfaces.iter().filter(|i| interface_match(i).is_none()) {
            let (service, to) = (m.service, m.to);
            writeln!(f, "# {service} -> {to}: iptables reads the + of {interface} as an asterisk")?;
        }
        let interfaces: Vec<_> = interfaces.iter().filter_map(interface_match).collect();
        if interfaces.is_empty() && matches.is_some_and(|m| !m.interfaces.is_empty()) {
            return Ok(());
        }
        let sources = matches.map(|m| m.sources.as_slice()).unwrap_or_default();
        let addresses = matches.map(|m| m.addresses.as_slice()).unwrap_or_default();
        for interface in alternatives(&interfaces, String::clone) {
            for source in alternatives(sources, |net| network_match("-s", net)) {
                for address in alternatives(addresses, |net| network_match("-d", net)) {
                    let chain = chain(hook);
                    write!(f, "-A {chain}{interface}{source}{address} {port}")?;
                    if let Some(comment) = &m.comment {
                        let comment = comment.replace('\\', r"\\");
                        write!(f, " -m comment --comment \"{comment}\"")?;
                    }
                    writeln!(f, " -j DNAT --to-destination :{}", m.to)?;
                }
            }
        }
        Ok(())
    }
}

/// The nat table decides about the first packet of a connection, and drops and refuses nothing.
fn write_left_out(f: &mut Formatter<'_>, m: &Mapping) -> fmt::Result {
    let (service, to) = (m.service, m.to);
    if let Some(user) = &m.user {
        writeln!(f, "# {service} -> {to}: any user may answer, not only {user}")?;
    }
    if m.direct == Direct::Refuse {
        writeln!(f, "# {service} -> {to}: other machines may use {to} directly")?;
    }
    Ok(())
}

/// `None` for UDP-Lite: iptables-extensions(8), DNAT, takes a port for the others only.
fn port_match(m: &Mapping) -> Option<String> {
    let (protocol, port) = (m.service.protocol, m.service.port);
    match protocol {
        Protocol::Tcp | Protocol::Udp | Protocol::Sctp | Protocol::Dccp => {
            Some(format!("-p {protocol} -m {protocol} --dport {port}"))
        }
        Protocol::UdpLite => None,
    }
}

/// One text for each value; one empty text where any value will do.
fn alternatives<T>(values: &[T], text: impl Fn(&T) -> String) -> Vec<String> {
    if values.is_empty() { vec![String::new()] } else { values.iter().map(text).collect() }
}

/// `+` is iptables' spelling of a trailing `*`. There is none of a name that ends with one.
fn interface_match(interface: &InterfacePattern) -> Option<String> {
    match interface {
        InterfacePattern::Name(name) if name.ends_with('+') => None,
        InterfacePattern::Name(name) => Some(format!(" -i {name}")),
        InterfacePattern::Prefix(prefix) => Some(format!(" -i {prefix}+")),
    }
}

fn network_match(option: &str, net: &IpNet) -> String {
    format!(" {option} {net}")
}
