//! Why a command did not do its work: as lines for people, or as one document.

use std::io::{self, Write};

use serde::Serialize;

use super::{JSON_VERSION, Ui, json};
use crate::formats::diagnostic::{Diagnostic, Severity};

#[derive(Serialize)]
struct Errors<'a> {
    version: u32,
    errors: &'a [Diagnostic],
}

/// The `errors` document, on standard error.
pub fn print_document(errors: &[Diagnostic]) {
    let document = Errors { version: JSON_VERSION, errors };
    if let Ok(text) = json::pretty(&document) {
        // There is nowhere left to report that standard error is gone.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

impl Ui {
    /// What failed, and what the user can do, in the form that was asked for.
    pub fn failure(&self, message: &str, help: Option<String>) {
        if !self.is_json() {
            return self.error(message, help.as_deref());
        }
        let mut diagnostic = Diagnostic::error(None, message);
        diagnostic.help = help;
        self.wrong_files(&[diagnostic]);
    }

    /// Problems of files, the place first.
    pub fn wrong_files(&self, diagnostics: &[Diagnostic]) {
        if self.is_json() {
            let warnings = self.take_warnings();
            return print_document(&[diagnostics, &warnings].concat());
        }
        self.diagnostics(diagnostics);
        let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
        if errors > 1 {
            self.error(format_args!("{errors} errors"), None);
        }
    }

    /// Warnings that no document has carried, where the output is JSON.
    pub fn rest(&self) {
        let rest = self.take_warnings();
        if !rest.is_empty() {
            print_document(&rest);
        }
    }
}
