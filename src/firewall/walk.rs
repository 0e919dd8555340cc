//! The way of a connection's packets through the hooks, in the kernel's order.
//!
//! Between the chains of a hook stand connection tracking (at -200 in prerouting and output) and
//! NAT, which calls all NAT chains at one priority of its own, whatever theirs is: that only orders
//! them among each other (`nf_nat_proto.c`, `nf_nat_core.c`). The first that translates ends it.
//! Of chains at one priority the one that was registered last comes first (`nf_hook_entries_grow`
//! of `core.c`), and nothing that can be read tells which that is.

use super::connection::{Client, Connection, Leg};
use super::expr::{Expr, Translation};
use super::facts::Moment;
use super::machine::{Block, How, Machine, Passed, Spot, base};
use super::state::{Done, State, Tracking, join};
use super::tables::{BaseChain, Family, Hook, Kind, Rulesets, Table};
use super::xt::Target;

/// `NF_IP_PRI_CONNTRACK`, `NF_IP_PRI_NAT_DST`, `NF_IP_PRI_NAT_SRC` of `linux/netfilter_ipv4.h`
pub const CONNTRACK: i32 = -200;
pub const NAT_DESTINATION: i32 = -100;
const NAT_SOURCE: i32 = 100;

/// Of portmap's NAT chains.
pub const OURS: i32 = -101;

const SAME_PRIORITY: &str =
    "depends on which of the chains at this priority was put there last: that one comes first";

/// What stands at a hook.
#[derive(Clone, Copy)]
enum Stop {
    Chain(usize, usize),
    Conntrack,
    Nat,
}

/// Whether a table is portmap's own, whose effect is given.
pub fn is_ours(table: &Table) -> bool {
    table.family == Family::Inet && table.name == "portmap"
}

/// The first rule of a table that exempts from tracking, in this chain if it has one.
fn exemption(table: &Table, index: usize, chain: usize) -> Spot {
    let exempts = |expr: &Expr| matches!(expr, Expr::Notrack | Expr::Target(Target::Notrack));
    let place = |c: usize| {
        let rules = &table.chains[c].rules;
        let rule = rules.iter().position(|rule| rule.exprs.iter().any(exempts))?;
        Some(Spot { table: index, chain: c, rule: Some(rule) })
    };
    let others = (0..table.chains.len()).find_map(place);
    place(chain).or(others).unwrap_or(Spot { table: index, chain, rule: None })
}

pub struct Walk<'a> {
    pub machine: Machine<'a>,
    connection: &'a Connection,
}

impl<'a> Walk<'a> {
    pub fn new(rulesets: &'a Rulesets, connection: &'a Connection) -> Self {
        Self { machine: Machine::new(rulesets), connection }
    }

    /// All packets, one after another, as long as one can get through. Whether all can.
    pub fn all(&mut self) -> bool {
        let mut last: Option<State> = None;
        for leg in Leg::ALL {
            let state = match &last {
                None => State::first(self.connection),
                Some(state) => state.next(self.connection, leg),
            };
            last = self.leg(leg, state);
            if last.is_none() {
                return false;
            }
        }
        true
    }

    /// The first packet alone.
    pub fn first(&mut self) -> Option<State> {
        self.leg(Leg::Open, State::first(self.connection))
    }

    fn leg(&mut self, leg: Leg, state: State) -> Option<State> {
        use Hook::{Egress, Ingress, Input, Output, Postrouting, Prerouting};
        let hooks: &[Hook] = match (&self.connection.client, leg.is_answer()) {
            (Client::Here, _) => &[Output, Postrouting, Egress, Ingress, Prerouting, Input],
            (Client::Outside { .. }, false) => &[Ingress, Prerouting, Input],
            (Client::Outside { .. }, true) => &[Output, Postrouting, Egress],
        };
        let mut live = state;
        for hook in hooks {
            live = self.hook(leg, *hook, live)?;
        }
        Some(live)
    }

