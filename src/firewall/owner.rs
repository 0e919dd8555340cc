//! Who keeps a table, and what to type there to let a connection in.

use crate::formats::is_nft_word;
use crate::mapping::{PortRange, Protocol};

use super::Deciding;
use super::connection::Leg;
use super::machine::Spot;
use super::tables::{Backend, BaseChain, Family, Hook, Rulesets, Table};
use super::walk::{CONNTRACK, NAT_DESTINATION};

/// The program that a table belongs to. Rules that are put there by other means last until it
/// makes its own again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Ufw,
    Firewalld,
    Docker,
    /// netavark, which makes its networks.
    Podman,
    /// Plugins of the Container Network Interface.
    Cni,
    Kubernetes,
    Libvirt,
    Fail2ban,
    /// portmap itself, for a command of `portmap run`.
    Run,
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
            Owner::Podman => "podman",
            Owner::Cni => "cni",
            Owner::Kubernetes => "kubernetes",
            Owner::Run => "portmap run",
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

/// Whose a rule or policy is: chains of iptables' tables belong to whoever made them.
pub fn of(rulesets: &Rulesets, spot: Spot) -> Owner {
    let table = &rulesets.tables[spot.table];
    let has = |start: &str| table.chains.iter().any(|chain| chain.name.starts_with(start));
    match table.name.as_str() {
        "firewalld" => return Owner::Firewalld,
        "docker-bridges" => return Owner::Docker,
        "netavark" => return Owner::Podman,
        "libvirt_network" => return Owner::Libvirt,
        "cni_hostport" => return Owner::Cni,
        name if name.starts_with("kube-proxy") => return Owner::Kubernetes,
        name if name.starts_with("f2b-") => return Owner::Fail2ban,
        name if name.starts_with("portmap-run-") => return Owner::Run,
        _ => {}
    }
    if !is_iptables(table) {
        return Owner::Nft;
    }
    let chain = table.chains[spot.chain].name.as_str();
    match chain {
        name if name.starts_with("DOCKER") => Owner::Docker,
        name if name.starts_with("NETAVARK") => Owner::Podman,
        name if name.starts_with("CNI-") => Owner::Cni,
        name if name.starts_with("KUBE-") => Owner::Kubernetes,
        name if name.starts_with("LIBVIRT_") => Owner::Libvirt,
        _ if has("ufw-") || has("ufw6-") => Owner::Ufw,
        _ if has("INPUT_ZONES") || has("IN_public") => Owner::Firewalld,
        _ => Owner::Iptables(table.backend),
    }
}

/// The connections that a rule is written for: those of one mapping, or of neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    pub protocol: Protocol,
    /// What clients ask for.
    pub ports: PortRange,
    /// Where portmap sends them; `None` if it leaves them alone.
    pub targets: Option<PortRange>,
    /// Whether the clients are programs of this host.
    pub is_local: bool,
}

impl Traffic {
    /// Whether connection tracking knows such a packet in a base chain, and that it is translated:
    /// then it is told by the port that its client asked for.
    fn is_told_by_its_connection(&self, base: &BaseChain, leg: Leg) -> bool {
        let after = match (base.hook, leg.is_answer()) {
            (Hook::Ingress, _) => return false,
            // Over the loopback interface a packet keeps what was known of it in output.
            (Hook::Prerouting, _) if self.is_local => return true,
            (Hook::Prerouting, _) | (Hook::Output, false) => NAT_DESTINATION,
            // An answer is this host's own: it is translated back in postrouting.
            (Hook::Output, true) => CONNTRACK,
            _ => return true,
        };
        base.priority > after
    }
}

/// What to type so that the connections get past a rule or policy that drops them.
pub fn remedy(rulesets: &Rulesets, deciding: &Deciding, traffic: &Traffic) -> Vec<String> {
    let Deciding { spot, hook, leg, owner, .. } = deciding;
    let table = &rulesets.tables[spot.table];
    let criteria = Criteria { traffic, leg: *leg };
    // Rules are put into the base chain, in front of all others: it is entered by every packet.
    let Some((chain, base)) = entry(table, *hook, *spot) else { return Vec::new() };
    let tracked = traffic.is_told_by_its_connection(base, *leg);
    let opened = traffic.targets.unwrap_or(traffic.ports);
    if !is_nft_word(&table.name) || !is_nft_word(chain) {
        return Vec::new();
    }
    match owner {
        Owner::Firewalld => {
            let service = format!("{opened}/{}", traffic.protocol);
            vec![
                format!("firewall-cmd --add-port={service}"),
                format!("firewall-cmd --permanent --add-port={service}"),
            ]
        }
        // It has no word for translated connections: `direct: refuse` closes the port again for
        // who asks for it directly.
        Owner::Ufw
            if *hook == Hook::Input
                && *leg == Leg::Open
                && matches!(traffic.protocol, Protocol::Tcp | Protocol::Udp) =>
        {
            vec![format!("ufw allow {}/{}", with_colon(opened), traffic.protocol)]
        }
        _ if !is_iptables(table) => {
            let rule = criteria.nft(tracked);
            vec![format!("nft insert rule {} {} {chain} {rule}", table.family, table.name)]
        }
        _ => {
            let rule = criteria.iptables(tracked);
            vec![format!("{} -I {chain} 1 {rule} -j ACCEPT", iptables(table))]
        }
    }
}

