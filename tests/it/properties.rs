//! What holds for every mapping, and for every change from one to another; without a kernel.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use portmap::mapping::changes::{Change, changes};
use portmap::mapping::words::{fold, fold_changes};
use portmap::mapping::{Digest, Direct, Family, Mapping, MappingSet, Port, Scope, Service, Target};
use portmap::plan::{Step, plan, reason_to_rebuild, restamp};
use portmap::ruleset::{
    Answer, ChainName, Check, Counter, Hook, Layer, Map, MapName, MapShape, Observed, PortData,
    Rule, Ruleset, Stamp, Trial, desired, map_shape,
};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::support::arbitrary::{mapping_sets, neighbours, ports, services};
use crate::support::model::{Model, observe};

/// What is wanted: a mapping, perhaps another on trial, a stamp.
#[derive(Clone, Debug)]
struct Wanted {
    mapping: MappingSet,
    trial: Option<(MappingSet, Duration)>,
    stamp: Option<Stamp>,
}

impl Wanted {
    /// `None`: no table at all.
    fn ruleset(&self) -> Option<Ruleset> {
        let trial =
            self.trial.as_ref().map(|(mapping, time)| Trial { mapping, time: *time, zone: true });
        (!self.mapping.is_empty() || trial.is_some())
            .then(|| desired(&self.mapping, trial, self.stamp))
    }
}

fn stamps() -> impl Strategy<Value = Stamp> {
    (any::<u64>(), any::<u32>(), any::<Option<[u8; 3]>>()).prop_map(
        |(generation, ruleset, input)| {
            let input = input.map(|input| Digest::of([&input[..]]));
            Stamp { generation: portmap::mapping::GenerationId::new(generation), ruleset, input }
        },
    )
}

/// Two that have much in common, as what is and what is to be mostly do.
fn pairs() -> impl Strategy<Value = (Wanted, Wanted)> {
    let times = || prop::option::weighted(0.4, (1..100u64).prop_map(Duration::from_secs));
    let stamps = || prop::option::of(stamps());
    (neighbours(4), times(), times(), stamps(), stamps(), 0..3u8).prop_map(
        |(sets, before, after, stamp, new_stamp, confirmed)| {
            let [a, b, c, d] = <[MappingSet; 4]>::try_from(sets).expect("4");
            let trial = before.map(|time| (b.clone(), time));
            let before = Wanted { mapping: a.clone(), trial, stamp };
            let mapping = match confirmed {
                // As confirm does, as rollback does, and anything else.
                0 => b,
                1 => a,
                _ => c,
            };
            let trial = after.map(|time| (d, time));
            (before, Wanted { mapping, trial, stamp: new_stamp })
        },
    )
}

/// How a table that was once as wanted may be found.
#[derive(Clone, Debug)]
struct Fate {
    /// Connections of each counter, as often as there are any.
    counts: Vec<u8>,
    /// Seconds left of a trial.
    left: u64,
    foreign: Vec<String>,
    /// Maps that are as large as they have elements.
    tight: bool,
    uncounted: bool,
    /// Made by a build that translated with `redirect`, and every packet.
    earlier: bool,
    /// What somebody did to objects that look like ours.
    tampering: Vec<Tampering>,
}

#[derive(Clone, Debug)]
enum Tampering {
    DropElement(Index),
    Redirect(Index, Port),
    DropRule(Index),
    SwapRules(Index),
    AddChain(Layer, Service),
    AddMap(Layer, Scope, Family, Service, Port),
}

fn fates() -> impl Strategy<Value = Fate> {
    (
        prop::collection::vec(0..4u8, 1..20),
        0..100u64,
        prop_oneof![4 => Just(vec![]), 1 => Just(vec!["chain strange".to_owned()])],
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(counts, left, foreign, tight, uncounted, earlier)| Fate {
            counts,
            left,
            foreign,
            tight,
            uncounted,
            earlier,
            tampering: Vec::new(),
        })
}

fn tampering() -> impl Strategy<Value = Tampering> {
    let index = any::<Index>;
    let layer = || select(&[Layer::Active, Layer::Trial][..]);
    prop_oneof![
        index().prop_map(Tampering::DropElement),
        (index(), ports()).prop_map(|(index, port)| Tampering::Redirect(index, port)),
        index().prop_map(Tampering::DropRule),
        index().prop_map(Tampering::SwapRules),
        (layer(), services()).prop_map(|(layer, service)| Tampering::AddChain(layer, service)),
        (layer(), select(&Scope::ALL), select(&Family::ALL), services(), ports()).prop_map(
            |(layer, scope, family, s, to)| Tampering::AddMap(layer, scope, family, s, to)
        ),
    ]
}

