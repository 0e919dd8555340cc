//! `portmap rollback`: back to what was before.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cli::{self, Common};
use crate::commands::failure::Refusal;
use crate::commands::report::Report;
use crate::commands::session::{Goal, Record, Session, State};
use crate::commands::{confirm, stored};
use crate::journal::{self, Command, Draft, Journal, Who};
use crate::kernel::Kernel;
use crate::mapping::MappingSet;
use crate::output::Ui;

pub fn run(ui: &Ui, common: &Common, rollback: &cli::Rollback) -> Result<ExitCode> {
    if rollback.dry_run {
        return preview(ui, common, rollback);
    }
    let mut session = Session::open(ui, common)?;
    if session.state.running().is_some() && rollback.to.is_none() {
        drop(session);
        confirm::undo(ui, common)?;
        return Ok(if rollback.detailed_exitcode { 2.into() } else { ExitCode::SUCCESS });
    }
    confirm::end(&mut session)?;
    let journal = Journal::at(&common.state_dir);
    let target = target(&journal, &session.state, rollback.to)?;
    let mapping = stored::mapping(&journal, target)?;
    let draft = Draft {
        who: Some(Who::invoking()),
        command: Command::Rollback,
        sources: Vec::new(),
        message: rollback.message.clone(),
        parent: None,
        restores: Some(target),
        trial_until: None,
    };
    let reached = session.reach(Goal::mapping(&mapping), Record::New(draft), None)?;
    let report = Report {
        before: &reached.before,
        after: &mapping,
        replaced: &reached.replaced,
        generation: reached.generation,
        warnings: &[],
        done: true,
    };
    report.show(ui)?;
    ui.say(format_args!("back to generation {target}"))?;
    Ok(report.exit_code(rollback.detailed_exitcode))
}

fn preview(ui: &Ui, common: &Common, rollback: &cli::Rollback) -> Result<ExitCode> {
    let state = State::read(&mut Kernel::open()?)?;
    let mapping: MappingSet = match (state.running(), rollback.to) {
        (Some(_), None) => (**state.active()).clone(),
        (_, to) => {
            let journal = Journal::at(&common.state_dir);
            let target = target(&journal, &state, to)?;
            stored::mapping(&journal, target)?
        }
    };
    let report = Report {
        before: state.serving(),
        after: &mapping,
        replaced: &state.strange(&mapping),
        generation: None,
        warnings: &[],
        done: false,
    };
    report.show(ui)?;
    Ok(report.exit_code(rollback.detailed_exitcode))
}

/// Which generation to go to; 0 is the empty one.
fn target(journal: &Journal, state: &State, to: Option<u64>) -> Result<u64> {
    if let Some(number) = to {
        return Ok(number);
    }
    let entries = journal.list().context("read the history")?;
    let active = journal::active(journal::readable(&entries), state.seen());
    let present = entries.iter().map(|entry| entry.number).collect();
    journal::rollback_target(journal::readable(&entries), &present, active).map_err(|nowhere| {
        Refusal::new(
            format!("there is no generation to go back to: {nowhere}"),
            "`portmap history` lists them, `portmap rollback --to N` goes to any",
        )
        .into()
    })
}
