//! Names that others choose, with codes in them that command a terminal: of files, words of the
//! command line, keys, processes, users, interfaces, tables, chains and comments. Whatever prints
//! them, no code reaches a terminal, a log or a pipe as it is.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::portmap::Outcome;
use crate::support::{Namespace, World, wait_until};

/// Sets the title of a window, clears the screen, and clears it again with the one-byte form of
/// the same code (ECMA-48, 8.3.16; xterm's control sequences).
const HOSTILE: &str = "\u{1b}]0;x\u{7}\u{1b}[2J\u{9b}2J";
/// The same in the 15 bytes that the names of processes and interfaces have.
const SHORT: &str = "\u{1b}[2J\u{7}\u{9b}2J";

/// Nothing acts on a terminal, but for the ends of lines and the indentation of nft's scripts.
#[track_caller]
fn harmless(outcome: &Outcome) {
    for (text, name) in [(&outcome.stdout, "stdout"), (&outcome.stderr, "stderr")] {
        let code = text.chars().find(|c| c.is_control() && !"\n\t".contains(*c));
        let line = text.lines().find(|line| line.contains(|c: char| c.is_control() && c != '\t'));
        assert_eq!(code, None, "on {name}: {line:?}");
    }
}

/// Both forms of a command's output; it may succeed or fail. What it printed as text, and as
/// JSON.
#[track_caller]
fn both(host: &Namespace, arguments: &[&str], stdin: &str) -> (String, String) {
    let run = |more: &[&str]| {
        let arguments = [&arguments[..1], more, &arguments[1..]].concat();
        let outcome = host.portmap(&arguments).stdin(stdin).run();
        harmless(&outcome);
        outcome
    };
    let (text, json) = (run(&["-v"]), run(&["-ojson"]));
    for document in [&json.stdout, &json.stderr] {
        if !document.is_empty() {
            serde_json::from_str::<Value>(document).unwrap_or_else(|e| panic!("{e}: {json}"));
        }
    }
    (text.stdout + &text.stderr, json.stdout + &json.stderr)
}

#[test]
fn of_the_command_line() {
    let host = Namespace::new();
    let option = format!("--{HOSTILE}");
    let dir = format!("--state-dir={}/{HOSTILE}", host.dir().display());
    let pages = format!("/dev/null/{HOSTILE}");
    let wrong: &[&[&str]] = &[
        &["check", HOSTILE],
        &["check", "80:x\u{1b}[2J"],
        &["check", "80:3000", &option],
        &["render", "--format", HOSTILE, "80:3000"],
        &["plan", HOSTILE],
        &["apply", HOSTILE],
        &["apply", "--confirm", HOSTILE, "80:3000"],
        &["status", "--interval", HOSTILE, "--watch"],
        &["status", &dir],
        &["doctor", HOSTILE],
        &["doctor", "--rules", HOSTILE],
        &["trace", HOSTILE],
        &["run", HOSTILE, "--", "true"],
        &["run", "80:3000", "--user", HOSTILE, "--", "true"],
        &["run", "80:3000", "--user", "root", "--", HOSTILE],
        &["confirm", HOSTILE],
        &["rollback", HOSTILE],
        &["history", "--diff", HOSTILE, "1"],
        &["show", HOSTILE],
        &["persist", &option],
        &["restore", &dir],
        &["clear", HOSTILE],
        &["completions", HOSTILE],
        &["man", HOSTILE],
        &["man", "--output-dir", &pages],
        &["schema", HOSTILE],
        &["help", HOSTILE],
    ];
    for arguments in wrong {
        let outcome = host.portmap(*arguments).run();
        harmless(&outcome);
        assert_ne!(outcome.stdout.clone() + &outcome.stderr, "", "{outcome}");
        both(&host, arguments, "");
    }
    let outcome = host.portmap([HOSTILE]).run().fails_with(64).says("\\u{1b}[2J");
    harmless(&outcome);
}

#[test]
fn of_the_command_line_at_a_terminal() {
    let host = Namespace::new();
    for arguments in
        [&["check", HOSTILE][..], &[HOSTILE], &["show", HOSTILE], &["check", "--\u{9b}2J"]]
    {
        let (_, screen) = host.portmap(arguments).at_terminal().ends();
        for code in ["\u{7}", "\u{1b}]", "\u{1b}[2J", "\u{9b}"] {
            assert!(!screen.contains(code), "{arguments:?}: {screen:?}");
        }
        assert!(screen.contains("\\u{"), "it is shown: {screen:?}");
    }
}

/// A letter that fills a place and is not seen, and the one that turns round what follows.
const TURNED: &str = "web\u{3164}\u{202e}pohs";

