//! How fast the table is put back where another program keeps removing it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So many times within [`WINDOW`] it is put back at once.
pub const AT_ONCE: usize = 60;
pub const WINDOW: Duration = Duration::from_secs(60);
/// After that, the first wait; each following one is twice as long, up to the last.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(60);
/// A table that has stood for so long is not fought over any more.
const CALM: Duration = Duration::from_secs(10);

/// When the table was put back.
#[derive(Debug, Default)]
pub struct Pace {
    recent: VecDeque<Instant>,
    wait: Duration,
}

impl Pace {
    /// How long to wait before the table, found damaged now, is put back.
    pub fn next(&mut self, now: Instant) -> Duration {
        let since = |then: Instant| now.saturating_duration_since(then);
        if self.recent.back().is_none_or(|last| since(*last) >= CALM) {
            self.wait = Duration::ZERO;
        }
        while self.recent.front().is_some_and(|first| since(*first) >= WINDOW) {
            self.recent.pop_front();
        }
        if !self.wait.is_zero() || self.recent.len() >= AT_ONCE {
            self.wait = (self.wait * 2).clamp(FIRST_WAIT, LAST_WAIT);
        }
        self.wait
    }

    /// It was put back, or that was tried.
    pub fn count(&mut self, now: Instant) {
        if self.recent.len() >= AT_ONCE {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
    }

    /// An attempt failed: the next one waits, and longer each time.
    pub fn fail(&mut self, now: Instant) -> Duration {
        self.count(now);
        self.wait = (self.wait * 2).clamp(FIRST_WAIT, LAST_WAIT);
        self.wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn who_comes_once_a_while_is_always_answered_at_once() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for _ in 0..1000 {
            assert_eq!(pace.next(now), Duration::ZERO);
            pace.count(now);
            now += Duration::from_millis(1001);
        }
    }

    #[test]
    fn who_does_not_stop_is_answered_ever_more_seldom() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..AT_ONCE + 9 {
            let wait = pace.next(now);
            waits.push(wait.as_secs());
            now += wait + Duration::from_millis(5);
            pace.count(now);
        }
        assert_eq!(waits[..AT_ONCE], [0; AT_ONCE]);
        assert_eq!(waits[AT_ONCE..], [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        now += seconds(9);
        assert_eq!(pace.next(now), seconds(60), "not calm yet");
        pace.count(now);
        now += seconds(10);
        assert_eq!(pace.next(now), Duration::ZERO);
    }

    #[test]
    fn a_failure_is_not_repeated_at_once() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        assert_eq!(pace.next(now), Duration::ZERO);
        assert_eq!([pace.fail(now), pace.fail(now)], [seconds(1), seconds(2)]);
        assert_eq!(pace.next(now + seconds(11)), Duration::ZERO);
    }
}
