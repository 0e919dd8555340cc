//! portmap: a YAML file says `80: 3000`, the kernel does it.

pub mod changes;
pub mod cli;
pub mod commands;
pub mod config;
pub mod conntrack;
pub mod diagnostic;
pub mod host;
pub mod iptables;
pub mod journal;
pub mod kernel;
pub mod mapping;
mod nft;
pub mod output;
pub mod plan;
pub mod ruleset;
