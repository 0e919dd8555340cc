//! `portmap guard`: stays, and puts the table back when somebody else removes or changes it.

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cli::Common;
use crate::commands::engine;
use crate::commands::failure::Result;
use crate::engine::{AT_ONCE, By, Engine, Error, Expected, Pace, Seen, Vigil, WINDOW, Witness};
use crate::history::Guarding;
use crate::host::holders::{self, Process};
use crate::host::service_manager;
use crate::host::signals::EndSignals;
use crate::kernel::events::{Commits, is_after};
use crate::kernel::keeper::Keeper;
use crate::kernel::{self, Netlink};
use crate::ui::Ui;
use crate::ui::escape::visible;
use crate::ui::guard::Told;

pub fn run(ui: &Ui, common: &Common) -> Result {
    let signals = EndSignals::block().context("wait for signals")?;
    // Before the first look: nothing is missed in between.
    let witness = Listener::open()?;
    let mut engine = engine::open(ui, common)?;
    let guarding = engine.stand_guard()?;
    let mut guard = Guard {
        ui,
        engine,
        guarding,
        witness,
        vigil: Vigil::default(),
        pace: Pace::default(),
        next: Next::Event,
        keeper: None,
        is_told_of_keeper: false,
        heard: Instant::now(),
    };
    guard.begin()?;
    service_manager::ready();
    while !guard.wait(&signals)? {
        guard.attend()?;
    }
    service_manager::stopping();
    Ok(ExitCode::SUCCESS)
}

/// Follows what is committed to the ruleset.
struct Listener {
    commits: Commits,
    /// What a portmap is called.
    own_name: String,
    /// Who changed the table last, if it was no portmap.
    culprit: Option<Process>,
}

impl Listener {
    fn open() -> std::result::Result<Self, kernel::Error> {
        let own_name = holders::name(std::process::id());
        Ok(Self { commits: Commits::open()?, own_name, culprit: None })
    }
}

impl Witness for Listener {
    fn who(&mut self, generation: u32) -> std::result::Result<Option<By>, kernel::Error> {
        let Some(commit) = self.commits.last_to(generation)? else {
            return Ok(Some(By::Unknown));
        };
        if is_after(commit.generation, generation) {
            return Ok(None);
        }
        match &commit.process {
            Some(process) if process.name == self.own_name => Ok(Some(By::Portmap)),
            process => {
                self.culprit.clone_from(process);
                Ok(Some(By::Other))
            }
        }
    }
}

/// What the guard waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Somebody's commit.
    Event,
    /// The same, or the end of a trial.
    EventUntil(Instant),
    /// Its next attempt. Until then it does not even listen: who never stops would keep it busy.
    Attempt(Instant),
}

struct Guard<'u> {
    ui: &'u Ui,
    engine: Engine<'u, Netlink>,
    guarding: Option<Guarding>,
    witness: Listener,
    vigil: Vigil,
    pace: Pace,
    next: Next,
    keeper: Option<Keeper>,
    is_told_of_keeper: bool,
    /// When it was last woken.
    heard: Instant,
}

