//! What else is known of the chains and rules that a story names.

use std::collections::BTreeMap;

use super::event::Place;

/// The chains and rules that stories name, as they are in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chart {
    pub bases: BTreeMap<Place, Base>,
    /// By chain and handle.
    pub rules: BTreeMap<(Place, u64), Written>,
    /// What lets the connection past what decided against it, if that is known.
    pub opening: Option<Opening>,
    /// The rule or policy of legacy iptables that keeps out connections like this one. The kernel
    /// does not trace those.
    pub untraced: Option<Untraced>,
}

/// What decides by its rules, and was not seen to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untraced {
    /// Where it is, and as its owner wrote it.
    pub text: String,
    pub opening: Opening,
}

/// What to type so that connections like this one are let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Whose rule or policy it is: `ufw`.
    pub owner: &'static str,
    pub commands: Vec<String>,
}

/// Where the kernel calls a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// nft's word: `input`.
    pub hook: &'static str,
    pub priority: i32,
}

/// A rule as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its place in the chain; the first is 1.
    pub position: usize,
    /// The rule as text, if it can be written.
    pub text: Option<String>,
    pub comment: Option<String>,
}

impl Chart {
    pub fn base(&self, place: &Place) -> Option<&Base> {
        self.bases.get(place)
    }

    pub fn rule(&self, place: &Place, handle: u64) -> Option<&Written> {
        self.rules.get(&(place.clone(), handle))
    }
}
