//! What is said of firewalls is what a real connection gets. The rulesets are in tests/firewalls,
//! in the form that the programs of their names give them.

mod legacy;
mod made_up;

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use portmap::firewall::value::Truth;
use portmap::firewall::{
    Answer, Client, Connection, How, Interface, Judgement, Rulesets, Traffic, judge, other_nat,
    remedy,
};
use portmap::kernel;
use portmap::mapping::{Port, PortRange, Protocol, Service};

use crate::support::{Namespace, World};

/// Long enough for any answer, and only spent where one is wrongly expected.
const ANSWERED: Duration = Duration::from_secs(5);
/// A packet that is dropped is dropped at once; waiting longer shows nothing more.
const SILENT: Duration = Duration::from_millis(250);

/// portmap's own table, for port 80 to 3000.
const OURS: &str = "table inet portmap {
    map ports {
        type inet_proto . inet_service : inet_service
        elements = { tcp . 80 : 3000, udp . 80 : 3000 }
    }
    chain prerouting {
        type nat hook prerouting priority -101
        fib daddr type != local return
        meta l4proto { tcp, udp } dnat to :meta l4proto . th dport map @ports
    }
    chain output {
        type nat hook output priority -101
        fib daddr type != local return
        meta l4proto { tcp, udp } dnat to :meta l4proto . th dport map @ports
    }
}";

/// A way to the program.
#[derive(Clone, Copy, Debug)]
struct Way {
    outside: bool,
    protocol: Protocol,
    address: &'static str,
}

const WAYS: [Way; 7] = [
    Way { outside: true, protocol: Protocol::Tcp, address: "192.0.2.1" },
    Way { outside: true, protocol: Protocol::Tcp, address: "2001:db8::1" },
    Way { outside: true, protocol: Protocol::Udp, address: "192.0.2.1" },
    Way { outside: true, protocol: Protocol::Udp, address: "2001:db8::1" },
    Way { outside: false, protocol: Protocol::Tcp, address: "127.0.0.1" },
    Way { outside: false, protocol: Protocol::Tcp, address: "2001:db8::1" },
    Way { outside: false, protocol: Protocol::Udp, address: "192.0.2.1" },
];

impl Way {
    fn address(self) -> IpAddr {
        self.address.parse().unwrap()
    }

    fn connection(self) -> Connection {
        let interface = Interface { name: "eth0".to_owned(), index: 10 };
        Connection {
            client: match self.outside {
                true => Client::Outside { interface, source: None },
                false => Client::Here,
            },
            address: self.address(),
            service: Service { protocol: self.protocol, port: Port::new(80).unwrap() },
            target: Port::new(3000),
        }
    }

    fn traffic(self) -> Traffic {
        let one = |port| PortRange::one(Port::new(port).unwrap());
        let (ports, targets) = (one(80), Some(one(3000)));
        Traffic { protocol: self.protocol, ports, targets, is_local: !self.outside }
    }

    /// Whether the program answers, twice: a firewall can let in the first packet alone.
    fn is_served(self, world: &World, patience: Duration) -> bool {
        let client = if self.outside { &world.client } else { &world.host };
        client.run(|| self.ask_twice(patience)).is_ok()
    }

    fn ask_twice(self, patience: Duration) -> io::Result<()> {
        let to = SocketAddr::new(self.address(), 80);
        let mut answer = [0; 64];
        if self.protocol == Protocol::Tcp {
            let mut stream = TcpStream::connect_timeout(&to, patience)?;
            stream.set_read_timeout(Some(patience))?;
            for _ in 0..2 {
                stream.write_all(b"who are you\n")?;
                let len = stream.read(&mut answer)?;
                is_app(&answer[..len])?;
            }
            return Ok(());
        }
        let any = if self.address().is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(patience))?;
        for _ in 0..2 {
            socket.send(b"who are you")?;
            let len = socket.recv(&mut answer)?;
            is_app(&answer[..len])?;
        }
        Ok(())
    }
}

fn is_app(answer: &[u8]) -> io::Result<()> {
    match answer.starts_with(b"app ") {
        true => Ok(()),
        false => Err(io::Error::other("another program, or none")),
    }
}

fn read(host: &Namespace) -> Rulesets {
    host.run(kernel::firewall::read).unwrap()
}

