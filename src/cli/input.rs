//! What the commands take that read rules files.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

/// Which files to read.
#[derive(Clone, Debug, Args)]
pub struct Input {
    /// Rules files, directories of them (*.yaml, *.yml), mappings such as 80:3000, or - for standard
    /// input [default: /etc/portmap]
    #[arg(value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub files: Vec<PathBuf>,
    /// Treat warnings as errors.
    #[arg(long)]
    pub strict: bool,
}

/// What `--strict` is where the mapping is compared with this host as well.
pub(super) const STRICT_ON_HOST: &str =
    "Treat warnings as errors, those about what the change would lead to on this host included";

#[derive(Debug, Args)]
pub struct Render {
    #[command(flatten)]
    pub input: Input,
    /// The program that reads the output.
    #[arg(long, value_enum, default_value_t, value_name = "PROGRAM")]
    pub format: Script,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Script {
    /// nft -f
    #[default]
    Nft,
    /// iptables-restore --noflush (IPv4)
    Iptables,
    /// ip6tables-restore --noflush (IPv6)
    Ip6tables,
}

#[derive(Debug, Args)]
pub struct Plan {
    #[command(flatten)]
    pub input: Input,
    /// Exit with code 2 if there are changes.
    #[arg(long)]
    pub detailed_exitcode: bool,
}
