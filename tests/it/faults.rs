//! A system call of a command fails, or is the last that the command comes to; or it runs short of
//! files, descriptors or memory. After each, the exit code has told the effect, kernel and history
//! agree, and the next command goes on from there. [`calls`] has what can be done.
//!
//! A short sample of it runs with the other tests; `make faults` has all of it, and writes down how
//! much that was. `PORTMAP_FAULTS=COUNT[:SEED]` takes as many.

mod calls;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::time::Instant;

use portmap::mapping::{Mapping, MappingSet, Port, Protocol, Target};

use self::calls::{Point, points};
use crate::support::chance::count_and_seed;
use crate::support::portmap::Outcome;
use crate::support::record::record;
use crate::support::share::share;
use crate::walk::model::{Command, Model, Says};
use crate::walk::rules::{Dice, service};
use crate::walk::stage::Stage;

/// So many of all are tried with the other tests.
const SAMPLE: usize = 50;

/// What is done before the command that is disturbed.
#[derive(Clone, Debug)]
enum Before {
    Do(Command),
    /// Somebody flushes the ruleset.
    Flush,
}

struct Story {
    name: &'static str,
    before: Vec<Before>,
    command: Disturbed,
}

enum Disturbed {
    Change(Command),
    /// It changes nothing, whatever becomes of it; these are its exit codes.
    Look(&'static [&'static str], &'static [i32]),
}

fn mapping(to: u16) -> MappingSet {
    let to = Target::new(Port::new(to).expect("not 0"));
    let mapped = [service(Protocol::Tcp, 80), service(Protocol::Udp, 53)];
    MappingSet::new(mapped.map(|service| Mapping::new(service, to)).to_vec())
}

fn apply(to: u16, persist: bool) -> Command {
    Command::Apply { mapping: mapping(to), persist }
}

fn stories() -> Vec<Story> {
    use Before::{Do, Flush};
    use Command::{Clear, Confirm, Forget, Persist, Restore, Rollback, Try};
    use Disturbed::{Change, Look};
    let first = || Do(apply(3000, false));
    let second = || Do(apply(3001, false));
    let persisted = || Do(apply(3000, true));
    let trial = || Do(Try(mapping(3001)));
    let story = |name, before, command| Story { name, before, command };
    let change = |name, before, command| story(name, before, Change(command));
    vec![
        change("the first apply", vec![], apply(3000, false)),
        change("apply", vec![first()], apply(3001, false)),
        change("apply --persist", vec![first()], apply(3001, true)),
        change("apply --confirm", vec![first()], Try(mapping(3001))),
        change("confirm", vec![first(), trial()], Confirm),
        change("rollback of a trial", vec![first(), trial()], Rollback(None)),
        change("rollback", vec![first(), second()], Rollback(None)),
        change("persist", vec![first()], Persist),
        change("persist --off", vec![persisted()], Forget),
        change("restore", vec![persisted(), Flush], Restore { if_missing: false }),
        change("clear", vec![first()], Clear { persist: false }),
        change("clear --persist", vec![persisted()], Clear { persist: true }),
        story("status", vec![persisted()], Look(&["status", "-o", "json"], &[0, 1])),
        story("history", vec![first(), second()], Look(&["history"], &[0, 1])),
        story("plan", vec![first()], Look(&["plan", "81:3000"], &[0, 1])),
        story("show", vec![first()], Look(&["show"], &[0, 1])),
        story("doctor", vec![first()], Look(&["doctor"], &[0, 1])),
        story(
            "run",
            vec![first()],
            Look(&["run", "81:3000", "--user", "root", "--", "true"], &[0, 1, 126, 127]),
        ),
    ]
}

impl Story {
    /// The host from which it begins.
    fn begin(&self, stage: &Stage) -> Model {
        let host = &stage.world.host;
        let mut model = Model::default();
        host.nft("flush ruleset");
        let _ = fs::remove_dir_all(host.dir().join("state"));
        for before in &self.before {
            match before {
                Before::Do(command) => {
                    let (after, says) = model.done(command);
                    let outcome = stage.run(command);
                    assert_eq!(outcome.code, Some(Stage::code(command, says)), "{outcome}");
                    model = after;
                }
                Before::Flush => {
                    host.nft("flush ruleset");
                    model.flush();
                }
            }
        }
        model
    }

    fn words(&self, stage: &Stage) -> Vec<String> {
        match &self.command {
            Disturbed::Change(command) => stage.words(command),
            Disturbed::Look(words, _) => words.iter().map(|word| (*word).to_owned()).collect(),
        }
    }

    /// All that can be done to it.
    fn points(&self, stage: &Stage) -> Vec<Point> {
        self.begin(stage);
        let (outcome, log) = stage.world.host.portmap_traced(self.words(stage));
        assert!(matches!(outcome.code, Some(0 | 2)) || self.name == "doctor", "{outcome}");
        points(&log, matches!(self.command, Disturbed::Change(_)))
    }

