//! `portmap apply`: make the kernel do what the files say.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Result;

use crate::cli::{self, Common};
use crate::commands::countdown::{Countdown, Verdict};
use crate::commands::failure;
use crate::commands::input::{self, Rules, Texts};
use crate::commands::report::{Persisted, Report};
use crate::commands::session::{Goal, Reached, Record, Session};
use crate::commands::state::{State, look_while};
use crate::commands::{confirm, persist, plan};
use crate::journal::{Command, Draft, Journal, Who};
use crate::kernel::Kernel;
use crate::mapping::MappingSet;
use crate::output::Ui;
use crate::ruleset::Trial;

pub fn run(ui: &Ui, common: &Common, apply: &cli::Apply) -> Result<ExitCode> {
    if apply.dry_run {
        return plan::preview(ui, &apply.input, apply.detailed_exitcode);
    }
    let needs_history = apply.persist || apply.confirm.is_some();
    make(ui, common, apply)
        .map_err(|e| if needs_history { e } else { failure::or_without_history(e) })
}

fn make(ui: &Ui, common: &Common, apply: &cli::Apply) -> Result<ExitCode> {
    let texts = input::read(ui, &apply.input);
    if !apply.no_history
        && let Some(generation) = in_force(common, apply, &texts)?
    {
        return unchanged(ui, common, apply, &texts, generation);
    }
    let (digest, large) = (texts.digest(apply.input.strict), texts.is_large());
    let (looked, rules) = look_while(ui, || texts.resolve(ui, apply.input.strict))?;
    let mut session = if apply.no_history {
        Session::without_history(ui, common, looked)?
    } else {
        Session::open_after(ui, common, looked)?
    };
    if let Some(trial) = session.state.running() {
        return Err(failure::on_trial(trial.left).into());
    }
    match apply.confirm {
        None => {
            let record = Record::New(draft(apply, &rules, None));
            // What has warnings is understood anew each time, so that they are seen again.
            let digest = digest.filter(|_| large || rules.warnings == 0);
            let reached = session.reach(Goal::mapping(&rules.mapping), record, digest)?;
            if !apply.persist {
                return report(ui, apply, &rules, &reached, None);
            }
            match persist::keep(&session, reached.generation) {
                Ok(persisted) => {
                    let code = report(ui, apply, &rules, &reached, Some(persisted))?;
                    persist::say(ui, common, persisted)?;
                    Ok(code)
                }
                Err(e) => {
                    report(ui, apply, &rules, &reached, None)?;
                    Err(e.context("the mapping is active, but boot does not restore it"))
                }
            }
        }
        Some(time) => try_out(ui, common, apply, &rules, session, time),
    }
}

/// The active generation, if the kernel already does what these very files say: they were the
/// last to be applied, that was written down, and nobody has committed anything since. Then there
/// is nothing to read, neither the files' meaning nor the table.
fn in_force(common: &Common, apply: &cli::Apply, texts: &Texts) -> Result<Option<u64>> {
    let mut kernel = Kernel::open()?;
    let Some(stamp) = kernel.stamp()? else { return Ok(None) };
    let journal = Journal::at(&common.state_dir);
    let in_force = stamp.input.is_some()
        && stamp.input == texts.digest(apply.input.strict)
        && stamp.ruleset == kernel.generation()?
        && journal.header(stamp.generation).is_ok_and(|header| !header.is_open())
        && (!apply.persist || journal.boot().is_ok_and(|boot| boot == Some(stamp.generation)));
    Ok(in_force.then_some(stamp.generation))
}

