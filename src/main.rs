//! Parse, run, exit.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use portmap::cli::Cli;
use portmap::commands::{self, completions};

fn main() -> ExitCode {
    completions::answer();
    match Cli::try_parse() {
        Ok(cli) => commands::run(cli),
        Err(e) => commands::no_command(&e),
    }
}
