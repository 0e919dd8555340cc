//! What is held against any bytes. A target panics where a promise is broken; tests/corpus.rs runs
//! each over what is kept of its corpus.

#![cfg(fuzzing)]
#![forbid(unsafe_code)]

mod host;
mod kernel;

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use portmap::cli::{parse_generation, parse_interval, parse_time, parse_trial_time};
use portmap::firewall::{self, Client, Connection, Interface, Rulesets, Table};
use portmap::formats::iptables::Script;
use portmap::formats::rules::{self, Facts, Names, Source};
use portmap::history;
use portmap::kernel::fuzzing::{self, Extent, replay};
use portmap::mapping::{Family, MappingSet, Port, Protocol, Service};
use portmap::plan::{Step, plan};
use portmap::ruleset::{Layer, desired};
use portmap::story::Teller;

pub use host::proc;
pub use kernel::{GENERATION, answers, commits, connections, steps};

/// The targets, by the names of their corpora.
pub const TARGETS: [(&str, fn(&[u8])); 12] = [
    ("rules", rules),
    ("arguments", arguments),
    ("header", header),
    ("table", table),
    ("firewall", firewall),
    ("iptables", iptables),
    ("sockets", sockets),
    ("connections", connections),
    ("events", events),
    ("proc", proc),
    ("answers", answers),
    ("commits", commits),
];

/// A host that knows some names.
fn names() -> Names<'static> {
    let services = &|name: &str, _| (name == "http").then(|| Port::new(80)).flatten();
    Names { services, ..Names::NONE }
}

/// What holds for every mapping that was accepted.
fn accepted(set: &MappingSet) {
    assert!(!set.is_empty(), "an empty mapping was accepted");
    // What is written reads back, as a file and from the history.
    let text = rules::text(set);
    let again = rules::load(&[Source::file("again", &*text)], &Facts::default(), names());
    assert_eq!(again.mappings.as_ref(), Some(set), "{text}\n{:?}", again.diagnostics);
    assert_eq!(rules::parse_stored("again", text).as_ref(), Some(set));
    // Its table says the same, can be written in all ways, and is reached from nothing.
    let table = desired(set, None, None);
    assert_eq!(table.mapping(Layer::Active), *set);
    assert!(table.to_string().contains("table inet portmap"));
    for family in [Family::Ipv4, Family::Ipv6] {
        let _ = Script { mapping: set, family }.to_string();
    }
    let steps = plan(Some(&table), None);
    assert!(steps.iter().any(|step| matches!(step, Step::AddTable)));
}

/// Rules files: one, or two with a zero byte between them.
pub fn rules(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let sources: Vec<_> = text.split('\0').take(2).map(|text| Source::file("f", text)).collect();
    let loaded = rules::load(&sources, &Facts::default(), names());
    let has_error = loaded.diagnostics.iter().any(|diagnostic| diagnostic.is_error());
    assert_eq!(loaded.mappings.is_none(), has_error);
    if let Some(set) = &loaded.mappings {
        accepted(set);
    }
}

/// Mappings and other values on the command line, one a line.
pub fn arguments(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for line in text.lines() {
        let _ = rules::named_ports(line, names().services);
        let _ = rules::without_target(line, names());
        let _ = rules::shape(line);
        value(line);
    }
    let sources = text.lines().enumerate().map(|(n, line)| Source::argument(n + 1, line));
    let sources: Vec<_> = sources.collect();
    if sources.is_empty() {
        return;
    }
    let loaded = rules::load(&sources, &Facts::default(), names());
    if let Some(set) = loaded.mappings {
        accepted(&set);
    }
}

/// What is accepted is within its bounds, and written it reads back.
fn value(text: &str) {
    let seconds = Duration::from_secs;
    let time = parse_time(text).ok();
    if let Some(time) = time {
        let again = humantime::format_duration(time).to_string();
        assert_eq!(parse_time(&again), Ok(time), "{again}");
    }
    let trial = parse_trial_time(text).ok();
    assert_eq!(trial, time.filter(|time| (seconds(1)..=seconds(24 * 3600)).contains(time)));
    let interval = parse_interval(text).ok();
    let (shortest, longest) = (Duration::from_millis(100), seconds(3600));
    assert_eq!(interval, time.filter(|time| (shortest..=longest).contains(time)));
    if let Ok(number) = text.parse() {
        assert_eq!(time, Some(seconds(number)));
        let point = parse_generation(text).expect("a number");
        assert_eq!(u64::from(point), number);
    }
}

