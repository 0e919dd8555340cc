//! The same mappings, as each contender wants to read them.
//!
//! Written piece by piece: a child's peak memory starts at that of the process it was spawned
//! from, so this one has to stay small.

use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::ops::RangeInclusive;
use std::path::Path;

pub const FULL: RangeInclusive<u16> = 1..=60_000;
pub const TEN: RangeInclusive<u16> = 991..=1000;
pub const THOUSAND: RangeInclusive<u16> = 1..=1000;

/// No target is itself a mapped port.
pub const fn target(port: u16) -> u16 {
    60_001 + (port - 1) % 5000
}

/// The mappings, of which one may be another than usual.
#[derive(Clone)]
pub struct Mappings {
    pub ports: RangeInclusive<u16>,
    pub changed: Option<u16>,
    /// Who may answer, where portmap is told.
    pub user: Option<u32>,
}

/// Where the changed mapping leads.
pub const fn changed_target(port: u16) -> u16 {
    target(port % 60_000 + 1)
}

impl Mappings {
    pub fn new(ports: RangeInclusive<u16>) -> Mappings {
        Mappings { ports, changed: None, user: None }
    }

    fn pairs(&self) -> impl Iterator<Item = (u16, u16)> {
        self.ports.clone().map(|port| match self.changed {
            Some(changed) if changed == port => (port, changed_target(port)),
            _ => (port, target(port)),
        })
    }

    pub fn yaml(&self, path: &Path) -> Result<()> {
        write(path, |out| {
            writeln!(out, "ports:")?;
            self.pairs().try_for_each(|(port, to)| match self.user {
                None => writeln!(out, "  {port}: {to}"),
                Some(user) => writeln!(out, "  {port}: {{ to: {to}, user: {user} }}"),
            })
        })
    }

    /// As an expert would write it: replaces the table whether or not it is there.
    pub fn nft_map(&self, path: &Path) -> Result<()> {
        write(path, |out| {
            writeln!(out, "table inet peer\ndelete table inet peer\ntable inet peer {{")?;
            writeln!(out, "\tmap ports {{")?;
            writeln!(out, "\t\ttype inet_proto . inet_service : inet_service")?;
            writeln!(out, "\t\telements = {{")?;
            self.pairs().try_for_each(|(port, to)| writeln!(out, "\t\t\ttcp . {port} : {to},"))?;
            writeln!(out, "\t\t}}\n\t}}")?;
            for hook in ["prerouting", "output"] {
                writeln!(out, "\tchain {hook} {{")?;
                writeln!(out, "\t\ttype nat hook {hook} priority -100; policy accept;")?;
                writeln!(out, "\t\tfib daddr type != local return")?;
                writeln!(
                    out,
                    "\t\tmeta l4proto {{ tcp, udp }} dnat to :meta l4proto . th dport map @ports"
                )?;
                writeln!(out, "\t}}")?;
            }
            writeln!(out, "}}")
        })
    }

    /// The least that sends clients elsewhere from one port to another.
    pub fn leanest(port: u16, path: &Path) -> Result<()> {
        write(path, |out| {
            writeln!(out, "table inet peer {{\n\tchain prerouting {{")?;
            writeln!(out, "\t\ttype nat hook prerouting priority -100; policy accept;")?;
            writeln!(out, "\t\ttcp dport {port} dnat to :{}", target(port))?;
            writeln!(out, "\t}}\n}}")
        })
    }

    /// One rule per mapping and hook.
    pub fn nft_rules(&self, path: &Path) -> Result<()> {
        write(path, |out| {
            writeln!(out, "table inet peer\ndelete table inet peer\ntable inet peer {{")?;
            for hook in ["prerouting", "output"] {
                writeln!(out, "\tchain {hook} {{")?;
                writeln!(out, "\t\ttype nat hook {hook} priority -100; policy accept;")?;
                writeln!(out, "\t\tfib daddr type != local return")?;
                for (port, to) in self.pairs() {
                    writeln!(out, "\t\ttcp dport {port} dnat to :{to}")?;
                }
                writeln!(out, "\t}}")?;
            }
            writeln!(out, "}}")
        })
    }

    /// One rule per mapping and hook, for IPv4 only.
    pub fn iptables(&self, path: &Path) -> Result<()> {
        write(path, |out| {
            writeln!(out, "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]")?;
            for hook in ["PREROUTING", "OUTPUT"] {
                writeln!(out, "-A {hook} -m addrtype ! --dst-type LOCAL -j RETURN")?;
                for (port, to) in self.pairs() {
                    writeln!(
                        out,
                        "-A {hook} -p tcp -m tcp --dport {port} -j REDIRECT --to-ports {to}"
                    )?;
                }
            }
            writeln!(out, "COMMIT")
        })
    }
}

fn write(path: &Path, text: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    text(&mut out)?;
    out.flush()
}
