//! What the guard does, as it happens: a line for people, or a document in one line.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::{JSON_VERSION, Ui, json};
use crate::engine::{self, Mended, name};
use crate::formats::diagnostic::Diagnostic;
use crate::host::holders::Process;
use crate::mapping::{GenerationId, Point};

/// Something that the guard has seen or done.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// It watches over this.
    Guarding {
        active: Point,
        mappings: usize,
    },
    /// There is nothing to watch over.
    Idle,
    /// What is active cannot be put back.
    Unrecorded,
    /// The same, and it is gone.
    Lost {
        by: Option<&'a Process>,
    },
    PutBack {
        by: Option<&'a Process>,
        mended: &'a Mended,
        took: Duration,
    },
    /// It has been put back so many times within so long that the next time comes later.
    BackingOff {
        by: Option<&'a Process>,
        times: usize,
        within: Duration,
        wait: Duration,
    },
    Failed {
        error: &'a engine::Error,
        wait: Duration,
    },
}

#[derive(Default, Serialize)]
struct Document {
    version: u32,
    event: &'static str,
    generation: Option<GenerationId>,
    mappings: Option<usize>,
    /// Who has removed or changed the table, if that is known.
    by: Option<ProcessJson>,
    /// How the table was changed; null if it was removed.
    damage: Option<String>,
    /// From the kernel's message to the commit that repaired the table.
    took_milliseconds: Option<f64>,
    next_attempt_seconds: Option<f64>,
    message: String,
    /// What failed beside it.
    warnings: Vec<Diagnostic>,
}

#[derive(Serialize)]
struct ProcessJson {
    pid: u32,
    name: String,
}

impl Ui {
    pub fn guard(&self, told: Told<'_>) -> Result<()> {
        if self.is_json() {
            let document = Document { warnings: self.take_warnings(), ..document(told) };
            let text = json::line(&document).context("write JSON")?;
            return self.print(format_args!("{text}\n"));
        }
        match told {
            Told::Guarding { .. } | Told::Idle | Told::PutBack { .. } => self.say(told)?,
            Told::Unrecorded | Told::Lost { .. } | Told::BackingOff { .. } => self.warn(told),
            Told::Failed { error, .. } => self.error(told, error.help().as_deref()),
        }
        Ok(())
    }
}

/// Who did it, at the beginning of a sentence.
struct Who<'a>(Option<&'a Process>);

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(Process { pid, name }) => write!(f, "{name} (pid {pid})"),
            None => f.write_str("another program"),
        }
    }
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Guarding { active, mappings } => {
                let mappings = match mappings {
                    1 => "1 mapping".to_owned(),
                    n => format!("{n} mappings"),
                };
                write!(f, "guarding {}: {mappings}", name(active))
            }
            Self::Idle => f.write_str("nothing is mapped; what is applied will be guarded"),
            Self::Unrecorded => f.write_str(
                "the active mapping is not in the history, so it is not guarded; `portmap apply` of \
                 the rules file records it",
            ),
            Self::Lost { by } => write!(
                f,
                "{} removed table inet portmap, whose mapping was not in the history: it cannot be \
                 put back",
                Who(by)
            ),
            Self::PutBack { by, mended, took } => {
                let milliseconds = milliseconds(took);
                match &mended.damage {
                    None => write!(f, "{} removed table inet portmap", Who(by))?,
                    Some(how) => write!(f, "{} changed table inet portmap ({how})", Who(by))?,
                }
                let trial = if mended.is_on_trial { ", and its trial" } else { "" };
                write!(f, ": put back {}{trial}, in {milliseconds:.1} ms", name(mended.active))
            }
            Self::BackingOff { by, times, within, wait } => write!(
                f,
                "{} keeps removing or changing table inet portmap: it was put back {times} times \
                 within {}, and the next attempt is in {}",
                Who(by),
                humantime::format_duration(within),
                humantime::format_duration(wait),
            ),
            Self::Failed { error, wait } => {
                write!(f, "{error}; the next attempt is in {}", humantime::format_duration(wait))
            }
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn document(told: Told<'_>) -> Document {
    let process =
        |by: Option<&Process>| by.map(|p| ProcessJson { pid: p.pid, name: p.name.clone() });
    let message = told.to_string();
    let plain = |event| Document { version: JSON_VERSION, event, message, ..Document::default() };
    let next = |wait: Duration| Some(wait.as_secs_f64());
    match told {
        Told::Guarding { active, mappings } => Document {
            generation: active.generation(),
            mappings: Some(mappings),
            ..plain("guarding")
        },
        Told::Idle => plain("idle"),
        Told::Unrecorded => plain("unrecorded"),
        Told::Lost { by } => Document { by: process(by), ..plain("lost") },
        Told::PutBack { by, mended, took } => Document {
            generation: mended.active.generation(),
            mappings: Some(mended.change.after.len()),
            by: process(by),
            damage: mended.damage.clone(),
            took_milliseconds: Some(milliseconds(took)),
            ..plain("put-back")
        },
        Told::BackingOff { by, wait, .. } => {
            Document { by: process(by), next_attempt_seconds: next(wait), ..plain("backing-off") }
        }
        Told::Failed { wait, .. } => {
            Document { next_attempt_seconds: next(wait), ..plain("failed") }
        }
    }
}
