//! The host is started anew: what ran is dead, the kernel knows nothing, and the disk is as it was.

use nix::sys::signal::Signal;

use super::Walk;
use super::answers::Other;
use super::model::{Command, Model};

impl Walk {
    /// Boot restores; or something keeps it from that, and all that comes before is another step.
    pub fn reboot(&mut self) {
        if let Some(run) = self.run.take() {
            run.kill(Signal::SIGKILL);
            run.ends();
            self.stage.world.host.has_no_runs_soon();
        }
        self.end_guard();
        self.stage.world.host.loses_its_kernel();
        self.model.reboot();
        if self.dice.one_in(3) {
            self.says("a reboot, after which nothing is restored".to_owned());
            return self.becomes(vec![self.model.clone()]);
        }
        let command = Command::Restore { if_missing: self.dice.one_in(2) };
        self.says(format!("a reboot, and {}", self.stage.words(&command).join(" ")));
        self.stage.run(&command).succeeds();
        let (after, _) = self.model.done(&command);
        self.becomes(vec![after]);
    }
}

impl Model {
    /// Whatever was on trial was not confirmed; the history and what boot restores are on the disk.
    fn reboot(&mut self) {
        self.flush();
        (self.run, self.guard, self.other) = (None, None, Other::None);
    }
}
