//! `portmap persist`: the active mapping comes back after a reboot.

use std::process::ExitCode;

use serde::Serialize;

use crate::cli::{self, Common};
use crate::commands::engine;
use crate::commands::failure::{Failure, Result};
use crate::engine::{Forgotten, Persisting};
use crate::mapping::GenerationId;
use crate::ui::boot::NextBootJson;
use crate::ui::{JSON_VERSION, Ui};

#[derive(Serialize)]
struct Document {
    version: u32,
    changed: bool,
    /// What is persisted from now on.
    persisted: Option<GenerationId>,
    /// What the next boot brings.
    boot: Option<NextBootJson>,
}

pub fn run(ui: &Ui, common: &Common, persist: &cli::Persist) -> Result {
    let mut engine = engine::open(ui, common)?;
    if persist.off {
        let forgotten = engine.forget()?;
        let changed = forgotten == Forgotten::Pointer;
        let shown = document(ui, changed, None, None).and_then(|()| {
            ui.say(match forgotten {
                Forgotten::Pointer => {
                    "nothing is restored at boot from now on; the active mapping stays until then"
                }
                Forgotten::Nothing => "nothing to do: no mapping is persisted",
            })
        });
        shown.map_err(|e| reported(e, changed))?;
        return Ok(ExitCode::SUCCESS);
    }
    let Persisting { persisted, next_boot, shortfall } = engine.persist()?;
    let changed = persisted.before != persisted.after;
    let boot = Some(NextBootJson::from(&next_boot));
    let shown = document(ui, changed, persisted.after, boot)
        .and_then(|()| ui.persisted(persisted, &next_boot));
    shown.map_err(|e| reported(e, changed))?;
    shortfall.map_or(Ok(ExitCode::SUCCESS), |shortfall| Err(shortfall.into()))
}

/// What boot does is changed, even if nobody can be told.
fn reported(error: anyhow::Error, changed: bool) -> Failure {
    let failure = Failure::from(error);
    if changed { failure.after_change() } else { failure }
}

fn document(
    ui: &Ui,
    changed: bool,
    persisted: Option<GenerationId>,
    boot: Option<NextBootJson>,
) -> anyhow::Result<()> {
    match ui.is_json() {
        true => ui.print_json(&Document { version: JSON_VERSION, changed, persisted, boot }),
        false => Ok(()),
    }
}
