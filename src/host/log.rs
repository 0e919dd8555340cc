//! The system's log: a datagram to /dev/log, where systemd-journald and every syslog daemon listen.
//!
//! The form is that of RFC 3164 without a time and a host name: the receiver knows both better. It
//! is so little that a crate would bring more than it saves; those that exist block where the
//! receiver is slow.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::formats::hidden::is_hidden;

/// Facility daemon (3), severity notice (5): RFC 3164, section 4.1.1.
const PRIORITY: u8 = 3 * 8 + 5;

/// The bytes of a line at most. RFC 3164 asks for 1024 in all, section 4.1.
const LINE_MAX: usize = 1000;

/// Sends a line to the log at `socket`. Where nobody listens, or the receiver does not keep up, the
/// line is lost: no change waits for it or fails because of it.
pub fn notice(socket: &Path, line: &str) {
    let text = format!("<{PRIORITY}>portmap[{}]: {}", std::process::id(), one_line(line));
    let Ok(datagram) = UnixDatagram::unbound() else { return };
    if datagram.set_nonblocking(true).is_ok() {
        let _ = datagram.send_to(text.as_bytes(), socket);
    }
}

/// Without what would begin another line, command a terminal or mislead its reader, and cut off at
/// [`LINE_MAX`].
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        let shown: String = if is_hidden(c) { c.escape_default().collect() } else { c.into() };
        if line.len() + shown.len() > LINE_MAX {
            line.push('…');
            break;
        }
        line.push_str(&shown);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_arrives_as_one_and_a_full_log_delays_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("log");
        notice(&socket, "nobody listens");
        let log = UnixDatagram::bind(&socket).unwrap();
        notice(&socket, "a\nb \u{1b}[31m");
        let mut bytes = [0; 4096];
        let length = log.recv(&mut bytes).unwrap();
        let expected = format!("<29>portmap[{}]: a\\nb \\u{{1b}}[31m", std::process::id());
        assert_eq!(std::str::from_utf8(&bytes[..length]).unwrap(), expected);
        notice(&socket, "web\u{202e}lmay\u{200b}.\u{feff}\u{e0041}");
        let length = log.recv(&mut bytes).unwrap();
        let line = std::str::from_utf8(&bytes[..length]).unwrap();
        assert!(line.ends_with(r"]: web\u{202e}lmay\u{200b}.\u{feff}\u{e0041}"), "{line}");
        // Far more than a socket's queue takes (net.unix.max_dgram_qlen).
        let long = "日".repeat(5000);
        (0..2000).for_each(|_| notice(&socket, &long));
        let length = log.recv(&mut bytes).unwrap();
        assert!(length < 1100 && std::str::from_utf8(&bytes[..length]).unwrap().ends_with('…'));
    }
}
