//! `portmap apply`: make the kernel do what the files say.

use std::cell::RefCell;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::rc::Rc;

use crate::cli::{self, Common};
use crate::commands::failure::{Failure, Result};
use crate::commands::input::{self, Rules};
use crate::commands::outcome::{exit_code, finish};
use crate::commands::{engine, preview};
use crate::engine::{
    ApplyRequest, Cause, Change, Effect, Ended, Engine, Event, Fate, Observer, Refusal, TrialId,
};
use crate::kernel::Netlink;
use crate::mapping::{Digest, GenerationId, MappingSet};
use crate::ui::Ui;
use crate::ui::change::Tense;
use crate::ui::countdown::{Countdown, Verdict};

pub fn run(ui: &Ui, common: &Common, apply: &cli::Apply) -> Result {
    if apply.dry_run {
        return preview::show(ui, common, &apply.input, apply.detailed_exitcode);
    }
    if apply.persist && apply.confirm.is_some() {
        return Err(Failure::Usage {
            message:
                "--persist and --confirm cannot be used together: a trial is not restored at boot"
                    .into(),
            help: "start the trial with `portmap apply --confirm TIME`, then keep it with \
                   `portmap confirm --persist`"
                .into(),
        });
    }
    let interactive = apply.confirm.is_some() && io::stdin().is_terminal() && !ui.is_json();
    let watcher = Watcher { ui, interactive, countdown: RefCell::new(None) };
    let mut engine = engine::open_with(&watcher, common)?;
    let texts = input::read(ui, &apply.input);
    let digest = texts.digest(apply.input.strict);
    let in_force = match digest.filter(|_| !apply.no_history) {
        Some(digest) => engine.in_force(digest, apply.persist)?,
        None => None,
    };
    if let Some(generation) = in_force {
        let names = texts.names();
        // Small files are understood again, so that their warnings are seen again.
        if !texts.is_large() {
            texts.resolve(ui, apply.input.strict)?;
        }
        return unchanged(ui, &engine, apply, &names, generation);
    }
    let (snapshot, rules) = preview::read_both(ui, &mut engine, texts, apply.input.strict)?;
    let names = rules.names.clone();
    let request = request(apply, rules, digest);
    let change = engine.apply(&request, snapshot)?;
    let countdown = watcher.countdown.take();
    let reported = report(ui, apply, &names, &change);
    match (change.trial, countdown) {
        (Some((trial, time)), Some(countdown)) => {
            // Where nobody reads any more, the countdown notices.
            let runs = |engine: &mut Engine<'_, Netlink>| {
                !matches!(engine.fate(trial), Ok(Fate::Confirmed | Fate::Ended))
            };
            let verdict = countdown.wait(ui, time, || runs(&mut engine));
            let verdict = verdict.map_err(|e| Failure::from(e).after_change())?;
            finish_trial(ui, &mut engine, trial, verdict)?;
            finish(change, reported?)
        }
        (Some(_), None) => {
            let code = reported?;
            ui.say(
                "`portmap confirm` keeps it, otherwise the kernel returns to the previous mapping",
            )
            .map_err(|e| Failure::from(e).after_change())?;
            finish(change, code)
        }
        (None, _) => finish(change, reported?),
    }
}

/// What is told to the user, and the signals of the countdown: from the lock on, a Ctrl-C must not
/// leave a trial to itself. Before, it ends the command.
struct Watcher<'u> {
    ui: &'u Ui,
    interactive: bool,
    countdown: RefCell<Option<Countdown>>,
}

impl Observer for Watcher<'_> {
    fn timed(&self, what: &str, work: &mut dyn FnMut()) {
        Observer::timed(self.ui, what, work);
    }

    fn event(&self, event: Event<'_>) {
        if self.interactive && matches!(event, Event::Locked) {
            // Without it, the trial is left to the clock.
            self.countdown.replace(Countdown::prepare().ok());
        }
        self.ui.event(event);
    }
}

