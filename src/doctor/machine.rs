//! What of the machine itself stands in the way of mappings, or makes them needless.

use super::facts::{Facts, Sysctls};
use super::finding::{Code, Finding, Severity};
use crate::mapping::Mapping;
use crate::mapping::words::{self, Run};

pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(conntrack_full(&facts.sysctls));
    findings.extend(privileged_ports_open(facts));
    findings.extend(anybody_may_answer(facts));
    findings.extend(facts.capable.iter().map(|path| capability_left(path)));
    findings
}

/// From here on new connections will be dropped soon, in percent.
const NEARLY_FULL: u64 = 90;

fn conntrack_full(sysctls: &Sysctls) -> Option<Finding> {
    let (count, max) = sysctls.conntrack.filter(|(_, max)| *max > 0)?;
    if count * 100 < max * NEARLY_FULL {
        return None;
    }
    let (severity, how) = match count >= max {
        true => (Severity::Error, "full"),
        false => (Severity::Warning, "nearly full"),
    };
    let summary = format!("the table of tracked connections is {how}: {count} of {max}");
    let finding = Finding::new(Code::ConntrackFull, severity, summary)
        .because("the kernel drops new connections that it cannot track, translated or not")
        .command(
            "raise the limit",
            format!("sudo sysctl -w net.netfilter.nf_conntrack_max={}", max * 2),
        )
        .command("see what fills it", "sudo conntrack -L")
        .evidence("count", count)
        .evidence("max", max);
    Some(finding)
}

/// Port 1024 is the first that anybody may bind, unless the sysctl says otherwise.
const USUAL_START: u16 = 1024;

fn privileged_ports_open(facts: &Facts) -> Option<Finding> {
    let start = facts.sysctls.unprivileged_start.filter(|start| *start < USUAL_START)?;
    let open = |port: u16| (start..USUAL_START).contains(&port);
    let mapped = facts.mapping.iter().map(|m| m.service).find(|s| open(s.port.get()));
    let asked = facts.asked.iter().copied().find(|s| open(s.port.get()));
    let service = mapped.or(asked)?;
    let summary =
        format!("any user may bind port {} here, and all ports from {start} on", service.port);
    let finding = Finding::new(Code::PrivilegedPortsOpen, Severity::Note, summary)
        .of(service)
        .because(
            "net.ipv4.ip_unprivileged_port_start is lower than usual: the application could listen \
             there itself, and so could any other user's program",
        )
        .command(
            "reserve privileged ports for root again",
            format!("sudo sysctl -w net.ipv4.ip_unprivileged_port_start={USUAL_START}"),
        )
        .evidence("unprivileged_start", start);
    Some(finding)
}

fn capability_left(path: &str) -> Finding {
    let summary = format!("{path} has the capability cap_net_bind_service");
    Finding::new(Code::CapabilityLeft, Severity::Warning, summary)
        .because("every script that it runs may bind any port; with a mapping none needs to")
        .command("take it away", format!("sudo setcap -r {path}"))
        .evidence("path", path)
}

/// Privileged ports promise that root put there who answers; without a `user`, the target does not.
/// That is so of every plain mapping, and so it is told of ports that are asked for, all in one.
fn anybody_may_answer(facts: &Facts) -> Option<Finding> {
    if facts.asked.is_empty() && !facts.thorough {
        return None;
    }
    let start = facts.sysctls.unprivileged_start.unwrap_or(USUAL_START);
    let is_asked = |m: &Mapping| facts.asked.is_empty() || facts.asked.contains(&m.service);
    let is_anybodys = |m: &&Mapping| {
        is_asked(m)
            && m.user.is_none()
            && m.service.port.get() < start
            && m.to.port().get() >= start
    };
    let mappings: Vec<_> = facts.mapping.iter().filter(is_anybodys).collect();
    let first = mappings.first()?;
    let mut services: Vec<_> = mappings.iter().map(|m| m.service).collect();
    services.dedup();
    let summary = format!(
        "any user of this host may answer {} while the application is down",
        words::services(&services)
    );
    let finding = Finding::new(Code::TargetTakeable, Severity::Note, summary)
        .because(format!(
            "only root may listen on ports below {start}, but a program of any user may on port \
             {}: whoever listens there gets the clients",
            first.to
        ))
        .advice(format!(
            "name the user whose program is meant in the rules file: `{}: {{ to: {}, user: NAME }}`",
            first.service.port, first.to
        ))
        .evidence("services", services.iter().map(ToString::to_string).collect::<Vec<_>>());
    Some(match services.as_slice() {
        [service] => finding.of(*service),
        _ => finding,
    })
}

/// Whether outgoing connections may occupy the target before the application does.
pub fn target_takeable(run: &Run<'_>, sysctls: &Sysctls) -> Option<Finding> {
    let (low, high) = sysctls.ephemeral?;
    let (first, last) = (run.first.to.port().get(), run.last.to.port().get());
    let is_reserved =
        |port| sysctls.reserved.iter().any(|(from, to)| (*from..=*to).contains(&port));
    let taken = (first..=last).any(|port| (low..=high).contains(&port) && !is_reserved(port));
    if !taken {
        return None;
    }
    let reserved = sysctls.reserved.iter().copied().chain([(first, last)]);
    let list: Vec<_> = reserved
        .map(|(from, to)| if from == to { from.to_string() } else { format!("{from}-{to}") })
        .collect();
    let summary = format!(
        "the target of {}, {}, is in the ephemeral range {low}-{high}",
        run.service(),
        run.target()
    );
    let finding = Finding::new(Code::TargetTakeable, Severity::Note, summary)
        .because(
            "while the application is down, an outgoing connection of any program can occupy it, \
             and the application cannot start",
        )
        .advice("choose a target below the range")
        .command(
            "reserve it",
            format!("sudo sysctl -w net.ipv4.ip_local_reserved_ports={}", list.join(",")),
        )
        .evidence("to", run.to())
        .evidence("ephemeral", format!("{low}-{high}"));
    Some(finding)
}
