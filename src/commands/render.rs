//! `portmap render`: the same for other programs.

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{self, Script};
use crate::commands::input;
use crate::iptables;
use crate::mapping::Family;
use crate::output::Ui;
use crate::ruleset::{self, TABLE};

pub fn run(ui: &Ui, render: &cli::Render) -> Result<ExitCode> {
    let rules = input::read(ui, &render.input).resolve(ui, render.input.strict)?;
    let iptables = |family| iptables::Script { mapping: &rules.mapping, family };
    match render.format {
        Script::Nft => {
            // The first line makes the second work where there is no table yet.
            let table = ruleset::desired(&rules.mapping, None, None);
            ui.print(format_args!(
                "#!/usr/sbin/nft -f\n\ntable inet {TABLE}\ndelete table inet {TABLE}\n\n{table}"
            ))?;
        }
        Script::Iptables => ui.print(iptables(Family::Ipv4))?,
        Script::Ip6tables => ui.print(iptables(Family::Ipv6))?,
    }
    Ok(ExitCode::SUCCESS)
}
