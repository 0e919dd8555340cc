//! What `portmap history` is asked for.

use clap::Args;

use super::values::parse_generation;
use crate::mapping::Point;

#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Show what generation N has changed; with M, what differs in M from N.
    #[arg(long, num_args = 1..=2, value_name = "N", value_parser = parse_generation)]
    pub diff: Vec<Point>,
}
