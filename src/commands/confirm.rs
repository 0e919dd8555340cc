//! `portmap confirm`: a trial went well.

use std::process::ExitCode;

use crate::cli::{self, Common};
use crate::commands::engine;
use crate::commands::failure::{Failure, Result};
use crate::commands::outcome::finish;
use crate::engine::Change;
use crate::ui::Ui;
use crate::ui::change::Tense;

pub fn run(ui: &Ui, common: &Common, confirm: &cli::Confirm) -> Result {
    let change = engine::open(ui, common)?.confirm(None, confirm.persist)?;
    show(ui, &change).map_err(|e| Failure::from(e).after_change())?;
    finish(change, ExitCode::SUCCESS)
}

fn show(ui: &Ui, change: &Change) -> anyhow::Result<()> {
    if ui.is_json() {
        ui.change(change, Tense::Done)?;
    }
    match change.generation {
        Some(generation) => ui.say(format_args!("kept: generation {generation} is active"))?,
        None => ui.say("kept")?,
    }
    ui.boot_after(change)
}
