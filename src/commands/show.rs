//! `portmap show`: a generation as a rules file.

use std::process::ExitCode;

use serde::Serialize;

use crate::cli::{self, Common};
use crate::commands::engine;
use crate::commands::failure::Result;
use crate::mapping::Point;
use crate::ui::{JSON_VERSION, Ui};

#[derive(Serialize)]
struct Document {
    version: u32,
    generation: Option<Point>,
    rules: String,
}

pub fn run(ui: &Ui, common: &Common, show: &cli::Show) -> Result {
    let (generation, rules) = engine::open(ui, common)?.show(show.number)?;
    if ui.is_json() {
        ui.print_json(&Document { version: JSON_VERSION, generation, rules })?;
    } else if rules.is_empty() {
        ui.note("nothing is mapped");
    } else {
        ui.print_for_programs(rules)?;
    }
    Ok(ExitCode::SUCCESS)
}
