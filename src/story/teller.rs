//! From messages to stories.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::event::{Event, Packet, Said, Transport, Verdict};
use super::stage::Stage;
use super::tale::{Answer, AnswerKind, Decision, Leg, Origin, Outcome, Passage, Story, Word};
use crate::mapping::Protocol;
use crate::ruleset::TraceId;

/// How long nothing must be heard of a connection before it counts as unanswered. The kernel
/// answers for a TCP listener at once.
const PATIENCE: Duration = Duration::from_millis(1500);
/// The same where a program itself has to answer.
const PATIENCE_WITH_PROGRAMS: Duration = Duration::from_secs(3);
/// How long after the end something may come that belongs to it: the reset of a rule that rejects
/// is heard of before its verdict.
const SETTLE: Duration = Duration::from_millis(100);
/// Connections followed at once, and connections remembered.
const OPEN_MAX: usize = 256;
const TOLD_MAX: usize = 4096;

/// Hears events, tells stories.
#[derive(Debug)]
pub struct Teller {
    /// The name of the tracing table.
    table: String,
    open: Vec<Open>,
    /// Those whose stories have been told, and how often they were heard of again.
    told: BTreeMap<Flow, u32>,
    heard: Heard,
    /// The last packet that entered a chain of the tracing table.
    entered: Option<Event>,
}

/// What was heard beside the stories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Packets of connections whose story had been told already.
    pub repeats: u32,
    /// Packets of flows that had been answered before.
    pub known: u32,
    /// New connections beyond those that can be followed at once.
    pub crowded: u32,
}

type Flow = (Protocol, SocketAddr, SocketAddr);

#[derive(Debug)]
struct Open {
    story: Story,
    /// The packets by which it is followed; without a leg: one that repeats another.
    ids: Vec<(u32, Option<Leg>)>,
    delivered: bool,
    forwarded: bool,
    /// Nothing more is expected.
    is_over: bool,
    deadline: Instant,
}

impl Teller {
    pub fn new(table: impl Into<String>) -> Self {
        let (open, told, heard) = (Vec::new(), BTreeMap::new(), Heard::default());
        Self { table: table.into(), open, told, heard, entered: None }
    }

    pub fn heard(&self) -> Heard {
        self.heard
    }

    pub fn hear(&mut self, event: Event, now: Instant) {
        let is_ours = event.place.family == "inet" && event.place.table == self.table;
        let stage = is_ours.then(|| Stage::of(&event.place.chain)).flatten();
        if is_ours && event.packet.is_some() {
            self.entered = Some(event.clone());
        }
        let begins = matches!(event.said, Said::Rule { verdict: Verdict::Continue, .. });
        if stage == Some(Stage::Begin) && begins {
            return self.begin(&event, now);
        }
        let Some((at, leg)) = self.whose(&event, stage) else { return };
        match (is_ours, stage) {
            (true, Some(Stage::KnownOutside | Stage::KnownHere)) => {
                if matches!(event.said, Said::Rule { .. }) {
                    self.open.swap_remove(at);
                    self.heard.known += 1;
                }
            }
            _ => self.open[at].follow(event, leg, stage, is_ours, now),
        }
    }

    /// A client's packet to a watched service. Where somebody else traces it already, it was shown
    /// as it entered the chain, before the rule that is spoken of here.
    fn begin(&mut self, event: &Event, now: Instant) {
        let entered = self.entered.take().filter(|entered| entered.id == event.id);
        let shown = if event.packet.is_some() { Some(event) } else { entered.as_ref() };
        let Some(event) = shown else { return };
        let Some(flow) = event.packet.as_ref().and_then(Packet::ends) else { return };
        if let Some(open) = self.open.iter_mut().find(|open| open.flow() == flow) {
            // Another program's tracing may have begun before ours: then there are several.
            let is_first = open.story.passages.is_empty() && open.leg_of(event.id).is_some();
            if !is_first {
                open.story.repeats += 1;
                open.name(event.id, None);
            }
            return;
        }
        self.forget(event.id);
        if let Some(times) = self.told.get_mut(&flow) {
            *times += 1;
            self.heard.repeats += 1;
            return;
        }
        if self.open.len() >= OPEN_MAX {
            self.heard.crowded += 1;
            return;
        }
        let (protocol, client, asked) = flow;
        let origin = match &event.arriving {
            Some(interface) => Origin::Outside { interface: Some(interface.clone()) },
            None => Origin::Here,
        };
        let story = Story {
            protocol,
            client,
            asked,
            origin,
            reached: asked,
            translated_in: None,
            passages: Vec::new(),
            answer: None,
            outcome: Outcome::Lost,
            repeats: 0,
        };
        let mut open = Open {
            story,
            ids: vec![(event.id, Some(Leg::Request))],
            delivered: false,
            forwarded: false,
            is_over: false,
            deadline: now,
        };
        open.wait(now);
        self.open.push(open);
    }

