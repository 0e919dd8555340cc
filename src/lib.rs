//! portmap: a YAML file says `80: 3000`, and the kernel redirects port 80 of this host to port
//! 3000.
//!
//! The library exists for the program and its tests; its interface is not kept stable.
//!
//! # The walk of the data
//!
//! It is one way. Text is read by [`config`] into a [`mapping::MappingSet`]; [`ruleset::desired`]
//! makes of it the table that should be; [`kernel`] reads the table that is; [`plan`] says what
//! leads from the one to the other. If that is nothing, the walk ends. Otherwise [`journal`]
//! writes down the intent, [`kernel`] commits it in one transaction and reads it back,
//! [`conntrack`] deletes the flows that contradict it, and [`journal`] writes down how it ended.
//! Rollback, restore and confirm are the same walk from another mapping.
//!
//! # The rooms
//!
//! | room | what it knows | what it must not know |
//! |---|---|---|
//! | [`cli`] | what a user may type | everything else |
//! | [`commands`] | the order of things, a file per verb | netlink, unsafe |
//! | [`config`] | the file: YAML, places, messages | the kernel; only its `source` opens files |
//! | [`diagnostic`] | a problem and its place, as text | what the problems are |
//! | [`mapping`] | what a user asks for, as a value | IO |
//! | [`ruleset`] | our table, as a value and as nft text | IO |
//! | [`iptables`] | the mapping as iptables-restore input | IO |
//! | [`plan`] | the steps from table to table | IO |
//! | [`changes`] | the difference of two mappings, for people | the table |
//! | [`kernel`] | snapshot and commit | netlink's bytes |
//! | `nft` | netlink's bytes; the only unsafe | what they are for |
//! | [`conntrack`] | which flows contradict a mapping | the table |
//! | [`journal`] | generations on disk, the lock | the kernel, what a mapping means |
//! | [`output`] | tables, colour, JSON | what they are about |
//!
//! ARCHITECTURE.md says more.

pub mod changes;
pub mod cli;
pub mod commands;
pub mod config;
pub mod conntrack;
pub mod diagnostic;
pub mod iptables;
pub mod journal;
pub mod kernel;
pub mod mapping;
mod nft;
pub mod output;
pub mod plan;
pub mod ruleset;
