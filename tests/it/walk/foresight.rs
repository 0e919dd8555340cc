//! What `plan` and `--dry-run` say would change is what the model says, and what the change itself
//! then says that it has done.

use portmap::formats::rules;
use serde_json::{Value, json};

use super::Walk;
use super::model::{Command, Model, Record, Says};
use super::stage::Stage;

/// What both documents say of a change, and nothing else that could differ.
const SAID: [&str; 5] = ["changed", "changes", "diff", "replaced", "repairs"];

impl Walk {
    /// A change is shown, and then made, most often.
    pub fn foreseen(&mut self) {
        let command = self.any_foreseeable();
        let by_plan = matches!(command, Command::Apply { .. }) && self.dice.one_in(2);
        let words = self.stage.words(&command);
        let shown = shown(&words, by_plan);
        self.says(shown.join(" "));
        let host = &self.stage.world.host;
        let foreseen = host.portmap(&shown).run();
        let (ahead, says) = self.model.foreseen(&command);
        let expected = Some(Stage::code(&command, says));
        assert_eq!(foreseen.code, expected, "{shown:?}: {foreseen}");
        let foreseen = (says != Says::Refused).then(|| foreseen.json());
        if let (Some(document), Says::Done { changed }) = (&foreseen, says) {
            assert_eq!(document["changed"], changed, "{shown:?}: {document:#}");
            assert_eq!(document["diff"], self.model.diff(&ahead), "{shown:?}: {document:#}");
        }
        if self.dice.one_in(4) {
            return self.becomes(vec![self.model.clone()]);
        }
        self.says(format!("{} -o json", words.join(" ")));
        let host = &self.stage.world.host;
        let done = host.portmap(words.iter().map(String::as_str).chain(["-o", "json"])).run();
        let (after, says) = self.model.done(&command);
        assert_eq!(done.code, Some(Stage::code(&command, says)), "{command:?}: {done}");
        if let (Some(foreseen), true) = (foreseen, says != Says::Refused) {
            assert_eq!(said(&done.json()), said(&foreseen), "{command:?}");
        }
        self.becomes(vec![after]);
    }

    fn any_foreseeable(&mut self) -> Command {
        loop {
            match self.any_command() {
                Command::Apply { mapping, .. } | Command::Try(mapping) => {
                    return Command::Apply { mapping, persist: false };
                }
                Command::Clear { .. } => return Command::Clear { persist: false },
                command @ Command::Rollback(_) => return command,
                _ => {}
            }
        }
    }
}

/// The words that show what a command would change.
fn shown(words: &[String], by_plan: bool) -> Vec<&str> {
    let words = words.iter().map(String::as_str);
    match by_plan {
        true => ["plan"].into_iter().chain(words.skip(1)).chain(["-o", "json"]).collect(),
        false => words.chain(["--dry-run", "-o", "json"]).collect(),
    }
}

fn said(document: &Value) -> Value {
    SAID.iter().map(|name| (*name, document[*name].clone())).collect::<Value>()
}

impl Model {
    /// What would become of it. That `apply` is refused while a trial runs is no reason not to show
    /// what it would do then.
    fn foreseen(&self, command: &Command) -> (Self, Says) {
        let Command::Apply { mapping, .. } = command else { return self.done(command) };
        let mut after = self.clone();
        let parent = after.active();
        after.carry_out(mapping, Record::New { parent, restores: None });
        let changed = after.is_otherwise(self);
        (after, Says::Done { changed })
    }

    /// From what serves here to what serves there, as rules files; empty where both are the same.
    fn diff(&self, after: &Self) -> Value {
        let (before, after) = (rules::text(&self.serving()), rules::text(&after.serving()));
        let (before, after) = if before == after { Default::default() } else { (before, after) };
        json!({ "before": before, "after": after })
    }
}
