//! What a user asks for, as a value: which service port of this host goes to which other port,
//! and for whom.
//!
//! The room is pure. Every value here has been checked by the constructor of its type; text is read
//! in [`crate::formats`].

#![forbid(unsafe_code)]

pub mod changes;
mod comment;
mod digest;
mod generation;
mod interface;
pub mod merge;
mod range;
mod selector;
mod service;
mod set;
mod target;
mod user;
pub mod words;

pub use comment::{COMMENT_MAX, Comment, InvalidComment};
pub use digest::Digest;
pub use generation::{GenerationId, Point};
pub use interface::{INTERFACE_NAME_MAX, InterfaceName, InterfacePattern, InvalidInterface};
pub use range::PortRange;
pub use selector::{Family, Matches, Scope, Selector};
pub use service::{Port, Protocol, Service};
pub use set::{Mapping, MappingSet, is_disjoint};
pub use target::Target;
pub use user::{Direct, Uid, User, UserName};
