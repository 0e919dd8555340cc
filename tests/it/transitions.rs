//! What packets meet on the way from one mapping to the next, where that takes more than one
//! commit.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portmap::mapping::{Family, MappingSet, Service, Target, Uid, User};
use portmap::ruleset::{
    ChainName, Check, CheckRule, Hook, Layer, Map, MapName, Rule, Ruleset, Trial, desired,
};
use proptest::prelude::*;

use crate::support::arbitrary::neighbours;
use crate::support::{NoAnswer, World, answer, wait_until};

/// The first packet of a connection, as far as tables tell such packets apart.
#[derive(Clone, Copy, Debug)]
struct Packet {
    hook: Hook,
    family: Family,
    service: Service,
    /// Whether it is one of those that selectors name, whatever they are.
    is_special: bool,
}

impl Packet {
    /// All that are for a service.
    fn all(service: Service) -> impl Iterator<Item = Packet> {
        Hook::ALL.into_iter().flat_map(move |hook| {
            [Family::Ipv4, Family::Ipv6].into_iter().flat_map(move |family| {
                [false, true].map(|is_special| Packet { hook, family, service, is_special })
            })
        })
    }

    /// Where it is sent. The rules are those of the table under which it set out, the elements
    /// those of the table that is there when it comes to them.
    fn target(self, rules: &Ruleset, maps: &Ruleset) -> Option<Target> {
        self.target_by(ChainName::Hook(Layer::Active, self.hook), rules, maps)
    }

    fn target_by(self, chain: ChainName, rules: &Ruleset, maps: &Ruleset) -> Option<Target> {
        for rule in rules.chains.get(&chain).into_iter().flatten() {
            match rule {
                Rule::Gate(trial) if is_gate_open(maps) => {
                    return self.target_by(*trial, rules, maps);
                }
                Rule::Lookup(name @ MapName::Ports(.., of)) if of.covers(self.family) => {
                    let target = maps.maps.get(name).and_then(|map| map.target(self.service));
                    if let Some(target) = target {
                        return Some(target.to);
                    }
                }
                Rule::Dispatch(layer) => {
                    let map = maps.maps.get(&MapName::Selected(*layer));
                    if matches!(map, Some(Map::Selected(all)) if all.contains(&self.service)) {
                        let chain = ChainName::Service(*layer, self.service);
                        return self.target_by(chain, rules, maps);
                    }
                }
                Rule::Select(m)
                    if m.selector.scope().covers(self.hook.scope())
                        && m.selector.family().covers(self.family)
                        && (m.selector.matches().is_none() || self.is_special) =>
                {
                    return Some(m.to);
                }
                _ => {}
            }
        }
        None
    }
}

fn is_gate_open(table: &Ruleset) -> bool {
    table.gate.is_some_and(|gate| !gate.left.is_zero())
}

/// Whether a socket of this user may answer for a service from there, by a chain of a table and the
/// sets in it.
fn may_answer(table: &Ruleset, chain: ChainName, answer: (Service, Target, Option<Uid>)) -> bool {
    let has = |set, key| match table.maps.get(&set) {
        Some(Map::Answers(answers)) => answers.iter().any(|answer| answer.key() == key),
        _ => false,
    };
    for rule in table.chains.get(&chain).into_iter().flatten() {
        match rule {
            Rule::Gate(trial) if is_gate_open(table) => return may_answer(table, *trial, answer),
            Rule::Check(CheckRule::Answers(layer)) => {
                let (service, to, _) = answer;
                let is_guarded = has(MapName::Guarded(*layer), (service, to, None));
                return has(MapName::Served(*layer), answer) || !is_guarded;
            }
            _ => {}
        }
    }
    true
}

