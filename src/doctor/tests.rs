//! Facts written down, for tests.

use crate::firewall::expr::Expr;
use crate::firewall::{Backend, BaseChain, Chain, Family, Hook, Kind, Rule, Table};
use crate::formats::rules::{self, Facts as FileFacts, Names, Source};
use crate::host::listeners::{Listener, Program};
use crate::host::network::Interface;
use crate::mapping::{MappingSet, Port, Uid};

/// What a rules file says with this under `ports`. The user `ada` has the number 1001 here.
#[track_caller]
pub fn set(ports: &str) -> MappingSet {
    if ports.is_empty() {
        return MappingSet::default();
    }
    let source = Source::file("rules.yaml", format!("ports: {{ {ports} }}"));
    let names = Names {
        users: &|name| Ok((name == "ada").then(|| Uid::new(1001)).flatten()),
        ..Names::NONE
    };
    let loaded = rules::load(&[source], &FileFacts::default(), names);
    loaded.mappings.unwrap_or_else(|| panic!("{ports}"))
}

/// `tcp 0.0.0.0 3000`; with a trailing `%eth0`, bound to that interface; `::only` leaves out IPv4;
/// with a fourth word, of the user of that number. All of one program.
pub fn listener(text: &str) -> Listener {
    let words: Vec<_> = text.split(' ').collect();
    let (address, interface) = match words[1].split_once('%') {
        Some((address, interface)) => (address, Some(interface.to_owned())),
        None => (words[1], None),
    };
    let uid = words.get(3).map(|uid| uid.parse().unwrap());
    Listener {
        protocol: words[0].parse().unwrap(),
        v6only: address == "::only",
        address: address.trim_end_matches("only").parse().unwrap(),
        port: Port::new(words[2].parse().unwrap()).unwrap(),
        interface,
        uid: uid.unwrap_or(33),
        user: uid.is_none().then(|| "www-data".to_owned()),
        inode: 1,
        program: Some(Program { pid: 812, name: "node".to_owned() }),
    }
}

pub fn interface(name: &str, addresses: &[&str]) -> Interface {
    Interface {
        name: name.to_owned(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
    }
}

/// `table inet fw`, with one chain of this name, hook and kind at this priority.
pub fn table(name: &str, (hook, kind, priority): (Hook, Kind, i32), rules: Vec<Expr>) -> Table {
    let rule = |expr| Rule { exprs: vec![expr], ..Rule::default() };
    let base = BaseChain { hook, priority, kind, drops: name == "closed", devices: Vec::new() };
    let rules = rules.into_iter().map(rule).collect();
    Table {
        family: Family::Inet,
        name: "fw".to_owned(),
        backend: Backend::Nftables,
        dormant: false,
        chains: vec![Chain { name: name.to_owned(), base: Some(base), rules }],
        sets: std::collections::BTreeMap::new(),
    }
}
