//! `portmap confirm`: a trial went well. And its opposites: it is ended, or was over already.

use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, Result};

use crate::cli::{self, Common};
use crate::commands::failure::Refusal;
use crate::commands::persist;
use crate::commands::report::Report;
use crate::commands::session::{Goal, Reached, Record, Session};
use crate::journal::Outcome;
use crate::output::Ui;

pub fn run(ui: &Ui, common: &Common, confirm: &cli::Confirm) -> Result<ExitCode> {
    keep(ui, common, confirm.persist)?;
    Ok(ExitCode::SUCCESS)
}

/// What is on trial becomes the active mapping.
pub fn keep(ui: &Ui, common: &Common, persist: bool) -> Result<()> {
    let mut session = Session::open(ui, common)?;
    let Some(trial) = session.state.running() else {
        return Err(nothing_on_trial(&mut session));
    };
    let mapping = Rc::clone(&trial.mapping);
    let generation = session.state.stamp().map_or(0, |stamp| stamp.generation);
    let reached = session.reach(Goal::mapping(&mapping), Record::Number(generation), None)?;
    let persisted =
        if persist { persist::keep(&session, reached.generation).map(Some) } else { Ok(None) };
    let done = persisted.as_ref().ok().copied().flatten();
    if ui.is_json() {
        Report { persisted: done, ..Report::of(&reached, &mapping) }.show(ui)?;
    }
    ui.say(format_args!("kept: generation {generation} is active"))?;
    persisted.context("the mapping is kept, but boot does not restore it")?;
    done.map_or(Ok(()), |persisted| persist::say(ui, common, persisted))
}

/// The mapping from before the trial serves again, at once.
pub fn undo(ui: &Ui, common: &Common) -> Result<()> {
    end_now(ui, &mut Session::open(ui, common)?)
}

pub fn end_now(ui: &Ui, session: &mut Session<'_>) -> Result<()> {
    let runs = session.state.running().is_some();
    match end(session)? {
        Some(reached) => {
            let active = Rc::clone(session.state.active());
            show(ui, &reached, &active)?;
            ui.say(match runs {
                true => "the trial is ended: the mapping from before serves again",
                false => "the trial was over already: the mapping from before serves",
            })
        }
        None => Err(nothing_on_trial(session)),
    }
}

/// Takes an expired trial out of the kernel.
pub fn tidy(ui: &Ui, common: &Common) -> Result<()> {
    let mut session = Session::open(ui, common)?;
    end(&mut session).map(drop)
}

/// Ends the trial, be it running or over; `None` if there is none.
pub fn end(session: &mut Session<'_>) -> Result<Option<Reached>> {
    let Some(on_trial) = session.on_trial() else { return Ok(None) };
    let active = Rc::clone(session.state.active());
    let number = session.active_generation()?.unwrap_or(0);
    let reached = session.reach(Goal::mapping(&active), Record::Number(number), None)?;
    session.finish(on_trial, Outcome::Reverted);
    Ok(Some(reached))
}

fn show(ui: &Ui, reached: &Reached, after: &crate::mapping::MappingSet) -> Result<()> {
    if !ui.is_json() {
        return Ok(());
    }
    Report::of(reached, after).show(ui)
}

/// Also tidies up, if a trial has run out.
fn nothing_on_trial(session: &mut Session<'_>) -> anyhow::Error {
    match end(session) {
        Err(e) => e,
        Ok(None) => {
            Refusal::new("nothing is on trial", "`portmap apply --confirm 60s FILE` starts a trial")
                .into()
        }
        Ok(Some(_)) => Refusal::new(
            "the trial is over: the kernel has gone back to the mapping from before",
            "apply the file again, with more time to confirm it",
        )
        .into(),
    }
}
