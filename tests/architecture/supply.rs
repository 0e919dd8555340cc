//! What portmap is made of: every dependency has its reason in ARCHITECTURE.md, what runs at build time
//! is known, and the lists of deny.toml hold, as far as that can be said without cargo-deny: it looks at
//! the texts of licences too, at more targets than this one, and at advisories.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::holds;

/// Crates that are linked in, or make what is, and run a program when they are built; and what it
/// does.
const BUILD_SCRIPTS: [(&str, &str); 16] = [
    ("anyhow", COMPILER),
    ("crc32fast", COMPILER),
    ("libc", COMPILER),
    ("memoffset", COMPILER),
    ("mnl-sys", "looks for libmnl with pkg-config"),
    ("nftnl", "passes on which libnftnl was found"),
    ("nftnl-sys", "looks for libnftnl with pkg-config"),
    ("nix", "gives names to groups of targets"),
    ("proc-macro2", COMPILER),
    ("quote", COMPILER),
    ("rustix", COMPILER),
    ("serde", COMPILER),
    ("serde_core", COMPILER),
    ("serde_json", "looks at the width of the target"),
    ("thiserror", COMPILER),
    ("zmij", COMPILER),
];

const COMPILER: &str = "asks the compiler for its version, or tries what it can do";

/// Words of a build script that would speak to others.
const NETWORK: [&str; 8] =
    ["std::net", "TcpStream", "UdpSocket", "reqwest", "ureq", "curl", "wget", "git clone"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What cargo says of all packages for this machine, from what is there already.
fn metadata() -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--locked", "--offline"]);
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = cargo.args(["--filter-platform", &target]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn list<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value[key].as_array().into_iter().flatten()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

/// The packages by their identity, and the one that all others are for.
fn packages(metadata: &Value) -> (BTreeMap<&str, &Value>, &Value) {
    let packages: BTreeMap<_, _> = list(metadata, "packages").map(|p| (text(p, "id"), p)).collect();
    let own = packages[text(&metadata["resolve"], "root")];
    (packages, own)
}

/// The rows of the table under this heading of ARCHITECTURE.md: the name and the rest of it.
fn table(heading: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = text.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("ARCHITECTURE.md has no part `{heading}`"));
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    rows.map(|(name, rest)| (name.to_owned(), rest.trim_end_matches(" |").to_owned())).collect()
}

#[test]
fn every_dependency_has_its_reason() {
    let metadata = metadata();
    let (_, own) = packages(&metadata);
    let declared: BTreeSet<_> = list(own, "dependencies").map(|d| text(d, "name")).collect();
    let reasons = table("Dependencies");
    let without = declared.iter().filter(|name| reasons.get(**name).is_none_or(String::is_empty));
    let without = without.map(|name| format!("{name} has no line of reason in ARCHITECTURE.md"));
    let gone = reasons.keys().filter(|name| !declared.contains(name.as_str()));
    let gone = gone.map(|name| format!("{name} is in ARCHITECTURE.md, and no dependency"));
    holds(without.chain(gone).collect());
}

/// What is linked in, or runs while that is made: not what only tests use.
fn for_the_program(metadata: &Value) -> BTreeSet<&str> {
    let resolve = &metadata["resolve"];
    let nodes: BTreeMap<_, _> = list(resolve, "nodes").map(|n| (text(n, "id"), n)).collect();
    let mut found = BTreeSet::new();
    let mut waiting = vec![text(resolve, "root")];
    while let Some(id) = waiting.pop() {
        if found.insert(id) {
            let is_for_it = |dependency: &&Value| {
                list(dependency, "dep_kinds").any(|kind| text(kind, "kind") != "dev")
            };
            waiting.extend(list(nodes[id], "deps").filter(is_for_it).map(|d| text(d, "pkg")));
        }
    }
    found
}

#[test]
fn what_runs_at_build_time_is_known_and_opens_no_connection() {
    let metadata = metadata();
    let (packages, _) = packages(&metadata);
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for id in for_the_program(&metadata) {
        let (package, name) = (packages[id], text(packages[id], "name"));
        let is_script = |target: &&Value| list(target, "kind").any(|kind| kind == "custom-build");
        for script in list(package, "targets").filter(is_script) {
            seen.insert(name);
            let path = Path::new(text(script, "src_path"));
            let source = fs::read_to_string(path).unwrap_or_else(|e| panic!("{name}: {e}"));
            let words = NETWORK.iter().filter(|word| source.contains(**word));
            wrong.extend(words.map(|word| format!("{name}: its build script says `{word}`")));
        }
    }
    let known: BTreeSet<_> = BUILD_SCRIPTS.iter().map(|(name, _)| *name).collect();
    wrong.extend(
        seen.difference(&known).map(|name| format!("{name}: what does its build script do?")),
    );
    wrong.extend(
        known.difference(&seen).map(|name| format!("{name}: has no build script any more")),
    );
    holds(wrong);
}

#[test]
fn everything_comes_from_one_registry_with_a_checksum() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let mut wrong = Vec::new();
    for package in
        lock.split("[[package]]").skip(1).filter(|p| !p.contains("\"portmap-nft\"\nversion"))
    {
        let name =
            package.lines().find_map(|line| line.strip_prefix("name = ")).unwrap_or_default();
        let is_ours =
            package.contains("source = \"registry+https://github.com/rust-lang/crates.io-index\"");
        if !is_ours || !package.contains("checksum = \"") {
            wrong.push(format!("{name}: not from the registry, or without a checksum"));
        }
    }
    holds(wrong);
}

