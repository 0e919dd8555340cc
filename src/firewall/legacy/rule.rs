//! A rule: what it asks of the packet's head, its matches, and what it leads to.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::matches;
use super::words::{Word, Words, marked};
use crate::firewall::connection::address_fields;
use crate::firewall::expr::{Base, Bits, Data, Expr, Field, Register, Verdict, meta};
use crate::firewall::facts::name;
use crate::firewall::tables::{Family, Table};
use crate::firewall::value::Comparison;
use crate::firewall::xt::{self, Target};

/// The register that everything is loaded to.
const REGISTER: usize = 0;

/// What a rule does. If it is not understood as a whole, it may do anything.
pub fn read(table: &Table, words: &[Word]) -> Vec<Expr> {
    let mut reader = Reader { table, words: Words::new(words), exprs: Vec::new() };
    // A value in what is not understood may look like the target.
    let aims = words.iter().filter(|word| word.is("-j") || word.is("-g")).count();
    match reader.read() {
        Some(()) if aims <= 1 => reader.exprs,
        _ => {
            let read = words.len() - reader.words.len();
            let last = read.checked_sub(1).map_or("", |last| &words[last].text);
            vec![Expr::Unknown(last.to_owned())]
        }
    }
}

struct Reader<'a, 'w> {
    table: &'a Table,
    words: Words<'w>,
    exprs: Vec<Expr>,
}

impl Reader<'_, '_> {
    /// `None` at what is not understood.
    fn read(&mut self) -> Option<()> {
        loop {
            let inverted = self.words.inverted();
            let Some(word) = self.words.next() else { return (!inverted).then_some(()) };
            match (word.text.as_str(), inverted) {
                _ if word.quoted => return None,
                ("-s", _) => self.address(true, inverted)?,
                ("-d", _) => self.address(false, inverted)?,
                ("-i", _) => self.interface(meta::IIFNAME, inverted)?,
                ("-o", _) => self.interface(meta::OIFNAME, inverted)?,
                ("-p", _) => self.protocol(inverted)?,
                // No packet that is judged is a fragment.
                ("-f", true) => {}
                ("-f", false) => self.end(Verdict::Break),
                ("-m", false) => {
                    let name = self.words.value()?;
                    self.exprs.push(matches::read(name, &mut self.words));
                }
                ("-g", false) => {
                    let chain = self.words.value()?;
                    self.table.chain(chain)?;
                    self.end(Verdict::Goto(chain.to_owned()));
                    return self.is_at_end();
                }
                ("-j", false) => {
                    self.aim()?;
                    return self.is_at_end();
                }
                _ => return None,
            }
        }
    }

    fn is_at_end(&self) -> Option<()> {
        self.words.peek().is_none().then_some(())
    }

    fn compare(&mut self, data: Vec<u8>, inverted: bool) {
        let comparison = if inverted { Comparison::NotEqual } else { Comparison::Equal };
        self.exprs.push(Expr::Compare { source: REGISTER, comparison, data });
    }

    fn end(&mut self, verdict: Verdict) {
        self.exprs.push(Expr::Immediate { dest: Register::Verdict, data: Data::Verdict(verdict) });
    }

    /// `-s 10.0.0.0/8`, `-d 2001:db8::/ffff:ffff::`
    fn address(&mut self, of_source: bool, inverted: bool) -> Option<()> {
        let text = self.words.value()?;
        let (address, mask) = network(text, self.table.family)?;
        let (source, destination, len) = address_fields(self.table.family == Family::Ip6);
        let offset = if of_source { source } else { destination };
        let field = Field { base: Base::Network, offset, len };
        self.exprs.push(Expr::Payload { dest: REGISTER, field });
        self.exprs.push(Expr::Bitwise {
            source: REGISTER,
            dest: REGISTER,
            len,
            bits: Bits::Mask { mask, xor: vec![0; len] },
        });
        self.compare(address, inverted);
        Some(())
    }