impl Tampering {
    fn with(&self, ruleset: &mut Ruleset) {
        match self {
            Tampering::DropElement(index) | Tampering::Redirect(index, _) => {
                let maps = ruleset.maps.values_mut().filter(|map| !map.is_empty());
                let maps: Vec<_> = maps.collect();
                if maps.is_empty() {
                    return;
                }
                let at = index.index(maps.len());
                match (self, maps.into_iter().nth(at).expect("within")) {
                    (Tampering::Redirect(_, to), Map::Ports(elements)) => {
                        let at = index.index(elements.len());
                        elements[at].1.to = Target::new(*to);
                    }
                    (_, Map::Ports(elements)) => _ = elements.remove(index.index(elements.len())),
                    (_, Map::Selected(list) | Map::Services(list)) => {
                        _ = list.remove(index.index(list.len()))
                    }
                    (_, Map::Answers(list)) => _ = list.remove(index.index(list.len())),
                }
            }
            Tampering::DropRule(index) | Tampering::SwapRules(index) => {
                let chains = ruleset.chains.values_mut().filter(|rules| !rules.is_empty());
                let chains: Vec<_> = chains.collect();
                if chains.is_empty() {
                    return;
                }
                let at = index.index(chains.len());
                let rules = chains.into_iter().nth(at).expect("within");
                let at = index.index(rules.len());
                if matches!(self, Tampering::DropRule(_)) {
                    rules.remove(at);
                } else {
                    rules.swap(0, at);
                }
            }
            Tampering::AddChain(layer, service) => {
                ruleset.chains.entry(ChainName::Service(*layer, *service)).or_default();
            }
            Tampering::AddMap(layer, scope, family, service, to) => {
                let elements = vec![(*service, PortData { to: Target::new(*to), comment: None })];
                let name = MapName::Ports(*layer, *scope, *family);
                ruleset.maps.entry(name).or_insert(Map::Ports(elements));
            }
        }
    }
}

/// The table as earlier builds made it.
fn make_earlier(ruleset: &mut Ruleset) {
    ruleset.maps.remove(&MapName::Zoned);
    ruleset.chains.retain(|name, _| !matches!(name, ChainName::Zone(_)));
    for rules in ruleset.chains.values_mut() {
        rules.retain(|rule| *rule != Rule::OnlyNewTcp);
        for rule in rules {
            if matches!(rule, Rule::Lookup(_) | Rule::Select(_)) {
                *rule = Rule::Redirect(Box::new(rule.clone()));
            }
        }
    }
}

impl Fate {
    fn of(&self, mut ruleset: Ruleset) -> Observed {
        if let Some(gate) = &mut ruleset.gate {
            gate.left = gate.timeout.min(Duration::from_secs(self.left));
        }
        for tampering in &self.tampering {
            tampering.with(&mut ruleset);
        }
        if self.earlier {
            make_earlier(&mut ruleset);
        }
        let mut observed = observe(&ruleset, |name, map| {
            let usual = map_shape(name, map.len());
            let size = if self.tight { map.len().max(1) as u32 } else { usual.size };
            let counted = !self.uncounted && name.counts();
            MapShape { size, counted }
        });
        let mut counts = self.counts.iter().cycle().map(|n| {
            let packets = u64::from(*n);
            Counter { packets, bytes: 60 * packets }
        });
        let mut next = || counts.next().expect("endless");
        for (name, map) in &ruleset.maps {
            if !observed.shapes[name].counted {
                continue;
            }
            let services: Vec<_> = match map {
                Map::Ports(elements) => elements.iter().map(|(service, _)| *service).collect(),
                Map::Services(services) => services.clone(),
                Map::Answers(answers) => {
                    let key = |a: &Answer| (name.layer(), a.service, a.to);
                    let counted = answers.iter().map(|answer| (key(answer), next()));
                    let counted = counted.filter(|(_, counter)| counter.packets > 0);
                    observed.counters.dropped.extend(counted);
                    continue;
                }
                Map::Selected(_) => continue,
            };
            let counted = services.into_iter().map(|service| ((*name, service), next()));
            let counted = counted.filter(|(_, counter)| counter.packets > 0);
            observed.counters.elements.extend(counted);
        }
        for (name, rules) in &ruleset.chains {
            let counting = |r: &Rule| matches!(r.modern(), Rule::Select(_));
            for (i, _) in rules.iter().enumerate().filter(|(_, r)| counting(r)) {
                let counter = next();
                if counter.packets > 0 {
                    observed.counters.rules.insert((*name, i), counter);
                }
            }
        }
        observed.foreign.clone_from(&self.foreign);
        observed
    }
}

