//! `portmap check`: is this file all right?

use std::process::ExitCode;

use serde::Serialize;

use crate::cli;
use crate::commands::failure::Result;
use crate::commands::input;
use crate::formats::diagnostic::Diagnostic;
use crate::ui::{JSON_VERSION, Ui};

#[derive(Serialize)]
struct Document {
    version: u32,
    mappings: usize,
    warnings: Vec<Diagnostic>,
    notes: Vec<Diagnostic>,
}

pub fn run(ui: &Ui, input: &cli::Input) -> Result {
    let rules = input::read(ui, input).resolve(ui, input.strict)?;
    if ui.is_json() {
        ui.print_json(&Document {
            version: JSON_VERSION,
            mappings: rules.mapping.len(),
            warnings: ui.take_warnings(),
            notes: rules.notes,
        })?;
    } else {
        ui.warn_of(&rules.notes);
        let ports = match rules.mapping.len() {
            1 => "1 mapping".to_owned(),
            n => format!("{n} mappings"),
        };
        let warnings = match rules.warnings {
            0 => "no mistakes".to_owned(),
            1 => "1 warning".to_owned(),
            n => format!("{n} warnings"),
        };
        ui.say(format_args!("{}: {ports}, {warnings}", rules.names.join(", ")))?;
    }
    Ok(ExitCode::SUCCESS)
}
