//! What the kernel and the history should hold after a command, in a few lines for each: written
//! from the manual, and from nothing that the program does.

use std::collections::BTreeMap;

use portmap::mapping::{MappingSet, Service};

use super::answers::Other;
use super::guard::Expected;

/// The number of a generation; 0 is the beginning, when nothing was mapped.
pub type Number = u64;

/// How many generations are kept that served, and of the others as many.
const KEPT: usize = 50;

/// The host.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub table: Option<Table>,
    pub generations: BTreeMap<Number, Generation>,
    /// What boot restores.
    pub boot: Option<Number>,
    /// A run: the service, and the port where it goes.
    pub run: Option<(Service, u16)>,
    pub other: Other,
    /// What a guard expects, while one runs.
    pub guard: Option<Expected>,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub stamp: Option<Number>,
    pub mapping: MappingSet,
    pub trial: Option<Trial>,
    pub damage: Damage,
}

/// What somebody else did to our table, besides its mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    None,
    /// The output chain is empty: nobody here is served.
    NoOutput,
    /// Something that is not ours, and does nothing.
    Rule,
    /// The map of plain mappings is not asked for those who come from outside.
    NoLookup,
    /// Nothing of the table does anything.
    Dormant,
}

#[derive(Clone, Debug)]
pub struct Trial {
    pub mapping: MappingSet,
    pub is_over: bool,
}

#[derive(Clone, Debug)]
pub struct Generation {
    pub mapping: MappingSet,
    pub fate: Fate,
    /// Whether only the intent is on the disk: its end is written down by the next change.
    pub is_open: bool,
    /// Whether the disk has it on trial. The end of that is written down by the next change; `confirm`
    /// does so itself, unless it is killed before.
    pub is_untold: bool,
    /// What was active before it.
    parent: Number,
    /// Where a rollback from here goes to.
    back: Option<Number>,
    /// What it restores, if it was made by a rollback.
    restores: Option<Number>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Kept,
    OnTrial,
    Reverted,
    /// Begun by a command that was killed before the kernel had it.
    Begun,
    /// The same, and the next command has written it down.
    Failed,
}

/// What a command is to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Apply {
        mapping: MappingSet,
        persist: bool,
    },
    Try(MappingSet),
    Confirm,
    /// To the number, or to what was before.
    Rollback(Option<Number>),
    Persist,
    Forget,
    Restore {
        if_missing: bool,
    },
    Clear {
        persist: bool,
    },
}

/// What a command's exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// Done, and this much is otherwise.
    Done {
        changed: bool,
    },
    Refused,
}

/// What a change is called in the history.
pub enum Record {
    New { parent: Number, restores: Option<Number> },
    Existing(Number),
}

impl Model {
    /// What answers at this moment.
    pub fn serving(&self) -> MappingSet {
        let running = self.running().map(|trial| trial.mapping.clone());
        running.or_else(|| self.table.as_ref().map(|t| t.mapping.clone())).unwrap_or_default()
    }

    fn running(&self) -> Option<&Trial> {
        self.table.as_ref()?.trial.as_ref().filter(|trial| !trial.is_over)
    }

    pub fn is_on_trial(&self) -> bool {
        self.running().is_some()
    }

    /// What serves when no trial runs.
    pub fn active(&self) -> Number {
        let Some(table) = &self.table else {
            let newest = self.generations.iter().rev().find(|(_, g)| g.fate == Fate::Kept);
            return newest.filter(|(_, g)| g.mapping.is_empty()).map_or(0, |(n, _)| *n);
        };
        match (table.stamp, &table.trial) {
            (Some(stamp), Some(_)) => self.generations[&stamp].parent,
            (Some(stamp), None) => stamp,
            (None, _) => 0,
        }
    }

    /// The generation that answers; `None` for the beginning.
    pub fn serving_number(&self) -> Option<Number> {
        let on_trial = self.table.as_ref().filter(|_| self.is_on_trial()).and_then(|t| t.stamp);
        on_trial.or(Some(self.active())).filter(|number| *number != 0)
    }

