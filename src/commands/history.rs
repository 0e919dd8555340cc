//! `portmap history`: the generations.

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::cli::Common;
use crate::commands::session::State;
use crate::journal::{self, Entry, Header, Journal, Outcome, Seen};
use crate::kernel::Kernel;
use crate::output::{JSON_VERSION, Table, Ui};

#[derive(Serialize)]
struct Document {
    version: u32,
    generations: Vec<Generation>,
}

#[derive(Serialize)]
struct Generation {
    number: u64,
    /// `null` for all that cannot be read, with the reason in `error`.
    time: Option<String>,
    who: Option<String>,
    command: Option<String>,
    sources: Vec<String>,
    message: Option<String>,
    parent: Option<u64>,
    restores: Option<u64>,
    state: &'static str,
    persisted: bool,
    error: Option<String>,
}

pub fn run(ui: &Ui, common: &Common) -> Result<ExitCode> {
    let journal = Journal::at(&common.state_dir);
    let entries = match journal.list() {
        Err(journal::Error::Absent { .. }) => Vec::new(),
        other => other.context("read the history")?,
    };
    // An ordinary user may read the history, but not the kernel's table.
    let seen = Kernel::open().map_err(Into::into).and_then(|mut k| State::read(&mut k));
    let seen = seen.map(|state| state.seen());
    let boot = if entries.is_empty() { None } else { journal.boot().unwrap_or_default() };
    let generations = list(&entries, seen.as_ref().ok().copied(), boot);
    if ui.is_json() {
        ui.print_json(&Document { version: JSON_VERSION, generations })?;
        return Ok(ExitCode::SUCCESS);
    }
    if generations.is_empty() {
        ui.say("no history: nothing was applied yet")?;
        return Ok(ExitCode::SUCCESS);
    }
    ui.print(table(&generations))?;
    if let Err(e) = seen {
        ui.note(format_args!("which generation is active is not known: {e:#}"));
    }
    for entry in &entries {
        if let Err(e) = &entry.header {
            ui.warn(e);
            ui.note(e.help());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(entries: &[Entry], seen: Option<Seen>, boot: Option<u64>) -> Vec<Generation> {
    let active = seen.and_then(|seen| journal::active(journal::readable(entries), seen));
    let mends = seen.map(|seen| journal::recover(journal::readable(entries), seen));
    let mends = mends.unwrap_or_default();
    let ended = |header: &Header| {
        let mend = mends.iter().find(|mend| mend.number == header.number);
        mend.map_or(header.outcome, |mend| mend.to)
    };
    entries
        .iter()
        .map(|entry| {
            let persisted = boot == Some(entry.number);
            match &entry.header {
                Ok(header) => {
                    let state = state(header, ended(header), active);
                    generation(header, state, persisted)
                }
                Err(e) => damaged(entry.number, persisted, e),
            }
        })
        .collect()
}

fn state(header: &Header, outcome: Outcome, active: Option<u64>) -> &'static str {
    match outcome {
        Outcome::Committed if active == Some(header.number) => "active",
        Outcome::Committed => "past",
        Outcome::Trial => "on trial",
        Outcome::Reverted => "reverted",
        Outcome::Failed => "failed",
        Outcome::Intent => "unfinished",
    }
}

fn generation(header: &Header, state: &'static str, persisted: bool) -> Generation {
    Generation {
        number: header.number,
        time: Some(time(header.time)),
        who: header.who.as_ref().map(ToString::to_string),
        command: Some(header.command.to_string()),
        sources: header.sources.clone(),
        message: header.message.clone(),
        parent: header.parent,
        restores: header.restores,
        state,
        persisted,
        error: None,
    }
}

fn damaged(number: u64, persisted: bool, error: &journal::Error) -> Generation {
    Generation {
        number,
        time: None,
        who: None,
        command: None,
        sources: Vec::new(),
        message: None,
        parent: None,
        restores: None,
        state: "damaged",
        persisted,
        error: Some(error.to_string()),
    }
}

/// RFC 3339, UTC.
fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

fn table(generations: &[Generation]) -> Table {
    let mut table = Table::new(&[">N", "TIME", "WHO", "WHAT", "STATE", "FROM", "MESSAGE"]);
    for g in generations {
        let what = match (g.command.as_deref(), g.restores) {
            (Some("rollback"), Some(n)) => format!("rollback to {n}"),
            (Some(command), _) => command.to_owned(),
            (None, _) => "-".to_owned(),
        };
        let state = if g.persisted { format!("{}, at boot", g.state) } else { g.state.to_owned() };
        table.row(vec![
            g.number.to_string(),
            g.time.as_deref().unwrap_or("-").replace('T', " ").replace('Z', ""),
            g.who.clone().unwrap_or_else(|| "-".to_owned()),
            what,
            state,
            g.sources.join(" "),
            g.message.clone().unwrap_or_default(),
        ]);
    }
    table
}
