//! What the documents show is what happens: every YAML block is a rules file without mistakes,
//! every session at a prompt is typed and must print what it is shown to print.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::Namespace;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Markdown files of the project with what they say.
fn documents() -> Vec<(PathBuf, String)> {
    let docs = fs::read_dir(Path::new(ROOT).join("docs")).unwrap();
    let docs = docs.map(|entry| entry.unwrap().path());
    let top =
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(|name| Path::new(ROOT).join(name));
    docs.chain(top)
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect()
}

/// The fenced blocks of a language.
fn blocks<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let starts = document.match_indices(&fence).map(|(at, _)| at + fence.len());
    starts.map(|start| document[start..].split("```").next().unwrap_or_default()).collect()
}

#[test]
fn every_yaml_block_is_a_rules_file_without_mistakes() {
    let host = Namespace::new();
    let mut checked = 0;
    for (path, text) in documents() {
        for block in blocks(&text, "yaml").into_iter().filter(is_rules_file) {
            let outcome = host.portmap(["check", "-"]).stdin(block).run();
            assert_eq!(outcome.code, Some(0), "{}: {block}\n{outcome}", path.display());
            checked += 1;
        }
    }
    assert!(checked >= 2, "only {checked} blocks were found");
}

#[test]
fn every_session_prints_what_it_is_shown_to_print() {
    let mut typed = 0;
    for (path, text) in documents() {
        let host = Namespace::new();
        host.ip("link set lo up");
        prepare(&host);
        for block in blocks(&text, "console") {
            for (command, expected) in session(block) {
                assert_eq!(type_in(&host, &command), expected, "{}: $ {command}", path.display());
                typed += 1;
            }
        }
    }
    assert!(typed >= 5, "only {typed} commands were found");
}

/// What the sessions assume to be there.
fn prepare(host: &Namespace) {
    fs::create_dir(host.dir().join("rules")).unwrap();
    for rules in fs::read_dir(Path::new(ROOT).join("rules")).unwrap() {
        let rules = rules.unwrap();
        host.file(
            &format!("rules/{}", rules.file_name().to_string_lossy()),
            &fs::read_to_string(rules.path()).unwrap(),
        );
    }
    host.file("rules.yaml", "ports:\n  80: 3000\n");
    host.file("broken.yaml", "ports:\n  80: 70000\n");
}

/// Commands after a prompt, each with the lines that follow it.
fn session(block: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), String::new())),
            (None, Some((_, output))) => {
                output.push_str(line);
                output.push('\n');
            }
            (None, None) => panic!("a session begins with a prompt: {line}"),
        }
    }
    commands
}

/// Standard output and error, as a terminal would show them.
fn type_in(host: &Namespace, command: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_portmap")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    let output = host
        .command("sh")
        .args(["-c", &format!("exec 2>&1; {}", command.replace("sudo ", ""))])
        .env("PATH", path)
        .env("PORTMAP_STATE_DIR", host.dir().join("state"))
        .current_dir(host.dir())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Other programs' files are YAML too.
fn is_rules_file(block: &&str) -> bool {
    block.lines().any(|line| line == "ports:")
}