    /// The last one that came to stay, unless it mapped nothing.
    fn last_served(&self) -> Number {
        let newest = self.generations.iter().rev().find(|(_, g)| g.fate == Fate::Kept);
        newest.filter(|(_, g)| !g.mapping.is_empty()).map_or(0, |(n, _)| *n)
    }

    fn mapping(&self, number: Number) -> Option<MappingSet> {
        match number {
            0 => Some(MappingSet::default()),
            n => self.generations.get(&n).map(|g| g.mapping.clone()),
        }
    }

    /// Whether the table differs from what its generations say.
    pub fn has_drifted(&self) -> bool {
        let Some(table) = &self.table else { return false };
        let differs = |number, mapping: &MappingSet| self.mapping(number).as_ref() != Some(mapping);
        table.damage != Damage::None
            || differs(self.active(), &table.mapping)
            || table.trial.as_ref().is_some_and(|t| differs(table.stamp.unwrap_or(0), &t.mapping))
    }

    pub fn next_number(&self) -> Number {
        let listed = self.generations.keys().next_back().copied();
        let stamp = self.table.as_ref().and_then(|table| table.stamp);
        listed.max(stamp).max(self.boot).unwrap_or(0) + 1
    }

    /// The one way in which the table changes: afterwards it serves `mapping`.
    pub fn carry_out(&mut self, mapping: &MappingSet, record: Record) {
        let active = self.active();
        let is_recorded = self.mapping(active).as_ref() == Some(mapping);
        let there = self.table.as_ref().map_or(MappingSet::default(), |t| t.mapping.clone());
        let is_sound = match &self.table {
            None => mapping.is_empty(),
            Some(t) => t.mapping == *mapping && t.trial.is_none() && t.damage == Damage::None,
        };
        if is_sound && (is_recorded || mapping.is_empty()) {
            return;
        }
        let number = match record {
            Record::Existing(number) => number,
            Record::New { .. } if is_recorded && there == *mapping => active,
            Record::New { parent, restores } => {
                self.begin(mapping.clone(), parent, restores, Fate::Kept)
            }
        };
        self.end_trial(Fate::Reverted);
        let stamp = Some(number).filter(|number| *number != 0);
        let table = Table { stamp, mapping: mapping.clone(), trial: None, damage: Damage::None };
        self.table = Some(table).filter(|table| !table.mapping.is_empty());
    }

    fn begin(
        &mut self,
        mapping: MappingSet,
        parent: Number,
        restores: Option<Number>,
        fate: Fate,
    ) -> Number {
        let number = self.next_number();
        let (restores, back) = match restores {
            None if parent == 0 => (None, Some(self.last_served())),
            None => (None, Some(parent)),
            Some(0) => (Some(0), None),
            Some(n) => (self.generations[&n].restores.or(Some(n)), self.generations[&n].back),
        };
        let is_untold = fate == Fate::OnTrial;
        self.generations.insert(
            number,
            Generation { mapping, fate, is_open: false, is_untold, parent, back, restores },
        );
        number
    }

    /// Makes both layers what they were made as.
    pub fn repair(&mut self, active: MappingSet, on_trial: MappingSet) {
        let Some(table) = &mut self.table else { return };
        (table.mapping, table.damage) = (active, Damage::None);
        if let Some(trial) = &mut table.trial {
            trial.mapping = on_trial;
        }
    }

    /// Takes the second layer away.
    fn end_trial(&mut self, fate: Fate) {
        let active = self.active();
        let Some(table) = &mut self.table else { return };
        if table.trial.take().is_none() {
            return;
        }
        if let Some(generation) = table.stamp.and_then(|number| self.generations.get_mut(&number)) {
            generation.fate = fate;
        }
        table.stamp = Some(active).filter(|number| *number != 0);
    }

    /// Where a rollback goes to; `None` if there is nothing.
    fn way_back(&self) -> Option<Number> {
        let active = self.active();
        let mut at = self.back(active)?;
        for _ in 0..=self.generations.len() {
            if at == 0 || active == 0 || self.mapping(at) != self.mapping(active) {
                break;
            }
            at = self.back(at)?;
        }
        Some(at)
    }

