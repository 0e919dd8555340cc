//! Events as the kernel gives them, written down.

use std::time::{Duration, Instant};

use super::*;
use crate::mapping::Protocol;

const TABLE: &str = "portmap-trace-1";
const SYN: u8 = TcpFlags::SYN;
const SYN_ACK: u8 = TcpFlags::SYN | TcpFlags::ACK;
const RST_ACK: u8 = TcpFlags::RST | TcpFlags::ACK;

const CLIENT: &str = "192.0.2.2:5000";
const ASKED: &str = "192.0.2.1:80";
const REACHED: &str = "192.0.2.1:3000";

/// A teller, and a clock that it is given.
struct World {
    teller: Teller,
    now: Instant,
}

fn packet(protocol: Protocol, from: &str, to: &str, flags: u8) -> Option<Packet> {
    let (from, to): (std::net::SocketAddr, std::net::SocketAddr) =
        (from.parse().unwrap(), to.parse().unwrap());
    let (source, destination, flags) = (from.port(), to.port(), TcpFlags(flags));
    let transport = Transport::Ports(Ports { protocol, source, destination, flags });
    Some(Packet { source: from.ip(), destination: to.ip(), transport })
}

fn tcp(from: &str, to: &str, flags: u8) -> Option<Packet> {
    packet(Protocol::Tcp, from, to, flags)
}

fn rule(handle: u64, verdict: Verdict) -> Said {
    Said::Rule { handle, verdict }
}

impl World {
    fn new() -> Self {
        Self { teller: Teller::new(TABLE), now: Instant::now() }
    }

    fn hear(&mut self, id: u32, chain: (&str, &str), packet: Option<Packet>, said: Said) {
        let (table, chain) = (chain.0.to_owned(), chain.1.to_owned());
        let arriving = packet.filter(|p| p.source.to_string() != "127.0.0.1");
        let arriving = arriving.map(|_| "eth0".to_owned());
        let place = Place { family: "inet", table, chain };
        let event = Event { id, place, said, packet, arriving, leaving: None };
        self.teller.hear(event, self.now);
    }

    fn stage(&mut self, id: u32, stage: Stage, packet: Option<Packet>) {
        let said = match stage {
            Stage::Begin | Stage::Answer => rule(1, Verdict::Continue),
            _ => Said::Policy(Verdict::Accept),
        };
        self.hear(id, (TABLE, stage.name()), packet, said);
    }

    /// A SYN from outside, translated, as far as the input hook.
    fn translated(&mut self, id: u32) {
        self.stage(id, Stage::Begin, tcp(CLIENT, ASKED, SYN));
        let accept = rule(7, Verdict::Accept);
        self.hear(id, ("portmap", "prerouting"), tcp(CLIENT, ASKED, SYN), accept);
    }

    fn delivered(&mut self, id: u32) {
        self.stage(id, Stage::Delivered, tcp(CLIENT, REACHED, SYN));
    }

    fn answer(&mut self, id: u32, flags: u8) {
        self.stage(id, Stage::Answer, tcp(REACHED, CLIENT, flags));
        self.stage(id, Stage::Left, tcp(ASKED, CLIENT, flags));
    }

    fn after(&mut self, time: Duration) -> Vec<Story> {
        self.now += time;
        self.teller.ready(self.now)
    }

    #[track_caller]
    fn only(&mut self) -> Story {
        let mut stories = self.after(Duration::from_secs(5));
        assert_eq!(stories.len(), 1, "{stories:#?}");
        stories.remove(0)
    }
}

/// A packet that is marked already is shown as it enters the chain, before the rule that marks it.
#[test]
fn a_connection_that_another_program_traces_already_is_told() {
    let mut world = World::new();
    let jump = rule(9, Verdict::Jump(Stage::Begin.name().to_owned()));
    world.hear(1, (TABLE, "arrive"), tcp(CLIENT, ASKED, SYN), jump);
    world.stage(1, Stage::Begin, None);
    // Its table is no part of the way.
    let accept = rule(7, Verdict::Accept);
    world.hear(1, ("portmap-trace-2", "begin"), tcp(CLIENT, ASKED, SYN), accept.clone());
    world.hear(1, ("portmap", "prerouting"), tcp(CLIENT, ASKED, SYN), accept);
    world.delivered(1);
    world.answer(2, SYN_ACK);
    let story = world.only();
    assert_eq!((story.outcome, story.passages.len()), (Outcome::Answered, 1));
    assert_eq!(story.origin, Origin::Outside { interface: Some("eth0".into()) });
    // Of another packet it says nothing.
    world.hear(3, (TABLE, "arrive"), tcp("192.0.2.3:5000", ASKED, SYN), rule(9, Verdict::Continue));
    world.stage(4, Stage::Begin, None);
    assert_eq!(world.after(Duration::from_secs(9)), []);
}

