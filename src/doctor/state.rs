//! Whether what is active is what was applied, and what a reboot will bring.

use super::facts::{Boot, Facts, Files, Subject, Table};
use super::finding::{Code, Finding, Severity};
use crate::mapping::changes::{Summary, changes};
use crate::mapping::{GenerationId, MappingSet};

pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = table(facts);
    if facts.subject == Subject::Active {
        findings.extend(boot(facts));
    }
    findings.extend(file_trust(&facts.files));
    findings
}

fn table(facts: &Facts) -> Vec<Finding> {
    match &facts.table {
        Table::Unasked | Table::Unseen { .. } => Vec::new(),
        Table::Impossible { why, help } => {
            let finding = Finding::new(Code::KernelLacks, Severity::Error, why.clone())
                .because("without it nothing can be mapped")
                .advice(help.clone());
            vec![finding]
        }
        Table::Absent { lost } => not_applied(facts, *lost).into_iter().collect(),
        Table::Present { serving, drift, trial } => {
            let drift = drift.as_deref().map(|drift| drifted(drift, *serving));
            let trial = trial.and_then(|trial| {
                (!trial.left.is_zero()).then(|| on_trial(trial.number, trial.left.as_secs()))
            });
            let disagree = (facts.subject == Subject::Active && drift.is_none() && trial.is_none())
                .then(|| files_disagree(&facts.files, &facts.mapping))
                .flatten();
            drift.into_iter().chain(trial).chain(disagree).collect()
        }
    }
}

fn not_applied(facts: &Facts, lost: Option<GenerationId>) -> Option<Finding> {
    let rules = facts.files.mapping.as_ref().filter(|rules| !rules.is_empty());
    let directory = &facts.files.directory;
    let finding = match (lost, rules) {
        (Some(number), _) => {
            let summary = format!("generation {number} was active, and its table is gone");
            Finding::new(Code::NotApplied, Severity::Error, summary)
                .because("a reboot or another program removed it: nothing is mapped now")
                .command("put it back", format!("portmap rollback --to {number}"))
                .evidence("generation", number.to_string())
        }
        (None, Some(rules)) => {
            let summary = format!("the rules in {directory} are not applied");
            Finding::new(Code::NotApplied, Severity::Error, summary)
                .because("the kernel has no table inet portmap: nothing is mapped")
                .command("apply them", "portmap apply")
                .evidence("mappings", rules.len())
        }
        (None, None) => return None,
    };
    Some(finding)
}

fn drifted(drift: &str, serving: Option<GenerationId>) -> Finding {
    let of = serving.map_or_else(String::new, |number| format!(" since generation {number}"));
    let summary = format!("another program has changed table inet portmap{of}");
    Finding::new(Code::Drifted, Severity::Error, summary)
        .because(drift)
        .advice("apply the rules file again: `portmap apply FILE`")
        .command("see what differs", "nft list table inet portmap")
        .evidence("drift", drift)
}

fn on_trial(number: Option<GenerationId>, left: u64) -> Finding {
    let number = number.map_or_else(|| "a mapping".to_owned(), |n| format!("generation {n}"));
    let summary = format!("{number} is on trial for {left} more seconds");
    Finding::new(Code::OnTrial, Severity::Warning, summary)
        .because("the mapping from before serves again then")
        .command("keep it", "portmap confirm")
        .command("end the trial now", "portmap rollback")
        .evidence("left_seconds", left)
}

fn files_disagree(files: &Files, active: &MappingSet) -> Option<Finding> {
    let rules = files.mapping.as_ref()?;
    let changes = changes(active, rules);
    if changes.is_empty() {
        return None;
    }
    let directory = &files.directory;
    let summary = format!("the rules in {directory} are not what is active");
    let finding = Finding::new(Code::FilesDisagree, Severity::Warning, summary)
        .because(format!("applying them: {}", Summary::of(&changes).ahead()))
        .command("see what differs", "portmap plan")
        .command("apply them", "portmap apply")
        .evidence("changes", changes.len());
    Some(finding)
}

fn file_trust(files: &Files) -> Vec<Finding> {
    let finding = |(why, help): &(String, Option<String>)| {
        let finding = Finding::new(Code::FileTrust, Severity::Error, why.clone())
            .because("root does not apply rules that another user can write")
            .evidence("directory", files.directory.clone());
        match help {
            Some(help) => finding.advice(help.clone()),
            None => finding,
        }
    };
    files.distrust.iter().map(finding).collect()
}

fn boot(facts: &Facts) -> Vec<Finding> {
    let Table::Present { serving, trial: None, .. } = &facts.table else { return Vec::new() };
    let Boot { persisted, applies, missing, flushers } = &facts.boot;
    let mut findings = Vec::new();
    match (persisted, serving) {
        _ if facts.mapping.is_empty() || *applies => {}
        (None, _) => findings.push(
            Finding::new(Code::NotPersisted, Severity::Note, "a reboot removes the mapping")
                .because("no generation is kept for boot")
                .command("restore it after a reboot", "portmap persist"),
        ),
        (Some(boot), Some(serving)) if boot == serving => {}
        (Some(boot), serving) => {
            let serving = serving.map_or("none of the history".to_owned(), |n| n.to_string());
            findings.push(
                Finding::new(
                    Code::BootDiffers,
                    Severity::Warning,
                    format!("boot restores generation {boot}, not the active one"),
                )
                .because(format!("the active generation is {serving}"))
                .command("restore the active one", "portmap persist")
                .command("see what differs", format!("portmap show {boot}"))
                .evidence("boot", boot.to_string()),
            );
        }
    }
    if let (Some(_), Some((why, help)), false) = (persisted, missing, applies) {
        let summary = format!("boot restores nothing: {why}");
        findings.push(
            Finding::new(Code::BootUnit, Severity::Warning, summary)
                .because("a generation is kept for boot, and nothing will load it")
                .advice(help.clone()),
        );
    }
    for (file, service) in flushers.iter().filter(|_| !facts.mapping.is_empty()) {
        findings.push(
            Finding::new(
                Code::WillBeFlushed,
                Severity::Warning,
                format!("{service} empties the whole ruleset when it starts or reloads ({file})"),
            )
            .because("table inet portmap goes with it")
            .command(
                "put the mapping back with it",
                format!(
                    "systemctl edit {service}  # [Service] ExecStartPost=portmap restore, \
                     ExecReload=portmap restore"
                ),
            )
            .advice(format!("or flush only its own tables in {file}, instead of `flush ruleset`"))
            .evidence("file", file.clone()),
        );
    }
    findings
}