impl Guard<'_> {
    /// The first look. What keeps it from looking at all would keep it from every other one, too.
    fn begin(&mut self) -> Result<()> {
        let seen = self.engine.watch_over(&mut self.vigil, &mut self.witness)?;
        self.follow(seen)
    }

    /// Waits until there is something to do, for as long as it takes. True when it is to end.
    fn wait(&mut self, signals: &EndSignals) -> Result<bool> {
        let until = match self.next {
            Next::Event => None,
            Next::EventUntil(at) | Next::Attempt(at) => Some(at),
        };
        let timeout = until.map_or(PollTimeout::NONE, |at| {
            // A poll of 0 ms would be a busy wait for the last one.
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let is_deaf = matches!(self.next, Next::Attempt(_));
        let interest = if is_deaf { PollFlags::empty() } else { PollFlags::POLLIN };
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.witness.commits.fd(), interest),
        ];
        let woken = poll(&mut fds, timeout);
        self.heard = Instant::now();
        match woken {
            Ok(_) => Ok(fds[0].any().unwrap_or(true)),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(anyhow::Error::new(errno).context("wait for the kernel").into()),
        }
    }

    fn attend(&mut self) -> Result<()> {
        let (is_due, is_deaf) = match self.next {
            Next::Event => (false, false),
            Next::EventUntil(at) => (self.heard >= at, false),
            Next::Attempt(at) => (self.heard >= at, self.heard < at),
        };
        if is_deaf {
            return Ok(());
        }
        let is_news = self.witness.commits.listen(self.vigil.generation())?;
        if is_news || is_due {
            match self.engine.watch_over(&mut self.vigil, &mut self.witness) {
                Ok(seen) => self.follow(seen)?,
                Err(error) => self.fail(&error)?,
            }
        }
        Ok(())
    }

    fn follow(&mut self, seen: Seen) -> Result<()> {
        let was_waiting = matches!(self.next, Next::Attempt(_));
        self.next = Next::Event;
        match seen {
            Seen::Well { is_news, mappings } => {
                self.keep(mappings > 0);
                if is_news { self.tell_expected(mappings) } else { Ok(()) }
            }
            Seen::Lost => {
                self.keep(false);
                self.tell(|culprit| Told::Lost { by: culprit })
            }
            Seen::Wait(time) => {
                self.next = Next::EventUntil(self.heard + time);
                Ok(())
            }
            Seen::Damaged => {
                let wait = if was_waiting { Duration::ZERO } else { self.pace.next(self.heard) };
                if wait.is_zero() {
                    return self.mend();
                }
                self.next = Next::Attempt(self.heard + wait);
                let (times, within) = (AT_ONCE, WINDOW);
                self.tell(|by| Told::BackingOff { by, times, within, wait })
            }
        }
    }

    fn mend(&mut self) -> Result<()> {
        let mended = self.engine.mend(&mut self.vigil, &mut self.witness);
        match mended {
            Ok(Some(mended)) => {
                let done = mended.change.committed_at.unwrap_or_else(Instant::now);
                let took = done.saturating_duration_since(self.heard);
                self.pace.count(Instant::now());
                if let Some(guarding) = &self.guarding {
                    guarding.record_repair();
                }
                self.keep(true);
                self.tell(|by| Told::PutBack { by, mended: &mended, took })?;
                match &mended.change.shortfall {
                    Some(error) => self.fail(error),
                    None => Ok(()),
                }
            }
            // Somebody else was faster.
            Ok(None) => Ok(()),
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &Error) -> Result<()> {
        let now = Instant::now();
        let wait = self.pace.fail(now);
        self.next = Next::Attempt(now + wait);
        self.tell(|_| Told::Failed { error, wait })
    }

    /// Where the kernel cannot do that, it is said once.
    fn keep(&mut self, is_mapped: bool) {
        match (is_mapped, &self.keeper) {
            (true, None) => match Keeper::open() {
                Ok(keeper) => self.keeper = Some(keeper),
                Err(_) if self.is_told_of_keeper => {}
                Err(error) => {
                    self.is_told_of_keeper = true;
                    self.ui.note(format_args!(
                        "established connections may be reset while the mapping is gone: {error}"
                    ));
                }
            },
            (false, Some(_)) => self.keeper = None,
            _ => {}
        }
    }

    fn tell_expected(&self, mappings: usize) -> Result<()> {
        let told = match self.vigil.expected() {
            Expected::Recorded { active, .. } if mappings > 0 => {
                Told::Guarding { active, mappings }
            }
            Expected::Unrecorded => Told::Unrecorded,
            Expected::Recorded { .. } | Expected::Nothing | Expected::Unseen => Told::Idle,
        };
        self.tell(|_| told)
    }

    fn tell<'t>(&'t self, told: impl FnOnce(Option<&'t Process>) -> Told<'t>) -> Result<()> {
        let told = told(self.witness.culprit.as_ref());
        service_manager::status(&visible(&told.to_string()));
        Ok(self.ui.guard(told)?)
    }
}
