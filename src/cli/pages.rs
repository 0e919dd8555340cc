//! What the commands take that print what belongs to portmap: completions and manual pages.

use std::path::PathBuf;

use clap::{Args, ValueHint};

#[derive(Debug, Args)]
pub struct Completions {
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
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