/// The plan, done to the model; fails where a step is refused.
fn done(steps: &[Step], observed: Option<&Observed>) -> Result<Option<Observed>, TestCaseError> {
    let mut model = Model::new(observed);
    model.commit(steps).map_err(|why| TestCaseError::fail(format!("{why}\n{}", text(steps))))?;
    Ok(model.observed())
}

fn text(steps: &[Step]) -> String {
    steps.iter().map(|step| format!("{step}\n")).collect()
}

/// What is there after the plan is what was wanted, and then there is nothing more to do.
fn leads_there(wanted: &Wanted, observed: Option<&Observed>) -> Result<(), TestCaseError> {
    let wanted = wanted.ruleset();
    let steps = plan(wanted.as_ref(), observed);
    let after = done(&steps, observed)?;

    let mut found = after.as_ref().map(|after| after.ruleset.clone());
    if let Some(found) = &mut found {
        if let (Some(gate), Some(wanted)) = (&mut found.gate, wanted.as_ref().and_then(|w| w.gate))
        {
            // One that is open for that time already is not wound up again.
            prop_assert!(!gate.left.is_zero());
            gate.left = wanted.left;
        }
        if steps.is_empty() {
            *found = with_stamp_of(found, wanted.as_ref());
        }
    }
    prop_assert_eq!(&found, &wanted, "{}", text(&steps));
    prop_assert_eq!(after.iter().flat_map(|after| &after.foreign).count(), 0);
    let more = plan(wanted.as_ref(), after.as_ref());
    prop_assert!(more.is_empty(), "still to do: {}", text(&more));
    Ok(())
}

fn with_stamp_of(found: &Ruleset, wanted: Option<&Ruleset>) -> Ruleset {
    let mut found = found.clone();
    let stamp = wanted.and_then(Ruleset::stamp);
    for rule in found.chains.values_mut().flatten() {
        if let Rule::ForThisHost(slot) = rule {
            *slot = slot.and(stamp);
        }
    }
    let hook = ChainName::Hook(Layer::Active, Hook::Prerouting);
    if let Some(Rule::ForThisHost(slot)) = found.chains.get_mut(&hook).and_then(|r| r.first_mut()) {
        *slot = stamp;
    }
    found
}

/// The counters of one layer, by what they count; zeroes too.
fn counters(observed: &Observed, layer: Layer) -> BTreeMap<Mapping, Counter> {
    let mut counters = BTreeMap::new();
    for m in &observed.ruleset.mapping(layer) {
        let map = MapName::Ports(layer, m.selector.scope(), m.selector.family());
        let chain = ChainName::Service(layer, m.service);
        let counter = match observed.ruleset.chains.get(&chain) {
            Some(rules) => {
                // Sets of their own know who may answer.
                let m = Mapping { user: None, direct: Direct::Allow, ..m.clone() };
                let same = |r: &Rule| matches!(r.modern(), Rule::Select(other) if **other == m);
                let at = rules.iter().position(same).expect("of the mapping");
                observed.counters.rules.get(&(chain, at)).copied()
            }
            None if observed.shapes[&map].counted => {
                observed.counters.elements.get(&(map, m.service)).copied()
            }
            None => continue,
        };
        // What a mapping is called, and who may answer, does not change what it counts.
        let unnamed = Mapping { comment: None, user: None, direct: Direct::Allow, ..m.clone() };
        counters.insert(unnamed, counter.unwrap_or_default());
    }
    counters
}

