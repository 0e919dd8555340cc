//! `portmap render`: the same for other programs.

use std::fmt::Display;
use std::process::ExitCode;

use serde::Serialize;

use crate::cli::{self, Script};
use crate::commands::failure::Result;
use crate::commands::input;
use crate::formats::diagnostic::Diagnostic;
use crate::formats::iptables;
use crate::mapping::Family;
use crate::ruleset;
use crate::ui::{JSON_VERSION, Ui};

/// The script as a text, with the program that reads it.
#[derive(Serialize)]
struct Document {
    version: u32,
    format: &'static str,
    script: String,
    warnings: Vec<Diagnostic>,
}

pub fn run(ui: &Ui, render: &cli::Render) -> Result {
    let rules = input::read(ui, &render.input).resolve(ui, render.input.strict)?;
    let iptables = |family| iptables::Script { mapping: &rules.mapping, family };
    match render.format {
        Script::Nft => show(ui, "nft", ruleset::Script(&rules.mapping)),
        Script::Iptables => show(ui, "iptables", iptables(Family::Ipv4)),
        Script::Ip6tables => show(ui, "ip6tables", iptables(Family::Ipv6)),
    }
}

fn show(ui: &Ui, format: &'static str, script: impl Display) -> Result {
    if ui.is_json() {
        let (script, warnings) = (script.to_string(), ui.take_warnings());
        ui.print_json(&Document { version: JSON_VERSION, format, script, warnings })?;
    } else {
        ui.print_for_programs(script)?;
    }
    Ok(ExitCode::SUCCESS)
}
