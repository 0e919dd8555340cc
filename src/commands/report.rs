//! What a change did, or would do: as lines for people, or as one document.

use std::process::ExitCode;
use std::time::Duration;

use anstyle::AnsiColor;
use anyhow::{Context, Result};
use serde::Serialize;

use crate::changes::{Action, Change, Summary, changes};
use crate::commands::session::Reached;
use crate::commands::state::State;
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
    /// The one that is active after.
    pub generation: Option<u64>,
    /// For how long it is on trial.
    pub trial: Option<Duration>,
    /// What became of the generation that boot restores, if that was asked for.
    pub persisted: Option<Persisted>,
    /// Whether it has happened, or is only shown.
    pub done: bool,
}

/// The generation that boot restores; `None` for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Persisted {
    pub before: Option<u64>,
    pub after: Option<u64>,
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
    persisted: Option<Persisted>,
    warnings: Vec<Diagnostic>,
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
            persisted: None,
            done: true,
        }
    }

    /// What a change has come to.
    pub fn of(reached: &'a Reached, after: &'a MappingSet) -> Self {
        Self {
            before: &reached.before,
            after,
            replaced: &reached.replaced,
            generation: reached.generation,
            ..Self::unchanged(after, None)
        }
    }

    /// What a change would come to.
    pub fn preview(state: &'a State, after: &'a MappingSet) -> Self {
        let generation = state.stamped();
        Self {
            before: state.serving(),
            after,
            replaced: state.strange(),
            generation,
            done: false,
            ..Self::unchanged(after, None)
        }
    }

    /// Whether anything differs that serves clients or will after a boot, or something strange
    /// is replaced.
    pub fn changed(&self) -> bool {
        let persisted = self.persisted.is_some_and(|p| p.before != p.after);
        self.before != self.after || !self.replaced.is_empty() || persisted
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
            return ui.print_json(&self.document(ui));
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
        ui.say(self.summary(&Summary::of(changes)))
    }

    fn summary(&self, summary: &Summary) -> String {
        let same = *summary == Summary::default();
        if !self.done {
            let ahead = if same { summary.to_string() } else { summary.ahead() };
            return format!("{ahead}; nothing was changed");
        }
        let what =
            if same { "the mappings stay as they are".to_owned() } else { summary.to_string() };
        match (self.generation, self.trial) {
            (Some(generation), Some(time)) => {
                let time = humantime::format_duration(time);
                format!("{what}; generation {generation} is on trial for {time}")
            }
            (Some(generation), None) if self.after.is_empty() => {
                format!("{what}; nothing is mapped (generation {generation})")
            }
            (Some(generation), None) => format!("{what}; generation {generation} is active"),
            (None, _) if self.after.is_empty() => format!("{what}; nothing is mapped"),
            (None, _) => what,
        }
    }

    fn document(&self, ui: &Ui) -> Document<'_> {
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
            persisted: self.persisted,
            warnings: ui.take_warnings(),
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
