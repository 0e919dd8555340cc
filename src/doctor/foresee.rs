//! What a change of the mapping will lead to, that its author may not see: for the mappings that
//! change, and for no others.

pub use super::around::{Facts, Firewalls};
use super::finding::{Code, Finding, Severity};
use super::firewalls::WALKED_MAX;
use super::holder::{Holder, listed, places};
use super::others::{self, Other};
use super::reach::{self, Missing, Reach};
use super::selectors::Absent;
use super::told::Told;
use super::users::Users;
use crate::host::listeners::Listener;
use crate::mapping::changes::Change;
use crate::mapping::words::{Run, fold_judged};
use crate::mapping::{Family, Mapping, Protocol, Scope};

/// What is to be said of a mapping whatever its port is.
#[derive(Debug, PartialEq)]
struct Judged {
    reach: Reach,
    shadowed: Vec<Holder>,
    absent: Absent,
    users: Users,
    others: Vec<Other>,
}

/// By mapping, then by code.
pub fn foresee(changes: &[Change<'_>], facts: &Facts) -> Vec<Finding> {
    let new = changes.iter().filter_map(|change| match *change {
        Change::Add(m) => Some((m, true)),
        // What listens on the port itself was left behind by an earlier change.
        Change::Change { before, after } if before.to != after.to || before.user != after.user => {
            Some((after, false))
        }
        Change::Change { .. } | Change::Remove(_) => None,
    });
    let mut passed_over = 0;
    let judged = new.enumerate().map(|(at, (m, is_new))| {
        passed_over += usize::from(is_new && at >= WALKED_MAX);
        (m, judge(m, is_new, at < WALKED_MAX, facts))
    });
    let mut told = Told::default();
    told.extend(session(changes, facts));
    for (run, judged) in fold_judged(judged) {
        tell(&run, &judged, facts, &mut told);
    }
    let mut findings = told.findings();
    let is_open = passed_over > 0 && facts.firewalls.translate();
    findings.extend(is_open.then(|| not_compared(passed_over)));
    findings
}

/// Each comparison is a walk through all rules.
fn not_compared(passed_over: usize) -> Finding {
    let mappings = if passed_over == 1 { "mapping" } else { "mappings" };
    let summary = format!(
        "of {passed_over} more new {mappings} it was not looked at whether others translate the same \
         ports"
    );
    Finding::new(Code::OtherNat, Severity::Note, summary)
        .because(format!(
            "another program has rules that translate, and they were compared with the first \
             {WALKED_MAX}"
        ))
        .command("look at the ports that matter, once they are mapped", "sudo portmap doctor PORT")
}

fn judge(mapping: &Mapping, is_new: bool, is_walked: bool, facts: &Facts) -> Judged {
    let Facts { listening, interfaces, firewalls, .. } = facts;
    let others = match is_walked && is_new {
        true => firewalls.others(mapping, &reach::paths(mapping, interfaces), interfaces),
        false => Vec::new(),
    };
    Judged {
        reach: reach::reach(mapping, listening, interfaces),
        shadowed: if is_new { shadowed(mapping, facts) } else { Vec::new() },
        absent: Absent::of(mapping, interfaces),
        users: Users::of(mapping, facts),
        others,
    }
}

/// Who listens on the mapped port itself, and loses clients to the mapping.
pub fn shadowed(mapping: &Mapping, facts: &Facts) -> Vec<Holder> {
    if mapping.to.port() == mapping.service.port {
        return Vec::new();
    }
    let listeners = facts.listening.on(mapping.service.protocol, mapping.service.port);
    if listeners.is_empty() {
        return Vec::new();
    }
    let taken = reach::paths(mapping, &facts.interfaces);
    let is_taken = |l: &&Listener| taken.iter().any(|(_, address)| l.serves(*address));
    Holder::of(listeners.iter().filter(is_taken))
}

fn tell(run: &Run<'_>, judged: &Judged, facts: &Facts, told: &mut Told) {
    let of_run = |finding: Finding| Finding {
        port: Some(run.first.service.port.get()),
        protocol: Some(run.first.service.protocol),
        ..finding
    };
    if !judged.shadowed.is_empty() {
        told.offer(Code::ListenerShadowed, || of_run(listener_shadowed(run, &judged.shadowed)));
    }
    if let Some(code) = judged.reach.code() {
        told.offer(code, || unreached(run, &judged.reach).map(of_run));
    }
    told.extend(judged.absent.findings(&run.service()).into_iter().map(of_run));
    told.extend(judged.users.findings(run).into_iter().map(of_run));
    let others = others::findings(run, &judged.others, &facts.firewalls.rulesets);
    told.extend(others.into_iter().map(of_run));
}

pub fn listener_shadowed(run: &Run<'_>, holders: &[Holder]) -> Finding {
    let service = run.service();
    let whom =
        match run.first.selector.matches().is_some() || run.first.selector.scope() != Scope::Both {
            true => "clients that the mapping is for reach",
            false => "new connections reach",
        };
    let summary = format!("{} listens on {service} itself", listed(holders));
    Finding::new(Code::ListenerShadowed, Severity::Warning, summary)
        .because(format!("{whom} {} instead", run.target()))
        .advice("stop that program, or leave the port out of the rules file")
        .listeners(holders)
}

/// Why clients that the mapping is meant for get no answer, if they get none.
pub fn unreached(run: &Run<'_>, reach: &Reach) -> Option<Finding> {
    match reach {
        Reach::Unknown | Reach::All => None,
        Reach::Nobody => Some(nobody_listens(run)),
        Reach::OtherProtocol(other, holders) => Some(other_protocol(run, *other, holders)),
        Reach::LoopbackOnly(holders) => Some(loopback_only(run, holders)),
        Reach::OneFamilyOnly(family, holders, missing) => {
            Some(one_family_only(run, *family, holders, missing))
        }
        Reach::OneAddressOnly(holders, missing) => Some(one_address_only(run, holders, missing)),
    }
}

/// `-ltn` or its like: how ss(8) shows the listeners of a protocol.
fn ss(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "sudo ss -ltnp",
        Protocol::Udp => "sudo ss -lunp",
        Protocol::Sctp => "sudo ss -lnpS",
        Protocol::Dccp => "sudo ss -lndp",
        Protocol::UdpLite => "sudo ss -lnp",
    }
}

