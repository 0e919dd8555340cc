//! The wait for a verdict at the terminal: Enter keeps, Ctrl-C or a lost terminal goes back.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{FlushArg, tcflush};

use super::Ui;
use crate::host::signals::EndSignals;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    GoBack,
    TimeIsUp,
    /// The trial does not run any more, for another reason.
    Elsewhere,
}

pub struct Countdown {
    signals: EndSignals,
}

impl Countdown {
    /// From here on, signals that mean "no" are kept for [`Countdown::wait`].
    pub fn prepare() -> Result<Self> {
        Ok(Self { signals: EndSignals::block().context("wait for signals")? })
    }

    /// Waits until the user decides, `time` has passed, or the trial does not run any more.
    pub fn wait(self, ui: &Ui, time: Duration, mut runs: impl FnMut() -> bool) -> Result<Verdict> {
        let end = Instant::now() + time;
        // A key pressed before there was a question is no answer.
        let _ = tcflush(io::stdin(), FlushArg::TCIFLUSH);
        let verdict = loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break Verdict::TimeIsUp;
            }
            ui.countdown(left);
            if let Some(verdict) = poll_once(&self.signals, left).context("wait for a key")? {
                break verdict;
            }
            if !runs() {
                break Verdict::Elsewhere;
            }
        };
        ui.countdown_end();
        Ok(verdict)
    }
}

/// At most until the next whole second, when the countdown is to be drawn again.
fn poll_once(signals: &EndSignals, left: Duration) -> nix::Result<Option<Verdict>> {
    let stdin = io::stdin();
    let mut fds = [
        PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
        PollFd::new(signals.as_fd(), PollFlags::POLLIN),
    ];
    let step = Duration::from_millis(u64::from(left.subsec_millis()).max(1));
    let step = PollTimeout::try_from(step).unwrap_or(PollTimeout::ZERO);
    match poll(&mut fds, step) {
        Ok(0) | Err(Errno::EINTR) => return Ok(None),
        Ok(_) => {}
        Err(e) => return Err(e),
    }
    let happened = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
    if happened(&fds[1]) {
        return Ok(Some(Verdict::GoBack));
    }
    if happened(&fds[0]) {
        let mut line = String::new();
        // A terminal that is gone reads as the end of the file: nobody is there to say yes.
        return Ok(match io::stdin().read_line(&mut line) {
            Ok(n) if n > 0 => answer(&line),
            _ => Some(Verdict::GoBack),
        });
    }
    Ok(None)
}

/// Enter, or a yes; a no; anything else is no answer.
fn answer(line: &str) -> Option<Verdict> {
    match line.trim().to_ascii_lowercase().as_str() {
        "" | "y" | "yes" => Some(Verdict::Keep),
        "n" | "no" => Some(Verdict::GoBack),
        _ => None,
    }
}

impl Ui {
    fn countdown(&self, left: Duration) {
        if self.is_quiet() {
            return;
        }
        let seconds = left.as_secs_f64().ceil();
        let mut err = io::stderr().lock();
        let _ =
            write!(err, "\r{seconds} s left: Enter keeps the new mapping, Ctrl-C goes back \x1b[K");
        let _ = err.flush();
    }

    fn countdown_end(&self) {
        if !self.is_quiet() {
            let _ = writeln!(io::stderr().lock());
        }
    }
}
