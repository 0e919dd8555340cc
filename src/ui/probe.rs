//! What a probe will do, and what it found.

use std::io::{self, Write};
use std::net::IpAddr;

use anstyle::AnsiColor;
use anyhow::Result as Done;
use ipnet::IpNet;
use serde::Serialize;

use super::escape::visible;
use super::trace::document::{self, StoryJson};
use super::trace::program;
use super::{JSON_VERSION, Table, Ui};
use crate::doctor::examine::{Answer, Examination};
use crate::doctor::{Code, Finding, From};
use crate::host::listeners::Listener;
use crate::mapping::{Service, words};
use crate::story::probe::{Got, Probed, Side};
use crate::story::{Chart, Outcome};

/// What is going to be done.
#[derive(Debug)]
pub struct Plan<'a> {
    pub services: &'a [Service],
    /// For the client outside.
    pub networks: &'a [IpNet],
    pub paths: usize,
    /// Whether some of them are tried from outside.
    pub has_outside: bool,
    /// Paths beyond those that are tried at once.
    pub left_out: usize,
}

/// One path as it was tried.
#[derive(Debug)]
pub struct Result {
    pub probed: Probed,
    pub chart: Chart,
    pub listeners: Vec<Listener>,
}

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    served: bool,
    /// What is known without a connection, as doctor tells it alone.
    healthy: bool,
    findings: &'a [Finding],
    unseen: &'a [String],
    paths: Vec<PathJson<'a>>,
    /// Services for some of whose clients a probe cannot speak.
    unsure: Vec<String>,
    left_out: usize,
    /// Why no client outside could be made.
    outside_error: Option<&'a str>,
}

#[derive(Serialize)]
struct PathJson<'a> {
    port: u16,
    protocol: &'static str,
    from: &'static str,
    address: IpAddr,
    got: &'static str,
    served: Option<bool>,
    /// What was to be expected; null for a path of which nothing is said.
    expected: Option<Expected>,
    /// Whether the client got something else.
    surprising: bool,
    summary: String,
    help: Option<String>,
    story: Option<StoryJson<'a>>,
}

#[derive(Serialize)]
struct Expected {
    answer: Answer,
    because: Option<Code>,
}

impl Ui {
    pub fn probe_plan(&self, plan: &Plan<'_>) -> Done<()> {
        let Plan { services, networks, paths, .. } = plan;
        let from = match plan.has_outside {
            true => {
                let networks: Vec<_> = networks.iter().map(ToString::to_string).collect();
                format!(
                    "from this machine, and from a network namespace of its own with {}, joined by \
                     the interface {}",
                    networks.join(" and "),
                    crate::kernel::outside::INTERFACE,
                )
            }
            false => "all from this machine".to_owned(),
        };
        self.gap()?;
        self.say(format_args!(
            "This makes {paths} real connections to {}: {from}. A program that answers will see \
             them, and they are closed without sending any data. A table marks them, so that the \
             kernel tells what becomes of them. All of it is removed when this command ends.",
            words::services(services),
        ))?;
        self.gap()
    }

