//! What another program of this host has to say.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How much of a program is put up with.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub time: Duration,
    pub bytes: usize,
}

/// Of its complaints, as much as is read.
const COMPLAINT_MAX: usize = 1 << 12;

/// What the first of these programs that is installed prints. They are named by absolute path:
/// root's PATH is not trusted. It gets no input, no arguments and no variables, and is ended at the
/// limits.
///
/// # Errors
///
/// Why it says nothing, in words.
pub fn output(programs: &[&str], limits: Limits) -> Result<Vec<u8>, String> {
    for program in programs {
        let mut command = Command::new(program);
        // Who is confined cannot open /dev/null to write.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        match command.env_clear().current_dir("/").spawn() {
            Ok(child) => {
                return said(child, limits).map_err(|why| format!("{program} {why}"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("run {program}: {error}")),
        }
    }
    Err(format!("{} is not installed", programs.first().unwrap_or(&"a program")))
}

fn said(mut child: Child, limits: Limits) -> Result<Vec<u8>, String> {
    let end = Instant::now() + limits.time;
    let read = read(&mut child, end, limits.bytes);
    if read.is_err() {
        // It may have ended by itself.
        let _ = child.kill();
    }
    let status = wait(&mut child, end).map_err(|error| format!("cannot be waited for: {error}"));
    let (text, complaint) = read?;
    let status = status?;
    if status.success() {
        return Ok(text);
    }
    let complaint = String::from_utf8_lossy(&complaint);
    Err(match complaint.lines().next() {
        Some(line) => format!("failed: {status}: {line}"),
        None => format!("failed: {status}"),
    })
}

/// A pipe of a child, and what has come out of it.
struct Stream<P> {
    pipe: Option<P>,
    text: Vec<u8>,
}

impl<P: Read + AsFd> Stream<P> {
    fn new(pipe: Option<P>) -> Self {
        Self { pipe, text: Vec::new() }
    }

    fn waits(&self) -> Option<PollFd<'_>> {
        self.pipe.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN))
    }

    /// Takes what is there, and keeps `most` of it and a little more.
    fn take(&mut self, most: usize) -> io::Result<()> {
        let mut chunk = [0; 1 << 14];
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        match pipe.read(&mut chunk) {
            Ok(0) => self.pipe = None,
            Ok(len) if self.text.len() <= most => self.text.extend_from_slice(&chunk[..len]),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// What it prints, and what it complains of.
fn read(child: &mut Child, end: Instant, most: usize) -> Result<(Vec<u8>, Vec<u8>), String> {
    let mut output = Stream::new(child.stdout.take());
    let mut complaint = Stream::new(child.stderr.take());
    let failed = |error: io::Error| format!("cannot be read: {error}");
    while output.pipe.is_some() {
        let left = end.saturating_duration_since(Instant::now());
        let time = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut waits: Vec<_> = output.waits().into_iter().chain(complaint.waits()).collect();
        match poll(&mut waits, time) {
            Ok(0) => return Err("takes too long".to_owned()),
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(failed(errno.into())),
        }
        let is_ready = |at: usize| waits.get(at).is_some_and(|wait| wait.any() == Some(true));
        let (of_output, of_complaint) = (is_ready(0), is_ready(1));
        if of_output {
            output.take(most).map_err(failed)?;
        }
        if of_complaint {
            complaint.take(COMPLAINT_MAX).map_err(failed)?;
        }
        if output.text.len() > most {
            return Err(format!("says more than {most} bytes"));
        }
    }
    Ok((output.text, complaint.text))
}

/// A program may close its output and go on.
fn wait(child: &mut Child, end: Instant) -> io::Result<std::process::ExitStatus> {
    while Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill()?;
    child.wait()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { time: Duration::from_secs(10), bytes: 1 << 16 };

    /// A script, as a program by its absolute path.
    fn script(body: &str) -> (tempfile::TempDir, String) {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (dir, path)
    }

    /// Where another test forks meanwhile, the script counts as open for writing.
    fn said_by(body: &str, limits: Limits) -> Result<String, String> {
        let (_dir, path) = script(body);
        loop {
            match output(&["/nonexistent", &path], limits) {
                Err(why) if why.contains("busy") => {}
                other => return other.map(|text| String::from_utf8(text).unwrap()),
            }
        }
    }

    #[test]
    fn what_it_prints_is_heard() {
        assert_eq!(said_by("echo one; echo two >&2", LIMITS).as_deref(), Ok("one\n"));
    }

    #[test]
    fn it_gets_nothing_of_ours() {
        let said = said_by("read input; echo \"$input$HOME$#\"; pwd", LIMITS);
        assert_eq!(said.as_deref(), Ok("0\n/\n"));
    }

    #[test]
    fn a_failure_is_told() {
        let why = said_by("echo one; exit 3", LIMITS).unwrap_err();
        assert!(why.ends_with("failed: exit status: 3"), "{why}");
        // More than a pipe holds.
        let complaint = "echo no; i=0; while [ $i -lt 9000 ]; do echo 0123456789; i=$((i+1)); done";
        let why = said_by(&format!("{{ {complaint}; }} >&2; exit 1"), LIMITS).unwrap_err();
        assert!(why.ends_with("failed: exit status: 1: no"), "{why}");
        let why = output(&["/nonexistent", "/nowhere"], LIMITS).unwrap_err();
        assert_eq!(why, "/nonexistent is not installed");
    }

    #[test]
    fn it_is_ended_at_its_limits() {
        let soon = Limits { time: Duration::from_millis(50), ..LIMITS };
        for body in ["exec sleep 1000", "exec sleep 1000 >&-"] {
            let start = Instant::now();
            assert!(said_by(body, soon).is_err(), "{body}");
            assert!(start.elapsed() < Duration::from_secs(100), "{body}");
        }
        let why = said_by("exec yes", LIMITS).unwrap_err();
        assert!(why.ends_with("says more than 65536 bytes"), "{why}");
    }
}
