//! Whether a key is in a set, and what a map has for it.

use super::expr::Data;
use super::tables::{Element, Set};
use super::value::{Byte, Truth, equal, within};

/// What a lookup can come to.
#[derive(Debug, Default, PartialEq)]
pub struct Found<'a> {
    /// The elements that may be hit.
    pub hits: Vec<&'a Element>,
    /// Whether the catch-all element may be.
    pub catch_all: bool,
    /// Whether there may be no element at all.
    pub nothing: bool,
}

impl Found<'_> {
    /// Whether the key is in the set.
    pub fn is_member(&self) -> Truth {
        match (self.hits.is_empty() && !self.catch_all, self.nothing) {
            (true, _) => Truth::No,
            (false, false) => Truth::Yes,
            (false, true) => Truth::Maybe,
        }
    }

    /// What a map can have for it, each once.
    pub fn data<'a>(&'a self, set: &'a Set) -> Vec<&'a Data> {
        let hits = self.hits.iter().filter_map(|element| element.data.as_ref());
        let mut found: Vec<&Data> = Vec::new();
        for data in hits.chain(set.catch_all.as_ref().filter(|_| self.catch_all)) {
            if !found.contains(&data) {
                found.push(data);
            }
        }
        found
    }
}

/// Looks a key up whose bytes are known in part.
pub fn look_up<'a>(set: &'a Set, key: &[Byte]) -> Found<'a> {
    let mut found = Found { hits: Vec::new(), catch_all: false, nothing: true };
    for element in &set.elements {
        match hits(set, element, key) {
            Truth::Yes => {
                return Found { hits: vec![element], catch_all: false, nothing: false };
            }
            Truth::Maybe => found.hits.push(element),
            Truth::No => {}
        }
    }
    found.catch_all = set.has_catch_all;
    found.nothing = !set.has_catch_all;
    found
}

fn hits(set: &Set, element: &Element, key: &[Byte]) -> Truth {
    if element.from.len() != key.len() || element.to.len() != key.len() {
        return Truth::Maybe;
    }
    if !set.intervals {
        return equal(key, &element.from);
    }
    if set.fields.is_empty() {
        return within(key, &element.from, &element.to);
    }
    let mut at = 0;
    let mut truth = Truth::Yes;
    for len in &set.fields {
        let part = at..at + len;
        let (Some(key), Some(from), Some(to)) =
            (key.get(part.clone()), element.from.get(part.clone()), element.to.get(part))
        else {
            return Truth::Maybe;
        };
        truth = truth.and(within(key, from, to));
        at += len.next_multiple_of(4);
    }
    truth
}

#[cfg(test)]
mod tests {
    use super::super::value::{any, exactly};
    use super::*;

    fn element(from: &[u8], to: &[u8], data: Option<u8>) -> Element {
        let data = data.map(|data| Data::Value(vec![data]));
        Element { from: from.to_vec(), to: to.to_vec(), data }
    }

    #[test]
    fn a_known_key_is_in_or_not() {
        let set = Set {
            intervals: true,
            elements: vec![element(&[0, 80], &[0, 90], None), element(&[1, 0], &[1, 0], None)],
            ..Set::default()
        };
        let member = |key: &[u8]| look_up(&set, &exactly(key)).is_member();
        assert_eq!(member(&[0, 85]), Truth::Yes);
        assert_eq!(member(&[0, 79]), Truth::No);
        assert_eq!(member(&[1, 0]), Truth::Yes);
        assert_eq!(look_up(&set, &any(2)).is_member(), Truth::Maybe);
        let everything = Set { has_catch_all: true, ..set };
        assert_eq!(look_up(&everything, &any(2)).is_member(), Truth::Yes);
    }

    #[test]
    fn a_concatenation_is_compared_field_by_field() {
        // An address and a port, as a packet filter of the kernel (nft_set_pipapo) has them.
        let set = Set {
            intervals: true,
            fields: vec![4, 2],
            elements: vec![element(
                &[10, 0, 0, 0, 0, 80, 0, 0],
                &[10, 255, 255, 255, 0, 90, 0, 0],
                None,
            )],
            ..Set::default()
        };
        let mut key = any(8);
        assert_eq!(look_up(&set, &key).is_member(), Truth::Maybe);
        key[4..].copy_from_slice(&exactly(&[0, 22, 0, 0]));
        assert_eq!(look_up(&set, &key).is_member(), Truth::No);
        key[4..].copy_from_slice(&exactly(&[0, 85, 0, 0]));
        assert_eq!(look_up(&set, &key).is_member(), Truth::Maybe);
        key[0] = Byte::of(10);
        assert_eq!(look_up(&set, &key).is_member(), Truth::Yes);
    }

    #[test]
    fn a_map_gives_every_data_that_can_be() {
        let set = Set {
            elements: vec![
                element(&[1], &[1], Some(7)),
                element(&[2], &[2], Some(7)),
                element(&[3], &[3], Some(8)),
            ],
            ..Set::default()
        };
        let key = [Byte::one_of([1, 2, 9])];
        let found = look_up(&set, &key);
        assert_eq!(found.data(&set), [&Data::Value(vec![7])]);
        assert_eq!(found.is_member(), Truth::Maybe);
    }
}
