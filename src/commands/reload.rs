//! `portmap reload`: whether it applies the files or restores what is persisted.

use crate::cli::Common;
use crate::commands::engine;
use crate::commands::failure::Result;
use crate::host::files;
use crate::ui::Ui;

/// What a reload is to make active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakesUp {
    Files,
    /// What is persisted.
    Persisted,
    /// What is active stays.
    Nothing,
}

/// Whether there are files to take up. Where another program has removed the table, what was there
/// comes back first: systemd reloads the unit with nftables.service, which nobody asked to take up
/// files that are perhaps not ready yet.
pub fn takes_up(ui: &Ui, common: &Common) -> Result<TakesUp> {
    if !files::default_has_rules() {
        return Ok(TakesUp::Persisted);
    }
    let mut engine = engine::open(ui, common)?;
    let is_gone = engine.is_gone()?;
    if !is_gone && engine.was_just_put_back() {
        let dir = files::DIRECTORY;
        ui.note(format_args!(
            "the table was gone a moment ago, and the guard has put it back; `portmap apply \
             --persist` takes up the files in {dir}"
        ));
        return Ok(TakesUp::Nothing);
    }
    if is_gone {
        let dir = files::DIRECTORY;
        ui.note(format_args!(
            "the table is gone, so what is persisted is restored; `portmap apply --persist` takes up \
             the files in {dir}"
        ));
    }
    Ok(if is_gone { TakesUp::Persisted } else { TakesUp::Files })
}
