//! What the system's log is told: who has done what, and from which files.

use super::summary::Change;
use crate::history::{Draft, Settlement};
use crate::host::boot::System;
use crate::host::log;
use crate::host::user::Who;
use crate::mapping::changes::{Summary, changes};
use crate::mapping::words::fold;
use crate::mapping::{GenerationId, Mapping, MappingSet};
use crate::ruleset::RunTable;

/// `draft` is `None` where a generation that exists is active again.
pub fn change(system: &System, change: &Change, draft: Option<&Draft>) {
    tell(system, &of_change(change, draft, &Who::invoking()));
}

/// How a change ended that the kernel decided meanwhile: nobody could tell then.
pub fn settled(system: &System, settlement: &Settlement) {
    tell(system, &settlement.to_string());
}

/// That boot restores another generation from now on, if anything restores it.
pub fn boot(system: &System, number: Option<GenerationId>) {
    tell(system, &of_boot(number, &Who::invoking()));
}

/// That a mapping begins to live with a command.
pub fn run(system: &System, table: &RunTable, mapping: &MappingSet) {
    tell(system, &of_run(table, mapping, &Who::invoking()));
}

fn tell(system: &System, line: &str) {
    log::notice(&system.log(), line);
}

fn by(who: &Who) -> String {
    match &who.name {
        Some(name) => format!("; by {name} (uid {})", who.uid),
        None => format!("; by uid {}", who.uid),
    }
}

fn of_boot(number: Option<GenerationId>, who: &Who) -> String {
    match number {
        Some(number) => format!("generation {number} is persisted{}", by(who)),
        None => format!("no generation is persisted any more{}", by(who)),
    }
}

fn of_run(table: &RunTable, mapping: &MappingSet, who: &Who) -> String {
    let mappings: Vec<&Mapping> = mapping.iter().collect();
    let runs = fold(&mappings, |m| *m, |_, _| true);
    let runs: Vec<_> = runs.iter().map(|(run, _)| run.to_string()).collect();
    let mut line = format!("{} lives with its command, {}{}", table.id, runs.join(", "), by(who));
    if let Some(command) = &table.command {
        line.push_str(&format!("; run of {}", &**command));
    }
    line
}

/// A change in one line.
fn of_change(change: &Change, draft: Option<&Draft>, who: &Who) -> String {
    let mut line = match (change.generation, &change.trial) {
        (Some(number), Some((_, time))) => {
            format!("generation {number} is on trial for {}", humantime::format_duration(*time))
        }
        (Some(number), None) if change.after.is_empty() => {
            format!("generation {number} is active: nothing is mapped")
        }
        (Some(number), None) => format!("generation {number} is active"),
        (None, _) if change.after.is_empty() => "nothing is mapped".to_owned(),
        (None, _) => "a mapping without a generation is active".to_owned(),
    };
    line.push_str(&format!(", {}", Summary::of(&changes(&change.before, &change.after))));
    line.push_str(&by(who));
    let Some(draft) = draft else { return line };
    line.push_str(&format!("; {}", draft.command));
    if !draft.sources.is_empty() {
        line.push_str(&format!(" of {}", draft.sources.join(", ")));
    }
    if let Some(message) = &draft.message {
        line.push_str(&format!("; {message:?}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::formats::rules;
    use crate::history::Command;
    use crate::mapping::MappingSet;

    #[test]
    fn a_line_says_who_what_and_from_where() {
        let set = |text: &str| Rc::new(rules::parse_stored("x", text.to_owned()).unwrap());
        let number = crate::mapping::GenerationId::new(12).unwrap();
        let after = set("ports: { 80: 3000, 443: 8443 }");
        let change =
            Change { before: set("ports: { 80: 3000 }"), ..Change::none(after, Some(number)) };
        let draft = Draft {
            who: None,
            command: Command::Apply,
            sources: vec!["/etc/portmap/web.yaml".into(), "standard input".into()],
            message: Some("web\nmoves".into()),
            parent: None,
            restores: None,
            trial_until: None,
        };
        let ada = Who { name: Some("ada".into()), uid: 1000 };
        assert_eq!(
            of_change(&change, Some(&draft), &ada),
            "generation 12 is active, 1 added; by ada (uid 1000); apply of /etc/portmap/web.yaml, \
             standard input; \"web\\nmoves\""
        );
        let gone = Change { after: Rc::new(MappingSet::default()), generation: None, ..change };
        let nobody = Who { name: None, uid: 7 };
        assert_eq!(of_change(&gone, None, &nobody), "nothing is mapped, 1 removed; by uid 7");
    }
}
