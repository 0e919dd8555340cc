//! Who may answer, and who may not come in directly: the sets and the filter chains.

use std::collections::{BTreeMap, BTreeSet};

use super::{Answer, ChainName, Check, CheckRule, Layer, Map, MapName, Rule, Ruleset};
use crate::mapping::{Direct, Mapping, MappingSet, Service, Target, User};

/// Puts the sets of both layers into the table, and the chains that look into them.
pub(super) fn lay(ruleset: &mut Ruleset, mapping: &MappingSet, trial: Option<&MappingSet>) {
    lay_sets(ruleset, Layer::Active, mapping);
    if let Some(trial) = trial {
        lay_sets(ruleset, Layer::Trial, trial);
        guard_after(ruleset, mapping, trial);
    }
    for check in Check::ALL {
        lay_chains(ruleset, check, trial.is_some());
    }
}

fn lay_sets(ruleset: &mut Ruleset, layer: Layer, mapping: &MappingSet) {
    let mut served = BTreeMap::new();
    let mut hidden = BTreeSet::new();
    for m in mapping {
        if let Some(user) = &m.user {
            served.entry((m.service, m.to)).or_insert(user);
        }
        if m.direct == Direct::Refuse {
            hidden.insert(target(m));
        }
    }
    if !served.is_empty() {
        let answer = |(&(service, to), user)| Answer { service, to, user };
        let guarded = served.keys().map(|pair| answer((pair, None))).collect();
        let served = served.iter().map(|(pair, user)| answer((pair, Some((*user).clone()))));
        ruleset.maps.insert(MapName::Served(layer), Map::Answers(served.collect()));
        ruleset.maps.insert(MapName::Guarded(layer), Map::Answers(guarded));
    }
    if !hidden.is_empty() {
        let hidden = Map::Services(hidden.into_iter().collect());
        ruleset.maps.insert(MapName::Hidden(layer), hidden);
    }
}

/// The target, as others would use it directly.
fn target(m: &Mapping) -> Service {
    Service { port: m.to.port(), ..m.service }
}

/// A flow that began on trial outlives it: whoever is at the trial's target could go on answering,
/// unasked, in the name of a service that has a user. So the first layer guards those targets too,
/// and serves nobody there.
fn guard_after(ruleset: &mut Ruleset, mapping: &MappingSet, trial: &MappingSet) {
    let Some(Map::Answers(guarded)) = ruleset.maps.get_mut(&MapName::Guarded(Layer::Active)) else {
        return;
    };
    for m in trial {
        let own = mapping.of(m.service);
        let has_user = own.iter().any(|own| own.user.is_some());
        if has_user && own.iter().all(|own| own.to != m.to) {
            guarded.push(Answer { service: m.service, to: m.to, user: None });
        }
    }
    guarded.sort();
    guarded.dedup();
}

/// The chain of a check, if either layer has anything for it.
pub(super) fn lay_chains(ruleset: &mut Ruleset, check: Check, has_trial: bool) {
    let needs = |layer| ruleset.maps.contains_key(&check.set(layer));
    let (active, trial) = (needs(Layer::Active), needs(Layer::Trial));
    if !active && !trial {
        return;
    }
    let base = ChainName::Check(Layer::Active, check);
    let mut rules = check.passes().iter().copied().map(Rule::Check).collect::<Vec<_>>();
    if has_trial {
        rules.push(Rule::Gate(base.on_trial()));
        let rules = if trial { check.rules(Layer::Trial) } else { Vec::new() };
        ruleset.chains.insert(base.on_trial(), rules);
    }
    if active {
        rules.extend(check.rules(Layer::Active));
    }
    ruleset.chains.insert(base, rules);
}

impl Check {
    /// The set that a mapping brings elements to, if it needs the check.
    const fn set(self, layer: Layer) -> MapName {
        match self {
            Check::Answers => MapName::Served(layer),
            Check::Direct => MapName::Hidden(layer),
        }
    }

    /// The rules that let go what the check is not about; those that are true of most packets come
    /// first.
    fn passes(self) -> &'static [CheckRule] {
        match self {
            Check::Answers => {
                &[CheckRule::OnlyTranslated, CheckRule::OnlyReplies, CheckRule::OnlySynAck]
            }
            Check::Direct => &[CheckRule::OnlyOutside, CheckRule::OnlyDirect],
        }
    }

    /// The rules that look into the sets of a layer.
    fn rules(self, layer: Layer) -> Vec<Rule> {
        let rules = match self {
            Check::Answers => vec![CheckRule::Answers(layer)],
            Check::Direct => vec![CheckRule::RefuseTcp(layer), CheckRule::RefuseOther(layer)],
        };
        rules.into_iter().map(Rule::Check).collect()
    }
}

impl CheckRule {
    /// The sets that it looks into.
    pub fn sets(self) -> Vec<MapName> {
        match self {
            CheckRule::Answers(layer) => vec![MapName::Served(layer), MapName::Guarded(layer)],
            CheckRule::RefuseTcp(layer) | CheckRule::RefuseOther(layer) => {
                vec![MapName::Hidden(layer)]
            }
            CheckRule::OnlyTranslated
            | CheckRule::OnlyReplies
            | CheckRule::OnlySynAck
            | CheckRule::OnlyOutside
            | CheckRule::OnlyDirect => Vec::new(),
        }
    }
}

/// What the sets of a layer say of its mappings.
pub(super) struct Checks<'r> {
    users: BTreeMap<(Service, Target), &'r User>,
    hidden: &'r [Service],
}

impl<'r> Checks<'r> {
    pub(super) fn of(ruleset: &'r Ruleset, layer: Layer) -> Self {
        let users = match ruleset.maps.get(&MapName::Served(layer)) {
            Some(Map::Answers(answers)) => answers
                .iter()
                .filter_map(|answer| Some(((answer.service, answer.to), answer.user.as_ref()?)))
                .collect(),
            _ => BTreeMap::new(),
        };
        let hidden: &[Service] = match ruleset.maps.get(&MapName::Hidden(layer)) {
            Some(Map::Services(services)) => services,
            _ => &[],
        };
        Self { users, hidden }
    }

    /// The mapping with what the sets say of it.
    pub(super) fn complete(&self, m: Mapping) -> Mapping {
        let user = self.users.get(&(m.service, m.to)).map(|user| (*user).clone());
        let direct = match self.hidden.binary_search(&target(&m)) {
            Ok(_) => Direct::Refuse,
            Err(_) => Direct::Allow,
        };
        Mapping { user, direct, ..m }
    }
}