fn unchanged(
    ui: &Ui,
    common: &Common,
    apply: &cli::Apply,
    texts: &Texts,
    generation: u64,
) -> Result<ExitCode> {
    let nothing = MappingSet::default();
    let boot = Some(generation);
    let persisted = apply.persist.then_some(Persisted { before: boot, after: boot });
    if ui.is_json() {
        Report { persisted, ..Report::unchanged(&nothing, boot) }.show(ui)?;
    } else {
        input::say_unchanged(ui, &texts.names())?;
    }
    if let Some(persisted) = persisted {
        persist::say(ui, common, persisted)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn draft(apply: &cli::Apply, rules: &Rules, trial: Option<Duration>) -> Draft {
    Draft {
        who: Some(Who::invoking()),
        command: Command::Apply,
        sources: rules.names.clone(),
        message: apply.message.clone(),
        parent: None,
        restores: None,
        trial_until: trial.map(|time| SystemTime::now() + time),
    }
}

fn report(
    ui: &Ui,
    apply: &cli::Apply,
    rules: &Rules,
    reached: &Reached,
    persisted: Option<Persisted>,
) -> Result<ExitCode> {
    let report = Report {
        trial: apply.confirm.filter(|_| reached.on_trial),
        persisted,
        ..Report::of(reached, &rules.mapping)
    };
    let same = *reached.before == rules.mapping && reached.replaced.is_empty();
    if !same || ui.is_json() {
        report.show(ui)?;
    } else {
        input::say_unchanged(ui, &rules.names)?;
    }
    Ok(report.exit_code(apply.detailed_exitcode))
}

/// Both mappings into the kernel, and a gate between them. On a terminal wait for the verdict;
/// whatever happens to this process, the kernel goes back when the time is up.
fn try_out(
    ui: &Ui,
    common: &Common,
    apply: &cli::Apply,
    rules: &Rules,
    mut session: Session<'_>,
    time: Duration,
) -> Result<ExitCode> {
    let old = std::rc::Rc::clone(session.state.active());
    if *old == rules.mapping {
        let reached = session.reach(
            Goal::mapping(&rules.mapping),
            Record::New(draft(apply, rules, None)),
            None,
        )?;
        return report(ui, apply, rules, &reached, None);
    }
    let interactive = io::stdin().is_terminal() && !ui.is_json();
    // From before the commit on, lest a Ctrl-C at the wrong moment leave the trial to itself.
    let countdown = if interactive { Some(Countdown::prepare()?) } else { None };
    let goal = Goal { mapping: &old, trial: Some(Trial { mapping: &rules.mapping, time }) };
    let reached = session.reach(goal, Record::New(draft(apply, rules, Some(time))), None)?;
    // Confirm and rollback take the lock themselves, be it here or from another terminal.
    drop(session);
    // Where nobody reads any more, the countdown notices.
    let shown = report(ui, apply, rules, &reached, None);
    let Some(countdown) = countdown else {
        let code = shown?;
        ui.say("`portmap confirm` keeps it, otherwise the kernel goes back by itself")?;
        return Ok(code);
    };
    let trial = reached.generation.unwrap_or(0);
    match countdown
        .wait(ui, time, || !matches!(look_at(trial), Ok(Trialed::Kept | Trialed::Gone)))?
    {
        Verdict::Keep => confirm::keep(ui, common, false)?,
        Verdict::Undo => {
            confirm::undo(ui, common)?;
            return Ok(ExitCode::FAILURE);
        }
        Verdict::Elsewhere if look_at(trial)? == Trialed::Kept => {
            ui.say("kept by somebody else")?;
        }
        Verdict::Elsewhere => {
            ui.say("ended by somebody else: see `portmap status`")?;
            return Ok(ExitCode::FAILURE);
        }
        Verdict::TimeIsUp => {
            confirm::tidy(ui, common)?;
            ui.say("time is up: the mapping from before serves again")?;
            return Ok(ExitCode::FAILURE);
        }
    }
    shown
}

/// What has become of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trialed {
    Standing,
    Kept,
    Gone,
}

fn look_at(generation: u64) -> Result<Trialed> {
    let state = State::of(Kernel::open()?.outline()?);
    let stamped = state.stamp().is_some_and(|stamp| stamp.generation == generation);
    Ok(match (stamped, &state.trial) {
        (true, Some(_)) => Trialed::Standing,
        (true, None) => Trialed::Kept,
        (false, _) => Trialed::Gone,
    })
}
