//! The tables of runs as they are in the kernel.

use super::abi::*;
use super::read::{Extent, Head, Source, heads};
use super::userdata;
use crate::kernel::Error;
use crate::kernel::netlink::socket::Socket;
use crate::ruleset::{Observed, Run, RunId, RunTable, TableName};

/// All of them, by name. Not one moment of them unless the generation before and after is the same.
pub fn runs(socket: &mut Socket) -> Result<Vec<Run>, Error> {
    let mut ids: Vec<RunId> = Vec::new();
    heads(socket, |name, _| ids.extend(name.parse::<RunId>()))?;
    ids.sort_unstable();
    let runs = ids.into_iter().map(|id| run(socket, id));
    runs.filter_map(Result::transpose).collect()
}

/// `None` if it has gone meanwhile.
fn run(socket: &mut Socket, id: RunId) -> Result<Option<Run>, Error> {
    let mut observed = Observed::default();
    let mut table = None;
    let mut owner = None;
    let mut source = Source::new(socket, TableName::Run(id));
    let present = source.head(|head| {
        let Head { flags, userdata, .. } = head;
        owner = head.owner;
        if flags & !TABLE_OWNER != 0 {
            observed.foreign.push(format!("flags {flags:#x}"));
        }
        let comment = userdata.and_then(|data| userdata::read_comment(data).ok().flatten());
        table = Some(RunTable::found(id, flags & TABLE_OWNER != 0, comment));
    })?;
    let Some(table) = table.filter(|_| present) else { return Ok(None) };
    source.content(Extent::Whole, &mut observed)?;
    // It goes with its socket, at a moment of its own: then what was read is a part of it.
    if !source.head(|_| {})? {
        return Ok(None);
    }
    Ok(Some(Run { table, owner, observed }))
}
