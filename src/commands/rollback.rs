//! `portmap rollback`: back to what was before.

use crate::cli::{self, Common};
use crate::commands::engine;
use crate::commands::failure::{Failure, Result};
use crate::commands::outcome::{exit_code, finish};
use crate::engine::{Ended, RollbackRequest, RolledBack, name};
use crate::mapping::Point;
use crate::ui::Ui;
use crate::ui::change::Tense;

pub fn run(ui: &Ui, common: &Common, rollback: &cli::Rollback) -> Result {
    let mut engine = engine::open(ui, common)?;
    let request =
        RollbackRequest { to: rollback.number.or(rollback.to), message: rollback.message.clone() };
    let detailed = rollback.detailed_exitcode;
    if rollback.dry_run {
        return preview(ui, &engine.preview_rollback(&request)?, detailed);
    }
    let rolled_back = engine.roll_back(&request)?;
    let is_change = rolled_back.change().is_change();
    let shown = show(ui, &rolled_back).and_then(|()| match &rolled_back {
        RolledBack::Trial(_) => Ok(()),
        RolledBack::To(_, change) => ui.boot_after(change),
    });
    shown.map_err(|e| match is_change {
        true => Failure::from(e).after_change(),
        false => e.into(),
    })?;
    finish(rolled_back.into_change(), exit_code(is_change, detailed))
}

fn show(ui: &Ui, rolled_back: &RolledBack) -> anyhow::Result<()> {
    match rolled_back {
        RolledBack::Trial(Ended { change, was_running }) => {
            match ui.is_json() {
                true => ui.change(change, Tense::Done)?,
                false => ui.beside(change),
            }
            ui.say(match was_running {
                true => "the trial is ended: the previous mapping is active again",
                false => "the trial was over already: the previous mapping is active",
            })
        }
        RolledBack::To(target, change) if change.is_change() || ui.is_json() => {
            ui.change(change, Tense::Done)?;
            ui.say(format_args!("back to {}", name(*target)))
        }
        RolledBack::To(Point::Beginning, _) => ui.say("nothing to do: nothing is mapped"),
        RolledBack::To(Point::Generation(n), _) => {
            ui.say(format_args!("nothing to do: the kernel already does what generation {n} says"))
        }
    }
}

fn preview(ui: &Ui, rolled_back: &RolledBack, detailed: bool) -> Result {
    let change = rolled_back.change();
    let to = match rolled_back {
        RolledBack::Trial(_) => "the mapping from before the trial".into(),
        RolledBack::To(target, _) => name(*target),
    };
    ui.change(change, Tense::Ahead)?;
    ui.say(format_args!("this would go back to {to}"))?;
    Ok(exit_code(change.is_change(), detailed))
}
