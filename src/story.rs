//! What the kernel says of traced packets (`nft_trace.c`), made into the story of a connection:
//! where it came from, what each chain did with it, and what became of it. Pure: [`Teller`] hears
//! [`Event`]s and returns [`Story`]s.
//!
//! # The stages
//!
//! The tracing table ([`crate::kernel::trace`]) has chains of its own around everybody else's.
//! They decide nothing; that a packet passes them tells how far it came ([`Stage`]). One that
//! passed the last chain of the input hook was delivered, and one that did not, and was not
//! dropped by a rule that said so, was lost to something that is not nftables.

#![forbid(unsafe_code)]

mod advice;
mod chart;
mod event;
pub mod probe;
mod stage;
mod tale;
mod teller;
#[cfg(test)]
mod tests;

pub use chart::{Base, Chart, Opening, Untraced, Written};
pub use event::{Event, Packet, Place, Ports, Said, TcpFlags, Transport, Unreachable, Verdict};
pub use stage::Stage;
pub use tale::{Answer, AnswerKind, Decision, Leg, Origin, Outcome, Passage, Story, Word};
pub use teller::{Heard, Teller};
