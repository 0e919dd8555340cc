//! The door to the kernel, on a real one. Each story plays in a network namespace of its own
//! thread, so that the machine's ruleset is never touched; needs root and the program nft.

mod everything;
#[path = "../it/support/skip.rs"]
mod skip;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use everything::*;
use nix::sched::{CloneFlags, unshare};
use portmap::kernel::{CommitError, Extent, Kernel, Netlink};
use portmap::mapping::{Family, Protocol, Scope, Service};
use portmap::plan::Step;
use portmap::ruleset::{
    ChainName, Counter, Layer, Map, MapName, MapShape, Observed, PortData, Rule, Ruleset, Stamp,
};
use skip::skip;

/// Runs a story in a fresh network namespace.
fn in_namespace(story: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
        story();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn nft(args: &[&str], input: &str) -> String {
    let mut command = Command::new("nft");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("nft is installed");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "nft {args:?}: {input}");
    String::from_utf8(output.stdout).unwrap()
}

/// The blocks of `nft list`, sorted (it lists chains in the order in which they were made),
/// without what is left of a timeout.
fn listing() -> Vec<String> {
    let text = nft(&["list", "table", "inet", "portmap"], "");
    let text = text.replace("table inet portmap {\n", "");
    let mut blocks: Vec<_> = text.split("\n\t}\n").map(without_expiry).collect();
    blocks.sort();
    blocks
}

fn without_expiry(block: &str) -> String {
    let mut parts = block.split(" expires ");
    let first = parts.next().unwrap().trim().to_owned();
    parts.fold(first, |text, part| text + &part[part.find([',', ' ']).unwrap()..])
}

/// `nft -j list`, the same way; the rules of a chain stay in their order.
fn json() -> Vec<String> {
    fn tidy(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(fields) => {
                fields.retain(|name, _| name != "handle" && name != "expires");
                fields.values_mut().for_each(tidy);
            }
            serde_json::Value::Array(values) => values.iter_mut().for_each(tidy),
            _ => {}
        }
    }
    let text = nft(&["-j", "list", "table", "inet", "portmap"], "");
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    tidy(&mut value);
    let objects = value["nftables"].as_array().unwrap();
    let mut lines: Vec<_> = objects
        .iter()
        .map(|object| (object["rule"]["chain"].to_string(), object))
        .map(|(chain, object)| match object.get("rule") {
            Some(_) => (chain, String::new(), object.to_string()),
            None => (chain, object.to_string(), String::new()),
        })
        .collect();
    lines.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    lines.into_iter().map(|(_, object, rule)| object + &rule).collect()
}

fn commit(steps: &[Step]) {
    let mut kernel = Netlink::open().unwrap();
    let generation = kernel.generation().unwrap();
    kernel.commit(steps, generation).unwrap();
}

fn observe() -> Observed {
    Netlink::open().unwrap().snapshot(Extent::Whole).unwrap().table.expect("the table is there")
}

/// The same, but for the time that passes between two looks at a gate.
fn assert_same(found: &Observed, wanted: &Ruleset) {
    let mut ruleset = found.ruleset.clone();
    if let (Some(gate), Some(wanted)) = (&mut ruleset.gate, &wanted.gate) {
        assert!(gate.left + Duration::from_secs(10) > wanted.left && gate.left <= wanted.left);
        gate.left = wanted.left;
    }
    assert_eq!(found.foreign, [] as [&str; 0]);
    assert_eq!(&ruleset, wanted);
    for (chain, rules) in &wanted.chains {
        assert_eq!(found.handles[chain].len(), rules.len(), "{chain}");
    }
}

fn add_rule(chain: ChainName, before: Option<u64>, rule: Rule, counter: Counter) -> Step {
    Step::AddRule { chain, before, rule, counter }
}

#[test]
fn every_rule_and_map_reads_back_as_it_was_made() {
    in_namespace(|| {
        let wanted = everything();
        commit(&make(&wanted));
        let found = observe();
        assert_same(&found, &wanted);
        for name in wanted.maps.keys() {
            assert_eq!(found.shapes[name], shape_of(*name), "{name}");
        }
        assert_eq!(found.counters, Default::default());
    });
}

