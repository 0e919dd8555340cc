//! What `portmap schema` describes.

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub struct Schema {
    /// What to describe.
    #[arg(value_enum, default_value_t)]
    pub of: Document,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Document {
    /// The rules file.
    #[default]
    Rules,
    /// Errors, which every failing command prints on standard error with -o json.
    Errors,
    /// What check prints with -o json.
    Check,
    /// What render prints with -o json.
    Render,
    /// What plan, apply, confirm, rollback, restore, reload and clear print with -o json.
    Changes,
    /// What status prints with -o json.
    Status,
    /// What trace prints with -o json.
    Trace,
    /// What doctor prints with -o json.
    Doctor,
    /// What doctor --probe prints with -o json.
    Probe,
    /// What guard prints with -o json: a line for each event.
    Guard,
    /// What history prints with -o json.
    History,
    /// What history --diff prints with -o json.
    Difference,
    /// What show prints with -o json.
    Show,
    /// What persist prints with -o json.
    Persist,
}
