//! What a change did, or would do: as lines for people, or as one document.

use std::process::ExitCode;
use std::time::Duration;

use anstyle::AnsiColor;
use anyhow::{Context, Result};
use serde::Serialize;

use crate::changes::{Action, Change, Summary, changes};
use crate::commands::stored;
use crate::diagnostic::Diagnostic;
use crate::mapping::MappingSet;
use crate::output::{ChangeJson, JSON_VERSION, Ui, fold_changes};

/// Lines of changes shown after a change was made; a plan shows them all.
const LINES_MAX: usize = 40;

/// The difference between what served before and what serves after.
pub struct Report<'a> {
    pub before: &'a MappingSet,
    pub after: &'a MappingSet,
    /// What was found in our table that did not belong there.
    pub replaced: &'a [String],
    pub generation: Option<u64>,
    /// For how long it is on trial.
    pub trial: Option<Duration>,
    pub warnings: &'a [Diagnostic],
    /// Whether it has happened, or is only shown.
    pub done: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    changed: bool,
    changes: Vec<ChangeJson>,
    diff: Diff,
    replaced: &'a [String],
    generation: Option<u64>,
    trial_seconds: Option<f64>,
    warnings: &'a [Diagnostic],
}

/// The mapping as rules files; both empty if nothing differs.
#[derive(Default, Serialize)]
struct Diff {
    before: String,
    after: String,
}

impl<'a> Report<'a> {
    /// Nothing to do: `mapping` serves already.
    pub fn unchanged(mapping: &'a MappingSet, generation: Option<u64>) -> Self {
        Self {
            before: mapping,
            after: mapping,
            replaced: &[],
            generation,
            trial: None,
            warnings: &[],
            done: true,
        }
    }

    /// Whether anything that serves clients differs, or something strange is replaced.
    pub fn changed(&self) -> bool {
        self.before != self.after || !self.replaced.is_empty()
    }

    /// Exit code 2 if there are changes and the user wants to know it from the code.
    pub fn exit_code(&self, detailed: bool) -> ExitCode {
        if detailed && self.changed() { ExitCode::from(2) } else { ExitCode::SUCCESS }
    }

    /// Prints it. Where that fails after a change, the error says that the change was made.
    pub fn show(&self, ui: &Ui) -> Result<()> {
        let shown = self.print(ui);
        if self.done && self.changed() {
            return shown.context("the change was made, but its report is lost");
        }
        shown
    }

    fn print(&self, ui: &Ui) -> Result<()> {
        if ui.is_json() {
            return ui.print_json(&self.document());
        }
        for strange in self.replaced {
            let verb = if self.done { "replaced" } else { "would replace" };
            ui.warn(format_args!("{verb} what does not belong in table inet portmap: {strange}"));
        }
        let changes = changes(self.before, self.after);
        self.show_changes(ui, &changes)
    }

    fn show_changes(&self, ui: &Ui, changes: &[Change<'_>]) -> Result<()> {
        let lines = fold_changes(changes);
        let shown = if self.done { LINES_MAX } else { usize::MAX };
        let mut text = String::new();
        for (action, line) in lines.iter().take(shown) {
            text.push_str(&ui.paint(color(*action), line));
            text.push('\n');
        }
        if lines.len() > shown {
            text.push_str(&format!("… and {} more lines\n", lines.len() - shown));
        }
        // A plan was asked for its lines; what was done is a remark.
        if !self.done || !ui.quiet {
            ui.print(text)?;
        }
        let summary = Summary::of(changes);
        match (self.done, self.generation, self.trial) {
            (false, ..) => ui.say(format_args!("{summary}; nothing was changed")),
            (true, Some(generation), Some(time)) => ui.say(format_args!(
                "{summary}; generation {generation} is on trial for {}",
                humantime::format_duration(time)
            )),
            (true, Some(generation), None) => {
                ui.say(format_args!("{summary}; generation {generation} is active"))
            }
            (true, None, _) => ui.say(summary),
        }
    }

    fn document(&self) -> Document<'_> {
        let changes = changes(self.before, self.after);
        let diff = if changes.is_empty() {
            Diff::default()
        } else {
            Diff { before: stored::text(self.before), after: stored::text(self.after) }
        };
        Document {
            version: JSON_VERSION,
            changed: self.changed(),
            changes: changes.iter().map(ChangeJson::from).collect(),
            diff,
            replaced: self.replaced,
            generation: self.generation,
            trial_seconds: self.trial.map(|time| time.as_secs_f64()),
            warnings: self.warnings,
        }
    }
}

const fn color(action: Action) -> AnsiColor {
    match action {
        Action::Add => AnsiColor::Green,
        Action::Remove => AnsiColor::Red,
        Action::Change => AnsiColor::Yellow,
    }
}
