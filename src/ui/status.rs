//! What is active, as a table or as one document.

pub mod runs;

use anyhow::Result;
use humantime::format_rfc3339_seconds;
use serde::Serialize;
use serde_json::Value;

use super::boot::{self, NextBootJson};
use super::counted::{Counted, counted, layer};
use super::escape::visible;
use super::mapping::MappingJson;
use super::refusals::{self, Refusals};
use super::remark::Remark;
use super::watch::Rates;
use super::{JSON_VERSION, Table, Ui};
use crate::doctor::Holder;
use crate::engine::{Brings, Drift, Fault, Status, TraceStatus, TrialStatus};
use crate::formats::code::Code;
use crate::history::Guard;
use crate::mapping::words::{clients, fold};
use crate::mapping::{GenerationId, Point};
use crate::ruleset::TraceTable;

use runs::RunJson;

#[derive(Serialize)]
pub struct Document {
    version: u32,
    /// Whether everything is as it should be.
    healthy: bool,
    faults: Vec<FaultJson>,
    /// Whether our table is in the kernel.
    active: bool,
    generation: Option<GenerationId>,
    /// The generation that is persisted, whether anything restores it or not.
    persisted: Option<GenerationId>,
    /// What the next boot brings; null without history.
    boot: Option<NextBootJson>,
    trial: Option<TrialJson>,
    /// How the table differs from what portmap put there; null if it does not, or if that is
    /// not known.
    drift: Option<String>,
    foreign: Vec<String>,
    /// What of the history cannot be read.
    problems: Vec<String>,
    mappings: Vec<Entry>,
    /// What lives with a command, and takes precedence.
    runs: Vec<RunJson>,
    /// The tables of traces and probes, which decide nothing.
    traces: Vec<TraceJson>,
    /// Who puts the table back if another program removes it; null if nobody does.
    guard: Option<GuardJson>,
}

#[derive(Serialize)]
struct TraceJson {
    table: String,
    /// Whether its process was killed, and it is there all the same.
    left_over: bool,
}

#[derive(Serialize)]
struct GuardJson {
    pid: u32,
    /// In RFC 3339; null if it never had to put the table back.
    last_repair: Option<String>,
}

#[derive(Serialize)]
struct FaultJson {
    code: Code,
    message: String,
}

impl From<&TraceStatus> for TraceJson {
    fn from(trace: &TraceStatus) -> Self {
        Self { table: trace.table.id.to_string(), left_over: trace.is_left_over }
    }
}

impl From<&Fault> for FaultJson {
    fn from(fault: &Fault) -> Self {
        Self { code: fault.code(), message: fault.to_string() }
    }
}

#[derive(Serialize)]
struct TrialJson {
    generation: Option<GenerationId>,
    /// 0 if the time is up and the previous mapping is active again.
    left_seconds: f64,
}

#[derive(Serialize)]
struct Entry {
    port: u16,
    protocol: &'static str,
    #[serde(flatten)]
    mapping: MappingJson,
    #[serde(flatten)]
    refusals: Refusals,
    /// Connections, as the kernel's NAT sees each once; null where a map is too large to count.
    connections: Option<u64>,
    bytes: Option<u64>,
    /// Who listens at the target; null if that cannot be seen.
    listeners: Option<Vec<Value>>,
}

impl Ui {
    pub fn status(&self, status: &Status) -> Result<()> {
        let counted = counted(status);
        if self.is_json() {
            return self.print_json(&document(status, &counted));
        }
        if !counted.is_empty() {
            self.table(&table(&counted, None))?;
            self.gap()?;
        }
        let remarks = remarks(status, counted.is_empty());
        remarks.into_iter().try_for_each(|remark| self.remark(remark))?;
        self.runs(&status.runs)
    }

    /// One line for monitoring, or the whole document.
    pub fn health(&self, status: &Status, faults: &[Fault]) -> Result<()> {
        if self.is_json() {
            return self.status(status);
        }
        if faults.is_empty() {
            return self.say(format_args!("ok: {}", well(status)));
        }
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        self.say(format_args!("not ok: {}", faults.join("; ")))
    }
}