#[test]
fn nft_makes_the_same_of_the_same_text() {
    in_namespace(|| {
        let wanted = everything();
        commit(&make(&wanted));
        let (our_listing, our_json) = (listing(), json());
        commit(&[Step::DeleteTable]);
        nft(&["-f", "-"], TEXT);
        assert_eq!(our_listing, listing());
        assert_eq!(our_json, json());
        assert_same(&observe(), &wanted);
    });
}

#[test]
fn a_stale_generation_changes_nothing() {
    in_namespace(|| {
        let mut kernel = Netlink::open().unwrap();
        let stale = kernel.generation().unwrap();
        nft(&["-f", "-"], "table ip other {}");
        let outcome = kernel.commit(&[Step::AddTable], stale);
        assert!(matches!(outcome, Err(CommitError::Raced)), "{outcome:?}");
        assert!(kernel.snapshot(Extent::Whole).unwrap().table.is_none());
        let fresh = kernel.generation().unwrap();
        kernel.commit(&[Step::AddTable], fresh).unwrap();
        let seen = kernel.snapshot(Extent::Whole).unwrap();
        assert_eq!((seen.generation, seen.table), (fresh + 1, Some(Observed::default())));
    });
}

type Element = (Service, PortData, Option<Counter>);

fn many(protocol: Protocol, count: u16) -> Vec<Element> {
    (1..=count).map(|n| (service(protocol, n), target(n, None), None)).collect()
}

fn one_map(shape: MapShape, elements: Vec<Element>) -> Vec<Step> {
    let add = Step::AddPorts { map: PORTS, elements };
    vec![Step::AddTable, Step::AddMap { name: PORTS, shape }, add]
}

/// What the kernel says to steps that it does not take.
fn refused(steps: &[Step]) -> String {
    let mut kernel = Netlink::open().unwrap();
    let generation = kernel.generation().unwrap();
    let error = kernel.commit(steps, generation).unwrap_err();
    assert_eq!(kernel.generation().unwrap(), generation, "nothing is changed");
    assert!(error.help().is_some(), "{error}");
    error.to_string()
}

/// Whether the kernel says which element of a message it refuses, by what nft points at; 5.10 does
/// not.
fn names_elements() -> bool {
    const LINE: &str = "create element ip probe s { 1, 2, 3, 4 }";
    nft(&["-f", "-"], "table ip probe { set s { type inet_service; elements = { 3 }; }; }");
    let nft_says = Command::new("nft").arg(LINE).output().unwrap();
    nft(&["delete", "table", "ip", "probe"], "");
    let nft_says = String::from_utf8(nft_says.stderr).unwrap();
    assert!(nft_says.contains("File exists"), "{nft_says}");
    let names = nft_says.lines().last().and_then(|line| line.find('^')) == LINE.find('3');
    if !names {
        skip("this kernel cannot say which element of a message it refuses");
    }
    names
}

#[test]
fn what_is_refused_is_named() {
    in_namespace(|| {
        let names_elements = names_elements();
        // More than one message holds: the culprit is in the second.
        let shape = MapShape { size: 3000, counted: false };
        let named = |element: &str, message: usize| match names_elements {
            true => format!("commit: add element {element} to map ports: "),
            false => format!(
                "commit: add {message} elements to map ports (the kernel refuses one of them, and \
                 does not say which): "
            ),
        };
        assert_eq!(
            refused(&one_map(shape, many(Protocol::Tcp, 3001))),
            named("3001/tcp -> 3001", 977) + "too many open files in system (os error 23)"
        );
        let mut twice = many(Protocol::Tcp, 3000);
        twice[2900] = (tcp(2500), target(7, None), None);
        assert_eq!(
            refused(&one_map(shape, twice)),
            named("2500/tcp -> 7", 976) + "file exists (os error 17)"
        );
        commit(&one_map(PLAIN, many(Protocol::Tcp, 3)));
        let delete = Step::DeleteElements { map: PORTS, services: vec![tcp(4)] };
        assert_eq!(
            refused(&[delete]),
            "commit: delete element 4/tcp from map ports: no such file or directory (os error 2)"
        );
        let handle = 4711;
        assert_eq!(
            refused(&[Step::AddChain(OUTPUT), Step::DeleteRule { chain: OUTPUT, handle }]),
            "commit: delete rule (handle 4711) from chain output: \
             no such file or directory (os error 2)"
        );
        let name = MapName::Selected(Layer::Active);
        let selected = Step::AddServices { map: name, services: vec![(tcp(5), None)] };
        assert_eq!(
            refused(&[Step::AddMap { name, shape: PLAIN }, selected]),
            "commit: add element 5/tcp to map selected: no such file or directory (os error 2)"
        );
    });
}

