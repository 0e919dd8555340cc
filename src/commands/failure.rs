//! Why a command did not do its work, what that left behind, and what the user can do about it.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::engine::{self, Cause, Effect, Refusal};
use crate::formats::diagnostic::{Diagnostic, Severity};
use crate::kernel;
use crate::ui::{Ui, failure::print_document};

/// A command that failed. The exit code follows from the effect: 1 if nothing was changed, 3 if
/// the kernel was.
#[derive(Debug)]
pub enum Failure {
    /// The files are wrong: each problem with its place.
    Files(Vec<Diagnostic>),
    Engine(engine::Error),
    /// Something that cannot be done as asked, with the way out.
    Refused {
        message: String,
        help: String,
    },
    /// Options that exclude each other, with the way to have both.
    Usage {
        message: String,
        help: String,
    },
    /// The command that was to be run could not be.
    NotRun {
        message: String,
        help: String,
        is_missing: bool,
    },
    /// Everything else, such as output that cannot be printed.
    Other {
        error: anyhow::Error,
        effect: Effect,
    },
}

/// `EX_USAGE` of sysexits.h: the command line is wrong.
pub const USAGE: u8 = 64;

/// What the shell says of a command that it does not find, or cannot execute.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

pub type Result<T = ExitCode> = std::result::Result<T, Failure>;

impl Failure {
    pub fn refused(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), help: help.into() }
    }

    fn effect(&self) -> Effect {
        match self {
            Failure::Files(_)
            | Failure::Refused { .. }
            | Failure::Usage { .. }
            | Failure::NotRun { .. } => Effect::Unchanged,
            Failure::Engine(error) => error.effect,
            Failure::Other { effect, .. } => *effect,
        }
    }

    /// After a change was made: whatever fails now does not undo it.
    pub fn after_change(mut self) -> Self {
        match &mut self {
            Failure::Files(_)
            | Failure::Refused { .. }
            | Failure::Usage { .. }
            | Failure::NotRun { .. } => {}
            Failure::Engine(error) => error.effect = Effect::Changed,
            Failure::Other { error, effect } => {
                let inner = std::mem::replace(error, anyhow::anyhow!(""));
                *error = inner.context("the change was made, but could not be reported");
                *effect = Effect::Changed;
            }
        }
        self
    }

    /// Shows it on standard error, in the form that was asked for.
    pub fn show(self, ui: &Ui) -> ExitCode {
        let code = match (&self, self.effect()) {
            (Failure::Usage { .. }, _) => USAGE,
            (Failure::NotRun { is_missing: true, .. }, _) => NOT_FOUND,
            (Failure::NotRun { .. }, _) => NOT_EXECUTABLE,
            (_, Effect::Unchanged) => 1,
            (_, Effect::Partly | Effect::Changed) => 3,
        };
        match self {
            Failure::Files(diagnostics) => ui.wrong_files(&diagnostics),
            Failure::Engine(error) => ui.failure(&error.to_string(), error.help()),
            Failure::Refused { message, help }
            | Failure::Usage { message, help }
            | Failure::NotRun { message, help, .. } => {
                ui.failure(&message, Some(help));
            }
            Failure::Other { error, .. } => ui.failure(&format!("{error:#}"), None),
        }
        ExitCode::from(code)
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        // Warnings that are errors for once, like those of files.
        if let Cause::Refused(Refusal::Findings(findings)) = error.cause() {
            let severity = Severity::Error;
            let errors = findings.iter().map(|f| Diagnostic { severity, ..f.as_warning() });
            return Failure::Files(errors.collect());
        }
        Failure::Engine(error)
    }
}

impl From<kernel::Error> for Failure {
    fn from(error: kernel::Error) -> Self {
        Failure::Engine(error.into())
    }
}

impl From<kernel::CommitError> for Failure {
    fn from(error: kernel::CommitError) -> Self {
        Failure::Engine(error.into())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Other { error, effect: Effect::Unchanged }
    }
}

/// Shows what is wrong with the command line, in the form that it seems to ask for.
pub fn show_usage(error: &clap::Error) {
    if !asks_for_json(std::env::args_os().skip(1)) {
        let _ = error.print();
        return;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let mut diagnostic = Diagnostic::error(None, "there is no command");
        diagnostic.help = Some("`portmap --help` lists the commands".into());
        return print_document(&[diagnostic]);
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
        if pair
            || word == "-ojson"
            || word == "-o=json"
            || word == "--output=json"
            || word == "--json"
        {
            return true;
        }
        before = word;
    }
    false
}
