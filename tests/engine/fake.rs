//! The door to a kernel that is a model: everything that is hard to meet on a real one (a race, a
//! refusal, a lost answer, a change behind our back, the end of a trial) happens when a test says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use portmap::firewall::Rulesets;
use portmap::host::holders;
use portmap::host::listeners::Listening;
use portmap::kernel::{CommitError, Error, Extent, Kernel, Runs, Snapshot, conntrack, remedy};
use portmap::mapping::{MappingSet, Protocol, Service};
use portmap::plan::Step;
use portmap::ruleset::{
    Lifetime, Map, MapName, Observed, Run, RunTable, Stamp, TableName, TraceTable,
};

use crate::model::Model;

/// A handle: clones show the same kernel, so that a test sees what an engine does with its own.
#[derive(Clone, Default)]
pub struct FakeKernel(Arc<Mutex<State>>);

type Deed = Box<dyn FnMut(&mut Model) + Send>;
type Unknown = Box<dyn Fn(&Step) -> bool + Send>;

#[derive(Default)]
struct State {
    model: Model,
    generation: u32,
    /// Commits that were tried, refused ones too; the first is 1.
    commits: usize,
    /// The steps of each commit that was made.
    made: Vec<Vec<Step>>,
    before: BTreeMap<usize, Deed>,
    after: BTreeMap<usize, Deed>,
    refused: BTreeMap<usize, i32>,
    lacking: Vec<(i32, Unknown)>,
    unanswered: BTreeSet<usize>,
    unsent: BTreeSet<usize>,
    blinding: BTreeSet<usize>,
    is_blind: bool,
    afterwards: BTreeMap<usize, Box<dyn FnMut() + Send>>,
    cleaned: Vec<(MappingSet, MappingSet)>,
    redirected: Vec<MappingSet>,
    trial_flows_cleared: usize,
    open_connections: Vec<Service>,
    listening: Listening,
    runs: Vec<Run>,
    traces: Vec<TraceTable>,
    faster_runs: Vec<Run>,
    has_no_owner: bool,
}

impl State {
    fn be_overtaken(&mut self) {
        if let Some(faster) = self.faster_runs.pop() {
            self.runs.push(faster);
            self.generation += 1;
        }
    }
}