    /// The number is used for another packet now.
    fn forget(&mut self, id: u32) {
        for open in &mut self.open {
            open.ids.retain(|(known, _)| *known != id);
        }
    }

    /// Which story the event belongs to, and which packet of it.
    fn whose(&mut self, event: &Event, stage: Option<Stage>) -> Option<(usize, Leg)> {
        // An answer has a number of its own, which another packet may have had.
        if stage == Some(Stage::Answer) {
            self.forget(event.id);
        }
        let known = |open: &Open| open.leg_of(event.id);
        if let Some((at, leg)) =
            self.open.iter().enumerate().find_map(|(at, o)| Some((at, known(o)?)))
        {
            return leg.map(|leg| (at, leg));
        }
        // Over the loopback interface the same packet comes back under another number.
        let packet = event.packet.as_ref()?;
        let belongs = |open: &Open| open.recognize(packet);
        let (at, leg) =
            self.open.iter().enumerate().rev().find_map(|(at, o)| Some((at, belongs(o)?)))?;
        self.open[at].name(event.id, Some(leg));
        Some((at, leg))
    }

    /// When to ask for stories again, though nothing is heard.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.open.iter().map(|open| open.deadline).min()
    }

    /// The stories that have come to their end.
    pub fn ready(&mut self, now: Instant) -> Vec<Story> {
        self.take(|open| open.deadline <= now)
    }

    /// All others, as far as they are known.
    pub fn rest(&mut self) -> Vec<Story> {
        self.take(|_| true)
    }

    fn take(&mut self, is_ready: impl Fn(&Open) -> bool) -> Vec<Story> {
        let (ready, open) = std::mem::take(&mut self.open).into_iter().partition(is_ready);
        self.open = open;
        let ready: Vec<Open> = ready;
        let tell = |open: Open| {
            if self.told.len() < TOLD_MAX {
                self.told.insert(open.flow(), 0);
            }
            open.end()
        };
        ready.into_iter().map(tell).collect()
    }
}

impl Open {
    fn flow(&self) -> Flow {
        (self.story.protocol, self.story.client, self.story.asked)
    }

    fn leg_of(&self, id: u32) -> Option<Option<Leg>> {
        self.ids.iter().find(|(known, _)| *known == id).map(|(_, leg)| *leg)
    }

    fn name(&mut self, id: u32, leg: Option<Leg>) {
        self.ids.retain(|(known, _)| *known != id);
        self.ids.push((id, leg));
    }

    /// Which packet of the connection this one is, going by its addresses.
    fn recognize(&self, packet: &Packet) -> Option<Leg> {
        let story = &self.story;
        if self.is_over {
            return None;
        }
        if let Transport::Unreachable(_) = packet.transport {
            return (packet.destination == story.client.ip()).then_some(Leg::Answer);
        }
        let (protocol, source, destination) = packet.ends()?;
        let is_service = |end: SocketAddr| end == story.asked || end == story.reached;
        if protocol != story.protocol {
            None
        } else if destination == story.client && is_service(source) {
            Some(Leg::Answer)
        } else if source == story.client && is_service(destination) && story.repeats == 0 {
            Some(Leg::Request)
        } else {
            None
        }
    }

    fn wait(&mut self, now: Instant) {
        let patience = match (self.is_over, self.story.protocol) {
            (true, _) => SETTLE,
            (false, Protocol::Tcp) => PATIENCE,
            (false, _) => PATIENCE_WITH_PROGRAMS,
        };
        self.deadline = now + patience;
    }

    fn follow(
        &mut self,
        event: Event,
        leg: Leg,
        stage: Option<Stage>,
        is_ours: bool,
        now: Instant,
    ) {
        if let Some(packet) = &event.packet {
            self.look_at(packet, leg);
        }
        if is_ours {
            self.reach(stage, leg, &event.said);
        } else if event.place.table.parse::<TraceId>().is_err() {
            self.pass(event, leg);
        }
        self.wait(now);
    }

