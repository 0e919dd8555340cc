//! The options of every command.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};

use super::values::{Color, Format, parse_time};

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// Print text for people, one JSON document, or (status only) metrics for Prometheus.
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
    /// The same as `--output json`.
    #[arg(long, global = true, hide = true)]
    pub json: bool,
    /// Print only the requested output and errors: no notes, no confirmations, and no warnings about
    /// the rules.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print each step, and how long it takes.
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// When to use colour; `auto` means on a terminal, unless NO_COLOR is set.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: Color,
    /// The directory of the history.
    #[arg(
        long,
        global = true,
        env = "PORTMAP_STATE_DIR",
        default_value = "/var/lib/portmap",
        value_name = "DIR",
        value_hint = ValueHint::DirPath,
        hide_env_values = true
    )]
    pub state_dir: PathBuf,
    /// How long to wait for another portmap that is making a change: a number with a unit, as in
    /// 500ms, 60s or 5m; without a unit, seconds.
    #[arg(long, global = true, default_value = "5s", value_parser = parse_time, value_name = "TIME")]
    pub wait: Duration,
}
