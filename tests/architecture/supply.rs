//! What portmap is made of: every dependency has its reason in ARCHITECTURE.md, and what runs at
//! build time is known. The rest (licences, sources, duplicates) is in deny.toml, for cargo-deny.

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
