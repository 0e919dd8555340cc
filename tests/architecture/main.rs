//! What ARCHITECTURE.md promises of the sources: which room may use which, where unsafe may be,
//! how long files and functions may get. The tables here are the rules.

mod checks;
mod codes;
mod scripts;
mod source;
mod supply;
mod syntax;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use source::{Crate, File, Target, Use};

/// From top to bottom: a room may use those below it. Rooms on the same line may not use each
/// other.
const ROOMS: [&str; 13] = [
    "main",
    "commands",
    "cli",
    "ui",
    "engine",
    "doctor",
    "history kernel",
    "firewall",
    "flows plan story",
    "ruleset",
    "host",
    "formats",
    "mapping",
];

/// The only rooms that may use a crate, a module of the standard library, or a macro.
const ONLY: [(&str, &str); 20] = [
    ("clap", "main commands cli"),
    ("clap_complete", "main cli commands"),
    ("clap_mangen", "commands"),
    ("mnl", "kernel"),
    ("nftnl", "kernel"),
    ("nftnl_sys", "kernel"),
    // The rooms left out here are pure: they do no IO.
    ("nix", "commands ui engine history kernel host"),
    ("rustix", "host"),
    ("sd_notify", "host"),
    ("seccompiler", "host"),
    ("std::env", "main commands ui engine history kernel host"),
    ("std::fs", "commands engine history kernel host"),
    ("std::os", "commands ui engine history kernel host"),
    ("std::process", "main cli commands engine history kernel host"),
    ("std::thread", "commands ui engine history kernel host"),
    ("print!", "ui"),
    ("println!", "ui"),
    ("eprint!", "ui"),
    ("eprintln!", "ui"),
    ("dbg!", ""),
];

/// The files of `commands` that are not verbs. No verb uses another one.
const SHARED_BY_VERBS: [&str; 9] = [
    "confinement",
    "engine",
    "failure",
    "input",
    "invocation",
    "outcome",
    "preview",
    "services",
    "probe",
];

/// The room where unsafe may be; every other one forbids it.
const UNSAFE: &str = "kernel";

/// What may differ from the tables above: from which file, to which room, and why.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 60;

/// Functions that may be longer, and why.
const LONG_FUNCTIONS: [(&str, &str, &str); 0] = [];

fn portmap() -> Crate {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    Crate::load("portmap", &|name| fs::read_to_string(src.join(name)).ok())
}

#[test]
fn a_room_uses_only_those_below() {
    holds(rooms(&portmap(), &EXCEPTIONS));
}

#[test]
fn only_some_rooms_print_do_io_or_talk_to_the_kernel() {
    holds(outside(&portmap()));
}

#[test]
fn verbs_do_not_use_each_other() {
    holds(verbs(&portmap(), &SHARED_BY_VERBS));
}

#[test]
fn modules_do_not_use_each_other_in_circles() {
    holds(circles(&portmap()));
}

#[test]
fn files_and_functions_are_short() {
    holds(lengths(&portmap(), &LONG_FUNCTIONS));
}

#[test]
fn unsafe_is_forbidden_outside_one_room() {
    holds(unsafe_rooms(&portmap()));
}

#[test]
fn every_file_is_part_of_the_program() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let known: BTreeSet<_> = portmap().files.into_iter().map(|file| file.name).collect();
    let mut waiting = vec![src.clone()];
    let mut lost = Vec::new();
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
            match path.is_dir() {
                true => waiting.push(path),
                // Compiled for tests only.
                false if name.ends_with("/tests.rs") => {}
                false if name.ends_with(".rs") && !known.contains(&name) => {
                    lost.push(format!("src/{name}: no module of this name is declared"));
                }
                false => {}
            }
        }
    }
    holds(lost);
}

#[track_caller]
fn holds(violations: Vec<String>) {
    let count = violations.len();
    assert!(count == 0, "{count} violations:\n  {}", violations.join("\n  "));
}

fn room(file: &File) -> Option<&str> {
    file.module.first().map(String::as_str)
}

fn level(room: &str) -> Option<usize> {
    ROOMS.iter().position(|level| level.split(' ').any(|name| name == room))
}

fn rooms(source: &Crate, exceptions: &[(&str, &str, &str)]) -> Vec<String> {
    let mut found = BTreeSet::new();
    let mut needed = BTreeSet::new();
    for file in &source.files {
        if let Some(room) = room(file).filter(|room| level(room).is_none()) {
            found.insert(format!("src/{}: room `{room}` is not in the table of rooms", file.name));
        }
    }
    for Use { file, line, target } in source.uses() {
        let Target::File(target) = target else { continue };
        let (Some(from), Some(to)) = (room(file), room(target)) else { continue };
        let (Some(above), Some(below)) = (level(from), level(to)) else { continue };
        if from == to || above < below {
            continue;
        }
        let allowed =
            exceptions.iter().position(|(name, room, _)| *name == file.name && *room == to);
        match allowed {
            Some(index) => {
                needed.insert(index);
            }
            None => {
                found.insert(format!("src/{}:{line}: `{from}` may not use `{to}`", file.name));
            }
        }
    }
    for (index, (name, room, _)) in exceptions.iter().enumerate() {
        if !needed.contains(&index) {
            found.insert(format!("the exception for src/{name} and `{room}` is not needed"));
        }
    }
    found.into_iter().collect()
}

