//! Every code of `doctor` is proved: with facts written down, by making the situation on a real
//! kernel, and by its absence where it should be absent. docs/doctor.md has the codes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A code, its severities, and the tests: with facts, on a kernel, of absence.
type Proof = (&'static str, &'static str, &'static str, &'static str, &'static str);

const PORT: &str = "a_port_that_is_refused_to_an_ordinary_user_is_explained";
const PATHS: &str = "what_it_says_of_paths_is_what_clients_get";
const LISTENER: &str = "a_listener_that_leaves_out_clients_is_as_bad_as_the_clients_it_leaves_out";
const FIREWALL: &str = "a_firewall_that_blocks_is_told_from_one_of_which_it_cannot_be_told";
const KEPT_OUT: &str = "a_firewall_that_keeps_clients_out_is_named_with_what_lets_them_in";
const APPLIED: &str = "the_table_is_compared_with_what_was_applied";
const REBOOT: &str = "what_a_reboot_brings_is_compared_with_what_is_active";
const NAMED: &str = "what_a_mapping_names_and_the_host_has_not_is_told";
const RULES: &str = "rules_that_are_not_applied_can_be_examined";
const SETTINGS: &str = "settings_of_the_host_are_seen";
const MACHINE: &str = "the_machine_itself_is_looked_at";
const FILES: &str = "files_are_looked_at";
const RESTORED: &str = "a_mapping_that_nothing_restores_is_told";

#[rustfmt::skip]
const PROOFS: [Proof; 30] = [
    ("not-mapped", "error note", "a_port_that_is_not_mapped_is_explained", PORT, PORT),
    ("nobody-listens", "error", "listeners_decide_who_is_answered", PATHS, PATHS),
    ("loopback-only", "error", LISTENER, PATHS, PATHS),
    ("one-family-only", "error warning", LISTENER, PATHS, PATHS),
    ("one-address-only", "error warning", LISTENER, PATHS, PATHS),
    ("other-protocol", "error", LISTENER, PATHS, PATHS),
    ("wrong-user", "error", "a_stranger_at_the_target_is_not_heard",
     "a_listener_of_another_user_is_found", "a_listener_of_another_user_is_found"),
    ("listener-shadowed", "warning", "listeners_decide_who_is_answered", PATHS, PATHS),
    ("firewall-blocks", "error", FIREWALL, KEPT_OUT, KEPT_OUT),
    ("firewall-unknown", "warning", FIREWALL, KEPT_OUT, KEPT_OUT),
    ("other-nat", "error warning", "whoever_translates_first_wins",
     "another_program_that_translates_is_found_and_who_wins",
     "another_program_that_translates_is_found_and_who_wins"),
    ("notrack", "error", FIREWALL, "clients_that_are_exempted_from_tracking_are_told",
     "clients_that_are_exempted_from_tracking_are_told"),
    ("conntrack-full", "error warning", MACHINE, SETTINGS, SETTINGS),
    ("not-applied", "error", "a_table_that_is_gone_is_told_with_the_way_back", APPLIED, APPLIED),
    ("drifted", "error", "drift_and_trials_are_told", APPLIED, APPLIED),
    ("on-trial", "warning", "drift_and_trials_are_told", APPLIED, APPLIED),
    ("not-persisted", "note", REBOOT, RESTORED, RESTORED),
    ("boot-unit", "warning", REBOOT, RESTORED, RESTORED),
    ("boot-differs", "warning", REBOOT, APPLIED, APPLIED),
    ("will-be-flushed", "warning note", REBOOT, "a_service_that_flushes_is_told_with_what_it_does",
     "a_service_that_flushes_is_told_with_what_it_does"),
    ("target-takeable", "note", "a_target_that_others_can_take_is_noted", SETTINGS,
     "that_any_user_may_answer_is_told_to_who_asks"),
    ("no-such-interface", "warning", NAMED, RULES, RULES),
    ("no-such-address", "warning", NAMED, RULES, RULES),
    ("no-such-user", "warning", NAMED, "a_user_that_the_host_does_not_have_is_found",
     "a_user_that_the_host_does_not_have_is_found"),
    ("privileged-ports-open", "note", MACHINE, SETTINGS, SETTINGS),
    ("capability-left", "warning", MACHINE,
     "a_capability_that_was_left_on_an_interpreter_is_found",
     "a_capability_that_was_left_on_an_interpreter_is_found"),
    ("kernel-lacks", "error", MACHINE, "a_kernel_without_nftables_is_recognised",
     "a_kernel_without_nftables_is_recognised"),
    ("file-trust", "error", "rules_files_are_compared_with_what_is_active", FILES, FILES),
    ("files-disagree", "warning", "rules_files_are_compared_with_what_is_active", FILES, FILES),
    // Beside the contract.
    ("guard-down", "warning", "a_guard_that_should_run_and_does_not_is_missed",
     "a_guard_that_boot_starts_and_that_does_not_run_is_told",
     "a_guard_that_boot_starts_and_that_does_not_run_is_told"),
];

/// Codes that other commands have, and `doctor` has not.
const OF_OTHERS: [&str; 2] = ["ssh-session", "history-unreadable"];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The body of a test.
fn body<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let start = text.find(&format!("\nfn {name}() {{\n"))?;
    text[start..].split("\n}\n").next()
}

