//! The file: what it says, what is wrong with it, and that it reads back as it was written.

#[path = "it/support/arbitrary.rs"]
mod arbitrary;

use std::fmt::Write;
use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use portmap::formats::diagnostic::Severity;
use portmap::formats::rules::{self, Facts, Loaded, Names, Source};
use portmap::mapping::{MappingSet, Port, Protocol, Uid};
use portmap::ui::diagnostic::{self, Style};
use proptest::prelude::*;

fn services(name: &str, protocol: Protocol) -> Option<Port> {
    let number = match (name, protocol) {
        ("http-alt", Protocol::Tcp | Protocol::Udp) => 8080,
        ("http", Protocol::Tcp) => 80,
        ("tftp", Protocol::Udp) => 69,
        ("shell", Protocol::Tcp) => 514,
        _ => return None,
    };
    Port::new(number)
}

/// There are `www-data` and `deploy`; the directory does not answer for `ldap`.
fn users(name: &str) -> io::Result<Option<Uid>> {
    let number = match name {
        "www-data" => 33,
        "deploy" => 1000,
        "ldap" => return Err(io::Error::other("the directory does not answer")),
        _ => return Ok(None),
    };
    Ok(Uid::new(number))
}

const NAMES: Names = Names { services: &services, users: &users };

fn load(text: &str) -> Loaded {
    load_all(&[("rules.yaml", text)])
}

fn load_all(files: &[(&str, &str)]) -> Loaded {
    let source = |&(name, text): &(&str, &str)| Source::file(name, text);
    let sources: Vec<_> = files.iter().map(source).collect();
    rules::load(&sources, &Facts::default(), NAMES)
}

fn text_of(loaded: &Loaded) -> String {
    loaded.diagnostics.iter().fold(String::new(), |mut out, diagnostic| {
        let _ = write!(out, "{}", diagnostic::text(diagnostic, Style::Plain));
        out
    })
}

#[track_caller]
fn mappings(text: &str) -> MappingSet {
    let loaded = load(text);
    loaded.mappings.clone().unwrap_or_else(|| panic!("{}", text_of(&loaded)))
}

/// What `text` says, in the normal form.
#[track_caller]
fn normal(text: &str) -> String {
    rules::write(&mappings(text))
}

/// What is said about the input of a case: files, or arguments.
fn answer(input: &str) -> Loaded {
    if input.starts_with("$ ") {
        let arguments = input.lines().filter_map(|line| line.strip_prefix("$ ")).enumerate();
        let sources: Vec<_> = arguments.map(|(i, text)| Source::argument(i + 1, text)).collect();
        return rules::load(&sources, &Facts::default(), NAMES);
    }
    let mut files: Vec<(&str, &str)> =
        input.split("--- ").skip(1).filter_map(|file| file.split_once('\n')).collect();
    if files.is_empty() {
        files.push(("rules.yaml", input));
    }
    load_all(&files)
}

/// `tests/rules/wrong.txt` has chapters, `##### title`, of cases: `=== what`, a file (or several,
/// each after `--- name`) or arguments (each after `$ `), a line `>>>`, and everything that portmap
/// says about it. With `BLESS=1` in the environment the answers are written anew.
#[test]
fn wrong_files_are_answered_with_what_to_do() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rules/wrong.txt");
    let golden = std::fs::read_to_string(path).expect("golden file");
    let mut actual = String::new();
    let (preface, cases) = golden.split_once("=== ").expect("a case");
    actual.push_str(preface);
    for case in cases.split("\n=== ") {
        let (title, rest) = case.split_once('\n').expect("a title");
        let (input, rest) = rest.split_once(">>>\n").expect("an answer");
        let chapter = rest.find("\n##### ").map_or("", |start| &rest[start..]);
        let answer = text_of(&answer(input));
        let _ = write!(actual, "=== {title}\n{input}>>>\n{answer}{chapter}\n");
    }
    actual.truncate(actual.trim_end().len() + 1);
    if std::env::var_os("BLESS").is_some() {
        return std::fs::write(path, &actual).expect("golden file is writable");
    }
    assert!(golden == actual, "{path} differs; see `git diff` after BLESS=1\n{actual}");
}

