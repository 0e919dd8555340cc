//! The door of [`crate::kernel`] on real netlink.
//!
//! Way in: [`batch`] lays messages side by side, [`encode`] makes them from steps, [`explain`]
//! finds the step and the element that an answer of the kernel is about. Way out: [`read`] dumps
//! our table, [`sets`] and [`rule`] make values of it. Between them the shapes that both know:
//! [`expr`] (bytecode), [`interval`] (anonymous sets), [`sets`] (maps, the gate), [`abi`]
//! (numbers). [`query`] asks over the socket that connection tracking uses as well.
//!
//! What is not understood becomes a line in `Observed::foreign`.

pub mod abi;
pub mod batch;
pub mod encode;
pub mod explain;
mod expr;
mod interval;
pub mod moment;
pub mod query;
pub mod read;
mod rule;
pub mod runs;
pub mod sets;
pub mod userdata;
