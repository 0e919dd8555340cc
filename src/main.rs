//! Parse, run, exit.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use portmap::cli::Cli;
use portmap::commands::{self, completions};

/// `EX_USAGE` of sysexits.h: the command line is wrong.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    completions::answer();
    match Cli::try_parse() {
        Ok(cli) => commands::run(cli),
        Err(e) => {
            // Help and version are errors to clap, and go to standard output.
            let wrong = e.use_stderr();
            let _ = e.print();
            if wrong { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
        }
    }
}
