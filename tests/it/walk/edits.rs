//! Somebody else edits our table: an element, a rule, a chain, the table itself; while a trial runs,
//! that of its layer, or the gate.

use portmap::mapping::{Direct, Mapping, MappingSet, Port, Selector, Service, Target};

use super::Walk;
use super::model::{Damage, Model, Table};
use super::rules::{SERVICES, TARGETS, is_hidden};

/// The rule that asks the map of plain mappings.
const LOOKUP: &str = "dport map @ports ";

/// Whether the service is in the map of plain mappings: for everybody, and to one target.
pub fn is_plain(mapping: &MappingSet, service: Service) -> bool {
    matches!(mapping.of(service), [only] if only.selector == Selector::ANYONE)
}

impl Walk {
    pub fn edit(&mut self) {
        if self.model.is_silently_on_trial() {
            return self.command();
        }
        match self.dice.below(6) {
            0 | 1 => self.add_element(),
            2 => self.delete_element(),
            3 => self.change_target(),
            4 if self.model.is_on_trial() => self.shut_gate(),
            _ => self.damage(),
        }
    }

    /// To the map of plain mappings, if there is one.
    fn add_element(&mut self) {
        let Some(layer) = self.model.layer() else { return self.command() };
        let free = SERVICES.into_iter().find(|service| layer.of(*service).is_empty());
        let is_there = SERVICES.into_iter().any(|service| is_plain(layer, service));
        let Some(service) = free.filter(|_| is_there) else { return self.command() };
        let to = self.dice.pick(&TARGETS).0;
        let added = plain(layer, service, to);
        let all = layer.iter().cloned().chain([added]).collect();
        let command = format!("add element {} {{ {} : {to} }}", self.model.map(), key(service));
        self.edits_layer(&command, self.model.clone(), MappingSet::new(all));
    }

    /// Not the last one.
    fn delete_element(&mut self) {
        let Some((service, layer)) = self.any_plain() else { return self.command() };
        let left: Vec<_> = layer.iter().filter(|m| m.service != service).cloned().collect();
        let left = MappingSet::new(left);
        let is_last = !SERVICES.into_iter().any(|service| is_plain(&left, service));
        // The rule that looks into an empty map does nothing, and should not be there.
        let damage = if is_last { Damage::Rule } else { Damage::None };
        let Some(after) = self.model.damages(damage).filter(|_| !left.is_empty()) else {
            return self.command();
        };
        let command = format!("delete element {} {{ {} }}", self.model.map(), key(service));
        self.edits_layer(&command, after, left);
    }

    fn change_target(&mut self) {
        let Some((service, layer)) = self.any_plain() else { return self.command() };
        let to = self.dice.pick(&TARGETS).0;
        let changed = plain(&layer, service, to);
        let others = layer.iter().filter(|m| m.service != service).cloned();
        let all = MappingSet::new(others.chain([changed]).collect());
        let (map, key) = (self.model.map(), key(service));
        let command =
            format!("delete element {map} {{ {key} }}; add element {map} {{ {key} : {to} }}");
        self.edits_layer(&command, self.model.clone(), all);
    }

    /// A trial is ended, as its time would have done.
    fn shut_gate(&mut self) {
        let mut after = self.model.clone();
        after.time_is_up();
        self.somebody_else("delete element inet portmap trial { ipv4, ipv6 }", after);
    }

    /// To what is whole: a rule that is gone cannot be deleted once more.
    fn damage(&mut self) {
        if self.model.damages(Damage::None).is_none() {
            return self.command();
        }
        let is_on_trial = self.model.table.as_ref().is_some_and(|table| table.trial.is_some());
        let plain = self.model.table.as_ref().map(|table| &table.mapping);
        let looks_up =
            plain.is_some_and(|m| SERVICES.into_iter().any(|service| is_plain(m, service)));
        let (command, damage) = match self.dice.below(5) {
            0 => ("flush chain inet portmap output".to_owned(), Damage::NoOutput),
            1 => ("add table inet portmap { flags dormant; }".to_owned(), Damage::Dormant),
            2 => ("add chain inet portmap strange".to_owned(), Damage::Rule),
            3 if looks_up && !is_on_trial => {
                let handle = crate::repairs::handle(&self.stage.world.host, "prerouting", LOOKUP);
                let rule = format!("delete rule inet portmap prerouting handle {handle}");
                (rule, Damage::NoLookup)
            }
            _ => {
                let rule = "add rule inet portmap prerouting tcp dport 9 counter";
                (rule.to_owned(), Damage::Rule)
            }
        };
        let Some(after) = self.model.damages(damage) else { return self.command() };
        self.somebody_else(&command, after);
    }

    /// A service in the map of plain mappings of the layer that serves. What is hidden stays
    /// hidden in the kernel when its mapping goes, so such a one is left alone.
    fn any_plain(&mut self) -> Option<(Service, MappingSet)> {
        let layer = self.model.layer()?.clone();
        let may = |service: &Service| {
            is_plain(&layer, *service) && layer.of(*service)[0].direct == Direct::Allow
        };
        let services: Vec<_> = SERVICES.into_iter().filter(may).collect();
        (!services.is_empty()).then(|| (self.dice.pick(&services), layer))
    }

    fn edits_layer(&mut self, command: &str, mut after: Model, mapping: MappingSet) {
        let table = after.table.as_mut().expect("a table");
        match &mut table.trial {
            Some(trial) => trial.mapping = mapping,
            None => table.mapping = mapping,
        }
        self.somebody_else(command, after);
    }
}

fn key(service: Service) -> String {
    format!("{} . {}", service.protocol, service.port)
}

/// As it is read back: what the set of hidden targets names is hidden.
fn plain(layer: &MappingSet, service: Service, to: u16) -> Mapping {
    let hidden = is_hidden(layer, service.protocol, to);
    let direct = if hidden { Direct::Refuse } else { Direct::Allow };
    Mapping { direct, ..Mapping::new(service, Target::new(Port::new(to).expect("not 0"))) }
}

impl Model {
    /// Whether a guard says that it is idle although a trial runs: then it does not tell when it has
    /// taken notice of that.
    fn is_silently_on_trial(&self) -> bool {
        self.guard.is_some() && self.table.as_ref().is_some_and(|table| table.mapping.is_empty())
    }

    /// The layer that serves; none where only the rest of a trial is there, besides.
    fn layer(&self) -> Option<&MappingSet> {
        match self.table.as_ref()? {
            Table { trial: None, mapping, .. } => Some(mapping),
            Table { trial: Some(trial), .. } => Some(&trial.mapping).filter(|_| !trial.is_over),
        }
    }

    /// Its map of plain mappings.
    fn map(&self) -> &'static str {
        if self.is_on_trial() { "inet portmap trial-ports" } else { "inet portmap ports" }
    }

    /// With this damage, if there is a table without one.
    fn damages(&self, damage: Damage) -> Option<Self> {
        let mut after = self.clone();
        let table = after.table.as_mut().filter(|table| table.damage == Damage::None)?;
        table.damage = damage;
        Some(after)
    }
}