#[test]
fn all_ports_of_two_protocols_fit_one_transaction() {
    in_namespace(|| {
        let mut elements = many(Protocol::Tcp, u16::MAX);
        elements.extend(many(Protocol::Udp, u16::MAX));
        let shape = MapShape { size: 262_144, counted: false };
        commit(&one_map(shape, elements.clone()));
        let wanted: Vec<_> = elements.into_iter().map(|(s, t, _)| (s, t)).collect();
        assert!(observe().ruleset.maps[&PORTS] == Map::Ports(wanted));
    });
}

#[test]
fn counters_and_long_comments_are_carried_over() {
    in_namespace(|| {
        let counter = Counter { packets: 3, bytes: 180 };
        let long = "x".repeat(128);
        let elements = vec![
            (tcp(80), target(3000, Some(&long)), Some(counter)),
            (tcp(81), target(3001, None), Some(Counter::default())),
        ];
        let mut steps = one_map(COUNTED, elements);
        let chain = ChainName::Service(Layer::Active, tcp(990));
        let rule = commented(select(Scope::Both, Family::Ipv4, [&[], &[], &[]], 1), &long);
        steps.extend([Step::AddChain(chain), add_rule(chain, None, rule.clone(), counter)]);
        commit(&steps);
        let found = observe();
        assert_eq!(found.counters.elements, [((PORTS, tcp(80)), counter)].into());
        assert_eq!(found.counters.rules, [((chain, 0), counter)].into());
        assert_eq!(found.ruleset.chains[&chain], std::slice::from_ref(&rule));

        // A rule before another one, and that one away.
        let other = select(Scope::Local, Family::Both, [&[], &[], &[]], 2);
        let before = Some(found.handles[&chain][0]);
        commit(&[add_rule(chain, before, other.clone(), Counter::default())]);
        let found = observe();
        assert_eq!(found.ruleset.chains[&chain], [other.clone(), rule]);
        assert_eq!(found.counters.rules, [((chain, 1), counter)].into());
        commit(&[Step::DeleteRule { chain, handle: found.handles[&chain][1] }]);
        assert_eq!(observe().ruleset.chains[&chain], [other]);
    });
}

#[test]
fn every_step_has_its_way_back() {
    in_namespace(|| {
        let wanted = everything();
        commit(&make(&wanted));
        let mut steps = Vec::new();
        for (chain, handles) in observe().handles {
            steps.extend(handles.into_iter().map(|handle| Step::DeleteRule { chain, handle }));
        }
        for (name, map) in &wanted.maps {
            let (map, name) = (map.clone(), *name);
            steps.push(match map {
                Map::Ports(list) => {
                    let services = list.into_iter().map(|(service, _)| service).collect();
                    Step::DeleteElements { map: name, services }
                }
                Map::Selected(services) | Map::Services(services) => {
                    Step::DeleteElements { map: name, services }
                }
                Map::Answers(answers) => Step::DeleteAnswers { map: name, answers },
            });
            steps.push(Step::DeleteMap(name));
        }
        steps.extend([Step::ShutGate, Step::DeleteGate]);
        steps.extend(wanted.chains.keys().map(|name| Step::DeleteChain(*name)));
        commit(&steps);
        assert_eq!(observe(), Observed::default());
        commit(&[Step::DeleteTable]);
        assert!(Netlink::open().unwrap().snapshot(Extent::Whole).unwrap().table.is_none());
    });
}

