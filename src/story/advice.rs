//! What to do about the end of a story.

use super::chart::{Chart, Opening, Untraced};
use super::event::Verdict;
use super::event::{Said, Unreachable};
use super::tale::{AnswerKind, Decision, Leg, Origin, Outcome, Passage, Story};
use crate::mapping::Protocol;

impl Story {
    /// What can be typed or looked at, in a sentence; `None` where all is well.
    pub fn advice(&self, chart: &Chart) -> Option<String> {
        let port = self.reached.port();
        Some(match &self.outcome {
            Outcome::Answered | Outcome::Forwarded => return None,
            Outcome::Refused => self.nobody(port),
            Outcome::Rejected(by) | Outcome::Dropped(by) => self.opening(by, chart),
            Outcome::AnswerDropped(by) if by.table_is("portmap") => format!(
                "the program on port {port} belongs to another user than the mapping demands"
            ),
            Outcome::AnswerDropped(by) => {
                format!("let the answers pass in {}, ahead of what drops them", by.place)
            }
            Outcome::Ignored => self.silence(port),
            Outcome::Lost => chart.untraced.as_ref().map_or_else(
                || {
                    "look at what is not nftables: rules of iptables-legacy \
                     (`iptables-legacy-save`), reverse path filtering (`sysctl \
                     net.ipv4.conf.all.rp_filter`), IPsec policies, a queue whose program does not \
                     answer"
                        .to_owned()
                },
                beside,
            ),
        })
    }

    fn nobody(&self, port: u16) -> String {
        let letter = if self.protocol == Protocol::Tcp { 't' } else { 'u' };
        let listing = format!("`sudo ss -ln{letter}p 'sport = {port}'`");
        match self.asked.ip().is_loopback() {
            true => format!("start the program, or see where it listens: {listing}"),
            false => format!(
                "start the program, or let it listen on {} or on all addresses; see where it \
                 listens: {listing}",
                self.asked.ip()
            ),
        }
    }

    fn silence(&self, port: u16) -> String {
        match self.protocol {
            Protocol::Tcp => format!(
                "the program on port {port} does not take its connections (`ss -lnt 'sport = \
                 {port}'`: Recv-Q has reached Send-Q), or a rule outside nftables drops them"
            ),
            _ => "silence proves nothing: ask something that the program answers".to_owned(),
        }
    }

    /// The rule that lets in what came by the mapped port, in the words of whose table it is.
    fn opening(&self, by: &Decision, chart: &Chart) -> String {
        match &chart.opening {
            Some(Opening { owner, commands }) if !commands.is_empty() => {
                let commands: Vec<_> = commands.iter().map(|c| format!("`sudo {c}`")).collect();
                let port = self.asked.port();
                format!("let in what came by port {port}, with {owner}: {}", commands.join(", "))
            }
            _ => format!("change what decides in {}", by.place),
        }
    }

    /// The passage in which that was decided.
    pub fn passage_of(&self, by: &Decision) -> Option<&Passage> {
        self.passages
            .iter()
            .find(|passage| passage.drop().is_some_and(|word| passage.place_of(word) == by.place))
    }

    /// What became of it, in a few words, after its name. `program` is who listens there now.
    pub fn ending(&self, chart: &Chart, program: Option<&str>) -> String {
        let reached = self.reached;
        let by = |decision: &Decision| chart.decision(decision);
        match &self.outcome {
            Outcome::Answered => format!("by {} on {reached}", program.unwrap_or("the program")),
            Outcome::Refused => match self.answer.map(|answer| answer.kind) {
                Some(AnswerKind::Unreachable(why)) if why != Unreachable::Port => {
                    format!("by an ICMP error about {reached}")
                }
                _ => format!("nobody listens on {reached}"),
            },
            Outcome::Rejected(decision) => format!("by {}; the client was told", by(decision)),
            Outcome::Dropped(decision) => format!("by {}, without a reply", by(decision)),
            Outcome::AnswerDropped(decision) => format!("by {}", by(decision)),
            Outcome::Forwarded => format!("to {reached}, which is not this machine's"),
            Outcome::Ignored => match program {
                Some(program) => format!(
                    "it was delivered to {reached}, where {program} listens, and nothing came back"
                ),
                None => format!("it was delivered to {reached}, and nothing came back"),
            },
            Outcome::Lost => {
                let told = if self.answer.is_some() { "; the client was told" } else { "" };
                match self.last_place() {
                    Some(place) => format!("after {place}, and no rule of nftables says so{told}"),
                    None => {
                        format!("before any chain of others, and no rule of nftables says so{told}")
                    }
                }
            }
        }
    }

    fn last_place(&self) -> Option<String> {
        let last = self.passages.iter().rfind(|passage| passage.leg == Leg::Request)?;
        Some(last.place.to_string())
    }

    /// Who came, and how: `192.0.2.2:43056 to 192.0.2.1:80, by eth0`.
    pub fn beginning(&self) -> String {
        let way = match &self.origin {
            Origin::Here => "from this machine".to_owned(),
            Origin::Outside { interface: Some(interface) } => format!("by {interface}"),
            Origin::Outside { interface: None } => "from outside".to_owned(),
        };
        format!("{} to {}, {way}", self.client, self.asked)
    }
}

impl Decision {
    fn table_is(&self, table: &str) -> bool {
        self.place.family == "inet" && self.place.table == table
    }
}

impl Chart {
    /// `rule 3 (tcp dport 22 drop) of table inet fw, chain input`, or `the policy of …`.
    pub fn decision(&self, decision: &Decision) -> String {
        match decision.rule {
            Some(handle) => {
                let written = self.rule(&decision.place, handle);
                let words = written.and_then(|w| w.text.as_ref().or(w.comment.as_ref()));
                let words = words.map(|words| format!(" ({words})")).unwrap_or_default();
                format!("{}{words} of {}", self.rule_name(decision, handle), decision.place)
            }
            None => format!("the policy of {}", decision.place),
        }
    }

    fn rule_name(&self, decision: &Decision, handle: u64) -> String {
        match self.rule(&decision.place, handle) {
            Some(written) => format!("rule {}", written.position),
            None => format!("the rule with handle {handle}"),
        }
    }
}

impl Said {
    /// The verdict in words; nothing for a rule that only counts, logs or marks.
    pub fn words(&self) -> String {
        let verdict = match self {
            Said::End => return String::new(),
            Said::Policy(verdict) => return format!("policy {}", verdict.name()),
            Said::Rule { verdict, .. } => verdict,
        };
        match verdict {
            Verdict::Jump(chain) | Verdict::Goto(chain) => format!("{} {chain}", verdict.name()),
            Verdict::Queue => "queue: a program decides".to_owned(),
            Verdict::Other(code) => format!("verdict {code}"),
            verdict => verdict.name().to_owned(),
        }
    }
}

/// The kernel does not trace legacy iptables, but its rules can be read.
fn beside(Untraced { text, opening }: &Untraced) -> String {
    let Opening { owner, commands } = opening;
    let commands: Vec<_> = commands.iter().map(|c| format!("`sudo {c}`")).collect();
    let kept_out = format!("legacy iptables is not traced, but its rules keep it out: {text}");
    match commands.is_empty() {
        true => kept_out,
        false => format!("{kept_out}; to let it in, with {owner}: {}", commands.join(", ")),
    }
}
