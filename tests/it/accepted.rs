//! What `check` accepts, `apply --dry-run` accepts, whatever the kernel does already.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::Path;

use portmap::formats::rules;
use proptest::test_runner::{Config, TestRunner};

use crate::support::Namespace;
use crate::support::arbitrary::mapping_sets;

/// Whether `check` accepts the file; then a dry run must.
#[track_caller]
fn is_accepted(host: &Namespace, file: &Path) -> bool {
    let run = |words: &[&str]| {
        let words = words.iter().map(AsRef::as_ref);
        host.portmap(words.chain([file.as_os_str()])).run()
    };
    let check = run(&["check"]);
    if check.code != Some(0) {
        return false;
    }
    let dry_run = run(&["apply", "--dry-run"]);
    let text = || fs::read_to_string(file).unwrap_or_default();
    assert!(dry_run.code == Some(0), "{check}\n{dry_run}\n--- for\n{}", text());
    true
}

#[test]
fn a_dry_run_takes_each_file_of_the_corpus_that_check_takes() {
    let host = Namespace::new();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/rules");
    let entries = fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.collect();
    files.sort();
    let accepted = files.iter().filter(|file| is_accepted(&host, file)).count();
    assert!((4..files.len()).contains(&accepted), "{accepted} of {}", files.len());
}

#[test]
fn a_dry_run_takes_any_mapping_that_check_takes() {
    const CASES: u32 = 16;
    let host = RefCell::new(Namespace::new());
    let accepted = Cell::new(0);
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&mapping_sets(), |set| {
        let host = host.borrow();
        let file = host.file("rules.yaml", &rules::text(&set));
        if is_accepted(&host, &file) {
            accepted.set(accepted.get() + 1);
            // The next one is a change from this.
            host.portmap(["apply".as_ref(), file.as_os_str()]).run().succeeds();
        }
        Ok(())
    });
    outcome.unwrap_or_else(|why| panic!("{why}"));
    assert!(accepted.get() > 0, "none of {CASES} was accepted");
}