/// A host that serves port 80 with a program on 3000.
fn serving() -> (World, crate::support::net::Server) {
    let world = World::new();
    let app = world.host.serve("app", 3000);
    world.host.nft_script(OURS);
    (world, app)
}

#[derive(Default, Debug)]
struct Figures {
    named: usize,
    unknown: usize,
    wrong: Vec<String>,
}

impl Figures {
    /// Judges every way, and compares with what a client gets.
    fn add(&mut self, name: &str, world: &World) {
        let rulesets = read(&world.host);
        for way in WAYS {
            let judged = judge(&rulesets, &way.connection());
            let (expected, patience) = match judged.answer {
                Answer::CannotTell => {
                    self.unknown += 1;
                    continue;
                }
                Answer::Accepts => (true, ANSWERED),
                Answer::Blocks(_) => (false, SILENT),
            };
            self.named += 1;
            if way.is_served(world, patience) != expected {
                self.wrong.push(format!("{name}, {way:?}: {judged:#?}"));
            }
        }
    }

    /// Fails where one is wrong, or where the documents say something else.
    fn are_told(&self, sum: &str) {
        println!("{sum}");
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/firewalls.md");
        let page = fs::read_to_string(page).unwrap();
        assert!(page.contains(sum), "docs/firewalls.md is to say: {sum}");
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { named, unknown, wrong } = self;
        write!(f, "named {named}, cannot tell {unknown}, wrong {}", wrong.len())
    }
}

fn files() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/firewalls");
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Loads a ruleset with the program that it is for, by the ending of its name.
fn load(host: &Namespace, name: &str, text: &str) {
    let program = match name.rsplit('.').next() {
        Some("nft") => return host.nft_script(text),
        Some("v4") => "iptables-nft-restore",
        Some("v6") => "ip6tables-nft-restore",
        other => panic!("{name}: what is {other:?} to be loaded with?"),
    };
    host.output(host.command(program).arg("-n"), text);
}

/// `make firewalls` shows what it prints.
#[test]
fn no_verdict_is_wrong() {
    let mut figures = Figures::default();
    let (world, _app) = serving();
    let files = files();
    for (name, text) in &files {
        world.host.nft_script(&format!("flush ruleset\n{OURS}"));
        load(&world.host, name, text);
        // Both families of what iptables wrote are one firewall.
        let before = figures.unknown;
        figures.add(name, &world);
        println!("{name}: {} of {} cannot be told", figures.unknown - before, WAYS.len());
    }
    let sum = format!("{} pairs of ruleset and listener: {}", files.len() * WAYS.len(), figures);
    figures.are_told(&sum);
}

fn judged(world: &World, way: Way) -> Judgement {
    judge(&read(&world.host), &way.connection())
}

#[test]
fn the_deciding_rule_is_named_and_its_remedy_works() {
    let (world, _app) = serving();
    for script in [
        "table inet fw {
            chain input {
                type filter hook input priority 0; policy drop
                iif lo accept
                ct state established,related accept
                tcp dport { 22, 80 } accept
            }
        }",
        "table inet fw {
            chain more { ct state new tcp dport 1024-65535 reject
            }
            chain input { type filter hook input priority 10; jump more
            }
        }",
        "table ip fw {
            chain early { type filter hook prerouting priority -300; tcp dport 80 drop
            }
        }",
        "table inet fw {
            chain out { type filter hook output priority 0; ct direction reply tcp sport 3000 drop
            }
        }",
    ] {
        world.host.nft_script(&format!("flush ruleset\n{OURS}"));
        world.host.nft_script(script);
        let way = WAYS[0];
        let verdict = judged(&world, way);
        let deciding = verdict.deciding.clone().expect("a rule");
        assert!(matches!(verdict.answer, Answer::Blocks(_)), "{script}: {verdict:#?}");
        assert!(!way.is_served(&world, SILENT), "{script}");
        for command in remedy(&read(&world.host), &deciding, &way.traffic()) {
            world.host.nft(command.strip_prefix("nft ").expect("a command for nft"));
        }
        let now = judged(&world, way);
        assert_eq!(now.answer, Answer::Accepts, "{script}: {now:#?}");
        assert!(way.is_served(&world, ANSWERED), "{script}: {deciding:#?}");
    }
}

