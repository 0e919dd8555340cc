use std::cell::OnceCell;
use std::time::SystemTime;

use proptest::prelude::*;

use super::super::Files;
use super::super::header::{Command, Draft};
use super::*;

fn id(number: u64) -> GenerationId {
    GenerationId::new(number).unwrap()
}

fn point(number: u64) -> Option<Point> {
    Some(Point::from(number))
}

/// A generation as `Locked::begin` makes it; the mappings of no two are the same.
fn header(number: u64, parent: u64, outcome: Outcome) -> Header {
    let draft = Draft {
        who: None,
        command: Command::Apply,
        sources: Vec::new(),
        message: None,
        parent: point(parent),
        restores: None,
        trial_until: None,
    };
    let header = Header::intent(id(number), draft, None, point(parent), &number.to_string());
    Header { outcome, ..header }
}

fn empty(header: Header) -> Header {
    Header { mapping_bytes: 0, ..header }
}

fn on_trial(header: Header) -> Header {
    Header { trial_until: Some(SystemTime::UNIX_EPOCH), ..header }
}

fn history<'a>(headers: impl IntoIterator<Item = &'a Header>) -> History {
    let cell = |header: &Header| (header.number, OnceCell::from(Ok(Some(header.clone()))));
    History {
        files: Files { path: "/nonexistent".into(), top: None, generations: None },
        generations: headers.into_iter().map(cell).collect(),
        boot: OnceCell::from(Ok(None)),
        has_leftovers: false,
    }
}

fn stamp(generation: u64, trial: Trial) -> Seen {
    let stamp = GenerationId::new(generation).map_or(Stamped::Unrecorded, Stamped::Generation);
    Seen { stamp, trial }
}

const NO_TABLE: Seen = Seen { stamp: Stamped::NoTable, trial: Trial::None };

fn ends(header: Header, seen: Seen) -> Outcome {
    let settlements = history([&header]).settlements(seen);
    settlements.first().map_or(header.outcome, |settlement| settlement.to)
}

#[test]
fn an_intent_ends_as_the_stamp_says() {
    let intent = || header(7, 6, Outcome::Intent);
    assert_eq!(ends(intent(), stamp(7, Trial::None)), Outcome::Committed);
    assert_eq!(ends(intent(), stamp(6, Trial::None)), Outcome::Failed);
    assert_eq!(ends(intent(), stamp(0, Trial::None)), Outcome::Failed);
    assert_eq!(ends(intent(), NO_TABLE), Outcome::Failed);
}

#[test]
fn an_intent_to_have_nothing_ends_well_without_a_table() {
    let intent = || empty(header(7, 6, Outcome::Intent));
    assert_eq!(ends(intent(), NO_TABLE), Outcome::Committed);
    assert_eq!(ends(intent(), stamp(7, Trial::None)), Outcome::Committed);
    assert_eq!(ends(intent(), stamp(6, Trial::None)), Outcome::Failed);
}

#[test]
fn a_trial_ends_as_the_gate_says() {
    let intent = || on_trial(header(7, 6, Outcome::Intent));
    assert_eq!(ends(intent(), stamp(7, Trial::Running)), Outcome::Trial);
    assert_eq!(ends(intent(), stamp(7, Trial::Expired)), Outcome::Reverted);
    assert_eq!(ends(intent(), stamp(6, Trial::None)), Outcome::Failed);

    let trial = || on_trial(header(7, 6, Outcome::Trial));
    assert_eq!(ends(trial(), stamp(7, Trial::Running)), Outcome::Trial);
    assert_eq!(ends(trial(), stamp(7, Trial::Expired)), Outcome::Reverted);
    // Killed between the commit of `confirm` and its record.
    assert_eq!(ends(trial(), stamp(7, Trial::None)), Outcome::Committed);
    // Killed between the tidying after an expiry and its record.
    assert_eq!(ends(trial(), stamp(6, Trial::None)), Outcome::Reverted);
    // A reboot during the trial.
    assert_eq!(ends(trial(), NO_TABLE), Outcome::Reverted);
}

