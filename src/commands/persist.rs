//! `portmap persist`: the active mapping comes back after a reboot.

use std::process::ExitCode;

use serde::Serialize;

use crate::cli::{self, Common};
use crate::commands::failure::{Failure, Result};
use crate::commands::{boot, engine};
use crate::engine::Forgotten;
use crate::mapping::GenerationId;
use crate::ui::{JSON_VERSION, Ui};

#[derive(Serialize)]
struct Document {
    version: u32,
    changed: bool,
    /// What boot restores from now on.
    persisted: Option<GenerationId>,
}

pub fn run(ui: &Ui, common: &Common, persist: &cli::Persist) -> Result {
    let mut engine = engine::open(ui, common)?;
    if persist.off {
        let forgotten = engine.forget()?;
        let changed = forgotten == Forgotten::Pointer;
        let shown = document(ui, changed, None).and_then(|()| {
            ui.say(match forgotten {
                Forgotten::Pointer => {
                    "nothing is restored at boot from now on; the active mapping stays until then"
                }
                Forgotten::Nothing => "nothing to do: no mapping is persisted",
            })
        });
        shown.map_err(|e| reported(e, changed))?;
    } else {
        let persisted = engine.persist()?;
        let changed = persisted.before != persisted.after;
        let shown =
            document(ui, changed, persisted.after).and_then(|()| boot::say(ui, common, persisted));
        shown.map_err(|e| reported(e, changed))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What boot does is changed, even if nobody can be told.
fn reported(error: anyhow::Error, changed: bool) -> Failure {
    let failure = Failure::from(error);
    if changed { failure.after_change() } else { failure }
}

fn document(ui: &Ui, changed: bool, persisted: Option<GenerationId>) -> anyhow::Result<()> {
    match ui.is_json() {
        true => ui.print_json(&Document { version: JSON_VERSION, changed, persisted }),
        false => Ok(()),
    }
}
