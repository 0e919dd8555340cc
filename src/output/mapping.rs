//! Mappings as people and machines read them.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::changes::{Action, Change};
use crate::mapping::{Family, Mapping, Port, Protocol, Scope, Selector};

/// Neighbours that differ only in their ports, by the same distance: a range of the file.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    pub first: &'a Mapping,
    pub last: &'a Mapping,
}

impl<'a> Run<'a> {
    fn of(mapping: &'a Mapping) -> Self {
        Self { first: mapping, last: mapping }
    }

    /// Whether `next` continues the run: the next port to the next port, all else equal.
    fn is_continued_by(&self, next: &Mapping) -> bool {
        let last = self.last;
        last.service.protocol == next.service.protocol
            && Some(next.service.port) == successor(last.service.port)
            && Some(next.to) == successor(last.to)
            && last.selector == next.selector
            && last.comment == next.comment
    }

    /// `80/tcp`, `6000-6063/tcp`
    pub fn service(&self) -> String {
        let (first, last) = (self.first.service, self.last.service);
        format!("{}/{}", ports(first.port, last.port), first.protocol)
    }

    /// `3000`, `16000-16063`
    pub fn to(&self) -> String {
        ports(self.first.to, self.last.to)
    }
}

impl Display for Run<'_> {
    /// `80/tcp -> 3000 (local, ipv4)`
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.service(), self.to())?;
        if self.first.selector != Selector::ANYONE {
            write!(f, " ({})", clients(&self.first.selector))?;
        }
        match &self.first.comment {
            Some(comment) => write!(f, "  # {comment}"),
            None => Ok(()),
        }
    }
}

fn successor(port: Port) -> Option<Port> {
    port.get().checked_add(1).and_then(Port::new)
}

fn ports(first: Port, last: Port) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// Folds neighbours into runs. `same` says what beside the mapping itself must agree.
pub fn fold<'a, T>(
    items: &'a [T],
    mapping: impl Fn(&'a T) -> &'a Mapping,
    same: impl Fn(&T, &T) -> bool,
) -> Vec<(Run<'a>, &'a [T])> {
    let mut runs: Vec<(Run<'a>, &'a [T])> = Vec::new();
    let mut start = 0;
    for (i, item) in items.iter().enumerate() {
        let m = mapping(item);
        match runs.last_mut() {
            Some((run, part)) if same(&items[i - 1], item) && run.is_continued_by(m) => {
                run.last = m;
                *part = &items[start..=i];
            }
            _ => {
                start = i;
                runs.push((Run::of(m), &items[i..=i]));
            }
        }
    }
    runs
}

/// The lines of a diff: `+ 80/tcp -> 3000`, `~ 443/tcp -> 8443 (was 9443)`, `- 53/udp -> 5353`.
pub fn fold_changes(changes: &[Change<'_>]) -> Vec<(Action, String)> {
    let same = |a: &Change<'_>, b: &Change<'_>| a.action() == b.action() && continues_before(a, b);
    fold(changes, Change::mapping, same)
        .into_iter()
        .map(|(run, part)| (part[0].action(), line(&run, &part[0], &part[part.len() - 1])))
        .collect()
}

fn continues_before(a: &Change<'_>, b: &Change<'_>) -> bool {
    match (a, b) {
        (Change::Change { before: a, .. }, Change::Change { before: b, .. }) => {
            Run::of(a).is_continued_by(b)
        }
        _ => true,
    }
}

fn line(run: &Run<'_>, first: &Change<'_>, last: &Change<'_>) -> String {
    let mark = first.action().mark();
    match (first, last) {
        (Change::Change { before: first, after }, Change::Change { before: last, .. }) => {
            let was = if first.to != after.to {
                format!("was {}", ports(first.to, last.to))
            } else if first.comment != after.comment {
                match &first.comment {
                    Some(comment) => format!("was commented: {comment}"),
                    None => "was without a comment".to_owned(),
                }
            } else {
                "was tried in another order".to_owned()
            };
            format!("{mark} {run} ({was})")
        }
        _ => format!("{mark} {run}"),
    }
}

/// For whom a mapping is meant, in words: `external, ipv4, on eth0, from 203.0.113.0/24`.
pub fn clients(selector: &Selector) -> String {
    let mut words = Vec::new();
    if selector.scope != Scope::Both {
        words.push(selector.scope.name().to_owned());
    }
    if selector.family != Family::Both {
        words.push(selector.family.name().to_owned());
    }
    if let Some(matches) = &selector.matches {
        let lists = [
            ("on", texts(&matches.interfaces)),
            ("from", texts(&matches.sources)),
            ("to", texts(&matches.addresses)),
        ];
        let lists = lists.into_iter().filter(|(_, values)| !values.is_empty());
        words.extend(lists.map(|(word, values)| format!("{word} {}", values.join(" "))));
    }
    if words.is_empty() { "everyone".to_owned() } else { words.join(", ") }
}

fn texts<T: Display>(values: &[T]) -> Vec<String> {
    values.iter().map(T::to_string).collect()
}

/// What a mapping does, in JSON. Absent lists mean "any".
#[derive(Debug, Serialize)]
pub struct MappingJson {
    pub to: u16,
    pub scope: &'static str,
    pub families: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

impl From<&Mapping> for MappingJson {
    fn from(m: &Mapping) -> Self {
        let matches = m.selector.matches.as_deref();
        Self {
            to: m.to.get(),
            scope: m.selector.scope.name(),
            families: match m.selector.family {
                Family::Both => vec!["ipv4", "ipv6"],
                one => vec![one.name()],
            },
            interfaces: matches.map(|m| texts(&m.interfaces)).unwrap_or_default(),
            sources: matches.map(|m| texts(&m.sources)).unwrap_or_default(),
            addresses: matches.map(|m| texts(&m.addresses)).unwrap_or_default(),
            comment: m.comment.as_deref().map(str::to_owned),
        }
    }
}

/// One difference, in JSON.
#[derive(Debug, Serialize)]
pub struct ChangeJson {
    pub action: Action,
    pub port: u16,
    pub protocol: &'static str,
    pub before: Option<MappingJson>,
    pub after: Option<MappingJson>,
}

impl From<&Change<'_>> for ChangeJson {
    fn from(change: &Change<'_>) -> Self {
        let service = change.mapping().service;
        Self {
            action: change.action(),
            port: service.port.get(),
            protocol: Protocol::name(service.protocol),
            before: change.before().map(MappingJson::from),
            after: change.after().map(MappingJson::from),
        }
    }
}