    /// Whether the user agrees, at the terminal.
    pub fn agree(&self) -> Done<bool> {
        let mut err = io::stderr().lock();
        // Without a terminal to write to there is nobody who could read it.
        let _ = write!(err, "Connect? [y/N] ").and_then(|()| err.flush());
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    pub fn probed(
        &self,
        plan: &Plan<'_>,
        tried: &[Result],
        examination: &Examination,
        unsure: &[Service],
        outside_error: Option<&(String, &'static str)>,
    ) -> Done<()> {
        if self.is_json() {
            let document = Document {
                version: JSON_VERSION,
                served: tried.iter().all(|tried| tried.probed.is_served() != Some(false)),
                healthy: examination.is_healthy(),
                findings: &examination.findings,
                unseen: &examination.unseen,
                paths: tried.iter().map(|tried| path(tried, examination)).collect(),
                unsure: unsure.iter().map(ToString::to_string).collect(),
                left_out: plan.left_out,
                outside_error: outside_error.map(|(error, _)| &**error),
            };
            return self.print_json(&document);
        }
        let mut table = Table::new(&["PORT", "FROM", "TO", "EXPECTED", "GOT"]);
        for one in tried {
            let path = one.probed.path;
            let (service, to) = (path.service.to_string(), path.address.to_string());
            let expected = expected(one, examination);
            let words = expected.map_or(String::new(), |(answer, code)| answer.in_words(code));
            let got = visible(&summary(one));
            table.row(vec![service, path.side.name().to_owned(), to, words, got]);
        }
        self.table(&table)?;
        let mut helps: Vec<_> = tried.iter().filter_map(help).collect();
        helps.sort();
        helps.dedup();
        if !helps.is_empty() {
            self.gap()?;
        }
        for help in helps {
            let label = self.paint(AnsiColor::Cyan, "what to do:");
            self.print(format_args!("{label} {}\n", visible(&help)))?;
        }
        self.surprises(tried, examination);
        self.caveats(plan, tried, unsure, outside_error);
        Ok(())
    }

    /// Where a connection fared otherwise than the rules and listeners let expect.
    fn surprises(&self, tried: &[Result], examination: &Examination) {
        for one in tried.iter().filter(|one| is_surprising(one, examination)) {
            let path = one.probed.path;
            let expected = expected(one, examination);
            self.warn(format_args!(
                "{} to {} from {}: expected `{}`, and the probe got `{}`. Expected is what rules \
                 and listeners show, for clients by their own interfaces; the probe is a real \
                 connection, by an interface of its own",
                path.service,
                path.address,
                path.side.name(),
                expected.map_or(String::new(), |(answer, code)| answer.in_words(code)),
                one.probed.got.name(),
            ));
        }
    }

    /// What was not shown.
    fn caveats(
        &self,
        plan: &Plan<'_>,
        tried: &[Result],
        unsure: &[Service],
        outside_error: Option<&(String, &'static str)>,
    ) {
        if let Some((error, help)) = outside_error {
            self.warn(format_args!("no client outside was tried: {error}; {help}"));
        } else if plan.has_outside {
            self.note(format_args!(
                "the client outside arrives by the interface {} and with an address for \
                 documentation: rules that ask for another interface or source, and whatever lies \
                 in front of this host, were not tried",
                crate::kernel::outside::INTERFACE
            ));
        }
        if tried.iter().any(|tried| tried.probed.is_served().is_none()) {
            self.note("silence after a datagram proves nothing: the program may not answer it");
        }
        if !unsure.is_empty() {
            self.note(format_args!(
                "{}: some mappings are for interfaces or sources that a probe does not have",
                words::services(unsure)
            ));
        }
        if plan.left_out > 0 {
            self.note(format_args!(
                "{} more paths were not tried; name fewer ports",
                plan.left_out
            ));
        }
    }
}

fn expected(tried: &Result, examination: &Examination) -> Option<(Answer, Option<Code>)> {
    let path = tried.probed.path;
    let from = if path.side == Side::Here { From::Here } else { From::Outside };
    examination.expected(path.service, from, path.address)
}

/// Whether the client got something else than was to be expected.
fn is_surprising(tried: &Result, examination: &Examination) -> bool {
    let answer = expected(tried, examination).map(|(answer, _)| answer);
    matches!(
        (answer, tried.probed.is_served()),
        (Some(Answer::Yes), Some(false)) | (Some(Answer::No), Some(true))
    )
}

fn path<'a>(tried: &'a Result, examination: &Examination) -> PathJson<'a> {
    let Probed { path, got, story } = &tried.probed;
    let listeners = &tried.listeners;
    PathJson {
        port: path.service.port.get(),
        protocol: path.service.protocol.name(),
        from: path.side.name(),
        address: path.address,
        got: got.name(),
        served: tried.probed.is_served(),
        expected: expected(tried, examination)
            .map(|(answer, because)| Expected { answer, because }),
        surprising: is_surprising(tried, examination),
        summary: summary(tried),
        help: help(tried),
        story: story.as_ref().map(|story| document::story(story, &tried.chart, listeners)),
    }
}

/// What the client got, and why as far as the rules tell.
fn summary(tried: &Result) -> String {
    let Probed { got, story, .. } = &tried.probed;
    let who = story.as_ref().and_then(|story| program(story, &tried.listeners));
    let by = who.as_deref().unwrap_or("a program");
    let why = story.as_ref().filter(|story| story.outcome != Outcome::Answered).map(|story| {
        let between = match story.outcome {
            Outcome::Refused | Outcome::Ignored => ": ",
            _ => " ",
        };
        let ending = story.ending(&tried.chart, who.as_deref());
        format!("{}{between}{ending}", story.outcome.name().replace('-', " "))
    });
    match got {
        Got::Answered => format!("answered by {by}"),
        Got::Closed => format!("answered by {by}, and closed at once"),
        Got::NotTaken => format!("accepted by the kernel, but {by} has not taken it"),
        Got::Reset => format!("reset by {by} after it was accepted"),
        Got::Failed(error) => format!("not tried: {error}"),
        Got::Refused => why.unwrap_or_else(|| "refused".to_owned()),
        Got::Silence => why.unwrap_or_else(|| "no answer".to_owned()),
        Got::Unreachable => why.unwrap_or_else(|| "unreachable".to_owned()),
    }
}

fn help(tried: &Result) -> Option<String> {
    if tried.probed.is_served() == Some(true) {
        return None;
    }
    if tried.probed.got == Got::NotTaken {
        return Some(
            "look at the program: it listens, but has not accepted the connection at once; one \
             that serves one client at a time may be busy with another"
                .to_owned(),
        );
    }
    tried.probed.story.as_ref()?.advice(&tried.chart)
}
