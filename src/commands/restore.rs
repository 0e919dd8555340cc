//! `portmap restore`: what boot runs.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cli::Common;
use crate::commands::report::Report;
use crate::commands::session::{Goal, Record, Session};
use crate::commands::{apply, stored};
use crate::journal::{self, Journal};
use crate::mapping::MappingSet;
use crate::output::Ui;

pub fn run(ui: &Ui, common: &Common) -> Result<ExitCode> {
    let journal = Journal::at(&common.state_dir);
    let boot = match journal.boot() {
        // A machine where nothing was ever applied has nothing to restore.
        Err(journal::Error::Absent { .. }) => None,
        other => other.context("find out what to restore")?,
    };
    let Some(number) = boot else {
        if ui.is_json() {
            Report::unchanged(&MappingSet::default(), None).show(ui)?;
        }
        ui.say("nothing to restore: no mapping is persisted")?;
        return Ok(ExitCode::SUCCESS);
    };
    let mapping = stored::mapping(&journal, number)?;
    let mut session = Session::open_for_boot(ui, common)?;
    if let Some(trial) = session.state.running() {
        return Err(apply::on_trial(trial.left).into());
    }
    let reached = session.reach(Goal::mapping(&mapping), Record::Number(number), None)?;
    let report = Report {
        before: &reached.before,
        after: &mapping,
        replaced: &reached.replaced,
        generation: reached.generation,
        trial: None,
        warnings: &[],
        done: true,
    };
    if ui.is_json() {
        report.show(ui)?;
    } else if reached.committed {
        ui.say(format_args!("restored generation {number}: {} mappings", mapping.len()))?;
    } else {
        ui.say(format_args!(
            "nothing to do: the kernel already does what generation {number} says"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
