//! The whole examination: findings, and which paths to a port lead to an answer.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use super::facts::{Facts, Subject, Table};
use super::finding::{Code, Finding, Severity};
use super::firewalls::{self, Part, Verdict, WALKED_MAX, Way};
use super::foresee::{listener_shadowed, shadowed, unreached};
use super::holder::Holder;
use super::reach::{self, From, Reach};
use super::selectors::Absent;
use super::told::Told;
use super::users::{self, Users};
use super::{machine, state};
use crate::firewall::Answer as Verdicts;
use crate::mapping::words::{self, Run, fold};
use crate::mapping::{Mapping, MappingSet, Port, Protocol, Service};

/// What an examination has come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Examination {
    /// The most serious first; of equal ones, by port.
    pub findings: Vec<Finding>,
    pub paths: Vec<Path>,
    /// What could not be seen, in words.
    pub unseen: Vec<String>,
    pub mappings: usize,
}

impl Examination {
    /// Whether every client that a mapping is meant for is served, as far as can be seen.
    pub fn is_healthy(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Error)
    }

    /// What clients there are to expect at this address; unknown if it depends on who they are.
    /// `None` for a path of which nothing is said.
    pub fn expected(
        &self,
        service: Service,
        from: From,
        address: IpAddr,
    ) -> Option<(Answer, Option<Code>)> {
        let is_it = |path: &&Path| {
            (path.port, path.protocol) == (service.port, service.protocol)
                && (path.from, path.address) == (from, address)
        };
        let mut paths = self.paths.iter().filter(is_it).map(|path| (path.answer, path.because));
        let first = paths.next()?;
        let other = paths.find(|other| *other != first);
        Some(other.map_or(first, |(_, because)| (Answer::Unknown, first.1.or(because))))
    }
}

/// One way to a mapped port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Path {
    #[serde(serialize_with = "port")]
    pub port: Port,
    #[serde(serialize_with = "protocol")]
    pub protocol: Protocol,
    pub from: From,
    /// The address of this host that the client connects to.
    pub address: IpAddr,
    /// By which clients arrive, where they do not fare alike by all.
    pub interface: Option<String>,
    /// Where clients are, the same.
    #[serde(serialize_with = "network")]
    pub source: Option<IpNet>,
    pub answer: Answer,
    /// The finding that says why.
    pub because: Option<Code>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    Yes,
    No,
    Unknown,
}

impl Answer {
    /// `no: firewall-blocks`
    pub fn in_words(self, because: Option<Code>) -> String {
        let word = match self {
            Answer::Yes => "yes",
            Answer::No => "no",
            Answer::Unknown => "cannot tell",
        };
        match because {
            Some(code) => format!("{word}: {}", code.name()),
            None => word.to_owned(),
        }
    }
}

fn port<S: Serializer>(port: &Port, serializer: S) -> Result<S::Ok, S::Error> {
    port.get().serialize(serializer)
}

fn network<S: Serializer>(network: &Option<IpNet>, serializer: S) -> Result<S::Ok, S::Error> {
    network.map(|network| network.to_string()).serialize(serializer)
}

fn protocol<S: Serializer>(protocol: &Protocol, serializer: S) -> Result<S::Ok, S::Error> {
    protocol.name().serialize(serializer)
}

/// Mappings whose paths are told, at most, unless they are asked for.
const PATHS_MAX: usize = 64;

pub fn examine(facts: &Facts) -> Examination {
    let is_asked = |m: &&Mapping| facts.asked.is_empty() || facts.asked.contains(&m.service);
    let mappings: Vec<&Mapping> = facts.mapping.iter().filter(is_asked).collect();
    let walked = mappings.iter().enumerate();
    let judged: Vec<_> = walked.map(|(at, m)| Judged::of(m, facts, at < WALKED_MAX)).collect();
    let same = |a: &Judged, b: &Judged| {
        (&a.reach, &a.shadowed, &a.absent, &a.users, &a.verdict)
            == (&b.reach, &b.shadowed, &b.absent, &b.users, &b.verdict)
    };
    let mut findings = not_mapped(facts);
    for (run, part) in fold(&judged, |j| j.mapping, same) {
        findings.extend(of_run(&run, &part[0], facts));
    }
    findings.extend(state::findings(facts));
    findings.extend(machine::findings(facts));
    // Each kind by itself: it is cut short at the end of what is most serious.
    findings.sort_by_key(|f| (f.severity, f.protocol, f.port, f.code));
    let mut all = Told::default();
    all.extend(findings);
    let told = if facts.asked.is_empty() { PATHS_MAX } else { usize::MAX };
    let paths = judged.iter().take(told).flat_map(|judged| judged.paths(facts)).collect();
    Examination {
        findings: all.findings(),
        paths,
        unseen: unseen(facts, &mappings),
        mappings: mappings.len(),
    }
}

