//! `portmap trace`: the stories of real connections.

use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::schemas::{complaints, schema};
use crate::support::portmap::{Outcome, PROGRAM, Running};
use crate::support::{Namespace, NoAnswer, World, answer, skip, wait_until};

impl Namespace {
    /// Starts it, and returns when the tracing table is there.
    #[track_caller]
    fn trace(&self, arguments: &[&str]) -> Running {
        let trace = ["trace", "--timeout", "20s", "-o", "json"];
        let running = self.portmap(trace.iter().chain(arguments)).start();
        wait_until("the tracing table is there", || self.has_tracing_table());
        running
    }

    fn has_tracing_table(&self) -> bool {
        self.nft("list tables").contains("table inet portmap-trace-")
    }
}

/// The only story.
#[track_caller]
fn story(outcome: &Outcome) -> Value {
    let mut document = outcome.json();
    let schema = schema(&Namespace::new(), "trace");
    assert_eq!(complaints(&schema, &document), [""; 0], "{outcome}");
    assert_eq!(document["complete"], true, "{outcome}");
    let stories = document["stories"].as_array().unwrap();
    assert_eq!(stories.len(), 1, "{outcome}");
    document["stories"][0].take()
}

/// `input inet fw input`: where the request was, of the tables that are not portmap's.
fn path(story: &Value) -> Vec<String> {
    let events = story["events"].as_array().unwrap().iter();
    let foreign =
        events.filter(|event| event["table"] != "portmap" && event["packet"] == "request");
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    foreign
        .map(|e| format!("{}: {} {}", text(&e["hook"]), text(&e["chain"]), text(&e["verdict"])))
        .collect()
}

