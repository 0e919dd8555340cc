//! The chains of the tracing table.

/// A chain of the tracing table, and what it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Prerouting hook, first: what comes from outside.
    Arrive,
    /// Output hook, first: what this machine's own clients send.
    Depart,
    /// Reached from the two: here tracing begins.
    Begin,
    /// Prerouting and output hook, after connection tracking: packets of a flow that has been
    /// answered before.
    KnownOutside,
    KnownHere,
    /// Reached from the two: here tracing ends.
    Forget,
    /// Output hook, first: answers to clients whose connections are traced.
    Answers,
    /// Reached from there: here the tracing of an answer begins.
    Answer,
    /// Input hook, last.
    Delivered,
    /// Forward hook, last.
    Forwarded,
    /// Postrouting hook, last.
    Left,
}

impl Stage {
    pub const ALL: [Stage; 11] = [
        Stage::Arrive,
        Stage::Depart,
        Stage::Begin,
        Stage::KnownOutside,
        Stage::KnownHere,
        Stage::Forget,
        Stage::Answers,
        Stage::Answer,
        Stage::Delivered,
        Stage::Forwarded,
        Stage::Left,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Stage::Arrive => "arrive",
            Stage::Depart => "depart",
            Stage::Begin => "begin",
            Stage::KnownOutside => "known-outside",
            Stage::KnownHere => "known-here",
            Stage::Forget => "forget",
            Stage::Answers => "answers",
            Stage::Answer => "answer",
            Stage::Delivered => "delivered",
            Stage::Forwarded => "forwarded",
            Stage::Left => "left",
        }
    }

    pub fn of(chain: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == chain)
    }
}
