//! `portmap clear`: everything of ours leaves the kernel, and nothing else.

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{self, Common};
use crate::commands::report::Report;
use crate::commands::session::{Goal, Record, Session, State, look};
use crate::journal::{Command, Draft, Who};
use crate::kernel::Kernel;
use crate::mapping::MappingSet;
use crate::output::Ui;

pub fn run(ui: &Ui, common: &Common, clear: &cli::Clear) -> Result<ExitCode> {
    let nothing = MappingSet::default();
    if clear.dry_run {
        let state = State::read(&mut Kernel::open()?)?;
        return show(ui, state.serving(), &nothing, false, clear.detailed_exitcode);
    }
    let mut session = if clear.no_history {
        Session::without_history(ui, look(ui)?)
    } else {
        Session::open(ui, common)?
    };
    let draft = Draft {
        who: Some(Who::invoking()),
        command: Command::Clear,
        sources: Vec::new(),
        message: None,
        parent: None,
        restores: Some(0),
        trial_until: None,
    };
    let reached = session.reach(Goal::mapping(&nothing), Record::New(draft), None)?;
    show(ui, &reached.before, &nothing, true, clear.detailed_exitcode)
}

fn show(
    ui: &Ui,
    before: &MappingSet,
    after: &MappingSet,
    done: bool,
    detailed: bool,
) -> Result<ExitCode> {
    let report = Report { before, after, replaced: &[], generation: None, warnings: &[], done };
    report.show(ui)?;
    Ok(report.exit_code(detailed))
}
