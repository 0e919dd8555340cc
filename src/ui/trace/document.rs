//! Stories as one document.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::{Traced, program};
use crate::host::listeners::Listener;
use crate::story::{Chart, Decision, Leg, Origin, Packet, Passage, Said, Story, Word};
use crate::ui::JSON_VERSION;

#[derive(Serialize)]
pub struct Document<'a> {
    version: u32,
    services: Vec<ServiceJson>,
    stories: Vec<StoryJson<'a>>,
    /// Packets of connections that are told of above.
    repeats: u32,
    /// Packets of flows that had been answered before.
    known: u32,
    complete: bool,
    interrupted: bool,
}

#[derive(Serialize)]
struct ServiceJson {
    port: u16,
    protocol: &'static str,
}

#[derive(Serialize)]
pub struct StoryJson<'a> {
    port: u16,
    protocol: &'static str,
    client: End,
    asked: End,
    from: &'static str,
    interface: Option<&'a str>,
    reached: End,
    translated: bool,
    outcome: &'static str,
    because: Option<Because<'a>>,
    listeners: Vec<ListenerJson<'a>>,
    summary: String,
    help: Option<String>,
    repeats: u32,
    events: Vec<EventJson<'a>>,
}

/// Whose program is not known has no name.
#[derive(Serialize)]
struct ListenerJson<'a> {
    address: IpAddr,
    program: Option<&'a str>,
    pid: Option<u32>,
    user: Option<&'a str>,
}

impl<'a> From<&'a Listener> for ListenerJson<'a> {
    fn from(listener: &'a Listener) -> Self {
        let program = listener.program.as_ref();
        Self {
            address: listener.address,
            program: program.map(|program| &*program.name),
            pid: program.map(|program| program.pid),
            user: listener.user.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct End {
    address: IpAddr,
    port: u16,
}

#[derive(Serialize)]
struct Because<'a> {
    #[serde(flatten)]
    place: PlaceJson<'a>,
    /// Null for the policy of the chain.
    rule: Option<RuleJson<'a>>,
}

#[derive(Serialize)]
struct PlaceJson<'a> {
    family: &'static str,
    table: &'a str,
    chain: &'a str,
}

#[derive(Serialize)]
struct RuleJson<'a> {
    handle: u64,
    position: Option<usize>,
    text: Option<&'a str>,
    comment: Option<&'a str>,
}

#[derive(Serialize)]
struct EventJson<'a> {
    packet: &'static str,
    hook: Option<&'static str>,
    priority: Option<i32>,
    #[serde(flatten)]
    place: PlaceJson<'a>,
    rule: Option<RuleJson<'a>>,
    verdict: &'static str,
    to_chain: Option<&'a str>,
    /// Where the packet came from and was sent to when it entered the base chain.
    source: Option<EndJson>,
    destination: Option<EndJson>,
}

/// Without a port where the packet has none, as an ICMP error.
#[derive(Serialize)]
struct EndJson {
    address: IpAddr,
    port: Option<u16>,
}

pub fn of<'a>(traced: &'a Traced<'_>) -> Document<'a> {
    let service = |s: &crate::mapping::Service| ServiceJson {
        port: s.port.get(),
        protocol: s.protocol.name(),
    };
    Document {
        version: JSON_VERSION,
        services: traced.services.iter().map(service).collect(),
        stories: traced.told.iter().map(|t| story(&t.story, &t.chart, &t.listeners)).collect(),
        repeats: traced.heard.repeats,
        known: traced.heard.known,
        complete: !traced.is_incomplete && traced.heard.crowded == 0,
        interrupted: traced.is_interrupted,
    }
}

pub fn story<'a>(story: &'a Story, chart: &'a Chart, listeners: &'a [Listener]) -> StoryJson<'a> {
    let (from, interface) = match &story.origin {
        Origin::Here => ("here", None),
        Origin::Outside { interface } => ("outside", interface.as_deref()),
    };
    StoryJson {
        port: story.asked.port(),
        protocol: story.protocol.name(),
        client: story.client.into(),
        asked: story.asked.into(),
        from,
        interface,
        reached: story.reached.into(),
        translated: story.is_translated(),
        outcome: story.outcome.name(),
        because: story.outcome.decision().map(|decision| because(decision, chart)),
        listeners: listeners.iter().map(ListenerJson::from).collect(),
        summary: story.ending(chart, program(story, listeners).as_deref()),
        help: story.advice(chart),
        repeats: story.repeats,
        events: story.passages.iter().flat_map(|passage| events(passage, chart)).collect(),
    }
}

fn because<'a>(decision: &'a Decision, chart: &'a Chart) -> Because<'a> {
    let Decision { place, rule } = decision;
    let place_json = PlaceJson { family: place.family, table: &place.table, chain: &place.chain };
    Because { place: place_json, rule: rule.map(|handle| rule_json(decision, handle, chart)) }
}

fn rule_json<'a>(decision: &Decision, handle: u64, chart: &'a Chart) -> RuleJson<'a> {
    let written = chart.rule(&decision.place, handle);
    RuleJson {
        handle,
        position: written.map(|written| written.position),
        text: written.and_then(|written| written.text.as_deref()),
        comment: written.and_then(|written| written.comment.as_deref()),
    }
}

fn events<'a>(passage: &'a Passage, chart: &'a Chart) -> Vec<EventJson<'a>> {
    let base = chart.base(&passage.place);
    let ends = passage.packet.as_ref().map(ends);
    let event = |word: &'a Word| {
        let place = passage.place_of(word);
        let (handle, verdict) = match &word.said {
            Said::Rule { handle, verdict } => (Some(*handle), verdict),
            Said::Policy(verdict) => (None, verdict),
            Said::End => return None,
        };
        let rule = handle.map(|handle| {
            let decision = Decision { place: place.clone(), rule: Some(handle) };
            rule_json(&decision, handle, chart)
        });
        let (source, destination) = match ends {
            Some((source, destination)) => (Some(source), Some(destination)),
            None => (None, None),
        };
        Some(EventJson {
            packet: match passage.leg {
                Leg::Request => "request",
                Leg::Answer => "answer",
            },
            hook: base.map(|base| base.hook),
            priority: base.map(|base| base.priority),
            place: PlaceJson {
                family: place.family,
                table: &passage.place.table,
                chain: &word.chain,
            },
            rule,
            verdict: verdict.name(),
            to_chain: verdict.chain(),
            source: source.map(EndJson::from),
            destination: destination.map(EndJson::from),
        })
    };
    passage.words.iter().filter_map(event).collect()
}

type Half = (IpAddr, Option<u16>);

fn ends(packet: &Packet) -> (Half, Half) {
    let ports = packet.ports();
    let source = (packet.source, ports.map(|ports| ports.source));
    (source, (packet.destination, ports.map(|ports| ports.destination)))
}

impl From<Half> for EndJson {
    fn from((address, port): Half) -> Self {
        Self { address, port }
    }
}

impl From<SocketAddr> for End {
    fn from(end: SocketAddr) -> Self {
        Self { address: end.ip(), port: end.port() }
    }
}
