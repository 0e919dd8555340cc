//! What is known of some bytes: for each, the values that it may have.
//!
//! Every answer here is one of three, and `Maybe` is never rounded.

use std::borrow::Cow;

/// Why something cannot be told: `depends on the client's address`. Of thousands of rules few are
/// looked at again, so most of these are not made, but borrowed.
pub type Why = Cow<'static, str>;

/// Whether something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    Yes,
    No,
    Maybe,
}

impl std::ops::Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Truth::Yes => Truth::No,
            Truth::No => Truth::Yes,
            Truth::Maybe => Truth::Maybe,
        }
    }
}

impl Truth {
    pub fn invert_if(self, inverted: bool) -> Self {
        if inverted { !self } else { self }
    }

    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Truth::No, _) | (_, Truth::No) => Truth::No,
            (Truth::Yes, Truth::Yes) => Truth::Yes,
            _ => Truth::Maybe,
        }
    }

    pub fn or(self, other: Self) -> Self {
        !(!self).and(!other)
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Truth::Yes } else { Truth::No }
    }
}

/// The values that a byte may have; never none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Byte([u64; 4]);

impl Byte {
    pub const ANY: Byte = Byte([u64::MAX; 4]);
    pub const ZERO: Byte = Byte::of(0);

    pub const fn of(value: u8) -> Self {
        let mut bits = [0; 4];
        bits[(value / 64) as usize] = 1 << (value % 64);
        Byte(bits)
    }

    /// One of these, of which there is at least one.
    pub fn one_of(values: impl IntoIterator<Item = u8>) -> Self {
        let set = values.into_iter().fold(Byte([0; 4]), |set, value| set.or(Byte::of(value)));
        if set.0 == [0; 4] { Byte::ANY } else { set }
    }

    /// One that equals `value` in the bits of `mask`.
    pub fn masked(value: u8, mask: u8) -> Self {
        Byte::one_of((0..=255).filter(|candidate| candidate & mask == value & mask))
    }

    pub fn may_be(self, value: u8) -> bool {
        self.0[usize::from(value / 64)] & (1 << (value % 64)) != 0
    }

    pub fn values(self) -> impl Iterator<Item = u8> {
        (0..=255).filter(move |value| self.may_be(*value))
    }

    /// Its value, if it can only be one.
    pub fn known(self) -> Option<u8> {
        let ones: u32 = self.0.iter().map(|word| word.count_ones()).sum();
        (ones == 1).then(|| self.least())
    }

    pub fn least(self) -> u8 {
        let word = self.0.iter().position(|word| *word != 0).unwrap_or(0);
        (word * 64) as u8 + self.0[word].trailing_zeros() as u8
    }

    pub fn greatest(self) -> u8 {
        let word = self.0.iter().rposition(|word| *word != 0).unwrap_or(0);
        (word * 64 + 63) as u8 - self.0[word].leading_zeros() as u8
    }

    /// What it may be if it may be what either is.
    pub fn or(self, other: Self) -> Self {
        let mut bits = self.0;
        bits.iter_mut().zip(other.0).for_each(|(bits, other)| *bits |= other);
        Byte(bits)
    }

    pub fn map(self, f: impl Fn(u8) -> u8) -> Self {
        match self.known() {
            Some(value) => Byte::of(f(value)),
            None => Byte::one_of(self.values().map(f)),
        }
    }

    /// What `f` may give for the two; nothing is known of how they depend on each other.
    pub fn with(self, other: Self, f: impl Fn(u8, u8) -> u8) -> Self {
        match other.known() {
            Some(other) => self.map(|value| f(value, other)),
            None => {
                self.values().map(|a| other.map(|b| f(a, b))).reduce(Byte::or).unwrap_or(Byte::ANY)
            }
        }
    }
}

impl std::fmt::Debug for Byte {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.known() {
            Some(value) => write!(f, "{value:02x}"),
            None if *self == Byte::ANY => f.write_str("??"),
            None => write!(f, "<{}>", self.values().count()),
        }
    }
}

/// Bytes of which nothing is known.
pub fn any(len: usize) -> Vec<Byte> {
    vec![Byte::ANY; len]
}

/// Bytes that are known.
pub fn exactly(bytes: &[u8]) -> Vec<Byte> {
    bytes.iter().map(|byte| Byte::of(*byte)).collect()
}

/// All of them, if each is known.
pub fn known(bytes: &[Byte]) -> Option<Vec<u8>> {
    bytes.iter().map(|byte| byte.known()).collect()
}

/// What the bytes may be if they may be what either is.
pub fn either(one: &[Byte], other: &[Byte]) -> Vec<Byte> {
    one.iter().zip(other).map(|(one, other)| one.or(*other)).collect()
}

/// The bytes as a number of the machine's own order, if known.
pub fn native_u32(bytes: &[Byte]) -> Option<u32> {
    Some(u32::from_ne_bytes(known(bytes)?.try_into().ok()?))
}

/// Whether they equal `data`, as far as the shorter reaches.
pub fn equal(bytes: &[Byte], data: &[u8]) -> Truth {
    let mut sure = Truth::Yes;
    for (byte, data) in bytes.iter().zip(data) {
        if !byte.may_be(*data) {
            return Truth::No;
        }
        if byte.known().is_none() {
            sure = Truth::Maybe;
        }
    }
    sure
}

