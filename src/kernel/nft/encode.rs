//! Steps as messages of a batch.

use std::ffi::CString;

use nftnl::{Chain, ChainType, MsgType, ProtoFamily, Table};
use nix::libc;

use super::abi::*;
use super::batch::{Batch, ELEMENT_MAX, ELEMENTS_MAX, Place};
use super::rule::{self, ANONYMOUS_NAME, AnonymousSet};
use super::{sets, userdata};
use crate::kernel::netlink::wire::Writer;
use crate::plan::Step;
use crate::ruleset::{
    ChainName, Counter, GATE, HookPoint, Kind, Lifetime, MapName, Policy, Rule, RunTable, TableName,
};

/// All messages of `steps` in our table, for a ruleset at `generation`.
pub fn batch(steps: &[Step], generation: u32) -> Batch {
    whole(Place::default(), steps, generation)
}

/// All messages that make the table of a run.
pub fn run(run: &RunTable, steps: &[Step], generation: u32) -> Batch {
    let flags = match run.lifetime {
        Lifetime::Socket => TABLE_OWNER,
        Lifetime::Supervised { .. } => 0,
    };
    let comment = run.comment().as_deref().map(str::to_owned);
    whole(Place { name: TableName::Run(run.id), flags, comment }, steps, generation)
}

/// The messages that delete a table.
pub fn over(name: TableName, generation: u32) -> Batch {
    let place = Place { name, ..Place::default() };
    whole(place, &[Step::DeleteTable], generation)
}

/// All messages that make a table of the guard's, which lives with its socket.
pub fn guard(pid: u32, comment: &str, steps: &[Step], generation: u32) -> Batch {
    let (name, comment) = (TableName::Guard(pid), Some(comment.to_owned()));
    whole(Place { name, flags: TABLE_OWNER, comment }, steps, generation)
}

fn whole(place: Place, steps: &[Step], generation: u32) -> Batch {
    let elements = steps.iter().map(Step::element_count).sum();
    let mut batch = Batch::open(Some(generation), elements);
    batch.place = place;
    for (index, one) in steps.iter().enumerate() {
        batch.at_step(index);
        step(&mut batch, one);
    }
    batch.close();
    batch
}

const ADD: i32 = libc::NFT_MSG_NEWSETELEM;
const DELETE: i32 = libc::NFT_MSG_DELSETELEM;

/// Appends the messages of one step.
fn step(batch: &mut Batch, step: &Step) {
    match step {
        Step::DeleteTable => delete_table(batch),
        Step::AddTable => add_table(batch),
        Step::AddMap { name, shape } => {
            add_set(batch, |writer, id| sets::write_map(writer, id, *name, *shape));
        }
        Step::DeleteMap(name) => delete_set(batch, &name.to_string()),
        Step::AddGate => add_set(batch, |writer, id| sets::write_gate(writer, id, GATE)),
        Step::DeleteGate => delete_set(batch, GATE),
        Step::OpenGate { timeout } => {
            elements(batch, ADD, GATE, None, &sets::GATE_KEYS, |writer, key| {
                sets::write_gate_element(writer, *key, *timeout);
            });
        }
        // Without a list it is the set that is emptied, also if no element is left (Linux 4.10).
        Step::ShutGate => {
            let message = batch.begin(DELETE, 0, 0);
            batch.name_table(NFTA_SET_ELEM_LIST_TABLE);
            batch.writer.attr_str(NFTA_SET_ELEM_LIST_SET, GATE);
            batch.writer.end(message);
        }
        Step::AddChain(name) => chain(batch, *name, MsgType::Add, libc::NLM_F_CREATE),
        Step::DeleteChain(name) => chain(batch, *name, MsgType::Del, 0),
        Step::AddPorts { .. } | Step::AddServices { .. } | Step::AddAnswers { .. } => {
            add_elements(batch, step);
        }
        Step::DeleteElements { map, services } => {
            elements(batch, DELETE, &map.to_string(), None, services, |writer, service| {
                sets::write_service(writer, *service, None);
            });
        }
        Step::DeleteAnswers { map, answers } => {
            elements(batch, DELETE, &map.to_string(), None, answers, |writer, answer| {
                sets::write_answer(writer, answer, None);
            });
        }
        Step::AddRule { chain, before, rule, counter } => {
            add_rule(batch, *chain, *before, rule, *counter);
        }
        Step::DeleteRule { chain, handle } => {
            let table = table(batch);
            let chain = Chain::new(c_name(*chain), &table);
            let mut rule = nftnl::Rule::new(&chain);
            rule.set_handle(*handle);
            batch.object(&rule, MsgType::Del, 0, |_| {});
        }
    }
}

/// Of a step that adds elements; otherwise nothing.
fn add_elements(batch: &mut Batch, step: &Step) {
    match step {
        Step::AddPorts { map, elements: list } => {
            elements(batch, ADD, &map.to_string(), None, list, |writer, (service, to, counter)| {
                sets::write_port(writer, *service, to, *counter);
            });
        }
        Step::AddServices { map, services } => {
            elements(batch, ADD, &map.to_string(), None, services, |writer, (service, counter)| {
                match map {
                    MapName::Selected(layer) => sets::write_selected(writer, *layer, *service),
                    _ => sets::write_service(writer, *service, *counter),
                }
            });
        }
        Step::AddAnswers { map, answers } => {
            elements(batch, ADD, &map.to_string(), None, answers, |writer, (answer, counter)| {
                sets::write_answer(writer, answer, *counter);
            });
        }
        _ => {}
    }
}

