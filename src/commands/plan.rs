//! `portmap plan`: what would apply do?

use std::process::ExitCode;

use anyhow::Result;

use crate::cli;
use crate::commands::input;
use crate::commands::report::Report;
use crate::commands::session::{State, look_while};
use crate::output::Ui;

pub fn run(ui: &Ui, plan: &cli::Plan) -> Result<ExitCode> {
    preview(ui, &plan.input, plan.detailed_exitcode)
}

/// What apply would change. Needs no lock: it changes nothing.
pub fn preview(ui: &Ui, input: &cli::Input, detailed_exitcode: bool) -> Result<ExitCode> {
    let texts = input::read(ui, input);
    let (looked, rules) = look_while(ui, || texts.resolve(ui, input.strict))?;
    let state = State::of(looked.snapshot);
    let report = Report {
        before: state.serving(),
        after: &rules.mapping,
        replaced: state.strange(),
        generation: None,
        trial: None,
        warnings: &rules.warnings,
        done: false,
    };
    report.show(ui)?;
    Ok(report.exit_code(detailed_exitcode))
}
