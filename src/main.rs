//! Parse, run, exit.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use portmap::commands::{self, completions, invocation};

fn main() -> ExitCode {
    if let Some(code) = invocation::begin() {
        return code;
    }
    completions::answer();
    match invocation::read() {
        Ok(cli) => commands::run(cli),
        Err(e) => commands::no_command(&e),
    }
}
