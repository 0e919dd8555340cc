//! The story of one connection.

use std::net::SocketAddr;

use super::event::{Packet, Place, Said, Unreachable, Verdict};
use crate::mapping::Protocol;

/// A connection that began while it was watched, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    pub protocol: Protocol,
    pub client: SocketAddr,
    /// What the client connected to.
    pub asked: SocketAddr,
    pub origin: Origin,
    /// Where the packet was sent in the end: as [`Story::asked`], unless it was translated.
    pub reached: SocketAddr,
    /// Of [`Story::passages`], the one whose rule translated it. `None` also where connection
    /// tracking remembered the translation.
    pub translated_in: Option<usize>,
    /// The base chains that the packets passed, in order.
    pub passages: Vec<Passage>,
    pub answer: Option<Answer>,
    pub outcome: Outcome,
    /// How often the client sent the same again while the story was told.
    pub repeats: u32,
}

impl Story {
    pub fn is_translated(&self) -> bool {
        self.asked != self.reached
    }
}

/// Who the client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It came by this interface.
    Outside { interface: Option<String> },
    /// A client on this machine.
    Here,
}

/// Which packet of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// The client's first.
    Request,
    /// The first that was sent back.
    Answer,
}

/// A base chain that a packet passed, with the chains that it called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    pub leg: Leg,
    pub place: Place,
    /// As it entered; `None` if that message was lost.
    pub packet: Option<Packet>,
    pub words: Vec<Word>,
}

/// What was said, by the base chain or one that it called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub chain: String,
    pub said: Said,
}

impl Passage {
    pub fn place_of(&self, word: &Word) -> Place {
        Place { chain: word.chain.clone(), ..self.place.clone() }
    }

    /// What dropped the packet, if it was dropped here.
    pub fn drop(&self) -> Option<&Word> {
        self.words.iter().find(|word| {
            let verdict = match &word.said {
                Said::Rule { verdict, .. } | Said::Policy(verdict) => verdict,
                Said::End => return false,
            };
            *verdict == Verdict::Drop
        })
    }
}

/// The first packet that was sent back to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub kind: AnswerKind,
    /// Whether it passed all chains on its way to the client.
    pub arrived: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// A SYN-ACK, or what a program sent.
    Yes,
    /// A TCP reset.
    Reset,
    /// An ICMP error.
    Unreachable(Unreachable),
}

/// What decided: of a passage, one word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub place: Place,
    /// The handle of the rule; `None` for the policy of the chain.
    pub rule: Option<u64>,
}

/// What became of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A program answered.
    Answered,
    /// The kernel answered that nobody listens, or a program refused.
    Refused,
    /// A rule refused it, and the client was told.
    Rejected(Decision),
    /// A rule or a policy dropped it in silence.
    Dropped(Decision),
    /// It was answered, and the answer was dropped.
    AnswerDropped(Decision),
    /// Passed on to another machine.
    Forwarded,
    /// Delivered, and not answered while it was watched.
    Ignored,
    /// Neither delivered nor dropped by a rule: whatever took it is not nftables.
    Lost,
}

impl Outcome {
    pub const fn name(&self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Refused => "refused",
            Outcome::Rejected(_) => "rejected",
            Outcome::Dropped(_) => "dropped",
            Outcome::AnswerDropped(_) => "answer-dropped",
            Outcome::Forwarded => "forwarded",
            Outcome::Ignored => "ignored",
            Outcome::Lost => "lost",
        }
    }

    pub const fn decision(&self) -> Option<&Decision> {
        match self {
            Outcome::Rejected(by) | Outcome::Dropped(by) | Outcome::AnswerDropped(by) => Some(by),
            _ => None,
        }
    }
}
