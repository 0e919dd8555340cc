//! The tables of runs and traces as they are in the kernel.

use super::abi::*;
use super::read::{Extent, Source, heads};
use crate::kernel::Error;
use crate::kernel::netlink::socket::Socket;
use crate::ruleset::{Observed, Run, RunId, RunTable, TableName, TraceTable};

/// All of them, by name. Not one moment of them unless the generation before and after is the same.
pub fn runs(socket: &mut Socket) -> Result<(Vec<Run>, Vec<TraceTable>), Error> {
    let mut ids: Vec<RunId> = Vec::new();
    let mut traces = Vec::new();
    heads(socket, |name, head| {
        ids.extend(name.parse::<RunId>());
        let trace = |id| TraceTable::found(id, head.is_owned(), head.comment());
        traces.extend(name.parse().map(trace));
    })?;
    ids.sort_unstable();
    traces.sort_unstable_by_key(|trace| trace.id);
    let runs = ids.into_iter().map(|id| run(socket, id));
    let runs = runs.filter_map(Result::transpose).collect::<Result<_, _>>()?;
    Ok((runs, traces))
}

/// `None` if it has gone meanwhile.
fn run(socket: &mut Socket, id: RunId) -> Result<Option<Run>, Error> {
    let mut observed = Observed::default();
    let mut table = None;
    let mut owner = None;
    let mut source = Source::new(socket, TableName::Run(id));
    let present = source.head(|head| {
        owner = head.owner;
        if head.flags & !TABLE_OWNER != 0 {
            observed.foreign.push(format!("flags {:#x}", head.flags));
        }
        table = Some(RunTable::found(id, head.is_owned(), head.comment()));
    })?;
    let Some(table) = table.filter(|_| present) else { return Ok(None) };
    source.content(Extent::Whole, &mut observed)?;
    // It goes with its socket, at a moment of its own: then what was read is a part of it.
    if !source.head(|_| {})? {
        return Ok(None);
    }
    Ok(Some(Run { table, owner, observed }))
}
