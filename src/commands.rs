//! One short file per verb: from the words of the command line to a request, from the engine's
//! answer to what is shown. Here is where they are called.

#![forbid(unsafe_code)]

mod apply;
mod check;
mod clear;
pub mod completions;
mod confinement;
mod confirm;
pub mod doctor;
mod engine;
mod failure;
mod guard;
mod history;
mod input;
pub mod invocation;
mod man;
mod outcome;
mod persist;
mod plan;
mod preview;
mod probe;
mod reload;
mod render;
mod restore;
mod rollback;
pub mod run;
mod schema;
mod services;
mod show;
mod status;
pub mod trace;

use std::io::{self, Write};
use std::process::ExitCode;

use crate::cli::{self, Cli, Command, Common, Format};
use crate::ui::{self, Settings, Ui};

use failure::{Failure, Result, USAGE};
use reload::TakesUp;

/// Runs what the user asked for. The exit codes are: 0 done; 1 failed, nothing was changed; 2 done,
/// and there were changes, where `--detailed-exitcode` asks for it; 3 the kernel was changed, but
/// something after that failed; 64 the command line is wrong.
pub fn run(cli: Cli) -> ExitCode {
    let ui = Ui::new(settings(&cli.common));
    let code = dispatch(&ui, cli).unwrap_or_else(|failure| failure.show(&ui));
    ui.rest();
    code
}

/// Nothing to run: the command line is wrong, or asks for help or the version.
pub fn no_command(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        failure::show_usage(error);
        return ExitCode::from(USAGE);
    }
    match ui::finish(error.print().and_then(|()| io::stdout().flush())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            Ui::new(Settings::default()).error(format_args!("{e:#}"), None);
            ExitCode::FAILURE
        }
    }
}

fn settings(common: &Common) -> Settings {
    Settings {
        format: if common.json { ui::Format::Json } else { common.output.into() },
        color: common.color.into(),
        quiet: common.quiet,
        verbose: common.verbose,
    }
}

fn dispatch(ui: &Ui, cli: Cli) -> Result {
    let common = &cli.common;
    if common.output == Format::Prometheus && !matches!(cli.command, Command::Status(_)) {
        return Err(Failure::Usage {
            message: "only `portmap status` prints metrics for Prometheus".into(),
            help: "use `--output json` for what other programs read".into(),
        });
    }
    confinement::confine(ui, &cli.command);
    match cli.command {
        Command::Check(input) => check::run(ui, &input),
        Command::Render(render) => render::run(ui, &render),
        Command::Plan(plan) => plan::run(ui, common, &plan),
        Command::Apply(apply) => apply::run(ui, common, &apply),
        Command::Status(status) => status::run(ui, common, &status),
        Command::Doctor(doctor) => doctor::run(ui, common, &doctor),
        Command::Trace(trace) => trace::run(ui, common, &trace),
        Command::Run(run) => run::run(ui, common, &run),
        Command::Guard(_) => guard::run(ui, common),
        Command::Confirm(confirm) => confirm::run(ui, common, &confirm),
        Command::Rollback(rollback) => rollback::run(ui, common, &rollback),
        Command::History(history) => history::run(ui, common, &history),
        Command::Show(show) => show::run(ui, common, &show),
        Command::Persist(persist) => persist::run(ui, common, &persist),
        Command::Restore(restore) => restore::run(ui, common, &restore),
        Command::Reload => match reload::takes_up(ui, common)? {
            TakesUp::Files => apply::run(ui, common, &cli::Apply::of_default_directory()),
            TakesUp::Persisted => restore::run(ui, common, &cli::Restore { if_missing: false }),
            TakesUp::Nothing => restore::run(ui, common, &cli::Restore { if_missing: true }),
        },
        Command::Clear(clear) => clear::run(ui, common, &clear),
        Command::Completions(completions) => completions::run(ui, &completions),
        Command::Man(man) => man::run(ui, &man),
        Command::Schema(schema) => schema::run(ui, &schema),
        Command::Version => {
            ui.print(concat!("portmap ", env!("CARGO_PKG_VERSION"), "\n"))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