/// What one layer has stopped: answers to a service from a target, attempts to use a target
/// directly; zeroes too.
fn stopped(observed: &Observed, layer: Layer) -> BTreeMap<(Service, Option<Target>), Counter> {
    let is_counted = |name: MapName| observed.shapes.get(&name).is_some_and(|shape| shape.counted);
    let mut stopped = BTreeMap::new();
    let (guarded, hidden) = (MapName::Guarded(layer), MapName::Hidden(layer));
    let maps = observed.ruleset.maps.iter().filter(|(name, _)| is_counted(**name));
    for (name, map) in maps {
        match map {
            Map::Answers(answers) if *name == guarded => stopped.extend(answers.iter().map(|a| {
                let counter = observed.counters.dropped.get(&(layer, a.service, a.to));
                ((a.service, Some(a.to)), counter.copied().unwrap_or_default())
            })),
            Map::Services(targets) if *name == hidden => stopped.extend(targets.iter().map(|t| {
                let counter = observed.counters.elements.get(&(hidden, *t));
                ((*t, None), counter.copied().unwrap_or_default())
            })),
            _ => {}
        }
    }
    stopped
}

/// The elements that two tables have in common, by map.
fn common_elements(a: &Ruleset, b: &Ruleset) -> Vec<(MapName, Service)> {
    let mut common = Vec::new();
    for (name, map) in &a.maps {
        match (map, b.maps.get(name)) {
            (Map::Ports(a), Some(Map::Ports(b))) => {
                common.extend(a.iter().filter(|e| b.contains(e)).map(|(s, _)| (*name, *s)));
            }
            (Map::Selected(a), Some(Map::Selected(b)))
            | (Map::Services(a), Some(Map::Services(b))) => {
                common.extend(a.iter().filter(|s| b.contains(s)).map(|s| (*name, *s)));
            }
            _ => {}
        }
    }
    common
}

/// The elements that a step makes or removes.
fn elements(step: &Step) -> Vec<(MapName, Service)> {
    match step {
        Step::AddPorts { map, elements } => elements.iter().map(|(s, ..)| (*map, *s)).collect(),
        Step::AddServices { map, services } => services.iter().map(|(s, _)| (*map, *s)).collect(),
        Step::DeleteElements { map, services } => services.iter().map(|s| (*map, *s)).collect(),
        _ => Vec::new(),
    }
}

/// The length of a longest common subsequence, the slow and certain way round.
fn in_common(a: &[Rule], b: &[Rule]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if x.same_effect(y) { diagonal + 1 } else { above.max(row[j]) };
            diagonal = above;
        }
    }
    row[b.len()]
}

fn round_trips<T: FromStr + ToString + PartialEq + std::fmt::Debug>(value: &T) {
    let text = value.to_string();
    assert_eq!(text.parse().ok().as_ref(), Some(value), "{text}");
}