    /// What the packet itself tells.
    fn look_at(&mut self, packet: &Packet, leg: Leg) {
        let story = &mut self.story;
        match (leg, packet.ends()) {
            (Leg::Request, Some((_, _, destination))) if destination != story.reached => {
                story.reached = destination;
                let last = story.passages.iter().rposition(|p| p.leg == Leg::Request);
                story.translated_in = last.filter(|at| accepts(&story.passages[*at]));
            }
            (Leg::Answer, _) if story.answer.is_none() => {
                let kind = match packet.transport {
                    Transport::Unreachable(why) => AnswerKind::Unreachable(why),
                    Transport::Ports(ports) if ports.flags.is_reset() => AnswerKind::Reset,
                    _ => AnswerKind::Yes,
                };
                story.answer = Some(Answer { kind, arrived: false });
            }
            _ => {}
        }
    }

    /// A chain of the tracing table was passed.
    fn reach(&mut self, stage: Option<Stage>, leg: Leg, said: &Said) {
        if !matches!(said, Said::Policy(_)) {
            return;
        }
        let is_local = self.story.origin == Origin::Here;
        match (stage, leg) {
            (Some(Stage::Delivered), Leg::Request) => self.delivered = true,
            (Some(Stage::Forwarded), Leg::Request) => self.forwarded = true,
            (Some(Stage::Left), Leg::Request) => self.is_over |= self.forwarded,
            (Some(Stage::Delivered), Leg::Answer) => self.answered(),
            (Some(Stage::Left), Leg::Answer) if !is_local => self.answered(),
            _ => {}
        }
    }

    fn answered(&mut self) {
        if let Some(answer) = &mut self.story.answer {
            answer.arrived = true;
        }
        self.is_over = true;
    }

    /// A chain of somebody's was passed.
    fn pass(&mut self, event: Event, leg: Leg) {
        let Event { place, said, packet, .. } = event;
        let passages = &mut self.story.passages;
        let current = passages.iter().rposition(|passage| passage.leg == leg);
        let continues = current.filter(|at| {
            let there = &passages[*at].place;
            packet.is_none() && (there.family, &there.table) == (place.family, &place.table)
        });
        let word = (said != Said::End).then(|| Word { chain: place.chain.clone(), said });
        let at = continues.unwrap_or_else(|| {
            passages.push(Passage { leg, place, packet, words: Vec::new() });
            passages.len() - 1
        });
        passages[at].words.extend(word);
        self.is_over |= passages[at].drop().is_some();
    }

    fn end(mut self) -> Story {
        self.story.outcome = self.outcome();
        self.story
    }

    fn outcome(&self) -> Outcome {
        let dropped = |leg| {
            let passages = self.story.passages.iter().filter(move |passage| passage.leg == leg);
            passages.filter_map(|passage| passage.drop().map(|word| decision(passage, word))).next()
        };
        let refusal = match self.story.answer {
            Some(answer) => answer.kind != AnswerKind::Yes,
            None => false,
        };
        match (dropped(Leg::Request), dropped(Leg::Answer), &self.story.answer) {
            (Some(by), _, _) if refusal => Outcome::Rejected(by),
            (Some(by), _, _) => Outcome::Dropped(by),
            (None, Some(by), _) => Outcome::AnswerDropped(by),
            (None, None, Some(_)) if refusal && (self.delivered || self.forwarded) => {
                Outcome::Refused
            }
            // By something on its way that is not nftables.
            (None, None, Some(_)) if refusal => Outcome::Lost,
            (None, None, Some(_)) => Outcome::Answered,
            (None, None, None) if self.forwarded => Outcome::Forwarded,
            (None, None, None) if self.delivered => Outcome::Ignored,
            (None, None, None) => Outcome::Lost,
        }
    }
}

fn accepts(passage: &Passage) -> bool {
    let last = passage.words.last().map(|word| &word.said);
    matches!(last, Some(Said::Rule { verdict: Verdict::Accept, .. }))
}

fn decision(passage: &Passage, word: &Word) -> Decision {
    let rule = match word.said {
        Said::Rule { handle, .. } => Some(handle),
        Said::End | Said::Policy(_) => None,
    };
    Decision { place: passage.place_of(word), rule }
}
