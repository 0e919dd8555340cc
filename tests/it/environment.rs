//! What a command is started with: the variables of its environment, and its standard streams. Who
//! starts it from a service, a container or a hook may give it none of them, or nonsense.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::kill::{agree, serving, to};
use crate::support::portmap::{Outcome, PROGRAM, Portmap};
use crate::support::{Namespace, wait_until};

/// Changes, as one follows the other, and what is looked at in between.
const CHANGES: [&str; 17] = [
    "check rules.yaml",
    "check wrong.yaml",
    "plan rules.yaml",
    "apply rules.yaml",
    "persist",
    "apply --persist 80:3001",
    "status",
    "-o json status",
    "doctor",
    "rollback",
    "rollback",
    "restore",
    "clear",
    "restore",
    "apply absent.yaml",
    "apply FTP:3000",
    "run 81:3000 --user root -- /bin/sh exit.sh",
];

/// What changes nothing, so that its output is the same to the letter.
const LOOKS: [&str; 14] = [
    "check wrong.yaml",
    "plan rules.yaml",
    "status",
    "-o json status",
    "history",
    "-o json history",
    "doctor",
    "-o json doctor",
    "show 1",
    "render rules.yaml",
    "man apply",
    "apply --help",
    "aply rules.yaml",
    "rollback --to 99",
];

/// Letters that change their case in other ways in other languages, and bytes that are several in
/// one encoding and nothing in another.
fn host() -> Namespace {
    let host = Namespace::new().that_boots();
    host.file("rules.yaml", "ports: { 80: 3000, 53/udp: { to: 5353, comment: \"İı ßÄ 1,5\" } }");
    host.file("wrong.yaml", "ports: { 80: 3000, PRINTING: TITLE, 99999: İ }");
    host.file("exit.sh", "exit 7");
    host
}

fn run(host: &Namespace, line: &str, change: impl Fn(&mut Portmap)) -> Outcome {
    let mut portmap = host.portmap(line.split(' '));
    change(&mut portmap);
    portmap.run()
}

/// Exit code and output of a command, without what differs each time.
fn said(host: &Namespace, outcome: &Outcome) -> String {
    let dir = host.dir().to_str().unwrap();
    let is_time = |word: &str| word.starts_with("20") && word.len() >= 10 && word.contains('-');
    let is_time_of_day = |word: &str| word.ends_with('Z') && word.contains(':');
    let word = |word: &str| match is_time(word) || is_time_of_day(word) {
        true => "TIME".to_owned(),
        false => word.replace(dir, "DIR"),
    };
    let text = format!("{:?}\n{}\n{}", outcome.code, outcome.stdout, outcome.stderr);
    text.split([' ', '"']).map(word).collect::<Vec<_>>().join(" ")
}

/// All that a new host says of the changes.
fn changes(change: impl Fn(&mut Portmap)) -> Vec<(&'static str, String)> {
    let host = host();
    CHANGES.iter().map(|line| (*line, said(&host, &run(&host, line, &change)))).collect()
}

#[test]
fn no_command_needs_a_path() {
    let ordinary = changes(|_| {});
    let codes: Vec<_> = ordinary.iter().map(|(_, said)| said.lines().next().unwrap()).collect();
    assert_eq!(codes.iter().filter(|code| **code == "Some(0)").count(), 12, "{ordinary:#?}");
    assert_eq!(codes.last(), Some(&"Some(7)"), "{ordinary:#?}");

    let without = changes(|portmap| {
        portmap.without_env("PATH");
    });
    assert_eq!(without, ordinary);
    let empty = changes(|portmap| {
        portmap.env("PATH", "");
    });
    assert_eq!(empty, ordinary);
}

#[test]
fn a_command_that_only_a_path_would_find_is_named() {
    let host = host();
    let line = "run 81:3000 --user root -- sleep 0";
    let outcome = run(&host, line, |portmap| {
        portmap.env("PATH", "");
    })
    .fails_with(127);
    outcome
        .says("run `sleep`: No such file")
        .says("PATH is empty or not set: name it by its whole");
    let outcome = run(&host, line, |portmap| {
        portmap.env("PATH", "/nowhere");
    });
    outcome.fails_with(127).says("name it by its whole path");
    assert_eq!(host.ruleset(), "", "its mapping is gone with it");
}

/// A Turkish locale, where this machine can make one: there the small letter of I is not i.
fn turkish(host: &Namespace) -> Option<PathBuf> {
    let dir = host.dir().join("locales");
    fs::create_dir(&dir).unwrap();
    let mut command = host.command("localedef");
    command.args(["-i", "tr_TR", "-f", "UTF-8"]).arg(dir.join("tr_TR.UTF-8"));
    let made = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    made.is_ok_and(|status| status.success()).then_some(dir)
}