proptest! {
    #[test]
    fn a_mapping_is_read_back_from_its_table(set in mapping_sets(), other in mapping_sets()) {
        let table = desired(&set, None, None);
        prop_assert_eq!(table.mapping(Layer::Active), set.clone());
        prop_assert_eq!(table.mapping(Layer::Trial), MappingSet::default());
        let trial = Trial { mapping: &other, time: Duration::from_secs(9), zone: true };
        let table = desired(&set, Some(trial), None);
        prop_assert_eq!(table.mapping(Layer::Active), set);
        prop_assert_eq!(table.mapping(Layer::Trial), other);
    }

    #[test]
    fn a_stamp_is_read_back_from_its_text_and_its_table(set in mapping_sets(), stamp in stamps()) {
        round_trips(&stamp);
        prop_assert_eq!(desired(&set, None, Some(stamp)).stamp(), Some(stamp));
    }

    #[test]
    fn the_name_of_a_chain_is_read_back(service in services()) {
        for layer in [Layer::Active, Layer::Trial] {
            round_trips(&ChainName::Service(layer, service));
        }
    }

    #[test]
    fn a_name_that_is_read_is_written_the_same(
        name in "(trial-){0,2}(tcp|udp|sctp|icmp|ports|local|external|selected|output|prerouting)(-[0-9]{1,6}|-ipv[46]|-80 |-\\+80){0,2}"
    ) {
        if let Ok(chain) = name.parse::<ChainName>() {
            prop_assert_eq!(chain.to_string(), name.clone());
        }
        if let Ok(map) = name.parse::<MapName>() {
            prop_assert_eq!(map.to_string(), name);
        }
    }

    #[test]
    fn a_plan_leads_there_from_nothing((before, after) in pairs()) {
        leads_there(&before, None)?;
        leads_there(&after, None)?;
    }

    #[test]
    fn a_plan_leads_there_from_any_table_of_ours((before, after) in pairs(), fate in fates()) {
        leads_there(&after, before.ruleset().map(|before| fate.of(before)).as_ref())?;
    }

    #[test]
    fn a_plan_leads_there_from_a_table_that_was_tampered_with(
        (before, after) in pairs(),
        fate in fates(),
        tampering in prop::collection::vec(tampering(), 1..5),
    ) {
        let fate = Fate { tampering, ..fate };
        let before = desired(&before.mapping, None, before.stamp);
        leads_there(&after, Some(&fate.of(before)))?;
    }

    #[test]
    fn what_does_not_change_is_not_touched((before, after) in pairs(), fate in fates()) {
        let (Some(before), Some(after)) = (before.ruleset(), after.ruleset()) else {
            return Ok(());
        };
        // With the end of a trial its counts join those of what stays, which is then made anew.
        let joins = before.gate.is_some() && after.gate.is_none();
        let fate = if joins { Fate { counts: vec![0], ..fate } } else { fate };
        let fate = Fate { earlier: false, ..fate };
        let observed = fate.of(before.clone());
        if reason_to_rebuild(&after, &observed).is_some() {
            return Ok(());
        }
        let steps = plan(Some(&after), Some(&observed));
        prop_assert!(!steps.iter().any(|s| matches!(s, Step::DeleteTable | Step::AddTable)));
        let touched: Vec<_> = steps.iter().flat_map(elements).collect();
        for kept in common_elements(&before, &after) {
            prop_assert!(!touched.contains(&kept), "{} of {}\n{}", kept.1, kept.0, text(&steps));
        }
        let none = Vec::new();
        let prerouting = ChainName::Hook(Layer::Active, Hook::Prerouting);
        for chain in before.chains.keys().chain(after.chains.keys()) {
            let (have, want) =
                (before.chains.get(chain).unwrap_or(&none), after.chains.get(chain).unwrap_or(&none));
            let least = have.len() + want.len() - 2 * in_common(have, want);
            let stamp = if *chain == prerouting && !steps.is_empty() { 2 } else { 0 };
            let edits = steps.iter().filter(|step| matches!(step,
                Step::AddRule { chain: of, .. } | Step::DeleteRule { chain: of, .. } if of == chain));
            let edits = edits.count();
            prop_assert!(edits <= least + stamp, "{chain}: {edits}, not {least}\n{}", text(&steps));
        }
    }

    #[test]
    fn counters_stay_with_their_mappings((before, after) in pairs(), fate in fates()) {
        let (Some(before), Some(after)) = (before.ruleset(), after.ruleset()) else {
            return Ok(());
        };
        let observed = fate.of(before);
        let steps = plan(Some(&after), Some(&observed));
        let done = done(&steps, Some(&observed))?.expect("a table");
        let (active, trial) =
            (counters(&observed, Layer::Active), counters(&observed, Layer::Trial));
        let expected = |was: Option<&Counter>, tried: Option<&Counter>| {
            let (was, tried) = (was.copied().unwrap_or_default(), tried.copied().unwrap_or_default());
            match after.gate {
                Some(_) => was,
                None => Counter { packets: was.packets + tried.packets, bytes: was.bytes + tried.bytes },
            }
        };
        for (mapping, counter) in counters(&done, Layer::Active) {
            let expected = expected(active.get(&mapping), trial.get(&mapping));
            prop_assert_eq!(counter, expected, "{:?}\n{}", mapping, text(&steps));
        }
        let (active, trial) = (stopped(&observed, Layer::Active), stopped(&observed, Layer::Trial));
        for (what, counter) in stopped(&done, Layer::Active) {
            let expected = expected(active.get(&what), trial.get(&what));
            prop_assert_eq!(counter, expected, "{:?}\n{}", what, text(&steps));
        }
    }

    #[test]
    fn the_changes_turn_one_mapping_into_the_other(sets in neighbours(2)) {
        let [before, after] = &sets[..] else { unreachable!("2") };
        let changes = changes(before, after);
        // Even if nothing differs but the order in which mappings are tried.
        for service in before.iter().chain(after).map(|m| m.service) {
            let differs = before.of(service) != after.of(service);
            let reported = changes.iter().any(|change| change.mapping().service == service);
            prop_assert_eq!(reported, differs, "{}", service);
        }
        let mut all: Vec<_> = before.iter().collect();
        for gone in changes.iter().filter_map(Change::before) {
            let at = all.iter().position(|m| *m == gone);
            all.remove(at.expect("it was there"));
        }
        all.extend(changes.iter().filter_map(Change::after));
        let mut expected: Vec<_> = after.iter().collect();
        all.sort();
        expected.sort();
        prop_assert_eq!(all, expected);
        // A line for each run of changes: none is lost, and none is there twice.
        let lines = fold_changes(&changes).len();
        prop_assert!(lines <= changes.len() && (lines == 0) == changes.is_empty());
    }

    #[test]
    fn runs_hold_everything_in_order(set in mapping_sets()) {
        let mappings: Vec<_> = set.iter().collect();
        let runs = fold(&mappings, |m| m, |_, _| true);
        let parts: Vec<_> = runs.iter().flat_map(|(_, part)| part.iter().copied()).collect();
        prop_assert_eq!(&parts, &mappings);
        for (run, part) in &runs {
            prop_assert_eq!((run.first, run.last), (part[0], part[part.len() - 1]));
            let width = part.len() as u16 - 1;
            prop_assert_eq!(run.last.service.port.get() - run.first.service.port.get(), width);
            prop_assert_eq!(run.last.to.port().get() - run.first.to.port().get(), width);
        }
    }

    #[test]
    fn a_new_stamp_changes_nothing_else((wanted, _) in pairs(), fate in fates(), stamp in stamps()) {
        let Some(before) = wanted.ruleset() else { return Ok(()) };
        let observed = Fate { foreign: Vec::new(), earlier: false, ..fate }.of(before);
        let after = Wanted { stamp: Some(stamp), ..wanted }.ruleset().expect("as before");
        let steps = restamp(Some(&after), Some(&observed));
        prop_assert!(steps.len() <= 2, "{}", text(&steps));
        let done = done(&steps, Some(&observed))?.expect("a table");
        prop_assert_eq!(done.ruleset.stamp(), Some(stamp));
        prop_assert_eq!(done.ruleset, with_stamp_of(&observed.ruleset, Some(&after)));
        prop_assert_eq!(done.counters, observed.counters);
    }
}

