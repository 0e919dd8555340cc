//! `portmap plan`: what would apply do?

use std::process::ExitCode;

use anyhow::Result;

use crate::cli;
use crate::commands::report::Report;
use crate::commands::state::{State, look_while};
use crate::commands::{failure, input};
use crate::output::Ui;

pub fn run(ui: &Ui, plan: &cli::Plan) -> Result<ExitCode> {
    preview(ui, &plan.input, plan.detailed_exitcode)
}

/// What apply would change. Needs no lock: it changes nothing.
pub fn preview(ui: &Ui, input: &cli::Input, detailed_exitcode: bool) -> Result<ExitCode> {
    let texts = input::read(ui, input);
    let (looked, rules) = look_while(ui, || texts.resolve(ui, input.strict))?;
    let state = State::of(looked.snapshot);
    let report = Report::preview(&state, &rules.mapping);
    if report.changed() || ui.is_json() {
        report.show(ui)?;
    } else {
        input::say_unchanged(ui, &rules.names)?;
    }
    if let Some(trial) = state.running() {
        ui.note(format_args!("apply would be refused now: {}", failure::on_trial(trial.left)));
    }
    Ok(report.exit_code(detailed_exitcode))
}
