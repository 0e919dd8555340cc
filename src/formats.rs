//! What people and other programs write, to and from a [`MappingSet`](crate::mapping::MappingSet):
//! rules files, mappings on the command line, iptables-restore input. Every problem is reported at
//! its place.

#![forbid(unsafe_code)]

pub mod code;
pub mod diagnostic;
pub mod hidden;
pub mod iptables;
pub mod rules;
mod shell;
mod spelling;

pub use shell::{is_nft_word, shell_quoted};
pub use spelling::closest;