#[test]
fn the_example_of_the_design_reads() {
    let text = r#"
ports:
  80: 3000                        # tcp, IPv4 + IPv6, clients outside and on this machine
  443: 8443
  53/udp: 5353
  514/tcp+udp: 5514
  http-alt: 3001                  # names from the services database work on the left
  6000-6063: 16000-16063          # one to one; both sides equally wide
  990:
    to: 2990
    comment: ftps for the scanner # shown by status and in `nft list table inet portmap`
    scope: external               # external | local | both (default)
    families: [ipv4]              # default: both
    interfaces: [eth0, "wg*"]     # arriving interface; implies scope external
    sources: [203.0.113.0/24]
    addresses: [192.0.2.10]       # which of this host's own addresses
"#;
    assert_eq!(
        normal(text),
        "ports:
  80: 3000
  443: 8443
  514/tcp+udp: 5514
  990:
    to: 2990
    comment: ftps for the scanner
    interfaces: [eth0, \"wg*\"]
    sources: [203.0.113.0/24]
    addresses: [192.0.2.10/32]
  6000-6063: 16000-16063
  8080: 3001
  53/udp: 5353
"
    );
}

#[test]
fn networks_of_both_families_are_one_mapping_for_each() {
    let text = "ports: { 80: { to: 3000, sources: [203.0.113.0/24, 2001:db8::/32] } }";
    assert_eq!(
        normal(text),
        "ports:
  - { port: 80, to: 3000, sources: [203.0.113.0/24] }
  - { port: 80, to: 3000, sources: [2001:db8::/32] }
"
    );
}

#[test]
fn an_entry_overrides_the_defaults() {
    let text = "
defaults: { protocol: [tcp, udp], families: ipv4, interfaces: [eth0] }
ports:
  80: 3000
  53/udp: 5353
  90: { to: 3001, interfaces: [], families: [ipv4, ipv6] }
";
    assert_eq!(
        normal(text),
        "ports:
  80/tcp+udp:
    to: 3000
    families: [ipv4]
    interfaces: [eth0]
  90/tcp+udp: 3001
  53/udp:
    to: 5353
    families: [ipv4]
    interfaces: [eth0]
"
    );
}

#[test]
fn anchors_aliases_and_merge_keys_mean_what_they_stand_for() {
    let text = "
ports:
  80: &web { to: 3000, scope: external }
  81: { <<: *web, to: 3001 }
  82: *web
";
    let expected = "ports:
  80-81:
    to: 3000-3001
    scope: external
  82:
    to: 3000
    scope: external
";
    assert_eq!(normal(text), expected);
}

#[test]
fn text_is_text_whatever_yaml_would_make_of_it() {
    let expected = "ports:\n  22: 2222\n";
    for text in [
        "ports:\n  22: 2222\n",
        "ports:\r\n  22: 2222\r\n",
        "---\nports:\n  '22': \"2222\"\n...\n",
        "{\"ports\": {\"22\": 2222}}",
        "ports: [{port: 22, to: 2222}]",
        "ports:\n- port: 22/tcp\n  to: !!int 2222\n",
        "%YAML 1.2\n---\nports: {22: 2222}\n",
    ] {
        assert_eq!(normal(text), expected, "{text:?}");
    }
}

/// Given a target that is mapped itself, it does not matter how that is written.
#[test]
fn there_are_no_chains_in_any_shape() {
    for text in [
        "ports: { 80: 81, 81: 82 }",
        "ports: { 80: 81, 81: 80 }",
        "ports: { 80: 81, 81: 82, 82: 80 }",
        "ports: { 80-83: 81-84 }",
        "ports: { 80-90: 85-95 }",
        "ports: [{ port: 80, to: 81 }, { port: 81, to: 82, sources: 192.0.2.0/24 }]",
    ] {
        let loaded = load(text);
        assert!(loaded.mappings.is_none(), "{text}");
        assert!(text_of(&loaded).contains("itself"), "{text}: {}", text_of(&loaded));
    }
    for text in [
        "ports: { 80: 81, 81/udp: 82 }",
        "ports: { 80: 3000, 443: 3000 }",
        "ports: [{ port: 80, to: 81, scope: external }, { port: 81, to: 82, scope: local }]",
        "ports: [{ port: 80, to: 81, families: ipv4 }, { port: 81, to: 82, families: ipv6 }]",
        "ports: [{ port: 80, to: 81 }, { port: 81, to: 81 }]",
    ] {
        mappings(text);
    }
}

#[test]
fn a_port_that_goes_to_itself_can_be_an_exception() {
    let text = "ports:\n- { port: 80, to: 80, interfaces: eth0 }\n- { port: 80, to: 3000 }\n";
    assert_eq!(text_of(&load(text)), "");
}

#[test]
fn strict_makes_warnings_errors() {
    let loaded = load("ports: { 80: 40000 }");
    assert!(loaded.mappings.is_some());
    let strict = loaded.strict();
    assert!(strict.mappings.is_none() && strict.diagnostics[0].is_error());
    // A note is none.
    let strict = load("ports: { 8080: 3000 }").strict();
    assert!(strict.mappings.is_some());
    assert_eq!(strict.diagnostics[0].severity, Severity::Note);
}

#[test]
fn many_warnings_are_a_few_and_a_number() {
    let mut text = String::from("ports:\n");
    for port in 2000..32000 {
        let _ = writeln!(text, "  {port}: {}", port + 30000);
    }
    let loaded = load(&text);
    assert!(loaded.mappings.is_some(), "{}", text_of(&loaded));
    let last: Vec<_> =
        loaded.diagnostics.iter().rev().take(2).map(|d| d.message.as_str()).collect();
    assert_eq!(
        last,
        [
            "and 28,227 more entries with a target in the ephemeral range",
            "and 29,995 more entries with an unprivileged port",
        ]
    );
    assert_eq!(loaded.diagnostics.len(), 12);
}

#[test]
fn many_errors_are_a_hundred_and_a_number() {
    let text = format!("ports:\n{}", "  80: x\n".repeat(10_000));
    let loaded = load(&text);
    assert_eq!(loaded.diagnostics.len(), 101);
    assert_eq!(loaded.diagnostics[100].message, "and 9,900 more errors");
}

#[test]
fn the_digest_changes_with_names_texts_facts_and_what_is_added() {
    let source = |name: &str, text: &str| Source::file(name, text);
    let digest = |sources: &[Source], extra: &str| {
        rules::digest(sources, &Facts::default(), &[extra.as_bytes()])
    };
    let base = digest(&[source("a", "b")], "1");
    assert_eq!(base, digest(&[source("a", "b")], "1"));
    let facts = Facts { unprivileged_start: 80, ..Facts::default() };
    for other in [
        digest(&[source("a", "c")], "1"),
        digest(&[source("c", "b")], "1"),
        digest(&[source("a", "b")], "2"),
        digest(&[source("ab", "")], "1"),
        digest(&[source("a", "b"), source("", "")], "1"),
        rules::digest(&[source("a", "b")], &facts, &[b"1"]),
        rules::digest(&[source("a", "b")], &Facts::default(), &[]),
    ] {
        assert_ne!(base, other);
    }
}

/// Given a generation that `check` would refuse today, it can still be restored; given one that
/// is damaged, it cannot.
#[test]
fn what_was_applied_once_can_be_restored() {
    let stored = |text: &str| rules::parse_stored("generation 1", text.into());
    let chain = "ports:\n  80: 3000\n  3000: 4000\n";
    assert!(load(chain).mappings.is_none());
    assert_eq!(stored(chain).map(|set| rules::text(&set)).as_deref(), Some(chain));
    assert_eq!(stored(""), Some(MappingSet::default()));
    assert_eq!(stored("ports:\n  80: 3000\n  443"), None);
}

/// Given a hostile file, the answer is an error, and without much work. The bound is far above what it
/// takes, and far below what grows with the combinations.
#[track_caller]
fn is_refused(text: &str, message: &str) {
    let start = worked();
    let loaded = load(text);
    assert!(loaded.mappings.is_none());
    let shown = text_of(&loaded);
    assert!(shown.contains(message), "{shown}");
    assert!(shown.len() < 100_000, "{}", shown.len());
    let work = worked() - start;
    assert!(work < Duration::from_secs(20), "{work:?}");
}

/// For how long a processor has worked for this thread.
fn worked() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = String::from("a: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..40 {
        let _ = writeln!(text, "a{i}: &a{i} [{}]", vec![format!("*a{}", i - 1); 10].join(", "));
    }
    is_refused(&text, "with aliases expanded");
    is_refused("ports: &a [*a]\n", "this alias is inside the value that it refers to");
}