    /// Does it, and says what is wrong afterwards.
    fn disturb(&self, stage: &Stage, point: &Point) -> Result<(), String> {
        let before = self.begin(stage);
        let outcome = point.strike(&stage.world.host, &self.words(stage));
        let may_be = match &self.command {
            Disturbed::Change(command) => told(&before, command, &outcome, point)?,
            Disturbed::Look(_, codes) => {
                let known = outcome.code.is_none_or(|code| codes.contains(&code));
                if !known && !point.may_abort(&outcome) {
                    return Err(format!("{outcome}"));
                }
                vec![before]
            }
        };
        let seen = stage.look();
        let all: Vec<_> = may_be.into_iter().map(|model| model.agreeing(&seen)).collect();
        let why: Vec<_> = all.iter().filter_map(|model| model.as_ref().err().cloned()).collect();
        let Some(model) = all.into_iter().find_map(Result::ok) else {
            return Err(format!("{outcome}\n{seen:#?}\n{}", why.join("\n")));
        };
        goes_on(stage, &model)
    }
}

/// What may be there, as the exit code tells.
fn told(
    before: &Model,
    command: &Command,
    outcome: &Outcome,
    point: &Point,
) -> Result<Vec<Model>, String> {
    let (done, says) = before.done(command);
    let all = before.may_be(command);
    let effect = |model: &Model| (model.serving(), model.is_on_trial(), model.boot);
    let same = |model: &Model, as_in: &Model| effect(model) == effect(as_in);
    match outcome.code {
        None => Ok(all),
        Some(code) if code == Stage::code(command, says) => Ok(vec![done]),
        Some(1) => Ok(all.into_iter().filter(|model| same(model, before)).collect()),
        Some(3) => {
            let changed = |model: &Model| {
                (model.serving(), model.is_on_trial()) == (done.serving(), done.is_on_trial())
            };
            let is_changed = matches!(says, Says::Done { changed: true }) && !same(&done, before);
            let changed: Vec<_> = all.into_iter().filter(changed).collect();
            if is_changed { Ok(changed) } else { Err(format!("nothing to change: {outcome}")) }
        }
        _ if point.may_abort(outcome) => Ok(all),
        _ => Err(format!("{outcome}")),
    }
}

/// The next command does what it should, whatever the one before has left.
fn goes_on(stage: &Stage, model: &Model) -> Result<(), String> {
    let mut model = model.clone();
    if model.is_on_trial() {
        let outcome = stage.run(&Command::Rollback(None));
        if outcome.code != Some(2) {
            return Err(format!("next: {outcome}"));
        }
        model = model.done(&Command::Rollback(None)).0;
    }
    let next = apply(3002, false);
    let (after, says) = model.done(&next);
    let outcome = stage.run(&next);
    if outcome.code != Some(Stage::code(&next, says)) {
        return Err(format!("next: {outcome}"));
    }
    let seen = stage.look();
    after.agreeing(&seen).map_err(|why| format!("next: {outcome}\n{seen:#?}\n{why}"))?;
    let left = stage.half_written();
    if left.is_empty() { Ok(()) } else { Err(format!("next: left over: {left:?}")) }
}

/// `PORTMAP_FAULTS=COUNT[:SEED]`, or `all`.
fn asked_for() -> (usize, u64) {
    match env::var("PORTMAP_FAULTS").ok().as_deref() {
        Some("all") => count_and_seed(None, usize::MAX),
        asked => count_and_seed(asked, SAMPLE),
    }
}

#[test]
fn every_call_fails_once() {
    let (count, seed) = asked_for();
    let stage = Stage::new();
    let stories = stories();
    let all = stories.iter().flat_map(|story| {
        let points = story.points(&stage);
        println!("{}: {}", story.name, points.len());
        points.into_iter().map(move |point| (story, point))
    });
    let mut all: Vec<_> = all.collect();
    let total = all.len();
    let mut dice = Dice::new(seed);
    let chosen: BTreeSet<_> = (0..count.min(total)).map(|_| dice.below(total)).collect();
    let mut index = 0;
    all.retain(|_| {
        index += 1;
        count >= total || chosen.contains(&(index - 1))
    });
    let (tried, started) = (all.len(), Instant::now());
    let disturb = |stage: &Stage, (story, point): (&Story, Point)| {
        let what = format!("{}: {point}", story.name);
        let survived = story.disturb(stage, &point).map(|()| (story.name, point.is_kill()));
        survived.map_err(|why| {
            eprintln!("--- {what}\n{why}");
            what
        })
    };
    let (survived, wrong): (Vec<_>, Vec<_>) =
        share(all, Stage::new, disturb).into_iter().partition(Result::is_ok);
    let seconds = started.elapsed().as_secs();
    println!("{tried} of {total} disturbances, {seconds} s, seed {seed}");
    let wrong: Vec<_> = wrong.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{} of {tried}: {wrong:#?}", wrong.len());
    let mut counts = BTreeMap::from([("possible".to_owned(), total)]);
    for (story, is_kill) in survived.into_iter().flatten() {
        *counts.entry(story.to_owned()).or_default() += 1;
        // Of these, so many.
        *counts.entry(format!("killed: {story}")).or_default() += usize::from(is_kill);
    }
    let counts: Vec<_> = counts.iter().map(|(key, count)| (&**key, *count)).collect();
    record("faults", &counts);
}
