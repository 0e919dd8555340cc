//! The iptables form of a mapping: both backends take it, and the same clients get the same
//! answers as from the table that apply makes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use portmap::formats::iptables::Script;
use portmap::mapping::Family;

use crate::support::arbitrary::mapping_sets;
use crate::support::{Namespace, NoAnswer, World};

/// `iptables-nft-restore`, `ip6tables-legacy-restore`, …: what is installed of them.
const BACKENDS: [&str; 2] = ["nft", "legacy"];

const RULES: &str = "\
ports:
  - { port: 80/tcp+udp, to: 3000, comment: 'the \\ shop; it''s #1 at $HOME' }
  - { port: 81, to: 3000, scope: external }
  - { port: 82, to: 3000, scope: local }
  - { port: 83/udp, to: 3000, families: [ipv4] }
  - { port: 84, to: 3000, families: [ipv6] }
  - { port: 85, to: 3000, interfaces: ['wg*', lan0] }
  - { port: 86, to: 4000, sources: [192.0.2.2, 2001:db8::/64] }
  - { port: 86, to: 5000, interfaces: [wg0] }
  - { port: 86, to: 3000 }
  - { port: 87, to: 3000, addresses: [198.51.100.1, '2001:db8:1::1'] }
  - { port: 6000-6001, to: 4000-4001 }
  - { port: 92, to: 6600, user: 1000, direct: refuse }
  - { port: 89/udplite, to: 3000 }
  - { port: 90, to: 3000, interfaces: [odd+] }
";

const FROM_OUTSIDE: [&str; 4] = ["192.0.2.1", "198.51.100.1", "[2001:db8::1]", "[2001:db8:1::1]"];
const FROM_ITSELF: [&str; 4] = ["127.0.0.1", "[::1]", "192.0.2.1", "[2001:db8::1]"];
const PORTS: [u16; 11] = [80, 81, 82, 83, 84, 85, 86, 87, 88, 6000, 6001];

/// Who answers whom, at every address and port.
fn answers(world: &World) -> BTreeMap<String, Result<String, NoAnswer>> {
    let mut answers = BTreeMap::new();
    let clients = [("client", &world.client, FROM_OUTSIDE), ("host", &world.host, FROM_ITSELF)];
    for (who, client, hosts) in clients {
        for host in hosts {
            for port in PORTS {
                let to = format!("{host}:{port}");
                answers.insert(format!("{who} tcp {to}"), client.tcp_ask(&to));
                answers.insert(format!("{who} udp {to}"), client.udp_ask(&to));
            }
        }
    }
    answers
}

fn has(host: &Namespace, backend: &str) -> bool {
    let program = format!("iptables-{backend}-restore");
    host.command(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

#[track_caller]
fn load(host: &Namespace, program: &str, backend: &str, script: &str) {
    let mut restore = host.command(format!("{program}-{backend}-restore"));
    // Those of other tests may hold the lock.
    host.output(restore.args(["--wait", "--noflush"]), script);
}

#[test]
fn iptables_translates_the_same_connections() {
    let world = World::new().with_second_link();
    let _servers = [
        world.host.serve("app", 3000),
        world.host.serve("4000", 4000),
        world.host.serve("4001", 4001),
        world.host.serve("5000", 5000),
    ];
    world.host.apply(RULES);
    let expected = answers(&world);
    world.host.portmap(["clear"]).run().succeeds();
    assert!(answers(&world).values().all(Result::is_err), "nothing is left");

    let scripts = ["iptables", "ip6tables"].map(|program| {
        let render = world.host.portmap(["render", "--format", program, "rules.yaml"]);
        (program, render.run().succeeds().stdout)
    });
    let mut tried = 0;
    for backend in BACKENDS.into_iter().filter(|backend| has(&world.host, backend)) {
        for (program, script) in &scripts {
            load(&world.host, program, backend, script);
        }
        let found = answers(&world);
        let differ = expected.iter().filter(|(what, answer)| found[*what] != **answer);
        let differ: Vec<_> = differ.map(|(what, a)| (what, a, &found[what])).collect();
        assert!(differ.is_empty(), "{backend}: {differ:#?}");
        for program in ["iptables", "ip6tables"] {
            load(&world.host, program, backend, FLUSH);
        }
        assert!(answers(&world).values().all(Result::is_err), "{backend}: nothing is left");
        tried += 1;
    }
    assert!(tried > 0, "no iptables is installed");
}

const FLUSH: &str = "\
*nat
-F PREROUTING
-F OUTPUT
-F PORTMAP-EXTERNAL
-F PORTMAP-LOCAL
-X PORTMAP-EXTERNAL
-X PORTMAP-LOCAL
COMMIT
";

#[test]
fn what_iptables_cannot_translate_is_said_in_a_comment() {
    let host = Namespace::new();
    let rules = host.file("rules.yaml", RULES);
    for program in ["iptables", "ip6tables"] {
        let render = ["render".as_ref(), "--format".as_ref(), program.as_ref(), rules.as_os_str()];
        let script = host.portmap(render).run().succeeds().stdout;
        for comment in [
            "\n# 89/udplite -> 3000: ",
            "\n# 90/tcp -> 3000: ",
            "\n# 92/tcp -> 6600: any user may answer, not only 1000\n",
            "\n# 92/tcp -> 6600: other machines may use 6600 directly\n",
        ] {
            assert!(script.contains(comment), "{script}");
        }
        assert!(!script.contains("--dport 90"), "{script}");
    }
}

#[test]
fn iptables_takes_any_mapping() {
    let host = Namespace::new();
    let config = Config { cases: 20, failure_persistence: None, ..Config::default() };
    let backends: Vec<_> = BACKENDS.into_iter().filter(|backend| has(&host, backend)).collect();
    let outcome = TestRunner::new(config).run(&mapping_sets(), |mapping| {
        for (program, family) in [("iptables", Family::Ipv4), ("ip6tables", Family::Ipv6)] {
            let script = Script { mapping: &mapping, family }.to_string();
            let mut rules: Vec<_> =
                script.lines().filter(|l| l.starts_with("-A PORTMAP")).collect();
            rules.sort_unstable();
            for backend in &backends {
                load(&host, program, backend, &script);
                let mut save = host.command(format!("{program}-{backend}-save"));
                let saved = host.output(save.args(["-t", "nat"]), "");
                let saved = saved.lines().filter(|line| line.starts_with("-A PORTMAP")).count();
                prop_assert_eq!(saved, rules.len(), "{}\n{}", backend, script);
                load(&host, program, backend, FLUSH);
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|why| panic!("{why}"));
}
