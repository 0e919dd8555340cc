//! `portmap completions`: a script for the user's shell.

use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory;

use crate::cli::{Cli, Completions};
use crate::output::Ui;

pub fn run(ui: &Ui, completions: &Completions) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(completions.shell, &mut Cli::command(), "portmap", &mut script);
    ui.print(String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
