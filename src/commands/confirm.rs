//! `portmap confirm`: a trial went well.

use std::process::ExitCode;

use crate::cli::{self, Common};
use crate::commands::failure::{Failure, Result};
use crate::commands::outcome::finish;
use crate::commands::{boot, engine};
use crate::engine::Change;
use crate::ui::Ui;
use crate::ui::change::Tense;

pub fn run(ui: &Ui, common: &Common, confirm: &cli::Confirm) -> Result {
    let change = engine::open(ui, common)?.confirm(None, confirm.persist)?;
    show(ui, common, &change).map_err(|e| Failure::from(e).after_change())?;
    finish(change, ExitCode::SUCCESS)
}

fn show(ui: &Ui, common: &Common, change: &Change) -> anyhow::Result<()> {
    if ui.is_json() {
        ui.change(change, Tense::Done)?;
    }
    match change.generation {
        Some(generation) => ui.say(format_args!("kept: generation {generation} is active"))?,
        None => ui.say("kept")?,
    }
    change.persisted.map_or(Ok(()), |persisted| boot::say(ui, common, persisted))
}