/// What stands in backquotes in the first column of the table of codes.
fn documented() -> BTreeSet<String> {
    let page = read("docs/doctor.md");
    let rows = page.lines().skip_while(|line| !line.starts_with("| code ")).skip(2);
    let cells =
        rows.take_while(|line| line.starts_with('|')).filter_map(|row| row.split('|').nth(1));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned)).collect()
}

/// `"error not-mapped"` and the like, by code.
fn severities(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for literal in text.split('"') {
        if let Some((severity @ ("error" | "warning" | "note"), code)) = literal.split_once(' ') {
            found.entry(code.to_owned()).or_default().insert(severity.to_owned());
        }
    }
    found
}

#[test]
fn every_code_is_proved() {
    let source = read("src/formats/code.rs");
    let names: BTreeSet<_> = source.split('"').skip(1).step_by(2).collect();
    let proved: BTreeSet<_> = PROOFS.iter().map(|proof| proof.0).collect();
    let known = proved.iter().chain(&OF_OTHERS).copied().collect();
    assert_eq!(names, known, "the codes of src/formats/code.rs");
    let documented = documented();
    assert_eq!(documented, proved.iter().map(|code| (*code).to_owned()).collect());

    let facts = read("src/doctor/examine/tests.rs") + &read("src/doctor/state/tests.rs");
    let kernel = read("tests/it/doctor.rs") + &read("tests/it/doctor/codes.rs");
    let severities = severities(&facts);
    let mut wrong = Vec::new();
    for (code, wanted, with_facts, on_kernel, absent) in PROOFS {
        let wanted: BTreeSet<_> = wanted.split(' ').map(str::to_owned).collect();
        if severities.get(code) != Some(&wanted) {
            wrong.push(format!("{code}: severities {:?}", severities.get(code)));
        }
        let of = |text, name| body(text, name).unwrap_or_else(|| panic!("no test {name}"));
        if !wanted.iter().any(|s| of(&facts, with_facts).contains(&format!("{s} {code}\""))) {
            wrong.push(format!("{code}: {with_facts} does not name it"));
        }
        let named = [format!("\"{code}\""), format!("[{code}]")];
        if !named.iter().any(|named| of(&kernel, on_kernel).contains(named)) {
            wrong.push(format!("{code}: {on_kernel} does not name it"));
        }
        if !["[\"\"; 0]", "&[]"].iter().any(|none| of(&kernel, absent).contains(none)) {
            wrong.push(format!("{code}: {absent} does not see it absent"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