    fn hook(&mut self, leg: Leg, hook: Hook, state: State) -> Option<State> {
        let stops = self.stops(hook);
        let mut live = state;
        let mut at = 0;
        while at < stops.len() {
            // What stands at one priority has no order that could be read: each of them may have
            // seen what the others did, or not.
            let priority = stops[at].0;
            let same = stops[at..].iter().take_while(|(p, _)| *p == priority).count();
            let group = &stops[at..at + same];
            at += same;
            if let [(_, stop)] = group {
                live = self.stop(leg, hook, *stop, live)?;
                continue;
            }
            let seen = self.any_order(leg, hook, group, &live);
            let mut after = None;
            for (_, stop) in group {
                after = join(after, Some(self.stop(leg, hook, *stop, seen.clone())?));
            }
            live = after?;
        }
        Some(live)
    }

    /// What is known at each of some stops, whichever of the others came before.
    fn any_order(&mut self, leg: Leg, hook: Hook, group: &[(i32, Stop)], state: &State) -> State {
        let log = std::mem::take(&mut self.machine.log);
        let mut seen = state.clone();
        // As often as an effect can be handed on.
        for _ in group {
            let before = seen.clone();
            for (_, stop) in group {
                if let Some(after) = self.stop(leg, hook, *stop, before.clone()) {
                    seen.join(&after);
                }
            }
            if seen == before {
                break;
            }
        }
        self.machine.log = log;
        seen
    }

    fn stops(&self, hook: Hook) -> Vec<(i32, Stop)> {
        let mut stops = Vec::new();
        let device = self.connection.interface().name;
        for (t, c, family, chain) in self.base_chains() {
            let at_device = matches!(hook, Hook::Ingress | Hook::Egress);
            let here = match at_device {
                true => chain.devices.contains(&device),
                false => family.sees(self.connection.is_ipv6()),
            };
            if here && chain.hook == hook && chain.kind != Kind::Nat {
                stops.push((chain.priority, Stop::Chain(t, c)));
            }
        }
        match hook {
            Hook::Prerouting | Hook::Output => {
                stops.push((CONNTRACK, Stop::Conntrack));
                stops.push((NAT_DESTINATION, Stop::Nat));
            }
            Hook::Postrouting | Hook::Input => stops.push((NAT_SOURCE, Stop::Nat)),
            _ => {}
        }
        stops.sort_by_key(|(priority, _)| *priority);
        stops
    }