    fn back(&self, from: Number) -> Option<Number> {
        match from {
            0 => Some(self.last_served()).filter(|last| *last != 0),
            n => {
                let back = self.generations.get(&n)?.back?;
                (back == 0 || self.generations.contains_key(&back)).then_some(back)
            }
        }
    }

    /// The kernel's clock has ended the trial.
    pub fn time_is_up(&mut self) {
        let Some(table) = &mut self.table else { return };
        let (Some(trial), Some(stamp)) = (&mut table.trial, table.stamp) else { return };
        trial.is_over = true;
        self.generations.get_mut(&stamp).expect("its generation").fate = Fate::Reverted;
    }

    /// Somebody else has removed our table. What was not written down yet, nobody can know any more:
    /// a mapping never reached the kernel then, and a `clear` did; a trial was not confirmed.
    pub fn flush(&mut self) {
        let on_trial = self.table.take().filter(|table| table.trial.is_some());
        let stamp = on_trial.and_then(|table| table.stamp);
        if let Some(generation) = stamp.and_then(|stamp| self.generations.get_mut(&stamp)) {
            generation.fate = Fate::Reverted;
        }
        for generation in self.generations.values_mut().filter(|g| g.is_open) {
            let is_empty = generation.mapping.is_empty();
            generation.fate = if is_empty { Fate::Kept } else { Fate::Begun };
        }
        for generation in self.generations.values_mut().filter(|g| g.is_untold) {
            generation.fate = Fate::Reverted;
        }
    }

    /// Old generations are removed, but none that is still needed; says which one was.
    pub fn prune(&mut self, listed: &[Number]) -> Result<(), String> {
        let served = |g: &Generation| g.fate == Fate::Kept;
        let gone: Vec<_> =
            self.generations.keys().filter(|n| !listed.contains(n)).copied().collect();
        for number in gone {
            let kind = served(&self.generations[&number]);
            let newer = self.generations.range(number + 1..);
            let newer = newer.filter(|(_, g)| served(g) == kind).count();
            let needed = [Some(self.active()), self.boot, self.serving_number()];
            if newer < KEPT || needed.contains(&Some(number)) {
                return Err(format!("generation {number} is missing; {newer} are newer"));
            }
            self.generations.remove(&number);
        }
        Ok(())
    }

    /// What a command does where nothing disturbs it.
    pub fn done(&self, command: &Command) -> (Self, Says) {
        let mut after = self.clone();
        let says = after.carry(command);
        (after, says)
    }

    fn carry(&mut self, command: &Command) -> Says {
        let before = self.clone();
        let said = match command {
            Command::Apply { mapping, persist } => self.apply(mapping, *persist),
            Command::Try(mapping) => self.try_out(mapping),
            Command::Confirm => self.confirm(),
            Command::Rollback(to) => return self.roll_back(*to),
            Command::Persist => self.persist(),
            Command::Forget => {
                self.boot = None;
                true
            }
            Command::Restore { if_missing } => self.restore(*if_missing),
            Command::Clear { persist } => {
                let parent = self.active();
                let nothing = MappingSet::default();
                self.carry_out(&nothing, Record::New { parent, restores: None });
                if *persist {
                    self.boot = None;
                }
                true
            }
        };
        if said { Says::Done { changed: self.is_otherwise(&before) } } else { Says::Refused }
    }

    /// Whether more than a number or what an expired trial left is otherwise.
    pub fn is_otherwise(&self, before: &Self) -> bool {
        let damage = |model: &Self| model.table.as_ref().is_some_and(|t| t.damage != Damage::None);
        before.serving() != self.serving()
            || before.is_on_trial() != self.is_on_trial()
            || before.boot != self.boot
            || before.table.is_some() && self.table.is_none()
            || damage(before) && !damage(self)
    }