#[test]
fn an_answer_ends_the_story_at_once() {
    let mut world = World::new();
    world.translated(1);
    world.delivered(1);
    assert_eq!(world.after(Duration::from_secs(1)), []);
    world.answer(2, SYN_ACK);
    let stories = world.after(Duration::from_millis(200));
    assert_eq!(stories[0].outcome, Outcome::Answered);
    assert_eq!(stories[0].reached.to_string(), REACHED);
    assert_eq!(stories[0].translated_in, Some(0));
    assert_eq!(stories[0].origin, Origin::Outside { interface: Some("eth0".into()) });
    assert_eq!(world.teller.next_deadline(), None);
}

#[test]
fn a_reset_is_a_refusal_unless_a_rule_sent_it() {
    let mut world = World::new();
    world.translated(1);
    world.delivered(1);
    world.answer(2, RST_ACK);
    assert_eq!(world.only().outcome, Outcome::Refused);

    // The rule's reset is heard of before its verdict.
    let mut world = World::new();
    world.translated(1);
    world.answer(2, RST_ACK);
    let fw = ("fw", "input");
    world.hear(1, fw, tcp(CLIENT, REACHED, SYN), rule(9, Verdict::Drop));
    let place = Place { family: "inet", table: "fw".into(), chain: "input".into() };
    let by = Decision { place, rule: Some(9) };
    assert_eq!(world.only().outcome, Outcome::Rejected(by));
}

#[test]
fn a_drop_is_named_by_the_chain_in_which_it_is() {
    let mut world = World::new();
    world.translated(1);
    world.hear(1, ("fw", "input"), tcp(CLIENT, REACHED, SYN), rule(5, Verdict::Jump("web".into())));
    world.hear(1, ("fw", "web"), None, Said::End);
    world.hear(1, ("fw", "input"), None, Said::Policy(Verdict::Drop));
    let story = world.only();
    let Outcome::Dropped(by) = &story.outcome else { panic!("{story:#?}") };
    assert_eq!((by.place.to_string(), by.rule), ("table inet fw, chain input".into(), None));
    let words: Vec<_> = story.passages[1].words.iter().map(|word| word.said.words()).collect();
    assert_eq!(words, ["jump web", "policy drop"]);
}

#[test]
fn silence_is_told_from_loss() {
    let mut world = World::new();
    world.translated(1);
    world.delivered(1);
    assert_eq!(world.only().outcome, Outcome::Ignored);

    let mut world = World::new();
    world.translated(1);
    assert_eq!(world.only().outcome, Outcome::Lost);

    let mut world = World::new();
    world.translated(1);
    world.stage(1, Stage::Forwarded, tcp(CLIENT, "198.51.100.9:80", SYN));
    world.stage(1, Stage::Left, tcp(CLIENT, "198.51.100.9:80", SYN));
    let story = world.only();
    assert_eq!(
        (story.outcome, story.reached.to_string()),
        (Outcome::Forwarded, "198.51.100.9:80".into())
    );
}

/// A reset by something on the way, such as a rule of legacy iptables, is not the kernel's own: then
/// the packet would have been delivered.
#[test]
fn a_refusal_before_it_is_delivered_is_not_for_want_of_a_listener() {
    let mut world = World::new();
    world.translated(1);
    world.answer(2, RST_ACK);
    let story = world.only();
    assert_eq!(story.outcome, Outcome::Lost);
    let chart = Chart::default();
    assert!(story.ending(&chart, None).ends_with("the client was told"), "{story:?}");
    assert!(story.advice(&chart).unwrap().contains("iptables-legacy-save"));
    let commands = vec!["iptables-legacy -I INPUT 1 -j ACCEPT".to_owned()];
    let opening = Opening { owner: "iptables-legacy", commands };
    let untraced = Some(Untraced { text: "chain INPUT: policy drop".to_owned(), opening });
    let advice = story.advice(&Chart { untraced, ..chart }).unwrap();
    assert_eq!(
        advice,
        "legacy iptables is not traced, but its rules keep it out: chain INPUT: policy drop; to let \
         it in, with iptables-legacy: `sudo iptables-legacy -I INPUT 1 -j ACCEPT`"
    );
}