    /// The base chains that are called, but for portmap's own.
    fn base_chains(&self) -> impl Iterator<Item = (usize, usize, Family, &'a BaseChain)> + use<'a> {
        let tables = self.machine.rulesets.tables.iter().enumerate();
        let called = tables.filter(|(_, table)| !table.dormant && !is_ours(table));
        called.flat_map(|(t, table)| {
            let chains = table.chains.iter().enumerate();
            chains.filter_map(move |(c, chain)| Some((t, c, table.family, base(chain)?)))
        })
    }

    fn stop(&mut self, leg: Leg, hook: Hook, stop: Stop, mut state: State) -> Option<State> {
        match stop {
            Stop::Chain(table, chain) => {
                let before = state.tracking;
                let passed = self.chain(leg, hook, (table, chain), state);
                let on = join(passed.on, passed.translated)?;
                self.note_exemption(leg, hook, (table, chain), before, on)
            }
            Stop::Conntrack => {
                state.track();
                Some(state)
            }
            Stop::Nat => self.nat(leg, hook, state),
        }
    }

    fn chain(&mut self, leg: Leg, hook: Hook, (t, c): (usize, usize), state: State) -> Passed {
        let table = &self.machine.rulesets.tables[t];
        let Some(base) = base(&table.chains[c]) else {
            return Passed { on: Some(state), ..Passed::default() };
        };
        let family = table.family;
        let moment = Moment { connection: self.connection, leg, hook, family };
        let passed = self.machine.base_chain((t, c), base, moment, state);
        for (spot, translation) in &passed.translations {
            // tproxy gives the packet to another socket.
            if *translation == Translation::Socket {
                self.block(*spot, How::Translated, leg, hook);
            }
        }
        passed
    }

    fn block(&mut self, spot: Spot, how: How, leg: Leg, hook: Hook) {
        self.machine.log.block(Block { spot, how, leg, hook });
    }

    /// What a chain exempts from tracking is not translated: the connection fails. What may be
    /// exempted is followed as if it were not.
    fn note_exemption(
        &mut self,
        leg: Leg,
        hook: Hook,
        (table, chain): (usize, usize),
        before: Tracking,
        mut state: State,
    ) -> Option<State> {
        if self.connection.target.is_none() || before.untracked || !state.tracking.untracked {
            return Some(state);
        }
        let spot = exemption(&self.machine.rulesets.tables[table], table, chain);
        self.block(spot, How::NotTracked, leg, hook);
        let certain = !state.tracking.absent && !state.tracking.tracked && !state.tracking.template;
        state.tracking.untracked = false;
        (!certain).then_some(state)
    }

    fn nat(&mut self, leg: Leg, hook: Hook, state: State) -> Option<State> {
        let source = matches!(hook, Hook::Postrouting | Hook::Input);
        // Connections that exist go on as they began.
        if leg != Leg::Open {
            return Some(self.as_begun(leg, hook, state));
        }
        // The connection that loopback brings back has been through this.
        if self.connection.client == Client::Here && matches!(hook, Hook::Prerouting) {
            return Some(state);
        }
        let target = self.connection.target.filter(|_| !source);
        let ours = |mut state: State| {
            if let Some(target) = target {
                state.translated = Done::YES;
                state.set_destination_port(target.get());
            }
            state
        };
        let mut chains = self.nat_chains(hook);
        if target.is_some() {
            chains.retain(|(priority, ..)| *priority <= OURS);
        }
        let (mut live, mut ended) = (Some(state), None);
        for group in chains.chunk_by(|one, other| one.0 == other.0) {
            let Some(state) = live.take() else { break };
            let state = match group {
                [_] => state,
                _ => {
                    let stops: Vec<_> =
                        group.iter().map(|(p, t, c)| (*p, Stop::Chain(*t, *c))).collect();
                    self.any_order(leg, hook, &stops, &state)
                }
            };
            let blocks = self.machine.log.blocks.len();
            let (on, done) = self.nat_group(leg, hook, group, &state);
            let beside_ours = target.is_some() && group[0].0 == OURS;
            if beside_ours || group.len() > 1 && done.is_some() {
                self.machine.log.leave_open(blocks, SAME_PRIORITY);
            }
            (live, ended) = (on, join(ended, done));
            if beside_ours {
                ended = join(ended, Some(ours(state)));
            }
        }
        join(live.map(ours), ended)
    }

    /// The NAT chains of others at a hook, with their priorities and in their order.
    fn nat_chains(&self, hook: Hook) -> Vec<(i32, usize, usize)> {
        let ipv6 = self.connection.is_ipv6();
        let chains = self.base_chains().filter(|(_, _, family, chain)| {
            chain.kind == Kind::Nat && chain.hook == hook && family.sees(ipv6)
        });
        let mut chains: Vec<_> = chains.map(|(t, c, _, chain)| (chain.priority, t, c)).collect();
        chains.sort_by_key(|(priority, _, _)| *priority);
        chains
    }

    /// NAT chains at one priority: what is known of a packet that none of them translates, and of
    /// one whose source alone is.
    fn nat_group(
        &mut self,
        leg: Leg,
        hook: Hook,
        group: &[(i32, usize, usize)],
        state: &State,
    ) -> (Option<State>, Option<State>) {
        let (mut on, mut ended, mut stops) = (None, None, false);
        for (_, table, chain) in group {
            let passed = self.chain(leg, hook, (*table, *chain), state.clone());
            for (spot, translation) in &passed.translations {
                if *translation == Translation::Destination {
                    self.block(*spot, How::Translated, leg, hook);
                }
            }
            let only_source = passed.translations.iter().all(|(_, t)| *t == Translation::Source);
            if let Some(mut state) = passed.translated.filter(|_| only_source) {
                state.forget_source(self.connection.is_ipv6());
                state.source_translated = Done::YES;
                ended = join(ended, Some(state));
            }
            stops |= passed.on.is_none();
            on = join(on, passed.on);
        }
        (on.filter(|_| !stops), ended)
    }

    /// A packet of a connection that exists: answers get the port that the client asked.
    fn as_begun(&self, leg: Leg, hook: Hook, mut state: State) -> State {
        let Some(target) = self.connection.target else { return state };
        match (leg.is_answer(), hook) {
            (true, Hook::Postrouting | Hook::Input) => {
                state.set_source_port(self.connection.service.port.get());
            }
            (false, Hook::Prerouting | Hook::Output) => {
                state.set_destination_port(target.get());
            }
            _ => {}
        }
        state
    }
}
