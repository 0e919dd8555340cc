//! Writes the beginnings of the corpora, from real files and from what a real kernel answers:
//!
//!   seeds CHECKOUT PORTMAP      in a network namespace of its own, as root; see fuzz/run

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use portmap::kernel::events::Commits;
use portmap::kernel::fuzzing::{self, Extent, record};
use portmap::kernel::trace::Tracer;
use portmap::kernel::{CommitError, Kernel, Netlink, conntrack, links};
use portmap::mapping::{Comment, Port, Protocol, Service, Target};
use portmap::plan::Step;
use portmap::ruleset::{Lifetime, RunTable, TableName};

/// Longer ones teach a fuzzer nothing more, and slow it down.
const LONGEST: usize = 24 * 1024;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [checkout, portmap] = &arguments[..] else { panic!("usage: seeds CHECKOUT PORTMAP") };
    let checkout = Path::new(checkout);
    let corpus = |target: &str, name: &str, bytes: &[u8]| {
        let dir = checkout.join("fuzz/corpus").join(target);
        fs::create_dir_all(&dir).unwrap();
        if bytes.len() <= LONGEST {
            fs::write(dir.join(name), bytes).unwrap();
        }
    };
    let state = checkout.join("fuzz/target/seeds");
    let _ = fs::remove_dir_all(&state);
    fs::create_dir_all(&state).unwrap();

    for path in files(checkout, "rules") {
        corpus("rules", &name(&path), &fs::read(&path).unwrap());
        run(Command::new(portmap).arg("apply").arg("--persist").arg(&path), &state);
        let (table, mut bytes) = record(|| fuzzing::table(Extent::Whole));
        table.unwrap();
        bytes.insert(0, 1);
        corpus("table", &name(&path), &bytes);
    }
    run(Command::new(portmap).args(["apply", "--confirm", "1h", "80:3000", "53/udp:5353"]), &state);
    let (table, mut bytes) = record(|| fuzzing::table(Extent::Whole));
    table.unwrap();
    bytes.insert(0, 1);
    corpus("table", "trial", &bytes);
    for path in files(&state, "generations") {
        let text = fs::read_to_string(&path).unwrap();
        let (head, _) = text.split_once("header-check").unwrap();
        corpus("header", &name(&path), head.as_bytes());
    }
    corpus("header", "boot", &fs::read(state.join("boot")).unwrap());
    let namespace = b"boot: 01234567-89ab-cdef-0123-456789abcdef\ninode: 4026531840\n";
    corpus("header", "namespace", namespace);
    corpus("header", "lock", b"4711\n");
    corpus("header", "guard", b"2026-01-02T03:04:05.678Z");

    let wrong = fs::read_to_string(checkout.join("tests/rules/wrong.txt")).unwrap();
    for (number, part) in wrong.split("\n\n").enumerate() {
        corpus("rules", &format!("wrong-{number}"), part.as_bytes());
    }
    let lines: &str =
        "80:3000\n53/udp:5353\n514/tcp+udp:5514\n6000-6063:16000-16063\nhttp:3000\n0:1\n";
    corpus("arguments", "all", lines.as_bytes());
    for line in lines.lines() {
        corpus("arguments", line.replace(['/', ':'], "_").as_str(), line.as_bytes());
    }

    let values = "90\n5m\n1h 30m\n24h\n86401\n100ms\n99999us\n1y 2M 3w\n18446744073709551615\n";
    corpus("arguments", "values", values.as_bytes());

    let (_, bytes) = record(conntrack::translated_connections);
    corpus("connections", "some", &bytes);
    let _tcp = [TcpListener::bind("[::]:3000"), TcpListener::bind("127.0.0.1:3001")];
    let _udp = [UdpSocket::bind("[::]:3000"), UdpSocket::bind("127.0.0.1:5353")];
    let (_, bytes) = record(fuzzing::listening);
    corpus("sockets", "some", &bytes);

    run(Command::new(portmap).arg("confirm"), &state);
    let _connected = TcpStream::connect("127.0.0.1:80").unwrap();
    let (forgotten, bytes) = record(conntrack::forget_translated_connections);
    assert_eq!(forgotten.unwrap(), 1);
    corpus("connections", "forgotten", &bytes);
    corpus("connections", "more-answers-than-questions", &with_more_answers(&bytes));
    for (name, bytes) in asked() {
        corpus("answers", name, &bytes);
    }
    run(Command::new(portmap).args(["apply", "80:3000", "81:9", "53/udp:5353"]), &state);
    let mut commits = Commits::open().unwrap();
    run(Command::new("nft").arg(SOMEBODYS_RULES), &state);
    run(Command::new(portmap).args(["apply", "80:3000", "81:9", "53/udp:5354"]), &state);
    let (_, bytes) = record(|| commits.listen(0).unwrap());
    corpus("commits", "nft-and-portmap", &bytes);
    run(Command::new(portmap).args(["apply", "80:3000", "81:9", "53/udp:5353"]), &state);
    for (name, bytes) in traced() {
        corpus("events", name, &bytes);
    }

    for path in files(checkout, "tests/firewalls") {
        run(Command::new("nft").args(["flush", "ruleset"]), &state);
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("nft") => run(Command::new("nft").arg("-f").arg(&path), &state),
            Some("v4") => run(Command::new("iptables-restore").arg(&path), &state),
            _ => run(Command::new("ip6tables-restore").arg(&path), &state),
        }
        let (_, bytes) = record(fuzzing::tables);
        corpus("firewall", &name(&path), &bytes);
        let text = fs::read(&path).unwrap();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("v4") => corpus("iptables", &name(&path), &text),
            Some("v6") => corpus("iptables", &name(&path), &[b"\0", &text[..]].concat()),
            _ => {}
        }
    }
}

