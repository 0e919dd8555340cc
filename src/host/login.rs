//! How whoever runs this command came to the machine.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::proc;

/// The two ends of the ssh connection that this process is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SshSession {
    pub client: SocketAddr,
    /// The port as sshd sees it: after translation.
    pub server: SocketAddr,
}

/// Ancestors that are asked, at most.
const ANCESTORS_MAX: usize = 64;

impl SshSession {
    /// Of this process, or of the nearest ancestor that has one: sudo(8) does not pass on
    /// `SSH_CONNECTION` (ssh(1)).
    pub fn current() -> Option<Self> {
        Self::of(Path::new("/proc"), std::process::id())
    }

    fn of(root: &Path, mut pid: u32) -> Option<Self> {
        for _ in 0..ANCESTORS_MAX {
            let directory = root.join(pid.to_string());
            // Unreadable for a process of another user: its parents are asked all the same.
            let environment = fs::read(directory.join("environ")).unwrap_or_default();
            if let Some(session) = connection(&environment) {
                return Some(session);
            }
            pid = parent(&proc::text(directory.join("stat")).ok()?)?;
        }
        None
    }
}

/// The parent in /proc/PID/stat. The name of the program, in parentheses, may hold anything.
pub(super) fn parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok().filter(|pid| *pid > 0)
}

/// `SSH_CONNECTION=CLIENT PORT SERVER PORT` among the variables of /proc/PID/environ.
pub(super) fn connection(environment: &[u8]) -> Option<SshSession> {
    let value = environment
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(b"SSH_CONNECTION="))?;
    let mut words = std::str::from_utf8(value).ok()?.split(' ');
    let mut end = || {
        let (address, port) = (words.next()?, words.next()?.parse().ok()?);
        // An address of a link carries its interface.
        let address = address.split('%').next()?.parse().ok()?;
        Some(SocketAddr::new(address, port))
    };
    Some(SshSession { client: end()?, server: end()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_found_behind_sudo() {
        let proc = tempfile::tempdir().unwrap();
        let process = |pid: &str, stat: &[u8], environment: &str| {
            let directory = proc.path().join(pid);
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("stat"), stat).unwrap();
            fs::write(directory.join("environ"), environment).unwrap();
        };
        process("30", b"30 (portmap) S 20 30 1", "TERM=xterm\0");
        process("20", b"20 (su (d\xc3) S 10 30 1) S 10 20 1", "");
        process("10", b"10 (bash) S 1 1 1", "A=b\0SSH_CONNECTION=192.0.2.2 4711 192.0.2.1 22\0");
        process("5", b"5 (cron) S 1 1 1", "A=b\0");
        process("1", b"1 (systemd) S 0 1 1", "");
        let session = SshSession::of(proc.path(), 30).unwrap();
        assert_eq!(session.server, "192.0.2.1:22".parse().unwrap());
        assert_eq!(session.client, "192.0.2.2:4711".parse().unwrap());
        assert_eq!(SshSession::of(proc.path(), 5), None);
        assert_eq!(SshSession::of(proc.path(), 6), None);
    }

    #[test]
    fn nonsense_is_no_session() {
        for text in ["", "x", "1.2.3.4", "1.2.3.4 5 6", "1.2.3.4 5 1.2.3.4 99999", "a b c d"] {
            assert_eq!(connection(format!("SSH_CONNECTION={text}\0").as_bytes()), None, "{text}");
        }
        let link = connection(b"SSH_CONNECTION=fe80::2%eth0 1 fe80::1%eth0 22").unwrap();
        assert_eq!(link.server, "[fe80::1]:22".parse().unwrap());
    }
}
