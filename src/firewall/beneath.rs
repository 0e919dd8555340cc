//! Rules that see a packet before the interface does: of a bridge, or of a device below. They are
//! not evaluated.

use std::collections::BTreeSet;

use super::connection::{Client, Connection};
use super::machine::Spot;
use super::tables::{Chain, Family, Hook, Rulesets, Table};

/// Whether there can be such rules, so that it matters which device is below which.
pub fn matters(tables: &[Table]) -> bool {
    let of_device = |chain: &Chain| chain.base.as_ref().is_some_and(|base| is_at_device(base.hook));
    tables.iter().any(|table| table.family == Family::Bridge || table.chains.iter().any(of_device))
}

fn is_at_device(hook: Hook) -> bool {
    matches!(hook, Hook::Ingress | Hook::Egress)
}

/// The first rule, or the policy, of a chain that the packets of this connection pass below their
/// interface.
pub fn first(rulesets: &Rulesets, connection: &Connection) -> Option<(Spot, Hook)> {
    let Client::Outside { interface, .. } = &connection.client else { return None };
    let mut below = BTreeSet::new();
    let mut waiting = vec![interface.name.as_str()];
    let mut is_bridged = false;
    while let Some(device) = waiting.pop().and_then(|name| rulesets.devices.get(name)) {
        is_bridged |= device.is_bridge;
        waiting.extend(device.below.iter().map(String::as_str).filter(|name| below.insert(*name)));
    }
    let called = rulesets.tables.iter().enumerate().filter(|(_, table)| !table.dormant);
    let chains = called.flat_map(|(t, table)| {
        table.chains.iter().enumerate().map(move |(c, chain)| (t, table.family, c, chain))
    });
    chains.into_iter().find_map(|(table, family, chain, found)| {
        let base = found.base.as_ref()?;
        let is_passed = match family {
            Family::Bridge => is_bridged && base.hook != Hook::Forward,
            _ => {
                is_at_device(base.hook)
                    && base.devices.iter().any(|device| below.contains(device.as_str()))
            }
        };
        let acts = base.drops || !found.rules.is_empty();
        let rule = (!found.rules.is_empty()).then_some(0);
        (is_passed && acts).then_some((Spot { table, chain, rule }, base.hook))
    })
}
