//! Entries that are valid, but perhaps not what is wanted.

use crate::mapping::PortRange;

use super::entry::Entry;
use super::report::{Complaint, Concern, Report};
use super::source::Facts;

/// Warns of targets that may not work, and notes which entries need no mapping.
pub(super) fn advise(entries: &[Entry], facts: &Facts, report: &mut Report) {
    for entry in entries {
        let Entry { ports, to, .. } = *entry;
        if ports.first().get() >= facts.unprivileged_start {
            report.warn(Concern::Unprivileged, entry.spot, || unprivileged(ports));
        }
        // The exception from a later entry.
        if to == ports {
            continue;
        }
        if to.first().get() < facts.unprivileged_start {
            report.warn(Concern::PrivilegedTarget, entry.to_spot, || {
                let verb = if to.span() == 0 { "is" } else { "are" };
                let it = them(to);
                Complaint::new(format!(
                    "{to} {verb} privileged: the application needs root to bind {it}"
                ))
                .help(format!("choose a target of {} or higher", facts.unprivileged_start))
            });
        }
        let (low, high) = (*facts.ephemeral.start(), *facts.ephemeral.end());
        if to.last().get() >= low && to.first().get() <= high {
            report.warn(Concern::EphemeralTarget, entry.to_spot, || ephemeral(to, low, high));
        }
    }
}

fn unprivileged(ports: PortRange) -> Complaint {
    let verb = if ports.span() == 0 { "is" } else { "are" };
    Complaint::new(format!("{ports} {verb} unprivileged: any user can bind {}", them(ports)))
        .help(format!("if the application can listen on {ports} itself, no mapping is needed"))
}

fn ephemeral(to: PortRange, low: u16, high: u16) -> Complaint {
    let verb = if to.span() == 0 { "is" } else { "are" };
    let message = format!(
        "{to} {verb} in the ephemeral port range, {low}-{high}: an outgoing connection can occupy {}",
        them(to)
    );
    Complaint::new(message).help(format!(
        "choose a target outside the range, or add it to the sysctl \
         `net.ipv4.ip_local_reserved_ports`: {to}"
    ))
}

fn them(ports: PortRange) -> &'static str {
    if ports.span() == 0 { "it" } else { "them" }
}