fn nobody_listens(run: &Run<'_>) -> Finding {
    let (service, to, protocol) = (run.service(), run.to(), run.first.service.protocol);
    let summary = format!("nobody listens on {}, the target of {service}", run.target());
    Finding::new(Code::NobodyListens, Severity::Error, summary)
        .because("clients are refused until a program does")
        .advice(format!("start the program that is to answer on {}", run.target()))
        .command("see who listens where", ss(protocol))
        .evidence("to", to)
        .listeners(&[])
}

fn other_protocol(run: &Run<'_>, other: Protocol, holders: &[Holder]) -> Finding {
    let (service, to, protocol) = (run.service(), run.to(), run.first.service.protocol);
    let summary = format!(
        "nobody listens on {} with {protocol}, the target of {service}: {} uses {other} there",
        run.target(),
        listed(holders)
    );
    let ports = run.first.service.port;
    let first = run.first.to;
    Finding::new(Code::OtherProtocol, Severity::Error, summary)
        .because(format!("clients that use {protocol} are refused"))
        .advice(format!("write `{ports}/{other}: {first}` in the rules file if {other} is meant"))
        .evidence("to", to)
        .evidence("listens", other.name())
        .listeners(holders)
}

/// `node (pid 812, www-data) listens on port 3000 of 127.0.0.1 only`
fn only(run: &Run<'_>, holders: &[Holder]) -> String {
    format!("{} listens on {} of {} only", listed(holders), run.target(), places(holders))
}

fn loopback_only(run: &Run<'_>, holders: &[Holder]) -> Finding {
    let to = run.to();
    Finding::new(Code::LoopbackOnly, Severity::Error, only(run, holders))
        .because(format!("clients from outside are refused at {}", run.service()))
        .advice(
            "make it listen on all addresses (often a setting called HOST, bind or listen: `::` \
             or 0.0.0.0)",
        )
        .advice(
            "write `scope: local` in the rules file if only this machine's own clients are meant",
        )
        .evidence("to", to)
        .listeners(holders)
}

fn one_family_only(
    run: &Run<'_>,
    family: Family,
    holders: &[Holder],
    missing: &Missing,
) -> Finding {
    let to = run.to();
    let (has, lacks) = match family {
        Family::Ipv6 => ("IPv6", "IPv4"),
        Family::Ipv4 | Family::Both => ("IPv4", "IPv6"),
    };
    Finding::new(Code::OneFamilyOnly, missing.severity(), only(run, holders))
        .because(format!(
            "{lacks} clients of {} are refused ({})",
            run.service(),
            missing.in_words()
        ))
        .advice("make it listen on `::`, which serves both families on most systems")
        .advice(format!(
            "write `families: [{}]` in the rules file if {has} alone is meant",
            family.name()
        ))
        .evidence("to", to)
        .evidence("missing", missing.to_json())
        .listeners(holders)
}

fn one_address_only(run: &Run<'_>, holders: &[Holder], missing: &Missing) -> Finding {
    let to = run.to();
    Finding::new(Code::OneAddressOnly, missing.severity(), only(run, holders))
        .because(format!(
            "clients who connect to {} at {} are refused",
            run.service(),
            missing.in_words()
        ))
        .advice("make it listen on all addresses (`::` or 0.0.0.0)")
        .advice("name its address under `addresses` in the rules file if only that one is meant")
        .evidence("to", to)
        .evidence("missing", missing.to_json())
        .listeners(holders)
}

/// Whether the change takes the way back from whoever makes it, over ssh.
fn session(changes: &[Change<'_>], facts: &Facts) -> Option<Finding> {
    let session = facts.session?;
    let family = Family::of(&session.server.ip().to_canonical().into());
    let concerns = |m: &Mapping| {
        m.service.protocol == Protocol::Tcp
            && m.selector.scope() != Scope::Local
            && m.selector.family().covers(family)
    };
    let port = session.server.port();
    let (service, why) = changes.iter().find_map(|change| {
        let after = change.after().filter(|m| concerns(m) && m.service.port.get() == port);
        if let Some(after) = after {
            let why = format!("new ssh connections will go to port {} instead", after.to);
            return Some((after.service, why));
        }
        // sshd sees the port after translation: the session may have come through this one.
        let before = change.before().filter(|m| concerns(m) && m.to.port().get() == port)?;
        let still = change.after().is_some_and(|after| after.to == before.to);
        let why = "ssh connections to it will not reach sshd any more".to_owned();
        (!still).then_some((before.service, why))
    })?;
    let summary = match service.port.get() == port {
        true => format!("your own ssh session came in on {service}"),
        false => format!("your own ssh session may have come in on {service}"),
    };
    let finding = Finding::new(Code::SshSession, Severity::Warning, summary)
        .of(service)
        .because(format!("this session goes on, but {why}"))
        .advice(
            "use `portmap apply --confirm 60s`, and confirm from a second connection: otherwise \
             the change is undone by itself",
        )
        .evidence("client", session.client.to_string())
        .evidence("server", session.server.to_string());
    Some(finding)
}

#[cfg(test)]
mod tests;
