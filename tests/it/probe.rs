//! The probe: real connections from here and from a client that it makes itself.

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::schemas::{complaints, schema};
use crate::support::portmap::PROGRAM;
use crate::support::{Listen, Namespace, World, wait_until};

impl Namespace {
    /// `outside 192.0.2.1: refused`, for each path; and the document.
    #[track_caller]
    fn probe(&self, arguments: &[&str], code: i32) -> (Vec<String>, Value) {
        let probe = ["doctor", "--probe", "--yes", "-o", "json"];
        let outcome = self.portmap(probe.iter().chain(arguments)).run().fails_with(code);
        let document = outcome.json();
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        let paths = document["paths"].as_array().unwrap().iter();
        let paths = paths.map(|path| {
            let (from, to) = (text(&path["from"]), text(&path["address"]));
            format!("{from} {to}: {}", text(&path["got"]))
        });
        (paths.collect(), document.clone())
    }

    fn has_traces_of_a_probe(&self) -> bool {
        self.nft("list tables").contains("portmap-trace-")
            || self.ip("link show").contains("portmap-probe")
    }
}

/// The summary of the path that begins so.
fn summary<'d>(document: &'d Value, from: &str, address: &str) -> &'d str {
    let paths = document["paths"].as_array().unwrap();
    let path = paths.iter().find(|path| path["from"] == from && path["address"] == address);
    path.unwrap()["summary"].as_str().unwrap()
}

#[test]
fn a_probe_tells_what_each_client_gets_and_why() {
    let world = World::new();
    let host = &world.host;
    let _app = host.serve("app", 3000);
    host.apply("ports: { 80: 3000 }");
    let links = host.ip("link show");
    let (paths, document) = host.probe(&["80"], 0);
    assert_eq!(
        paths,
        [
            "here 127.0.0.1: answered",
            "here ::1: answered",
            "here 192.0.2.1: answered",
            "here 2001:db8::1: answered",
            "outside 192.0.2.1: answered",
            "outside 2001:db8::1: answered",
        ]
    );
    assert_eq!(document["served"], true);
    assert!(!host.has_traces_of_a_probe());
    assert_eq!(host.ip("link show"), links);

    // Dropped for those outside only, by a rule and by a policy.
    host.nft_script(
        "table inet fw { chain input {
            type filter hook input priority 0; policy drop;
            iif lo accept
            meta nfproto ipv4 tcp dport 3000 drop comment \"closed\"
            icmpv6 type != echo-request accept
        }; }",
    );
    let (paths, document) = host.probe(&["80"], 1);
    assert_eq!(paths[3], "here 2001:db8::1: answered");
    assert_eq!(paths[4..], ["outside 192.0.2.1: silence", "outside 2001:db8::1: silence"]);
    let by_rule = summary(&document, "outside", "192.0.2.1");
    assert!(
        by_rule.starts_with("dropped by rule 2 (meta nfproto ipv4 tcp dport 3000 drop"),
        "{by_rule}"
    );
    let by_policy = summary(&document, "outside", "2001:db8::1");
    assert!(by_policy.starts_with("dropped by the policy of table inet fw"), "{by_policy}");
    let help = document["paths"][4]["help"].as_str().unwrap();
    assert!(help.contains("ct original proto-dst 80 accept"), "{help}");
    // Beside it is what was to be expected.
    let expected = |path: &Value| {
        let word = |key: &str| path["expected"][key].as_str().unwrap_or("-").to_owned();
        assert_eq!(path["surprising"], false, "{path}");
        [word("answer"), word("because")].join(" ")
    };
    let expected: Vec<_> = document["paths"].as_array().unwrap().iter().map(expected).collect();
    assert_eq!(expected[..4], ["yes -"; 4]);
    assert_eq!(expected[4..], ["no firewall-blocks"; 2]);
    assert_eq!(document["healthy"], false);
    let complaints = complaints(&schema(host, "probe"), &document);
    assert!(complaints.is_empty(), "{complaints:#?}");
    let text = host.portmap(["doctor", "--probe", "--yes", "80"]).run().fails_with(1).stdout;
    assert!(text.contains("EXPECTED") && text.contains("no: firewall-blocks"), "{text}");
}

/// A rule that asks for the interface by which real clients come, and the probe does not.
#[test]
fn where_a_probe_and_the_rules_disagree_both_are_shown() {
    let world = World::new();
    let host = &world.host;
    let _app = host.serve("app", 3000);
    host.apply("ports: { 80: { to: 3000, scope: external, families: [ipv4] } }");
    host.nft_script(
        "table inet fw { chain input { type filter hook input priority 0; iifname eth0 drop; }; }",
    );
    let (paths, document) = host.probe(&["80"], 1);
    assert_eq!(paths, ["outside 192.0.2.1: answered"]);
    let path = &document["paths"][0];
    assert_eq!(path["expected"]["answer"], "no");
    assert_eq!(path["surprising"], true);
    let outcome = host.portmap(["doctor", "--probe", "--yes", "80"]).run().fails_with(1);
    outcome.says("80/tcp to 192.0.2.1 from outside: expected `no: firewall-blocks`");
}

