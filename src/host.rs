//! This host, as far as it can be read without its ruleset: files and whose word they are, the
//! services database, users and processes, what is started at boot.

#![forbid(unsafe_code)]

mod accounts;
mod acl;
pub mod boot;
pub mod capabilities;
pub mod confine;
pub mod descriptors;
pub mod detached;
pub mod dir;
pub mod environment;
pub mod files;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod holders;
pub mod identity;
pub mod listeners;
pub mod log;
pub mod login;
pub mod namespace;
pub mod network;
pub mod path;
pub mod ports;
pub mod probe;
mod problem;
pub mod proc;
pub mod programs;
pub mod service_manager;
pub mod services;
pub mod signals;
pub mod sysctls;
pub mod terminal;
pub mod threads;
pub mod trust;
pub mod user;