    /// `-i eth0`, `-o eth+`; where there is no such device, its name is empty.
    fn interface(&mut self, key: u32, inverted: bool) -> Option<()> {
        let text = self.words.value()?;
        let whole = name(text);
        if text.len() >= whole.len() || text.contains('\0') {
            return None;
        }
        let data = match text.strip_suffix('+') {
            Some(start) => start.as_bytes().to_vec(),
            None => whole.to_vec(),
        };
        self.exprs.push(Expr::Meta { dest: REGISTER, key });
        self.compare(data, inverted);
        Some(())
    }

    fn protocol(&mut self, inverted: bool) -> Option<()> {
        match protocol(self.words.value()?)? {
            0 if inverted => self.end(Verdict::Break),
            0 => {}
            number => {
                self.exprs.push(Expr::Meta { dest: REGISTER, key: meta::L4PROTO });
                self.compare(vec![number], inverted);
            }
        }
        Some(())
    }

    /// What stands behind `-j`.
    fn aim(&mut self) -> Option<()> {
        let name = self.words.value()?;
        let is_chain = self.table.chain(name).is_some();
        let verdict = match name {
            "ACCEPT" => Verdict::Accept,
            "DROP" => Verdict::Drop,
            "RETURN" => Verdict::Return,
            "QUEUE" => Verdict::Queue,
            _ if !is_chain => {
                let options = self.words.rest();
                self.exprs.push(Expr::Target(target(name, &options)));
                return Some(());
            }
            // iptables gives no chain the name of a target.
            _ if xt::plain_target(name).is_some() => return None,
            _ => Verdict::Jump(name.to_owned()),
        };
        self.end(verdict);
        Some(())
    }
}

fn target(name: &str, options: &[&str]) -> Target {
    let known = match (name, options) {
        ("MARK", ["--set-xmark", mark]) => {
            marked(mark).map(|(value, mask)| Target::Mark { value, mask })
        }
        ("CT", ["--notrack"]) => Some(Target::Notrack),
        ("CT", _) => Some(Target::Zone),
        // It sets the packet's mark from the set.
        ("SET", _) if options.contains(&"--map-set") => None,
        _ => xt::plain_target(name),
    };
    known.unwrap_or_else(|| Target::Unknown(name.to_owned()))
}

/// An address and its mask.
fn network(text: &str, family: Family) -> Option<(Vec<u8>, Vec<u8>)> {
    let (address, mask) = text.split_once('/').map_or((text, None), |(a, m)| (a, Some(m)));
    let octets = |text: &str| match family {
        Family::Ip6 => text.parse::<Ipv6Addr>().ok().map(|a| a.octets().to_vec()),
        _ => text.parse::<Ipv4Addr>().ok().map(|a| a.octets().to_vec()),
    };
    let address = octets(address)?;
    let mask = match mask {
        None => vec![0xff; address.len()],
        Some(mask) => match mask.parse::<usize>() {
            Ok(bits) => prefix(bits, address.len())?,
            Err(_) => octets(mask)?,
        },
    };
    Some((address, mask))
}

/// The first bits are set.
fn prefix(bits: usize, len: usize) -> Option<Vec<u8>> {
    let byte = |at: usize| match bits.saturating_sub(at * 8) {
        0 => 0,
        set if set >= 8 => 0xff,
        set => 0xff << (8 - set),
    };
    (bits <= len * 8).then(|| (0..len).map(byte).collect())
}

/// A number of /etc/protocols; of all its names those that are in use.
fn protocol(text: &str) -> Option<u8> {
    Some(match text {
        "all" | "ip" => 0,
        "icmp" => 1,
        "igmp" => 2,
        "ipencap" | "ipip" => 4,
        "tcp" => 6,
        "udp" => 17,
        "dccp" => 33,
        "ipv6" => 41,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "icmpv6" | "ipv6-icmp" => 58,
        "ospf" => 89,
        "pim" => 103,
        "vrrp" => 112,
        "l2tp" => 115,
        "sctp" => 132,
        "mh" | "ipv6-mh" | "mobility-header" => 135,
        "udplite" => 136,
        number => number.parse().ok()?,
    })
}
