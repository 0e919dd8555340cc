//! What the kernel says in /proc.

use std::fs;
use std::io;
use std::path::Path;

/// A file of /proc. The names in it, of programs, sockets and interfaces, are any bytes; what is no
/// UTF-8 is replaced.
pub fn text(path: impl AsRef<Path>) -> io::Result<String> {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}
