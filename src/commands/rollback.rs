//! `portmap rollback`: back to what was before.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cli::{self, Common};
use crate::commands::failure::{self, Refusal};
use crate::commands::report::Report;
use crate::commands::session::{Goal, Record, Session};
use crate::commands::state::State;
use crate::commands::{confirm, stored};
use crate::journal::{self, Command, Draft, Entry, Journal, Outcome, Who};
use crate::kernel::Kernel;
use crate::mapping::MappingSet;
use crate::output::Ui;

pub fn run(ui: &Ui, common: &Common, rollback: &cli::Rollback) -> Result<ExitCode> {
    if rollback.dry_run {
        return preview(ui, common, rollback);
    }
    let mut session = Session::open(ui, common)?;
    // One that has run out too: who types this wants the trial to end, and no more.
    if session.state.trial.is_some() && rollback.to.is_none() {
        let runs = session.state.running().is_some();
        confirm::end_now(ui, &mut session)?;
        return Ok(if rollback.detailed_exitcode && runs { 2.into() } else { ExitCode::SUCCESS });
    }
    if let (Some(number), Some(trial)) = (rollback.to, session.state.running())
        && session.on_trial() == Some(number)
    {
        return Err(failure::on_trial(trial.left).into());
    }
    let journal = Journal::at(&common.state_dir);
    let target = target(&journal, &session.state, rollback.to)?;
    let mapping = stored::mapping(&journal, target)?;
    let draft = Draft {
        who: Some(Who::invoking()),
        command: Command::Rollback,
        sources: Vec::new(),
        message: rollback.message.clone(),
        parent: None,
        restores: Some(target),
        trial_until: None,
    };
    let on_trial = session.on_trial();
    let reached = session.reach(Goal::mapping(&mapping), Record::New(draft), None)?;
    session.finish(on_trial.unwrap_or(0), Outcome::Reverted);
    let report = Report::of(&reached, &mapping);
    if reached.committed || ui.is_json() {
        report.show(ui)?;
        ui.say(format_args!("back to {}", name(target)))?;
    } else {
        ui.say(match target {
            0 => "nothing to do: nothing is mapped".to_owned(),
            n => format!("nothing to do: the kernel already does what generation {n} says"),
        })?;
    }
    Ok(report.exit_code(rollback.detailed_exitcode))
}

/// A generation, for people.
fn name(number: u64) -> String {
    match number {
        0 => "generation 0, the empty one".to_owned(),
        number => format!("generation {number}"),
    }
}

fn preview(ui: &Ui, common: &Common, rollback: &cli::Rollback) -> Result<ExitCode> {
    let state = State::read(&mut Kernel::open()?)?;
    let (mapping, to): (MappingSet, String) = match (&state.trial, rollback.to) {
        (Some(_), None) => ((**state.active()).clone(), "the mapping from before the trial".into()),
        (_, to) => {
            let journal = Journal::at(&common.state_dir);
            let target = target(&journal, &state, to)?;
            (stored::mapping(&journal, target)?, name(target))
        }
    };
    let report = Report::preview(&state, &mapping);
    report.show(ui)?;
    ui.say(format_args!("this would go back to {to}"))?;
    Ok(report.exit_code(rollback.detailed_exitcode))
}

/// Which generation to go to; 0 is the empty one.
fn target(journal: &Journal, state: &State, to: Option<u64>) -> Result<u64> {
    if let Some(number) = to {
        return Ok(number);
    }
    let entries = match journal.list() {
        Err(journal::Error::Absent { .. }) => Vec::new(),
        other => other.context("read the history")?,
    };
    let active = journal::active(journal::readable(&entries), state.seen());
    let present = entries.iter().map(|entry| entry.number).collect();
    let back = |from| journal::rollback_target(journal::readable(&entries), &present, from);
    let header = |number| journal::readable(&entries).find(|header| header.number == number);
    let mapping = |number| header(number).map(|h| (h.mapping_bytes, h.mapping_crc32));
    let mut target = back(active);
    // One that put right what others had done repeats the mapping before it: further back.
    while let (Some(active), Ok(number)) = (active, target)
        && number > 0
        && mapping(number) == mapping(active)
    {
        target = back(Some(number));
    }
    target.map_err(|nowhere| {
        let last = last(&entries).filter(|_| active == Some(0));
        let help = match last {
            // A reboot, or somebody's flush.
            Some(last) => format!("`portmap rollback --to {last}` puts back what was active last"),
            None => "`portmap history` lists the generations, `portmap rollback --to N` goes to \
                     any, 0 is the empty one"
                .to_owned(),
        };
        Refusal::new(format!("there is no generation to go back to: {nowhere}"), help).into()
    })
}

/// The last generation that served for good.
fn last(entries: &[Entry]) -> Option<u64> {
    let mut headers = journal::readable(entries).rev();
    headers.find(|header| header.outcome == Outcome::Committed).map(|header| header.number)
}
