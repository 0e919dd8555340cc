//! The door of [`crate::kernel`] on real netlink. The only room with unsafe code.
//!
//! Way in: [`batch`] lays messages side by side, [`encode`] makes them from steps, [`explain`]
//! finds the step and the element that an answer of the kernel is about. Way out: [`read`] dumps
//! our table, [`sets`] and [`rule`] make values of it. Between them the shapes that both know:
//! [`expr`] (bytecode), [`interval`] (anonymous sets), [`sets`] (maps, the gate), [`wire`]
//! (framing), [`abi`] (numbers). [`socket`] moves bytes.
//!
//! What comes from the socket is input: no length is trusted, and what is not understood becomes
//! a line in `Observed::foreign`.

mod abi;
pub mod batch;
mod encode;
mod explain;
mod expr;
mod interval;
pub mod read;
mod rule;
mod sets;
pub mod socket;
mod wire;
