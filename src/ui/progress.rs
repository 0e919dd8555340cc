//! A line for people who wait: what takes longer than a second is named.

use std::io::{self, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// From when on waiting is worth a word.
const PATIENCE: Duration = Duration::from_secs(1);

/// Names what is being done, once it takes long, until dropped.
pub struct Progress(Option<(Sender<()>, JoinHandle<()>)>);

impl Progress {
    pub fn start(what: &str) -> Self {
        let (done, wait) = channel();
        let line = format!("{what} …");
        let watcher = thread::Builder::new().spawn(move || {
            if wait.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                show(&line);
                let _ = wait.recv();
                // Back to the start of the line, and clear it.
                show("\r\x1b[K");
            }
        });
        // A machine that has no thread to spare gets no line.
        Self(watcher.ok().map(|watcher| (done, watcher)))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((done, watcher)) = self.0.take() {
            drop(done);
            let _ = watcher.join();
        }
    }
}

fn show(text: &str) {
    let mut terminal = io::stderr().lock();
    let _ = terminal.write_all(text.as_bytes());
    let _ = terminal.flush();
}
