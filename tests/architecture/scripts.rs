//! What no Makefile and no script of this repository may do.

use std::fs;
use std::path::{Path, PathBuf};

use super::holds;

/// Where there are any.
const PLACES: [&str; 5] = ["Makefile", ".ci", "fuzz/run", "packaging", "tests"];

/// Makefiles and scripts, with their text: a line that goes on with a backslash is one.
fn scripts() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut waiting: Vec<_> = PLACES.iter().map(|place| root.join(place)).collect();
    let mut found = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Some(text) = fs::read_to_string(&path).ok().filter(|text| {
            let first = text.lines().next().unwrap_or_default();
            let is_script =
                first.starts_with("#!") && (first.contains("sh") || first.contains("make"));
            is_script || path.ends_with("Makefile")
        }) {
            let name = path.strip_prefix(root).unwrap().to_owned();
            found.push((name, text.replace("\\\n", " ")));
        }
    }
    found
}

/// The lines that give a command of root's the PATH of its caller, in which the caller decides what
/// each of its words means.
fn passes_path(text: &str) -> impl Iterator<Item = &str> {
    const ROOT: [&str; 4] = ["sudo ", "$(SUDO) ", "as_root ", "$sudo "];
    text.lines().filter(|line| {
        let code = line.trim_start();
        let after = ROOT.iter().filter_map(|word| code.split_once(word)).map(|(_, after)| after);
        !code.starts_with('#') && after.into_iter().any(keeps_path)
    })
}

fn keeps_path(command: &str) -> bool {
    let mut words = command.split([' ', '\t', '"', '\'', ',', '(']);
    words.any(|word| {
        let is_all = word.starts_with("--preserve-env") && !word.contains('=');
        is_all || word == "-E" || word.starts_with("PATH=") || word == "--preserve-env=PATH"
    })
}

#[test]
fn no_command_of_roots_gets_the_path_of_its_caller() {
    let scripts = scripts();
    let found = scripts.iter().flat_map(|(name, text)| {
        passes_path(text).map(|line| format!("{}: {}", name.display(), line.trim()))
    });
    holds(found.collect());
    assert!(scripts.len() > 20, "scripts are not found: {scripts:?}");
}

#[test]
fn a_path_that_is_passed_is_found() {
    for line in [
        "\t$(SUDO) env PATH=\"$$PATH\" tests/boot/run",
        "\tsudo env \"PATH=$PATH\" A=b run",
        "as_root env DEBIAN_FRONTEND=noninteractive \\\n    PATH=$PATH apt-get",
        "if true; then sudo -E make; fi",
        "sudo --preserve-env=PATH make",
    ] {
        assert_eq!(passes_path(&line.replace("\\\n", " ")).count(), 1, "{line}");
    }
    for line in [
        "export PATH := $(PATH):/sbin",
        "# sudo env PATH=",
        "PATH=$PATH:/sbin; sudo make",
        "\t$(SUDO) env LIBRARY_PATH=x CARGO_TARGET_DIR=y run",
    ] {
        assert_eq!(passes_path(line).count(), 0, "{line}");
    }
}
