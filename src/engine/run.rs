//! A mapping that lives with a command: a table of its own, which the kernel takes away when nobody
//! holds it any more. It is no generation, and changes nothing of the table that the files make.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use super::error::{Error, Refusal, Result};
use super::observer::{Event, timed};
use super::others::{ATTEMPTS, holders_of};
use super::view::View;
use super::{Engine, announce};
use crate::kernel::{CommitError, Extent, Kernel};
use crate::mapping::{Comment, Mapping, MappingSet, Port, PortRange, Service};
use crate::plan::{Step, plan};
use crate::ruleset::{self, Lifetime, Run, RunId, RunTable};

/// Who is to hold a mapping.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// The process that the command runs as.
    pub pid: u32,
    pub command: Option<Comment>,
    pub lifetime: Lifetime,
}

/// What a run has begun with.
#[derive(Debug)]
pub struct Begun {
    pub id: RunId,
    pub mapping: MappingSet,
    /// The mappings of the files that it takes precedence over.
    pub overridden: Vec<Mapping>,
}

/// The ports that mappings and runs have to do with: those that clients connect to, and targets.
#[derive(Clone, Debug, Default)]
pub struct Involved(BTreeSet<Port>);

impl Involved {
    fn of<'a>(mappings: impl IntoIterator<Item = &'a Mapping>) -> Self {
        let ports = |m: &Mapping| [m.service.port, m.to.port()];
        Self(mappings.into_iter().flat_map(ports).collect())
    }

    /// The first of `candidates` on which so many ports in a row are free, also by `is_free`.
    pub fn first_free(
        &self,
        candidates: impl IntoIterator<Item = PortRange>,
        is_free: impl Fn(Port) -> bool,
    ) -> Option<PortRange> {
        let is_clear = |port: Port| !self.0.contains(&port) && is_free(port);
        candidates.into_iter().find(|range| range.iter().all(is_clear))
    }
}

impl<K: Kernel> Engine<'_, K> {
    /// Maps ports for as long as this engine's kernel is held. `mapping` is asked which, perhaps
    /// several times, as what is taken by others can change meanwhile.
    pub fn begin_run<F: From<Error>>(
        &mut self,
        request: &RunRequest,
        mut mapping: impl FnMut(&Involved) -> std::result::Result<MappingSet, F>,
    ) -> std::result::Result<Begun, F> {
        for _ in 0..ATTEMPTS {
            let view = View::new(self.read(Extent::Whole)?);
            let found = self.kernel.runs().map_err(Error::from)?;
            if found.generation != view.generation() {
                continue;
            }
            if self.remove_left_over(&found)? {
                continue;
            }
            let running: Vec<_> = found.runs.iter().map(Run::mapping).collect();
            let all = running.iter().chain([&**view.serving()]);
            let wanted = mapping(&Involved::of(all.flatten()))?;
            check_conflicts(&wanted, &found.runs, &running)?;
            let id = free_id(request.pid, &found.runs);
            if self.try_run(request, id, &wanted, found.generation)? {
                let overridden = overridden(view.serving(), &wanted);
                let kept = view.serving().iter().filter(|m| wanted.of(m.service).is_empty());
                let after = MappingSet::new(kept.chain(&wanted).cloned().collect());
                self.clean_flows_of_run(view.serving(), &after);
                return Ok(Begun { id, mapping: wanted, overridden });
            }
            // Others have work to do as well.
            thread::sleep(Duration::from_millis(5));
        }
        Err(Error::from(Refusal::Restless { attempts: ATTEMPTS }).into())
    }

    /// `false` if another program committed first.
    fn try_run(
        &mut self,
        request: &RunRequest,
        id: RunId,
        wanted: &MappingSet,
        generation: u32,
    ) -> Result<bool> {
        let command = request.command.clone();
        let table = RunTable { id, command, lifetime: request.lifetime };
        let steps: Vec<Step> = plan(Some(&ruleset::desired(wanted, None, None)), None);
        self.observer.event(Event::Committing(&steps));
        let held = timed(self.observer, "commit", || self.kernel.hold(&table, &steps, generation));
        match held {
            Ok(()) => {
                announce::run(&self.system, &table, wanted);
                Ok(true)
            }
            Err(CommitError::Raced) => Ok(false),
            Err(e) => Err(Error::from(e).context(format!("make table inet {id}"))),
        }
    }

    /// UDP clients that keep sending are to come to the run as well, and back.
    pub(super) fn clean_flows_of_run(&mut self, before: &MappingSet, after: &MappingSet) {
        if let Err(e) = self.kernel.clean_flows(before, after) {
            self.observer.event(Event::Shortfall(&e.into()));
        }
    }

    /// The kernel that a run has begun on: while something of it is open, the run goes on.
    pub fn into_kernel(self) -> K {
        self.kernel
    }
}

fn check_conflicts(wanted: &MappingSet, runs: &[Run], running: &[MappingSet]) -> Result<()> {
    for (run, mapping) in runs.iter().zip(running) {
        let taken = wanted.iter().find(|m| !mapping.of(m.service).is_empty());
        if let Some(Mapping { service, .. }) = taken {
            return Err(taken_by(*service, run).into());
        }
    }
    Ok(())
}

fn taken_by(service: Service, run: &Run) -> Refusal {
    if !run.table.lifetime.is_told() {
        return Refusal::TableElsewhere { service, table: run.table.id };
    }
    let pid = run.table.id.pid;
    let holders = holders_of(run);
    let command = run.table.command.as_deref().unwrap_or("its command is not known").to_owned();
    Refusal::RunElsewhere { service, pid, command, holders }
}

/// The number of a process is given out again while what it has left running holds the table.
fn free_id(pid: u32, runs: &[Run]) -> RunId {
    let mut id = RunId { pid, nth: 1 };
    while runs.iter().any(|run| run.table.id == id) {
        id.nth += 1;
    }
    id
}

fn overridden(serving: &MappingSet, wanted: &MappingSet) -> Vec<Mapping> {
    serving.iter().filter(|m| !wanted.of(m.service).is_empty()).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u16, last: u16) -> PortRange {
        PortRange::new(Port::new(first).unwrap(), Port::new(last).unwrap()).unwrap()
    }

    #[test]
    fn a_free_target_is_free_in_every_respect() {
        let involved = Involved([3000, 3003].into_iter().filter_map(Port::new).collect());
        let is_free = |port: Port| port.get() != 3001;
        let pairs = (3000..3010).map(|port| range(port, port + 1));
        assert_eq!(involved.first_free(pairs, is_free), Some(range(3004, 3005)));
        assert_eq!(involved.first_free([range(3001, 3001)], is_free), None);
    }
}
