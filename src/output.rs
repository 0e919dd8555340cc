//! What the user sees: text for people, aligned and perhaps coloured, or one JSON document.

#![forbid(unsafe_code)]

mod mapping;
mod progress;
mod table;

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anstyle::{AnsiColor, Style};
use anyhow::Context;
use serde::Serialize;

use crate::cli::{Color, Common, Format};
use crate::diagnostic::{self, Diagnostic};

pub use mapping::{ChangeJson, MappingJson, clients, fold, fold_changes};
use progress::Progress;
pub use table::Table;

/// The version of all JSON documents.
pub const JSON_VERSION: u32 = 1;

/// Where output goes, and how it looks.
#[derive(Debug)]
pub struct Ui {
    pub format: Format,
    pub quiet: bool,
    pub verbose: bool,
    stdout_color: bool,
    stderr_color: bool,
    stderr_terminal: bool,
    /// With JSON: warnings that wait for the document that will carry them.
    kept: Mutex<Vec<Diagnostic>>,
}

impl Ui {
    pub fn new(common: &Common) -> Self {
        let wanted = |terminal: bool| match common.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && environment_allows_color(),
        };
        Self {
            format: common.output,
            quiet: common.quiet,
            verbose: common.verbose,
            stdout_color: wanted(io::stdout().is_terminal()),
            stderr_color: wanted(io::stderr().is_terminal()),
            stderr_terminal: io::stderr().is_terminal(),
            kept: Mutex::default(),
        }
    }

    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// What was asked for, to standard output. A reader that has gone away (`| head`) is no error.
    pub fn print(&self, text: impl Display) -> anyhow::Result<()> {
        finish(write!(io::stdout().lock(), "{text}").and_then(|()| io::stdout().flush()))
    }

    /// One document with its version, to standard output.
    pub fn print_json(&self, document: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(document).context("write JSON")?;
        text.push('\n');
        self.print(text)
    }

    /// A line about what was done, for people; to standard output, as it is the result.
    pub fn say(&self, text: impl Display) -> anyhow::Result<()> {
        if self.quiet || self.is_json() { Ok(()) } else { self.print(format_args!("{text}\n")) }
    }

    /// A remark beside the result, to standard error.
    pub fn note(&self, text: impl Display) {
        if !self.quiet && !self.is_json() {
            eprintln(&format!("{}{text}", self.label("note", AnsiColor::Cyan)));
        }
    }

    /// Something that should not stay as it is. With JSON it becomes part of the next document.
    pub fn warn(&self, text: impl Display) {
        if self.is_json() {
            let warning = Diagnostic::warning(None, text.to_string());
            return self.kept().push(warning);
        }
        eprintln(&format!("{}{text}", self.label("warning", AnsiColor::Yellow)));
    }

    /// Warnings of files: shown at once, or kept for the document that will carry them.
    pub fn warn_of(&self, diagnostics: &[Diagnostic]) {
        if self.is_json() {
            self.kept().extend_from_slice(diagnostics);
        } else if !self.quiet {
            self.diagnostics(diagnostics);
        }
    }

    /// The warnings that no document carries yet.
    pub fn take_warnings(&self) -> Vec<Diagnostic> {
        std::mem::take(&mut *self.kept())
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Diagnostic>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What failed, from the whole to the part, and what the user can do.
    pub fn error(&self, text: impl Display, help: Option<&str>) {
        eprintln(&format!("{}{text}", self.label("error", AnsiColor::Red)));
        if let Some(help) = help {
            eprintln(&format!("{}{help}", self.label("help", AnsiColor::Cyan)));
        }
    }

    /// Problems of files, each with its place; to standard error.
    pub fn diagnostics(&self, diagnostics: &[Diagnostic]) {
        let style =
            if self.stderr_color { diagnostic::Style::Colored } else { diagnostic::Style::Plain };
        // In one piece: standard error is not buffered.
        let text: String = diagnostics.iter().map(|d| d.display(style).to_string()).collect();
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }

    /// Does the work and, with `--verbose`, says how long it took. On a terminal, what takes long
    /// is named while it lasts.
    pub fn timed<T>(&self, what: &str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let waits = self.stderr_terminal && !self.quiet && !self.verbose;
        let _progress = waits.then(|| Progress::start(what));
        let result = work();
        if self.verbose {
            let elapsed = start.elapsed().as_secs_f64() * 1e3;
            eprintln(&format!("{what}: {elapsed:.1} ms"));
        }
        result
    }

    /// `text` in the colour for standard output, if it is to have one.
    pub fn paint(&self, color: AnsiColor, text: impl Display) -> String {
        paint(self.stdout_color, Style::new().fg_color(Some(color.into())), text)
    }

    fn label(&self, label: &str, color: AnsiColor) -> String {
        let style = Style::new().fg_color(Some(color.into())).bold();
        format!("{} ", paint(self.stderr_color, style, format_args!("{label}:")))
    }
}

fn paint(wanted: bool, style: Style, text: impl Display) -> String {
    if wanted { format!("{style}{text}{style:#}") } else { text.to_string() }
}

/// <https://no-color.org>: any value but the empty one forbids colour.
fn environment_allows_color() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !set("NO_COLOR") && !dumb
}

/// How printing ended. A reader that has gone away wants no more, and that is no failure.
pub fn finish(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("print the result"),
    }
}

/// There is nowhere left to report that standard error is gone.
fn eprintln(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