fn outside(source: &Crate) -> Vec<String> {
    let mut found = BTreeSet::new();
    for Use { file, line, target } in source.uses() {
        let (Some(room), Target::Other(path)) = (room(file), target) else { continue };
        for (what, rooms) in ONLY {
            let is = path.strip_prefix(what);
            let is = is.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
            if is && !rooms.split(' ').any(|allowed| allowed == room) {
                found.insert(format!("src/{}:{line}: `{room}` may not use `{path}`", file.name));
            }
        }
    }
    found.into_iter().collect()
}

fn verbs(source: &Crate, shared: &[&str]) -> Vec<String> {
    let verb = |file: &File| match file.module.as_slice() {
        [room, file, ..] if room == "commands" && !shared.contains(&file.as_str()) => {
            Some(file.clone())
        }
        _ => None,
    };
    let mut found = BTreeSet::new();
    for Use { file, line, target } in source.uses() {
        let Target::File(target) = target else { continue };
        let Some(to) = verb(target) else { continue };
        // The room's own file is where verbs are called.
        if file.module.len() > 1 && room(file) == Some("commands") && verb(file) != Some(to.clone())
        {
            found.insert(format!("src/{}:{line}: uses the verb `{to}`", file.name));
        }
    }
    for name in shared {
        if !source.files.iter().any(|file| file.module == ["commands", name]) {
            found.insert(format!("commands/{name} is listed as shared by verbs, and not there"));
        }
    }
    found.into_iter().collect()
}

fn unsafe_rooms(source: &Crate) -> Vec<String> {
    let roots = source.files.iter().filter(|file| file.module.len() == 1);
    let missing = roots.filter(|file| room(file) != Some(UNSAFE) && !file.forbids_unsafe);
    missing.map(|file| format!("src/{}: lacks #![forbid(unsafe_code)]", file.name)).collect()
}

fn lengths(source: &Crate, long_functions: &[(&str, &str, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    let mut needed = BTreeSet::new();
    for file in &source.files {
        if file.lines > FILE_LINES {
            found.push(format!("src/{}: {} lines", file.name, file.lines));
        }
        for function in file.functions.iter().filter(|f| f.lines > FUNCTION_LINES) {
            let key = (file.name.as_str(), function.name.as_str());
            match long_functions.iter().any(|(file, name, _)| (*file, *name) == key) {
                true => {
                    needed.insert(key);
                }
                false => found.push(format!(
                    "src/{}:{}: fn {}: {} lines",
                    file.name, function.line, function.name, function.lines
                )),
            }
        }
    }
    for (file, name, _) in long_functions {
        if !needed.contains(&(*file, *name)) {
            found.push(format!("the exception for fn {name} in src/{file} is not needed"));
        }
    }
    found
}

/// Whether a file is a module within another, which declares it, calls it and passes its names on:
/// that alone is no circle.
fn is_part_of(file: &str, other: &str) -> bool {
    let other = other.strip_suffix(".rs").unwrap_or(other);
    file.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'))
}

/// Each circle once, with the references that make it.
fn circles(source: &Crate) -> Vec<String> {
    // By room: what rooms use of each other is checked apart.
    let mut edges: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for Use { file, line, target } in source.uses() {
        let Target::File(target) = target else { continue };
        if target.name != file.name
            && !is_part_of(&target.name, &file.name)
            && room(file).is_some()
            && room(file) == room(target)
        {
            edges.entry(&file.name).or_default().entry(&target.name).or_insert(line);
        }
    }
    let reachable = |start: &str| {
        let mut seen = BTreeSet::new();
        let mut waiting = vec![start.to_owned()];
        while let Some(name) = waiting.pop() {
            for next in edges.get(name.as_str()).into_iter().flat_map(BTreeMap::keys) {
                if seen.insert(next.to_string()) {
                    waiting.push(next.to_string());
                }
            }
        }
        seen
    };
    let from: BTreeMap<&str, BTreeSet<String>> =
        edges.keys().map(|name| (*name, reachable(name))).collect();
    let mut told = BTreeSet::new();
    let mut found = Vec::new();
    for (name, seen) in &from {
        let circle: BTreeSet<&str> = from
            .iter()
            .filter(|(other, back)| seen.contains(**other) && back.contains(*name))
            .map(|(other, _)| *other)
            .collect();
        if circle.is_empty() || !told.insert(circle.clone()) {
            continue;
        }
        let mut references = Vec::new();
        for name in &circle {
            for (to, line) in edges[name].iter().filter(|(to, _)| circle.contains(*to)) {
                references.push(format!("\n    src/{name}:{line} uses {to}"));
            }
        }
        let members: Vec<_> = circle.into_iter().collect();
        found.push(format!("a circle of {}{}", members.join(", "), references.concat()));
    }
    found
}
