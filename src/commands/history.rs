//! `portmap history`: the generations.

use std::process::ExitCode;

use crate::cli::Common;
use crate::commands::engine;
use crate::commands::failure::Result;
use crate::ui::Ui;

pub fn run(ui: &Ui, common: &Common) -> Result {
    ui.listing(&engine::open(ui, common)?.list()?)?;
    Ok(ExitCode::SUCCESS)
}
