//! Our table as the kernel keeps it, and what the kernel does to a step: no more, and as strict.
//! Strict beyond the kernel where a plan has no reason to be lax: nothing is made that is there.

use std::collections::BTreeMap;
use std::time::Duration;

use portmap::mapping::{Service, Target, Uid};
use portmap::plan::Step;
use portmap::ruleset::{
    Answer, ChainName, Counter, Counters, Gate, Map, MapName, MapShape, Observed, PortData, Rule,
    Ruleset,
};

/// A network namespace, as far as it concerns us.
#[derive(Clone, Debug, Default)]
pub struct Model {
    table: Option<Table>,
    handles: u64,
}

#[derive(Clone, Debug, Default)]
struct Table {
    maps: BTreeMap<MapName, ModelMap>,
    gate: Option<Gate>,
    chains: BTreeMap<ChainName, Vec<(u64, Rule, Counter)>>,
    foreign: Vec<String>,
}

#[derive(Clone, Debug)]
struct ModelMap {
    shape: MapShape,
    elements: BTreeMap<Service, (PortData, Counter)>,
    /// Of a map to chains, or of a set.
    services: BTreeMap<Service, Counter>,
    answers: BTreeMap<(Service, Target, Option<Uid>), (Answer, Counter)>,
}

impl ModelMap {
    fn empty(shape: MapShape) -> Self {
        let (elements, services, answers) = Default::default();
        Self { shape, elements, services, answers }
    }
}

type Refused = Result<(), String>;

fn must(condition: bool, why: &str) -> Refused {
    if condition { Ok(()) } else { Err(why.to_owned()) }
}

const NO_TABLE: &str = "there is no table";
const NO_MAP: &str = "there is no such map";
const NO_CHAIN: &str = "there is no such chain";
const NO_GATE: &str = "there is no such set";
const FULL: &str = "the map is full";

impl Model {
    pub fn new(observed: Option<&Observed>) -> Self {
        let mut model = Self { table: None, handles: 1000 };
        let Some(observed) = observed else { return model };
        let highest = observed.handles.values().flatten().max().copied();
        model.handles = highest.map_or(1000, |highest| highest.max(1000));
        let mut table = Table {
            gate: observed.ruleset.gate,
            foreign: observed.foreign.clone(),
            ..Table::default()
        };
        for (&name, map) in &observed.ruleset.maps {
            let counter = |service| observed.counters.elements.get(&(name, service)).copied();
            let mut made = ModelMap::empty(observed.shapes[&name]);
            match map {
                Map::Ports(elements) => {
                    let elements = elements.iter().cloned();
                    let counted = |(service, target)| {
                        (service, (target, counter(service).unwrap_or_default()))
                    };
                    made.elements = elements.map(counted).collect();
                }
                Map::Selected(services) | Map::Services(services) => {
                    let counted = |service| (service, counter(service).unwrap_or_default());
                    made.services = services.iter().copied().map(counted).collect();
                }
                Map::Answers(answers) => {
                    let dropped = &observed.counters.dropped;
                    let counted = |a: &Answer| {
                        let counter = dropped.get(&(name.layer(), a.service, a.to)).copied();
                        let counter = counter.filter(|_| a.user.is_none());
                        (a.key(), (a.clone(), counter.unwrap_or_default()))
                    };
                    made.answers = answers.iter().map(counted).collect();
                }
            }
            table.maps.insert(name, made);
        }
        for (&name, rules) in &observed.ruleset.chains {
            let handles = &observed.handles[&name];
            assert_eq!(handles.len(), rules.len());
            let rules = rules.iter().zip(handles).enumerate().map(|(i, (rule, handle))| {
                let counter = observed.counters.rules.get(&(name, i)).copied();
                (*handle, rule.clone(), counter.unwrap_or_default())
            });
            table.chains.insert(name, rules.collect());
        }
        model.table = Some(table);
        model
    }

    /// What a snapshot shows.
    pub fn observed(&self) -> Option<Observed> {
        let table = self.table.as_ref()?;
        let mut observed = Observed { foreign: table.foreign.clone(), ..Observed::default() };
        observed.ruleset.gate = table.gate;
        for (&name, map) in &table.maps {
            let content = match name {
                MapName::Ports(..) => {
                    Map::Ports(map.elements.iter().map(|(s, (t, _))| (*s, t.clone())).collect())
                }
                MapName::Selected(_) => Map::Selected(map.services.keys().copied().collect()),
                MapName::Zoned | MapName::Hidden(_) => {
                    Map::Services(map.services.keys().copied().collect())
                }
                MapName::Served(_) | MapName::Guarded(_) => {
                    Map::Answers(map.answers.values().map(|(a, _)| a.clone()).collect())
                }
            };
            observed.ruleset.maps.insert(name, content);
            observed.shapes.insert(name, map.shape);
            let ports = map.elements.iter().map(|(service, (_, counter))| (*service, *counter));
            let services = map.services.iter().map(|(service, counter)| (*service, *counter));
            let counted = ports.chain(services).filter(|(_, c)| *c != Counter::default());
            observed.counters.elements.extend(counted.map(|(s, c)| ((name, s), c)));
            let counted = map.answers.values().filter(|(_, c)| *c != Counter::default());
            let counted = counted.map(|(a, c)| ((name.layer(), a.service, a.to), *c));
            observed.counters.dropped.extend(counted);
        }
        for (&name, rules) in &table.chains {
            let handles = rules.iter().map(|(handle, ..)| *handle).collect();
            observed.handles.insert(name, handles);
            let list = rules.iter().map(|(_, rule, _)| rule.clone()).collect();
            observed.ruleset.chains.insert(name, list);
            let counted = rules.iter().enumerate().filter(|(_, (.., c))| *c != Counter::default());
            observed.counters.rules.extend(counted.map(|(i, (.., c))| ((name, i), *c)));
        }
        Some(observed)
    }

