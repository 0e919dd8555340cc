//! What the engine tells while it works, shown.

use super::Ui;
use super::escape::visible;
use crate::doctor::Finding;
use crate::engine::{Event, Observer};
use crate::plan::Step;

impl Observer for Ui {
    fn timed(&self, what: &str, work: &mut dyn FnMut()) {
        Ui::timed(self, what, work);
    }

    fn event(&self, event: Event<'_>) {
        match event {
            Event::Foreseen(findings) => {
                let warnings: Vec<_> = findings.iter().map(Finding::as_warning).collect();
                self.warn_of(&warnings);
            }
            Event::Ahead(steps) => self.steps("to do", steps),
            Event::Committing(steps) => self.steps("kernel", steps),
            Event::Changed(_) | Event::BootChanged(_) => {}
            Event::Settled(settlement) => self.note(settlement),
            Event::Locked => {}
            Event::ConnectionsCut(n) => {
                let connections = if n == 1 { "connection" } else { "connections" };
                self.warn(format_args!("this resets up to {n} established {connections}"));
            }
            Event::TrialWithoutZone => self.warn(
                "the kernel has no connection tracking zones (CONFIG_NF_CONNTRACK_ZONES): UDP clients \
                 that keep sending stay with the trial when its time is up",
            ),
            Event::RunRemoved(run) => {
                let command = run.table.command.as_deref().unwrap_or("a command");
                self.note(format_args!(
                    "{} is removed: `{command}` has ended, and the process that was to remove it \
                     was killed",
                    run.table.id
                ));
            }
            Event::TraceRemoved(table) => self.note(format_args!(
                "{table} is removed: the trace or probe that it belonged to was killed"
            )),
            Event::FlowsDeleted(flows) if self.is_verbose() => {
                self.note(format_args!("{flows} outdated UDP flows deleted"));
            }
            Event::FlowsDeleted(_) => {}
            Event::Shortfall(error) => {
                self.warn(error);
                if let Some(help) = error.help() {
                    self.note(help);
                }
            }
        }
    }
}

impl Ui {
    /// With `--verbose`, what is done to the kernel's table, a line for each step.
    fn steps(&self, label: &str, steps: &[Step]) {
        if self.is_verbose() {
            let lines: String = steps
                .iter()
                .map(|step| format!("{label}: {}\n", visible(&step.to_string())))
                .collect();
            super::eprint(&lines);
        }
    }
}
