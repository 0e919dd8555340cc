//! The way from the table that is to the table that should be, as an ordered list of steps.
//!
//! The room is pure: a plan can be printed, compared and tested without a kernel.
//!
//! Two ways lead there. Usually a plan touches only what differs, so that everything else keeps
//! its counters. Where the table holds something foreign, or a map has become too small, the
//! table is made anew in the same transaction, and the counters are carried over.

#![forbid(unsafe_code)]

mod counts;
mod rules;
mod step;

use std::collections::BTreeSet;

use crate::mapping::Service;
use crate::mapping::merge::{Side, merge};
use crate::ruleset::{Answer, Map, MapName, Observed, PortData, Rule, Ruleset, map_shape};
use counts::OldCounts;
pub use step::{Part, Step};

/// The steps, to be committed in one transaction, that lead from `observed` to `desired`; `None`
/// is a table that does not exist. Empty if there is nothing to do: a difference in the stamp
/// alone is none.
pub fn plan(desired: Option<&Ruleset>, observed: Option<&Observed>) -> Vec<Step> {
    match (desired, observed) {
        (None, None) => Vec::new(),
        (None, Some(_)) => vec![Step::DeleteTable],
        (Some(desired), None) => create(desired, &OldCounts::default()),
        (Some(desired), Some(observed)) => {
            let old = OldCounts::from(observed, desired.gate.is_none());
            if reason_to_rebuild(desired, observed).is_some() {
                let mut steps = vec![Step::DeleteTable];
                steps.extend(create(desired, &old));
                steps
            } else {
                Change { desired, observed, old }.steps()
            }
        }
    }
}

/// The steps that change nothing but the stamp, for a table that is as desired otherwise.
pub fn restamp(desired: Option<&Ruleset>, observed: Option<&Observed>) -> Vec<Step> {
    let (Some(desired), Some(observed)) = (desired, observed) else { return Vec::new() };
    let change = Change { desired, observed, old: OldCounts::default() };
    let (mut steps, add) = change.rule_steps(Rule::eq);
    steps.extend(add);
    steps
}

/// Why a table cannot be changed piece by piece, for people.
pub fn reason_to_rebuild(desired: &Ruleset, observed: &Observed) -> Option<String> {
    if let Some(foreign) = observed.foreign.first() {
        return Some(format!(
            "the table holds something that portmap did not put there: {foreign}"
        ));
    }
    desired.maps.iter().find_map(|(name, map)| {
        let shape = observed.shapes.get(name)?;
        if shape.size != 0 && map.len() > shape.size as usize {
            Some(format!("{} {name} has become too small", name.kind()))
        } else if map_shape(*name, map.len()).counted && !shape.counted {
            let kind = name.kind();
            Some(format!("{kind} {name} has no counters, and few enough elements for them"))
        } else {
            None
        }
    })
}

fn create(desired: &Ruleset, old: &OldCounts) -> Vec<Step> {
    let nothing = Observed::default();
    let mut steps = vec![Step::AddTable];
    steps.extend(Change { desired, observed: &nothing, old: old.clone() }.steps());
    steps
}

/// A change piece by piece.
struct Change<'a> {
    desired: &'a Ruleset,
    observed: &'a Observed,
    old: OldCounts,
}

