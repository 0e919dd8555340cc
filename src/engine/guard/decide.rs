//! What is to be done about a table that somebody has changed. Decides, and does nothing.

use std::time::Duration;

use crate::mapping::{GenerationId, Point};

/// Who made the last change of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A portmap. What it has left is what its user wants, whatever the history says: that of
    /// `clear --no-history` says nothing, and another state directory is not ours.
    Portmap,
    Other,
    /// It was not told, or not heard.
    Unknown,
}

/// What should be in the kernel, as far as the guard has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// It has seen nothing yet.
    #[default]
    Unseen,
    /// No table.
    Nothing,
    /// What serves when no trial runs. `newest` is the last generation that had come to stay then:
    /// `restore` makes an older one active.
    Recorded { active: Point, newest: Option<GenerationId> },
    /// A mapping that is not in the history.
    Unrecorded,
}

impl Expected {
    /// Whether both are of the same mapping.
    pub fn is_like(self, other: Self) -> bool {
        match (self, other) {
            (Self::Recorded { active: one, .. }, Self::Recorded { active: other, .. }) => {
                one == other
            }
            _ => self == other,
        }
    }
}

/// How the table is, compared with what portmap made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Absent,
    /// As it was made, or as far as that can be told.
    Sound,
    Changed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub found: Found,
    /// What the table says that serves when no trial runs; `None` if that is not in the history.
    pub active: Option<Point>,
    /// The last generation that came to stay, and whether it is the empty mapping.
    pub newest: Option<(GenerationId, bool)>,
    /// Whether it has the mapping that is restored at boot.
    pub is_persisted: bool,
    pub trial: Option<Trial>,
}

/// A trial that is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    pub number: Option<GenerationId>,
    pub left: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// All is as it should be, or as somebody wants it. This is expected from now on.
    Leave(Expected),
    /// A trial runs of which nothing is known. When its time is up, one can see.
    Wait(Duration),
    /// This generation, or none, is to serve again.
    PutBack(Point),
    /// So is the trial of this one, until its time is up as it would have been.
    PutBackTrial { active: Point, trial: GenerationId },
}

impl Facts {
    /// What is there, taken as what should be.
    fn as_expected(&self) -> Expected {
        match (self.found, self.active) {
            (Found::Absent, _) => Expected::Nothing,
            (_, Some(active)) => {
                Expected::Recorded { active, newest: self.newest.map(|(number, _)| number) }
            }
            (_, None) => Expected::Unrecorded,
        }
    }

    pub fn decide(&self, expected: Expected, by: By) -> Decision {
        let leave = Decision::Leave(self.as_expected());
        match (expected, by) {
            (_, By::Portmap) => leave,
            (Expected::Unseen, _) => self.begin().unwrap_or(leave),
            // A table of the same name that others make is not ours to judge.
            (Expected::Nothing | Expected::Unrecorded, _) => leave,
            (Expected::Recorded { active, newest }, by) => {
                self.compare(self.wanted(active, newest), by).unwrap_or(leave)
            }
        }
    }

    /// Without the table, a reboot or a flush cannot be told apart: the mapping is put back where
    /// both want it to be there.
    fn begin(&self) -> Option<Decision> {
        match (self.found, self.active, self.newest) {
            (Found::Sound, ..) | (Found::Changed, None, _) => None,
            (Found::Changed, Some(active), _) => Some(self.mend(active)),
            (Found::Absent, _, Some((newest, false))) if self.is_persisted => {
                Some(Decision::PutBack(newest.into()))
            }
            (Found::Absent, ..) => None,
        }
    }

    /// What was active, unless a generation has come to stay since that the guard has not seen in
    /// the kernel.
    fn wanted(&self, active: Point, newest: Option<GenerationId>) -> Point {
        match self.newest {
            Some((number, _)) if Some(number) > newest => number.into(),
            _ => active,
        }
    }

    fn compare(&self, wanted: Point, by: By) -> Option<Decision> {
        match self.found {
            Found::Absent => {
                let is_empty = wanted == Point::Beginning
                    || self.newest.is_some_and(|(n, empty)| empty && wanted == n.into());
                (!is_empty).then_some(Decision::PutBack(wanted))
            }
            // An older table, out of a ruleset that was saved; or what a portmap has made.
            Found::Sound if self.trial.is_some() || by == By::Unknown => None,
            Found::Sound if self.active == Some(wanted) => None,
            Found::Sound => Some(Decision::PutBack(wanted)),
            Found::Changed => Some(self.mend(wanted)),
        }
    }