/// `iptables`, `ip6tables-legacy -t nat`
fn iptables(table: &Table) -> String {
    let program = if table.family == Family::Ip6 { "ip6tables" } else { "iptables" };
    let legacy = if table.backend == Backend::Legacy { "-legacy" } else { "" };
    match table.name.as_str() {
        "filter" => format!("{program}{legacy}"),
        name => format!("{program}{legacy} -t {name}"),
    }
}

/// `600:663`, as iptables and ufw write ranges.
fn with_colon(ports: PortRange) -> String {
    ports.to_string().replace('-', ":")
}

/// How a rule is removed: in words, and as a command to be typed after `sudo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undo {
    pub text: &'static str,
    pub command: Option<String>,
}

/// How to have a rule removed that translates the connections.
pub fn undo(rulesets: &Rulesets, deciding: &Deciding, traffic: &Traffic) -> Undo {
    let Traffic { protocol, ports, .. } = traffic;
    let (text, command) = match deciding.owner {
        Owner::Docker => (
            "stop the container that publishes the port, or publish it on another one; see which \
             it is",
            Some(format!("docker ps --filter publish={ports}/{protocol}")),
        ),
        Owner::Podman => (
            "stop the container that publishes the port, or publish it on another one; see which \
             it is",
            Some("podman ps --format '{{.Names}} {{.Ports}}'".to_owned()),
        ),
        Owner::Cni | Owner::Kubernetes => (
            "change the `hostPort` or the service that has the port; see which there are",
            Some("kubectl get pods,services --all-namespaces -o wide".to_owned()),
        ),
        Owner::Firewalld => (
            "have firewalld forward it no more (`firewall-cmd --remove-forward-port=…`, and the \
             same with --permanent); see what it forwards",
            Some("firewall-cmd --list-all-zones".to_owned()),
        ),
        Owner::Ufw => (
            "remove the rule from /etc/ufw/before.rules (before6.rules for IPv6), and take that up",
            Some("ufw reload".to_owned()),
        ),
        Owner::Run => (
            "it belongs to a command under `portmap run`, and goes with it; see which",
            Some("portmap status".to_owned()),
        ),
        Owner::Libvirt | Owner::Fail2ban | Owner::Iptables(_) | Owner::Nft => {
            ("remove that rule, if nothing else needs it", deletion(rulesets, deciding.spot))
        }
    };
    Undo { text, command }
}

fn deletion(rulesets: &Rulesets, spot: Spot) -> Option<String> {
    let table = &rulesets.tables[spot.table];
    let chain = &table.chains[spot.chain];
    let index = spot.rule.filter(|_| is_nft_word(&table.name) && is_nft_word(&chain.name))?;
    Some(match is_iptables(table) {
        true => format!("{} -D {} {}", iptables(table), chain.name, index + 1),
        false => {
            let handle = chain.rules.get(index)?.handle;
            format!(
                "nft delete rule {} {} {} handle {handle}",
                table.family, table.name, chain.name
            )
        }
    })
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

/// What tells the packets of the connections.
struct Criteria<'a> {
    traffic: &'a Traffic,
    leg: Leg,
}

impl Criteria<'_> {
    fn end(&self) -> &'static str {
        if self.leg.is_answer() { "sport" } else { "dport" }
    }

    /// The port in the packet itself, before it is translated or translated back.
    fn shown(&self) -> PortRange {
        let Traffic { ports, targets, .. } = self.traffic;
        targets.filter(|_| self.leg.is_answer()).unwrap_or(*ports)
    }

    /// Where they are translated, the port that the client asked for tells them from connections
    /// to the target itself.
    fn nft(&self, tracked: bool) -> String {
        let Traffic { protocol, ports, targets, .. } = self.traffic;
        match (targets, tracked) {
            (Some(_), true) => format!(
                "meta l4proto {protocol} ct status dnat ct original proto-dst {ports} accept"
            ),
            _ => format!("{protocol} {} {} accept", self.end(), self.shown()),
        }
    }

    fn iptables(&self, tracked: bool) -> String {
        let Traffic { protocol, ports, targets, .. } = self.traffic;
        match (targets, tracked) {
            (Some(_), true) => format!(
                "-p {protocol} -m conntrack --ctstate DNAT --ctorigdstport {}",
                with_colon(*ports)
            ),
            _ => format!("-p {protocol} --{} {}", self.end(), with_colon(self.shown())),
        }
    }
}
