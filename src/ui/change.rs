//! What a change did, or would do: as lines for people, or as one document.

use anstyle::AnsiColor;
use anyhow::Result;
use serde::Serialize;

use super::boot::NextBootJson;
use super::escape::visible;
use super::mapping::ChangeJson;
use super::{JSON_VERSION, Ui};
use crate::engine::{Change, Persisted};
use crate::formats::diagnostic::Diagnostic;
use crate::formats::rules;
use crate::mapping::GenerationId;
use crate::mapping::changes::{Action, Summary, changes};
use crate::mapping::words::fold_changes;

/// The lines of changes that are shown without `--verbose`.
const LINES_MAX: usize = 50;

/// Whether it has happened, or is only shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tense {
    Done,
    Ahead,
}

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    changed: bool,
    changes: Vec<ChangeJson>,
    diff: Diff,
    replaced: &'a [String],
    repairs: &'a [String],
    generation: Option<GenerationId>,
    trial_seconds: Option<f64>,
    persisted: Option<Persisted>,
    boot: Option<NextBootJson>,
    warnings: Vec<Diagnostic>,
}

/// The mapping as rules files; both empty if nothing differs.
#[derive(Default, Serialize)]
struct Diff {
    before: String,
    after: String,
}

impl Ui {
    /// What a change comes to. Where nothing was changed, nothing is printed for people.
    pub fn change(&self, change: &Change, tense: Tense) -> Result<()> {
        if self.is_json() {
            return self.print_json(&self.document(change));
        }
        if tense == Tense::Done && !change.is_change() {
            return Ok(());
        }
        for foreign in &change.foreign {
            let verb = if tense == Tense::Done { "removed" } else { "would remove" };
            self.warn(format_args!("{verb} foreign objects from table inet portmap: {foreign}"));
        }
        self.lines(change, tense)?;
        self.beside(change);
        Ok(())
    }

    /// What is to be known beside the mappings that differ.
    pub fn beside(&self, change: &Change) {
        if change.is_idle {
            self.note(
                "established connections go on through the mapping that was removed: the empty \
                 table stays for them, and the next change after their end removes it",
            );
        }
    }

    fn lines(&self, change: &Change, tense: Tense) -> Result<()> {
        let changes = changes(&change.before, &change.after);
        let lines = fold_changes(&changes);
        let shown = if self.is_verbose() { usize::MAX } else { LINES_MAX };
        let mut text = String::new();
        for (action, line) in lines.iter().take(shown) {
            text.push_str(&self.paint(color(*action), visible(line)));
            text.push('\n');
        }
        if lines.len() > shown {
            let more = lines.len() - shown;
            text.push_str(&format!("… and {more} more lines; --verbose shows all\n"));
        }
        // What is done to the table although no mapping differs; foreign objects are named already.
        for repair in change.repairs.iter().filter(|_| change.foreign.is_empty()) {
            let line = format!("repair table inet portmap: {}", visible(repair));
            text.push_str(&self.paint(AnsiColor::Yellow, line));
            text.push('\n');
        }
        // A plan was asked for its lines; what was done is a remark.
        if tense == Tense::Ahead || !self.is_quiet() {
            self.print(text)?;
        }
        self.say(match tense {
            Tense::Done => done(change, &Summary::of(&changes)),
            Tense::Ahead => ahead(change, &Summary::of(&changes)),
        })
    }

    fn document<'a>(&self, change: &'a Change) -> Document<'a> {
        let changes = changes(&change.before, &change.after);
        let diff = match changes.is_empty() {
            true => Diff::default(),
            false => {
                Diff { before: rules::text(&change.before), after: rules::text(&change.after) }
            }
        };
        Document {
            version: JSON_VERSION,
            changed: change.is_change(),
            changes: changes.iter().map(ChangeJson::from).collect(),
            diff,
            replaced: &change.foreign,
            repairs: &change.repairs,
            generation: change.generation,
            trial_seconds: change.trial.map(|(_, time)| time.as_secs_f64()),
            persisted: change.persisted,
            boot: change.next_boot.as_ref().map(NextBootJson::from),
            warnings: self.take_warnings(),
        }
    }
}

fn ahead(change: &Change, summary: &Summary) -> String {
    let what = match (*summary == Summary::default(), change.repairs.is_empty()) {
        (true, true) => summary.to_string(),
        (true, false) => format!("{summary}; the table would be repaired"),
        (false, _) => summary.ahead(),
    };
    format!("{what}; nothing was changed")
}

fn done(change: &Change, summary: &Summary) -> String {
    let what = match (*summary == Summary::default(), change.repairs.is_empty()) {
        (true, true) => "the mappings are unchanged".to_owned(),
        (true, false) => "the mappings are unchanged; the table was repaired".to_owned(),
        (false, _) => summary.to_string(),
    };
    match (change.generation, change.trial) {
        (Some(generation), Some((_, time))) => {
            let time = humantime::format_duration(time);
            format!("{what}; generation {generation} is on trial for {time}")
        }
        (Some(generation), None) if change.after.is_empty() => {
            format!("{what}; nothing is mapped (generation {generation})")
        }
        (Some(generation), None) => format!("{what}; generation {generation} is active"),
        (None, _) if change.after.is_empty() => format!("{what}; nothing is mapped"),
        (None, _) => what,
    }
}

pub(super) const fn color(action: Action) -> AnsiColor {
    match action {
        Action::Add => AnsiColor::Green,
        Action::Remove => AnsiColor::Red,
        Action::Change => AnsiColor::Yellow,
    }
}