    fn apply(&mut self, mapping: &MappingSet, persist: bool) -> bool {
        if self.is_on_trial() {
            return false;
        }
        let parent = self.active();
        self.carry_out(mapping, Record::New { parent, restores: None });
        if persist {
            self.boot = Some(self.active());
        }
        true
    }

    fn try_out(&mut self, mapping: &MappingSet) -> bool {
        let active = self.table.as_ref().map_or(MappingSet::default(), |t| t.mapping.clone());
        if active == *mapping || self.is_on_trial() {
            return self.apply(mapping, false);
        }
        self.end_trial(Fate::Reverted);
        let parent = self.active();
        let stamp = Some(self.begin(mapping.clone(), parent, None, Fate::OnTrial));
        let trial = Some(Trial { mapping: mapping.clone(), is_over: false });
        self.table = Some(Table { stamp, mapping: active, trial, damage: Damage::None });
        true
    }

    fn confirm(&mut self) -> bool {
        let Some(trial) = self.running().cloned() else {
            self.tidy();
            return false;
        };
        let table = self.table.as_mut().expect("with a trial");
        let stamp = table.stamp.expect("with a trial");
        *table =
            Table { stamp: Some(stamp), mapping: trial.mapping, trial: None, damage: Damage::None };
        let generation = self.generations.get_mut(&stamp).expect("its generation");
        (generation.fate, generation.is_untold) = (Fate::Kept, false);
        true
    }

    /// Takes away what a trial left, be its time up or not.
    pub fn tidy(&mut self) {
        let Some(table) = self.table.clone().filter(|t| t.trial.is_some()) else { return };
        let active = self.active();
        self.carry_out(&table.mapping, Record::Existing(active));
    }

    fn roll_back(&mut self, to: Option<Number>) -> Says {
        let before = self.clone();
        let has_trial = self.table.as_ref().is_some_and(|t| t.trial.is_some());
        if to.is_none() && has_trial {
            self.tidy();
            return Says::Done { changed: self.is_otherwise(&before) };
        }
        let on_trial = self.table.as_ref().filter(|_| self.is_on_trial()).and_then(|t| t.stamp);
        if to.is_some() && to == on_trial {
            return Says::Refused;
        }
        let Some(target) = to.or_else(|| self.way_back()) else { return Says::Refused };
        let Some(mapping) = self.mapping(target) else { return Says::Refused };
        let parent = self.active();
        self.carry_out(&mapping, Record::New { parent, restores: Some(target) });
        Says::Done { changed: self.is_otherwise(&before) }
    }

    fn persist(&mut self) -> bool {
        if self.is_on_trial() {
            return false;
        }
        self.tidy();
        let active = self.active();
        if active == 0 || self.has_drifted() {
            return false;
        }
        self.boot = Some(active);
        true
    }

    fn restore(&mut self, if_missing: bool) -> bool {
        let Some(boot) = self.boot else { return true };
        if if_missing && self.table.is_some() {
            return true;
        }
        if self.is_on_trial() {
            return false;
        }
        let mapping = self.mapping(boot).expect("never removed");
        self.carry_out(&mapping, Record::Existing(boot));
        true
    }

    /// All that may be there after a command was killed, or a call of it failed: what it wanted,
    /// what was before, with a generation begun or without, and nothing in between.
    pub fn may_be(&self, command: &Command) -> Vec<Self> {
        let (done, _) = self.done(command);
        let mut tidied = self.clone();
        tidied.tidy();
        let mut all = vec![done.clone(), self.clone(), tidied];
        // The change is made, but not yet what is to follow it.
        all.push(Self { boot: self.boot, ..done.clone() });
        let mut untold = done.clone();
        for (number, generation) in &mut untold.generations {
            generation.is_untold = self.generations.get(number).is_some_and(|g| g.is_untold);
        }
        all.push(untold);
        let number = self.next_number();
        if let Some(begun) = done.generations.get(&number) {
            for before in [1, 2] {
                let mut lost = all[before].clone();
                let begun = Generation { fate: Fate::Begun, ..begun.clone() };
                lost.generations.insert(number, begun);
                all.push(lost);
            }
        }
        all
    }
}
