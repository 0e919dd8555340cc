//! How much is left to chance, and to which.

use std::time::{SystemTime, UNIX_EPOCH};

/// What is asked for as `COUNT[:SEED]`; without a seed, another one each time.
pub fn count_and_seed(asked: Option<&str>, default: usize) -> (usize, u64) {
    let any = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let Some(asked) = asked else { return (default, any) };
    let (count, seed) = asked.split_once(':').unwrap_or((asked, ""));
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|e| panic!("{asked}: {e}"));
    (number(count) as usize, if seed.is_empty() { any } else { number(seed) })
}
