//! What is active, in the text exposition format of Prometheus, for the textfile collector of a
//! node exporter: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::Write;

use anyhow::Result;

use super::Ui;
use super::counted::{Counted, counted};
use super::escape::visible_lines;
use super::status::runs;
use crate::engine::{Fault, RunStatus, Status};
use crate::mapping::words::clients;
use crate::mapping::{GenerationId, MappingSet, Point};

impl Ui {
    pub fn prometheus(&self, status: &Status) -> Result<()> {
        self.print(metrics(status, &counted(status)))
    }
}

fn metrics(status: &Status, counted: &[Counted<'_>]) -> String {
    let mut text = Exposition::default();
    text.family("portmap_build_info", Kind::Gauge, "The version of portmap that wrote this.");
    text.sample("portmap_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    health(&mut text, status);
    let one = |text: &mut Exposition, name: &str, help: &str, value: Option<u64>| {
        text.family(name, Kind::Gauge, help);
        if let Some(value) = value {
            text.sample(name, &[], value);
        }
    };
    let is_active = u64::from(status.view.observed().is_some());
    one(&mut text, "portmap_active", "Whether the kernel has portmap's table.", Some(is_active));
    let mappings = Some(counted.len() as u64);
    one(&mut text, "portmap_mappings", "How many ports are mapped.", mappings);
    let generation = status.serving.and_then(Point::generation).map(GenerationId::get);
    let help = "The generation that serves; absent for none.";
    one(&mut text, "portmap_generation", help, generation);
    let persisted = status.boot.map(GenerationId::get);
    let help = "The generation that boot restores; absent for none.";
    one(&mut text, "portmap_persisted_generation", help, persisted);
    let is_guarded = Some(u64::from(status.guard.is_some()));
    one(&mut text, "portmap_guarded", "Whether a guard puts the table back.", is_guarded);
    let left = status.trial.map_or(0.0, |trial| trial.left.as_secs_f64());
    text.family(
        "portmap_trial_left_seconds",
        Kind::Gauge,
        "Seconds until the trial ends; 0 if none runs.",
    );
    text.sample("portmap_trial_left_seconds", &[], left);
    mappings_of(&mut text, counted);
    runs_of(&mut text, &status.runs);
    text.0
}

fn health(text: &mut Exposition, status: &Status) {
    let faults = status.faults();
    text.family("portmap_healthy", Kind::Gauge, "Whether everything is as it should be.");
    text.sample("portmap_healthy", &[], u8::from(faults.is_empty()));
    text.family("portmap_fault", Kind::Gauge, "Whether something is not as it should be, by code.");
    for code in Fault::CODES {
        let is_found = faults.iter().any(|fault| fault.code() == code);
        text.sample("portmap_fault", &[("code", code.name())], u8::from(is_found));
    }
}

/// What is counted. Of tens of thousands of mappings, which the kernel does not count, there are no
/// series: a monitoring system would rather not have them.
fn mappings_of(text: &mut Exposition, counted: &[Counted<'_>]) {
    let counters = || {
        let counters = counted.iter().filter_map(|c| Some((c.mapping, c.counter?)));
        counters.map(|(mapping, counter)| {
            let service = mapping.service;
            let (port, clients) = (service.port.to_string(), clients(&mapping.selector));
            (mapping, counter, port, service.protocol.name(), clients)
        })
    };
    let name = "portmap_mapping_info";
    text.family(name, Kind::Gauge, "A mapping whose connections are counted.");
    for (mapping, _, port, protocol, clients) in counters() {
        let to = mapping.to.port().to_string();
        let comment = mapping.comment.as_deref().unwrap_or_default();
        let labels = [
            ("port", &*port),
            ("protocol", protocol),
            ("clients", &clients),
            ("to", &to),
            ("comment", comment),
        ];
        text.sample(name, &labels, 1);
    }
    let name = "portmap_connections_total";
    text.family(name, Kind::Counter, "New connections that were translated, answered or not.");
    for (_, counter, port, protocol, clients) in counters() {
        let labels = [("port", &*port), ("protocol", protocol), ("clients", &clients)];
        text.sample(name, &labels, counter.packets);
    }
    let name = "portmap_first_packets_bytes_total";
    text.family(name, Kind::Counter, "Bytes of the first packets of these connections.");
    for (_, counter, port, protocol, clients) in counters() {
        let labels = [("port", &*port), ("protocol", protocol), ("clients", &clients)];
        text.sample(name, &labels, counter.bytes);
    }
}

/// What lives with commands. The table's name tells two of the same command apart.
fn runs_of(text: &mut Exposition, runs: &[RunStatus]) {
    let name = "portmap_runs";
    text.family(name, Kind::Gauge, "How many commands have mappings of their own.");
    text.sample(name, &[], runs.len());
    let tables: Vec<String> = runs.iter().map(|s| s.run.table.id.to_string()).collect();
    let name = "portmap_run_info";
    text.family(name, Kind::Gauge, "A command with mappings of its own.");
    for (status, table) in runs.iter().zip(&tables) {
        let command = status.run.table.command.as_deref().unwrap_or_default();
        text.sample(name, &[("run", table), ("command", command)], 1);
    }
    let sets: Vec<MappingSet> = runs.iter().map(|status| status.run.mapping()).collect();
    let mappings = || {
        let each = runs.iter().zip(&tables).zip(&sets);
        each.flat_map(|((status, table), set)| set.iter().map(move |m| (&status.run, table, m)))
    };
    let name = "portmap_run_mapping_info";
    text.family(name, Kind::Gauge, "A mapping that lives with a command.");
    for (_, table, mapping) in mappings() {
        let (port, to) = (mapping.service.port.to_string(), mapping.to.port().to_string());
        let protocol = mapping.service.protocol.name();
        let labels = [("run", &**table), ("port", &port), ("protocol", protocol), ("to", &to)];
        text.sample(name, &labels, 1);
    }
    let name = "portmap_run_connections_total";
    text.family(name, Kind::Counter, "New connections that were translated for a command.");
    for (run, table, mapping) in mappings() {
        let Some(counter) = runs::count(run, mapping) else { continue };
        let (port, protocol) = (mapping.service.port.to_string(), mapping.service.protocol.name());
        let labels = [("run", &**table), ("port", &port), ("protocol", protocol)];
        text.sample(name, &labels, counter.packets);
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

#[derive(Default)]
struct Exposition(String);

impl Exposition {
    /// The samples of one metric follow its help and type.
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (at, (label, content)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{}\"", escaped(content));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }
}

/// The value of a label: a backslash, a quote and the end of a line are escaped, and what a reader
/// would not see is shown.
fn escaped(text: &str) -> String {
    visible_lines(text).replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = Exposition::default();
        text.sample("portmap_x", &[("a", "c:\\\"\n"), ("b", "日本")], 7);
        assert_eq!(text.0, "portmap_x{a=\"c:\\\\\\\"\\n\",b=\"日本\"} 7\n");
        assert_eq!(escaped("a\u{202e}b\u{1b}"), "a\\\\u{202e}b\\\\u{1b}");
    }
}
