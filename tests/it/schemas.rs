//! The JSON Schemas in `schema/` tell the truth: about what every command prints with `-o json`,
//! and about which rules files are right.

use std::fs;
use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;

use crate::support::Namespace;
use crate::support::portmap::Outcome;

/// What `portmap schema DOCUMENT` prints, ready for use.
#[track_caller]
pub fn schema(host: &Namespace, document: &str) -> Validator {
    let schema = host.portmap(["schema", document]).run().succeeds().json();
    jsonschema::meta::validate(&schema).unwrap_or_else(|e| panic!("schema {document}: {e}"));
    jsonschema::validator_for(&schema).unwrap_or_else(|e| panic!("schema {document}: {e}"))
}

pub fn complaints(schema: &Validator, value: &Value) -> Vec<String> {
    schema.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

impl Namespace {
    /// Runs it with `-o json`; the document fits, on standard output or, if it fails, on the other.
    #[track_caller]
    fn says_as(&self, document: &str, arguments: &[&str]) -> Outcome {
        let outcome = self.portmap(["-o", "json"].iter().chain(arguments)).run();
        let text = if document == "errors" {
            assert_eq!(outcome.stdout, "", "one document, and nothing else: {outcome}");
            assert_eq!(outcome.code, Some(1), "{outcome}");
            &outcome.stderr
        } else {
            assert_eq!(outcome.code, Some(0), "{outcome}");
            &outcome.stdout
        };
        let value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {outcome}"));
        let complaints = complaints(&schema(self, document), &value);
        assert!(complaints.is_empty(), "{complaints:#?}: {outcome}");
        outcome
    }
}

const RULES: &str = "\
ports:
  - { port: 80, to: 40000, comment: the shop }
  - { port: 81, to: 3000, interfaces: [eth0, 'wg*'], sources: [192.0.2.0/24], addresses: [192.0.2.1] }
  - { port: 81, to: 3001 }
  - { port: 53/udp, to: 5353, scope: local, families: [ipv6] }
  - { port: 6000-6003, to: 16000-16003, scope: external }
";

#[test]
fn every_command_prints_what_its_schema_says() {
    let host = Namespace::new().that_boots();
    host.file("rules.yaml", RULES);
    host.file("other.yaml", "ports: { 80: 3000, 443: 8443 }");

    let outcome = host.says_as("check", &["check", "rules.yaml"]);
    assert_ne!(outcome.json()["warnings"], serde_json::json!([]), "{outcome}");
    for format in ["nft", "iptables", "ip6tables"] {
        let outcome = host.says_as("render", &["render", "--format", format, "rules.yaml"]);
        let text = host.portmap(["render", "-q", "--format", format, "rules.yaml"]).run().stdout;
        assert_eq!(outcome.json()["script"], text, "{outcome}");
    }
    host.says_as("status", &["status"]);
    host.says_as("history", &["history"]);
    host.says_as("doctor", &["doctor"]);
    host.says_as("show", &["show"]);
    host.says_as("changes", &["plan", "rules.yaml"]);
    host.says_as("changes", &["apply", "--dry-run", "rules.yaml"]);
    host.says_as("changes", &["clear"]);

    let outcome = host.says_as("changes", &["apply", "--message", "why", "rules.yaml"]);
    assert_eq!(outcome.json()["changed"], true, "{outcome}");
    let outcome = host.says_as("changes", &["apply", "rules.yaml"]);
    assert_eq!(outcome.json()["changed"], false, "{outcome}");
    host.says_as("status", &["status"]);
    host.says_as("changes", &["plan", "other.yaml"]);
    host.nft("add rule inet portmap output tcp dport 9999 drop");
    host.says_as("changes", &["plan", "other.yaml"]);
    host.says_as("status", &["status"]);

    host.says_as("changes", &["apply", "--confirm", "60s", "other.yaml"]);
    host.says_as("status", &["status"]);
    host.says_as("history", &["history"]);
    host.says_as("errors", &["apply", "rules.yaml"]);
    host.says_as("changes", &["confirm"]);
    host.says_as("errors", &["confirm"]);

    host.says_as("persist", &["persist"]);
    host.says_as("history", &["history"]);
    host.says_as("changes", &["restore"]);
    host.says_as("changes", &["rollback", "--dry-run"]);
    host.says_as("changes", &["rollback"]);
    host.says_as("show", &["show"]);
    host.says_as("show", &["show", "1"]);
    host.says_as("difference", &["history", "--diff", "1"]);
    host.says_as("difference", &["history", "--diff", "0", "2"]);
    host.says_as("persist", &["persist", "--off"]);
    host.says_as("changes", &["clear", "--dry-run"]);
    host.says_as("changes", &["clear"]);
    host.says_as("history", &["history"]);
    host.says_as("status", &["status"]);
}

#[test]
fn every_failure_is_a_document_too() {
    let host = Namespace::new();
    host.file("rules.yaml", RULES);
    host.file("wrong.yaml", "ports: { 80: 0, 81: 99999, 70000: 1 }\ncolour: red\n");

    for command in ["check", "render", "plan", "apply"] {
        host.says_as("errors", &[command, "wrong.yaml"]);
        host.says_as("errors", &[command, "absent.yaml"]);
        host.says_as("errors", &[command, "--strict", "rules.yaml"]);
    }
    host.says_as("errors", &["show", "99"]);
    host.says_as("errors", &["rollback", "--to", "99"]);
    host.says_as("errors", &["persist"]);
    host.says_as("errors", &["man", "nothing"]);

    let unprivileged = host.portmap_unprivileged(["-o", "json", "status"]).run().fails_with(1);
    let document = serde_json::from_str(&unprivileged.stderr).expect("a document");
    assert_eq!(complaints(&schema(&host, "errors"), &document), [""; 0], "{unprivileged}");
}

/// As JSON: keys become texts, as they are to the schema.
fn json(value: serde_yaml::Value) -> Value {
    use serde_yaml::Value as Yaml;
    match value {
        Yaml::Mapping(map) => {
            let key = |key| match json(key) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            Value::Object(map.into_iter().map(|(k, v)| (key(k), json(v))).collect())
        }
        Yaml::Sequence(items) => items.into_iter().map(json).collect(),
        Yaml::Tagged(tagged) => json(tagged.value),
        scalar => serde_json::to_value(scalar).expect("a scalar"),
    }
}

fn below(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text between lines that satisfy `begins` and the next that `ends`.
fn blocks(text: &str, begins: fn(&str) -> bool, ends: fn(&str) -> bool) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while lines.any(begins) {
        let block = lines.by_ref().take_while(|line| !ends(line));
        blocks.push(block.map(|line| format!("{line}\n")).collect());
    }
    blocks
}

/// Every rules file that the project shows to anybody: by name and text.
fn shown() -> Vec<(String, String)> {
    let mut shown = Vec::new();
    for entry in fs::read_dir(below("rules")).unwrap() {
        let path = entry.unwrap().path();
        shown.push((path.display().to_string(), fs::read_to_string(path).unwrap()));
    }
    let page = fs::read_to_string(below("man/portmap-rules.5")).unwrap();
    let examples = blocks(&page, |line| line == ".EX", |line| line == ".EE");
    shown.extend(examples.into_iter().map(|text| ("the manual".into(), text.replace(r"\-", "-"))));
    if let Ok(text) = fs::read_to_string(below("README.md")) {
        let examples = blocks(&text, |line| line.trim() == "```yaml", |line| line.trim() == "```");
        shown.extend(examples.into_iter().map(|text| ("README.md".into(), text)));
    }
    shown
}

#[test]
fn every_rules_file_that_is_shown_is_right() {
    let host = Namespace::new();
    let schema = schema(&host, "rules");
    let shown = shown();
    assert!(shown.iter().any(|(name, _)| name == "the manual"), "none found in the manual");
    for (name, text) in shown.iter().filter(|(_, text)| text.contains("ports:")) {
        let file = host.file("shown.yaml", text);
        host.portmap(["check".as_ref(), file.as_os_str()]).run().succeeds();
        let value = json(serde_yaml::from_str(text).unwrap());
        assert_eq!(complaints(&schema, &value), [""; 0], "{name}: {text}");
    }
}

/// Right, and unusual.
const RIGHT: &[&str] = &[
    "ports: { http: 3000 }",
    "ports: { http-alt/tcp: 3000, '80/tcp+udp': '3000' }",
    "ports: { 1-2: 3-4 }",
    "ports: [{ port: 80, to: 3000, protocol: [tcp, udp], families: ipv4 }]",
    "ports: [{ port: '80-81', to: '3000-3001', interfaces: eth0 }]",
    "ports: { 80: { to: 3000, sources: '::1', addresses: '2001:db8::/97' } }",
    "ports: { 80: { to: 3000, interfaces: [abcdefghijklmno, 'abcdefghijklmno*'] } }",
    "ports: { 80: { to: 3000, sources: [] } }\ndefaults: { sources: [192.0.2.0/24] }",
    "ports: { 80: 3000 }\ndefaults:",
    "ports: { 80: 3000, 65535: 1, 9999: 65534 }",
    "defaults: { protocol: sctp+dccp }\nports: { 80: 3000 }",
    "ports: { 80: { to: 3000, comment: 'äöü # : [' } }",
];

/// Wrong in a way that a schema can see.
const WRONG: &[&str] = &[
    "",
    "[]",
    "80: 3000",
    "ports:",
    "ports: {}",
    "ports: []",
    "ports: 80",
    "port: { 80: 3000 }",
    "ports: { 80: 3000 }\nextra: 1",
    "ports: { 80: 3000 }\ndefaults: { to: 3000 }",
    "ports: { 80: 3000 }\ndefaults: { port: 80 }",
    "ports: { 80: 3000 }\ndefaults: []",
    "ports: { 0: 3000 }",
    "ports: { 80: 0 }",
    "ports: { 80: -1 }",
    "ports: { 80: 65536 }",
    "ports: { 80: 3000.5 }",
    "ports: { 80: true }",
    "ports: { 80: [3000] }",
    "ports: { 80: }",
    "ports: { 80: {} }",
    "ports: { 80/icmp: 3000 }",
    "ports: { 80/: 3000 }",
    "ports: { /tcp: 3000 }",
    "ports: { 80/tcp+: 3000 }",
    "ports: { '080': 3000 }",
    "ports: { '80-': 3000 }",
    "ports: { '80 ': 3000 }",
    "ports: { 80: '3000-' }",
    "ports: { 80: http }",
    "ports: { 70000: 3000 }",
    "ports: { 80: '70000' }",
    "ports: { 80-70000: 3000 }",
    "ports: [80]",
    "ports: [{ port: 80 }]",
    "ports: [{ to: 80 }]",
    "ports: [{ port: 80, to: 3000, colour: red }]",
    "ports: { 80: { to: 3000, port: 80 } }",
    "ports: { 80: { to: 3000, scope: outside } }",
    "ports: { 80: { to: 3000, scope: [external] } }",
    "ports: { 80: { to: 3000, families: [] } }",
    "ports: { 80: { to: 3000, families: inet } }",
    "ports: { 80: { to: 3000, families: both } }",
    "ports: { 80: { to: 3000, protocol: [] } }",
    "ports: { 80: { to: 3000, protocol: icmp } }",
    "ports: { 80: { to: 3000, interfaces: [''] } }",
    "ports: { 80: { to: 3000, interfaces: ['*'] } }",
    "ports: { 80: { to: 3000, interfaces: ['a/b'] } }",
    "ports: { 80: { to: 3000, interfaces: ['a b'] } }",
    "ports: { 80: { to: 3000, interfaces: ['a*b'] } }",
    "ports: { 80: { to: 3000, interfaces: [abcdefghijklmnop] } }",
    "ports: { 80: { to: 3000, interfaces: ['**'] } }",
    "ports: { 80: { to: 3000, interfaces: ['.'] } }",
    "ports: { 80: { to: 3000, sources: everybody } }",
    "ports: { 80: { to: 3000, sources: [192.0.2] } }",
    "ports: { 80: { to: 3000, sources: [192.0.2.0/33] } }",
    "ports: { 80: { to: 3000, sources: ['2001:db8::/129'] } }",
    "ports: { 80: { to: 3000, sources: [300.0.2.1] } }",
    "ports: { 80: { to: 3000, addresses: {} } }",
    "ports: { 80: { to: 3000, comment: '' } }",
    "ports: { 80: { to: 3000, comment: 'a \" b' } }",
    "ports: { 80: { to: 3000, comment: \"a\\nb\" } }",
    "ports: { 80: { to: 3000, comment: [] } }",
];

/// Wrong, and no business of a schema's: what follows from two entries, from the machine, or from
/// arithmetic.
const BEYOND: &[(&str, &str)] = &[
    ("a range that runs backwards", "ports: { 90-80: 3000-3010 }"),
    ("ranges that are not equally wide", "ports: { 80-90: 3000-3001 }"),
    ("one target for a range", "ports: { 80-90: 3000 }"),
    ("a port twice", "ports: [{ port: 80, to: 3000 }, { port: 80, to: 4000 }]"),
    ("a key twice", "ports: { 80: 3000, 80: 4000 }"),
    ("a chain", "ports: { 80: 81, 81: 3000 }"),
    ("a name that is in no database", "ports: { no-such-service: 3000 }"),
    ("protocols in two places", "ports: [{ port: 80/tcp, to: 3000, protocol: udp }]"),
    (
        "interfaces of local connections",
        "ports: { 80: { to: 3000, scope: local, interfaces: eth0 } }",
    ),
    ("another family's networks", "ports: { 80: { to: 3000, families: ipv4, sources: '::1' } }"),
    ("IPv4-mapped networks", "ports: { 80: { to: 3000, sources: '::ffff:10.9.1.0/120' } }"),
    ("addresses that no host has", "ports: { 80: { to: 3000, addresses: 224.0.0.1 } }"),
    ("a swap", "ports: { 80: 81, 81: 80 }"),
    ("a range into itself", "ports: { 80-83: 82-85 }"),
    ("host bits", "ports: { 80: { to: 3000, sources: 192.0.2.1/24 } }"),
    (
        "a comment of too many bytes",
        concat!(
            "ports: { 80: { to: 3000, comment: ",
            "éééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééé } }"
        ),
    ),
];

#[test]
fn schema_and_check_agree() {
    let host = Namespace::new();
    let schema = schema(&host, "rules");
    let mut disagree = Vec::new();
    let cases = RIGHT.iter().map(|text| (*text, true, true));
    let cases = cases.chain(WRONG.iter().map(|text| (*text, false, false)));
    let cases = cases.chain(BEYOND.iter().map(|(_, text)| (*text, false, true)));
    for (text, to_check, to_schema) in cases {
        let file = host.file("rules.yaml", text);
        let outcome = host.portmap(["check".as_ref(), file.as_os_str()]).run();
        if (outcome.code == Some(0)) != to_check {
            disagree.push(format!("check: {text}: {outcome}"));
        }
        // A key that is there twice is no YAML to others.
        let Ok(value) = serde_yaml::from_str(text) else { continue };
        let complaints = complaints(&schema, &json(value));
        if complaints.is_empty() != to_schema {
            disagree.push(format!("schema: {text}: {complaints:?}"));
        }
    }
    assert!(disagree.is_empty(), "{}", disagree.join("\n"));
}

/// What two documents have in common is described in the same way in both.
#[test]
fn what_a_probe_shares_with_other_documents_is_described_alike() {
    let host = Namespace::new();
    let document = |name: &str| host.portmap(["schema", name]).run().succeeds().json();
    let probe = document("probe");
    for name in ["doctor", "trace"] {
        let other = document(name);
        for (key, definition) in other["$defs"].as_object().unwrap() {
            // A path that was tried has more to it.
            if key != "path" {
                assert_eq!(&probe["$defs"][key], definition, "{name}: {key}");
            }
        }
    }
}
