//! `portmap history`: the generations.

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::cli::Common;
use crate::commands::failure::chain;
use crate::commands::state::State;
use crate::journal::{self, Entry, Header, Journal, Mend, Outcome, Seen};
use crate::kernel::Kernel;
use crate::output::{JSON_VERSION, Table, Ui};

/// How often the history is read again if it was changed meanwhile.
const ATTEMPTS: usize = 20;

#[derive(Serialize)]
struct Document {
    version: u32,
    generations: Vec<Generation>,
    /// What else cannot be read.
    problems: Vec<String>,
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
    let (entries, seen) = look(&journal)?;
    let (boot, problem) = match journal.boot() {
        Ok(boot) => (boot, None),
        Err(journal::Error::Absent { .. }) => (None, None),
        Err(e) => (None, Some(e)),
    };
    let generations = list(&entries, seen.as_ref().ok().copied(), boot);
    if ui.is_json() {
        let problems = problem.iter().map(|e| chain(e)).collect();
        ui.print_json(&Document { version: JSON_VERSION, generations, problems })?;
        return Ok(ExitCode::SUCCESS);
    }
    if generations.is_empty() {
        ui.say("no history: nothing was applied yet")?;
    } else {
        ui.print(table(&generations))?;
        if let Err(e) = seen {
            ui.note(format_args!("which generation is active is not known: {e:#}"));
        }
    }
    for e in entries.iter().filter_map(|entry| entry.header.as_ref().err()).chain(&problem) {
        ui.warn(chain(e));
        ui.note(e.help());
    }
    Ok(ExitCode::SUCCESS)
}

/// The generations, and what the kernel says of them. An ordinary user may read the history, but
/// not the kernel's table.
fn look(journal: &Journal) -> Result<(Vec<Entry>, Result<Seen>)> {
    let ask = || Ok(State::of(Kernel::open()?.outline()?).seen());
    let mut seen = ask();
    for _ in 0..ATTEMPTS {
        let entries = match journal.list() {
            Err(journal::Error::Absent { .. }) => Vec::new(),
            other => other.context("read the history")?,
        };
        let again = ask();
        // If somebody made a change meanwhile, the two do not belong together.
        match (&seen, &again) {
            (Ok(a), Ok(b)) if a != b => seen = again,
            _ => return Ok((entries, again)),
        }
    }
    bail!("read the history: another portmap changed it in each of {ATTEMPTS} attempts")
}

fn list(entries: &[Entry], seen: Option<Seen>, boot: Option<u64>) -> Vec<Generation> {
    let active = seen.and_then(|seen| journal::active(journal::readable(entries), seen));
    let mends = seen.map(|seen| journal::recover(journal::readable(entries), seen));
    let mends = mends.unwrap_or_default();
    let ended = |header: &Header| {
        match mends.iter().find(|mend| mend.number == header.number) {
            // It may be on its way to the kernel at this moment.
            Some(Mend { from: Outcome::Intent, to: Outcome::Failed, .. }) => Outcome::Intent,
            Some(mend) => mend.to,
            None => header.outcome,
        }
    };
    entries
        .iter()
        .map(|entry| {
            let persisted = boot == Some(entry.number);
            match &entry.header {
                Ok(header) => {
                    let state = match state(header, ended(header), active) {
                        "past" if seen.is_none() => "committed",
                        state => state,
                    };
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
        error: Some(chain(error)),
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
            g.who.as_deref().map_or_else(|| "-".to_owned(), one_line),
            what,
            state,
            one_line(&g.sources.join(" ")),
            one_line(g.message.as_deref().unwrap_or_default()),
        ]);
    }
    table
}

/// What a user wrote, without what would break the line or command the terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
