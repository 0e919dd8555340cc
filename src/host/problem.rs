//! What cannot be read, as a diagnostic of the whole file.

use std::io;

use nix::errno::Errno;

use super::descriptors;
use crate::formats::diagnostic::{Diagnostic, Place};

pub(super) type Outcome<T> = Result<T, Diagnostic>;

pub(super) fn whole(name: &str, message: &str) -> Diagnostic {
    Diagnostic::error(Some(Place::of_file(name)), message)
}

pub(super) fn cannot(verb: &str, name: &str, error: &io::Error) -> Diagnostic {
    let diagnostic = whole(name, &format!("cannot {verb}: {error}"));
    match error.kind() {
        io::ErrorKind::NotFound => {
            diagnostic.help("check the path; a mapping is written as `80:3000`")
        }
        _ if error.raw_os_error() == Some(Errno::EMFILE as i32) => {
            diagnostic.help(descriptors::HELP_TOO_FEW)
        }
        _ => diagnostic,
    }
}