#[test]
fn the_names_of_our_maps_and_chains_are_read_back() {
    round_trips(&MapName::Zoned);
    for layer in [Layer::Active, Layer::Trial] {
        for name in [MapName::Selected, MapName::Served, MapName::Guarded, MapName::Hidden] {
            round_trips(&name(layer));
        }
        for check in Check::ALL {
            round_trips(&ChainName::Check(layer, check));
        }
        for hook in Hook::ALL {
            round_trips(&ChainName::Hook(layer, hook));
            round_trips(&ChainName::Zone(hook));
        }
        for scope in Scope::ALL {
            for family in Family::ALL {
                round_trips(&MapName::Ports(layer, scope, family));
            }
        }
    }
}

/// As many plain tcp mappings from port 1 on.
fn many(n: u16) -> MappingSet {
    let port = |n| Port::new(n).expect("not 0");
    let mapping = |n| {
        let service = Service { protocol: portmap::mapping::Protocol::Tcp, port: port(n) };
        Mapping::new(service, Target::new(port(65535)))
    };
    MappingSet::new((1..=n).map(mapping).collect())
}

#[test]
fn a_map_that_grows_too_large_to_count_and_shrinks_again() -> Result<(), TestCaseError> {
    let wanted = |n| Wanted { mapping: many(n), trial: None, stamp: None };
    let fate = Fate {
        counts: vec![1],
        left: 0,
        foreign: Vec::new(),
        tight: true,
        uncounted: false,
        earlier: false,
        tampering: Vec::new(),
    };
    for (before, after) in [(10, 5000), (4096, 4097), (5000, 10), (4097, 4096), (100, 101)] {
        let table = wanted(before).ruleset().expect("not empty");
        let fate = Fate { uncounted: before > 4096, ..fate.clone() };
        leads_there(&wanted(after), Some(&fate.of(table)))?;
    }
    Ok(())
}
