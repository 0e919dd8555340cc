//! What an examination needs to know of the kernel and of the history.

use std::rc::Rc;

use nix::libc;

use super::error::{Cause, Error, Result};
use super::foresight;
use super::next_boot::Brings;
use super::session::mapping_of;
use super::{Engine, Status};
use crate::doctor::facts::{Boot, Table, Trial};
use crate::doctor::foresee;
use crate::kernel::{self, Kernel};
use crate::mapping::{GenerationId, MappingSet, Point, Service};

/// What is active, as far as it can be seen.
#[derive(Debug, Default)]
pub struct Condition {
    pub table: Table,
    pub serving: Rc<MappingSet>,
    /// What was mapped by the generation whose table is gone.
    pub lost: MappingSet,
    pub boot: Boot,
    /// The process that puts the table back if another program removes it.
    pub guard: Option<u32>,
    /// What of the history cannot be read.
    pub problems: Vec<String>,
}

impl Condition {
    /// What a kernel that cannot be asked tells all the same.
    pub fn of_failure(error: &kernel::Error) -> Option<Self> {
        let why = error.to_string();
        let table = match error.errno() {
            Some(libc::EPERM | libc::EACCES) => {
                let help = error.help().map(|help| format!(": {help}")).unwrap_or_default();
                Table::Unseen { why: why + &help }
            }
            Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EINVAL | libc::EOPNOTSUPP) => {
                Table::Impossible { why, help: error.help().unwrap_or_default().to_owned() }
            }
            _ => return None,
        };
        Some(Self { table, ..Self::default() })
    }

    fn of_status(status: &Status) -> Self {
        let serving = status.serving.and_then(Point::generation);
        let table = match status.view.observed() {
            None => Table::Absent { lost: status.lost },
            Some(_) => Table::Present {
                serving,
                drift: status.drift.as_ref().map(ToString::to_string),
                trial: status.trial.map(|t| Trial { number: t.number, left: t.left }),
            },
        };
        Self {
            table,
            serving: Rc::clone(status.view.serving()),
            lost: MappingSet::default(),
            boot: boot_of(status),
            guard: status.guard.map(|guard| guard.pid),
            problems: status.problems.iter().map(ToString::to_string).collect(),
        }
    }
}

impl<K: Kernel> Engine<'_, K> {
    /// What is active. That this user may not look, or that the kernel cannot do it, is no failure.
    pub fn condition(&mut self) -> Result<Condition> {
        match self.status() {
            Ok(status) => {
                let lost = status.lost.map(|number| self.mapping_of(number)).unwrap_or_default();
                Ok(Condition { lost, ..Condition::of_status(&status) })
            }
            Err(error) => condition_of(error),
        }
    }

    /// Empty if it cannot be read: then there is nothing that can be said of it.
    fn mapping_of(&self, number: GenerationId) -> MappingSet {
        let history = self.history().ok();
        let mapping = history.and_then(|history| mapping_of(&history, number.into()).ok());
        mapping.unwrap_or_default()
    }

    /// Who listens, with the names of those on a port that is mapped, a target or asked for.
    pub fn surroundings(&mut self, mapping: &MappingSet, asked: &[Service]) -> foresee::Facts {
        let ports = mapping.iter().flat_map(|m| [m.service.port, m.to.port()]);
        let ports = ports.chain(asked.iter().map(|s| s.port)).collect();
        let mut facts = foresight::facts(&mut self.kernel, mapping.iter(), asked);
        foresight::name(&mut facts, &ports);
        facts
    }
}

/// What of the next boot the history and the kernel tell.
fn boot_of(status: &Status) -> Boot {
    let brings = status.next_boot.as_ref().map(|next| (&next.brings, next.is_same));
    let (is_same, is_empty) = match brings {
        Some((Brings::Generation { is_empty, .. }, is_same)) => (is_same, *is_empty),
        Some((Brings::NotRestored { is_empty, .. }, _)) => (None, *is_empty),
        _ => (None, false),
    };
    Boot { persisted: status.boot, is_same, is_empty, ..Boot::default() }
}

fn condition_of(error: Error) -> Result<Condition> {
    let known = match error.cause() {
        Cause::Kernel(kernel) => Condition::of_failure(kernel),
        _ => None,
    };
    known.ok_or(error)
}
