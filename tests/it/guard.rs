//! `portmap guard`: the table is put back when another program removes or changes it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portmap::kernel::{Kernel, Netlink};
use serde_json::{Value, json};

use crate::schemas::{complaints, schema};
use crate::support::net::TcpConnection;
use crate::support::portmap::PROGRAM;
use crate::support::{Namespace, PATIENCE, World, answer, wait_until};

const RULES: &str = "ports: { 80: 3000, 53/udp: 5353 }";

/// A guard, and what it says: one document for each event. It is ended when this is dropped.
pub struct Guard {
    pub child: Child,
    pub events: Receiver<Value>,
}

impl Namespace {
    pub fn guard_command(&self) -> Command {
        let mut command = self.command(PROGRAM);
        self.mount_own(&mut command);
        command.env("PORTMAP_STATE_DIR", self.dir().join("state")).env_remove("NOTIFY_SOCKET");
        command.args(["-o", "json", "guard"]).stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    /// Starts one, and returns when it has said of what it sees that it is `event`.
    #[track_caller]
    fn guard(&self, event: &str) -> Guard {
        let guard = Guard::start(&mut self.guard_command());
        assert_eq!(guard.next()["event"], event);
        guard
    }

    fn has_table(&self) -> bool {
        self.run(|| Netlink::open().and_then(|mut kernel| kernel.stamp())).unwrap().is_some()
    }
}

impl Guard {
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, events) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                assert!(!line.contains(char::is_control), "{line:?}");
                let event = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
                // Nobody receives if the test has given up.
                let _ = send.send(event);
            }
        });
        Self { child, events }
    }

    #[track_caller]
    pub fn next(&self) -> Value {
        self.events.recv_timeout(PATIENCE).expect("the guard says something")
    }

    #[track_caller]
    fn puts_back(&self, generation: u64) -> Value {
        let event = self.next();
        let seen = (&event["event"], &event["generation"]);
        assert_eq!(seen, (&json!("put-back"), &json!(generation)), "{event}");
        event
    }

    /// Nothing is said for so long, which is many times what a repair takes.
    #[track_caller]
    fn is_silent(&self) {
        let event = self.events.recv_timeout(Duration::from_millis(500));
        assert!(event.is_err(), "{event:?}");
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    #[track_caller]
    pub fn ends(mut self) {
        self.child.wait().unwrap();
    }

    /// A number of its `/proc/PID/status`.
    fn figure(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.split(':').next() == Some(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is in the table, whatever was made first, and without what is counted.
fn lines(host: &Namespace) -> Vec<String> {
    let layout = host.layout();
    let mut lines: Vec<_> = layout.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn what_another_program_removes_or_changes_is_put_back() {
    let world = World::new();
    let (host, client) = (&world.host, &world.client);
    let _app = host.serve("app", 3000);
    host.apply("ports: { 80: 4000 }");
    let older = host.ruleset();
    host.apply(RULES);
    let whole = lines(host);
    let guard = host.guard("guarding");
    let schema = schema(host, "guard");
    for damage in [
        "flush ruleset",
        "delete table inet portmap",
        "flush table inet portmap",
        "delete element inet portmap ports { tcp . 80 }",
        "flush chain inet portmap prerouting",
        "add rule inet portmap output tcp dport 9999 drop",
        "add chain inet portmap strange",
        "add element inet portmap ports { tcp . 81 : 3001 }",
        "add table inet portmap { flags dormant; }",
    ] {
        host.nft(damage);
        let event = guard.puts_back(2);
        assert_eq!(complaints(&schema, &event), [""; 0], "{damage}: {event}");
        assert_eq!(event["by"]["name"], "nft", "{damage}: {event}");
        let is_gone = damage.starts_with("delete table") || damage == "flush ruleset";
        assert_eq!(event["damage"].is_null(), is_gone, "{damage}: {event}");
        assert_eq!(lines(host), whole, "{damage}");
        assert_eq!(client.tcp_ask("192.0.2.1:80"), answer("app"), "{damage}");
    }
    // A ruleset that was saved long ago, and is loaded as nftables.service does.
    host.nft_script(&format!("flush ruleset\n{older}"));
    guard.puts_back(2);
    assert_eq!(lines(host), whole);
    assert_eq!(host.states(), ["1 past", "2 active"]);

    let status = host.status();
    assert_eq!(status["guard"]["pid"], guard.pid(), "{status}");
    assert!(status["guard"]["last_repair"].is_string(), "{status}");
    let text = host.portmap(["status"]).run().succeeds().stdout;
    assert!(text.contains(&format!("guarded: process {} has put", guard.pid())), "{text}");
    let metrics = host.portmap(["status", "-o", "prometheus"]).run().succeeds().stdout;
    assert!(metrics.contains("\nportmap_guarded 1\n"), "{metrics}");
    drop(guard);
    assert_eq!(host.status()["guard"], Value::Null);
    assert!(!host.ruleset().contains("portmap-guard"), "{}", host.ruleset());
}

#[test]
fn the_name_of_a_program_does_not_act_on_the_terminal() {
    let host = Namespace::new();
    host.apply(RULES);
    let guard = host.guard("guarding");
    let nft = host.output(host.command("sh").args(["-c", "command -v nft"]), "");
    let name = "\u{1b}[2J\n<0>x";
    let nft = host.executable(nft.trim_end(), name);
    host.output(host.command(nft).args(["flush", "ruleset"]), "");
    let event = guard.puts_back(1);
    assert_eq!(event["by"]["name"], name, "{event}");
}

/// How soon, `make bench` measures. `PORTMAP_FLUSHES=500` for more of them: then they are a second apart, so that they are not taken
/// for the work of a program that never stops.
#[test]
fn every_flush_is_mended() {
    let host = Namespace::new();
    host.apply(RULES);
    let guard = host.guard("guarding");
    let flushes = std::env::var("PORTMAP_FLUSHES").map_or(50, |n| n.parse().unwrap());
    for _ in 0..flushes {
        if flushes > 50 {
            thread::sleep(Duration::from_millis(1050));
        }
        host.nft("flush ruleset");
        guard.puts_back(1);
        assert!(host.has_table(), "it is back when the guard says so");
    }
}

/// How often the connection was answered.
fn ask_until(connection: &mut TcpConnection, stop: &AtomicBool) -> u32 {
    let mut asked = 0;
    while !stop.load(Ordering::Relaxed) {
        assert_eq!(connection.ask(), answer("web"), "after {asked} questions");
        asked += 1;
    }
    asked
}

#[test]
fn no_established_connection_is_cut_and_udp_goes_on() {
    let world = World::new();
    let (host, client) = (&world.host, &world.client);
    if !host.has_owners() {
        host.apply(RULES);
        let said = host.dir().join("said");
        let mut guard = host.command(PROGRAM);
        guard.arg("guard").env("PORTMAP_STATE_DIR", host.dir().join("state"));
        let mut guard = guard.stderr(fs::File::create(&said).unwrap()).spawn().unwrap();
        wait_until("it says so", || {
            fs::read_to_string(&said).unwrap().contains("may be reset while the mapping is gone")
        });
        guard.kill().unwrap();
        guard.wait().unwrap();
        return;
    }
    let _web = host.serve("web", 3000);
    let _dns = host.serve("dns", 5353);
    host.apply(RULES);
    let guard = host.guard("guarding");
    let mut connections: Vec<_> = ["192.0.2.1:80", "[2001:db8::1]:80"]
        .map(|to| client.tcp_connect(to).unwrap())
        .into_iter()
        .chain(["127.0.0.1:80", "[::1]:80"].map(|to| host.tcp_connect(to).unwrap()))
        .collect();
    let udp = client.udp_client(4000, "192.0.2.1:53");
    assert_eq!(udp.ask(), answer("dns"));
    let stop = AtomicBool::new(false);
    let asked = thread::scope(|scope| {
        let stop = &stop;
        let threads: Vec<_> =
            connections.iter_mut().map(|c| scope.spawn(move || ask_until(c, stop))).collect();
        for damage in ["flush ruleset", "delete element inet portmap ports { udp . 53 }"].repeat(10)
        {
            host.nft(damage);
            guard.puts_back(1);
        }
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>()
    });
    assert!(asked > 100, "{asked} questions");
    assert_eq!(udp.ask(), answer("dns"));
}

#[test]
fn what_a_portmap_does_is_not_undone() {
    let host = Namespace::new();
    let guard = host.guard("idle");
    host.apply(RULES);
    assert_eq!(guard.next()["generation"], 1);
    for round in 0..5 {
        host.apply(&format!("ports: {{ 80: {} }}", 4000 + round));
        assert_eq!(guard.next()["event"], "guarding");
    }
    host.portmap(["rollback"]).run().succeeds();
    assert_eq!(guard.next()["generation"], 7);
    host.portmap(["clear"]).run().succeeds();
    assert_eq!(guard.next()["event"], "idle");
    host.nft("flush ruleset");
    guard.is_silent();
    assert_eq!(host.ruleset(), "");

    host.apply(RULES);
    assert_eq!(guard.next()["event"], "guarding");
    host.portmap(["clear", "--no-history"]).run().succeeds();
    assert_eq!(guard.next()["event"], "idle");
    guard.is_silent();
    assert!(!host.has_table());

    // One with a history of its own, and one without.
    host.apply(RULES);
    assert_eq!(guard.next()["event"], "guarding");
    let other = host.dir().join("other");
    let apply = ["--state-dir", other.to_str().unwrap(), "apply", "80:5000"];
    host.portmap(apply).run().succeeds();
    host.portmap(["apply", "--no-history", "80:6000"]).run().succeeds();
    assert_eq!(guard.next()["event"], "unrecorded");
    guard.is_silent();
    assert_eq!(host.status()["mappings"][0]["to"], 6000);
    host.nft("flush ruleset");
    let lost = guard.next();
    assert_eq!((&lost["event"], &lost["by"]["name"]), (&json!("lost"), &json!("nft")), "{lost}");
}

#[test]
fn a_trial_is_not_disturbed() {
    let world = World::new();
    let (host, client) = (&world.host, &world.client);
    let (_old, _new) = (host.serve("old", 3000), host.serve("new", 4000));
    host.apply("ports: { 80: 3000 }");
    let guard = host.guard("guarding");
    let start = |time: &str| {
        host.portmap(["apply", "--confirm", time, "80:4000"]).run().succeeds();
    };
    let left = || host.status()["trial"]["left_seconds"].as_f64().unwrap();
    start("60s");
    guard.is_silent();
    for damage in ["flush chain inet portmap output", "add chain inet portmap strange"] {
        let before = left();
        host.nft(damage);
        guard.puts_back(1);
        let after = left();
        assert!(after <= before && after > before - 10.0, "{damage}: {before} s, {after} s");
        assert_eq!(client.tcp_ask("192.0.2.1:80"), answer("new"), "{damage}");
    }
    host.portmap(["confirm"]).run().succeeds();
    assert_eq!(guard.next()["generation"], 2);
    host.nft("flush ruleset");
    guard.puts_back(2);
    assert_eq!(client.tcp_ask("192.0.2.1:80"), answer("new"));

    host.portmap(["rollback"]).run().succeeds();
    assert_eq!(guard.next()["event"], "guarding");
    start("2s");
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(client.tcp_ask("192.0.2.1:80"), answer("old"), "its time is up");
    host.nft("flush ruleset");
    guard.puts_back(3);
    assert_eq!(client.tcp_ask("192.0.2.1:80"), answer("old"));
    start("60s");
    host.nft("flush ruleset");
    guard.puts_back(3);
    assert_eq!(client.tcp_ask("192.0.2.1:80"), answer("old"), "without its table it is over");
}

#[test]
fn who_never_stops_is_named_and_answered_ever_more_seldom() {
    let host = Namespace::new();
    host.apply(RULES);
    let guard = host.guard("guarding");
    let mut hostile = host.command("sh");
    hostile.args(["-c", "while :; do nft flush ruleset; done"]);
    let mut hostile = hostile.spawn().unwrap();
    let mut repairs = 0;
    let backing_off = loop {
        let event = guard.next();
        match event["event"].as_str().unwrap() {
            "put-back" => repairs += 1,
            "backing-off" | "failed" => break event,
            other => panic!("{other}: {event}"),
        }
    };
    assert!(repairs <= 60, "{repairs}");
    assert_eq!(backing_off["event"], "backing-off", "{backing_off}");
    assert_eq!(backing_off["by"]["name"], "nft", "{backing_off}");
    assert_eq!(backing_off["next_attempt_seconds"], 1.0, "{backing_off}");
    assert!(backing_off["message"].as_str().unwrap().contains("keeps removing"), "{backing_off}");
    let waits = |wait: f64| {
        let events = std::iter::repeat_with(|| guard.next());
        let mut events = events.filter(|event| event["event"] != "put-back");
        events.next().unwrap()["next_attempt_seconds"] == wait
    };
    assert!(waits(2.0));
    // While it waits, it has nothing to do.
    let before = guard.figure("voluntary_ctxt_switches");
    thread::sleep(Duration::from_millis(500));
    assert!(guard.figure("voluntary_ctxt_switches") <= before + 1);
    hostile.kill().unwrap();
    hostile.wait().unwrap();
    wait_until("the table is back", || host.has_table());
}

#[test]
fn a_guard_costs_nothing_while_nothing_happens() {
    let host = Namespace::new();
    host.apply(RULES);
    let guard = host.guard("guarding");
    host.nft("flush ruleset");
    guard.puts_back(1);
    let woken = || {
        let switches = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"];
        switches.map(|name| guard.figure(name))
    };
    // It may have to do with the repair for a while. Who looks at something every second would never
    // sleep for so long.
    wait_until("it sleeps for two seconds", || {
        let before = woken();
        thread::sleep(Duration::from_secs(2));
        woken() == before
    });
    // Without the pages of the program itself, of which an unoptimised one has more. tests/boot
    // looks at all of it.
    let anonymous = guard.figure("RssAnon");
    assert!(anonymous < 2048, "{anonymous} KiB");
}

#[test]
fn lost_messages_lead_to_a_look() {
    let host = Namespace::new();
    host.apply(RULES);
    let guard = host.guard("guarding");
    guard.kill(Signal::SIGSTOP);
    host.nft("flush ruleset");
    // Far more messages than there is room for.
    let ports = |port: u32| format!("{port} : {}", port + 1);
    let elements: Vec<_> = (1..60_000).map(ports).collect();
    host.nft_script(&format!(
        "table inet other {{ map many {{ type inet_service : inet_service; elements = {{ {} }}; }}; }}",
        elements.join(", ")
    ));
    guard.kill(Signal::SIGCONT);
    let event = guard.puts_back(1);
    assert_eq!(event["by"], Value::Null, "the message of who it was is lost: {event}");
    // From then on it hears again.
    host.nft("flush ruleset");
    assert_eq!(guard.puts_back(1)["by"]["name"], "nft");
}

#[test]
fn a_service_manager_is_told_what_it_does() {
    let host = Namespace::new();
    host.apply(RULES);
    let path = host.dir().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut bytes = [0; 4096];
        let len = socket.recv(&mut bytes).expect("it tells something");
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    };
    let guard = Guard::start(host.guard_command().env("NOTIFY_SOCKET", &path));
    assert_eq!(hear(), "STATUS=guarding generation 1: 2 mappings\n");
    assert_eq!(hear(), "READY=1\n");
    host.nft("flush ruleset");
    let status = hear();
    let told = status.strip_prefix("STATUS=nft (pid ").unwrap_or_else(|| panic!("{status}"));
    assert!(told.contains(") removed table inet portmap: put back generation 1, in "), "{status}");
    guard.kill(Signal::SIGTERM);
    assert_eq!(hear(), "STOPPING=1\n");
    let mut guard = guard;
    assert_eq!(guard.child.wait().unwrap().code(), Some(0));
}

#[test]
fn one_guard_is_enough_and_it_needs_a_privilege() {
    let host = Namespace::new();
    host.apply(RULES);
    let guard = host.guard("guarding");
    let second = host.portmap(["guard"]).run().fails_with(1);
    second.says(&format!("process {} (portmap) guards the table already", guard.pid()));
    host.portmap_unprivileged(["guard"]).run().fails_with(1).says("CAP_NET_ADMIN");
    let elsewhere = Namespace::new();
    let state = host.dir().join("state");
    let arguments = ["--state-dir", state.to_str().unwrap(), "guard"];
    elsewhere.portmap(arguments).run().fails_with(1).says("another network namespace");
}

#[test]
fn what_docker_does_to_its_own_chains_is_no_business_of_the_guards() {
    let world = World::new();
    let (host, client) = (&world.host, &world.client);
    let _app = host.serve("app", 3000);
    host.apply(RULES);
    let guard = host.guard("guarding");
    let asker = client.keep_asking_tcp("192.0.2.1:80");
    let docker = include_str!("../firewalls/docker.v4");
    let iptables = |arguments: &str| {
        let mut command = host.command("iptables-nft");
        host.output(command.args(arguments.split(' ')), "");
    };
    for _ in 0..3 {
        // As its daemon does when it starts, and for each container that publishes a port.
        host.output(&mut host.command("iptables-nft-restore"), docker);
        iptables("-t nat -F DOCKER");
        iptables(
            "-t nat -A DOCKER -p tcp -d 0/0 --dport 8081 -j DNAT --to-destination 172.17.0.3:80",
        );
        iptables(
            "-t nat -D DOCKER -p tcp -d 0/0 --dport 8081 -j DNAT --to-destination 172.17.0.3:80",
        );
        iptables("-t nat -D PREROUTING -m addrtype --dst-type LOCAL -j DOCKER");
        iptables("-t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER");
    }
    asker.wait_for(10);
    assert!(asker.stop().iter().all(|outcome| *outcome == answer("app")));
    guard.is_silent();
}

#[test]
fn the_table_of_a_run_is_left_alone() {
    let host = Namespace::new();
    if !host.has_owners() {
        return;
    }
    host.apply(RULES);
    let guard = host.guard("guarding");
    let mut run = host.command(PROGRAM);
    run.env("PORTMAP_STATE_DIR", host.dir().join("state")).env_remove("SUDO_UID");
    run.args(["run", "81:8000", "--user", "root", "--", "sleep", "1000"]);
    let mut run = run.spawn().unwrap();
    wait_until("the run has begun", || host.nft("list tables").contains("portmap-run-"));
    host.nft("flush ruleset");
    guard.puts_back(1);
    assert!(host.nft("list tables").contains("portmap-run-"), "others cannot flush it");
    run.kill().unwrap();
    run.wait().unwrap();
    wait_until("the run is over", || !host.nft("list tables").contains("portmap-run-"));
    guard.is_silent();
}

#[test]
fn a_reload_after_a_repair_takes_up_no_files() {
    let host = Namespace::new().that_boots();
    host.file("etc/portmap/web.yaml", "ports: { 80: 4000 }");
    host.apply(RULES);
    host.portmap(["persist"]).run().succeeds();
    let guard = host.guard("guarding");
    host.nft("flush ruleset");
    guard.puts_back(1);
    let reload = host.portmap(["reload"]).run().succeeds();
    assert!(reload.stderr.contains("the guard has put it back"), "{reload}");
    assert_eq!(host.status()["mappings"].as_array().unwrap().len(), 2);
    assert_eq!(host.states(), ["1 active, at boot"]);
}