    fn mend(&self, wanted: Point) -> Decision {
        match self.trial {
            None => Decision::PutBack(wanted),
            Some(Trial { number: Some(trial), .. }) => {
                let active = self.active.unwrap_or(wanted);
                Decision::PutBackTrial { active, trial }
            }
            Some(Trial { number: None, left }) => Decision::Wait(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(number: u64) -> GenerationId {
        GenerationId::new(number).unwrap()
    }

    fn point(number: u64) -> Point {
        generation(number).into()
    }

    /// Generation 5 was seen to be active, and was the newest.
    const fn five() -> Facts {
        Facts { found: Found::Sound, active: None, newest: None, is_persisted: false, trial: None }
    }

    fn facts(found: Found, active: Option<u64>, newest: u64) -> Facts {
        let newest = Some((generation(newest), false));
        Facts { found, active: active.map(point), newest, ..five() }
    }

    fn recorded(active: u64, newest: u64) -> Expected {
        Expected::Recorded { active: point(active), newest: Some(generation(newest)) }
    }

    #[test]
    fn what_others_do_is_undone() {
        let gone = facts(Found::Absent, Some(5), 5);
        let changed = facts(Found::Changed, Some(5), 5);
        // The stamp is gone with the rule that had it.
        let nameless = facts(Found::Changed, None, 5);
        for by in [By::Other, By::Unknown] {
            for facts in [gone, changed, nameless] {
                assert_eq!(facts.decide(recorded(5, 5), by), Decision::PutBack(point(5)));
            }
        }
        // `nft -f` of a ruleset that was saved when generation 3 was active.
        let older = facts(Found::Sound, Some(3), 5);
        assert_eq!(older.decide(recorded(5, 5), By::Other), Decision::PutBack(point(5)));
    }

    #[test]
    fn what_a_portmap_does_is_right() {
        let cases = [
            (facts(Found::Sound, Some(6), 6), recorded(6, 6)),
            // `restore` of an older one.
            (facts(Found::Sound, Some(3), 5), recorded(3, 5)),
            // `apply --no-history`, or with another state directory.
            (facts(Found::Sound, None, 5), Expected::Unrecorded),
            // Of another version, which makes its table in another way.
            (facts(Found::Changed, Some(6), 6), recorded(6, 6)),
            // `clear --no-history`
            (facts(Found::Absent, None, 5), Expected::Nothing),
        ];
        for (facts, expected) in cases {
            assert_eq!(facts.decide(recorded(5, 5), By::Portmap), Decision::Leave(expected));
        }
        // What may have been one is given the benefit of the doubt where a mapping serves.
        let restored = facts(Found::Sound, Some(3), 5);
        let left = Decision::Leave(recorded(3, 5));
        assert_eq!(restored.decide(recorded(5, 5), By::Unknown), left);
    }

    #[test]
    fn what_is_put_back_is_what_was_active_or_came_after() {
        let gone = facts(Found::Absent, None, 6);
        assert_eq!(gone.decide(recorded(3, 6), By::Other), Decision::PutBack(point(3)));
        assert_eq!(gone.decide(recorded(5, 5), By::Other), Decision::PutBack(point(6)));
        let cleared = Facts { newest: Some((generation(6), true)), ..gone };
        let nothing = Decision::Leave(Expected::Nothing);
        assert_eq!(cleared.decide(recorded(5, 5), By::Other), nothing);
        assert_eq!(cleared.decide(recorded(6, 6), By::Other), nothing);
        for expected in [Expected::Nothing, Expected::Unrecorded] {
            assert_eq!(gone.decide(expected, By::Other), nothing);
        }
    }

    #[test]
    fn without_a_past_only_what_is_certain_is_put_back() {
        let begin = |facts: Facts| facts.decide(Expected::Unseen, By::Unknown);
        let gone = facts(Found::Absent, None, 5);
        assert_eq!(begin(gone), Decision::Leave(Expected::Nothing));
        let persisted = Facts { is_persisted: true, ..gone };
        assert_eq!(begin(persisted), Decision::PutBack(point(5)));
        let cleared = Facts { newest: Some((generation(5), true)), ..persisted };
        assert_eq!(begin(cleared), Decision::Leave(Expected::Nothing));
        let changed = facts(Found::Changed, Some(3), 5);
        assert_eq!(begin(changed), Decision::PutBack(point(3)));
        let nameless = facts(Found::Changed, None, 5);
        assert_eq!(begin(nameless), Decision::Leave(Expected::Unrecorded));
    }

    #[test]
    fn a_trial_goes_on() {
        let left = Duration::from_secs(9);
        let trial = |number: Option<u64>| Some(Trial { number: number.map(generation), left });
        let sound = Facts { trial: trial(Some(6)), ..facts(Found::Sound, Some(5), 5) };
        assert_eq!(sound.decide(recorded(5, 5), By::Other), Decision::Leave(recorded(5, 5)));
        let changed = Facts { found: Found::Changed, ..sound };
        let put_back = Decision::PutBackTrial { active: point(5), trial: generation(6) };
        assert_eq!(changed.decide(recorded(5, 5), By::Other), put_back);
        let nameless = Facts { active: None, trial: trial(None), ..changed };
        assert_eq!(nameless.decide(recorded(5, 5), By::Other), Decision::Wait(left));
    }
}