/// Files of the history. A second reading has the checksum put right: no fuzzer guesses it.
pub fn header(data: &[u8]) {
    let _ = history::decode_boot(data);
    let _ = history::decode(data);
    namespace(data);
    lock(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let sealed = history::seal(text.to_owned());
    assert!(history::is_whole(sealed.as_bytes()));
    let Ok(header) = history::decode(sealed.as_bytes()) else { return };
    let _ = history::check_mapping(&header, data.to_vec());
    let encoded = history::encode(&header);
    let again = history::decode(encoded.as_bytes());
    assert_eq!(again.as_ref().ok(), Some(&header), "{encoded}\n{again:?}");
}

/// To which network namespace a state directory belongs.
fn namespace(data: &[u8]) {
    if let Some(namespace) = history::decode_namespace(data) {
        let text = history::encode_namespace(&namespace);
        let again = history::decode_namespace(text.as_bytes());
        assert_eq!(again.as_ref(), Some(&namespace), "{text}");
    }
}

/// What is in a lock, of which a guard's is one.
fn lock(data: &[u8]) {
    let (process, moment) = (history::process_of_lock(data), history::moment_of_lock(data));
    assert!(process.is_none() || moment.is_none());
    if data.len() < 64 && (process.is_some() || moment.is_some()) {
        assert!(history::is_of_a_lock(data));
    }
    // What is written there is known again.
    let Some(&[n0, n1, n2, n3]) = data.first_chunk() else { return };
    let number = u32::from_le_bytes([n0, n1, n2, n3]);
    if let Some(pid) = i32::try_from(number).ok().filter(|pid| *pid > 0) {
        let text = format!("{pid}\n");
        assert!(history::is_of_a_lock(text.as_bytes()));
        assert_eq!(history::process_of_lock(text.as_bytes()), Some(pid));
    }
    let moment = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::from(number) * 1000 + 7);
    let text = humantime::format_rfc3339_millis(moment).to_string();
    assert!(history::is_of_a_lock(text.as_bytes()));
    assert_eq!(history::moment_of_lock(text.as_bytes()), Some(moment));
}

/// Our table, read back: whatever it is, there is a way to the table that is wanted.
pub fn table(data: &[u8]) {
    let extent = if data.first() == Some(&0) { Extent::Outline } else { Extent::Whole };
    let Ok(Some(observed)) = replay(data.get(1..).unwrap_or_default(), || fuzzing::table(extent))
    else {
        return;
    };
    let is_sound = observed.foreign.is_empty();
    for layer in [Layer::Active, Layer::Trial] {
        let set = observed.ruleset.mapping(layer);
        let wanted = desired(&set, None, observed.ruleset.stamp());
        let steps = plan(Some(&wanted), Some(&observed));
        let _ = steps.iter().map(Step::to_string).collect::<String>();
        if observed.ruleset == wanted && is_sound && extent == Extent::Whole {
            let _ = observed.ruleset.to_string();
        }
    }
    let gone = plan(None, Some(&observed));
    assert!(matches!(gone[..], [Step::DeleteTable]), "{gone:?}");
}

/// Everybody's rules.
pub fn firewall(data: &[u8]) {
    let Ok(tables) = replay(data, fuzzing::tables) else { return };
    judged(tables);
}

/// What iptables-legacy-save prints, of one family or with a zero byte before the other.
pub fn iptables(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let families = [firewall::Family::Ip, firewall::Family::Ip6];
    let read = families.into_iter().zip(text.split('\0'));
    let tables = read.flat_map(|(family, text)| firewall::legacy::read(text, family));
    judged(tables.flatten().collect());
}

/// Tables of any kind: shown, and asked about clients here and outside.
fn judged(tables: Vec<Table>) {
    for table in &tables {
        for rule in table.chains.iter().flat_map(|chain| &chain.rules) {
            let _ = firewall::text(table, rule);
        }
    }
    let rulesets = Rulesets { tables, ..Rulesets::default() };
    let port = |number| Port::new(number).expect("not 0");
    let outside = Interface { name: "eth0".to_owned(), index: 2 };
    for address in ["192.0.2.1", "2001:db8::1"] {
        let address: IpAddr = address.parse().expect("an address");
        for client in [Client::Here, Client::Outside { interface: outside.clone(), source: None }] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let service = Service { protocol, port: port(80) };
                let target = Some(port(3000));
                let client = client.clone();
                let connection = Connection { client, address, service, target };
                let _ = firewall::judge(&rulesets, &connection);
                let _ = firewall::other_nat(&rulesets, &connection);
            }
        }
    }
}

/// The answers of sock_diag(7).
pub fn sockets(data: &[u8]) {
    let listening = replay(data, fuzzing::listening);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let _ = listening.is_seen(protocol);
        let _ = listening.on(protocol, Port::new(3000).expect("not 0"));
    }
}

/// The table of the trace that the events of the corpus are of.
pub const TRACE: &str = "portmap-trace-1";

/// What the kernel says of traced packets, and the story made of it.
pub fn events(data: &[u8]) {
    let mut teller = Teller::new(TRACE);
    let now = Instant::now();
    for event in fuzzing::events(data) {
        teller.hear(event, now);
    }
    let _ = teller.ready(now + Duration::from_secs(60));
    let _ = teller.rest();
}