/// For libnftnl, which wants one to name another object by.
fn table(batch: &Batch) -> Table {
    let name = CString::new(batch.place.name.to_string()).expect("the name has no zero");
    Table::new(&name, ProtoFamily::Inet)
}

/// With flags in any case: a dormant table wakes when it is added again without that flag.
fn add_table(batch: &mut Batch) {
    let message = batch.begin(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, 0);
    batch.name_table(NFTA_TABLE_NAME);
    batch.writer.attr_u32(NFTA_TABLE_FLAGS, batch.place.flags);
    if let Some(comment) = &batch.place.comment {
        batch.writer.attr(NFTA_TABLE_USERDATA, &userdata::comment(comment));
    }
    batch.writer.end(message);
}

fn c_name(chain: ChainName) -> CString {
    CString::new(chain.to_string()).expect("names of chains have no zero")
}

fn delete_table(batch: &mut Batch) {
    let message = batch.begin(libc::NFT_MSG_DELTABLE, 0, 0);
    batch.name_table(NFTA_TABLE_NAME);
    batch.writer.end(message);
}

fn chain(batch: &mut Batch, name: ChainName, verb: MsgType, flags: i32) {
    let table = table(batch);
    let mut chain = Chain::new(c_name(name), &table);
    if let (Some(base), MsgType::Add) = (name.base(), verb) {
        chain.set_type(match base.kind {
            Kind::Nat => ChainType::Nat,
            Kind::Filter => ChainType::Filter,
        });
        let hook = match base.hook {
            HookPoint::Prerouting => nftnl::Hook::PreRouting,
            HookPoint::Input => nftnl::Hook::In,
            HookPoint::Output => nftnl::Hook::Out,
        };
        chain.set_hook(hook, batch.place.name.priority(base));
        chain.set_policy(match base.policy {
            Policy::Accept => nftnl::Policy::Accept,
            Policy::Drop => nftnl::Policy::Drop,
        });
    }
    batch.object(&chain, verb, flags, |_| {});
}

fn add_set(batch: &mut Batch, write: impl FnOnce(&mut Writer, u32)) {
    batch.next_set += 1;
    let id = batch.next_set;
    let message = batch.begin(libc::NFT_MSG_NEWSET, libc::NLM_F_CREATE, 0);
    batch.name_table(NFTA_SET_TABLE);
    write(&mut batch.writer, id);
    batch.writer.end(message);
}

fn delete_set(batch: &mut Batch, name: &str) {
    let message = batch.begin(libc::NFT_MSG_DELSET, 0, 0);
    batch.name_table(NFTA_SET_TABLE);
    batch.writer.attr_str(NFTA_SET_NAME, name);
    batch.writer.end(message);
}

/// As many messages as the elements need: the length of a list has 16 bits.
fn elements<T>(
    batch: &mut Batch,
    kind: i32,
    set: &str,
    id: Option<u32>,
    list: &[T],
    mut write: impl FnMut(&mut Writer, &T),
) {
    let flags = if kind == ADD { libc::NLM_F_CREATE } else { 0 };
    let mut list = list.iter().enumerate().peekable();
    while let Some((first, _)) = list.peek() {
        let message = batch.begin(kind, flags, *first);
        batch.name_table(NFTA_SET_ELEM_LIST_TABLE);
        let writer = &mut batch.writer;
        writer.attr_str(NFTA_SET_ELEM_LIST_SET, set);
        if let Some(id) = id {
            writer.attr_u32(NFTA_SET_ELEM_LIST_SET_ID, id);
        }
        let nest = writer.nest(NFTA_SET_ELEM_LIST_ELEMENTS);
        let start = writer.bytes.len();
        while writer.bytes.len() - start < ELEMENTS_MAX {
            let Some((_, element)) = list.next() else { break };
            let before = writer.bytes.len();
            write(writer, element);
            assert!(writer.bytes.len() - before <= ELEMENT_MAX, "an element is longer than known");
        }
        writer.close(nest);
        writer.end(message);
    }
}

fn add_anonymous(batch: &mut Batch, set: &AnonymousSet) {
    let message = batch.begin(libc::NFT_MSG_NEWSET, libc::NLM_F_CREATE, 0);
    batch.name_table(NFTA_SET_TABLE);
    sets::write_anonymous(&mut batch.writer, ANONYMOUS_NAME, set);
    batch.writer.end(message);
    elements(batch, ADD, ANONYMOUS_NAME, Some(set.id), &set.elements.list, sets::write_element);
}

fn add_rule(
    batch: &mut Batch,
    chain: ChainName,
    before: Option<u64>,
    rule: &Rule,
    counter: Counter,
) {
    let made = rule::encode(rule, counter, &mut batch.next_set);
    for set in &made.sets {
        add_anonymous(batch, set);
    }
    let table = table(batch);
    let chain = Chain::new(c_name(chain), &table);
    let mut rule = nftnl::Rule::new(&chain);
    for expr in &made.exprs {
        rule.add_expr(expr);
    }
    // With a position and no NLM_F_APPEND the kernel inserts before the rule of that handle.
    let flags = match before {
        Some(handle) => {
            rule.set_position(handle);
            libc::NLM_F_CREATE
        }
        None => libc::NLM_F_CREATE | libc::NLM_F_APPEND,
    };
    // Not by `Rule::set_comment`: its buffer holds 125 bytes of the 128 that nft takes.
    let comment = made.comment.as_deref().map(userdata::comment);
    batch.object(&rule, MsgType::Add, flags, |writer| {
        if let Some(comment) = &comment {
            writer.attr(NFTA_RULE_USERDATA, comment);
        }
    });
}
