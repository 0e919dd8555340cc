//! What applying files would change: `plan` and `apply --dry-run`.

use std::rc::Rc;

use crate::cli::{self, Common};
use crate::commands::engine;
use crate::commands::failure::Result;
use crate::commands::input::{self, Texts};
use crate::commands::outcome::exit_code;
use crate::engine::{Engine, Refusal};
use crate::host::threads;
use crate::kernel::{Netlink, Snapshot};
use crate::ui::Ui;
use crate::ui::change::Tense;

pub fn show(ui: &Ui, common: &Common, input: &cli::Input, detailed_exitcode: bool) -> Result {
    let mut engine = engine::open(ui, common)?;
    let texts = input::read(ui, input);
    let (snapshot, rules) = read_both(ui, &mut engine, texts, input.strict)?;
    let mapping = Rc::new(rules.mapping);
    let (change, view) = engine.preview(&mapping, snapshot, input.strict)?;
    if change.is_change() || ui.is_json() {
        ui.change(&change, Tense::Ahead)?;
    } else {
        input::say_unchanged(ui, &rules.names)?;
        if change.is_committed {
            ui.note(
                "apply would only tidy up: remove what is left of a trial, or record the mapping \
                 in the history",
            );
        }
    }
    if let Some(trial) = view.running() {
        let refusal = Refusal::OnTrial { left: trial.left };
        ui.note(format_args!("apply would be refused now: {refusal}"));
    }
    Ok(exit_code(change.is_change(), detailed_exitcode))
}

/// What the files say, and what the kernel does. Where the files are large, the kernel is read while
/// they are parsed: neither needs the other, and each can be long. What is wrong with the files
/// comes first.
pub fn read_both(
    ui: &Ui,
    engine: &mut Engine<'_, Netlink>,
    texts: Texts,
    strict: bool,
) -> Result<(Snapshot, input::Rules)> {
    if !texts.is_large() {
        // A thread would take longer than the files.
        let rules = texts.resolve(ui, strict)?;
        return Ok((engine.read_kernel()?, rules));
    }
    let (rules, snapshot) = threads::at_once(|| texts.resolve(ui, strict), || engine.read_kernel());
    let rules = rules?;
    Ok((snapshot?, rules))
}
