//! `portmap persist`: the active mapping comes back after a reboot.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::cli::{self, Common};
use crate::commands::failure::Refusal;
use crate::commands::session::Session;
use crate::commands::{apply, confirm};
use crate::journal::{self, Journal};
use crate::output::{JSON_VERSION, Ui};

/// Not `portmap.service`: that is a name of rpcbind's on Debian and its kin.
const UNIT: &str = "portmap-nft.service";

#[derive(Serialize)]
struct Document {
    version: u32,
    changed: bool,
    /// What boot restores from now on.
    persisted: Option<u64>,
}

pub fn run(ui: &Ui, common: &Common, persist: &cli::Persist) -> Result<ExitCode> {
    if persist.off {
        return forget(ui, common);
    }
    let mut session = Session::open(ui, common)?;
    if let Some(trial) = session.state.running() {
        return Err(apply::on_trial(trial.left).into());
    }
    // One that has run out leaves its traces.
    confirm::end(&mut session)?;
    let generation = session.active_generation()?.filter(|n| *n > 0);
    let changed = keep(ui, &session, generation)?;
    if ui.is_json() {
        ui.print_json(&Document { version: JSON_VERSION, changed, persisted: generation })?;
    }
    Ok(ExitCode::SUCCESS)
}

fn forget(ui: &Ui, common: &Common) -> Result<ExitCode> {
    let journal = Journal::at(&common.state_dir);
    let had = match journal.boot() {
        Err(journal::Error::Absent { .. }) => None,
        // A pointer that cannot be read is not kept either.
        Err(_) => Some(0),
        Ok(boot) => boot,
    };
    if had.is_some() {
        journal.lock(common.wait)?.clear_boot()?;
    }
    if ui.is_json() {
        let document = Document { version: JSON_VERSION, changed: had.is_some(), persisted: None };
        ui.print_json(&document)?;
    }
    ui.say(match had {
        Some(_) => "nothing is restored at boot from now on; the active mapping stays until then",
        None => "nothing to do: no mapping is persisted",
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Makes boot restore a generation: the one that the kernel holds at this moment. Says whether
/// that is new.
pub fn keep(ui: &Ui, session: &Session<'_>, generation: Option<u64>) -> Result<bool> {
    let (Some(history), Some(number)) = (session.history(), generation) else {
        return Err(Refusal::new(
            "there is no active generation to persist",
            "apply a rules file first: portmap apply --persist FILE",
        )
        .into());
    };
    if let Some(drift) = session.drift()? {
        return Err(Refusal::new(
            format!("what is active is not generation {number} any more: {drift}"),
            "apply the rules file again: portmap apply --persist FILE",
        )
        .into());
    }
    let changed = history.boot().ok().flatten() != Some(number);
    if changed {
        history.set_boot(number).context("persist")?;
    }
    let what = if changed { "restored at boot from now on" } else { "restored at boot already" };
    ui.say(format_args!("generation {number} is {what}"))?;
    enable(ui, history);
    Ok(changed)
}

/// Where systemd runs, the unit is what boot runs; it restores from the default directory.
fn enable(ui: &Ui, journal: &Journal) {
    let systemd = Path::new("/run/systemd/system").exists();
    if journal.dir() != Path::new(journal::STATE_DIR) {
        let dir = journal.dir().display();
        ui.note(format_args!("have boot run: portmap restore --state-dir {dir}"));
    } else if !systemd {
        ui.note(
            "systemd does not run here: have boot run `portmap restore`, for example with an init \
             script of portmap's",
        );
    } else if let Err(why) = systemctl_enable() {
        ui.warn(format_args!("enable {UNIT}: {why}"));
        ui.note(format_args!("install the unit, then: systemctl enable {UNIT}"));
    }
}

fn systemctl_enable() -> Result<(), String> {
    let output = Command::new("systemctl")
        .args(["--quiet", "enable", UNIT])
        .output()
        .map_err(|e| format!("run systemctl: {e}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}
