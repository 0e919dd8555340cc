//! From an answer of the kernel back to the step, and the element of it, that it refused.

use super::abi::{NFTA_LIST_ELEM, NFTA_SET_ELEM_LIST_ELEMENTS};
use super::batch::{Batch, Origin};
use super::wire::{Attrs, FAMILY_HEADER, HEADER};
use crate::mapping::Service;
use crate::plan::Step;
use crate::ruleset::{GATE, MapName, Rule, TABLE};

/// Names what the message of this origin does; `offset` is where in it the kernel's finger points.
pub fn describe(batch: &Batch, steps: &[Step], origin: Origin, offset: Option<usize>) -> String {
    let Some(step) = steps.get(origin.step) else { return "open the transaction".to_owned() };
    let (here, count) = elements(batch, origin, offset);
    let element = here.or((count == 1).then_some(0)).map(|index| origin.first_element + index);
    let service = |list: &[Service]| match element.and_then(|i| list.get(i)) {
        Some(service) => format!("element {service}"),
        None => format!("{count} elements"),
    };
    match step {
        Step::DeleteTable => format!("delete table inet {TABLE}"),
        Step::AddTable => format!("add table inet {TABLE}"),
        Step::AddMap { name, .. } => format!("add map {name}"),
        Step::DeleteMap(name) => format!("delete map {name}"),
        Step::AddGate => format!("add set {GATE}"),
        Step::DeleteGate => format!("delete set {GATE}"),
        Step::OpenGate { .. } => format!("add elements to set {GATE}"),
        Step::ShutGate => format!("delete elements from set {GATE}"),
        Step::AddChain(name) => format!("add chain {name}"),
        Step::DeleteChain(name) => format!("delete chain {name}"),
        Step::AddPorts { map, elements } => match element.and_then(|i| elements.get(i)) {
            Some((service, target, _)) => {
                format!("add element {service} -> {} to map {map}", target.to)
            }
            None => format!("add {count} elements to map {map}"),
        },
        Step::DeletePorts { map, services } => {
            format!("delete {} from map {map}", service(services))
        }
        Step::AddSelected { layer, services } => {
            format!("add {} to map {}", service(services), MapName::Selected(*layer))
        }
        Step::DeleteSelected { layer, services } => {
            format!("delete {} from map {}", service(services), MapName::Selected(*layer))
        }
        Step::AddRule { chain, rule, .. } => match rule {
            Rule::Select(m) => format!("add rule {} -> {} to chain {chain}", m.service, m.to),
            Rule::Lookup(map) => format!("add the lookup in map {map} to chain {chain}"),
            Rule::Dispatch(_) => format!("add the lookup of selected services to chain {chain}"),
            Rule::Gate(_) => format!("add the gate to chain {chain}"),
            Rule::ForThisHost(_) => format!("add the test for this host to chain {chain}"),
        },
        Step::DeleteRule { chain, handle } => {
            format!("delete rule (handle {handle}) from chain {chain}")
        }
    }
}

/// Which element of the message the offset lies in, and how many there are.
fn elements(batch: &Batch, origin: Origin, offset: Option<usize>) -> (Option<usize>, usize) {
    let from_origin = batch.writer.bytes.get(origin.start..).unwrap_or(&[]);
    let len = from_origin.first_chunk().map_or(0, |l| u32::from_ne_bytes(*l) as usize);
    let Some(message) = from_origin.get(..len) else { return (None, 0) };
    let Some(attrs) = message.get(HEADER + FAMILY_HEADER..) else { return (None, 0) };
    let Ok(Some(list)) = Attrs(attrs).find(NFTA_SET_ELEM_LIST_ELEMENTS) else { return (None, 0) };
    let mut walk = Attrs(list);
    let (mut here, mut count) = (None, 0);
    // The list is the last attribute of the message.
    let mut end = message.len() - list.len();
    while let Some(Ok((NFTA_LIST_ELEM, _))) = walk.next() {
        let start = end;
        end = message.len() - walk.0.len();
        if offset.is_some_and(|offset| (start..end).contains(&offset)) {
            here = Some(count);
        }
        count += 1;
    }
    (here, count)
}