impl FakeKernel {
    /// With this table, at generation 1.
    pub fn new(table: Option<&Observed>) -> Self {
        let state = State { model: Model::new(table), generation: 1, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// What is there now.
    pub fn table(&self) -> Option<Observed> {
        self.state().model.observed()
    }

    /// The steps of each commit that was made.
    pub fn made(&self) -> Vec<Vec<Step>> {
        self.state().made.clone()
    }

    /// The arguments of each `clean_flows`.
    pub fn cleaned(&self) -> Vec<(MappingSet, MappingSet)> {
        self.state().cleaned.clone()
    }

    /// The arguments of each `clean_redirected_flows`.
    pub fn cleaned_of_redirects(&self) -> Vec<MappingSet> {
        self.state().redirected.clone()
    }

    /// How often the flows of trials were deleted.
    pub fn trial_flows_cleared(&self) -> usize {
        self.state().trial_flows_cleared
    }

    /// Somebody else commits between our reading and our `n`th commit, which so comes too late.
    pub fn race(&self, n: usize, deed: impl FnMut(&mut Model) + Send + 'static) {
        self.state().before.insert(n, Box::new(deed));
    }

    /// Somebody else commits right after our `n`th commit, before we read back.
    pub fn tamper_after(&self, n: usize, deed: impl FnMut(&mut Model) + Send + 'static) {
        self.state().after.insert(n, Box::new(deed));
    }

    /// The kernel refuses our `n`th commit with this error number.
    pub fn refuse(&self, n: usize, errno: i32) {
        self.state().refused.insert(n, errno);
    }

    /// The kernel is built without something, and refuses steps like these with this error number.
    pub fn lack(&self, errno: i32, unknown: impl Fn(&Step) -> bool + Send + 'static) {
        self.state().lacking.push((errno, Box::new(unknown)));
    }

    /// Our `n`th commit is made, but we do not hear of it.
    pub fn lose_answer(&self, n: usize) {
        self.state().unanswered.insert(n);
    }

    /// Our `n`th commit is not made, and we do not hear of that either.
    pub fn lose_request(&self, n: usize) {
        self.state().unsent.insert(n);
    }

    /// From our `n`th commit on the kernel answers no question any more.
    pub fn go_blind_after(&self, n: usize) {
        self.state().blinding.insert(n);
    }

    /// It answers again.
    pub fn see_again(&self) {
        self.state().is_blind = false;
    }

    /// Something outside of the kernel happens right after our `n`th commit.
    pub fn afterwards(&self, n: usize, deed: impl FnMut() + Send + 'static) {
        self.state().afterwards.insert(n, Box::new(deed));
    }

    /// How many commits were tried.
    pub fn tried(&self) -> usize {
        self.state().commits
    }

    /// Somebody else commits now.
    pub fn tamper(&self, deed: impl FnOnce(&mut Model)) {
        let mut state = self.state();
        deed(&mut state.model);
        state.generation += 1;
    }

    /// Time passes: a gate may shut. That is no commit.
    pub fn pass(&self, time: Duration) {
        self.state().model.pass(time);
    }

    /// Who listens.
    pub fn listen(&self, listening: Listening) {
        self.state().listening = listening;
    }

    /// The runs that there are.
    pub fn all_runs(&self) -> Vec<Run> {
        self.state().runs.clone()
    }

    /// Somebody else has put it there.
    pub fn add_run(&self, run: Run) {
        self.state().runs.push(run);
    }

    /// The same, of the table of a trace.
    pub fn add_trace(&self, trace: TraceTable) {
        self.state().traces.push(trace);
    }

    /// The names of those that are there.
    pub fn traces(&self) -> Vec<String> {
        self.state().traces.iter().map(|trace| trace.id.to_string()).collect()
    }

    /// Another run begins between our reading and our attempt to begin or end one.
    pub fn be_overtaken_by(&self, run: Run) {
        self.state().faster_runs.push(run);
    }

    /// As before Linux 5.12.
    pub fn forget_owners(&self) {
        self.state().has_no_owner = true;
    }

    /// Open connections through the mapping, one for each of these.
    pub fn connect(&self, services: &[Service]) {
        self.state().open_connections = services.to_vec();
    }
}

/// What a kernel says that has more answers than room for them.
fn lost() -> Error {
    Error::Receive(std::io::Error::from_raw_os_error(nix::libc::ENOBUFS))
}

impl Kernel for FakeKernel {
    fn generation(&mut self) -> Result<u32, Error> {
        Ok(self.state().generation)
    }

    fn stamp(&mut self) -> Result<Option<Stamp>, Error> {
        Ok(self.state().model.observed().and_then(|table| table.ruleset.stamp()))
    }

    fn snapshot(&mut self, extent: Extent) -> Result<Snapshot, Error> {
        let state = self.state();
        if state.is_blind {
            return Err(lost());
        }
        let mut table = state.model.observed();
        if let (Extent::Outline, Some(table)) = (extent, &mut table) {
            for (name, map) in &mut table.ruleset.maps {
                if matches!(name, MapName::Ports(..)) {
                    *map = Map::Ports(Vec::new());
                }
            }
            table.counters.elements.clear();
        }
        let has_others = !(state.runs.is_empty() && state.traces.is_empty());
        Ok(Snapshot { generation: state.generation, table, has_others })
    }

    fn commit(&mut self, steps: &[Step], generation: u32) -> Result<(), CommitError> {
        let mut guard = self.state();
        let state = &mut *guard;
        if steps.is_empty() {
            return Ok(());
        }
        state.commits += 1;
        let n = state.commits;
        if let Some(deed) = state.before.get_mut(&n) {
            deed(&mut state.model);
            state.generation += 1;
        }
        if generation != state.generation {
            return Err(CommitError::Raced);
        }
        let refused = |step: &Step, errno| CommitError::Refused {
            step: step.to_string(),
            errno,
            message: None,
            help: remedy(errno, Some(step)).map(str::to_owned),
        };
        if let Some(errno) = state.refused.get(&n) {
            return Err(refused(&steps[0], *errno));
        }
        for step in steps {
            if let Some((errno, _)) = state.lacking.iter().find(|(_, unknown)| unknown(step)) {
                return Err(refused(step, *errno));
            }
        }
        if state.unsent.contains(&n) {
            return Err(lost().into());
        }
        state.model.commit(steps).map_err(|step| CommitError::Refused {
            step,
            errno: nix::libc::EBUSY,
            message: None,
            help: None,
        })?;
        state.generation += 1;
        state.made.push(steps.to_vec());
        if let Some(deed) = state.after.get_mut(&n) {
            deed(&mut state.model);
            state.generation += 1;
        }
        if let Some(deed) = state.afterwards.get_mut(&n) {
            deed();
        }
        state.is_blind |= state.blinding.contains(&n);
        if state.unanswered.contains(&n) {
            return Err(lost().into());
        }
        Ok(())
    }

    fn runs(&mut self) -> Result<Runs, Error> {
        let state = self.state();
        let State { generation, runs, traces, .. } = &*state;
        Ok(Runs { generation: *generation, runs: runs.clone(), traces: traces.clone() })
    }

    fn hold(&mut self, run: &RunTable, steps: &[Step], generation: u32) -> Result<(), CommitError> {
        let mut state = self.state();
        state.be_overtaken();
        if generation != state.generation {
            return Err(CommitError::Raced);
        }
        if state.has_no_owner && run.lifetime == Lifetime::Socket {
            return Err(CommitError::NoOwner);
        }
        let mut model = Model::new(None);
        model.commit(steps).expect("the steps make a table");
        let observed = model.observed().expect("the steps make a table");
        state.runs.push(Run { table: run.clone(), owner: None, observed });
        state.generation += 1;
        Ok(())
    }

    fn release(&mut self, table: TableName, generation: u32) -> Result<(), CommitError> {
        let mut state = self.state();
        state.be_overtaken();
        if generation != state.generation {
            return Err(CommitError::Raced);
        }
        let before = state.runs.len() + state.traces.len();
        state.runs.retain(|there| TableName::Run(there.table.id) != table);
        state.traces.retain(|there| TableName::Trace(there.id) != table);
        let after = state.runs.len() + state.traces.len();
        assert_eq!(after + 1, before, "there is no such table");
        state.generation += 1;
        Ok(())
    }

    fn into_inherited(self) -> std::io::Result<OwnedFd> {
        Ok(std::fs::File::open("/dev/null")?.into())
    }

    fn clean_flows(
        &mut self,
        before: &MappingSet,
        after: &MappingSet,
    ) -> Result<usize, conntrack::Error> {
        self.state().cleaned.push((before.clone(), after.clone()));
        Ok(0)
    }

    fn clean_redirected_flows(&mut self, before: &MappingSet) -> Result<usize, conntrack::Error> {
        self.state().redirected.push(before.clone());
        Ok(0)
    }

    fn translated_connections(&mut self) -> Result<usize, conntrack::Error> {
        Ok(self.state().open_connections.len())
    }

    fn forget_translated_connections(&mut self) -> Result<usize, conntrack::Error> {
        Ok(self.state().open_connections.drain(..).count())
    }

    fn wait_for_packets(&mut self) {}

    fn clear_trial_flows(&mut self) -> Result<usize, conntrack::Error> {
        self.state().trial_flows_cleared += 1;
        Ok(0)
    }

    fn listening(&mut self, _: &[Protocol]) -> Listening {
        self.state().listening.clone()
    }

    fn is_open(&mut self, inode: u64) -> Option<bool> {
        holders::is_listed(inode)
    }

    fn translations_of_others(&mut self) -> Result<Rulesets, Error> {
        Ok(Rulesets::default())
    }

    fn is_connected(&mut self, _: SocketAddr, _: SocketAddr) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALE: &[Step] = &[Step::AddTable];

    #[test]
    fn a_race_is_lost_once() {
        let mut kernel = FakeKernel::new(None);
        kernel.race(1, |_| {});
        assert!(matches!(kernel.commit(STALE, 1), Err(CommitError::Raced)));
        assert!(kernel.commit(STALE, 2).is_ok());
        assert_eq!(kernel.generation().unwrap(), 3);
        assert_eq!(kernel.made().len(), 1);
    }

    #[test]
    fn a_refusal_changes_nothing_and_a_lost_answer_does() {
        let mut kernel = FakeKernel::new(None);
        kernel.refuse(1, nix::libc::EPERM);
        kernel.lose_answer(2);
        assert!(matches!(kernel.commit(STALE, 1), Err(CommitError::Refused { .. })));
        assert!(kernel.table().is_none());
        assert!(matches!(kernel.commit(STALE, 1), Err(CommitError::Netlink(_))));
        assert_eq!(kernel.table(), Some(Observed::default()));
    }

    #[test]
    fn a_gate_shuts_when_its_time_is_over() {
        let mut kernel = FakeKernel::new(None);
        let timeout = Duration::from_secs(2);
        kernel.commit(&[Step::AddTable, Step::AddGate, Step::OpenGate { timeout }], 1).unwrap();
        kernel.pass(Duration::from_secs(1));
        let left = |kernel: &FakeKernel| kernel.table().unwrap().ruleset.gate.unwrap().left;
        assert_eq!(left(&kernel), Duration::from_secs(1));
        kernel.pass(Duration::from_secs(5));
        assert_eq!(left(&kernel), Duration::ZERO);
        assert_eq!(kernel.generation().unwrap(), 2, "that is no commit");
    }

    #[test]
    fn somebody_may_be_there_before_we_read_back() {
        let mut kernel = FakeKernel::new(None);
        kernel.tamper_after(1, |model| model.commit(&[Step::DeleteTable]).unwrap());
        kernel.commit(STALE, 1).unwrap();
        let seen = kernel.snapshot(Extent::Whole).unwrap();
        assert_eq!((seen.generation, seen.table), (3, None));
    }

    #[test]
    fn what_is_asked_about_flows_is_remembered() {
        let mut kernel = FakeKernel::new(None);
        let port = portmap::mapping::Port::new(80).unwrap();
        let service = Service { protocol: portmap::mapping::Protocol::Tcp, port };
        kernel.connect(&[service, service]);
        kernel.tamper(|model| model.replace(Some(&Observed::default())));
        assert_eq!(kernel.generation().unwrap(), 2);
        assert_eq!(kernel.translated_connections().unwrap(), 2);
        assert_eq!(kernel.forget_translated_connections().unwrap(), 2);
        assert_eq!(kernel.translated_connections().unwrap(), 0);
        let none = MappingSet::default();
        kernel.clean_flows(&none, &none).unwrap();
        kernel.clean_redirected_flows(&none).unwrap();
        kernel.clear_trial_flows().unwrap();
        assert_eq!(kernel.cleaned_of_redirects(), [none]);
        assert_eq!((kernel.cleaned().len(), kernel.trial_flows_cleared()), (1, 1));
    }
}