/// How `data` compares in `memcmp` with every value that the bytes may have: whether it may be
/// less, equal, greater.
fn orders(bytes: &[Byte], data: &[u8]) -> (bool, bool, bool) {
    let (mut less, mut greater) = (false, false);
    for (byte, data) in bytes.iter().zip(data) {
        less |= byte.least() < *data;
        greater |= byte.greatest() > *data;
        if !byte.may_be(*data) {
            return (less, false, greater);
        }
    }
    (less, true, greater)
}

/// A comparison of `nft_cmp`, in the order of `enum nft_cmp_ops`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Whether the bytes compare so with `data`, which is as long.
pub fn compare(bytes: &[Byte], comparison: Comparison, data: &[u8]) -> Truth {
    let (less, equal, greater) = orders(bytes, data);
    let (holds, fails) = match comparison {
        Comparison::Equal => (equal, less || greater),
        Comparison::NotEqual => (less || greater, equal),
        Comparison::Less => (less, equal || greater),
        Comparison::LessOrEqual => (less || equal, greater),
        Comparison::Greater => (greater, less || equal),
        Comparison::GreaterOrEqual => (greater || equal, less),
    };
    match (holds, fails) {
        (true, false) => Truth::Yes,
        (false, _) => Truth::No,
        (true, true) => Truth::Maybe,
    }
}

/// Whether the bytes, as a big-endian number, lie between the two, both included.
pub fn within(bytes: &[Byte], from: &[u8], to: &[u8]) -> Truth {
    let above = compare(bytes, Comparison::GreaterOrEqual, from);
    let below = compare(bytes, Comparison::LessOrEqual, to);
    match above.and(below) {
        Truth::Maybe if !some_within(bytes, from, to) => Truth::No,
        truth => truth,
    }
}

/// Whether any value that the bytes may have lies between the two.
fn some_within(bytes: &[Byte], from: &[u8], to: &[u8]) -> bool {
    let (Some((byte, rest)), Some((low, from)), Some((high, to))) =
        (bytes.split_first(), from.split_first(), to.split_first())
    else {
        return true;
    };
    if low == high {
        return byte.may_be(*low) && some_within(rest, from, to);
    }
    byte.values().any(|value| *low < value && value < *high)
        || byte.may_be(*low) && holds_for_some(orders(rest, from), true)
        || byte.may_be(*high) && holds_for_some(orders(rest, to), false)
}

fn holds_for_some((less, equal, greater): (bool, bool, bool), above: bool) -> bool {
    equal || if above { greater } else { less }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_knows_its_values() {
        let flags = Byte::one_of([0x02, 0xc2]);
        assert_eq!((flags.known(), flags.least(), flags.greatest()), (None, 0x02, 0xc2));
        assert_eq!(flags.map(|f| f & 0x17).known(), Some(2));
        assert_eq!(Byte::masked(0x40, 0xf0).values().count(), 16);
        assert_eq!(Byte::ANY.with(Byte::ANY, |a, b| a & b), Byte::ANY);
        assert_eq!(Byte::of(255).known(), Some(255));
        assert_eq!((Byte::ANY.least(), Byte::ANY.greatest()), (0, 255));
    }

    /// Compared with trying every value.
    #[test]
    fn comparisons_are_as_wide_as_the_truth() {
        let shapes = [
            vec![Byte::of(3), Byte::ANY],
            vec![Byte::one_of([1, 3, 200]), Byte::one_of([0, 7])],
            vec![Byte::one_of([2, 4]), Byte::masked(0x10, 0xf0)],
            vec![Byte::of(3), Byte::of(7)],
        ];
        let numbers = [0u16, 0x0107, 0x0300, 0x0307, 0x0308, 0x03ff, 0x0411, 0xc807, 0xffff];
        for shape in &shapes {
            let all: Vec<u16> = shape[0]
                .values()
                .flat_map(|a| shape[1].values().map(move |b| u16::from_be_bytes([a, b])))
                .collect();
            let truth =
                |holds: &dyn Fn(u16) -> bool| match all.iter().filter(|v| holds(**v)).count() {
                    0 => Truth::No,
                    n if n == all.len() => Truth::Yes,
                    _ => Truth::Maybe,
                };
            for n in numbers {
                let data = n.to_be_bytes();
                let compare = |how| compare(shape, how, &data);
                assert_eq!(compare(Comparison::Equal), truth(&|v| v == n), "{shape:?} == {n}");
                assert_eq!(compare(Comparison::Less), truth(&|v| v < n), "{shape:?} < {n}");
                assert_eq!(compare(Comparison::GreaterOrEqual), truth(&|v| v >= n));
                assert_eq!(compare(Comparison::Greater), truth(&|v| v > n), "{shape:?} > {n}");
                assert_eq!(equal(shape, &data), truth(&|v| v == n));
                for m in numbers.into_iter().filter(|m| *m >= n) {
                    let found = within(shape, &data, &m.to_be_bytes());
                    assert_eq!(found, truth(&|v| n <= v && v <= m), "{shape:?} in {n}-{m}");
                }
            }
        }
    }
}
