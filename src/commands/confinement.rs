//! What each command may still do, once the command line is understood and before anything else is
//! read.

use crate::cli::Command;
use crate::host::confine::{self, Needs, Resting};
use crate::ui::Ui;

/// Gives up what this command does not need. What the kernel cannot do for that is said with
/// `--verbose`: nothing that the command does depends on it.
pub fn confine(ui: &Ui, command: &Command) {
    let Some(needs) = needs(command) else { return };
    noted(ui, ui.timed("confine", || confine::confine(&needs)));
}

fn noted<T>(ui: &Ui, confined: Result<T, String>) -> Option<T> {
    if let Err(why) = &confined {
        if ui.is_verbose() {
            ui.note(format_args!("not confined: {why}"));
        }
    }
    confined.ok()
}

/// For `run`, whose command inherits what cannot be taken back: what it does not need itself rests
/// until it is known who the command runs as. `None` where the kernel cannot do that.
pub fn rest(ui: &Ui) -> Option<Resting> {
    noted(ui, Resting::begin(Needs::RUN))
}

/// Where the command has no use for it either.
pub fn give_up(ui: &Ui, resting: Option<Resting>) {
    noted(ui, resting.map_or(Ok(()), Resting::give_up));
}

/// `None` for what a confinement would be passed on to ([`rest`]), and for what reads nothing of others.
fn needs(command: &Command) -> Option<Needs> {
    // A persisted mapping is nothing without a service that restores it: systemctl(1) enables it.
    let change = |persists: bool| Needs { executes: persists, ..Needs::CHANGE };
    let or_look = |dry_run: bool, persists: bool| match dry_run {
        true => Needs::KERNEL,
        false => change(persists),
    };
    Some(match command {
        Command::Check(_) | Command::Render(_) => Needs::FILES,
        Command::Plan(_) | Command::Status(_) | Command::History(_) | Command::Show(_) => {
            Needs::KERNEL
        }
        Command::Apply(apply) => or_look(apply.dry_run, apply.persist),
        Command::Rollback(rollback) => or_look(rollback.dry_run, false),
        Command::Clear(clear) => or_look(clear.dry_run, clear.persist),
        Command::Confirm(confirm) => change(confirm.persist),
        Command::Persist(persist) => change(!persist.off),
        Command::Restore(_) => change(false),
        Command::Reload => change(true),
        Command::Guard(_) => change(false),
        Command::Doctor(doctor) if doctor.probe => Needs::LOOK_AROUND.and_make_namespaces(),
        // The chart of a trace has the rules of iptables too.
        Command::Doctor(_) | Command::Trace(_) => Needs::LOOK_AROUND,
        Command::Run(_)
        | Command::Completions(_)
        | Command::Man(_)
        | Command::Schema(_)
        | Command::Version => return None,
    })
}
