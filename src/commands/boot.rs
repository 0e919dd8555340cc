//! What is said of the next boot, and done about it, by every verb that persists.

use std::path::Path;

use crate::cli::Common;
use crate::engine::Persisted;
use crate::formats::shell_quoted as quoted;
use crate::history;
use crate::host::units;
use crate::ui::Ui;

/// Says what boot restores now, and has boot do it where that is in our hands.
pub fn say(ui: &Ui, common: &Common, persisted: Persisted) -> anyhow::Result<()> {
    if let Some(number) = persisted.after {
        let since = if persisted.before == persisted.after { "already" } else { "from now on" };
        ui.say(format_args!("generation {number} is restored at boot {since}"))?;
    }
    enable(ui, &common.state_dir);
    Ok(())
}

/// Where systemd runs, the unit is what boot runs; it restores from the default directory.
fn enable(ui: &Ui, state_dir: &Path) {
    if state_dir != Path::new(history::STATE_DIR) {
        let dir = quoted(state_dir);
        ui.note(format_args!("have boot run: portmap restore --state-dir {dir}"));
    } else if !units::systemd_runs() {
        ui.note(
            "systemd does not run here: have boot run `portmap restore`, for example with one of \
             the scripts in share/portmap/init",
        );
    } else if let Err(why) = units::enable(units::RESTORE) {
        let unit = units::RESTORE;
        ui.warn(format_args!("enable {unit}: {why}"));
        ui.note(format_args!("install the unit, then run: systemctl enable {unit}"));
    }
}
