//! The program at a terminal, with somebody at the keys.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command};
use std::time::Instant;

use nix::fcntl::OFlag;
use nix::libc::O_NOCTTY;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::namespace::belonging_to;
use super::portmap::Portmap;
use super::{PATIENCE, wait_until};

pub struct Terminal {
    /// `None` after a hangup.
    keys: Option<File>,
    screen: String,
    program: Child,
    name: String,
}

impl Portmap {
    /// Starts it at a terminal of its own, of 80 columns.
    #[track_caller]
    pub fn at_terminal(self) -> Terminal {
        self.at_terminal_of(80)
    }

    /// Starts it at a terminal of its own, of so many columns.
    #[track_caller]
    pub fn at_terminal_of(self, columns: u16) -> Terminal {
        Terminal::of(self.command, columns)
    }
}

impl Terminal {
    /// A terminal of its own for this command, of so many columns.
    #[track_caller]
    pub fn of(mut command: Command, columns: u16) -> Self {
        // Not that of who runs the tests, which may be none.
        if !command.get_envs().any(|(name, _)| name == "TERM") {
            command.env("TERM", "xterm");
        }
        // Not openpty(3): a program that inherits our end would keep the line from hanging up.
        let ours = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname_r(&ours).unwrap();
        let its = File::options().read(true).write(true).custom_flags(O_NOCTTY).open(&name);
        let its = its.expect("a terminal");
        size(&name, columns);
        belonging_to(&mut command, CString::new(name.as_str()).unwrap());
        let its = || its.try_clone().unwrap();
        command.stdin(its()).stdout(its()).stderr(its());
        let program = command.spawn().expect("start a program");
        Terminal {
            keys: Some(File::from(OwnedFd::from(ours))),
            screen: String::new(),
            program,
            name,
        }
    }
}

/// Gives a terminal 24 rows of so many columns.
#[track_caller]
fn size(name: &str, columns: u16) {
    let size = ["-F", name, "rows", "24", "cols", &columns.to_string()];
    assert!(Command::new("stty").args(size).status().expect("stty").success());
}

impl Terminal {
    /// The user makes the window narrower or wider. What has been shown is forgotten.
    #[track_caller]
    pub fn resize(&mut self, columns: u16) {
        self.screen.clear();
        size(&self.name, columns);
    }

    /// Its settings, in the words of stty(1).
    #[track_caller]
    pub fn settings(&self) -> String {
        let output = Command::new("stty").args(["-F", &self.name, "-g"]).output().expect("stty");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What has been shown is not looked for any more.
    pub fn forget(&mut self) {
        self.screen.clear();
    }

    /// Waits until this stands on the screen.
    #[track_caller]
    pub fn shows(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.screen.contains(text) {
            assert!(Instant::now() < deadline, "no `{text}` on the screen: {:?}", self.screen);
            self.look();
        }
    }

    /// Waits until this stands on the screen; false if the program ends before.
    #[track_caller]
    pub fn comes_to(&mut self, text: &str) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !self.screen.contains(text) {
            assert!(Instant::now() < deadline, "no `{text}` on the screen: {:?}", self.screen);
            if !self.look() {
                return self.screen.contains(text);
            }
        }
        true
    }

    /// Takes in what has been printed. False if there is nobody left to print anything.
    fn look(&mut self) -> bool {
        let Some(keys) = &mut self.keys else { return false };
        let mut fds = [PollFd::new(keys.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(50u8)).expect("poll") == 0 {
            return true;
        }
        let mut bytes = [0; 1024];
        match keys.read(&mut bytes) {
            Ok(n) if n > 0 => {
                self.screen.push_str(&String::from_utf8_lossy(&bytes[..n]));
                true
            }
            _ => false,
        }
    }

    /// `\n` is Enter, `\x03` is Ctrl-C.
    #[track_caller]
    pub fn press(&mut self, keys: &str) {
        self.keys.as_mut().expect("a terminal").write_all(keys.as_bytes()).unwrap();
    }

    /// The connection is lost.
    pub fn hang_up(&mut self) {
        self.keys = None;
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.program.id() as i32), signal).unwrap();
    }

    /// SIGKILL.
    #[track_caller]
    pub fn kill(mut self) {
        self.program.kill().unwrap();
        self.program.wait().unwrap();
    }

    /// The exit code (`None`: a signal), and all that was on the screen.
    #[track_caller]
    pub fn ends(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + PATIENCE;
        while self.look() {
            assert!(Instant::now() < deadline, "portmap does not end: {:?}", self.screen);
        }
        let mut status = None;
        wait_until("portmap ends", || {
            status = self.program.try_wait().unwrap();
            status.is_some()
        });
        (status.unwrap().code(), self.screen)
    }
}
