//! The view of kernel and history, and the one path by which anything is changed.
//!
//! The engine takes requests and returns values; what happens on the way it tells an
//! [`Observer`]. It prints nothing and knows no command line. An [`Error`] carries its effect:
//! whether the kernel does what it did before, or not.

#![forbid(unsafe_code)]

mod announce;
mod apply;
mod boot;
mod change;
mod commit;
mod difference;
mod drift;
mod error;
mod examine;
mod foresight;
mod guard;
mod health;
mod next_boot;
mod observer;
mod open;
mod others;
mod rollback;
mod run;
mod session;
mod status;
mod summary;
mod trial;
mod view;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::history::History;
use crate::host::boot::System;
use crate::kernel::{Extent, Kernel, Snapshot};

pub use apply::ApplyRequest;
pub use boot::{Forgotten, Persisting, Replaced, Restored};
pub use difference::Difference;
pub use drift::Drift;
pub use error::{Cause, Effect, Error, Refusal, Result, name, name_within};
pub use examine::Condition;
pub use guard::{AT_ONCE, By, Expected, Mended, Pace, Seen, Vigil, WINDOW, Witness};
pub use health::Fault;
pub use next_boot::{Brings, NextBoot};
pub use observer::{Event, Observer};
pub use others::{RunStatus, TraceStatus};
pub use rollback::{RollbackRequest, RolledBack};
pub use run::{Begun, Involved, RunRequest};
pub use status::{Listing, Status, TrialStatus};
pub use summary::{Change, Persisted};
pub use trial::{Ended, Fate};
pub use view::{TrialId, View};

use observer::timed;

/// What is needed to answer a request: a kernel, and where the history is.
pub struct Engine<'o, K> {
    kernel: K,
    state_dir: PathBuf,
    /// How long to wait for another portmap that is changing something.
    wait: Duration,
    observer: &'o dyn Observer,
    /// Whose boot is asked about.
    system: System,
}

/// How a change deals with the history and its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Locking {
    /// No change without the lock and the history.
    Required,
    /// For boot: a disk that is full or read-only is no reason to leave the ports unmapped.
    BestEffort,
    /// There is no way back then. The lock is taken where there is a place for it.
    WithoutHistory,
}

impl<'o, K: Kernel> Engine<'o, K> {
    pub fn new(
        kernel: K,
        state_dir: impl Into<PathBuf>,
        wait: Duration,
        observer: &'o dyn Observer,
    ) -> Self {
        let (state_dir, system) = (state_dir.into(), System::default());
        Self { kernel, state_dir, wait, observer, system }
    }

    /// With another file system than this process has.
    pub fn of_system(self, system: System) -> Self {
        Self { system, ..self }
    }

    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Reads the kernel, to be given to [`Engine::apply`] or [`Engine::preview`]: what else these
    /// need can be made ready at the same time.
    pub fn read_kernel(&mut self) -> Result<Snapshot> {
        self.read(Extent::Whole)
    }

    fn read(&mut self, extent: Extent) -> Result<Snapshot> {
        let Self { kernel, observer, .. } = self;
        Ok(timed(*observer, "read the kernel", || kernel.snapshot(extent))?)
    }

    /// The history, without a lock.
    fn history(&self) -> Result<History> {
        Ok(History::open(&self.state_dir)?)
    }
}