#[test]
fn the_language_of_the_caller_changes_no_word() {
    let host = host();
    let locales = turkish(&host);
    let speaking = |portmap: &mut Portmap, name: &OsStr| {
        for variable in ["LC_ALL", "LANG", "LANGUAGE", "LC_NUMERIC", "TZ"] {
            portmap.env(variable, name);
        }
        if let Some(dir) = &locales {
            portmap.env("LOCPATH", dir);
        }
    };
    host.portmap(["apply", "rules.yaml"]).run().succeeds();
    host.portmap(["apply", "80:3001"]).run().succeeds();
    let looks = |name: &OsStr| -> Vec<(&str, String)> {
        let look = |line| {
            let outcome = run(&host, line, |portmap| speaking(portmap, name));
            (line, format!("{:?}\n{}\n{}", outcome.code, outcome.stdout, outcome.stderr))
        };
        LOOKS.map(look).to_vec()
    };
    let (plain, changed) = (looks(OsStr::new("C")), changes(|_| {}));
    let names =
        ["tr_TR.UTF-8", "de_DE", "../../etc/passwd", "C.UTF-8:\u{1b}[2J"].map(OsString::from);
    let bytes = OsStr::from_bytes(b"\xff\xfe=\xc3").to_owned();
    for name in names.into_iter().chain([bytes]) {
        assert_eq!(looks(&name), plain, "{name:?}");
    }
    for name in ["tr_TR.UTF-8", "Asia/Kathmandu"].map(OsStr::new) {
        assert_eq!(changes(|portmap| speaking(portmap, name)), changed, "{name:?}");
    }
}

/// In the words of the shell: none of a command's standard streams is there, or all but one.
const CLOSED: [&str; 4] = ["exec <&-", "exec >&-", "exec 2>&-", "exec <&- >&- 2>&-"];

/// All files below a directory.
fn files(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            let text = fs::read(&path).unwrap();
            all.insert(path, String::from_utf8(text).expect("portmap writes text"));
        }
    }
    all
}

/// What a command opens first would be its standard output, and what it says would be in there.
#[track_caller]
fn nothing_is_said_in_a_file(host: &Namespace, what: &str) {
    for (path, text) in files(&host.dir().join("state")) {
        for said in ["warning:", "error:", "note:", "is active", "nothing to do", " added", "PORT "]
        {
            assert!(!text.contains(said), "{what}: {}: {text}", path.display());
        }
    }
}

#[test]
fn without_its_streams_a_command_does_and_tells_the_same() {
    for (nth, closed) in CLOSED.into_iter().enumerate() {
        let host = host();
        let portmap = |line: &str| host.portmap_mounted(closed, line.split(' ')).run();
        let does = |line: &str, code: i32, target: usize| {
            let outcome = portmap(line).fails_with(code);
            assert_eq!(serving(&host), to(target), "{closed}: {outcome}");
            nothing_is_said_in_a_file(&host, &format!("{closed}: {line}"));
        };
        host.apply(&to(3000));
        does("apply 80:3001", 0, 3001);
        does("apply --detailed-exitcode 80:3001", 0, 3001);
        does("apply --detailed-exitcode --persist 80:3002", 2, 3002);
        does("apply absent.yaml", 1, 3002);
        // Who reads nothing from nowhere has not asked for an empty mapping.
        does("apply -", 1, 3002);
        does("apply --confirm 1h 80:3003", 0, 3003);
        does("confirm", 0, 3003);
        does("rollback", 0, 3002);
        does("rollback --to 99", 1, 3002);
        does("status", 0, 3002);
        does("-o json status", 0, 3002);
        does("-v history", 0, 3002);
        does("apply -v --no-history 80:3004", 0, 3004);
        does("apply 80:3005", 0, 3005);
        agree(&host, closed);
        portmap("clear").succeeds();
        assert_eq!(host.ruleset(), "");
        assert_eq!(host.states().last().map(String::as_str), Some("7 active"), "{nth}: {closed}");
        nothing_is_said_in_a_file(&host, closed);
    }
}

/// Nor does the command of a run find something of portmap's in their place.
#[test]
fn the_command_of_a_run_has_streams_of_nobodys() {
    let host = host();
    host.file("streams.sh", "for n in 0 1 2; do readlink /proc/$$/fd/$n; done > streams; exit 7");
    for closed in CLOSED {
        let line = "run 81:3000 --user root -- /bin/sh streams.sh";
        let outcome = host.portmap_mounted(closed, line.split(' ')).run();
        let outcome = outcome.fails_with(7);
        let streams = fs::read_to_string(host.dir().join("streams")).unwrap();
        let is_harmless = |path: &str| path == "/dev/null" || path.starts_with("pipe:");
        // The shell has its own standard output in the file while it looks.
        let others = streams.lines().filter(|path| !path.ends_with("/streams"));
        let others: Vec<_> = others.collect();
        assert_eq!(others.len(), 2, "{closed}: {streams}: {outcome}");
        assert!(others.iter().all(|path| is_harmless(path)), "{closed}: {streams}");
        host.has_no_runs_soon();
    }
}

#[test]
fn without_its_streams_a_guard_guards() {
    for closed in CLOSED {
        let host = host();
        host.apply(&to(3000));
        let layout = host.layout();
        let mut command = host.command("sh");
        command.env("PORTMAP_STATE_DIR", host.dir().join("state"));
        let script = format!("{closed}; exec \"$@\"");
        command.args(["-c", &script, "sh", PROGRAM, "guard"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut guard = command.spawn().unwrap();
        wait_until("the guard stands", || host.status()["guard"]["pid"] == guard.id());
        // It says so after the first look.
        let is_there = || host.status()["generation"] == 1;
        let has_repaired = || !host.status()["guard"]["last_repair"].is_null();
        host.nft("delete table inet portmap");
        wait_until("the table is put back", || is_there() && has_repaired());
        assert_eq!(host.layout(), layout, "{closed}");
        kill(Pid::from_raw(guard.id() as i32), Signal::SIGTERM).unwrap();
        assert_eq!(guard.wait().unwrap().code(), Some(0), "{closed}");
        agree(&host, closed);
        nothing_is_said_in_a_file(&host, closed);
    }
}
