//! Stories of connections, as lines for people or one document.

pub mod document;
mod lines;

use std::time::Duration;

use anstyle::AnsiColor;
use anyhow::Result;

use super::{Ui, terminal};
use crate::host::listeners::Listener;
use crate::mapping::{Service, words};
use crate::story::{Chart, Heard, Outcome, Story};

/// A story, and what is known of the chains and rules that it names.
#[derive(Debug)]
pub struct Told {
    pub story: Story,
    pub chart: Chart,
    /// Who listens on the port that was reached, if that matters.
    pub listeners: Vec<Listener>,
}

impl Told {
    /// Those that do not serve it: `nginx (pid 7) listens on 127.0.0.1 only`.
    fn elsewhere(&self) -> Option<String> {
        if self.story.outcome != Outcome::Refused {
            return None;
        }
        let listener = self.listeners.first()?;
        let program = name(listener).unwrap_or_else(|| "a program".to_owned());
        Some(format!("{program} listens on {} only", listener.address))
    }
}

/// The program that serves the address: one bound to it comes before one bound to all.
pub fn program(story: &Story, listeners: &[Listener]) -> Option<String> {
    let address = story.reached.ip();
    let serving = || listeners.iter().filter(|listener| listener.serves(address));
    let exact = serving().find(|listener| listener.address == address);
    exact.or_else(|| serving().next()).and_then(name)
}

fn name(listener: &Listener) -> Option<String> {
    let program = listener.program.as_ref()?;
    Some(format!("{} (pid {})", program.name, program.pid))
}

/// All that was heard.
#[derive(Debug)]
pub struct Traced<'a> {
    pub services: &'a [Service],
    pub told: Vec<Told>,
    pub heard: Heard,
    /// Whether messages of the kernel were lost.
    pub is_incomplete: bool,
    pub is_interrupted: bool,
}

impl Ui {
    /// What is waited for. The tracing table is in the kernel.
    pub fn tracing(&self, services: &[Service], timeout: Duration) {
        self.note(format_args!(
            "waiting for a new connection to {}, up to {}; Ctrl-C ends it",
            words::services(services),
            humantime::format_duration(timeout)
        ));
    }

    /// One story, at once; with JSON, it is part of the document at the end.
    pub fn story(&self, told: &Told) -> Result<()> {
        if self.is_json() {
            return Ok(());
        }
        let lines = lines::of(told);
        let color = color(&told.story.outcome);
        self.print(lines.fitting(terminal::width(), |label| self.paint(color, label)))
    }

    /// The end.
    pub fn traced(&self, traced: &Traced<'_>) -> Result<()> {
        if self.is_json() {
            return self.print_json(&document::of(traced));
        }
        let Heard { repeats, known, crowded } = traced.heard;
        if traced.is_interrupted && traced.told.is_empty() {
            self.note("interrupted before a new connection arrived");
        }
        if repeats > 0 {
            self.note(format_args!("{repeats} packets repeated connections shown above"));
        }
        if known > 0 {
            self.note(format_args!(
                "{known} packets belonged to flows that had been answered before: these keep the \
                 translation of their first packet"
            ));
        }
        if crowded > 0 || traced.is_incomplete {
            self.warn("there were more connections than could be followed; some are not shown");
        }
        Ok(())
    }
}

const fn color(outcome: &Outcome) -> AnsiColor {
    match outcome {
        Outcome::Answered | Outcome::Forwarded => AnsiColor::Green,
        Outcome::Ignored | Outcome::Lost => AnsiColor::Yellow,
        Outcome::Refused
        | Outcome::Rejected(_)
        | Outcome::Dropped(_)
        | Outcome::AnswerDropped(_) => AnsiColor::Red,
    }
}
