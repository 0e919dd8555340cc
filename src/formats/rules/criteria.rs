//! The keys that an entry and the defaults have in common: which connections are meant, and who may
//! answer them.

use crate::mapping::{Family, InterfacePattern};

use super::document::NodeRef;
use super::network;
use super::ports::Protocols;
use super::report::{Complaint, Concern, Report};
use super::selector::{Criteria, Said};
use super::source::Names;
use super::value;

pub(super) const CRITERIA_KEYS: [&str; 8] =
    ["protocol", "scope", "families", "interfaces", "sources", "addresses", "user", "direct"];

/// Names of interfaces in one list.
const INTERFACES_MAX: usize = 256;

/// Reads one of [`CRITERIA_KEYS`]; `defaults` are those of the file, for an entry.
pub(super) fn read(
    into: &mut Criteria,
    name: &str,
    key: NodeRef,
    node: NodeRef,
    defaults: Option<&Criteria>,
    names: Names,
    report: &mut Report,
) {
    let spot = key.spot();
    // An empty list overrides the defaults; without any it may be meant as "nobody", and must not
    // become "everybody".
    let has = |has_default: fn(&Criteria) -> bool| defaults.is_some_and(has_default);
    match name {
        "protocol" => into.protocols = Said::at(spot, protocols(name, node, report)),
        "scope" => {
            let text = report.scalar(name, node);
            let scope = text.and_then(|text| report.take(node, value::scope(text)));
            into.scope = Said::at(spot, scope);
        }
        "families" => {
            let families = report.list(name, node, false, value::family);
            into.families = Said::at(spot, families.map(|list| both_or_one(&list)));
        }
        "interfaces" => {
            let may_be_empty = has(|defaults| defaults.interfaces.is_some());
            into.interfaces = Said::at(spot, interfaces(name, node, may_be_empty, report));
        }
        "sources" => {
            let may_be_empty = has(|defaults| defaults.sources.is_some());
            let list = report.list(name, node, may_be_empty, network::source);
            into.sources = Said::at(spot, list);
        }
        "user" => {
            let text = report.scalar(name, node);
            let user = text.and_then(|text| report.take(node, value::user(text, names)));
            into.user = Said::at(spot, user);
        }
        "direct" => {
            let text = report.scalar(name, node);
            let direct = text.and_then(|text| report.take(node, value::direct(text)));
            into.direct = Said::at(spot, direct);
        }
        _ => {
            let may_be_empty = has(|defaults| defaults.addresses.is_some());
            let list = report.list(name, node, may_be_empty, network::address);
            into.addresses = Said::at(spot, list);
        }
    }
}

fn protocols(name: &str, node: NodeRef, report: &mut Report) -> Option<Protocols> {
    let list = report.list(name, node, false, value::protocols)?;
    Some(list.into_iter().fold(Protocols::default(), Protocols::union))
}

fn both_or_one(families: &[Family]) -> Family {
    match families {
        [first, rest @ ..] if rest.iter().all(|family| family == first) => *first,
        _ => Family::Both,
    }
}

fn interfaces(
    name: &str,
    node: NodeRef,
    may_be_empty: bool,
    report: &mut Report,
) -> Option<Vec<InterfacePattern>> {
    let list = report.list(name, node, may_be_empty, value::interface);
    warn_of_loopback(node, report);
    let list = list?;
    if list.len() > INTERFACES_MAX {
        let count = list.len();
        let message =
            format!("{count} interfaces in one list, at most {INTERFACES_MAX} are allowed");
        let complaint = Complaint::new(message).help("select several with a pattern, as in `wg*`");
        return report.fail(node, complaint);
    }
    Some(list)
}

/// `lo` as an arriving interface: connections of this machine to itself do pass prerouting there,
/// but their translation was decided when they were made, in output (`nf_nat_inet_fn` consults the
/// rules once for each direction).
fn warn_of_loopback(node: NodeRef, report: &mut Report) {
    for item in node.items().filter(|item| item.text() == Some("lo")) {
        report.warn(Concern::NeverMatches, item.spot(), || {
            Complaint::new("`lo` never matches: no connection from outside arrives on it")
                .help("for connections made on this machine, use `scope: local`")
        });
    }
}