struct Judged<'a> {
    mapping: &'a Mapping,
    reach: Reach,
    shadowed: Vec<Holder>,
    absent: Absent,
    users: Users,
    /// What rules of others do with its clients; `None` if it was not looked at.
    verdict: Option<Verdict>,
}

impl<'a> Judged<'a> {
    fn of(mapping: &'a Mapping, facts: &Facts, is_walked: bool) -> Self {
        let around = &facts.around;
        let is_walked = is_walked && around.firewalls.unseen.is_none();
        let verdict = is_walked.then(|| {
            let paths = reach::paths(mapping, &around.interfaces);
            around.firewalls.verdict(mapping, &paths, &around.interfaces)
        });
        Self {
            mapping,
            verdict,
            reach: reach::reach(mapping, &around.listening, &around.interfaces),
            shadowed: shadowed(mapping, around),
            absent: Absent::of(mapping, &around.interfaces),
            users: Users::of(mapping, around),
        }
    }

    fn paths(&self, facts: &Facts) -> Vec<Path> {
        let paths = reach::paths(self.mapping, &facts.around.interfaces);
        paths.into_iter().flat_map(|path| self.rows(path, facts)).collect()
    }

    /// One, or several where the clients on this path do not fare alike.
    fn rows(&self, path: (From, IpAddr), facts: &Facts) -> Vec<Path> {
        let row = |part: &Part, (answer, because)| {
            let (from, address) = path;
            let Service { port, protocol } = self.mapping.service;
            let Part { interface, source } = part.clone();
            Path { port, protocol, from, address, interface, source, answer, because }
        };
        let all = |answer| vec![row(&Part::default(), answer)];
        if let Some(decided) = self.without_rules(path, facts) {
            return all(decided);
        }
        let Some(verdict) = &self.verdict else { return all((Answer::Unknown, None)) };
        let on_path = |way: &&Way| (way.from, way.address) == path;
        let ways: Vec<_> = verdict.ways.iter().filter(on_path).collect();
        let arriving = firewalls::arriving(self.mapping, path.1, &facts.around.interfaces);
        match (ways.is_empty(), arriving.is_empty()) {
            // The mapping is for interfaces that are not there.
            (true, true) => all((Answer::No, Some(Code::NoSuchInterface))),
            // It has gone meanwhile.
            (true, false) => all((Answer::Unknown, None)),
            (false, _) => ways.into_iter().map(|way| row(&way.part, answer(way))).collect(),
        }
    }

    /// The answer on a path, and why, if it does not depend on the rules of others.
    fn without_rules(&self, path: (From, IpAddr), facts: &Facts) -> Option<(Answer, Option<Code>)> {
        if let Some(code) = is_not_there(facts) {
            return Some((Answer::No, Some(code)));
        }
        if self.reach == Reach::Unknown {
            return Some((Answer::Unknown, None));
        }
        if reach::answering(path, self.mapping, &facts.around).is_empty() {
            return Some((Answer::No, self.reach.code()));
        }
        let is_strange = users::is_strange(path, self.mapping, &facts.around);
        is_strange.then_some((Answer::No, Some(Code::WrongUser)))
    }
}

fn answer(way: &Way) -> (Answer, Option<Code>) {
    let answer = match way.judgement.answer {
        Verdicts::Accepts => Answer::Yes,
        Verdicts::Blocks(_) => Answer::No,
        Verdicts::CannotTell => Answer::Unknown,
    };
    (answer, way.code())
}

/// Why what is examined does not serve anybody, if that is so.
fn is_not_there(facts: &Facts) -> Option<Code> {
    match (&facts.table, facts.subject) {
        (Table::Impossible { .. }, _) => Some(Code::KernelLacks),
        (_, Subject::Rules) => None,
        (Table::Absent { .. }, Subject::Active) => Some(Code::NotApplied),
        _ => None,
    }
}

fn of_run(run: &Run<'_>, judged: &Judged<'_>, facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<_> = unreached(run, &judged.reach).into_iter().collect();
    if !judged.shadowed.is_empty() {
        findings.push(listener_shadowed(run, &judged.shadowed));
    }
    findings.extend(judged.absent.findings(&run.service()));
    findings.extend(judged.users.findings(run));
    if let Some(verdict) = &judged.verdict {
        findings.extend(firewalls::findings(run, verdict, &facts.around.firewalls.rulesets));
    }
    findings.extend(machine::target_takeable(run, &facts.sysctls));
    for finding in &mut findings {
        finding.port = Some(run.first.service.port.get());
        finding.protocol = Some(run.first.service.protocol);
    }
    findings
}

/// Ports that were asked for and are not mapped: the answer to `listen EACCES`.
fn not_mapped(facts: &Facts) -> Vec<Finding> {
    if matches!(facts.table, Table::Unseen { .. }) && facts.subject == Subject::Active {
        return Vec::new();
    }
    let is_missing = |service: &&Service| {
        facts.mapping.of(**service).is_empty() && !is_put_back(**service, facts)
    };
    facts.asked.iter().filter(is_missing).map(|service| of_unmapped(*service, facts)).collect()
}