#[test]
fn what_has_ended_is_left_alone() {
    for outcome in [Outcome::Committed, Outcome::Failed, Outcome::Reverted] {
        let headers = [header(7, 6, outcome)];
        assert_eq!(history(&headers).settlements(stamp(8, Trial::None)), []);
        assert_eq!(history(&headers).settlements(NO_TABLE), []);
    }
}

#[test]
fn the_kernel_says_what_is_active() {
    let mut line = vec![header(1, 0, Outcome::Committed), header(2, 1, Outcome::Committed)];
    assert_eq!(history(&line).active(stamp(2, Trial::None)), point(2));
    // Boot restored an older one.
    assert_eq!(history(&line).active(stamp(1, Trial::None)), point(1));
    // Somebody flushed the ruleset.
    assert_eq!(history(&line).active(NO_TABLE), point(0));
    // Applied with --no-history.
    assert_eq!(history(&line).active(stamp(0, Trial::None)), None);
    // A history that was lost.
    assert_eq!(history(&line).active(stamp(9, Trial::None)), None);

    line.push(on_trial(header(3, 2, Outcome::Trial)));
    assert_eq!(history(&line).active(stamp(3, Trial::Running)), point(2));
    assert_eq!(history(&line).active(stamp(3, Trial::Expired)), point(2));
    assert_eq!(history(&line).active(stamp(3, Trial::None)), point(3));
    assert_eq!(history(&line).active(NO_TABLE), point(0));

    line.push(empty(header(4, 2, Outcome::Committed)));
    assert_eq!(history(&line).active(NO_TABLE), point(4));
}

/// Does what the commands do: begins on what is active, and goes back from there.
#[derive(Default)]
struct Line {
    headers: Vec<Header>,
}

impl Line {
    fn active(&self) -> u64 {
        self.headers.last().map_or(0, |header| header.number.get())
    }

    fn apply(&mut self) -> u64 {
        let parent = self.active();
        self.headers.push(header(parent + 1, parent, Outcome::Committed));
        parent + 1
    }

    /// Returns the generation whose mapping is active then.
    fn rollback(&mut self) -> Result<u64, Nowhere> {
        let parent = self.active();
        let target = history(&self.headers).rollback_target(point(parent))?;
        let mut new = header(parent + 1, parent, Outcome::Committed);
        let restored =
            self.headers.iter().find(|header| point(header.number.get()) == Some(target));
        new.back = restored.and_then(|header| header.back);
        new.restores = Some(restored.and_then(|header| header.restores).unwrap_or(target));
        new.mapping_bytes = restored.map_or(0, |header| header.mapping_bytes);
        new.mapping_crc32 = restored.map_or(0, |header| header.mapping_crc32);
        self.headers.push(new.clone());
        Ok(new.restores.unwrap().into())
    }
}

#[test]
fn rolling_back_twice_goes_two_back_and_ends_at_the_beginning() {
    let mut line = Line::default();
    for _ in 0..3 {
        line.apply();
    }
    assert_eq!(line.rollback(), Ok(2));
    assert_eq!(line.rollback(), Ok(1));
    assert_eq!(line.rollback(), Ok(0));
    assert_eq!(line.rollback(), Err(Nowhere::Beginning));

    // A new apply begins a new line: the way back leads to what was active, the empty one.
    line.apply();
    assert_eq!(line.rollback(), Ok(0));
    assert_eq!(line.rollback(), Err(Nowhere::Beginning));
}

#[test]
fn a_rollback_that_cannot_be_says_why() {
    let headers = [Header { back: None, ..header(5, 4, Outcome::Committed) }];
    let to = |active| history(&headers).rollback_target(active);
    assert_eq!(to(point(5)), Err(Nowhere::Unrecorded { active: id(5) }));
    assert_eq!(to(point(9)), Err(Nowhere::Unknown));
    assert_eq!(to(None), Err(Nowhere::Unknown));
    // Something took what was there: that is what came before.
    assert_eq!(to(point(0)), Ok(id(5).into()));
    assert_eq!(history([]).rollback_target(point(0)), Err(Nowhere::Beginning));

    let headers = [header(5, 4, Outcome::Committed)];
    let to = |active| history(&headers).rollback_target(active);
    assert_eq!(to(point(5)), Err(Nowhere::Pruned { target: id(4) }));
}

