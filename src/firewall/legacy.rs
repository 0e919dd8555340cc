//! Legacy iptables: the tables as iptables-save(8) prints them, in the terms of the others.
//!
//! A rule becomes what iptables-nft would make of it, so one machine evaluates both. What is not
//! understood of a rule may do anything; a line that is no rule makes the whole text unreadable,
//! since nothing could be said of what it leaves out.

mod matches;
mod rule;
mod words;

use std::collections::BTreeMap;
use std::fmt;

use super::tables::{Backend, BaseChain, Chain, Family, Hook, Kind, Rule, Table};
use words::Line;

/// Why a text is not what iptables-save prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    pub what: &'static str,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// The tables of a family, `ip` or `ip6`, from the text of iptables-save.
///
/// # Errors
///
/// What is not of that form.
pub fn read(text: &str, family: Family) -> Result<Vec<Table>, Problem> {
    let mut reader = Reader { family, tables: Vec::new(), open: None };
    for line in words::lines(text)? {
        reader.line(&line).map_err(|what| Problem { line: line.number, what })?;
    }
    match reader.open {
        Some(_) => Err(Problem { line: text.lines().count(), what: "a table without its end" }),
        None => Ok(reader.tables),
    }
}

/// `enum nf_ip_hook_priorities` of `linux/netfilter_ipv4.h`; the NAT hooks differ among each other.
fn places(table: &str) -> Option<(&'static [Hook], i32)> {
    use Hook::{Forward, Input, Output, Postrouting, Prerouting};
    Some(match table {
        "raw" => (&[Prerouting, Output], -300),
        "mangle" => (&[Prerouting, Input, Forward, Output, Postrouting], -150),
        "nat" => (&[Prerouting, Input, Output, Postrouting], -100),
        "filter" => (&[Input, Forward, Output], 0),
        "security" => (&[Input, Forward, Output], 50),
        _ => return None,
    })
}

fn base(table: &str, chain: &str, drops: bool) -> Option<BaseChain> {
    let (hooks, priority) = places(table)?;
    let hook = *hooks.iter().find(|hook| hook.name().eq_ignore_ascii_case(chain))?;
    let is_upper = chain.bytes().all(|byte| byte.is_ascii_uppercase());
    let (kind, priority) = match (table, hook) {
        ("nat", Hook::Input | Hook::Postrouting) => (Kind::Nat, -priority),
        ("nat", _) => (Kind::Nat, priority),
        ("mangle", Hook::Output) => (Kind::Route, priority),
        _ => (Kind::Filter, priority),
    };
    is_upper.then(|| BaseChain { hook, priority, kind, drops, devices: Vec::new() })
}

struct Reader {
    family: Family,
    tables: Vec<Table>,
    open: Option<Table>,
}

impl Reader {
    fn line(&mut self, line: &Line<'_>) -> Result<(), &'static str> {
        let Some(first) = line.words.first().filter(|word| !word.quoted) else {
            return if line.words.is_empty() { Ok(()) } else { Err("it begins with a quote") };
        };
        match (first.text.as_str(), &mut self.open) {
            (mark, open @ None) if mark.starts_with('*') && line.words.len() == 1 => {
                *open = Some(begun(self.family, &mark[1..])?);
            }
            ("COMMIT", open @ Some(_)) if line.words.len() == 1 => {
                self.tables.extend(open.take());
            }
            (mark, Some(table)) if mark.starts_with(':') => {
                let chain = declared(table, &mark[1..], line)?;
                table.chains.push(chain);
            }
            (_, Some(table)) => add_rule(table, line)?,
            _ => return Err("it is outside of a table"),
        }
        Ok(())
    }
}

fn begun(family: Family, name: &str) -> Result<Table, &'static str> {
    places(name).ok_or("a table that is not known here")?;
    Ok(Table {
        family,
        name: name.to_owned(),
        backend: Backend::Legacy,
        dormant: false,
        chains: Vec::new(),
        sets: BTreeMap::new(),
    })
}

/// `:INPUT DROP [0:0]`, `:mine - [0:0]`
fn declared(table: &Table, name: &str, line: &Line<'_>) -> Result<Chain, &'static str> {
    let words: Vec<_> = line.words.iter().map(|word| word.text.as_str()).collect();
    let [_, policy, counters] = words[..] else { return Err("a chain without its policy") };
    if !is_counters(counters) {
        return Err("a chain without its counters");
    }
    if name.is_empty() || table.chain(name).is_some() {
        return Err("a chain that is there already, or has no name");
    }
    let base = match policy {
        "-" => None,
        "ACCEPT" | "DROP" => {
            let base = base(&table.name, name, policy == "DROP");
            Some(base.ok_or("a policy of a chain that has none")?)
        }
        _ => return Err("a policy that is not known here"),
    };
    Ok(Chain { name: name.to_owned(), base, rules: Vec::new() })
}

/// `[12:3456]`
fn is_counters(word: &str) -> bool {
    let inside = word.strip_prefix('[').and_then(|word| word.strip_suffix(']'));
    let halves = inside.and_then(|inside| inside.split_once(':'));
    halves.is_some_and(|(packets, bytes)| {
        [packets, bytes].iter().all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// `-A INPUT -p tcp -j ACCEPT`; with `-c`, counters stand before it.
fn add_rule(table: &mut Table, line: &Line<'_>) -> Result<(), &'static str> {
    let counted = usize::from(is_counters(&line.words[0].text));
    let [append, chain, words @ ..] = &line.words[counted..] else {
        return Err("it is neither a chain nor a rule");
    };
    if append.text != "-A" || append.quoted || chain.quoted {
        return Err("it is neither a chain nor a rule");
    }
    let exprs = rule::read(table, words);
    let text = line.from(counted).to_owned();
    let chain = table.chains.iter_mut().find(|other| other.name == chain.text);
    let chain = chain.ok_or("a rule of a chain that is not there")?;
    chain.rules.push(Rule { handle: 0, exprs, comment: None, text: Some(text) });
    Ok(())
}

#[cfg(test)]
mod tests;
