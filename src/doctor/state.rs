//! Whether what is active is what was applied, and what a reboot will bring.

use super::facts::{Boot, Facts, Files, Guard, Subject, Table};
use super::finding::{Code, Finding, Severity};
use crate::mapping::changes::{Summary, changes};
use crate::mapping::{GenerationId, MappingSet};

pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = table(facts);
    if facts.subject == Subject::Active {
        findings.extend(boot(facts));
        findings.extend(guard_down(facts));
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
            let drift = drift.as_deref().map(|drift| drifted(drift, *serving, facts.guard));
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
                .command("put it back", format!("sudo portmap rollback --to {number}"))
                .advice(of_guard(facts.guard))
                .evidence("generation", number.to_string())
        }
        (None, Some(rules)) => {
            let summary = format!("the rules in {directory} are not applied");
            Finding::new(Code::NotApplied, Severity::Error, summary)
                .because("the kernel has no table inet portmap: nothing is mapped")
                .command("apply them", "sudo portmap apply")
                .evidence("mappings", rules.len())
        }
        (None, None) => return None,
    };
    Some(finding)
}

/// What a guard has to do with a table that is not as it should be.
fn of_guard(guard: Guard) -> String {
    match guard.pid {
        Some(pid) => format!(
            "process {pid} guards the table and has not put it back: `journalctl -u \
             portmap-nft-guard` says why"
        ),
        None => "`systemctl enable --now portmap-nft-guard` has it put back at once from then on"
            .to_owned(),
    }
}

fn guard_down(facts: &Facts) -> Option<Finding> {
    let Guard { pid: None, is_wanted: true } = facts.guard else { return None };
    let summary = "portmap-nft-guard.service is enabled, and no guard runs";
    let finding = Finding::new(Code::GuardDown, Severity::Warning, summary)
        .because("if another program removes table inet portmap, nobody puts it back")
        .command("start it", "sudo systemctl start portmap-nft-guard")
        .command("see why it does not run", "sudo systemctl status portmap-nft-guard");
    let is_seen = matches!(facts.table, Table::Present { .. } | Table::Absent { .. });
    is_seen.then_some(finding)
}

fn drifted(drift: &str, serving: Option<GenerationId>, guard: Guard) -> Finding {
    let of = serving.map_or_else(String::new, |number| format!(" since generation {number}"));
    let summary = format!("another program has changed table inet portmap{of}");
    Finding::new(Code::Drifted, Severity::Error, summary)
        .because(drift)
        .advice("apply the rules file again: `portmap apply FILE`")
        .command("see what differs", "sudo nft list table inet portmap")
        .advice(of_guard(guard))
        .evidence("drift", drift)
}

fn on_trial(number: Option<GenerationId>, left: u64) -> Finding {
    let number = number.map_or_else(|| "a mapping".to_owned(), |n| format!("generation {n}"));
    let summary = format!("{number} is on trial for {left} more seconds");
    Finding::new(Code::OnTrial, Severity::Warning, summary)
        .because("the previous mapping is active again then")
        .command("keep it", "sudo portmap confirm")
        .command("end the trial now", "sudo portmap rollback")
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
        .command("see what differs", "sudo portmap plan")
        .command("apply them", "sudo portmap apply")
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
    let serving = match &facts.table {
        Table::Present { serving, trial: None, .. } => *serving,
        // Nothing is to be mapped.
        Table::Absent { lost: None } => None,
        _ => return Vec::new(),
    };
    let Boot { persisted, is_same, is_empty, applies, missing, flushers } = &facts.boot;
    let is_mapped = !facts.mapping.is_empty();
    let mut findings = Vec::new();
    match (persisted, missing) {
        _ if *applies => {}
        (None, _) if is_mapped => findings.push(not_persisted("no generation is kept for boot")),
        (None, _) => {}
        (Some(_), Some(missing)) if !is_empty => findings.push(boot_unit(missing)),
        (Some(_), Some(_)) if is_mapped => {
            findings.push(not_persisted("the generation that is kept for boot is the empty one"));
        }
        (Some(_), Some(_)) => {}
        (Some(_), None) if *is_same == Some(true) => {}
        (Some(boot), None) if is_mapped => findings.push(boot_differs(*boot, serving)),
        (Some(boot), None) => findings.push(boot_brings_back(*boot)),
    }
    let flushed = flushers.iter().filter(|_| is_mapped);
    findings.extend(flushed.map(|(file, service)| flushed_by(file, service, facts.guard)));
    findings
}

fn not_persisted(why: &str) -> Finding {
    Finding::new(Code::NotPersisted, Severity::Note, "a reboot removes the mapping")
        .because(why)
        .command("restore it after a reboot", "sudo portmap persist")
}

fn boot_unit((why, help): &(String, String)) -> Finding {
    Finding::new(Code::BootUnit, Severity::Warning, format!("boot restores nothing: {why}"))
        .because("a generation is kept for boot, and nothing will load it")
        .advice(help.clone())
}

fn boot_differs(boot: GenerationId, serving: Option<GenerationId>) -> Finding {
    let serving = serving.map_or("none of the history".to_owned(), |n| n.to_string());
    let summary = format!("boot restores another mapping than the active one: generation {boot}");
    Finding::new(Code::BootDiffers, Severity::Warning, summary)
        .because(format!("the active generation is {serving}"))
        .command("restore the active one", "sudo portmap persist")
        .command("see what differs", format!("sudo portmap show {boot}"))
        .evidence("boot", boot.to_string())
}

/// Where nothing is mapped.
fn boot_brings_back(boot: GenerationId) -> Finding {
    let summary = format!("nothing is mapped, but boot restores generation {boot}");
    Finding::new(Code::BootDiffers, Severity::Warning, summary)
        .because("the mapping that was removed comes back with the next boot")
        .command("restore nothing at boot", "sudo portmap persist --off")
        .command("see what would be mapped", format!("sudo portmap show {boot}"))
        .evidence("boot", boot.to_string())
}

fn flushed_by(file: &str, service: &str, guard: Guard) -> Finding {
    let summary = format!("{service} empties the whole ruleset when it starts or reloads ({file})");
    if let Some(pid) = guard.pid {
        return Finding::new(Code::WillBeFlushed, Severity::Note, summary)
            .because(format!("table inet portmap goes with it, and process {pid} puts it back"))
            .evidence("file", file)
            .evidence("guard", pid);
    }
    Finding::new(Code::WillBeFlushed, Severity::Warning, summary)
        .because("table inet portmap goes with it")
        .command(
            "put the mapping back with it",
            format!(
                "sudo systemctl edit {service}  # [Service] ExecStartPost=portmap restore, \
                 ExecReload=portmap restore"
            ),
        )
        .command("put it back whoever removes it", "sudo systemctl enable --now portmap-nft-guard")
        .advice(format!("flush only its own tables in {file}, instead of `flush ruleset`"))
        .evidence("file", file)
}

#[cfg(test)]
mod tests;