/// Every packet, on every way between these tables, is sent where the first of them sends it or
/// where the last one does; and in each of them, who may answer it there is as in one of those.
fn leads_from_one_to_the_other(
    before: &Ruleset,
    after: &Ruleset,
    sets: &[MappingSet],
) -> Result<(), TestCaseError> {
    let between = after.between(before);
    if let Some(between) = &between {
        prop_assert_eq!(after.between(between), None, "two commits are enough");
    }
    let tables: Vec<_> =
        [Some(before), between.as_ref(), Some(after)].into_iter().flatten().collect();
    let users = sets.iter().flatten().filter_map(|m| m.user.as_ref());
    let users: BTreeSet<_> = users.map(|user: &User| Some(user.uid)).chain([None]).collect();
    for packet in sets.iter().flatten().flat_map(|m| Packet::all(m.service)) {
        let known = [before, after].map(|table| packet.target(table, table));
        let ways = tables.iter().zip(&tables).chain(tables.iter().zip(&tables[1..]));
        for (rules, maps) in ways {
            let target = packet.target(rules, maps);
            prop_assert!(known.contains(&target), "{packet:?}: {target:?}, not of {known:?}");
        }
        for (table, uid) in
            tables.iter().flat_map(|table| users.iter().map(move |uid| (table, *uid)))
        {
            let Some(to) = packet.target(table, table) else { continue };
            // Of mappings to one target the answers cannot be told apart: the last table decides.
            let has = |set: &MappingSet| set.of(packet.service).iter().any(|m| m.to == to);
            if sets.iter().all(has) {
                continue;
            }
            let chain = ChainName::Check(Layer::Active, Check::Answers);
            let may = |table: &Ruleset| may_answer(table, chain, (packet.service, to, uid));
            let ends =
                [before, after].into_iter().filter(|end| packet.target(end, end) == Some(to));
            let known: Vec<_> = ends.map(may).collect();
            prop_assert!(
                known.contains(&may(table)),
                "{packet:?}: {to}, by {uid:?}: not {known:?}"
            );
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_packet_that_is_under_way_is_sent_anywhere_else(sets in neighbours(2)) {
        let [before, after] = [0, 1].map(|i| desired(&sets[i], None, None));
        leads_from_one_to_the_other(&before, &after, &sets)?;
    }

    /// Then both ends are the same to a packet.
    #[test]
    fn no_packet_goes_back_when_a_trial_is_kept(sets in neighbours(2)) {
        let trial = Trial { mapping: &sets[1], time: Duration::from_secs(9), zone: true };
        let before = desired(&sets[0], Some(trial), None);
        leads_from_one_to_the_other(&before, &desired(&sets[1], None, None), &sets)?;
    }

    #[test]
    fn no_packet_goes_astray_when_a_trial_is_rolled_back(sets in neighbours(2)) {
        let trial = Trial { mapping: &sets[1], time: Duration::from_secs(9), zone: true };
        let before = desired(&sets[0], Some(trial), None);
        leads_from_one_to_the_other(&before, &desired(&sets[0], None, None), &sets)?;
    }
}

/// What an entry for port 80 says, before and after: each moves to another map.
const MOVES: [(&str, &str); 6] = [
    ("to: 3000", "to: 3001, sources: [192.0.2.2]"),
    ("to: 3000, sources: [192.0.2.2]", "to: 3001"),
    ("to: 3000", "to: 3001, scope: external"),
    ("to: 3000, scope: external", "to: 3001"),
    ("to: 3000, scope: external", "to: 3001, scope: local"),
    ("to: 3000, families: [ipv4]", "to: 3001, families: [ipv6]"),
];

struct Stage {
    world: World,
    _servers: [crate::support::net::Server; 2],
}

/// What new clients are answered, each with a name for it.
type Answers = Vec<(&'static str, Result<String, NoAnswer>)>;

impl Stage {
    fn new(before: &str, after: &str) -> Self {
        let world = World::new();
        let rules =
            |entry| format!("ports: [{{ port: 80, {entry} }}, {{ port: 80/udp, {entry} }}]");
        let servers = [world.host.serve("old", 3000), world.host.serve("new", 3001)];
        world.host.apply(&rules(before));
        world.host.file("new.yaml", &rules(after));
        Self { world, _servers: servers }
    }

    fn answers(&self) -> Answers {
        let World { host, client, .. } = &self.world;
        vec![
            ("tcp, outside", client.tcp_ask("192.0.2.1:80")),
            ("tcp, outside, IPv6", client.tcp_ask("[2001:db8::1]:80")),
            ("tcp, here", host.tcp_ask("127.0.0.1:80")),
            ("udp, outside", client.udp_ask("192.0.2.1:80")),
            ("udp, here", host.udp_ask("127.0.0.1:80")),
        ]
    }

    fn try_out(&self) {
        self.world.host.portmap(["apply", "--confirm", "1h", "new.yaml"]).run().succeeds();
    }

    /// What is seen between the two commits of a command, which is stopped there: where it has
    /// waited for the packets that are under way.
    fn halfway<T>(&self, command: &[&str], look: impl FnOnce() -> T) -> T {
        let host = &self.world.host;
        let running = host.portmap_to_inject("membarrier", "signal=STOP", 1, command).start();
        let mut stopped = None;
        wait_until("the command is stopped", || {
            let log = fs::read_to_string(host.strace_log()).unwrap_or_default();
            let line = log.lines().find(|line| line.contains("stopped by SIGSTOP"));
            stopped = line.and_then(|line| line.split(' ').next()?.parse().ok());
            stopped.is_some()
        });
        let layout = host.layout();
        let seen = look();
        kill(Pid::from_raw(stopped.unwrap()), Signal::SIGCONT).unwrap();
        running.wait().succeeds();
        assert_ne!(host.layout(), layout, "{command:?}: there was no second commit");
        seen
    }
}

fn hears(answers: &Answers, name: &str) -> bool {
    answers.iter().any(|(_, heard)| *heard == answer(name))
}

#[test]
fn nobody_goes_back_for_a_moment_when_a_trial_is_kept() {
    for (before, after) in MOVES {
        let stage = Stage::new(before, after);
        assert!(hears(&stage.answers(), "old"));
        stage.try_out();
        let on_trial = stage.answers();
        assert!(hears(&on_trial, "new") && !hears(&on_trial, "old"), "{on_trial:?}");
        let halfway = stage.halfway(&["confirm"], || stage.answers());
        assert_eq!(halfway, on_trial, "{before} -> {after}");
        assert_eq!(stage.answers(), on_trial, "{before} -> {after}");
    }
}

#[test]
fn in_the_middle_of_a_move_each_client_is_served_as_before_or_as_after() {
    for (before, after) in MOVES {
        let stage = Stage::new(before, after);
        let old = stage.answers();
        let halfway = stage.halfway(&["apply", "new.yaml"], || stage.answers());
        let new = stage.answers();
        assert!(hears(&old, "old") && hears(&new, "new"), "{old:?}, {new:?}");
        for ((halfway, old), new) in halfway.iter().zip(&old).zip(&new) {
            assert!(halfway == old || halfway == new, "{before} -> {after}: {halfway:?}");
        }
    }
}

/// Beside the flow that it has in the zone of the trial, the kernel would give it another port.
#[test]
fn a_udp_client_keeps_its_port_when_a_trial_ends() {
    for (command, name) in [("confirm", "new"), ("rollback", "old")] {
        let stage = Stage::new("to: 3000", "to: 3001");
        stage.try_out();
        let client = stage.world.client.udp_client(40000, "192.0.2.1:80");
        let port = || client.seen_as().map(|me| me.port());
        assert_eq!((client.ask(), port()), (answer("new"), Ok(40000)));
        let halfway = stage.halfway(&[command], || (client.ask(), port()));
        assert_eq!(halfway, (answer(name), Ok(40000)), "{command}");
        assert_eq!((client.ask(), port()), (answer(name), Ok(40000)), "{command}");
    }
}

/// Nobody may answer for a mapping with a user who could not before, and cannot after.
#[test]
fn a_place_that_is_left_is_guarded_to_the_last() {
    let rules = |to: u16, more: &str| format!("to: {to}, user: 65533{more}");
    let stage = Stage::new(&rules(3000, ""), &rules(3001, ", scope: external"));
    let ask = || stage.world.host.tcp_ask("127.0.0.1:80");
    assert_eq!(ask(), Err(NoAnswer::TimedOut), "another user's server");
    assert_eq!(stage.halfway(&["apply", "new.yaml"], ask), Err(NoAnswer::TimedOut));
    assert_eq!(ask(), Err(NoAnswer::Refused), "not mapped");
}

/// What a command leaves that is killed just after its first commit.
#[test]
fn flows_of_a_trial_whose_end_was_killed_go_with_the_next_command() {
    for command in ["confirm", "rollback"] {
        let stage = Stage::new("to: 3000", "to: 3001");
        let host = &stage.world.host;
        let on_trial = || {
            stage.try_out();
            assert_eq!(stage.world.client.udp_ask("192.0.2.1:80"), answer("new"));
        };
        on_trial();
        let commit = host.portmap_injected("sendto", "delay_enter=1", 1, [command]);
        let commit = commit.first_commit();
        host.portmap(["apply", "rules.yaml"]).run().succeeds();
        on_trial();
        let killed = host.portmap_injected("sendto", "signal=KILL", commit + 1, [command]);
        assert_eq!(killed.hits().signal, Some(nix::libc::SIGKILL), "{command}");
        let in_zone = || host.conntrack_flows().iter().any(|flow| flow.contains("zone"));
        assert!(in_zone(), "{command}: it was killed too late");
        host.portmap(["apply", "new.yaml"]).run().succeeds();
        assert!(!in_zone(), "{command}: {:?}", host.conntrack_flows());
    }
}
