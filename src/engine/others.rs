//! The tables of portmap's that live with a process: those of runs and traces. Where the kernel does
//! not remove them with it (before Linux 5.12), a process of portmap's does so, and that can be
//! killed: then a table stays until another command comes by.

use std::thread;
use std::time::Duration;

use super::Engine;
use super::error::{Error, Refusal, Result};
use super::observer::Event;
use crate::host::holders::{Process, holders, holders_of_inode};
use crate::kernel::{CommitError, Kernel, Runs};
use crate::ruleset::{Lifetime, Run, TableName, TraceTable};

/// All of them, in the order of their names.
#[derive(Debug)]
pub struct Others {
    pub runs: Vec<RunStatus>,
    pub traces: Vec<TraceStatus>,
}

/// A run, and who holds it at this moment.
#[derive(Debug)]
pub struct RunStatus {
    pub run: Run,
    /// Empty if it cannot be told.
    pub holders: Vec<Process>,
    /// Whether nobody holds it any more, and it is there all the same.
    pub is_left_over: bool,
}

impl RunStatus {
    fn of(kernel: &mut impl Kernel, run: Run) -> Self {
        let holders = holders_of(&run);
        Self { is_left_over: is_left_over(kernel, run.table.lifetime), holders, run }
    }
}

pub(super) fn holders_of(run: &Run) -> Vec<Process> {
    match (run.owner, run.table.lifetime) {
        (Some(owner), _) => holders(owner),
        (None, Lifetime::Supervised { socket: Some(socket) }) => holders_of_inode(socket),
        (None, _) => Vec::new(),
    }
}

/// The table of a trace or a probe.
#[derive(Clone, Copy, Debug)]
pub struct TraceStatus {
    pub table: TraceTable,
    /// Whether its process has ended, and it is there all the same.
    pub is_left_over: bool,
}

/// Whether nobody has what a table waits for any more.
fn is_left_over(kernel: &mut impl Kernel, lifetime: Lifetime) -> bool {
    match lifetime {
        Lifetime::Socket => false,
        Lifetime::Supervised { socket } => {
            socket.is_some_and(|socket| kernel.is_open(socket) == Some(false))
        }
    }
}

/// How often it is tried again to make or remove a table because another program committed in
/// between.
pub(super) const ATTEMPTS: u32 = 50;

impl<K: Kernel> Engine<'_, K> {
    /// The runs and traces that there are.
    pub(super) fn others(&mut self) -> Result<Others> {
        let Runs { runs, traces, .. } = self.kernel.runs()?;
        let runs = runs.into_iter().map(|run| RunStatus::of(&mut self.kernel, run)).collect();
        let of_trace = |table: TraceTable| {
            let is_left_over = is_left_over(&mut self.kernel, table.lifetime);
            TraceStatus { table, is_left_over }
        };
        Ok(Others { runs, traces: traces.into_iter().map(of_trace).collect() })
    }

    /// Removes the run whose command had this socket, if it is still there.
    pub fn end_run(&mut self, socket: u64) -> Result<()> {
        let ended = Lifetime::Supervised { socket: Some(socket) };
        self.remove(|_, _, lifetime| lifetime == ended)
    }

    /// Removes what nobody holds any more. What a change is about does not depend on it.
    pub(super) fn sweep(&mut self) {
        let swept = self.remove(|kernel, _, lifetime| is_left_over(kernel, lifetime));
        self.tell_of_failure(swept);
    }

    /// The same of traces alone, for who looks at where packets go and changes nothing of that.
    pub fn sweep_traces(&mut self) {
        let swept = self.remove(|kernel, name, lifetime| {
            matches!(name, TableName::Trace(_)) && is_left_over(kernel, lifetime)
        });
        self.tell_of_failure(swept);
    }

    /// Whether there was something that nobody holds any more, which is removed by now.
    pub(super) fn remove_left_over(&mut self, found: &Runs) -> Result<bool> {
        let is_any = tables(found).any(|(_, lifetime)| is_left_over(&mut self.kernel, lifetime));
        if is_any {
            self.remove(|kernel, _, lifetime| is_left_over(kernel, lifetime))?;
        }
        Ok(is_any)
    }

    fn tell_of_failure(&self, swept: Result<()>) {
        if let Err(e) = swept {
            self.observer.event(Event::Shortfall(&e));
        }
    }

    fn remove(&mut self, is_meant: impl Fn(&mut K, TableName, Lifetime) -> bool) -> Result<()> {
        let mut raced = 0;
        while raced < ATTEMPTS {
            let found = self.kernel.runs()?;
            let mut meant = tables(&found)
                .filter(|(name, lifetime)| is_meant(&mut self.kernel, *name, *lifetime));
            let Some((name, _)) = meant.next() else { return Ok(()) };
            drop(meant);
            match self.kernel.release(name, found.generation) {
                Ok(()) => self.after_removal(name, &found)?,
                Err(CommitError::Raced) => {
                    raced += 1;
                    thread::sleep(Duration::from_millis(5));
                }
                Err(e) => return Err(Error::from(e).context(format!("delete table inet {name}"))),
            }
        }
        Err(Refusal::Restless { attempts: ATTEMPTS }.into())
    }

    fn after_removal(&mut self, name: TableName, found: &Runs) -> Result<()> {
        match found.runs.iter().find(|run| TableName::Run(run.table.id) == name) {
            Some(run) => {
                self.observer.event(Event::RunRemoved(run));
                let serving = self.serving()?;
                self.clean_flows_of_run(&run.mapping(), &serving);
            }
            None => self.observer.event(Event::TraceRemoved(name)),
        }
        Ok(())
    }
}

fn tables(found: &Runs) -> impl Iterator<Item = (TableName, Lifetime)> {
    let runs = found.runs.iter().map(|run| (TableName::Run(run.table.id), run.table.lifetime));
    runs.chain(found.traces.iter().map(|trace| (TableName::Trace(trace.id), trace.lifetime)))
}