#[test]
fn programs_that_answer_only_some_are_told_apart() {
    let world = World::new();
    let host = &world.host;
    let _app = host.serve_at("app", &[Listen::Tcp("127.0.0.1:3000"), Listen::Udp("[::]:5353")]);
    let _idle = host.run(|| TcpListener::bind("192.0.2.1:3001").unwrap());
    host.apply(
        "ports: { 80: 3000, 53/udp: 5353, 81: { to: 3001, families: [ipv4], scope: external } }",
    );

    let (paths, document) = host.probe(&["80"], 1);
    assert_eq!(paths[0], "here 127.0.0.1: answered");
    assert_eq!(paths[4], "outside 192.0.2.1: refused");
    let refused = summary(&document, "outside", "192.0.2.1");
    assert_eq!(refused, "refused: nobody listens on 192.0.2.1:3000");

    // Only the paths for which the mapping is meant.
    let (paths, document) = host.probe(&["81"], 1);
    assert_eq!(paths, ["outside 192.0.2.1: not-taken"]);
    assert!(summary(&document, "outside", "192.0.2.1").contains("has not taken it"));

    let (paths, _) = host.probe(&["53/udp"], 0);
    assert!(paths.iter().all(|path| path.ends_with(": answered")), "{paths:?}");
}

/// The others wait in its queue while it is busy with one.
#[test]
fn a_program_that_serves_one_client_at_a_time_is_found_healthy() {
    let world = World::new();
    let host = &world.host;
    let listener = host.run(|| TcpListener::bind("[::]:3000").unwrap());
    thread::spawn(move || {
        for client in listener.incoming() {
            let _ = client.unwrap().read(&mut [0]);
        }
    });
    host.apply("ports: { 80: 3000, 81: { to: 3000, scope: local } }");
    let (paths, document) = host.probe(&[], 0);
    assert_eq!(paths.len(), 10);
    assert!(paths.iter().all(|path| path.ends_with(": answered")), "{document}");
    let said = host.portmap(["doctor", "--probe", "--yes", "80"]).run().succeeds();
    assert!(said.stdout.contains("from a network namespace of its own"), "{said}");
    // Nobody is tried from outside where the mapping is for nobody there.
    let said = host.portmap(["doctor", "--probe", "--yes", "81"]).run().succeeds();
    assert!(said.stdout.contains("all from this machine"), "{said}");
    assert!(!said.stderr.contains("the client outside"), "{said}");
}

#[test]
fn it_asks_first_and_says_what_it_cannot_show() {
    let world = World::new();
    let host = &world.host;
    let _app = host.serve("app", 3000);
    host.portmap(["doctor", "--probe"]).run().fails_with(1).says("nothing is mapped");
    host.apply("ports: [{ port: 80, to: 3000, sources: [203.0.113.0/24] }]");
    host.portmap(["doctor", "--probe"]).run().fails_with(64).says("--yes");
    let mut terminal = host.portmap(["doctor", "--probe"]).at_terminal();
    terminal.shows("Connect? [y/N]");
    terminal.press("n\n");
    terminal.shows("nothing was tried");
    assert_eq!(terminal.ends().0, Some(1));
    let outcome = host.portmap(["doctor", "--probe", "--yes"]).run().succeeds();
    outcome.says("80/tcp: some mappings are for interfaces or sources that a probe does not have");
    host.portmap_unprivileged(["doctor", "--probe", "--yes"])
        .run()
        .fails_with(1)
        .says("CAP_NET_ADMIN");
}

/// The namespace, the pair and the tracing table go with the process, whatever ends it.
#[test]
fn nothing_of_a_probe_outlives_its_process() {
    let world = World::new();
    let host = &world.host;
    host.apply("ports: { 80: 3000 }");
    host.nft_script(
        "table inet fw { chain input { type filter hook input priority 0; tcp dport 3000 drop; }; }",
    );
    let words = ["doctor", "--probe", "--yes"];
    let by_kernel = || {
        let mut probe = host.command(PROGRAM);
        probe.args(words).stdout(Stdio::null()).stderr(Stdio::null());
        probe.env("PORTMAP_STATE_DIR", host.dir().join("state")).spawn().unwrap()
    };
    let goes = |start: &dyn Fn() -> Child, signal: Signal| {
        // On a busy machine a probe can be over before its interface is noticed here: once more then.
        let is_killed = (0..10).any(|_| {
            let mut probe = start();
            wait_until("the probe has its interface, or is over", || {
                let is_there = host.ip("link show").contains("portmap-probe");
                is_there || probe.try_wait().unwrap().is_some()
            });
            // It has not been waited for, so its number is nobody else's, unless it is over.
            if probe.try_wait().unwrap().is_none() {
                kill(Pid::from_raw(probe.id() as i32), signal).unwrap();
            }
            probe.wait().unwrap().signal() == Some(signal as i32)
        });
        assert!(is_killed, "no probe was killed by {signal}");
        wait_until("everything goes with the process", || !host.has_traces_of_a_probe());
    };
    goes(&by_kernel, Signal::SIGTERM);
    goes(&|| host.start_on_old_kernel(&words), Signal::SIGTERM);
    if host.has_owners() {
        goes(&by_kernel, Signal::SIGKILL);
    }
}