/// Whether a packet is translated by then depends on the hook, and on where its client is.
#[test]
fn the_remedy_works_at_every_priority_and_hook() {
    let (world, _app) = serving();
    let blocking = |hook: &str, priority: i32, what: &str| match what {
        "policy" => format!("type filter hook {hook} priority {priority}; policy drop;"),
        rule => format!("type filter hook {hook} priority {priority}; {rule}"),
    };
    let mut helped = 0;
    for hook in ["prerouting", "input", "output", "postrouting"] {
        for priority in [-501, -150, -101, 0] {
            for what in
                ["tcp dport 3000 drop", "tcp dport 80 drop", "tcp sport 3000 drop", "policy"]
            {
                for way in [WAYS[0], WAYS[3]] {
                    world.host.nft_script(&format!("flush ruleset\n{OURS}"));
                    let chain = blocking(hook, priority, what);
                    world.host.nft_script(&format!("table inet fw {{\nchain c {{ {chain}\n}}\n}}"));
                    // A policy keeps out answers too: one command for each leg.
                    for _ in 0..4 {
                        let verdict = judged(&world, way);
                        if !matches!(verdict.answer, Answer::Blocks(_)) {
                            break;
                        }
                        let deciding = verdict.deciding.expect("a rule");
                        for command in remedy(&read(&world.host), &deciding, &way.traffic()) {
                            world.host.nft(command.strip_prefix("nft ").expect("for nft"));
                            helped += 1;
                        }
                    }
                    let case = format!("{way:?}: {chain}");
                    let now = judged(&world, way);
                    assert!(!matches!(now.answer, Answer::Blocks(_)), "{case}: {now:#?}");
                    assert!(way.is_served(&world, ANSWERED), "{case}");
                }
            }
        }
    }
    assert!(helped > 30, "{helped}");
}

/// In input the packet has port 3000 already, and answers to clients of this host have the
/// client's, which is none of root's.
#[test]
fn a_rule_for_the_port_that_is_mapped_comes_too_late() {
    let (world, _app) = serving();
    world.host.nft_script(
        "table inet fw {
            chain input { type filter hook input priority 0; tcp dport { 80, 443 } drop
            }
        }",
    );
    for way in WAYS.into_iter().filter(|way| way.protocol == Protocol::Tcp) {
        assert_eq!(judged(&world, way).answer, Answer::Accepts, "{way:?}");
        assert!(way.is_served(&world, ANSWERED), "{way:?}");
    }
    world.host.nft_script(&format!("flush ruleset\n{OURS}"));
    world.host.nft_script(
        "table inet fw {
            chain out { type filter hook output priority 0; tcp dport 1024-65535 drop
            }
        }",
    );
    let way = WAYS[0];
    assert!(matches!(judged(&world, way).answer, Answer::Blocks(_)));
    assert!(!way.is_served(&world, SILENT));
}

#[test]
fn the_remedy_is_in_the_words_of_the_owner() {
    let (world, _app) = serving();
    let files = files();
    let restore = |wanted: &str| {
        let (name, text) = files.iter().find(|(name, _)| name == wanted).unwrap();
        world.host.nft_script(&format!("flush ruleset\n{OURS}"));
        load(&world.host, name, text);
    };
    let remedy = |way: Way| {
        let rulesets = read(&world.host);
        let deciding = judge(&rulesets, &way.connection()).deciding.unwrap();
        remedy(&rulesets, &deciding, &way.traffic())
    };
    let type_in = |command: &str| {
        let mut words = command.split(' ');
        let program = words.next().unwrap().replace("iptables", "iptables-nft");
        world.host.output(world.host.command(program).args(words), "");
    };

    restore("ufw-ssh-and-80.v4");
    assert_eq!(remedy(WAYS[0]), ["ufw allow 3000/tcp"]);
    // What that does.
    type_in("iptables -A ufw-user-input -p tcp --dport 3000 -j ACCEPT");
    assert_eq!(judged(&world, WAYS[0]).answer, Answer::Accepts);
    assert!(WAYS[0].is_served(&world, ANSWERED));

    restore("iptables-owner.v4");
    let udp = remedy(WAYS[2]);
    assert!(!WAYS[2].is_served(&world, SILENT));
    type_in(&udp[0]);
    assert_eq!(judged(&world, WAYS[2]).answer, Answer::Accepts, "{udp:?}");
    assert!(WAYS[2].is_served(&world, ANSWERED), "{udp:?}");

    restore("firewalld-without-dnat.nft");
    assert_eq!(remedy(WAYS[0])[0], "firewall-cmd --add-port=3000/tcp");
}

