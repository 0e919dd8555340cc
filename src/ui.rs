//! The only room that prints: text for people, aligned and perhaps coloured, or one JSON document.
//! Whatever did not come from portmap itself is escaped here before it reaches a terminal.

#![forbid(unsafe_code)]

pub mod boot;
pub mod change;
pub mod countdown;
mod counted;
pub mod diagnostic;
mod difference;
mod doctor;
pub mod escape;
pub mod failure;
pub mod guard;
pub mod history;
mod json;
pub mod mapping;
mod observer;
pub mod probe;
mod progress;
mod prometheus;
mod refusals;
mod remark;
pub mod status;
mod table;
mod terminal;
pub mod trace;
pub mod watch;
mod wrap;

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anstyle::{AnsiColor, Style};
use anyhow::Context;
use serde::Serialize;

use crate::formats::diagnostic::Diagnostic;

use escape::{visible, visible_lines};
use progress::Progress;
pub use table::Table;

/// The version of all JSON documents.
pub const JSON_VERSION: u32 = 1;

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Color {
    /// On a terminal, unless the environment forbids it.
    #[default]
    Auto,
    Always,
    Never,
}

/// What the user wants to see.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    pub format: Format,
    pub color: Color,
    pub quiet: bool,
    pub verbose: bool,
}

/// Where output goes, and how it looks.
#[derive(Debug)]
pub struct Ui {
    settings: Settings,
    stdout_color: bool,
    stderr_color: bool,
    stderr_terminal: bool,
    /// With JSON: warnings that wait for the document that will carry them.
    kept: Mutex<Vec<Diagnostic>>,
}

impl Ui {
    pub fn new(settings: Settings) -> Self {
        let wanted = |terminal: bool| match settings.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && environment_allows_color(),
        };
        Self {
            settings,
            stdout_color: wanted(io::stdout().is_terminal()),
            stderr_color: wanted(io::stderr().is_terminal()),
            stderr_terminal: io::stderr().is_terminal(),
            kept: Mutex::default(),
        }
    }

    pub fn is_json(&self) -> bool {
        self.settings.format == Format::Json
    }

    pub fn is_quiet(&self) -> bool {
        self.settings.quiet
    }

    pub fn is_verbose(&self) -> bool {
        self.settings.verbose
    }

    /// What was asked for, to standard output, as it is: the callers escape what is not ours. A
    /// reader that has gone away (`| head`) is no error.
    pub fn print(&self, text: impl Display) -> anyhow::Result<()> {
        finish(write!(io::stdout().lock(), "{text}").and_then(|()| io::stdout().flush()))
    }

    /// A script or a file for another program, as it is; where it goes to a terminal, and so to a
    /// person, with everything escaped that would not be seen as it is.
    pub fn print_for_programs(&self, text: impl Display) -> anyhow::Result<()> {
        match io::stdout().is_terminal() {
            true => self.print(visible_lines(&text.to_string())),
            false => self.print(text),
        }
    }

    /// A table, as wide as the terminal at most, to standard output.
    pub fn table(&self, table: &Table) -> anyhow::Result<()> {
        self.print(table.fitting(terminal::width()))
    }

    /// One document with its version, to standard output.
    pub fn print_json(&self, document: &impl Serialize) -> anyhow::Result<()> {
        let mut text = json::pretty(document).context("write JSON")?;
        text.push('\n');
        self.print(text)
    }

    /// A line about what was done, for people; to standard output, as it is the result.
    pub fn say(&self, text: impl Display) -> anyhow::Result<()> {
        if self.settings.quiet || self.is_json() {
            return Ok(());
        }
        self.print(format_args!("{}\n", visible(&text.to_string())))
    }

    /// A blank line between paragraphs.
    pub fn gap(&self) -> anyhow::Result<()> {
        self.say("")
    }

    /// A remark beside the result, to standard error.
    pub fn note(&self, text: impl Display) {
        if !self.settings.quiet && !self.is_json() {
            self.line("note", AnsiColor::Cyan, text);
        }
    }

    /// Something that should not stay as it is. With JSON it becomes part of the next document.
    pub fn warn(&self, text: impl Display) {
        if self.is_json() {
            let warning = Diagnostic::warning(None, text.to_string());
            return self.kept().push(warning);
        }
        self.line("warning", AnsiColor::Yellow, text);
    }

    /// Warnings of files: shown at once, or kept for the document that will carry them.
    pub fn warn_of(&self, diagnostics: &[Diagnostic]) {
        if self.is_json() {
            self.kept().extend_from_slice(diagnostics);
        } else if !self.settings.quiet {
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
        self.line("error", AnsiColor::Red, text);
        if let Some(help) = help {
            self.line("help", AnsiColor::Cyan, help);
        }
    }

    /// Problems of files, each with its place; to standard error.
    pub fn diagnostics(&self, diagnostics: &[Diagnostic]) {
        let style =
            if self.stderr_color { diagnostic::Style::Colored } else { diagnostic::Style::Plain };
        let text: String =
            diagnostics.iter().map(|d| diagnostic::text(d, style).to_string()).collect();
        eprint(&text);
    }

    /// Does the work and, with `--verbose`, says how long it took. On a terminal, what takes long
    /// is named while it lasts.
    pub fn timed<T>(&self, what: &str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let waits = self.stderr_terminal && !self.settings.quiet && !self.settings.verbose;
        let _progress = waits.then(|| Progress::start(what));
        let result = work();
        if self.settings.verbose {
            let elapsed = start.elapsed().as_secs_f64() * 1e3;
            eprintln(&format!("{what}: {elapsed:.1} ms"));
        }
        result
    }

    /// `text`, which is ours or escaped, in the colour for standard output, if it is to have one.
    pub fn paint(&self, color: AnsiColor, text: impl Display) -> String {
        paint(self.stdout_color, Style::new().fg_color(Some(color.into())), text)
    }

    fn line(&self, label: &str, color: AnsiColor, text: impl Display) {
        let style = Style::new().fg_color(Some(color.into())).bold();
        let label = paint(self.stderr_color, style, format_args!("{label}:"));
        eprintln(&format!("{label} {}", visible(&text.to_string())));
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
    eprint(&format!("{text}\n"));
}

/// In one piece: standard error is not buffered.
fn eprint(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