#[test]
fn of_scripts_at_a_terminal_and_for_programs() {
    let host = Namespace::new();
    let rules = format!("ports: {{ 80: {{ to: 3000, comment: \"{TURNED}\" }} }}");
    host.apply(&rules);
    host.apply("ports: { 80: 4000 }");
    let commands = [
        &["show", "1"][..],
        &["render", "rules.yaml"],
        &["render", "--format", "iptables", "rules.yaml"],
        &["render", "--format", "ip6tables", "rules.yaml"],
    ];
    host.file("rules.yaml", &rules);
    for command in commands {
        let (code, screen) = host.portmap(command).at_terminal().ends();
        assert_eq!(code, Some(0), "{screen}");
        assert!(!screen.contains(['\u{3164}', '\u{202e}']), "{command:?}: {screen:?}");
        assert!(screen.contains("3164") && screen.contains("202e"), "{command:?}: {screen:?}");
    }

    // What programs get is exactly that: a file reads back as the same, and nft makes of a script
    // what portmap makes.
    let file = host.portmap(["show", "1"]).run().succeeds().stdout;
    host.file("shown.yaml", &file);
    host.portmap(["apply", "shown.yaml"]).run().succeeds();
    assert_eq!(host.status()["mappings"][0]["comment"], TURNED, "{file}");
    host.portmap(["clear"]).run().succeeds();
    let script = host.portmap(["render", "rules.yaml"]).run().succeeds().stdout;
    assert!(script.contains(TURNED), "{script:?}");
    host.nft_script(&script);
    assert_eq!(host.status()["mappings"][0]["comment"], TURNED);
    host.portmap(["plan", "--detailed-exitcode", "rules.yaml"]).run().succeeds();
}

#[test]
fn of_files_and_their_content() {
    let host = Namespace::new();
    let name = format!("{HOSTILE}.yaml");
    host.file(&name, "ports: { 80: 3000, 81: 81 }");
    let wrong = format!("ports:\n  {SHORT}: 3000\n  80: {{ \"{SHORT}\": 1 }}\n\"{SHORT}\": 2\n");
    host.file("wrong.yaml", &wrong);
    let escaped = "ports:\n  \"\\e[2J\\a\": 3000\n  80: { to: \"\\e[2J\", user: \"\\e[2J\" }\n  \
                   81: { to: 3000, comment: \"\\e[2J\", interfaces: [\"\\e[2J\"], sources: [\"\\e\"] }\n\
                   \"\\x9b2J\": 1\n";
    host.file("escaped.yaml", escaped);
    host.file(&format!("dir/{name}"), "ports: { 80: 3000 }");
    host.file("dir/other.yaml", "ports: { 80: 3001 }");
    for command in
        [&["check"][..], &["render"], &["plan"], &["apply", "--dry-run"], &["doctor", "--rules"]]
    {
        for file in [&*name, "wrong.yaml", "escaped.yaml", "dir", "-"] {
            let (text, _) = both(&host, &[command, &[file]].concat(), escaped);
            assert!(command[0] == "doctor" || text.contains("\\u{") || file == name, "{text}");
        }
    }
    host.portmap(["apply", "--message", HOSTILE, &name]).run().succeeds();
    for command in ["status", "history", "show", "doctor"] {
        both(&host, &[command], "");
    }
    assert_eq!(host.history()[0]["message"], HOSTILE, "as it was said");
}

#[test]
fn of_what_the_history_holds() {
    let host = Namespace::new().that_boots();
    host.apply("ports: { 80: 3000 }");
    host.apply("ports: { 80: 3001 }");
    for (damaged, content) in [
        ("state/generations/000001.yaml", format!("outcome: \"\\e[2J\"\n{HOSTILE}\n")),
        ("state/boot", HOSTILE.to_owned()),
    ] {
        std::fs::write(host.dir().join(damaged), content).unwrap();
    }
    let commands: [&[&str]; 9] = [
        &["status"],
        &["status", "--check"],
        &["history"],
        &["show", "1"],
        &["rollback"],
        &["persist"],
        &["restore"],
        &["doctor"],
        &["history", "--diff", "1"],
    ];
    for arguments in commands {
        both(&host, arguments, "");
    }
}

