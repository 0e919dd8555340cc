//! How two generations differ, as the lines of a plan or as one document.

use anyhow::Result;
use serde::Serialize;

use super::change::color;
use super::escape::visible;
use super::mapping::ChangeJson;
use super::{JSON_VERSION, Ui};
use crate::engine::{Difference, name, name_within};
use crate::formats::rules;
use crate::mapping::Point;
use crate::mapping::changes::{Summary, changes};
use crate::mapping::words::fold_changes;

#[derive(Serialize)]
struct Document {
    version: u32,
    from: Point,
    to: Point,
    changes: Vec<ChangeJson>,
    diff: Diff,
}

/// Both as rules files.
#[derive(Serialize)]
struct Diff {
    before: String,
    after: String,
}

impl Ui {
    pub fn difference(&self, difference: &Difference) -> Result<()> {
        let Difference { from, to, before, after } = difference;
        let changes = changes(before, after);
        if self.is_json() {
            return self.print_json(&Document {
                version: JSON_VERSION,
                from: *from,
                to: *to,
                changes: changes.iter().map(ChangeJson::from).collect(),
                diff: Diff { before: rules::text(before), after: rules::text(after) },
            });
        }
        let lines = fold_changes(&changes).into_iter();
        let text: String =
            lines.map(|(action, line)| self.paint(color(action), visible(&line)) + "\n").collect();
        self.print(text)?;
        let summary = Summary::of(&changes);
        self.say(format_args!("from {} to {}: {summary}", name_within(*from), name(*to)))
    }
}
