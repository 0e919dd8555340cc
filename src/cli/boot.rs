//! What the commands take that decide or do what happens at boot.

use clap::Args;

#[derive(Debug, Args)]
pub struct Persist {
    /// Stop restoring a mapping at boot.
    #[arg(long)]
    pub off: bool,
}

#[derive(Debug, Args)]
pub struct Restore {
    /// Do nothing if portmap's table already exists.
    #[arg(long)]
    pub if_missing: bool,
}
