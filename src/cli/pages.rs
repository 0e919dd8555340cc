//! What the commands take that print what belongs to portmap: completions and manual pages.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// Those that put no part of a file's name on the command line that they would then execute.
/// PowerShell does: it takes what is offered as it is.
const SHELLS: [&str; 4] = ["bash", "elvish", "fish", "zsh"];

#[derive(Debug, Args)]
pub struct Completions {
    #[arg(value_parser = SHELLS)]
    pub shell: String,
}

#[derive(Debug, Args)]
pub struct Man {
    /// A command's name, or `rules` for the file format [default: portmap itself]
    #[arg(value_name = "PAGE")]
    pub page: Option<String>,
    /// Write all pages to DIR/man8 and DIR/man5.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "page")]
    pub output_dir: Option<PathBuf>,
}
