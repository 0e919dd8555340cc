//! The terminal while a live view is on it, and as it was before and after.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

/// The alternate screen, without a cursor (xterm's control sequences, mode 1049 and 25).
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Whether standard output can be drawn on.
pub fn is_usable() -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    io::stdout().is_terminal() && !is_dumb
}

/// Columns and rows.
pub fn size() -> (usize, usize) {
    let size = terminal_size::terminal_size_of(io::stdout());
    let size = size.map(|(width, height)| (usize::from(width.0), usize::from(height.0)));
    size.filter(|(columns, rows)| *columns > 0 && *rows > 0).unwrap_or((80, 24))
}

/// The alternate screen, until dropped.
pub struct Screen {
    /// How the keys were, where standard input is the terminal.
    keys: Option<Termios>,
}

impl Screen {
    pub fn enter() -> io::Result<Self> {
        let keys = io::stdin().is_terminal().then(|| tcgetattr(io::stdin())).transpose()?;
        let screen = Self { keys };
        if let Some(keys) = &screen.keys {
            let mut quiet = keys.clone();
            quiet.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON);
            tcsetattr(io::stdin(), SetArg::TCSADRAIN, &quiet)?;
        }
        show(ENTER)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Where the terminal is gone, there is nothing to be put back.
        let _ = show(LEAVE);
        if let Some(keys) = &self.keys {
            let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, keys);
        }
    }
}

fn show(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// These lines from the upper left corner on, and nothing else: as many as there are rows.
pub fn drawn(lines: &[String], rows: usize) -> String {
    let mut shown: Vec<String> = lines.iter().take(rows).cloned().collect();
    let hidden = lines.len().saturating_sub(rows);
    if let Some(last) = shown.last_mut().filter(|_| hidden > 0) {
        *last = format!("… and {} more lines", hidden + 1);
    }
    // Each line is cleared to its end, and below the last everything.
    let lines: Vec<_> = shown.iter().map(|line| format!("{line}\x1b[K")).collect();
    format!("\x1b[H{}\x1b[J", lines.join("\r\n"))
}

/// Stops this process, as Ctrl-Z does, until it is continued.
pub fn stop() {
    let _ = raise(Signal::SIGSTOP);
}

/// What happens while a view is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The time has passed.
    None,
    End,
    Stop,
    Resized,
}

/// Signals arrive as data, not as the end of the process.
pub struct Signals(SignalFd);

impl Signals {
    pub fn catch() -> nix::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGQUIT,
            Signal::SIGTSTP,
            Signal::SIGWINCH,
        ] {
            set.add(signal);
        }
        set.thread_block()?;
        Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?))
    }

    /// Waits for a signal, or for the key `q` where there are keys.
    pub fn wait(&self, time: Duration, has_keys: bool) -> io::Result<Key> {
        let stdin = io::stdin();
        let has_keys = has_keys && stdin.is_terminal();
        let mut fds = vec![PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        if has_keys {
            fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        // Up to a whole millisecond: not to look before it is time.
        let time = time + Duration::from_micros(999);
        let time = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, time) {
            Ok(0) => return Ok(Key::None),
            Err(Errno::EINTR) => return Ok(Key::Resized),
            Ok(_) => {}
            Err(e) => return Err(e.into()),
        }
        if fds[0].any().unwrap_or(true) {
            let signal = self.0.read_signal()?;
            let signal = signal.and_then(|s| Signal::try_from(s.ssi_signo as i32).ok());
            return Ok(match signal {
                Some(Signal::SIGTSTP) => Key::Stop,
                Some(Signal::SIGWINCH) => Key::Resized,
                _ => Key::End,
            });
        }
        let mut keys = [0; 64];
        // A terminal that is gone reads as the end.
        Ok(match nix::unistd::read(stdin.as_fd(), &mut keys)? {
            0 => Key::End,
            n if keys[..n].contains(&b'q') => Key::End,
            _ => Key::Resized,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::drawn;

    #[test]
    fn no_more_is_drawn_than_there_are_rows() {
        let lines: Vec<String> = ["a", "b", "c", "d"].map(str::to_owned).into();
        assert_eq!(drawn(&lines, 4), "\x1b[Ha\x1b[K\r\nb\x1b[K\r\nc\x1b[K\r\nd\x1b[K\x1b[J");
        assert_eq!(drawn(&lines, 3), "\x1b[Ha\x1b[K\r\nb\x1b[K\r\n… and 2 more lines\x1b[K\x1b[J");
    }
}