impl Change<'_> {
    /// The order matters to the kernel: what is referred to must exist, what goes must no longer
    /// be referred to, and a deleted element makes room for its successor.
    fn steps(&self) -> Vec<Step> {
        let (mut delete, mut add) = self.element_steps();
        let mut objects = self.new_objects();
        let gate = self.gate_steps();
        let removals = self.old_objects();
        let (drop_rules, add_rules) = self.rule_steps(Rule::same_effect);
        let groups = [&delete, &add, &objects, &gate, &removals, &drop_rules, &add_rules];
        if groups.iter().all(|group| group.is_empty()) {
            return Vec::new();
        }
        // Something changes, so the stamp does too: now it counts.
        let (drop_rules, add_rules) = self.rule_steps(Rule::eq);
        objects.extend(drop_rules);
        objects.append(&mut delete);
        objects.append(&mut add);
        objects.extend(add_rules);
        objects.extend(gate);
        objects.extend(removals);
        objects
    }

    /// Maps, the gate's set and chains that are not there yet, still empty.
    fn new_objects(&self) -> Vec<Step> {
        let observed = &self.observed.ruleset;
        let maps = self.desired.maps.iter().filter(|(name, _)| !observed.maps.contains_key(name));
        let mut steps: Vec<_> = maps
            .map(|(&name, map)| Step::AddMap { name, shape: map_shape(name, map.len()) })
            .collect();
        if self.desired.gate.is_some() && observed.gate.is_none() {
            steps.push(Step::AddGate);
        }
        let chains = self.desired.chains.keys().filter(|name| !observed.chains.contains_key(name));
        steps.extend(chains.map(|name| Step::AddChain(*name)));
        steps
    }

    /// Those that are there no longer. Their rules and references went before.
    fn old_objects(&self) -> Vec<Step> {
        let observed = &self.observed.ruleset;
        let chains = observed.chains.keys().filter(|name| !self.desired.chains.contains_key(name));
        let mut steps: Vec<_> = chains.map(|name| Step::DeleteChain(*name)).collect();
        let maps = observed.maps.keys().filter(|name| !self.desired.maps.contains_key(name));
        steps.extend(maps.map(|name| Step::DeleteMap(*name)));
        if self.desired.gate.is_none() && observed.gate.is_some() {
            steps.push(Step::DeleteGate);
        }
        steps
    }

    /// The gate opens for the time that is wanted, if it is not open for that time already.
    fn gate_steps(&self) -> Vec<Step> {
        let Some(wanted) = self.desired.gate else { return Vec::new() };
        let open = Step::OpenGate { timeout: wanted.timeout };
        match self.observed.ruleset.gate {
            None => vec![open],
            Some(gate) if gate.timeout == wanted.timeout && !gate.left.is_zero() => Vec::new(),
            Some(_) => vec![Step::ShutGate, open],
        }
    }

    /// Deletions, then additions, over all maps. A map that goes as a whole keeps its elements,
    /// except that a chain cannot go while an element leads to it.
    fn element_steps(&self) -> (Vec<Step>, Vec<Step>) {
        let (mut delete, mut add) = (Vec::new(), Vec::new());
        let observed = &self.observed.ruleset.maps;
        let names = self.desired.maps.keys().chain(observed.keys().filter(|name| {
            !self.desired.maps.contains_key(name) && matches!(name, MapName::Selected(_))
        }));
        for name in names {
            let empty = Map::empty(*name);
            let want = self.desired.maps.get(name).unwrap_or(&empty);
            let have = observed.get(name).unwrap_or(&empty);
            let (gone, new) = self.map_steps(*name, want, have);
            delete.extend(gone);
            add.extend(new);
        }
        (delete, add)
    }

    /// The step that takes elements out of a map, if any go, and the one that brings others.
    fn map_steps(&self, map: MapName, want: &Map, have: &Map) -> (Option<Step>, Option<Step>) {
        let delete = |services: Vec<Service>| {
            (!services.is_empty()).then_some(Step::DeleteElements { map, services })
        };
        match (want, have) {
            (Map::Ports(want), Map::Ports(have)) => {
                let counted = self.is_counted(map);
                let same = |w: &(Service, PortData), h: &(Service, PortData)| {
                    w == h && !(counted && self.old.grows_element(map, w.0, &w.1))
                };
                let (gone, new) = differing(want, have, |(service, _)| *service, same);
                let count = |s, t| if counted { self.old.element(map, s, t) } else { None };
                let elements: Vec<_> =
                    new.into_iter().map(|(s, t)| (*s, t.clone(), count(*s, t))).collect();
                let add = (!elements.is_empty()).then_some(Step::AddPorts { map, elements });
                (delete(gone.iter().map(|(service, _)| *service).collect()), add)
            }
            (Map::Selected(want), Map::Selected(have))
            | (Map::Services(want), Map::Services(have)) => {
                let counted = self.is_counted(map);
                let same = |w: &Service, h: &Service| {
                    w == h && !(counted && self.old.grows_service(map, *w))
                };
                let (gone, new) = differing(want, have, |service| *service, same);
                let count = |s| if counted { self.old.service(map, s) } else { None };
                let services: Vec<_> = new.into_iter().map(|s| (*s, count(*s))).collect();
                let add = (!services.is_empty()).then_some(Step::AddServices { map, services });
                (delete(gone.into_iter().copied().collect()), add)
            }
            (Map::Answers(want), Map::Answers(have)) => {
                let counted = self.is_counted(map);
                let same =
                    |w: &Answer, h: &Answer| w == h && !(counted && self.old.grows_answer(map, w));
                let (gone, new) = differing(want, have, |answer| answer.key(), same);
                let answers: Vec<_> = gone.into_iter().cloned().collect();
                let delete = (!answers.is_empty()).then_some(Step::DeleteAnswers { map, answers });
                let count = |a| if counted { self.old.answer(map, a) } else { None };
                let answers: Vec<_> = new.into_iter().map(|a| (a.clone(), count(a))).collect();
                let add = (!answers.is_empty()).then_some(Step::AddAnswers { map, answers });
                (delete, add)
            }
            // What a map holds goes by its name.
            _ => (None, None),
        }
    }

    /// Whether a map counts, now or once it is made. The kernel would take a counter for a single
    /// element of one that does not.
    fn is_counted(&self, name: MapName) -> bool {
        let found = self.observed.shapes.get(&name).copied();
        let desired = || self.desired.maps.get(&name).map(|map| map_shape(name, map.len()));
        let shape = found.or_else(desired);
        shape.is_some_and(|shape| shape.counted)
    }

    /// Deletions, then additions, over all chains.
    fn rule_steps(&self, same: fn(&Rule, &Rule) -> bool) -> (Vec<Step>, Vec<Step>) {
        let (mut delete, mut add) = (Vec::new(), Vec::new());
        let observed = &self.observed.ruleset.chains;
        let chains: BTreeSet<_> = self.desired.chains.keys().chain(observed.keys()).collect();
        for chain in chains {
            let want = self.desired.chains.get(chain).map(Vec::as_slice).unwrap_or_default();
            let have = observed.get(chain).map(Vec::as_slice).unwrap_or_default();
            let handles = self.observed.handles.get(chain).map(Vec::as_slice).unwrap_or_default();
            let same = |w: &Rule, h: &Rule| same(w, h) && !self.old.grows_rule(*chain, w);
            for edit in rules::edits(want, have, &same) {
                match edit {
                    rules::Edit::Delete(i) => {
                        delete.push(Step::DeleteRule { chain: *chain, handle: handles[i] });
                    }
                    rules::Edit::Insert { rule, before } => add.push(Step::AddRule {
                        chain: *chain,
                        before: before.map(|i| handles[i]),
                        rule: rule.clone(),
                        counter: self.old.rule(*chain, rule),
                    }),
                }
            }
        }
        (delete, add)
    }
}

/// Compares two lists sorted by `key`: what only `have` has and what only `want` has. An element
/// that differs is in both.
fn differing<'a, T, K: Ord>(
    want: &'a [T],
    have: &'a [T],
    key: impl Fn(&T) -> K,
    same: impl Fn(&T, &T) -> bool,
) -> (Vec<&'a T>, Vec<&'a T>) {
    let (mut gone, mut new) = (Vec::new(), Vec::new());
    for side in merge(want, have, |w| key(w), |h| key(h)) {
        if !matches!(side, Side::Both(w, h) if same(w, h)) {
            new.extend(side.left());
            gone.extend(side.right());
        }
    }
    (gone, new)
}
