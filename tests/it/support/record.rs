//! What a long run has counted, for docs/trust.md.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Writes `NAME.json` into the directory `$PORTMAP_RECORDS`, if that is asked for: the counts, and
/// the commit that they are of.
#[track_caller]
pub fn record(name: &str, counts: &[(&str, usize)]) {
    let Ok(dir) = env::var("PORTMAP_RECORDS") else { return };
    let counts = counts.iter().map(|(key, count)| ((*key).to_owned(), (*count).into()));
    let counts: serde_json::Map<_, _> = counts.collect();
    let document = serde_json::json!({ "commit": commit(), "counts": counts });
    let text = serde_json::to_string_pretty(&document).expect("numbers");
    let path = Path::new(&dir).join(format!("{name}.json"));
    fs::write(&path, text + "\n").unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
}

fn commit() -> String {
    let describe = ["describe", "--always", "--dirty", "--exclude=*"];
    let git = Command::new("git").args(describe).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let text = git.map(|git| String::from_utf8_lossy(&git.stdout).trim().to_owned());
    text.unwrap_or_else(|e| format!("unknown: {e}"))
}