#[test]
fn rules_are_shown_as_they_were_written() {
    let (world, _app) = serving();
    let rules = [
        "tcp dport 22 accept",
        "ip saddr 10.0.0.0/8 tcp dport { 80, 443 } accept",
        "ct state established,related accept",
        "iifname \"eth*\" udp dport 1024-65535 drop",
        "meta l4proto tcp ct original proto-dst 80 drop",
        "ct status dnat accept",
        "ip6 saddr fe80::/10 accept",
        "iifname \"lo\" accept",
        "fib daddr type local accept",
        "meta mark 7 return",
        "meta l4proto tcp reject",
    ];
    let body = rules.join("\n");
    world.host.nft_script(&format!(
        "table inet fw {{ chain some {{ type filter hook forward priority 0; {body}
}}
}}"
    ));
    let rulesets = read(&world.host);
    let table = rulesets.tables.iter().find(|table| table.name == "fw").unwrap();
    let shown: Vec<String> =
        table.chains[0].rules.iter().map(|rule| portmap::firewall::text(table, rule)).collect();
    assert_eq!(shown, rules);
}

const OTHER_NAT: &str = "table ip other { chain pre {
    type nat hook prerouting priority PRIORITY; tcp dport 80 redirect to :4000; }; }";

#[test]
fn who_else_translates_is_found() {
    let (world, _app) = serving();
    let _other = world.host.serve("other", 4000);
    for (priority, wins) in [("-150", true), ("-100", false)] {
        let other = OTHER_NAT.replace("PRIORITY", priority);
        world.host.nft_script(&format!("flush ruleset\n{OURS}\n{other}"));
        let rulesets = read(&world.host);
        let found = other_nat(&rulesets, &WAYS[0].connection());
        assert_eq!(found.len(), 1, "{found:#?}");
        let place = (found[0].wins, found[0].priority.to_string());
        assert_eq!(place, (Truth::from(wins), priority.to_owned()), "{found:#?}");
        assert!(found[0].certain);
        let answer = judge(&rulesets, &WAYS[0].connection()).answer;
        let expected = if wins { Answer::Blocks(How::Translated) } else { Answer::Accepts };
        assert_eq!(answer, expected);
        assert_eq!(WAYS[0].is_served(&world, ANSWERED), !wins);
    }
}

/// The kernel puts a new chain ahead of those at its priority, and tells nobody which was the last.
#[test]
fn of_two_at_one_priority_the_last_comes_first_and_nothing_is_claimed() {
    let (world, _app) = serving();
    let host = &world.host;
    let _other = host.serve("other", 4000);
    let other = OTHER_NAT.replace("PRIORITY", "-101");
    let untold = || {
        let rulesets = read(host);
        let judged = judge(&rulesets, &WAYS[0].connection());
        assert_eq!(judged.answer, Answer::CannotTell, "{judged:#?}");
        assert_eq!(judged.deciding.unwrap().table, "other");
        assert!(judged.why.unwrap().contains("put there last"));
        assert_eq!(other_nat(&rulesets, &WAYS[0].connection())[0].wins, Truth::Maybe);
        // Who is not translated by it is served.
        assert_eq!(judge(&rulesets, &WAYS[2].connection()).answer, Answer::Accepts);
        assert!(WAYS[2].is_served(&world, ANSWERED));
    };
    for (tables, ours_is_last) in [([OURS, &other], false), ([&other, OURS], true)] {
        host.nft("flush ruleset");
        tables.into_iter().for_each(|table| host.nft_script(table));
        assert_eq!(WAYS[0].is_served(&world, ANSWERED), ours_is_last);
        untold();
        // A table that sleeps leaves its place.
        let first = if ours_is_last { "ip other" } else { "inet portmap" };
        host.nft(&format!("add table {first} {{ flags dormant; }}"));
        host.nft(&format!("add table {first}"));
        assert_eq!(WAYS[0].is_served(&world, ANSWERED), !ours_is_last, "{first} woke up last");
        untold();
    }
}