#[test]
fn a_dropped_answer_is_no_answer() {
    let mut world = World::new();
    world.translated(1);
    world.delivered(1);
    world.stage(2, Stage::Answer, tcp(REACHED, CLIENT, SYN_ACK));
    let out = ("fw", "output");
    world.hear(2, out, tcp(REACHED, CLIENT, SYN_ACK), rule(4, Verdict::Drop));
    let story = world.only();
    assert_eq!(story.outcome.name(), "answer-dropped");
    assert_eq!(story.outcome.decision().and_then(|by| by.rule), Some(4));
}

/// Over the loopback interface a packet comes back under another number.
#[test]
fn a_client_on_this_machine_is_followed_through_loopback() {
    let (client, asked, reached) = ("127.0.0.1:5000", "127.0.0.1:80", "127.0.0.1:3000");
    let mut world = World::new();
    world.stage(1, Stage::Begin, tcp(client, asked, SYN));
    world.hear(1, ("portmap", "output"), tcp(client, asked, SYN), rule(7, Verdict::Accept));
    world.stage(1, Stage::Left, tcp(client, reached, SYN));
    world.hear(2, ("fw", "input"), tcp(client, reached, SYN), rule(3, Verdict::Accept));
    world.stage(2, Stage::Delivered, tcp(client, reached, SYN));
    world.stage(3, Stage::Answer, tcp(reached, client, SYN_ACK));
    world.stage(3, Stage::Left, tcp(asked, client, SYN_ACK));
    world.hear(4, ("fw", "input"), tcp(asked, client, SYN_ACK), rule(3, Verdict::Drop));
    let story = world.only();
    assert_eq!(story.origin, Origin::Here);
    assert_eq!(story.outcome.name(), "answer-dropped");
    let legs: Vec<_> = story.passages.iter().map(|passage| passage.leg).collect();
    assert_eq!(legs, [Leg::Request, Leg::Request, Leg::Answer]);
}

#[test]
fn repeats_are_counted_and_told_once() {
    let mut world = World::new();
    world.translated(1);
    world.delivered(1);
    world.translated(2);
    world.delivered(2);
    let story = world.only();
    assert_eq!((story.repeats, story.passages.len()), (1, 1));
    world.translated(3);
    world.delivered(3);
    assert_eq!(world.after(Duration::from_secs(5)), []);
    assert_eq!(world.teller.heard().repeats, 1);
}

#[test]
fn flows_from_before_and_packets_of_others_are_no_story() {
    let udp = |from, to| packet(Protocol::Udp, from, to, 0);
    let mut world = World::new();
    world.stage(1, Stage::Begin, udp(CLIENT, ASKED));
    let jump = rule(2, Verdict::Jump("forget".into()));
    world.hear(1, (TABLE, Stage::KnownOutside.name()), udp(CLIENT, ASKED), jump);
    // Another program traces too.
    world.hear(9, ("fw", "input"), udp("192.0.2.3:1", "192.0.2.1:22"), rule(1, Verdict::Drop));
    world.hear(10, ("fw", "input"), None, Said::Policy(Verdict::Accept));
    assert_eq!(world.after(Duration::from_secs(5)), []);
    assert_eq!(world.teller.heard(), Heard { known: 1, ..Heard::default() });
}

#[test]
fn an_icmp_error_belongs_to_the_client_that_it_is_sent_to() {
    let mut world = World::new();
    let udp = |from, to| packet(Protocol::Udp, from, to, 0);
    world.stage(1, Stage::Begin, udp(CLIENT, ASKED));
    world.stage(1, Stage::Delivered, udp(CLIENT, ASKED));
    let transport = Transport::Unreachable(Unreachable::Port);
    let address = |text: &str| text.parse().unwrap();
    let error =
        Packet { source: address("192.0.2.1"), destination: address("192.0.2.2"), transport };
    world.stage(2, Stage::Answer, Some(error));
    world.stage(2, Stage::Left, Some(error));
    let story = world.only();
    assert_eq!(story.outcome, Outcome::Refused);
    assert!(!story.is_translated());
}

#[test]
fn the_number_of_stories_has_a_bound() {
    let mut world = World::new();
    for port in 1..=300u32 {
        world.stage(port, Stage::Begin, tcp(&format!("192.0.2.2:{port}"), ASKED, SYN));
    }
    assert_eq!(world.teller.heard().crowded, 44);
    assert_eq!(world.after(Duration::from_secs(5)).len(), 256);
}
