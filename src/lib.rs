//! portmap: a YAML file says `80: 3000`, and the kernel sends port 80 of this host to port 3000.
//!
//! The library exists for the program and its tests; its interface is not kept stable.
//!
//! Text is read by [`formats`] into a [`mapping::MappingSet`]; [`ruleset::desired`] makes of it the
//! table that should be; [`kernel`] reads the table that is; [`plan`] says what leads from the one
//! to the other; [`engine`] records the intent in the [`history`], commits, reads back, deletes
//! outdated [`flows`], and records the outcome. [`commands`] turn the command line into requests to
//! the engine, and [`ui`] prints what it answers. [`host`] is what else is read of this machine, and
//! [`doctor`] says what is wrong there.
//!
//! A room may use those below it, never one above: ARCHITECTURE.md has the table, and a test
//! holds it.

pub mod cli;
pub mod commands;
pub mod doctor;
pub mod engine;
pub mod firewall;
pub mod flows;
pub mod formats;
pub mod history;
pub mod host;
pub mod kernel;
pub mod mapping;
pub mod plan;
pub mod ruleset;
pub mod story;
pub mod ui;
