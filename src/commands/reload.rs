//! `portmap reload`: whether it applies the files or restores what is persisted.

use crate::cli::Common;
use crate::commands::engine;
use crate::commands::failure::Result;
use crate::host::files;
use crate::ui::Ui;

/// Whether there are files to take up. Where another program has removed the table, what was there
/// comes back first: systemd reloads the unit with nftables.service, which nobody asked to take up
/// files that are perhaps not ready yet.
pub fn takes_up_files(ui: &Ui, common: &Common) -> Result<bool> {
    if !files::default_has_rules() {
        return Ok(false);
    }
    let is_gone = engine::open(ui, common)?.is_gone()?;
    if is_gone {
        let dir = files::DIRECTORY;
        ui.note(format_args!(
            "the table is gone, so what is persisted is restored; `portmap apply --persist` takes up \
             the files in {dir}"
        ));
    }
    Ok(!is_gone)
}
