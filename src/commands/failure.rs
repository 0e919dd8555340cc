//! Why a command did not do its work, and what the user can do about it.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};

use serde::Serialize;

use crate::diagnostic::{Diagnostic, Severity};
use crate::output::{JSON_VERSION, Ui};
use crate::{conntrack, journal, kernel};

/// The files are wrong: each problem with its place. They are shown as they are, not as one error.
#[derive(Debug)]
pub struct WrongFiles(pub Vec<Diagnostic>);

impl fmt::Display for WrongFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the rules files have mistakes")
    }
}

impl std::error::Error for WrongFiles {}

/// Something that cannot be done as asked, with the way out.
#[derive(Debug)]
pub struct Refusal {
    pub message: String,
    pub help: String,
}

impl Refusal {
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

/// A change that is not made because it could not be taken back.
#[derive(Debug)]
struct NoWayBack(anyhow::Error);

impl fmt::Display for NoWayBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for NoWayBack {}

/// For commands that have `--no-history`: names it as the way out where the history is what is in
/// the way. A lock is not: it will be given back.
pub fn or_without_history(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<journal::Error>() {
        Some(journal::Error::Locked { .. }) | None => error,
        Some(_) => NoWayBack(error).into(),
    }
}

/// An error with all its causes, in a line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(&format!(": {e}"));
        cause = e.source();
    }
    text
}

/// Shows a failure on standard error, in the form that was asked for.
pub fn show(ui: &Ui, error: &anyhow::Error) {
    if let Some(WrongFiles(diagnostics)) = error.downcast_ref() {
        return show_diagnostics(ui, diagnostics);
    }
    let message = format!("{error:#}");
    let help = help(error);
    if ui.is_json() {
        let mut diagnostic = Diagnostic::error(None, message);
        diagnostic.help = help;
        show_diagnostics(ui, &[diagnostic]);
    } else {
        ui.error(message, help.as_deref());
    }
}

#[derive(Serialize)]
struct Errors<'a> {
    version: u32,
    errors: &'a [Diagnostic],
}

fn print_document(errors: &[Diagnostic]) {
    let document = Errors { version: JSON_VERSION, errors };
    if let Ok(text) = serde_json::to_string_pretty(&document) {
        // There is nowhere left to report that standard error is gone.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// Problems of files, the place first.
pub fn show_diagnostics(ui: &Ui, diagnostics: &[Diagnostic]) {
    if ui.is_json() {
        return print_document(diagnostics);
    }
    ui.diagnostics(diagnostics);
    let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    if errors > 1 {
        ui.error(format_args!("{errors} errors; nothing was changed"), None);
    }
}

/// Shows what is wrong with the command line, in the form that it seems to ask for.
pub fn show_usage(error: &clap::Error) {
    if !asks_for_json(std::env::args_os().skip(1)) {
        let _ = error.print();
        return;
    }
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let message = lines.next().unwrap_or_default();
    let mut diagnostic = Diagnostic::error(None, message.trim_start_matches("error: "));
    diagnostic.help = Some(lines.collect::<Vec<_>>().join("; "));
    print_document(&[diagnostic]);
}

/// Whether there is `-o json` among these words, some of which are wrong.
fn asks_for_json(words: impl Iterator<Item = OsString>) -> bool {
    let mut before = OsString::new();
    for word in words {
        let pair = word == "json" && (before == "-o" || before == "--output");
        if pair || word == "-ojson" || word == "-o=json" || word == "--output=json" {
            return true;
        }
        before = word;
    }
    false
}

/// What the innermost cause that knows a remedy says.
fn help(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        if let Some(e) = cause.downcast_ref::<Refusal>() {
            Some(e.help.clone())
        } else if let Some(NoWayBack(e)) = cause.downcast_ref() {
            let help = help(e).unwrap_or_default();
            Some(format!("{help}; or do without a way back: --no-history"))
        } else if let Some(e) = cause.downcast_ref::<journal::Error>() {
            Some(e.help())
        } else if let Some(e) = cause.downcast_ref::<kernel::CommitError>() {
            e.help().map(str::to_owned)
        } else if let Some(e) = cause.downcast_ref::<kernel::Error>() {
            e.help().map(str::to_owned)
        } else {
            cause.downcast_ref::<conntrack::Error>().map(|e| e.help().to_owned())
        }
    })
}