/// One that lets in, and one that drops by its policy.
const SOMEBODYS_RULES: &str = "table inet fw { chain input { type filter hook input priority 0; \
    policy drop; tcp dport 3000 counter accept; meta l4proto icmp accept; udp dport 5353 accept; \
    tcp sport 3000 accept; }; }";

/// With two more answers to the last question, of which one is a refusal.
fn with_more_answers(datagrams: &[u8]) -> Vec<u8> {
    // An acknowledgement: a length, a header, no error, and the header of the question.
    const ANSWER: usize = 2 + 16 + 4 + 16;
    let (before, answer) = datagrams.split_at(datagrams.len() - 2 - ANSWER);
    let answer = &answer[..ANSWER];
    let mut refusal = answer.to_vec();
    refusal[18..22].copy_from_slice(&(-1i32).to_ne_bytes());
    [before, answer, answer, &refusal].concat()
}

/// What the kernel answers to questions, and to commits that it takes, refuses, or finds too late.
fn asked() -> Vec<(&'static str, Vec<u8>)> {
    let kernel = || Netlink::open().unwrap();
    let steps = portmap_fuzz::steps();
    let mut asked = Vec::new();
    let mut note = |name, question: u8, mut bytes: Vec<u8>| {
        bytes.insert(0, question);
        asked.push((name, bytes));
    };
    note("stamp", b's', record(|| kernel().stamp().unwrap()).1);
    note("generation", b'g', record(|| kernel().generation().unwrap()).1);
    note("outline", b'o', record(|| kernel().snapshot(Extent::Outline).unwrap()).1);
    note("devices", b'd', record(|| links::devices().unwrap()).1);
    let run = RunTable {
        id: "portmap-run-4711".parse().unwrap(),
        command: Comment::new("npm start").ok(),
        lifetime: Lifetime::Supervised { socket: Some(41) },
    };
    let generation = kernel().generation().unwrap();
    kernel().hold(&run, &steps, generation).unwrap();
    note("runs", b'r', record(|| kernel().runs().unwrap()).1);
    let generation = kernel().generation().unwrap();
    kernel().release(TableName::Run(run.id), generation).unwrap();

    let commit = |generation| record(|| kernel().commit(&steps, generation));
    let (late, bytes) = commit(portmap_fuzz::GENERATION - 1);
    assert!(matches!(late, Err(CommitError::Raced)), "{late:?}");
    note("commit-late", b'c', bytes);
    let generation = || kernel().generation().unwrap();
    let _ = Command::new("nft").args(["delete", "table", "inet", "portmap"]).status();
    let (taken, bytes) = commit(generation());
    taken.unwrap();
    note("commit", b'c', bytes);
    // Elements that are there go elsewhere.
    let mut others = steps.clone();
    for step in &mut others {
        if let Step::AddPorts { elements, .. } = step {
            elements[0].1.to = Target::new(Port::new(9).unwrap());
        }
    }
    let _ = Command::new("nft").args(["delete", "table", "inet", "portmap"]).status();
    kernel().commit(&others, generation()).unwrap();
    let (refused, bytes) = commit(generation());
    assert!(matches!(refused, Err(CommitError::Refused { .. })), "{refused:?}");
    note("commit-refused", b'c', bytes);
    asked
}

/// What the kernel says of connections: answered, refused, dropped, and of a datagram.
fn traced() -> Vec<(&'static str, Vec<u8>)> {
    let attempts: [(&str, &dyn Fn()); 4] = [
        ("answered", &|| drop(connect("127.0.0.1:80"))),
        ("answered-ipv6", &|| drop(connect("[::1]:80"))),
        ("dropped", &|| drop(connect("127.0.0.1:81"))),
        ("datagram", &|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.send_to(b"?", "127.0.0.1:53").unwrap();
        }),
    ];
    let services = [(Protocol::Tcp, 80), (Protocol::Tcp, 81), (Protocol::Udp, 53)]
        .map(|(protocol, port)| Service { protocol, port: Port::new(port).unwrap() });
    let traced = attempts.map(|(name, attempt)| {
        let mut tracer = Tracer::open(&services).unwrap();
        assert_eq!(tracer.table().to_string(), portmap_fuzz::TRACE, "see fuzz/seed");
        attempt();
        let (heard, datagrams) = record(|| tracer.listen().unwrap());
        assert!(!heard.events.is_empty(), "{name}");
        (name, messages(&datagrams))
    });
    traced.into()
}

/// Briefly: what is dropped is not answered.
fn connect(to: &str) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&to.parse().unwrap(), Duration::from_millis(200))
}

/// As if they had come in one datagram.
fn messages(mut datagrams: &[u8]) -> Vec<u8> {
    let mut messages = Vec::new();
    while let Some((len, rest)) = datagrams.split_first_chunk() {
        let (datagram, rest) = rest.split_at(u16::from_le_bytes(*len).into());
        messages.extend_from_slice(datagram);
        datagrams = rest;
    }
    messages
}

fn files(checkout: &Path, dir: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(checkout.join(dir)).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|e| e.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// What does not work here is left out.
fn run(command: &mut Command, state: &Path) {
    command.env("PORTMAP_STATE_DIR", state).stdout(Stdio::null()).stderr(Stdio::null());
    if !command.status().is_ok_and(|status| matches!(status.code(), Some(0 | 2 | 3))) {
        eprintln!("left out: {command:?}");
    }
}
