//! The generations, as a table or as one document.

use std::time::SystemTime;

use anyhow::Result;
use serde::Serialize;

use super::escape::visible;
use super::{JSON_VERSION, Table, Ui};
use crate::engine::Listing;
use crate::history::{Command, Error, Header, Outcome, Stamped};
use crate::mapping::{GenerationId, Point};

#[derive(Serialize)]
struct Document {
    version: u32,
    generations: Vec<Generation>,
    /// What else cannot be read.
    problems: Vec<String>,
}

/// A generation; what cannot be read is null, with the reason in `error`.
#[derive(Default, Serialize)]
struct Generation {
    number: Option<GenerationId>,
    time: Option<String>,
    who: Option<String>,
    uid: Option<u32>,
    command: Option<Command>,
    sources: Vec<String>,
    message: Option<String>,
    /// Equal for equal mappings; null if an earlier version of portmap wrote it.
    hash: Option<String>,
    parent: Option<Point>,
    restores: Option<Point>,
    state: &'static str,
    persisted: bool,
    error: Option<String>,
}

impl Ui {
    pub fn listing(&self, listing: &Listing) -> Result<()> {
        let generations: Vec<_> = listing
            .history
            .entries()
            .map(|(number, entry)| match entry {
                Ok(header) => generation(header, listing),
                Err(e) => damaged(number, e, listing),
            })
            .collect();
        let problem = listing.history.boot().err();
        if self.is_json() {
            let problems = problem.iter().map(|e| chain(e)).collect();
            return self.print_json(&Document { version: JSON_VERSION, generations, problems });
        }
        if generations.is_empty() {
            self.say(match lost(listing) {
                Some(_) => "no history",
                None => "no history: nothing was applied yet",
            })?;
        } else {
            self.table(&table(&generations))?;
            if let Err(e) = &listing.seen {
                self.note(format_args!("which generation is active is not known: {e}"));
            }
        }
        if let Some(number) = lost(listing) {
            let dir = listing.history.dir().display();
            self.warn(format_args!(
                "the kernel's table is of generation {number}, which is not in {dir}"
            ));
            self.note("if the history is kept elsewhere, name it with --state-dir DIR");
        }
        for e in listing.history.entries().filter_map(|(_, entry)| entry.err()).chain(problem) {
            self.warn(chain(e));
            self.note(e.help());
        }
        Ok(())
    }
}

/// The generation that the kernel's table carries, if the history does not have it.
fn lost(listing: &Listing) -> Option<GenerationId> {
    match listing.seen.as_ref().ok()?.stamp {
        Stamped::Generation(number) if !listing.history.contains(number) => Some(number),
        _ => None,
    }
}

/// An error with all its causes, in a line.
fn chain(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn is_persisted(number: GenerationId, listing: &Listing) -> bool {
    listing.history.boot().is_ok_and(|boot| boot == Some(number))
}

fn state(header: &Header, listing: &Listing) -> &'static str {
    match listing.outcome(header.number).unwrap_or(header.outcome) {
        Outcome::Committed if listing.seen.is_err() => "committed",
        Outcome::Committed if listing.active() == Some(header.number.into()) => "active",
        Outcome::Committed => "past",
        Outcome::Trial => "on trial",
        Outcome::Reverted => "reverted",
        Outcome::Failed => "failed",
        Outcome::Intent => "unfinished",
    }
}

fn generation(header: &Header, listing: &Listing) -> Generation {
    Generation {
        number: Some(header.number),
        time: Some(time(header.time)),
        who: header.who.as_ref().map(ToString::to_string),
        uid: header.who.as_ref().map(|who| who.uid),
        command: Some(header.command),
        sources: header.sources.clone(),
        message: header.message.clone(),
        hash: header.mapping_hash.map(|hash| hash.to_string()),
        parent: header.parent,
        restores: header.restores,
        state: state(header, listing),
        persisted: is_persisted(header.number, listing),
        error: None,
    }
}

fn damaged(number: GenerationId, error: &Error, listing: &Listing) -> Generation {
    Generation {
        number: Some(number),
        state: "damaged",
        persisted: is_persisted(number, listing),
        error: Some(chain(error)),
        ..Generation::default()
    }
}

/// RFC 3339, UTC.
fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// `ada (1000)`, `uid 1000`
fn who(g: &Generation) -> String {
    match (&g.who, g.uid) {
        (Some(who), Some(uid)) if !who.starts_with("uid ") => format!("{who} ({uid})"),
        (Some(who), _) => who.clone(),
        (None, _) => "-".to_owned(),
    }
}

fn table(generations: &[Generation]) -> Table {
    let mut table = Table::new(&[">N", "TIME", "WHO", "WHAT", "STATE", "FROM", "MESSAGE"]);
    for g in generations {
        let what = match (g.command, g.restores) {
            (Some(Command::Rollback), Some(n)) => format!("rollback to {n}"),
            (Some(command), _) => command.to_string(),
            (None, _) => "-".to_owned(),
        };
        let state = if g.persisted { format!("{}, at boot", g.state) } else { g.state.to_owned() };
        table.row(vec![
            g.number.map(|n| n.to_string()).unwrap_or_default(),
            g.time.as_deref().unwrap_or("-").replace('T', " "),
            visible(&who(g)),
            what,
            state,
            visible(&g.sources.join(" ")),
            visible(g.message.as_deref().unwrap_or_default()),
        ]);
    }
    table
}