#[test]
fn of_the_log_of_the_system_and_of_completions() {
    let host = Namespace::new();
    let log = UnixDatagram::bind(host.dir().join("log")).unwrap();
    let mount = "mkdir -p dev; mount -t tmpfs none dev; cp -a /dev/null /dev/urandom dev; \
                 touch dev/log; mount --bind log dev/log; mount --move dev /dev";
    let name = format!("{HOSTILE}.yaml");
    host.file(&name, "ports: { 80: 3000 }");
    let mut apply = host.portmap_mounted(mount, ["apply", "--message", HOSTILE, &name]);
    apply.env("SUDO_UID", "70001").env("SUDO_USER", HOSTILE);
    harmless(&apply.run().succeeds());
    let mut line = [0; 4096];
    let length = log.recv(&mut line).unwrap();
    let line = std::str::from_utf8(&line[..length]).unwrap();
    assert!(!line.contains(char::is_control), "{line:?}");
    both(&host, &["history"], "");

    for (shell, index) in [("bash", "2"), ("zsh", "2"), ("fish", "2")] {
        let mut complete = host.portmap(["--", "portmap", "show", ""]);
        complete.env("PORTMAP_COMPLETE", shell);
        complete.env("_CLAP_COMPLETE_INDEX", index).env("_CLAP_IFS", "\n");
        let outcome = complete.run().succeeds();
        // Between a candidate and what is said of it, fish wants a tab.
        let codes = |c: char| c.is_control() && !"\n\t".contains(c);
        assert!(!outcome.stdout.contains(codes), "{:?}", outcome.stdout);
        assert!(outcome.stdout.contains('1'), "{outcome}");
    }
}

/// A process that names itself so, with a socket of the test's as its standard output. It ends
/// when its standard input does.
#[track_caller]
fn process(mut command: Command, first: &str, stdout: impl Into<Stdio>) -> Child {
    let script = format!("printf '\\033[2J\\a\\2332J' >/proc/$$/comm; {first}; read end");
    let script = script.replace("\\233", "\\302\\233");
    command.args(["-c", &script]).stdin(Stdio::piped()).stdout(stdout);
    let child = command.spawn().unwrap();
    let comm = format!("/proc/{}/comm", child.id());
    wait_until("it has its name", || {
        std::fs::read_to_string(&comm).is_ok_and(|name| name.trim_end() == SHORT)
    });
    child
}

#[test]
fn of_processes_and_users() {
    let host = Namespace::new().that_boots();
    let users = std::fs::read_to_string(host.etc("passwd")).unwrap();
    std::fs::write(host.etc("passwd"), format!("{users}{SHORT}:x:70001:70001::/:/bin/sh\n"))
        .unwrap();
    host.portmap(["apply", "80:3000", "81:3001"]).run().succeeds();
    let listener = host.run(|| std::net::TcpListener::bind("127.0.0.1:3000").unwrap());
    let listener = process(host.command("sh"), ":", std::os::fd::OwnedFd::from(listener));
    // Its user has the name; who listens is this test.
    let _other = host.serve_as(70001, "other", &[3001]);
    let (text, json) = both(&host, &["status"], "");
    let named = |text: &str| text.contains("[2J") && text.contains("9b");
    assert!(named(&text) && named(&json), "the listeners: {text}{json}");
    both(&host, &["status", "--check"], "");
    both(&host, &["doctor"], "");
    both(&host, &["doctor", "81"], "");

    let lock = host.dir().join("state/lock");
    let take = format!("exec 9>{}; flock 9; echo $$ >&9", lock.display());
    let holder = process(host.command("bash"), &take, Stdio::null());
    wait_until("the lock is held", || {
        std::fs::read_to_string(&lock).is_ok_and(|pid| pid.trim() == holder.id().to_string())
    });
    let (text, _) = both(&host, &["apply", "--wait", "0s", "80:3001"], "");
    assert!(named(&text), "who holds it: {text}");

    let command = "printf '\\033[2J' >/proc/$$/comm; sleep 20";
    let run = ["run", "90:3090", "--user", "root", "--", "sh", "-c", command, HOSTILE];
    let running = host.portmap(run).start();
    let runs = || host.portmap(["status", "-ojson"]).run().succeeds().json()["runs"].to_string();
    wait_until("the run is seen", || runs().contains("[2J"));
    both(&host, &["status"], "");
    both(&host, &["run", "90:3091", "--user", "root", "--", "true"], "");
    for mut child in [listener, holder] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    drop(running);
}