const FIREWALL: &str = "
table inet fw {
    chain web { tcp dport 8443 counter drop comment \"no tls today\"; }
    chain input {
        type filter hook input priority 0; policy accept;
        meta l4proto tcp jump web
        tcp dport 9000 reject with tcp reset
    }
}
table ip6 strict {
    chain input { type filter hook input priority 10; policy drop; tcp dport 3000 accept; }
}";

#[test]
fn a_connection_that_is_answered_tells_its_way() {
    let world = World::new();
    let host = &world.host;
    let _app = host.serve("app", 3000);
    host.apply("ports: { 80: 3000 }");
    host.nft_script(FIREWALL);
    let rules = host.ruleset();

    let trace = host.trace(&["80"]);
    // A direct connection, and one to another port: neither is traced.
    assert_eq!(world.client.tcp_ask("192.0.2.1:3000"), answer("app"));
    assert_eq!(world.client.tcp_ask("192.0.2.1:81"), Err(NoAnswer::Refused));
    assert_eq!(world.client.tcp_ask("192.0.2.1:80"), answer("app"));
    let story = story(&trace.wait().succeeds());
    assert_eq!((&story["outcome"], &story["from"]), (&json!("answered"), &json!("outside")));
    assert_eq!((&story["interface"], &story["port"]), (&json!("eth0"), &json!(80)));
    assert_eq!(story["reached"], json!({ "address": "192.0.2.1", "port": 3000 }));
    assert_eq!(path(&story), ["input: input jump", "input: input accept"]);
    assert_eq!((&story["because"], &story["help"]), (&Value::Null, &Value::Null));
    // The server is a thread of this test.
    assert_eq!(story["listeners"][0]["pid"], std::process::id());

    // The same over IPv6, and by a client on the host itself.
    let trace = host.trace(&[]);
    assert_eq!(world.client.tcp_ask("[2001:db8::1]:80"), answer("app"));
    let v6 = self::story(&trace.wait().succeeds());
    assert_eq!(
        (&v6["outcome"], &v6["client"]["address"]),
        (&json!("answered"), &json!("2001:db8::2"))
    );
    let last = path(&v6).pop();
    assert_eq!(last.as_deref(), Some("input: input accept"));

    let trace = host.trace(&[]);
    assert_eq!(host.tcp_ask("127.0.0.1:80"), answer("app"));
    let local = self::story(&trace.wait().succeeds());
    assert_eq!((&local["outcome"], &local["from"]), (&json!("answered"), &json!("here")));
    assert_eq!(path(&local), ["input: input jump", "input: input accept"]);
    assert_eq!(without_counts(&host.ruleset()), without_counts(&rules), "nothing is left");
}

/// A ruleset without what packets change.
fn without_counts(ruleset: &str) -> String {
    let words = ruleset.split(' ');
    words.map(|word| if word.parse::<u64>().is_ok() { "N" } else { word }).collect()
}

#[test]
fn the_rule_or_the_policy_that_drops_is_named() {
    let world = World::new();
    let host = &world.host;
    host.apply("ports: { 443: 8443, 80: 3001, 90: 9000 }");
    host.nft_script(FIREWALL);

    let trace = host.trace(&["443"]);
    // The client sends more than once before it gives up.
    assert_eq!(world.client.tcp_ask("192.0.2.1:443"), Err(NoAnswer::TimedOut));
    let dropped = story(&trace.wait().succeeds());
    assert_eq!(dropped["outcome"], "dropped");
    let because = &dropped["because"];
    assert_eq!((&because["table"], &because["chain"]), (&json!("fw"), &json!("web")));
    assert_eq!(because["rule"]["comment"], "no tls today");
    assert_eq!(because["rule"]["position"], 1);
    let help = dropped["help"].as_str().unwrap();
    assert!(
        help.contains("nft insert rule inet fw input meta l4proto tcp ct status dnat"),
        "{help}"
    );

    let trace = host.trace(&["80/tcp"]);
    assert_eq!(world.client.tcp_ask("[2001:db8::1]:80"), Err(NoAnswer::TimedOut));
    let policy = story(&trace.wait().succeeds());
    assert_eq!(policy["outcome"], "dropped");
    assert_eq!(
        policy["because"],
        json!({ "family": "ip6", "table": "strict", "chain": "input", "rule": null })
    );

    let trace = host.trace(&["90"]);
    assert_eq!(world.client.tcp_ask("192.0.2.1:90"), Err(NoAnswer::Refused));
    let rejected = story(&trace.wait().succeeds());
    assert_eq!(
        (&rejected["outcome"], &rejected["because"]["chain"]),
        (&json!("rejected"), &json!("input"))
    );
}

/// What the remedy says is what helps.
#[test]
fn the_remedy_can_be_typed() {
    let world = World::new();
    let host = &world.host;
    let _app = host.serve("app", 8443);
    host.apply("ports: { 443: 8443 }");
    host.nft_script(FIREWALL);
    let trace = host.trace(&[]);
    assert_eq!(host.tcp_ask("192.0.2.1:443"), Err(NoAnswer::TimedOut));
    let story = story(&trace.wait().succeeds());
    let help = story["help"].as_str().unwrap();
    let command = help.split('`').nth(1).and_then(|command| command.strip_prefix("sudo nft "));
    host.nft(command.expect(help));
    assert_eq!(world.client.tcp_ask("192.0.2.1:443"), answer("app"));
}

#[test]
fn refused_ignored_and_dropped_answers_are_told_apart() {
    let world = World::new();
    let host = &world.host;
    host.apply("ports: { 80: 3000, 53/udp: 5353, 81: 3001 }");

    let trace = host.trace(&["80"]);
    assert_eq!(world.client.tcp_ask("192.0.2.1:80"), Err(NoAnswer::Refused));
    let refused = story(&trace.wait().succeeds());
    assert_eq!(refused["outcome"], "refused");
    assert!(refused["help"].as_str().unwrap().contains("sport = 3000"));

    let trace = host.trace(&["53"]);
    assert_eq!(world.client.udp_ask("[2001:db8::1]:53"), Err(NoAnswer::Refused));
    assert_eq!(story(&trace.wait().succeeds())["outcome"], "refused");

    // One that does not take its connections: of a full queue, the kernel drops the SYN.
    let _listener = host.run(|| {
        let listener = TcpListener::bind("[::]:3001").unwrap();
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        listener
    });
    let waiting = world.client.run(|| std::net::TcpStream::connect("192.0.2.1:3001")).unwrap();
    let trace = host.trace(&["81"]);
    assert!(matches!(world.client.tcp_ask("192.0.2.1:81"), Err(NoAnswer::TimedOut)));
    assert_eq!(story(&trace.wait().succeeds())["outcome"], "ignored");
    drop(waiting);

    let _app = host.serve("app", 3000);
    host.nft_script(
        "table inet out { chain o { type filter hook output priority 0; tcp sport 3000 drop; }; }",
    );
    let trace = host.trace(&["80"]);
    assert_eq!(world.client.tcp_ask("192.0.2.1:80"), Err(NoAnswer::TimedOut));
    let dropped = story(&trace.wait().succeeds());
    assert_eq!(
        (&dropped["outcome"], &dropped["because"]["table"]),
        (&json!("answer-dropped"), &json!("out"))
    );
}

/// A flow keeps its translation, and is not news; a new one is.
#[test]
fn datagrams_of_a_flow_from_before_are_only_counted() {
    let world = World::new();
    let host = &world.host;
    let _app = host.serve("app", 5353);
    host.apply("ports: { 53/udp: 5353 }");
    let resolver = world.client.udp_client(4000, "192.0.2.1:53");
    assert_eq!(resolver.ask(), answer("app"));
    let trace = host.trace(&["53/udp"]);
    for _ in 0..3 {
        assert_eq!(resolver.ask(), answer("app"));
    }
    assert_eq!(world.client.udp_client(4001, "192.0.2.1:53").ask(), answer("app"));
    let outcome = trace.wait().succeeds();
    assert_eq!(outcome.json()["known"], 3, "{outcome}");
    let story = story(&outcome);
    assert_eq!((&story["outcome"], &story["client"]["port"]), (&json!("answered"), &json!(4001)));
}

/// Dropped before nftables' own rules would see it, by none of them.
#[test]
fn what_is_not_nftables_is_not_blamed_on_a_rule() {
    let world = World::new();
    let host = &world.host;
    host.apply("ports: { 80: 3000 }");
    let trace = host.trace(&[]);
    // From an address to which no answer could be routed: the strict reverse path filter.
    host.sysctl("net/ipv4/conf/eth0/rp_filter", "1");
    world.client.ip("address add 198.51.100.9/32 dev lo");
    world.client.run(|| {
        use nix::sys::socket::*;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
        bind(fd, &SockaddrIn::new(198, 51, 100, 9, 0)).unwrap();
        let _ = connect(fd, &SockaddrIn::new(192, 0, 2, 1, 80));
    });
    let story = story(&trace.wait().succeeds());
    assert_eq!(story["outcome"], "lost");
    assert!(story["help"].as_str().unwrap().contains("rp_filter"), "{story}");
}

/// The kernel traces no rules of legacy iptables; what they say is read all the same.
#[test]
fn a_rule_of_legacy_iptables_is_named_where_the_connection_is_lost() {
    let world = World::new();
    let (host, client) = (&world.host, &world.client);
    host.apply("ports: { 80: 3000 }");
    let _app = host.serve("app", 3000);
    let iptables = |words: &str| {
        let mut command = host.command("iptables-legacy");
        command
            .arg("-w")
            .args(words.split(' '))
            .output()
            .is_ok_and(|output| output.status.success())
    };
    for target in ["DROP", "REJECT --reject-with tcp-reset"] {
        if !iptables(&format!("-A INPUT -p tcp --dport 3000 -j {target}")) {
            skip("there is no legacy iptables here");
            return;
        }
        let trace = host.trace(&[]);
        client.run(|| {
            let to = "192.0.2.1:80".parse().unwrap();
            let _ = std::net::TcpStream::connect_timeout(&to, Duration::from_millis(300));
        });
        let story = story(&trace.wait().succeeds());
        assert_eq!(story["outcome"], "lost", "{story}");
        let help = story["help"].as_str().unwrap();
        assert!(help.contains("iptables-legacy table filter, chain INPUT, rule 1"), "{help}");
        let (_, command) = help.split_once("`sudo iptables-legacy ").expect("what to type");
        assert!(iptables(command.trim_end_matches('`')), "{help}");
        assert!(client.tcp_ask("192.0.2.1:80").is_ok(), "{help}");
        assert!(iptables("-F"));
    }
}

#[test]
fn without_a_connection_it_ends_in_time_and_says_what_to_try() {
    let host = Namespace::new();
    host.portmap(["trace"]).run().fails_with(1).says("nothing is mapped").says("portmap trace 80");
    host.portmap(["trace", "80000"]).run().fails_with(64).says("ports are numbers");
    let trace = host.portmap(["trace", "--timeout", "50ms", "80", "53/udp"]).run();
    trace.fails_with(1).says("no new connection to 80/tcp, 53/udp").says("from another machine");
    let trace = host.portmap(["trace", "--timeout", "50ms", "80", "-o", "json"]).run();
    assert_eq!(trace.fails_with(1).json()["stories"], json!([]));
    assert!(!host.has_tracing_table());
    let unprivileged = host.portmap_unprivileged(["trace", "80"]).run();
    unprivileged.fails_with(1).says("CAP_NET_ADMIN");
}

#[test]
fn several_stories_are_told_in_text_and_a_reader_may_leave() {
    let world = World::new();
    let host = &world.host;
    let _app = host.serve("app", 3000);
    host.apply("ports: { 80: 3000 }");
    let trace = host.portmap(["trace", "--count", "2", "80"]).start();
    wait_until("the tracing table is there", || host.has_tracing_table());
    assert_eq!(world.client.tcp_ask("192.0.2.1:80"), answer("app"));
    assert_eq!(host.tcp_ask("[::1]:80"), answer("app"));
    let outcome = trace.wait().succeeds().says("waiting for a new connection to 80/tcp");
    let heads: Vec<_> = outcome.stdout.lines().filter(|l| !l.starts_with(' ')).collect();
    assert_eq!(heads.len(), 2, "{outcome}");
    assert!(heads[0].contains("to 192.0.2.1:80, by eth0"), "{outcome}");
    assert!(heads[1].contains("to [::1]:80, from this machine"), "{outcome}");
    assert!(outcome.stdout.contains("  translated    to port 3000\n"), "{outcome}");
    assert!(outcome.stdout.contains(&format!("(pid {}) on 192.0.2.1:3000\n", std::process::id())));
}

/// A packet that is marked already is shown by the kernel before the rule that marks it again.
#[test]
fn who_else_traces_a_connection_takes_nothing_away() {
    let world = World::new();
    let host = &world.host;
    let _app = host.serve("app", 3000);
    host.apply("ports: { 80: 3000 }");
    let tables = || host.nft("list tables").matches("portmap-trace-").count();
    for from_here in [false, true] {
        let traces: Vec<_> = (1..=3)
            .map(|number| {
                let trace = ["trace", "--timeout", "20s", "-o", "json", "80"];
                let running = host.portmap(trace).start();
                wait_until("the tracing table is there", || tables() == number);
                running
            })
            .collect();
        match from_here {
            true => assert_eq!(host.tcp_ask("127.0.0.1:80"), answer("app")),
            false => assert_eq!(world.client.tcp_ask("192.0.2.1:80"), answer("app")),
        }
        for trace in traces {
            let story = story(&trace.wait().succeeds());
            assert_eq!(story["outcome"], "answered");
            assert!(!story.to_string().contains("portmap-trace-"), "{story}");
        }
    }
    host.nft_script(
        "table netdev other {
            chain c { type filter hook ingress device \"eth0\" priority 0; meta nftrace set 1; }
        }
        table inet other {
            chain c { type filter hook output priority -600; meta nftrace set 1; }
        }",
    );
    let trace = host.trace(&["80"]);
    assert_eq!(world.client.tcp_ask("192.0.2.1:80"), answer("app"));
    assert_eq!(story(&trace.wait().succeeds())["outcome"], "answered");
    let trace = host.trace(&["80"]);
    assert_eq!(host.tcp_ask("127.0.0.1:80"), answer("app"));
    assert_eq!(story(&trace.wait().succeeds())["outcome"], "answered");
}

/// Whatever ends it, nothing of it stays.
#[test]
fn nothing_is_left_behind_by_any_end() {
    let host = Namespace::new();
    host.apply("ports: { 80: 3000 }");
    let by_kernel = || {
        let mut trace = host.command(PROGRAM);
        trace.args(["trace", "80"]).stdout(Stdio::null()).stderr(Stdio::null());
        trace.env("PORTMAP_STATE_DIR", host.dir().join("state")).spawn().unwrap()
    };
    let ends = |mut trace: Child, signal: Signal| {
        wait_until("the tracing table is there", || host.has_tracing_table());
        kill(Pid::from_raw(trace.id() as i32), signal).unwrap();
        let code = trace.wait().unwrap().code();
        wait_until("the table goes with the process", || !host.has_tracing_table());
        code
    };
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        assert_eq!(ends(by_kernel(), signal), Some(1), "{signal}");
        ends(host.start_on_old_kernel(&["trace", "80"]), signal);
    }
    if host.has_owners() {
        assert_eq!(ends(by_kernel(), Signal::SIGKILL), None);
    }
    // Two at the same time.
    let (one, two) =
        (host.trace(&["80"]), host.portmap(["trace", "--timeout", "1s", "80"]).start());
    two.wait().fails_with(1);
    assert!(host.has_tracing_table(), "the other one's is still there");
    assert_eq!(host.tcp_ask("127.0.0.1:80"), Err(NoAnswer::Refused));
    one.wait().succeeds();
}

