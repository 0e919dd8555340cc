//! What the engine tells while it works. It prints nothing itself.

use super::error::Error;
use super::summary::Change;
use crate::doctor::Finding;
use crate::history::Settlement;
use crate::mapping::GenerationId;
use crate::plan::Step;
use crate::ruleset::{Run, TableName};

/// Who listens to the engine.
pub trait Observer {
    /// Does the work; may tell how long it takes.
    fn timed(&self, what: &str, work: &mut dyn FnMut());

    fn event(&self, event: Event<'_>);
}

/// Something that happened beside the result.
#[derive(Debug)]
pub enum Event<'a> {
    /// What the change that is about to be made, or is asked for, will lead to beside its purpose.
    Foreseen(&'a [Finding]),
    /// What a change would do to the kernel's table.
    Ahead(&'a [Step]),
    /// What is about to be done to it, in one transaction; again if another program was faster.
    Committing(&'a [Step]),
    /// The kernel was changed, even if something after that fails.
    Changed(&'a Change),
    /// Boot restores another generation than before; `None` for none.
    BootChanged(Option<GenerationId>),
    /// The history has learned how a generation ended that a killed command had left open.
    Settled(&'a Settlement),
    /// No other portmap makes a change now; this one may begin to.
    Locked,
    /// Up to so many established connections are about to be reset.
    ConnectionsCut(usize),
    /// The kernel has no connection tracking zones: UDP clients that keep sending stay with the
    /// trial when its time is up.
    TrialWithoutZone,
    /// A mapping that nobody held any more was removed, as the kernel does not do so by itself.
    RunRemoved(&'a Run),
    /// The same, of the table of a trace or a probe.
    TraceRemoved(TableName),
    /// So many outdated UDP flows were deleted.
    FlowsDeleted(usize),
    /// Something failed that the change does not depend on.
    Shortfall(&'a Error),
}

/// Does the work, timed by the observer.
pub fn timed<T>(observer: &dyn Observer, what: &str, work: impl FnOnce() -> T) -> T {
    let (mut work, mut result) = (Some(work), None);
    observer.timed(what, &mut || result = work.take().map(|work| work()));
    result.expect("the observer does the work")
}