/// Whatever may have a name in a ruleset, with this one; nft's own grammar has no such names, but
/// the kernel takes them.
fn firewall(family: &str, table: &str) -> Value {
    let chain = |name: &str, hook: Value| {
        let mut chain = json!({ "family": family, "table": table, "name": name });
        chain.as_object_mut().unwrap().extend(hook.as_object().unwrap().clone());
        json!({ "add": { "chain": chain } })
    };
    let base = json!({ "type": "filter", "hook": "input", "prio": 0, "policy": "accept" });
    let dport = json!({ "payload": { "protocol": "tcp", "field": "dport" } });
    let rule = |chain: &str, port: u16, verdict: Value| {
        let port = json!({ "match": { "op": "==", "left": dport, "right": port } });
        json!({ "add": { "rule": { "family": family, "table": table, "chain": chain,
            "expr": [port, verdict], "comment": HOSTILE } } })
    };
    json!({ "nftables": [
        { "add": { "table": { "family": family, "name": table, "comment": HOSTILE } } },
        chain(HOSTILE, base),
        chain(SHORT, json!({})),
        { "add": { "set": { "family": family, "table": table, "name": HOSTILE,
            "type": "inet_service", "elem": [3001] } } },
        rule(HOSTILE, 3000, json!({ "jump": { "target": SHORT } })),
        rule(SHORT, 3000, json!({ "drop": null })),
        { "add": { "rule": { "family": family, "table": table, "chain": HOSTILE, "expr": [
            { "match": { "op": "==", "left": dport, "right": format!("@{HOSTILE}") } },
            { "log": { "prefix": SHORT } }, { "drop": null }] } } },
    ] })
}

#[test]
fn of_the_tables_of_others() {
    let world = World::new();
    let host = &world.host;
    let nft = |script: &Value| {
        host.output(host.command("nft").args(["-j", "-f", "-"]), &script.to_string())
    };
    host.portmap(["apply", "80:3000", "81:3001"]).run().succeeds();
    nft(&firewall("inet", HOSTILE));
    let (text, _) = both(host, &["doctor"], "");
    assert!(text.contains("\\u{1b}[2J"), "the table: {text}");
    assert!(!text.contains("nft insert rule"), "a name that is no word is not to be typed: {text}");
    let trace = ["trace", "--timeout", "20s", "--count", "1"];
    for format in ["text", "json"] {
        let running = host.portmap(trace.iter().chain(&["-o", format])).start();
        wait_until("the tracing table is there", || {
            host.nft("list tables").contains("table inet portmap-trace-")
        });
        let _ = world.client.tcp_ask("192.0.2.1:80");
        let outcome = running.wait();
        harmless(&outcome);
        assert!(outcome.stdout.contains("[2J"), "{outcome}");
    }
    both(host, &["doctor", "--probe", "--yes"], "");

    // The same in the table that is portmap's own.
    nft(&firewall("inet", "portmap"));
    for arguments in [&["status"][..], &["status", "--check"], &["doctor"], &["plan", "80:3000"]] {
        let (text, json) = both(host, arguments, "");
        assert!(text.contains("\\u{1b}"), "{text}{json}");
    }
    both(host, &["apply", "80:3000"], "");
}

#[test]
fn of_interfaces() {
    let world = World::new();
    let host = &world.host;
    host.output(
        host.command("ip").args(["link", "add", SHORT, "type", "veth", "peer", "name", "other"]),
        "",
    );
    host.output(host.command("ip").args(["link", "set", SHORT, "up"]), "");
    host.output(host.command("ip").args(["address", "add", "203.0.113.1/24", "dev", SHORT]), "");
    host.portmap(["apply", "80:3000"]).run().succeeds();
    let rules = "ports: { 80: { to: 3000, interfaces: [other] } }";
    both(host, &["doctor", "--rules", "-"], rules);
    both(host, &["plan", "-"], rules);
    both(host, &["status"], "");
    both(host, &["doctor"], "");
}

#[test]
fn on_the_screen_of_who_watches() {
    let host = Namespace::new();
    let script = json!({ "nftables": [
        { "add": { "chain": { "family": "inet", "table": "portmap", "name": HOSTILE } } }] });
    host.portmap(["apply", "80:3000"]).run().succeeds();
    host.output(host.command("nft").args(["-j", "-f", "-"]), &script.to_string());
    let mut terminal = host.portmap(["status", "--watch"]).at_terminal();
    terminal.shows("\\u{1b}]0;x");
    terminal.press("q");
    let (_, screen) = terminal.ends();
    for code in ["\u{7}", "\u{1b}]", "\u{1b}[2J", "\u{9b}"] {
        assert!(!screen.contains(code), "{screen:?}");
    }
    let mut lines = host.portmap(["status", "--watch", "-ojson"]).at_terminal();
    lines.shows("[2J");
    lines.press("\x03");
    let (_, screen) = lines.ends();
    assert!(!screen.contains(['\u{7}', '\u{1b}', '\u{9b}']), "{screen:?}");
}
