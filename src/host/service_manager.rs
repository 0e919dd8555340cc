//! What a service that stays tells the one that has started it (sd_notify(3)). Where nobody wants to
//! know, nothing is told.

use sd_notify::NotifyState;

use super::environment;

/// It has begun to do its work.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// What it does at the moment, in a line for people: a second one would be another assignment.
pub fn status(line: &str) {
    tell(&[NotifyState::Status(line.lines().next().unwrap_or_default())]);
}

/// It is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// No work depends on being heard.
fn tell(states: &[NotifyState<'_>]) {
    if environment::is_believed() {
        let _ = sd_notify::notify(states);
    }
}
