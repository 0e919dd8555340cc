//! `portmap restore`: what boot runs.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cli::{self, Common};
use crate::commands::report::Report;
use crate::commands::session::{Goal, Record, Session};
use crate::commands::{failure, stored};
use crate::journal::{self, Journal};
use crate::mapping::MappingSet;
use crate::output::Ui;

pub fn run(ui: &Ui, common: &Common, restore: &cli::Restore) -> Result<ExitCode> {
    let journal = Journal::at(&common.state_dir);
    // Before the lock: where there is nothing to restore, nothing is made either.
    if persisted(&journal)?.is_none() {
        return nothing(ui, "nothing to restore: no mapping is persisted");
    }
    let mut session = Session::open_for_boot(ui, common)?;
    if restore.if_missing && session.state.observed().is_some() {
        return nothing(ui, "nothing to do: a table of portmap's is in the kernel already");
    }
    if let Some(trial) = session.state.running() {
        return Err(failure::on_trial(trial.left).into());
    }
    // Again: somebody may have persisted another one while we waited for the lock.
    let Some(number) = persisted(&journal)? else {
        return nothing(ui, "nothing to restore: no mapping is persisted");
    };
    let mapping = stored::mapping(&journal, number)?;
    let reached = session.reach(Goal::mapping(&mapping), Record::Number(number), None)?;
    if ui.is_json() {
        Report::of(&reached, &mapping).show(ui)?;
    } else if reached.committed {
        let mappings = match mapping.len() {
            1 => "1 mapping".to_owned(),
            n => format!("{n} mappings"),
        };
        ui.say(format_args!("restored generation {number}: {mappings}"))?;
    } else {
        ui.say(format_args!(
            "nothing to do: the kernel already does what generation {number} says"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A machine where nothing was ever applied has nothing to restore.
fn persisted(journal: &Journal) -> Result<Option<u64>> {
    match journal.boot() {
        Err(journal::Error::Absent { .. }) => Ok(None),
        other => other.context("find out what to restore"),
    }
}

fn nothing(ui: &Ui, why: &str) -> Result<ExitCode> {
    if ui.is_json() {
        Report::unchanged(&MappingSet::default(), None).show(ui)?;
    }
    ui.say(why)?;
    Ok(ExitCode::SUCCESS)
}