/// A healthy host, in words.
fn well(status: &Status) -> String {
    let mut words = match status.view.serving().len() {
        0 => "nothing is mapped".to_owned(),
        1 => "1 mapping".to_owned(),
        n => format!("{n} mappings"),
    };
    if let Some(number) = status.serving.and_then(Point::generation) {
        words.push_str(&format!(", generation {number}"));
    }
    match status.next_boot.as_ref().map(|next| &next.brings) {
        Some(Brings::Generation { is_empty: false, .. }) => words.push_str(", restored at boot"),
        Some(Brings::Files { .. }) => words.push_str(", rules files are applied at boot"),
        _ => {}
    }
    words
}

/// All that is to be said about the table as a whole.
pub fn remarks(status: &Status, is_empty: bool) -> Vec<Remark> {
    let mut remarks = Vec::new();
    if let Some(observed) = status.view.observed() {
        if is_empty {
            remarks.push(Remark::Say("nothing is mapped".to_owned()));
        }
        remarks.push(Remark::Say(generation(status)));
        let stopped = refusals::sentences(observed, layer(status), status.view.serving());
        remarks.extend(stopped.into_iter().map(Remark::Say));
    } else {
        let nothing = match status.runs.is_empty() {
            true => "nothing is mapped",
            // What runs have is told below.
            false => "no mapping is applied",
        };
        let nothing = format!("{nothing}: the kernel has no table inet portmap");
        remarks.push(Remark::Say(nothing));
        remarks.extend(status.lost.map(|number| {
            Remark::Note(format!(
                "generation {number} was active; a reboot or another program has removed it, and \
                 `portmap rollback --to {number}` puts it back"
            ))
        }));
    }
    if let Some(drift) = &status.drift {
        remarks.extend(of_drift(drift));
    }
    remarks.extend(status.guard.map(guarded));
    remarks.extend(status.traces.iter().filter_map(left_over));
    remarks.extend(boot::remarks(status));
    for problem in &status.problems {
        remarks.push(Remark::Warning(problem.to_string()));
        remarks.extend(problem.help().map(|help| Remark::Note(help.to_owned())));
    }
    remarks
}

/// A trace that is under way is nothing to speak of.
fn left_over(trace: &TraceStatus) -> Option<Remark> {
    let TraceTable { id, lifetime } = trace.table;
    let warning = match (trace.is_left_over, lifetime.is_told()) {
        (true, _) => format!(
            "{id} is left over, without effect on where packets go: its trace or probe was killed; \
             the next `portmap trace`, `doctor --probe`, `apply`, `run` or `clear` removes it"
        ),
        (false, false) => format!(
            "{id} has the name of a trace's table, but does not say that it is one: no command \
             removes it; `nft delete table inet {id}` does"
        ),
        (false, true) => return None,
    };
    Some(Remark::Warning(warning))
}

fn guarded(guard: Guard) -> Remark {
    let Guard { pid, last_repair } = guard;
    Remark::Say(match last_repair {
        None => format!("guarded: process {pid} puts the table back if it is removed or changed"),
        Some(at) => format!(
            "guarded: process {pid} has put the table back, the last time at {}",
            format_rfc3339_seconds(at)
        ),
    })
}

fn of_drift(drift: &Drift) -> Vec<Remark> {
    let mut remarks = Vec::new();
    for foreign in &drift.foreign {
        let warning = format!("another program has changed table inet portmap: {foreign}");
        remarks.push(Remark::Warning(warning));
    }
    if !drift.mappings.is_empty() {
        let mappings = drift.mappings.join("; ");
        let warning = format!("another program has changed the mapping: {mappings}");
        remarks.push(Remark::Warning(warning));
    }
    if !drift.repairs.is_empty() {
        let repairs = drift.repairs.join("; ");
        let warning = format!("table inet portmap is not as it should be: {repairs}");
        remarks.push(Remark::Warning(warning));
    }
    remarks.push(Remark::Note("`portmap apply` of the rules file repairs it".to_owned()));
    remarks
}

