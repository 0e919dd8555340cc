//! `portmap restore`: used by the boot service.

use std::process::ExitCode;
use std::rc::Rc;

use crate::cli::{self, Common};
use crate::commands::engine;
use crate::commands::failure::{Failure, Result};
use crate::commands::outcome::finish;
use crate::engine::{Change, Restored};
use crate::mapping::MappingSet;
use crate::ui::Ui;
use crate::ui::change::Tense;

pub fn run(ui: &Ui, common: &Common, restore: &cli::Restore) -> Result {
    match engine::open(ui, common)?.restore(restore.if_missing)? {
        Restored::Nothing => nothing(ui, "nothing to restore: no mapping is persisted"),
        Restored::Present => {
            nothing(ui, "nothing to do: the kernel has a table of portmap's already")
        }
        Restored::Generation { number, mappings, instead_of, change } => {
            let mappings = match mappings {
                1 => "1 mapping".to_owned(),
                n => format!("{n} mappings"),
            };
            let said = match change.is_committed {
                true => format!("restored generation {number}: {mappings}"),
                false => {
                    format!("nothing to do: the kernel already does what generation {number} says")
                }
            };
            let shown = show(ui, &change, &said);
            ui.replaced(number, instead_of);
            shown.map_err(|e| match change.is_committed {
                true => Failure::from(e).after_change(),
                false => e.into(),
            })?;
            finish(*change, ExitCode::SUCCESS)
        }
    }
}

fn show(ui: &Ui, change: &Change, said: &str) -> anyhow::Result<()> {
    if ui.is_json() { ui.change(change, Tense::Done) } else { ui.say(said) }
}

fn nothing(ui: &Ui, why: &str) -> Result {
    if ui.is_json() {
        ui.change(&Change::none(Rc::new(MappingSet::default()), None), Tense::Done)?;
    }
    ui.say(why)?;
    Ok(ExitCode::SUCCESS)
}
