//! Two sorted lists side by side.

use std::cmp::Ordering;
use std::iter::{self, Peekable};

/// What one or both of two sorted lists have for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side<A, B> {
    Left(A),
    Right(B),
    Both(A, B),
}

impl<A, B> Side<A, B> {
    pub fn left(self) -> Option<A> {
        match self {
            Side::Left(a) | Side::Both(a, _) => Some(a),
            Side::Right(_) => None,
        }
    }

    pub fn right(self) -> Option<B> {
        match self {
            Side::Right(b) | Side::Both(_, b) => Some(b),
            Side::Left(_) => None,
        }
    }
}

/// Walks two lists that are sorted by their keys, each key once in a list.
pub fn merge<A, B, K: Ord>(
    left: impl IntoIterator<Item = A>,
    right: impl IntoIterator<Item = B>,
    left_key: impl Fn(&A) -> K,
    right_key: impl Fn(&B) -> K,
) -> impl Iterator<Item = Side<A, B>> {
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    iter::from_fn(move || {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => left_key(a).cmp(&right_key(b)),
        };
        step(&mut left, &mut right, order)
    })
}

fn step<A, B>(
    left: &mut Peekable<impl Iterator<Item = A>>,
    right: &mut Peekable<impl Iterator<Item = B>>,
    order: Ordering,
) -> Option<Side<A, B>> {
    Some(match order {
        Ordering::Less => Side::Left(left.next()?),
        Ordering::Greater => Side::Right(right.next()?),
        Ordering::Equal => Side::Both(left.next()?, right.next()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_comes_once_and_in_order() {
        let merged: Vec<_> = merge([1, 3, 4], [2, 3, 5], |a| *a, |b| *b).collect();
        use Side::{Both, Left, Right};
        assert_eq!(merged, [Left(1), Right(2), Both(3, 3), Left(4), Right(5)]);
    }
}
