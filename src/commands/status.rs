//! `portmap status`: what is active.

use std::process::ExitCode;

use crate::cli::Common;
use crate::commands::engine;
use crate::commands::failure::Result;
use crate::ui::Ui;

pub fn run(ui: &Ui, common: &Common) -> Result {
    ui.status(&engine::open(ui, common)?.status()?)?;
    Ok(ExitCode::SUCCESS)
}
