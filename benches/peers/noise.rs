//! Whether the machine is quiet enough to tell: two identical contenders are measured beside the
//! others, and have to come out alike.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, Instant};

/// How far two identical contenders may be apart.
const APART: f64 = 0.03;

/// What was measured of two identical contenders: the second's time as a ratio of the first's.
#[derive(Clone, Copy, Debug)]
pub struct Twins {
    median: f64,
    /// The interval that holds the true median with a probability of 95 %.
    low: f64,
    high: f64,
}

impl Twins {
    /// By round.
    pub fn of(one: &[Duration], other: &[Duration]) -> Twins {
        let ratios = ratios(other, one);
        // Order statistics: how many of n ratios are below the true median is binomial.
        let n = ratios.len() as f64;
        let reach = 0.98 * n.sqrt();
        let low = (n / 2.0 - reach).floor().max(0.0) as usize;
        let high = ((n / 2.0 + reach).ceil() as usize).min(ratios.len() - 1);
        Twins { median: ratios[ratios.len() / 2], low: ratios[low], high: ratios[high] }
    }

    /// Not only by accident: the whole interval is within [`APART`].
    pub fn agree(&self) -> bool {
        self.low >= 1.0 - APART && self.high <= 1.0 + APART
    }

    /// How much of a time may be noise, as a part of it.
    pub fn noise(&self) -> f64 {
        self.high.max(1.0 / self.low).max(1.0) - 1.0
    }
}

/// How long a comparison takes.
pub struct Effort {
    pub rounds: usize,
    /// How much longer to go on while two identical contenders are not alike.
    pub patience: Duration,
}

/// The time for which a comparison goes on beyond its rounds, from the first question on.
pub struct Patience {
    time: Duration,
    end: Option<Instant>,
}

impl Patience {
    pub fn of(time: Duration) -> Patience {
        Patience { time, end: None }
    }

    pub fn is_over(&mut self, are_alike: bool) -> bool {
        let now = Instant::now();
        are_alike || now >= *self.end.get_or_insert(now + self.time)
    }
}

impl Display for Twins {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        write!(f, "{:.2} ({:.2}–{:.2})", self.median, self.low, self.high)
    }
}

/// The median of the ratios by round, for rounds that both took part in.
pub fn paired_ratio(values: &[Duration], base: &[Duration]) -> f64 {
    let ratios = ratios(values, base);
    ratios[ratios.len() / 2]
}

/// In order.
fn ratios(values: &[Duration], base: &[Duration]) -> Vec<f64> {
    let mut ratios: Vec<f64> =
        values.iter().zip(base).map(|(v, b)| v.as_secs_f64() / b.as_secs_f64()).collect();
    ratios.sort_by(f64::total_cmp);
    ratios
}
