//! One short file per verb; here is where they are called.

#![forbid(unsafe_code)]

mod apply;
mod check;
mod clear;
pub mod completions;
mod confirm;
mod countdown;
mod failure;
mod history;
mod input;
mod man;
mod persist;
mod plan;
mod render;
mod report;
mod restore;
mod rollback;
mod schema;
mod session;
mod show;
mod state;
mod status;
mod stored;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{Cli, Command};
use crate::output::{self, Ui};

/// Runs what the user asked for. The exit codes are: 0 done; 1 failed, nothing changed; 2 done,
/// and there were changes, where `--detailed-exitcode` asks for it; 64 the command line is wrong.
pub fn run(cli: Cli) -> ExitCode {
    let ui = Ui::new(&cli.common);
    let code = dispatch(&ui, cli).unwrap_or_else(|e| {
        failure::show(&ui, &e);
        ExitCode::FAILURE
    });
    failure::show_rest(&ui);
    code
}

/// `EX_USAGE` of sysexits.h: the command line is wrong.
const USAGE: u8 = 64;

/// Nothing to run: the command line is wrong, or asks for help or the version.
pub fn no_command(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        failure::show_usage(error);
        return ExitCode::from(USAGE);
    }
    match output::finish(error.print().and_then(|()| io::stdout().flush())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(ui: &Ui, cli: Cli) -> Result<ExitCode> {
    let common = &cli.common;
    match cli.command {
        Command::Check(input) => check::run(ui, &input),
        Command::Render(render) => render::run(ui, &render),
        Command::Plan(plan) => plan::run(ui, &plan),
        Command::Apply(apply) => apply::run(ui, common, &apply),
        Command::Status => status::run(ui, common),
        Command::Confirm(confirm) => confirm::run(ui, common, &confirm),
        Command::Rollback(rollback) => rollback::run(ui, common, &rollback),
        Command::History => history::run(ui, common),
        Command::Show(show) => show::run(ui, common, &show),
        Command::Persist(persist) => persist::run(ui, common, &persist),
        Command::Restore(restore) => restore::run(ui, common, &restore),
        Command::Clear(clear) => clear::run(ui, common, &clear),
        Command::Completions(completions) => completions::run(ui, &completions),
        Command::Man(man) => man::run(ui, &man),
        Command::Schema(schema) => schema::run(ui, &schema),
    }
}