/// The lists of deny.toml.
struct Deny {
    licences: BTreeSet<String>,
    /// For one crate each.
    exceptions: BTreeMap<String, BTreeSet<String>>,
    /// `NAME@^MAJOR` or `NAME@^0.MINOR`: may be there beside another version.
    skipped: BTreeSet<String>,
    banned: BTreeSet<String>,
}

impl Deny {
    fn load() -> Self {
        let text = fs::read_to_string(root().join("deny.toml")).unwrap();
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
        let text = lines.collect::<Vec<_>>().join("\n");
        let list = |begin: &str| {
            let (_, rest) = text.split_once(&format!("\n{begin} = [")).expect(begin);
            let mut depth = 1;
            let end = rest.find(|c| {
                depth += i32::from(c == '[') - i32::from(c == ']');
                depth == 0
            });
            rest[..end.expect(begin)].to_owned()
        };
        let strings = |text: &str| -> Vec<String> {
            text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
        };
        let crates = |text: &str| -> BTreeSet<String> {
            let parts = text.split("crate = ").skip(1);
            parts.map(|part| strings(part).remove(0)).collect()
        };
        let exceptions = list("exceptions");
        let exceptions = exceptions.split("name = ").skip(1).map(|part| {
            let mut words = strings(part).into_iter();
            (words.next().unwrap(), words.collect())
        });
        Self {
            licences: strings(&list("allow")).into_iter().collect(),
            exceptions: exceptions.collect(),
            skipped: crates(&list("skip")),
            banned: crates(&list("deny")),
        }
    }
}

/// Whether an SPDX expression can be met with these licences. Before `OR` there was `/`.
fn is_met(expression: &str, licences: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<_> = spaced.split_whitespace().collect();
    let mut words = words.as_slice();
    let met = any_of(&mut words, licences);
    assert!(words.is_empty(), "{expression}: what is {words:?}?");
    met
}

fn any_of(words: &mut &[&str], licences: &BTreeSet<String>) -> bool {
    let mut met = all_of(words, licences);
    while let ["OR", rest @ ..] = words {
        *words = rest;
        met |= all_of(words, licences);
    }
    met
}

fn all_of(words: &mut &[&str], licences: &BTreeSet<String>) -> bool {
    let mut met = one(words, licences);
    while let ["AND", rest @ ..] = words {
        *words = rest;
        met &= one(words, licences);
    }
    met
}

fn one(words: &mut &[&str], licences: &BTreeSet<String>) -> bool {
    match words {
        ["(", rest @ ..] => {
            *words = rest;
            let met = any_of(words, licences);
            *words = words.strip_prefix(&[")"]).expect("an end of the parenthesis");
            met
        }
        [licence, "WITH", exception, rest @ ..] => {
            let both = format!("{licence} WITH {exception}");
            *words = rest;
            licences.contains(&both)
        }
        [licence, rest @ ..] => {
            let met = licences.contains(*licence);
            *words = rest;
            met
        }
        [] => false,
    }
}

#[test]
fn every_licence_is_one_that_goes_together_with_ours() {
    let metadata = metadata();
    let deny = Deny::load();
    let mut wrong = Vec::new();
    for package in list(&metadata, "packages") {
        let (name, licence) = (text(package, "name"), text(package, "license"));
        let special = deny.exceptions.get(name).is_some_and(|special| is_met(licence, special));
        if licence.is_empty() || !(special || is_met(licence, &deny.licences)) {
            wrong.push(format!("{name}: licence `{licence}`"));
        }
    }
    let names: BTreeSet<_> = list(&metadata, "packages").map(|p| text(p, "name")).collect();
    let gone = deny.exceptions.keys().filter(|name| !names.contains(name.as_str()));
    wrong.extend(gone.map(|name| format!("{name} is in deny.toml for its licence, and not there")));
    holds(wrong);
}

#[test]
fn expressions_of_licences_are_understood() {
    let licences = ["MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    for met in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/Apache-2.0",
        "MIT AND Zlib",
        "(MIT OR Apache-2.0) AND Zlib",
        "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
    ] {
        assert!(is_met(met, &licences), "{met}");
    }
    for not_met in
        ["", "GPL-3.0", "MIT AND GPL-3.0", "MIT AND (GPL-3.0 OR Apache-2.0)", "MIT WITH X"]
    {
        assert!(!is_met(not_met, &licences), "{not_met}");
    }
}

#[test]
fn nothing_is_there_twice_or_banned_but_what_is_listed() {
    let metadata = metadata();
    let deny = Deny::load();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in list(&metadata, "packages") {
        versions.entry(text(package, "name")).or_default().insert(text(package, "version"));
    }
    let mut wrong = Vec::new();
    let mut needed = BTreeSet::new();
    for (name, versions) in &versions {
        if deny.banned.contains(*name) {
            wrong.push(format!("{name} is banned"));
        }
        // What a caret stands for.
        let skipped = |version: &str| {
            let parts: Vec<_> = version.split('.').collect();
            let kept = if parts[0] == "0" { &parts[..2] } else { &parts[..1] };
            format!("{name}@^{}", kept.join("."))
        };
        let (listed, others): (Vec<_>, Vec<_>) =
            versions.iter().map(|v| skipped(v)).partition(|skip| deny.skipped.contains(skip));
        if others.len() > 1 {
            wrong.push(format!("{name} is there as {others:?}, and not in deny.toml"));
        }
        if versions.len() > 1 {
            needed.extend(listed);
        }
    }
    let gone = deny.skipped.difference(&needed);
    wrong.extend(gone.map(|skip| format!("{skip} is in deny.toml, and not there twice")));
    let (_, own) = packages(&metadata);
    let any = list(own, "dependencies").filter(|dependency| text(dependency, "req") == "*");
    wrong.extend(any.map(|dependency| format!("any version of {}", text(dependency, "name"))));
    holds(wrong);
}
