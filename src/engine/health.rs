//! Whether everything is as it should be, for whoever watches over many hosts.

use std::fmt;
use std::time::Duration;

use super::next_boot::Brings;
use super::status::Status;
use crate::formats::code::Code;
use crate::mapping::GenerationId;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The table is gone: a reboot or another program has removed it.
    NotApplied { number: GenerationId },
    /// Another program has changed the table.
    Drifted { how: String },
    /// The mapping that serves is on trial.
    OnTrial { number: Option<GenerationId>, left: Duration },
    /// Something is mapped, and boot restores nothing.
    NotPersisted,
    /// A generation is persisted, and nothing restores it.
    BootUnit { number: GenerationId, why: String },
    /// Boot restores another mapping than the one that serves.
    BootDiffers { boot: GenerationId },
    /// A part of the history cannot be read.
    HistoryUnreadable { why: String },
}

impl Fault {
    /// Of all faults that there can be.
    pub const CODES: [Code; 7] = [
        Code::NotApplied,
        Code::Drifted,
        Code::OnTrial,
        Code::NotPersisted,
        Code::BootUnit,
        Code::BootDiffers,
        Code::HistoryUnreadable,
    ];

    /// What it is called by programs: in the words of `doctor`, where that looks at it too.
    pub const fn code(&self) -> Code {
        match self {
            Self::NotApplied { .. } => Code::NotApplied,
            Self::Drifted { .. } => Code::Drifted,
            Self::OnTrial { .. } => Code::OnTrial,
            Self::NotPersisted => Code::NotPersisted,
            Self::BootUnit { .. } => Code::BootUnit,
            Self::BootDiffers { .. } => Code::BootDiffers,
            Self::HistoryUnreadable { .. } => Code::HistoryUnreadable,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotApplied { number } => {
                write!(f, "table inet portmap is gone: generation {number} was active")
            }
            Self::Drifted { how } => {
                write!(f, "another program has changed table inet portmap: {how}")
            }
            Self::OnTrial { number, left } => {
                let left = left.as_secs_f64().ceil();
                match number {
                    Some(number) => {
                        write!(f, "generation {number} is on trial for {left} more seconds")
                    }
                    None => write!(f, "a trial runs for {left} more seconds"),
                }
            }
            Self::NotPersisted => f.write_str("the active mapping is not restored at boot"),
            Self::BootUnit { number, why } => {
                write!(f, "generation {number} is persisted, but nothing restores it: {why}")
            }
            Self::BootDiffers { boot } => {
                write!(f, "boot restores another mapping: generation {boot}")
            }
            Self::HistoryUnreadable { why } => f.write_str(why),
        }
    }
}

impl Status {
    /// What is not as it should be; nothing on a healthy host. A trial whose time is up is no
    /// fault: the mapping from before serves, as was asked.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let Some(number) = self.lost {
            faults.push(Fault::NotApplied { number });
        }
        if let Some(drift) = &self.drift {
            faults.push(Fault::Drifted { how: drift.to_string() });
        }
        if let Some(trial) = self.trial.filter(|trial| !trial.left.is_zero()) {
            faults.push(Fault::OnTrial { number: trial.number, left: trial.left });
        }
        let unreadable = self.problems.iter().map(ToString::to_string);
        faults.extend(unreadable.map(|why| Fault::HistoryUnreadable { why }));
        // While the table is gone, that is the fault.
        let next = self.next_boot.as_ref().filter(|_| self.lost.is_none());
        let is_empty = self.view.serving().is_empty();
        match next.map(|next| (&next.brings, next.is_same)) {
            Some((Brings::Nothing, _)) if !is_empty => faults.push(Fault::NotPersisted),
            Some((Brings::NotRestored { number, is_empty: false, why }, _)) => {
                faults.push(Fault::BootUnit { number: *number, why: why.to_string() });
            }
            Some((Brings::NotRestored { .. }, _)) if !is_empty => faults.push(Fault::NotPersisted),
            // What is not in the history is not what is persisted.
            Some((Brings::Generation { number, .. }, is_same)) if is_same != Some(true) => {
                faults.push(Fault::BootDiffers { boot: *number });
            }
            _ => {}
        }
        faults
    }
}