#[test]
fn the_way_back_leads_past_what_would_change_nothing() {
    let first = header(1, 0, Outcome::Committed);
    let second = header(2, 1, Outcome::Committed);
    // Applied again after somebody had changed the table.
    let repair = Header { mapping_crc32: second.mapping_crc32, ..header(3, 2, Outcome::Committed) };
    let history = history([&first, &second, &repair]);
    assert_eq!(history.rollback_target(point(3)), Ok(id(1).into()));
}

fn surplus(headers: &[Header], active: u64, boot: Option<u64>) -> Vec<u64> {
    let surplus = history(headers).prunable(50, point(active), boot.map(id));
    surplus.into_iter().map(GenerationId::get).collect()
}

#[test]
fn the_old_are_pruned_but_not_what_is_needed() {
    let mut headers: Vec<Header> = (1..=60).map(|n| header(n, n - 1, Outcome::Committed)).collect();
    assert_eq!(surplus(&headers, 60, None), (1..=10).collect::<Vec<_>>());
    // The active one and the persisted one stay, with the way back from them.
    assert_eq!(surplus(&headers, 9, Some(5)), [1, 2, 3, 6, 7, 10]);

    headers[1].outcome = Outcome::Trial;
    assert_eq!(surplus(&headers, 60, None), (3..=10).collect::<Vec<_>>());
}

#[test]
fn failures_do_not_drive_out_what_served() {
    let served = (1..=3).map(|n| header(n, n - 1, Outcome::Committed));
    let failed = (4..=100).map(|n| header(n, 3, Outcome::Failed));
    let headers: Vec<Header> = served.chain(failed).collect();
    assert_eq!(surplus(&headers, 3, None), (4..=50).collect::<Vec<_>>());
}

proptest! {
    /// However often one goes forth and back: back undoes one step, and never leads to where one
    /// is, or to the same place for ever.
    #[test]
    fn every_way_back_ends_at_the_beginning(forth in proptest::collection::vec(any::<bool>(), 0..30)) {
        let mut line = Line::default();
        // The mappings that a user who knows of no history would note down.
        let mut noted = vec![0];
        for apply in forth {
            if apply {
                noted.push(line.apply());
            } else if noted.len() > 1 {
                noted.pop();
                prop_assert_eq!(line.rollback(), Ok(*noted.last().unwrap()));
            } else {
                prop_assert_eq!(line.rollback(), Err(Nowhere::Beginning));
            }
        }
    }

    #[test]
    fn after_settling_nothing_is_left_to_settle(
        outcomes in proptest::collection::vec(0..5_usize, 0..8),
        generation in proptest::option::of(0..9_u64),
        trial in 0..3_usize,
    ) {
        let all = [
            Outcome::Intent, Outcome::Trial, Outcome::Committed, Outcome::Reverted, Outcome::Failed,
        ];
        let mut headers: Vec<Header> = outcomes
            .into_iter()
            .zip(1..)
            .map(|(outcome, n)| header(n, n - 1, all[outcome]))
            .map(|header| if header.outcome == Outcome::Trial { on_trial(header) } else { header })
            .collect();
        let trial = [Trial::None, Trial::Running, Trial::Expired][trial];
        let seen = Seen { trial, ..generation.map_or(NO_TABLE, |n| stamp(n, trial)) };
        for settlement in history(&headers).settlements(seen) {
            headers[settlement.number.get() as usize - 1].outcome = settlement.to;
        }
        prop_assert_eq!(history(&headers).settlements(seen), vec![]);
        prop_assert!(headers.iter().all(|header| header.outcome != Outcome::Intent));
    }
}
