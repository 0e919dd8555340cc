//! `portmap show`: a generation as a rules file.

use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::cli::{self, Common};
use crate::commands::state::{State, serving_generation};
use crate::commands::stored;
use crate::journal::Journal;
use crate::kernel::Kernel;
use crate::output::{JSON_VERSION, Ui};

#[derive(Serialize)]
struct Document {
    version: u32,
    generation: Option<u64>,
    rules: String,
}

pub fn run(ui: &Ui, common: &Common, show: &cli::Show) -> Result<ExitCode> {
    let (generation, rules) = match show.number {
        Some(0) => (Some(0), String::new()),
        Some(number) => {
            let journal = Journal::at(&common.state_dir);
            let (_, text) = journal.read(number).context(format!("read generation {number}"))?;
            (Some(number), text)
        }
        None => {
            let state = State::read(&mut Kernel::open()?)?;
            let generation = serving_generation(&state, &Journal::at(&common.state_dir));
            (generation, stored::text(state.serving()))
        }
    };
    if ui.is_json() {
        ui.print_json(&Document { version: JSON_VERSION, generation, rules })?;
    } else if rules.is_empty() {
        ui.note("nothing is mapped");
    } else {
        ui.print(rules)?;
    }
    Ok(ExitCode::SUCCESS)
}
