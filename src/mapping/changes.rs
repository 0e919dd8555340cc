//! What differs between two mappings, as people see it: mappings that come, go, or lead elsewhere.
//!
//! The room is pure.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use super::merge::merge;
use super::{Mapping, MappingSet, Service};

/// One mapping that differs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change<'a> {
    Add(&'a Mapping),
    Remove(&'a Mapping),
    /// The same service for the same clients, with another target, comment or rank.
    Change {
        before: &'a Mapping,
        after: &'a Mapping,
    },
}

impl<'a> Change<'a> {
    pub fn before(&self) -> Option<&'a Mapping> {
        match *self {
            Change::Add(_) => None,
            Change::Remove(before) | Change::Change { before, .. } => Some(before),
        }
    }

    pub fn after(&self) -> Option<&'a Mapping> {
        match *self {
            Change::Remove(_) => None,
            Change::Add(after) | Change::Change { after, .. } => Some(after),
        }
    }

    pub fn action(&self) -> Action {
        match self {
            Change::Add(_) => Action::Add,
            Change::Remove(_) => Action::Remove,
            Change::Change { .. } => Action::Change,
        }
    }

    /// The one that will be there, or the one that goes.
    pub fn mapping(&self) -> &'a Mapping {
        match *self {
            Change::Add(m) | Change::Remove(m) | Change::Change { after: m, .. } => m,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Add,
    Remove,
    Change,
}

impl Action {
    /// The mark at the start of a line of a diff.
    pub const fn mark(self) -> char {
        match self {
            Action::Add => '+',
            Action::Remove => '-',
            Action::Change => '~',
        }
    }
}

/// The services for which the kernel does something else after than before, in order. Comments do
/// not count.
pub fn differing_services(before: &MappingSet, after: &MappingSet) -> Vec<Service> {
    let service = |group: &&[Mapping]| group[0].service;
    merge(before.services(), after.services(), service, service)
        .filter(|side| {
            !do_the_same(side.left().unwrap_or_default(), side.right().unwrap_or_default())
        })
        .filter_map(|side| side.left().or(side.right()))
        .map(|group| group[0].service)
        .collect()
}

/// Whether two lists of mappings of one service send the same connections to the same targets.
pub fn do_the_same(a: &[Mapping], b: &[Mapping]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to == b.to && a.selector == b.selector)
}

/// All differences, sorted by service.
pub fn changes<'a>(before: &'a MappingSet, after: &'a MappingSet) -> Vec<Change<'a>> {
    let mut changes = Vec::new();
    let service = |group: &&[Mapping]| group[0].service;
    for side in merge(before.services(), after.services(), service, service) {
        let before = side.left().unwrap_or_default();
        let after = side.right().unwrap_or_default();
        if before != after {
            compare_group(before, after, &mut changes);
        }
    }
    changes
}

/// The mappings of one service: matched by the clients they are for. A rank counts where both lists hold
/// the same clients, that is, where order is all that can differ.
fn compare_group<'a>(before: &'a [Mapping], after: &'a [Mapping], changes: &mut Vec<Change<'a>>) {
    let find = |list: &'a [Mapping], m: &Mapping| {
        list.iter().position(|other| other.selector == m.selector)
    };
    let gone = before.iter().filter(|m| find(after, m).is_none());
    changes.extend(gone.map(Change::Remove));
    let same_clients =
        before.len() == after.len() && after.iter().all(|m| find(before, m).is_some());
    for (rank, m) in after.iter().enumerate() {
        match find(before, m) {
            None => changes.push(Change::Add(m)),
            Some(at) if before[at] != *m || (same_clients && at != rank) => {
                changes.push(Change::Change { before: &before[at], after: m });
            }
            Some(_) => {}
        }
    }
}

/// How many mappings come, go and change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub added: usize,
    pub removed: usize,
    pub changed: usize,
}

impl Summary {
    pub fn of(changes: &[Change<'_>]) -> Self {
        let mut summary = Self::default();
        for change in changes {
            match change.action() {
                Action::Add => summary.added += 1,
                Action::Remove => summary.removed += 1,
                Action::Change => summary.changed += 1,
            }
        }
        summary
    }
}

impl Summary {
    /// The same of changes that are still to be made: `1 to add, 2 to change`.
    pub fn ahead(&self) -> String {
        self.in_words([" to add", " to change", " to remove"])
    }

    fn in_words(&self, [added, changed, removed]: [&str; 3]) -> String {
        let parts = [(self.added, added), (self.changed, changed), (self.removed, removed)];
        let parts: Vec<_> = parts
            .into_iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, what)| format!("{n}{what}"))
            .collect();
        if parts.is_empty() { "no mapping differs".to_owned() } else { parts.join(", ") }
    }
}

impl Display for Summary {
    /// `1 added, 2 changed`
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_words([" added", " changed", " removed"]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::{Family, Port, Protocol, Scope, Selector, Service, Target};

    fn mapping(port: u16, to: u16, selector: Selector) -> Mapping {
        let number = |n| Port::new(n).expect("not 0");
        let service = Service { protocol: Protocol::Tcp, port: number(port) };
        Mapping { selector, ..Mapping::new(service, Target::new(number(to))) }
    }

    fn set<const N: usize>(mappings: [&Mapping; N]) -> MappingSet {
        MappingSet::new(mappings.into_iter().cloned().collect())
    }

    #[test]
    fn nothing_differs_from_itself() {
        let all = set([&mapping(80, 3000, Selector::ANYONE)]);
        assert_eq!(changes(&all, &all), []);
        assert_eq!(Summary::of(&[]).to_string(), "no mapping differs");
    }

    #[test]
    fn mappings_come_go_and_lead_elsewhere() {
        let to = |port, to| mapping(port, to, Selector::ANYONE);
        let (gone, kept, was, is, new) = (to(1, 9), to(2, 9), to(3, 9), to(3, 8), to(4, 9));
        let (before, after) = (set([&gone, &kept, &was]), set([&kept, &is, &new]));
        let found = changes(&before, &after);
        let expected =
            [Change::Remove(&gone), Change::Change { before: &was, after: &is }, Change::Add(&new)];
        assert_eq!(found, expected);
        assert_eq!(Summary::of(&found).to_string(), "1 added, 1 changed, 1 removed");
    }

    #[test]
    fn for_other_clients_it_is_another_mapping() {
        let before = mapping(80, 3000, Selector::ANYONE);
        let after = mapping(80, 3000, Selector::of(Scope::Local, Family::Both));
        let (a, b) = (set([&before]), set([&after]));
        assert_eq!(changes(&a, &b), [Change::Remove(&before), Change::Add(&after)]);
    }
}
