//! The mappings that live with a command.

use anyhow::Result;
use serde::Serialize;

use crate::engine::RunStatus;
use crate::mapping::Mapping;
use crate::mapping::words::fold;
use crate::ruleset::{Counter, Layer, Lifetime, Run, TableName};
use crate::ui::counted::counter;
use crate::ui::escape::visible;
use crate::ui::mapping::MappingJson;
use crate::ui::{Table, Ui};

#[derive(Serialize)]
pub struct RunJson {
    /// The process that the command was started as. It may have ended, and left others running.
    pid: u32,
    /// Null where the kernel does not keep it.
    command: Option<String>,
    /// The table in the kernel.
    table: String,
    /// The processes that hold the mapping at this moment; empty if that cannot be told.
    processes: Vec<ProcessJson>,
    /// Whether the kernel removes the mapping by itself, or a process of portmap's does.
    supervised: bool,
    /// Whether the command has ended, and the mapping is there all the same.
    left_over: bool,
    mappings: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    port: u16,
    protocol: &'static str,
    #[serde(flatten)]
    mapping: MappingJson,
    connections: Option<u64>,
    bytes: Option<u64>,
}

#[derive(Serialize)]
struct ProcessJson {
    pid: u32,
    name: String,
}

impl From<&RunStatus> for RunJson {
    fn from(status: &RunStatus) -> Self {
        let RunStatus { run, holders, is_left_over } = status;
        let mapping = run.mapping();
        let entry = |m: &Mapping| {
            let counter = count(run, m);
            Entry {
                port: m.service.port.get(),
                protocol: m.service.protocol.name(),
                mapping: MappingJson::from(m),
                connections: counter.map(|c| c.packets),
                bytes: counter.map(|c| c.bytes),
            }
        };
        Self {
            pid: run.table.id.pid,
            command: run.table.command.as_deref().map(str::to_owned),
            table: TableName::Run(run.table.id).to_string(),
            processes: holders
                .iter()
                .map(|holder| ProcessJson { pid: holder.pid, name: holder.name.clone() })
                .collect(),
            left_over: *is_left_over,
            supervised: matches!(run.table.lifetime, Lifetime::Supervised { socket: Some(_) }),
            mappings: mapping.iter().map(entry).collect(),
        }
    }
}

pub const HEADING: &str = "by `portmap run`, ahead of the files, for as long as the command lives:";

impl Ui {
    pub(super) fn runs(&self, runs: &[RunStatus]) -> Result<()> {
        if runs.is_empty() {
            return Ok(());
        }
        self.gap()?;
        self.say(HEADING)?;
        self.table(&table(runs))?;
        for left in runs.iter().filter(|status| status.is_left_over) {
            self.warn(format_args!(
                "{} is left over: its command has ended, and the process that was to remove it \
                 was killed; the next `portmap apply`, `run` or `clear` removes it",
                left.run.table.id
            ));
        }
        for named in runs.iter().filter(|status| !status.run.table.lifetime.is_told()) {
            let id = named.run.table.id;
            self.warn(format_args!(
                "{id} has the name of a run's table, but is not of portmap's making: no command \
                 removes it; `nft delete table inet {id}` does"
            ));
        }
        for foreign in runs.iter().flat_map(|status| &status.run.observed.foreign) {
            self.warn(format_args!("not as portmap makes it: {foreign}"));
        }
        Ok(())
    }
}

pub fn table(runs: &[RunStatus]) -> Table {
    let mut table = Table::new(&["PORT", "TO", ">CONNECTIONS", ">PROCESS", "COMMAND"]);
    for status in runs {
        let mapping = status.run.mapping();
        let mappings: Vec<_> = mapping.iter().collect();
        for (run, part) in fold(&mappings, |m| *m, |_, _| true) {
            let packets = part.iter().map(|m| count(&status.run, m).map(|c| c.packets));
            let connections: Option<u64> = packets.sum();
            table.row(vec![
                run.service(),
                run.to(),
                connections.map_or_else(|| "-".to_owned(), |n| n.to_string()),
                process(status).to_string(),
                command(status),
            ]);
        }
    }
    table
}

/// No two mappings of a run are of one service.
pub fn count(run: &Run, mapping: &Mapping) -> Option<Counter> {
    counter(&run.observed, Layer::Active, mapping, 0)
}

/// The process to end if the mapping is to go.
fn process(status: &RunStatus) -> u32 {
    let pid = status.run.table.id.pid;
    match status.holders.first() {
        Some(first) if status.holders.iter().all(|holder| holder.pid != pid) => first.pid,
        _ => pid,
    }
}

fn command(status: &RunStatus) -> String {
    let command = visible(status.run.table.command.as_deref().unwrap_or("-"));
    match status.holders.iter().find(|holder| holder.pid == process(status)) {
        Some(left) if left.pid != status.run.table.id.pid => {
            format!("{} (left running by {command})", visible(&left.name))
        }
        _ => command,
    }
}
