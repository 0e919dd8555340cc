//! `portmap history`: the generations, and how they differ.

use std::process::ExitCode;

use crate::cli::{self, Common};
use crate::commands::engine;
use crate::commands::failure::Result;
use crate::ui::Ui;

pub fn run(ui: &Ui, common: &Common, history: &cli::HistoryArgs) -> Result {
    let mut engine = engine::open(ui, common)?;
    match (history.diff, history.with) {
        (None, _) => ui.listing(&engine.list()?)?,
        (Some(to), None) => ui.difference(&engine.difference(None, to)?)?,
        (Some(from), Some(to)) => ui.difference(&engine.difference(Some(from), to)?)?,
    }
    Ok(ExitCode::SUCCESS)
}