/// Whether the remedy of `not-applied` maps it.
fn is_put_back(service: Service, facts: &Facts) -> bool {
    let maps = |mapping: &MappingSet| !mapping.of(service).is_empty();
    match (&facts.table, facts.subject) {
        (Table::Absent { lost: Some(_) }, _) => maps(&facts.lost),
        (Table::Absent { lost: None }, Subject::Active) => {
            facts.files.mapping.as_ref().is_some_and(maps)
        }
        _ => false,
    }
}

fn of_unmapped(service: Service, facts: &Facts) -> Finding {
    let Service { port, protocol } = service;
    let start = facts.sysctls.unprivileged_start.unwrap_or(1024);
    let listeners = Holder::of(facts.around.listening.on(protocol, port));
    let why = match (listeners.as_slice(), port.get() < start) {
        ([], true) => format!(
            "only root may listen on ports below {start}, so an ordinary user's program gets \
             EACCES (permission denied) there"
        ),
        ([], false) => "nobody listens there either".to_owned(),
        (holders, _) => format!("{} listens there itself", super::holder::listed(holders)),
    };
    // Nobody needs a mapping to a port that is answered.
    let severity = if listeners.is_empty() { Severity::Error } else { Severity::Note };
    let suffix = if protocol == Protocol::Tcp { String::new() } else { format!("/{protocol}") };
    let target = example_target(port);
    let finding = Finding::new(Code::NotMapped, severity, format!("{service} is not mapped"))
        .of(service)
        .because(why)
        .listeners(&listeners);
    match is_alone(facts) {
        true => finding.command(
            format!("let the application listen on {target} (or any other free port), and map it"),
            format!("sudo portmap apply {port}{suffix}:{target}"),
        ),
        false => finding.advice(format!(
            "add `{port}{suffix}: {target}` to the rules file ({target} or whatever port the \
             application listens on): `portmap apply` removes every mapping that it is not given"
        )),
    }
}

/// Whether a mapping of one port can be applied without the removal of another.
fn is_alone(facts: &Facts) -> bool {
    let has_files = facts.files.mapping.as_ref().is_some_and(|rules| !rules.is_empty());
    let is_lost = matches!(facts.table, Table::Absent { lost: Some(_) });
    facts.mapping.is_empty() && !is_lost && !has_files && facts.subject == Subject::Active
}

/// A port that an application may well use: 3000 for 80, 8443 for 443.
fn example_target(port: Port) -> u16 {
    match port.get() {
        80 => 3000,
        port if port < 1024 => 8000 + port,
        port => port.checked_add(10_000).unwrap_or(3000),
    }
}

fn unseen(facts: &Facts, mappings: &[&Mapping]) -> Vec<String> {
    let mut unseen = Vec::new();
    if let Table::Unseen { why } = &facts.table {
        unseen.push(format!("what is active: {why}"));
    }
    unseen.extend(facts.problems.iter().cloned());
    match &facts.around.firewalls.unseen {
        Some(why) => unseen.push(format!("what firewalls do: {why}")),
        None if mappings.len() > WALKED_MAX => unseen.push(format!(
            "what firewalls do with all but the first {WALKED_MAX} ports: name the ports to ask for"
        )),
        None => {}
    }
    let mut protocols: Vec<_> = mappings.iter().map(|m| m.service.protocol).collect();
    protocols.dedup();
    for protocol in protocols {
        if !facts.around.listening.is_seen(protocol) {
            unseen.push(format!("who listens with {protocol}: the kernel does not tell"));
        }
    }
    unseen.extend(nameless(facts, mappings));
    unseen
}

/// Sockets on mapped ports and targets that no process could be found to hold.
fn nameless(facts: &Facts, mappings: &[&Mapping]) -> Option<String> {
    let ports =
        mappings.iter().flat_map(|m| [(m.service, m.to.port()), (m.service, m.service.port)]);
    let asked = facts.asked.iter().map(|service| (*service, service.port));
    let looked_at = ports.chain(asked).map(|(service, port)| Service { port, ..service });
    let is_nameless = |service: &Service| {
        let listeners = facts.around.listening.on(service.protocol, service.port);
        listeners.iter().any(|listener| listener.program.is_none())
    };
    let mut services: Vec<_> = looked_at.filter(is_nameless).collect();
    services.sort_unstable();
    services.dedup();
    (!services.is_empty()).then(|| {
        format!(
            "which program listens on {}: no process that this user can see holds the socket (only \
             root sees all; /proc may be mounted with hidepid)",
            words::services(&services)
        )
    })
}

#[cfg(test)]
pub(super) mod tests;
