//! `portmap clear`: everything of ours leaves the kernel, and nothing else.

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{self, Common};
use crate::commands::failure;
use crate::commands::report::Report;
use crate::commands::session::{Goal, Record, Session};
use crate::commands::state::{State, look};
use crate::journal::{Command, Draft, Outcome, Who};
use crate::kernel::Kernel;
use crate::mapping::MappingSet;
use crate::output::Ui;

pub fn run(ui: &Ui, common: &Common, clear: &cli::Clear) -> Result<ExitCode> {
    if clear.dry_run {
        let state = State::read(&mut Kernel::open()?)?;
        let nothing = MappingSet::default();
        return show(ui, &Report::preview(&state, &nothing), clear.detailed_exitcode);
    }
    remove(ui, common, clear).map_err(failure::or_without_history)
}

fn remove(ui: &Ui, common: &Common, clear: &cli::Clear) -> Result<ExitCode> {
    let nothing = MappingSet::default();
    let mut session = if clear.no_history {
        Session::without_history(ui, common, look(ui)?)?
    } else {
        Session::open(ui, common)?
    };
    let on_trial = session.on_trial();
    let draft = Draft {
        who: Some(Who::invoking()),
        command: Command::Clear,
        sources: Vec::new(),
        message: None,
        parent: None,
        // A mapping of its own, though an empty one: a rollback undoes it.
        restores: None,
        trial_until: None,
    };
    let reached = session.reach(Goal::mapping(&nothing), Record::New(draft), None)?;
    session.finish(on_trial.unwrap_or(0), Outcome::Reverted);
    show(ui, &Report::of(&reached, &nothing), clear.detailed_exitcode)
}

fn show(ui: &Ui, report: &Report<'_>, detailed: bool) -> Result<ExitCode> {
    if report.changed() || ui.is_json() {
        report.show(ui)?;
    } else {
        ui.say("nothing to do: nothing is mapped")?;
    }
    Ok(report.exit_code(detailed))
}
