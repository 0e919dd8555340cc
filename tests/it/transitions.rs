//! What packets meet on the way from one mapping to the next, where that takes more than one
//! commit.

use std::time::Duration;

use portmap::mapping::{Family, MappingSet, Service, Target};
use portmap::ruleset::{ChainName, Hook, Layer, Map, MapName, Rule, Ruleset, Trial, desired};
use proptest::prelude::*;

use crate::support::arbitrary::neighbours;
use crate::support::{NoAnswer, World, wait_until};

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
                Rule::Gate(trial) if maps.gate.is_some_and(|gate| !gate.left.is_zero()) => {
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

/// Every packet, on every way between these tables, is sent where the first of them sends it or
/// where the last one does.
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
    for packet in sets.iter().flatten().flat_map(|m| Packet::all(m.service)) {
        let known = [before, after].map(|table| packet.target(table, table));
        let ways = tables.iter().zip(&tables).chain(tables.iter().zip(&tables[1..]));
        for (rules, maps) in ways {
            let target = packet.target(rules, maps);
            prop_assert!(known.contains(&target), "{packet:?}: {target:?}, not of {known:?}");
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
    fn no_packet_goes_back_when_a_trial_is_kept(sets in neighbours(2), zone: bool) {
        let trial = Trial { mapping: &sets[1], time: Duration::from_secs(9), zone };
        let before = desired(&sets[0], Some(trial), None);
        leads_from_one_to_the_other(&before, &desired(&sets[1], None, None), &sets)?;
    }

    #[test]
    fn no_packet_goes_astray_when_a_trial_is_rolled_back(sets in neighbours(2), zone: bool) {
        let trial = Trial { mapping: &sets[1], time: Duration::from_secs(9), zone };
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

    /// What new clients are answered, each with a name for it.
    fn answers(&self) -> Vec<(&'static str, Result<String, NoAnswer>)> {
        let World { host, client, .. } = &self.world;
        vec![
            ("tcp, outside", client.tcp_ask("192.0.2.1:80")),
            ("tcp, outside, IPv6", client.tcp_ask("[2001:db8::1]:80")),
            ("tcp, here", host.tcp_ask("127.0.0.1:80")),
            ("udp, outside", client.udp_ask("192.0.2.1:80")),
            ("udp, here", host.udp_ask("127.0.0.1:80")),
        ]
    }

    /// The answers after the first of two commits, while the command waits for the packets that are
    /// under way.
    fn answers_halfway<const N: usize>(
        &self,
        command: [&str; N],
    ) -> Vec<(&'static str, Result<String, NoAnswer>)> {
        let host = &self.world.host;
        let before = host.layout();
        let running =
            host.portmap_to_inject("membarrier", "delay_enter=1500000", "1+", command).start();
        wait_until("the first commit has been made", || host.layout() != before);
        let halfway = host.layout();
        let answers = self.answers();
        assert_eq!(host.layout(), halfway, "{command:?}: the second commit came too early");
        running.wait().succeeds();
        assert_ne!(host.layout(), halfway, "{command:?}: there was one commit");
        answers
    }
}

#[test]
fn nobody_goes_back_for_a_moment_when_a_trial_is_kept() {
    for (before, after) in MOVES {
        let stage = Stage::new(before, after);
        stage.world.host.portmap(["apply", "--confirm", "1h", "new.yaml"]).run().succeeds();
        let on_trial = stage.answers();
        let halfway = stage.answers_halfway(["confirm"]);
        assert_eq!(halfway, on_trial, "{before} -> {after}");
        assert_eq!(stage.answers(), on_trial, "{before} -> {after}");
    }
}

#[test]
fn in_the_middle_of_a_move_each_client_is_served_as_before_or_as_after() {
    for (before, after) in MOVES {
        let stage = Stage::new(before, after);
        let old = stage.answers();
        let halfway = stage.answers_halfway(["apply", "new.yaml"]);
        let new = stage.answers();
        for ((halfway, old), new) in halfway.iter().zip(&old).zip(&new) {
            assert!(halfway == old || halfway == new, "{before} -> {after}: {halfway:?}");
        }
    }
}
