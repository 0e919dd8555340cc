//! What the commands take that look at the mapping, and at who is served by it.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};

use super::values::{parse_generation, parse_interval, parse_time};
use crate::mapping::Point;

#[derive(Debug, Args)]
pub struct Status {
    /// Report in one line whether everything is as it should be; exit with code 1 if not: the table
    /// was removed or changed, a trial is running, the history cannot be read, or a reboot would not
    /// bring back the active mapping (also if it was never persisted).
    #[arg(long, conflicts_with = "watch")]
    pub check: bool,
    /// Keep showing it, with connections per second, until Ctrl-C or `q`; with -o json, one document
    /// per line.
    #[arg(long, short)]
    pub watch: bool,
    /// With --watch: the time between updates (100ms to 1h, as in 500ms or 5s).
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval, requires = "watch")]
    pub interval: Duration,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// Ports of this host, as in 80, 53/udp, 6000-6063 or http [default: all that are mapped]
    #[arg(value_name = "PORT")]
    pub ports: Vec<String>,
    /// Examine these rules instead of what is active; can be given several times.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub rules: Vec<PathBuf>,
    /// Also connect to the ports, from here and, through a short-lived network namespace, from
    /// outside, and tell what each client gets beside what was to be expected.
    ///
    /// It says first what it will do, and asks; without a terminal, it takes --yes. The namespace and all else that it makes end with
    /// the process, whatever ends it. The client outside arrives by an interface of its own and
    /// with an address for documentation: rules that ask for another interface or source are not
    /// tried. Without an answer, silence over UDP proves nothing. With -o json, one document has
    /// the connections and the findings (portmap schema probe).
    #[arg(long, conflicts_with = "rules")]
    pub probe: bool,
    /// With --probe: do not ask before connecting.
    #[arg(long, short, requires = "probe")]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct Trace {
    /// Ports of this host, as in 80, 53/udp, 6000-6063 or http [default: all that are mapped]
    #[arg(value_name = "PORT")]
    pub ports: Vec<String>,
    /// Report N connections.
    #[arg(long, short, value_name = "N", default_value_t = NonZeroU32::MIN)]
    pub count: NonZeroU32,
    /// Wait no longer than TIME, as in 60s or 5m.
    #[arg(long, short, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub struct Show {
    /// The number of the generation [default: the active one]
    #[arg(value_name = "N", value_parser = parse_generation)]
    pub number: Option<Point>,
}
