//! `portmap schema`: what files and documents look like, for programs.

use std::process::ExitCode;

use crate::cli::{self, Document};
use crate::commands::failure::Result;
use crate::formats::rules;
use crate::ui::Ui;

pub fn run(ui: &Ui, schema: &cli::Schema) -> Result {
    ui.print(match schema.of {
        Document::Rules => rules::SCHEMA,
        Document::Errors => include_str!("../../schema/errors.schema.json"),
        Document::Check => include_str!("../../schema/check.schema.json"),
        Document::Render => include_str!("../../schema/render.schema.json"),
        Document::Changes => include_str!("../../schema/changes.schema.json"),
        Document::Status => include_str!("../../schema/status.schema.json"),
        Document::Trace => include_str!("../../schema/trace.schema.json"),
        Document::Doctor => include_str!("../../schema/doctor.schema.json"),
        Document::Probe => include_str!("../../schema/probe.schema.json"),
        Document::Guard => include_str!("../../schema/guard.schema.json"),
        Document::History => include_str!("../../schema/history.schema.json"),
        Document::Difference => include_str!("../../schema/difference.schema.json"),
        Document::Show => include_str!("../../schema/show.schema.json"),
        Document::Persist => include_str!("../../schema/persist.schema.json"),
    })?;
    Ok(ExitCode::SUCCESS)
}
