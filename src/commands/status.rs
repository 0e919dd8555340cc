//! `portmap status`: what is active, once or again and again, and whether all is as it should be.

use std::process::ExitCode;
use std::time::Duration;

use crate::cli::{self, Common, Format};
use crate::commands::engine;
use crate::commands::failure::{Failure, Result};
use crate::ui::Ui;
use crate::ui::watch::{Next, Silent};

pub fn run(ui: &Ui, common: &Common, status: &cli::Status) -> Result {
    let is_prometheus = common.output == Format::Prometheus;
    if status.watch {
        if is_prometheus {
            return Err(Failure::Usage {
                message: "--watch and --output prometheus cannot be used together".into(),
                help: "have a timer run `portmap status --output prometheus`".into(),
            });
        }
        return watch(ui, common, status.interval);
    }
    let now = engine::open(ui, common)?.status()?;
    let faults = now.faults();
    match (is_prometheus, status.check) {
        (true, _) => ui.prometheus(&now)?,
        (false, true) => ui.health(&now, &faults)?,
        (false, false) => ui.status(&now)?,
    }
    let is_bad = status.check && !faults.is_empty();
    Ok(if is_bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn watch(ui: &Ui, common: &Common, interval: Duration) -> Result {
    let mut engine = engine::open_with(&Silent, common)?;
    let mut watch = ui.watch(interval)?;
    // Where a look fails, the terminal is put back before the failure is shown.
    while watch.show(&engine.status()?)? == Next::Look {}
    Ok(ExitCode::SUCCESS)
}