fn request(apply: &cli::Apply, rules: Rules, digest: Option<Digest>) -> ApplyRequest {
    ApplyRequest {
        mapping: Rc::new(rules.mapping),
        input: digest,
        sources: rules.origins,
        message: apply.message.clone(),
        trial: apply.confirm,
        persist: apply.persist,
        strict: apply.input.strict,
        keeps_history: !apply.no_history,
    }
}

fn unchanged(
    ui: &Ui,
    engine: &Engine<'_, Netlink>,
    apply: &cli::Apply,
    names: &[String],
    generation: GenerationId,
) -> Result {
    let mut change = Change::none(Rc::new(MappingSet::default()), Some(generation));
    if apply.persist {
        let persisting = engine.persisted(generation)?;
        change.persisted = Some(persisting.persisted);
        change.next_boot = Some(persisting.next_boot);
        change.shortfall = persisting.shortfall;
    }
    if ui.is_json() {
        ui.change(&change, Tense::Done)?;
    } else {
        input::say_unchanged(ui, names)?;
    }
    ui.boot_after(&change)?;
    finish(change, ExitCode::SUCCESS)
}

/// Prints what a change has come to. Where that fails, the error says that the change was made.
fn report(ui: &Ui, apply: &cli::Apply, names: &[String], change: &Change) -> Result {
    let print = || -> anyhow::Result<()> {
        if change.has_effect || ui.is_json() {
            ui.change(change, Tense::Done)?;
        } else {
            input::say_unchanged(ui, names)?;
        }
        ui.boot_after(change)
    };
    match print() {
        Ok(()) => Ok(exit_code(change.is_change(), apply.detailed_exitcode)),
        Err(e) if change.is_change() => Err(Failure::from(e).after_change()),
        Err(e) => Err(e.into()),
    }
}

/// Acts on the trial that was watched, and on no other; says what has become of it.
fn finish_trial(
    ui: &Ui,
    engine: &mut Engine<'_, Netlink>,
    trial: TrialId,
    verdict: Verdict,
) -> Result<()> {
    let number = trial.0;
    let fate = match verdict {
        Verdict::Keep => match engine.confirm(Some(trial), false) {
            Ok(change) => {
                ui.say(format_args!("kept: generation {number} is active"))
                    .map_err(|e| Failure::from(e).after_change())?;
                return finish(change, ExitCode::SUCCESS).map(drop);
            }
            Err(e) => already_confirmed(e)?,
        },
        Verdict::GoBack => match engine.end_trial(trial) {
            Ok(Ended { change, .. }) => {
                finish(change, ExitCode::SUCCESS)?;
                Fate::Ended
            }
            Err(e) => already_confirmed(e)?,
        },
        Verdict::TimeIsUp => engine.tidy_trial(trial)?,
        Verdict::Elsewhere => engine.fate(trial)?,
    };
    match fate {
        Fate::Confirmed => {
            ui.say(format_args!("generation {number} was confirmed by another command: it stays"))?;
            Ok(())
        }
        Fate::Ended if verdict == Verdict::GoBack => {
            Err(not_kept("the trial is ended: the previous mapping is active again"))
        }
        Fate::Ended => Err(not_kept("the trial was ended by another command")),
        Fate::Expired | Fate::Running { .. } => {
            Err(not_kept("time is up: the previous mapping is active again"))
        }
    }
}

/// That the trial is kept already is no failure.
fn already_confirmed(error: crate::engine::Error) -> Result<Fate> {
    match error.cause() {
        Cause::Refused(Refusal::Confirmed { .. }) => Ok(Fate::Confirmed),
        _ => Err(error.into()),
    }
}

/// The kernel does what it did before the command.
fn not_kept(message: &str) -> Failure {
    Failure::Other { error: anyhow::anyhow!(message.to_owned()), effect: Effect::Unchanged }
}