#[test]
fn what_is_not_tracked_is_not_translated() {
    let (world, _app) = serving();
    world.host.nft_script(
        "table ip raw {
            chain pre { type filter hook prerouting priority -300; tcp dport 80 notrack
            }
         }",
    );
    let verdict = judged(&world, WAYS[0]);
    assert_eq!(verdict.answer, Answer::Blocks(How::NotTracked), "{verdict:#?}");
    assert_eq!(
        verdict.deciding.unwrap().text,
        "table ip raw, chain pre, rule 1: tcp dport 80 notrack"
    );
    assert!(!WAYS[0].is_served(&world, SILENT));
}

/// eth0 as the port of a bridge, which has its addresses. Where bridged packets pass the rules of IP
/// (`bridge-nf-call-iptables`), the port may be translated before the bridge sees it.
#[test]
fn rules_below_the_interface_are_not_passed_over() {
    let (world, _app) = serving();
    let host = &world.host;
    host.ip("link add br0 type bridge\nlink set br0 up\nlink set eth0 master br0\n\
         address del 192.0.2.1/24 dev eth0\naddress add 192.0.2.1/24 dev br0");
    let mut connection = WAYS[0].connection();
    let interface = Interface { name: "br0".to_owned(), index: 10 };
    connection.client = Client::Outside { interface, source: None };
    let verdict = || judge(&read(host), &connection);
    let served = |wanted: bool| WAYS[0].is_served(&world, if wanted { ANSWERED } else { SILENT });
    assert!(served(true));
    assert_eq!(verdict().answer, Answer::Accepts);
    for rules in [
        "table bridge fw { chain input { type filter hook input priority 0; tcp dport { 80, 3000 } drop; }; }",
        "table netdev fw { chain in {
            type filter hook ingress device eth0 priority 0; tcp dport { 80, 3000 } drop; }; }",
        "table bridge fw { chain input { type filter hook input priority 0; policy drop; }; }",
    ] {
        host.nft_script(&format!("flush ruleset\n{OURS}\n{rules}"));
        let judged = verdict();
        assert_eq!(judged.answer, Answer::CannotTell, "{rules}: {judged:#?}");
        assert_eq!(judged.deciding.unwrap().table, "fw");
        assert!(!served(false), "{rules}");
    }
    // What is on no way to here does not matter; what blocks in any case does.
    for (rules, answer) in [
        (
            "table bridge fw { chain f { type filter hook forward priority 0; policy drop; }; }",
            Answer::Accepts,
        ),
        (
            "table bridge fw { chain input { type filter hook input priority 0; }; }",
            Answer::Accepts,
        ),
        (
            "table bridge fw { chain input { type filter hook input priority 0; policy drop; }; }
             table inet fw { chain input { type filter hook input priority 0; policy drop; }; }",
            Answer::Blocks(How::Dropped),
        ),
    ] {
        host.nft_script(&format!("flush ruleset\n{OURS}\n{rules}"));
        assert_eq!(verdict().answer, answer, "{rules}");
    }
}

/// The bound is far above what it takes; it is there for work that grows with combinations.
#[test]
fn thousands_of_rules_are_read_and_judged_at_once() {
    let (world, _app) = serving();
    let rules: String = (0..5000)
        .map(|n| format!("ip saddr 10.{}.{}.0/24 tcp dport {} accept\n", n / 256, n % 256, 1 + n))
        .collect();
    world.host.nft_script(&format!(
        "table inet fw {{ chain input {{ type filter hook input priority 0; {rules}
}}
}}"
    ));
    let start = Instant::now();
    let rulesets = read(&world.host);
    println!("5,000 rules: read in {:?}", start.elapsed());
    // What a processor does for this thread, however many others it has to work for.
    let worked = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    let start = worked();
    let verdict = judge(&rulesets, &WAYS[0].connection());
    let work = worked() - start;
    println!("judged in {work:?}");
    assert_eq!(verdict.answer, Answer::Accepts, "{verdict:#?}");
    assert!(work < Duration::from_secs(20), "{work:?}");
}
