//! What is wrong, or will be, with a mapping on this host: facts in, findings out.
//!
//! The room is pure. Facts are read in [`crate::host`] and [`crate::kernel`].

#![forbid(unsafe_code)]

mod around;
pub mod examine;
pub mod facts;
pub mod finding;
pub mod firewalls;
pub mod foresee;
mod holder;
mod machine;
mod others;
mod reach;
mod selectors;
mod state;
mod told;
mod users;

pub use finding::{Code, Finding, Remedy, Severity};
pub use holder::Holder;
pub use reach::{From, holders};

#[cfg(test)]
mod tests;
