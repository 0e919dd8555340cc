//! What the commands take that change the mapping.

use std::time::Duration;

use clap::Args;

use super::input::Input;
use super::values::{parse_generation, parse_trial_time};
use crate::mapping::Point;

#[derive(Debug, Args)]
pub struct Apply {
    #[command(flatten)]
    pub input: Input,
    /// Only show what would change.
    #[arg(long, short = 'n', conflicts_with_all = ["persist", "confirm"])]
    pub dry_run: bool,
    /// Exit with code 2 if there were changes; with --dry-run, if there are.
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Restore the mapping after a reboot.
    #[arg(long)]
    pub persist: bool,
    /// Apply for TIME (1s to 24h, as in 60s or 5m), then revert automatically unless confirmed.
    #[arg(long, value_name = "TIME", value_parser = parse_trial_time)]
    pub confirm: Option<Duration>,
    /// Reason, recorded in the history.
    #[arg(long, short, value_name = "TEXT")]
    pub message: Option<String>,
    /// Apply without recording a generation; it cannot be rolled back.
    #[arg(long, conflicts_with_all = ["persist", "confirm"])]
    pub no_history: bool,
}

impl Apply {
    /// The files in the default directory, restored at boot from now on.
    pub fn of_default_directory() -> Self {
        Self {
            input: Input { files: Vec::new(), strict: false },
            dry_run: false,
            detailed_exitcode: false,
            persist: true,
            confirm: None,
            message: Some("reload".to_owned()),
            no_history: false,
        }
    }
}

#[derive(Debug, Args)]
pub struct Confirm {
    /// Also restore the mapping after a reboot.
    #[arg(long)]
    pub persist: bool,
}

#[derive(Debug, Args)]
pub struct Rollback {
    /// The generation to go back to; 0 is the empty one, before the first apply [default: the one
    /// before]
    #[arg(value_name = "N", value_parser = parse_generation)]
    pub number: Option<Point>,
    /// The same as N.
    #[arg(long, value_name = "N", value_parser = parse_generation, conflicts_with = "number")]
    pub to: Option<Point>,
    /// Only show what would change.
    #[arg(long)]
    pub dry_run: bool,
    /// Exit with code 2 if there were changes; with --dry-run, if there are.
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Reason, recorded in the history.
    #[arg(long, short, value_name = "TEXT")]
    pub message: Option<String>,
}

#[derive(Debug, Args)]
pub struct Clear {
    /// Only show what would change.
    #[arg(long)]
    pub dry_run: bool,
    /// Exit with code 2 if there were changes; with --dry-run, if there are.
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Also stop restoring a mapping at boot.
    #[arg(long, conflicts_with_all = ["dry_run", "no_history"])]
    pub persist: bool,
    /// Do not record a generation.
    #[arg(long)]
    pub no_history: bool,
}
