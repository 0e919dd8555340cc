//! `portmap clear`: everything of ours leaves the kernel, and nothing else.

use crate::cli::{self, Common};
use crate::commands::engine;
use crate::commands::failure::{Failure, Result};
use crate::commands::outcome::{exit_code, finish};
use crate::engine::Change;
use crate::ui::Ui;
use crate::ui::change::Tense;

pub fn run(ui: &Ui, common: &Common, clear: &cli::Clear) -> Result {
    let mut engine = engine::open(ui, common)?;
    if clear.dry_run {
        let change = engine.preview_clear()?;
        show(ui, &change, Tense::Ahead)?;
        return Ok(exit_code(change.is_change(), clear.detailed_exitcode));
    }
    let change = match clear.persist {
        true => engine.clear_for_good()?,
        false => engine.clear(!clear.no_history)?,
    };
    show(ui, &change, Tense::Done).and_then(|()| ui.boot_after(&change)).map_err(
        |e| match change.is_change() {
            true => Failure::from(e).after_change(),
            false => e.into(),
        },
    )?;
    let code = exit_code(change.is_change(), clear.detailed_exitcode);
    finish(change, code)
}

fn show(ui: &Ui, change: &Change, tense: Tense) -> anyhow::Result<()> {
    if change.has_effect || ui.is_json() {
        ui.change(change, tense)
    } else {
        ui.say("nothing to do: nothing is mapped")
    }
}
