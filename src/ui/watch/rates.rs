//! From counters to connections per second. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::mapping::Mapping;
use crate::ui::counted::Counted;

/// What was counted at the last look, and what has come since the one before.
#[derive(Default)]
pub struct Rates {
    at: Option<Instant>,
    /// Since the look before; `None` at the first.
    elapsed: Option<Duration>,
    /// By mapping: the counter, and by how much it has risen. A mapping that was changed counts
    /// anew.
    counts: HashMap<Mapping, (u64, u64)>,
}

impl Rates {
    pub fn update(&mut self, counted: &[Counted<'_>], now: Instant) {
        self.elapsed = self.at.map(|before| now.saturating_duration_since(before));
        self.at = Some(now);
        let before = std::mem::take(&mut self.counts);
        self.counts = counted
            .iter()
            .filter_map(|c| Some((c.mapping, c.counter?.packets)))
            .map(|(mapping, count)| {
                let was = before.get(mapping).map_or(0, |(was, _)| *was);
                // A counter that has fallen was made anew: all that it counts is new.
                let risen = count.checked_sub(was).unwrap_or(count);
                (mapping.clone(), (count, risen))
            })
            .collect();
    }

    /// Connections per second of these mappings together; `None` where they are not counted, or
    /// were not looked at before.
    pub fn of(&self, mappings: &[Counted<'_>]) -> Option<f64> {
        let elapsed = self.elapsed.filter(|elapsed| !elapsed.is_zero())?;
        let risen = mappings.iter().map(|c| self.counts.get(c.mapping).map(|(_, risen)| *risen));
        let risen: u64 = risen.sum::<Option<u64>>()?;
        Some(risen as f64 / elapsed.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::rules;
    use crate::ruleset::Counter;
    use crate::ui::refusals::Refusals;

    #[test]
    fn a_rate_is_what_has_come_by_the_time_between_two_looks() {
        let text = "ports: { 80-81: 3000-3001 }".to_owned();
        let set = rules::parse_stored("rules", text).expect("two mappings");
        let look = |counts: [Option<u64>; 2]| -> Vec<Counted<'_>> {
            let counter = |packets| Counter { packets, ..Counter::default() };
            let counted = |(mapping, count): (_, Option<u64>)| Counted {
                mapping,
                counter: count.map(counter),
                refusals: Refusals::default(),
                holders: None,
            };
            set.iter().zip(counts).map(counted).collect()
        };
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut rates = Rates::default();
        let first = look([Some(100), Some(7)]);
        rates.update(&first, start);
        assert_eq!(rates.of(&first), None, "there is nothing to compare with");
        let second = look([Some(120), Some(7)]);
        rates.update(&second, after(2));
        assert_eq!(rates.of(&second[..1]), Some(10.0));
        assert_eq!(rates.of(&second), Some(10.0));
        assert_eq!(rates.of(&second[1..]), Some(0.0));
        let made_anew = look([Some(4), None]);
        rates.update(&made_anew, after(3));
        assert_eq!(rates.of(&made_anew[..1]), Some(4.0));
        assert_eq!(rates.of(&made_anew), None);
    }
}