/// Which generation is active, in a sentence.
fn generation(status: &Status) -> String {
    match (status.trial, status.serving) {
        (Some(TrialStatus { number: Some(n), left }), serving) if left.is_zero() => {
            let before = match serving {
                Some(point) => crate::engine::name_within(point),
                None => "what was before".to_owned(),
            };
            format!("generation {n} was on trial; the time is up, and {before} is active again")
        }
        (Some(TrialStatus { number: Some(n), left }), _) => {
            let left = left.as_secs_f64().ceil();
            format!(
                "generation {n} is on trial for {left} more seconds: `portmap confirm` keeps it"
            )
        }
        (None, _) | (Some(_), _) => match status.view.stamped() {
            Some(n) if status.is_idle => format!(
                "generation {n} is active; the empty table stays for connections through an \
                 earlier mapping"
            ),
            Some(n) => format!("generation {n} is active"),
            None if status.is_idle => {
                "the empty table stays for connections through an earlier mapping".to_owned()
            }
            None => "the active mapping is not in the history".to_owned(),
        },
    }
}

pub fn document(status: &Status, counted: &[Counted<'_>]) -> Document {
    let faults = status.faults();
    let foreign = status.view.foreign().to_vec();
    Document {
        version: JSON_VERSION,
        healthy: faults.is_empty(),
        faults: faults.iter().map(FaultJson::from).collect(),
        active: status.view.observed().is_some(),
        generation: status.serving.and_then(Point::generation),
        persisted: status.boot,
        boot: status.next_boot.as_ref().map(NextBootJson::from),
        trial: status.trial.map(|trial| TrialJson {
            generation: trial.number,
            left_seconds: trial.left.as_secs_f64(),
        }),
        drift: status.drift.as_ref().map(ToString::to_string),
        foreign,
        problems: status.problems.iter().map(ToString::to_string).collect(),
        mappings: counted.iter().map(Entry::from).collect(),
        runs: status.runs.iter().map(RunJson::from).collect(),
        traces: status.traces.iter().map(TraceJson::from).collect(),
        guard: status.guard.map(|guard| GuardJson {
            pid: guard.pid,
            last_repair: guard.last_repair.map(|at| format_rfc3339_seconds(at).to_string()),
        }),
    }
}

impl From<&Counted<'_>> for Entry {
    fn from(counted: &Counted<'_>) -> Self {
        let service = counted.mapping.service;
        Self {
            port: service.port.get(),
            protocol: service.protocol.name(),
            mapping: MappingJson::from(counted.mapping),
            refusals: counted.refusals,
            connections: counted.counter.map(|c| c.packets),
            bytes: counted.counter.map(|c| c.bytes),
            listeners: counted.holders.as_ref().map(|h| h.iter().map(Holder::to_json).collect()),
        }
    }
}

/// Who listens, as a cell: `node (pid 812, www-data) on 127.0.0.1`.
fn listener(holders: Option<&[Holder]>) -> String {
    match holders {
        None => "?".to_owned(),
        Some([]) => "nobody".to_owned(),
        Some(holders) => {
            let words = holders.iter().map(|h| match h.addresses.as_slice() {
                [all] if all == "*" => h.to_string(),
                some => format!("{h} on {}", some.join(" ")),
            });
            words.collect::<Vec<_>>().join(", ")
        }
    }
}

/// With rates, the connections per second since the last look.
pub fn table(counted: &[Counted<'_>], rates: Option<&Rates>) -> Table {
    let mut headings = vec!["PORT", "TO", "LISTENER", "FOR", ">CONNECTIONS"];
    headings.extend(rates.map(|_| ">PER SECOND"));
    headings.push("COMMENT");
    let mut table = Table::new(&headings);
    for (run, part) in fold(
        counted,
        |c| c.mapping,
        |a, b| (a.counter.is_some(), &a.holders) == (b.counter.is_some(), &b.holders),
    ) {
        let connections: Option<u64> = part.iter().map(|c| c.counter.map(|c| c.packets)).sum();
        let mut row = vec![
            run.service(),
            visible(&format!("{}{}", run.to(), run.terms())),
            visible(&listener(part[0].holders.as_deref())),
            visible(&clients(&run.first.selector)),
            connections.map_or_else(|| "-".to_owned(), |n| n.to_string()),
        ];
        row.extend(rates.map(|rates| {
            rates.of(part).map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"))
        }));
        row.push(visible(run.first.comment.as_deref().unwrap_or_default()));
        table.row(row);
    }
    table
}