    /// Time passes: what has a timeout has less of it left.
    pub fn pass(&mut self, time: Duration) {
        if let Some(gate) = self.table.as_mut().and_then(|table| table.gate.as_mut()) {
            gate.left = gate.left.saturating_sub(time);
        }
    }

    /// Changes the table behind everybody's back, in ways that no step of ours knows.
    pub fn replace(&mut self, table: Option<&Observed>) {
        *self = Self::new(table);
    }

    /// All steps, or none: then which, and why.
    pub fn commit(&mut self, steps: &[Step]) -> Result<(), String> {
        let mut changed = self.clone();
        for step in steps {
            changed.take(step).map_err(|why| format!("{step}: {why}"))?;
        }
        *self = changed;
        Ok(())
    }

    fn take(&mut self, step: &Step) -> Refused {
        match step {
            Step::AddTable => {
                must(self.table.is_none(), "there is a table")?;
                self.table = Some(Table::default());
                return Ok(());
            }
            Step::DeleteTable => return self.table.take().map(drop).ok_or(NO_TABLE.to_owned()),
            _ => {}
        }
        self.handles += 1;
        self.table.as_mut().ok_or(NO_TABLE)?.take(step, self.handles)
    }
}

impl Table {
    fn take(&mut self, step: &Step, next_handle: u64) -> Refused {
        match step {
            Step::AddTable | Step::DeleteTable => unreachable!("not in a table"),
            Step::AddMap { name, shape } => {
                must(!self.maps.contains_key(name), "there is such a map")?;
                let map = ModelMap::empty(*shape);
                self.maps.insert(*name, map);
                Ok(())
            }
            Step::DeleteMap(name) => {
                must(!self.rules().any(|rule| looks_up(rule, *name)), "a rule looks it up")?;
                self.maps.remove(name).map(drop).ok_or(NO_MAP.to_owned())
            }
            Step::AddGate => {
                must(self.gate.is_none(), "there is such a set")?;
                self.gate = Some(Gate { timeout: Duration::ZERO, left: Duration::ZERO });
                Ok(())
            }
            Step::DeleteGate => {
                let used = self.rules().any(|rule| matches!(rule, Rule::Gate(_) | Rule::Zone));
                must(!used, "a rule looks it up")?;
                self.gate.take().map(drop).ok_or(NO_GATE.to_owned())
            }
            Step::OpenGate { timeout } => {
                let gate = self.gate.as_mut().ok_or(NO_GATE)?;
                must(gate.left.is_zero(), "the elements are there, and keep their time")?;
                *gate = Gate { timeout: *timeout, left: *timeout };
                Ok(())
            }
            Step::ShutGate => {
                self.gate.as_mut().ok_or(NO_GATE)?.left = Duration::ZERO;
                Ok(())
            }
            Step::AddChain(name) => {
                must(!self.chains.contains_key(name), "there is such a chain")?;
                self.chains.insert(*name, Vec::new());
                Ok(())
            }
            Step::DeleteChain(name) => {
                let rules = self.chains.get(name).ok_or(NO_CHAIN)?;
                must(rules.is_empty(), "it has rules")?;
                must(!self.rules().any(|rule| leads_to(rule, *name)), "a rule leads to it")?;
                let goes = |(map, content): (&MapName, &ModelMap)| {
                    let chain = |s: &Service| ChainName::Service(map.layer(), *s) == *name;
                    matches!(map, MapName::Selected(_)) && content.services.keys().any(chain)
                };
                must(!self.maps.iter().any(goes), "an element leads to it")?;
                self.chains.remove(name);
                Ok(())
            }
            Step::AddPorts { map: name, elements } => {
                let map = self.maps.get_mut(name).ok_or(NO_MAP)?;
                for (service, target, counter) in elements {
                    must(map.elements.len() < map.shape.size as usize, FULL)?;
                    must(counter.is_none() || map.shape.counted, "the map has no counters")?;
                    let element = (target.clone(), counter.unwrap_or_default());
                    let there = map.elements.insert(*service, element);
                    must(there.is_none(), "there is such an element")?;
                }
                must(!elements.is_empty(), "nothing to do")
            }
            Step::AddServices { map: name, services } => {
                let map = self.maps.get_mut(name).ok_or(NO_MAP)?;
                for (service, counter) in services {
                    if let MapName::Selected(layer) = name {
                        let chain = ChainName::Service(*layer, *service);
                        must(self.chains.contains_key(&chain), NO_CHAIN)?;
                    }
                    must(!matches!(name, MapName::Ports(..)), "a map of ports takes ports")?;
                    must(map.services.len() < map.shape.size as usize, FULL)?;
                    must(counter.is_none() || map.shape.counted, "the set has no counters")?;
                    let there = map.services.insert(*service, counter.unwrap_or_default());
                    must(there.is_none(), "there is such an element")?;
                }
                must(!services.is_empty(), "nothing to do")
            }
            Step::DeleteElements { map: name, services } => {
                let map = self.maps.get_mut(name).ok_or(NO_MAP)?;
                let mut there = services
                    .iter()
                    .map(|s| map.elements.remove(s).is_some() || map.services.remove(s).is_some());
                must(there.all(|there| there), "there is no such element")?;
                must(!services.is_empty(), "nothing to do")
            }
            Step::AddAnswers { map: name, answers } => {
                let map = self.maps.get_mut(name).ok_or(NO_MAP)?;
                let served = matches!(name, MapName::Served(_));
                for (answer, counter) in answers {
                    must(counter.is_none() || map.shape.counted, "the set has no counters")?;
                    must(served == answer.user.is_some(), "it is not the set for that")?;
                    must(map.answers.len() < map.shape.size as usize, FULL)?;
                    let counted = (answer.clone(), counter.unwrap_or_default());
                    let there = map.answers.insert(answer.key(), counted);
                    must(there.is_none(), "there is such an element")?;
                }
                must(!answers.is_empty(), "nothing to do")
            }
            Step::DeleteAnswers { map: name, answers } => {
                let map = self.maps.get_mut(name).ok_or(NO_MAP)?;
                let mut there = answers.iter().map(|a| map.answers.remove(&a.key()).is_some());
                must(there.all(|there| there), "there is no such element")?;
                must(!answers.is_empty(), "nothing to do")
            }
            Step::AddRule { chain, before, rule, counter } => {
                must(self.has_what_is_named(rule), "what it refers to is not there")?;
                let rules = self.chains.get_mut(chain).ok_or(NO_CHAIN)?;
                let at = match before {
                    None => Some(rules.len()),
                    Some(handle) => rules.iter().position(|(h, ..)| h == handle),
                };
                rules.insert(
                    at.ok_or("no rule with that handle")?,
                    (next_handle, rule.clone(), *counter),
                );
                Ok(())
            }
            Step::DeleteRule { chain, handle } => {
                let rules = self.chains.get_mut(chain).ok_or(NO_CHAIN)?;
                let at = rules.iter().position(|(h, ..)| h == handle);
                rules.remove(at.ok_or("no rule with that handle")?);
                Ok(())
            }
        }
    }

    fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.chains.values().flatten().map(|(_, rule, _)| rule)
    }

    fn has_what_is_named(&self, rule: &Rule) -> bool {
        self.maps.keys().filter(|name| looks_up(rule, **name)).count() == lookups(rule)
            && match rule {
                Rule::Gate(chain) => self.gate.is_some() && self.chains.contains_key(chain),
                Rule::Zone => self.gate.is_some(),
                _ => true,
            }
    }
}

/// How many maps and sets a rule names, apart from the gate.
fn lookups(rule: &Rule) -> usize {
    match rule.modern() {
        Rule::Lookup(_) | Rule::Dispatch(_) | Rule::Zone => 1,
        Rule::Check(rule) => rule.sets().len(),
        _ => 0,
    }
}

fn looks_up(rule: &Rule, map: MapName) -> bool {
    match rule.modern() {
        Rule::Lookup(name) => *name == map,
        Rule::Dispatch(layer) => MapName::Selected(*layer) == map,
        Rule::Zone => MapName::Zoned == map,
        Rule::Check(rule) => rule.sets().contains(&map),
        _ => false,
    }
}

fn leads_to(rule: &Rule, chain: ChainName) -> bool {
    matches!(rule, Rule::Gate(to) if *to == chain)
}

/// A table as it was just made, with a handle for every rule.
pub fn observe(ruleset: &Ruleset, shape: impl Fn(MapName, &Map) -> MapShape) -> Observed {
    let mut handles = 1..;
    Observed {
        shapes: ruleset.maps.iter().map(|(name, map)| (*name, shape(*name, map))).collect(),
        handles: ruleset
            .chains
            .iter()
            .map(|(name, rules)| (*name, handles.by_ref().take(rules.len()).collect()))
            .collect(),
        ruleset: ruleset.clone(),
        counters: Counters::default(),
        foreign: Vec::new(),
    }
}