#[test]
fn the_gate_shuts_by_itself() {
    in_namespace(|| {
        let timeout = Duration::from_millis(500);
        commit(&[Step::AddTable, Step::AddGate, Step::OpenGate { timeout }]);
        let gate = observe().ruleset.gate.unwrap();
        assert_eq!(gate.timeout, timeout);
        assert!(gate.left > Duration::ZERO && gate.left <= timeout);
        std::thread::sleep(timeout);
        assert_eq!(observe().ruleset.gate.unwrap().left, Duration::ZERO);
        // Nothing is left to remove, and that is no error.
        commit(&[Step::ShutGate]);
        commit(&[Step::ShutGate, Step::OpenGate { timeout: timeout * 100 }]);
        assert!(observe().ruleset.gate.unwrap().left > timeout);
    });
}

#[test]
fn the_stamp_is_read_alone() {
    in_namespace(|| {
        let mut kernel = Netlink::open().unwrap();
        assert_eq!(kernel.stamp().unwrap(), None);
        commit(&[Step::AddTable]);
        assert_eq!(kernel.stamp().unwrap(), None);
        commit(&[Step::AddChain(PREROUTING)]);
        assert_eq!(kernel.stamp().unwrap(), None);
        let stamp =
            Stamp { generation: portmap::mapping::GenerationId::new(3), ruleset: 9, input: None };
        let rule = |stamp| add_rule(PREROUTING, None, Rule::ForThisHost(stamp), Counter::default());
        commit(&[rule(Some(stamp)), rule(None)]);
        assert_eq!(kernel.stamp().unwrap(), Some(stamp));
    });
}

const FOREIGN: &str = r#"
table ip portmap {
    chain prerouting {
        tcp dport 1 accept
    }
}
table inet other {
    chain prerouting {
        tcp dport 1 accept
    }
}
table inet portmap {
    counter hits {
    }
    set addresses { type ipv4_addr; }
    map ports { type inet_proto . inet_service : inet_service; flags timeout; }
    map local {
        type inet_proto . inet_service : inet_service
        elements = { tcp . 80 : 3000, icmp . 8 : 3, tcp . 0 : 7 }
    }
    map selected {
        type inet_proto . inet_service : verdict
        elements = { tcp . 5 : accept }
    }
    set trial { type nf_proto; flags timeout; elements = { ipv4, ipv6 timeout 1h }; }
    chain stray {
    }
    chain tcp-80 {
        meta l4proto tcp counter redirect to :1
        meta l4proto udp counter redirect to :2
        meta l4proto tcp redirect to :3
        meta l4proto tcp counter redirect to :4-5
        meta l4proto tcp ip saddr @addresses counter redirect to :6
        meta l4proto tcp ip saddr != 1.2.3.4 counter redirect to :7
        meta l4proto tcp iif 1 counter redirect to :8
    }
    chain output { type nat hook output priority -100; }
    chain prerouting {
        type nat hook prerouting priority -101;
        fib daddr type != local return comment "no stamp"
        meta l4proto { tcp, udp } redirect to :meta l4proto . th dport map @local
        tcp dport 80 ct state new log prefix "x" accept
    }
}"#;

#[test]
fn what_is_not_ours_is_reported() {
    in_namespace(|| {
        nft(&["-f", "-"], FOREIGN);
        let found = observe();
        let (rules, mut others): (Vec<_>, Vec<_>) =
            found.foreign.into_iter().partition(|line| line.starts_with("rule (handle "));
        others.sort();
        assert_eq!(
            others,
            [
                "chain output (not as portmap makes it)",
                "chain stray",
                "element 0100000000080000 of map local",
                "element 02 of set trial",
                "element 0600000000000000 of map local",
                "element 5/tcp of map selected",
                "map ports (not as portmap makes it)",
                "object hits",
                "set addresses",
            ]
        );
        let of = |chain: &str| rules.iter().filter(|line| line.ends_with(chain)).count();
        assert_eq!((of(" in chain tcp-80"), of(" in chain prerouting")), (6, 3), "{rules:?}");
        let chain = ChainName::Service(Layer::Active, tcp(80));
        assert_eq!(found.ruleset.chains[&chain].len(), 1);
        assert_eq!(found.handles[&chain].len(), 1);
        nft(&["-f", "-"], "table inet portmap { flags dormant; }");
        assert!(observe().foreign.contains(&"flags 0x1 of table portmap (dormant)".to_owned()));
    });
}