#[test]
fn deep_nesting_is_refused() {
    is_refused(&"[".repeat(100_000), "more than 32 levels of nesting");
    is_refused(&format!("ports: {}", "{a: ".repeat(100_000)), "more than 32 levels of nesting");
    is_refused(&"- ".repeat(100_000), "more than 32 levels of nesting");
    is_refused(&"? ".repeat(100_000), "more than 32 levels of nesting");
    let mut block = String::new();
    for depth in 0..2000 {
        let _ = writeln!(block, "{}a:", " ".repeat(depth));
    }
    is_refused(&block, "more than 32 levels of nesting");
}

#[test]
fn garbage_is_refused() {
    let mut state = 1u64;
    let mut byte = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    let printable: String = (0..1 << 20).map(|_| char::from(b' ' + byte() % 95)).collect();
    is_refused(&printable, "error");
    let lines: String =
        (0..1 << 20).map(|_| ['\n', ' ', ':', '-', 'a', '8'][byte() as usize % 6]).collect();
    is_refused(&lines, "error");
    is_refused(&"\u{0}".repeat(1 << 20), "byte 0x00 here is not text");
    is_refused("ports:\n  80: 3\u{0}00\n", "rules.yaml:2:8: error: byte 0x00 here is not text");
    is_refused(&"[1,".repeat(1 << 20), "commas and brackets");
    is_refused(&format!("ports: {{80: {}", "x".repeat(1 << 20)), "error");
    is_refused(
        &format!("ports: [{}]", "{port: 1-65535/tcp+udp, to: 1-65535},".repeat(1000)),
        "error",
    );
    is_refused(&format!("ports: [{}]", "{port: 80, to: 3000},".repeat(5_000)), "error");
    is_refused(&"&a ".repeat(100_000), "error");
    is_refused(&"a: &a b\n".repeat(50_000), "error");
    is_refused(&"!".repeat(1 << 20), "error");
    is_refused(&format!("ports:\n{}", "  <<: *a\n".repeat(100_000)), "error");
    is_refused(&format!("a: &a {{80: 1}}\nports:\n{}", "  <<: *a\n".repeat(30_000)), "error");
}

proptest! {
    #[test]
    fn what_is_written_reads_back(set in arbitrary::mapping_sets()) {
        let text = rules::write(&set);
        let loaded = load(&text);
        if set.is_empty() {
            prop_assert!(loaded.mappings.is_none());
        } else {
            prop_assert_eq!(loaded.mappings.as_ref(), Some(&set), "{}\n{}", &text, text_of(&loaded));
            prop_assert_eq!(rules::write(&set), text);
        }
    }

    #[test]
    fn what_is_stored_reads_back(set in arbitrary::mapping_sets()) {
        prop_assert_eq!(rules::parse_stored("generation 1", rules::text(&set)), Some(set));
    }

    #[test]
    fn no_text_makes_it_panic(text in "(ports|defaults|80|to|sources|[-:\\[\\]{},&*!|>'\"%@`#<? \n\r\té\u{1f600}]|a|0){0,60}") {
        let loaded = load(&text);
        prop_assert_eq!(loaded.mappings.is_none(), loaded.diagnostics.iter().any(|d| d.is_error()));
        text_of(&loaded);
    }
}
