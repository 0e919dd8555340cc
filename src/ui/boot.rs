//! What the next boot brings, in a sentence or as a part of a document.

use anyhow::Result;
use serde::Serialize;

use super::Ui;
use super::remark::Remark;
use crate::engine::{Brings, Change, NextBoot, Persisted, Replaced, Status};
use crate::mapping::{GenerationId, Point};

#[derive(Serialize)]
pub struct NextBootJson {
    action: Action,
    /// What is restored.
    generation: Option<GenerationId>,
    /// The unit or script that does it.
    by: Option<String>,
    /// Whether what serves now serves after it; null if that cannot be told.
    same: Option<bool>,
    /// Why nothing is restored although a generation is persisted.
    because: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Restore,
    Apply,
    Nothing,
    Unknown,
}

impl From<&NextBoot> for NextBootJson {
    fn from(next: &NextBoot) -> Self {
        let (action, generation, by, because) = match &next.brings {
            Brings::Nothing => (Action::Nothing, None, None, None),
            Brings::Generation { number, by, .. } => {
                (Action::Restore, Some(*number), Some(by.clone()), None)
            }
            Brings::NotRestored { why, .. } => (Action::Nothing, None, None, Some(why.to_string())),
            Brings::Files { by } => (Action::Apply, None, Some(by.clone()), None),
            Brings::Unknown => (Action::Unknown, None, None, None),
        };
        Self { action, generation, by, same: next.is_same, because }
    }
}

impl Ui {
    /// What boot makes of a change: what was asked for it, or else that it still brings another
    /// mapping.
    pub fn boot_after(&self, change: &Change) -> Result<()> {
        let Some(next) = &change.next_boot else { return Ok(()) };
        match change.persisted {
            Some(persisted @ Persisted { after: Some(_), .. }) => self.persisted(persisted, next),
            Some(Persisted { after: None, .. }) => {
                self.say("nothing is restored at boot from now on")
            }
            None => {
                self.another_at_boot(next, change.after.is_empty());
                Ok(())
            }
        }
    }

    /// That a generation is persisted, and what comes of it. That nothing does is an error, and
    /// shown as one.
    pub fn persisted(&self, persisted: Persisted, next: &NextBoot) -> Result<()> {
        let since = if persisted.before == persisted.after { "already" } else { "from now on" };
        match &next.brings {
            Brings::Generation { number, is_empty: true, .. }
            | Brings::NotRestored { number, is_empty: true, .. } => self.say(format_args!(
                "generation {number} is persisted; it is empty: nothing is mapped after a reboot"
            )),
            Brings::Generation { number, by, .. } => {
                self.say(format_args!("generation {number} is restored at boot {since} ({by})"))
            }
            Brings::Files { by } => {
                self.say("the active generation is persisted")?;
                self.note(files(by));
                Ok(())
            }
            Brings::Nothing | Brings::NotRestored { .. } | Brings::Unknown => Ok(()),
        }
    }

    /// After a change: that boot still brings another mapping, and how to change that.
    fn another_at_boot(&self, next: &NextBoot, is_cleared: bool) {
        match &next.brings {
            Brings::Generation { number, by, .. } if next.brings_another() => {
                let remedy = match is_cleared {
                    true => "`portmap persist --off` makes it restore nothing",
                    false => "`portmap persist` makes it restore this one",
                };
                self.note(format_args!(
                    "boot still restores another mapping, generation {number} ({by}): {remedy}"
                ));
            }
            Brings::Files { by } => self.note(files(by)),
            _ => {}
        }
    }

    /// That another mapping was active than the one that is restored: nobody is to miss it unawares.
    pub fn replaced(&self, number: GenerationId, instead_of: Option<Replaced>) {
        match instead_of {
            None => {}
            Some(Replaced { generation: Some(lost), was_live }) => {
                let text = format!(
                    "generation {lost} was active last, and is not the one that is persisted: \
                     `portmap rollback {lost}` puts it back"
                );
                if was_live { self.warn(text) } else { self.note(text) }
            }
            Some(Replaced { generation: None, .. }) => self.warn(format_args!(
                "generation {number} has replaced a mapping that was not in the history"
            )),
        }
    }
}

/// The last lines of `status`.
pub(super) fn remarks(status: &Status) -> Vec<Remark> {
    let Some(next) = &status.next_boot else { return Vec::new() };
    let serves = status.serving.and_then(Point::generation).is_some();
    let persist = match status.view.running() {
        Some(_) => "portmap confirm --persist",
        None => "portmap persist",
    };
    // Not where a mapping is missed: that one is to come back.
    let is_cleared = status.lost.is_none() && status.view.serving().is_empty();
    let say = match &next.brings {
        Brings::Nothing if is_cleared => return Vec::new(),
        Brings::Nothing if serves => format!("not restored at boot; run `{persist}` to enable"),
        // What is wrong with the pointer is among the problems.
        Brings::Nothing | Brings::Unknown => return Vec::new(),
        Brings::Generation { by, .. } if next.is_same == Some(true) => {
            format!("boot restores it ({by})")
        }
        Brings::Generation { number, by, .. } if is_cleared => format!(
            "boot restores generation {number} ({by}); `portmap persist --off` makes it restore \
             nothing"
        ),
        Brings::Generation { number, is_empty: true, by } => format!(
            "boot restores generation {number}, the empty mapping ({by}); `{persist}` makes \
             it restore this one"
        ),
        Brings::Generation { number, by, .. } if serves => format!(
            "boot restores another mapping, generation {number} ({by}); `{persist}` makes it \
             restore this one"
        ),
        Brings::Generation { number, by, .. } => {
            format!("boot restores generation {number} ({by})")
        }
        Brings::NotRestored { is_empty: true, .. } => return Vec::new(),
        Brings::NotRestored { number, why, .. } => {
            let warning = format!(
                "generation {number} is persisted, but nothing will restore it at boot: {why}"
            );
            return vec![Remark::Warning(warning), Remark::Note(why.help().to_string())];
        }
        Brings::Files { by } => files(by),
    };
    vec![Remark::Say(say)]
}

fn files(by: &str) -> String {
    format!("at boot {by} applies rules files, as they are then")
}
