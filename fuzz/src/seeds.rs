//! Writes the beginnings of the corpora, from real files and from what a real kernel answers:
//!
//!   seeds CHECKOUT PORTMAP      in a network namespace of its own, as root; see fuzz/run

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use portmap::kernel::fuzzing::{self, Extent, record};
use portmap::kernel::trace::Tracer;
use portmap::mapping::{Port, Protocol, Service};

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

    let (_, bytes) = record(fuzzing::connections);
    corpus("connections", "some", &bytes);
    let _tcp = [TcpListener::bind("[::]:3000"), TcpListener::bind("127.0.0.1:3001")];
    let _udp = [UdpSocket::bind("[::]:3000"), UdpSocket::bind("127.0.0.1:5353")];
    let (_, bytes) = record(fuzzing::listening);
    corpus("sockets", "some", &bytes);

    run(Command::new(portmap).arg("confirm"), &state);
    run(Command::new(portmap).args(["apply", "80:3000", "81:9", "53/udp:5353"]), &state);
    run(Command::new("nft").arg(SOMEBODYS_RULES), &state);
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
        assert_eq!(tracer.table(), portmap_fuzz::TRACE, "see fuzz/seed");
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
