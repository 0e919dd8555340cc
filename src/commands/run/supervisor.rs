//! For kernels that cannot tie a table to a process: a process of portmap's, beside the command,
//! that deletes the table when the command and all that it has left running have ended.
//!
//! The command is not its child but goes on as the process that was started, so that its terminal,
//! its signals and its exit status are its own here too. Both have one end of a pair of sockets, and
//! the kernel tells the one when the last copy of the other is closed. This process is there before
//! the table is, and finds it by that socket: at no moment can the command end unnoticed.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;

use crate::cli::Common;
use crate::engine::{Engine, Event, Observer};
use crate::host::boot::System;
use crate::host::{detached, identity, log};
use crate::kernel::aside::{Side, step_aside};
use crate::kernel::{self, Kernel, held};
use crate::ruleset::Lifetime;

pub const NOTE: &str = "the kernel has no tables that live with a process (Linux 5.12): a process of \
                        portmap's waits for the command to end, and removes the mapping";

/// What the command is to inherit.
pub struct Supervisor {
    line: UnixStream,
    /// The inode of `line`.
    socket: u64,
}

impl Supervisor {
    /// Returns once it watches.
    pub fn start<K: Kernel>(
        common: &Common,
        open: impl Fn() -> Result<K, kernel::Error>,
    ) -> io::Result<Self> {
        let (mut line, far_end) = UnixStream::pair()?;
        let socket = fstat(&line)?.st_ino;
        if step_aside()? == Side::Aside {
            // Nothing of what the copy has may be dropped: it is the original's.
            watch(far_end.into(), socket, common, open);
        }
        drop(far_end);
        match line.read(&mut [0])? {
            0 => Err(io::Error::other("it has ended")),
            _ => Ok(Self { line, socket }),
        }
    }

    pub fn lifetime(&self) -> Lifetime {
        Lifetime::Supervised { socket: Some(self.socket) }
    }

    pub fn into_inherited(self) -> io::Result<OwnedFd> {
        held::inheritable(self.line)
    }
}

/// What the process does that is not the command's.
fn watch<K: Kernel>(
    far_end: OwnedFd,
    socket: u64,
    common: &Common,
    open: impl Fn() -> Result<K, kernel::Error>,
) -> ! {
    let watched = wait(far_end).and_then(|()| {
        let mut engine = Engine::new(open()?, &common.state_dir, common.wait, &Log);
        engine.end_run(socket).map_err(|e| io::Error::other(e.to_string()))
    });
    if let Err(e) = watched {
        tell(format_args!("remove the mapping of a command that has ended: {e}"));
    }
    process::exit(0)
}

/// Returns when nobody has the other end any more.
fn wait(far_end: OwnedFd) -> io::Result<()> {
    detached::detach(&far_end)?;
    identity::keep_the_network_alone().map_err(io::Error::other)?;
    let far_end = UnixStream::from(far_end);
    (&far_end).write_all(b"w")?;
    // What the command may write is of no interest.
    far_end.shutdown(Shutdown::Read)?;
    loop {
        let mut ends = [PollFd::new(far_end.as_fd(), PollFlags::empty())];
        match poll(&mut ends, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// It has no terminal to say anything at.
struct Log;

impl Observer for Log {
    fn timed(&self, _: &str, work: &mut dyn FnMut()) {
        work();
    }

    fn event(&self, event: Event<'_>) {
        if let Event::Shortfall(error) = event {
            tell(format_args!("{error}"));
        }
    }
}

fn tell(what: fmt::Arguments<'_>) {
    log::notice(&System::default().log(), &what.to_string());
}
