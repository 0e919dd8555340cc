//! Who keeps a table, and what to type there to let a connection in.

use crate::formats::is_nft_word;
use crate::mapping::Protocol;

use super::connection::{Connection, Leg};
use super::machine::Spot;
use super::tables::{Backend, BaseChain, Family, Hook, Rulesets, Table};

/// The program that a table belongs to. Rules that are put there by other means last until it
/// makes its own again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Ufw,
    Firewalld,
    Docker,
    Libvirt,
    Fail2ban,
    /// iptables, by hand or by a program that is not known here.
    Iptables(Backend),
    /// nft, the same.
    Nft,
}

impl Owner {
    pub fn name(self) -> &'static str {
        match self {
            Owner::Ufw => "ufw",
            Owner::Firewalld => "firewalld",
            Owner::Docker => "docker",
            Owner::Libvirt => "libvirt",
            Owner::Fail2ban => "fail2ban",
            Owner::Iptables(Backend::Nftables) => "iptables",
            Owner::Iptables(Backend::Legacy) => "iptables-legacy",
            Owner::Nft => "nft",
        }
    }
}

/// The tables and chains that iptables has, whichever backend keeps them.
fn is_iptables(table: &Table) -> bool {
    let names = ["filter", "nat", "mangle", "raw", "security"];
    let chains = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
    matches!(table.family, Family::Ip | Family::Ip6)
        && names.contains(&table.name.as_str())
        && table
            .chains
            .iter()
            .filter(|chain| chain.base.is_some())
            .all(|chain| chains.contains(&chain.name.as_str()))
}

pub fn of(rulesets: &Rulesets, table: usize) -> Owner {
    let table = &rulesets.tables[table];
    let has = |start: &str| table.chains.iter().any(|chain| chain.name.starts_with(start));
    match table.name.as_str() {
        "firewalld" => return Owner::Firewalld,
        "docker-bridges" => return Owner::Docker,
        "libvirt_network" => return Owner::Libvirt,
        name if name.starts_with("f2b-") => return Owner::Fail2ban,
        _ => {}
    }
    if !is_iptables(table) {
        return Owner::Nft;
    }
    if has("ufw-") || has("ufw6-") {
        return Owner::Ufw;
    }
    if has("INPUT_ZONES") || has("IN_public") {
        return Owner::Firewalld;
    }
    Owner::Iptables(table.backend)
}

/// What to type so that the connection gets past a rule or policy that drops it.
pub fn remedy(
    rulesets: &Rulesets,
    connection: &Connection,
    owner: Owner,
    spot: Spot,
    hook: Hook,
    leg: Leg,
) -> Vec<String> {
    let table = &rulesets.tables[spot.table];
    let criteria = Criteria { connection, leg };
    // Rules are put into the base chain, in front of all others: it is entered by every packet.
    let Some((chain, base)) = entry(table, hook, spot) else { return Vec::new() };
    let tracked = base.priority > -100 || criteria.connection.target.is_none();
    let ipv6 = connection.is_ipv6();
    if !is_nft_word(&table.name) || !is_nft_word(chain) {
        return Vec::new();
    }
    match owner {
        Owner::Nft | Owner::Libvirt | Owner::Fail2ban | Owner::Docker => {
            let rule = criteria.nft(tracked);
            vec![format!("nft insert rule {} {} {chain} {rule}", table.family, table.name)]
        }
        Owner::Firewalld => {
            let port = connection.target.unwrap_or(connection.service.port);
            let service = format!("{port}/{}", connection.service.protocol);
            vec![
                format!("firewall-cmd --add-port={service}"),
                format!("firewall-cmd --permanent --add-port={service}"),
            ]
        }
        // It has no word for translated connections: `direct: refuse` closes the port again for
        // who asks for it directly.
        Owner::Ufw
            if hook == Hook::Input
                && leg == Leg::Open
                && matches!(criteria.protocol(), Protocol::Tcp | Protocol::Udp) =>
        {
            let port = connection.target.unwrap_or(connection.service.port);
            vec![format!("ufw allow {port}/{}", criteria.protocol())]
        }
        Owner::Ufw | Owner::Iptables(_) => {
            let program = match (table.backend, ipv6) {
                (Backend::Nftables, false) => "iptables",
                (Backend::Nftables, true) => "ip6tables",
                (Backend::Legacy, false) => "iptables-legacy",
                (Backend::Legacy, true) => "ip6tables-legacy",
            };
            let rule = criteria.iptables(tracked);
            let line = format!("-I {chain} 1 {rule} -j ACCEPT");
            let of =
                if table.name == "filter" { String::new() } else { format!(" -t {}", table.name) };
            vec![format!("{program}{of} {line}")]
        }
    }
}

/// The base chain of the hook in this table that leads to the spot: the one itself, or the only one.
fn entry(table: &Table, hook: Hook, spot: Spot) -> Option<(&str, &BaseChain)> {
    let own = &table.chains[spot.chain];
    if let Some(base) = &own.base {
        return Some((&own.name, base));
    }
    let mut at_hook = table.chains.iter().filter_map(|chain| Some((chain, chain.base.as_ref()?)));
    let found = at_hook.find(|(_, base)| base.hook == hook)?;
    Some((&found.0.name, found.1))
}

/// What tells the packets of the connection.
struct Criteria<'a> {
    connection: &'a Connection,
    leg: Leg,
}

impl Criteria<'_> {
    fn protocol(&self) -> Protocol {
        self.connection.service.protocol
    }

    /// Where it is translated, the port that the client asked for tells it from connections to
    /// the target itself.
    fn nft(&self, tracked: bool) -> String {
        let (protocol, port) = (self.protocol(), self.connection.service.port);
        let end = if self.leg.is_answer() { "sport" } else { "dport" };
        match (self.connection.target, tracked) {
            (Some(_), true) => format!(
                "meta l4proto {protocol} ct status dnat ct original proto-dst {port} accept"
            ),
            _ => format!("{protocol} {end} {port} accept"),
        }
    }

    fn iptables(&self, tracked: bool) -> String {
        let (protocol, port) = (self.protocol(), self.connection.service.port);
        let end = if self.leg.is_answer() { "sport" } else { "dport" };
        match (self.connection.target, tracked) {
            (Some(_), true) => {
                format!("-p {protocol} -m conntrack --ctstate DNAT --ctorigdstport {port}")
            }
            _ => format!("-p {protocol} --{end} {port}"),
        }
    }
}
