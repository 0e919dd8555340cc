//! What `portmap run` takes.

use std::ffi::OsString;

use clap::{Args, ValueHint};

#[derive(Debug, Args)]
pub struct Run {
    /// Which port goes to which: PORT:TARGET; or PORT, to a target that is free
    #[arg(value_name = "MAPPING", required = true)]
    pub mappings: Vec<String>,
    /// Run the command as USER [default: the user who called sudo; required if root
    /// did not use sudo]
    #[arg(long, value_name = "USER", value_hint = ValueHint::Username)]
    pub user: Option<String>,
    /// The command, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}