/// Before Linux 5.12.
#[test]
fn what_a_killed_trace_leaves_over_is_said_and_removed() {
    let host = Namespace::new();
    host.apply("ports: { 90: 3000 }");
    host.nft("add table inet portmap-trace-5; add chain inet portmap-trace-5 c");
    let start = || {
        // Of a port that nobody connects to.
        let trace = host.start_on_old_kernel(&["trace", "81", "--timeout", "60s"]);
        let table = format!("portmap-trace-{}", trace.id());
        wait_until("the tracing table is there", || host.nft("list tables").contains(&table));
        (trace, table)
    };
    let is_there = |table: &str| host.nft("list tables").lines().any(|line| line.ends_with(table));
    let kill = |mut trace: Child| {
        trace.kill().unwrap();
        trace.wait().unwrap();
    };
    let (living, of_living) = start();
    let rules = host.file("rules.yaml", "ports: { 90: 3000 }");
    for (command, code) in [
        (&["apply", rules.to_str().unwrap()][..], 0),
        (&["run", "80:8001", "--user", "root", "--", "true"], 0),
        (&["trace", "80", "--timeout", "1ms"], 1),
        (&["doctor", "--probe", "--yes", "80"], 1),
        (&["clear"], 0),
    ] {
        let (trace, table) = start();
        let left_over = || {
            let status = host.status();
            let traces = status["traces"].as_array().unwrap().iter();
            let left = traces.filter(|trace| trace["left_over"] == true);
            left.map(|trace| trace["table"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(left_over(), [""; 0]);
        kill(trace);
        assert_eq!(left_over(), [&*table]);
        let status = host.portmap(["status"]).run().succeeds();
        let status = status.says(&format!("{table} is left over"));
        status.says("`nft delete table inet portmap-trace-5`");
        let done = host.portmap(command).run().fails_with(code);
        done.says(&format!("{table} is removed"));
        assert!(!is_there(&table), "{command:?}");
        assert!(is_there(&of_living) && is_there("portmap-trace-5"), "{command:?}");
    }
    kill(living);
}

/// Before Linux 5.12 no table has an owner; then the tracer removes it.
#[test]
fn without_an_owner_the_table_is_removed_all_the_same() {
    use portmap::kernel::trace::Tracer;
    use portmap::mapping::{Port, Protocol, Service};
    let host = Namespace::new();
    host.run(|| {
        let service = Service { protocol: Protocol::Sctp, port: Port::new(80).unwrap() };
        let tracer = Tracer::open_without_owner(&[service]).unwrap();
        let second = Tracer::open(&[service]).unwrap();
        assert_ne!(tracer.table(), second.table());
        let listing = host.nft("list tables");
        for tracer in [&tracer, &second] {
            assert!(listing.contains(&tracer.table().to_string()), "{listing}");
        }
    });
    assert!(!host.has_tracing_table());
}

/// Rules as these programs make them; what lets the connection in is a command of theirs.
#[test]
fn who_keeps_the_firewall_is_told_in_its_own_words() {
    let world = World::new();
    let host = &world.host;
    let _app = host.serve("app", 3000);
    host.apply("ports: { 80: 3000 }");
    let rules = host.table();
    let drop = ["-A", "INPUT", "-p", "tcp", "--dport", "3000", "-j", "DROP"];
    for (file, help) in [
        ("ufw-ssh-and-80.v4", "with ufw: `sudo ufw allow 3000/tcp`"),
        ("firewalld-without-dnat.nft", "`sudo firewall-cmd --add-port=3000/tcp`"),
        ("", "with iptables: `sudo iptables -I INPUT 1 -p tcp -m conntrack --ctstate DNAT"),
    ] {
        host.nft_script(&format!("flush ruleset\n{rules}"));
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/firewalls").join(file);
        match file.rsplit_once('.') {
            Some((_, "nft")) => host.nft_script(&std::fs::read_to_string(path).unwrap()),
            Some(_) => {
                let text = std::fs::read_to_string(path).unwrap();
                host.output(host.command("iptables-nft-restore").arg("-n"), &text);
            }
            None => {
                host.output(host.command("iptables-nft").args(drop), "");
            }
        }
        let trace = host.trace(&["80"]);
        assert!(world.client.tcp_ask("192.0.2.1:80").is_err(), "{file}");
        let story = story(&trace.wait().succeeds());
        assert!(story["help"].as_str().unwrap().contains(help), "{file}: {story}");
    }
}
