//! What is wrong, where, and what to do about it: as a value, as text for people, and as the
//! `errors` and `warnings` of JSON output.

#![forbid(unsafe_code)]

use std::fmt::{self, Write};
use std::sync::Arc;

use serde::ser::{Serialize, SerializeStruct, Serializer};
use unicode_width::UnicodeWidthStr;

/// A line with more characters is cut around the column: one of megabytes would fill the terminal.
const LINE_MAX: usize = 120;

/// How far a tab reaches in an excerpt; the column counts it as one character.
const TAB: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Error,
    Warning,
}

impl Severity {
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// A file, and mostly a position in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// As the user named it; not a path to open.
    pub file: Arc<str>,
    /// `None` speaks of the file as a whole.
    pub position: Option<Position>,
}

/// A position in a file, with as much of its line as is worth showing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// From 1.
    pub line: u32,
    /// From 1, in characters (Unicode scalar values).
    pub column: u32,
    /// In characters; 0 is shown like 1.
    pub length: u32,
    excerpt: Box<Excerpt>,
}

/// The part of a line around a column.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Excerpt {
    before: Box<str>,
    after: Box<str>,
    cut_before: bool,
    cut_after: bool,
}

/// One problem, or one thing to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub place: Option<Place>,
    /// What is wrong: lower case, no full stop, may quote the file.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Other places that belong to it, each with what is to be seen there.
    pub related: Vec<(Place, String)>,
}

/// How text is to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    #[default]
    Plain,
    /// With ANSI colours (ECMA-48 SGR).
    Colored,
}

impl Place {
    pub fn of_file(file: &str) -> Self {
        Self { file: file.into(), position: None }
    }
}

impl Position {
    /// The position at byte `offset` of `text`, whose line and column (from 1) the caller knows.
    /// An offset past the end, or inside a character, is moved back to one that can be shown.
    pub fn new(text: &str, offset: usize, line: u32, column: u32, length: u32) -> Self {
        let offset = (0..=offset.min(text.len())).rev().find(|&o| text.is_char_boundary(o));
        let (before, after) = text.split_at(offset.unwrap_or(0));
        Self { line, column, length, excerpt: Box::new(Excerpt::new(before, after)) }
    }
}

impl Excerpt {
    fn new(before: &str, after: &str) -> Self {
        let is_break = |c: &char| *c == '\n' || *c == '\r';
        let behind = || before.chars().rev().take_while(|c| !is_break(c));
        let ahead = || after.chars().take_while(|c| !is_break(c));
        let (left, right) = (behind().take(LINE_MAX).count(), ahead().take(LINE_MAX).count());
        let (left, right) = match left + right <= LINE_MAX {
            true => (left, right),
            false => (left.min(LINE_MAX / 2), right.min(LINE_MAX - left.min(LINE_MAX / 2))),
        };
        let start: usize = behind().take(left).map(char::len_utf8).sum();
        let end: usize = ahead().take(right).map(char::len_utf8).sum();
        Self {
            before: before[before.len() - start..].into(),
            after: after[..end].into(),
            cut_before: behind().nth(left).is_some(),
            cut_after: ahead().nth(right).is_some(),
        }
    }

    fn line(&self) -> String {
        let mut line = String::new();
        line.push_str(if self.cut_before { "…" } else { "" });
        push_visible(&mut line, &self.before);
        push_visible(&mut line, &self.after);
        line.push_str(if self.cut_after { "…" } else { "" });
        line
    }

    /// Columns of the terminal before the marker, and those it spans.
    fn marker(&self, length: u32) -> (usize, usize) {
        let marked: String = self.after.chars().take(length as usize).collect();
        let start = usize::from(self.cut_before) + visible_width(&self.before);
        (start, visible_width(&marked).max(1))
    }
}

impl Diagnostic {
    pub fn error(place: Option<Place>, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { severity: Severity::Error, place, message, help: None, related: Vec::new() }
    }

    pub fn warning(place: Option<Place>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, message) }
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The text for people, several lines, each ended by a newline. Nothing the file or its name
    /// holds reaches the terminal as a control character.
    pub fn display(&self, style: Style) -> impl fmt::Display + '_ {
        Text { diagnostic: self, style }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.display(Style::Plain).fmt(f)
    }
}

/// `file`, `line`, `column` (null where there is none), `severity`, `message`, `help` (null where
/// there is none).
impl Serialize for Diagnostic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let position = self.place.as_ref().and_then(|p| p.position.as_ref());
        let mut object = serializer.serialize_struct("Diagnostic", 6)?;
        object.serialize_field("file", &self.place.as_ref().map(|p| &*p.file))?;
        object.serialize_field("line", &position.map(|p| p.line))?;
        object.serialize_field("column", &position.map(|p| p.column))?;
        object.serialize_field("severity", self.severity.name())?;
        object.serialize_field("message", &self.message)?;
        object.serialize_field("help", &self.help)?;
        object.end()
    }
}

struct Text<'d> {
    diagnostic: &'d Diagnostic,
    style: Style,
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diagnostic { severity, place, message, help, related } = self.diagnostic;
        self.place(f, place.as_ref())?;
        self.painted(f, severity_color(*severity), severity.name())?;
        writeln!(f, ": {}", visible(message))?;
        let places = || place.iter().chain(related.iter().map(|(place, _)| place));
        let gutter = places().filter_map(|p| p.position.as_ref()).map(digits).max().unwrap_or(1);
        self.excerpt(f, place.as_ref(), gutter, severity_color(*severity))?;
        for (place, what) in related {
            self.place(f, Some(place))?;
            writeln!(f, "{}", visible(what))?;
            self.excerpt(f, Some(place), gutter, BLUE)?;
        }
        if let Some(help) = help {
            self.painted(f, CYAN, "help")?;
            writeln!(f, ": {}", visible(help))?;
        }
        Ok(())
    }
}

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const BLUE: &str = "\x1b[1;34m";
const CYAN: &str = "\x1b[1;36m";
const RESET: &str = "\x1b[0m";

fn severity_color(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => RED,
        Severity::Warning => YELLOW,
    }
}

fn digits(position: &Position) -> usize {
    position.line.to_string().len()
}

impl Text<'_> {
    fn painted(&self, f: &mut fmt::Formatter<'_>, color: &str, text: &str) -> fmt::Result {
        match self.style {
            Style::Plain => f.write_str(text),
            Style::Colored => write!(f, "{color}{text}{RESET}"),
        }
    }

    fn place(&self, f: &mut fmt::Formatter<'_>, place: Option<&Place>) -> fmt::Result {
        let Some(place) = place else { return Ok(()) };
        write!(f, "{}:", visible(&place.file))?;
        if let Some(Position { line, column, .. }) = place.position {
            write!(f, "{line}:{column}:")?;
        }
        f.write_char(' ')
    }

    fn excerpt(
        &self,
        f: &mut fmt::Formatter<'_>,
        place: Option<&Place>,
        gutter: usize,
        color: &str,
    ) -> fmt::Result {
        let Some(position) = place.and_then(|p| p.position.as_ref()) else { return Ok(()) };
        let (start, width) = position.excerpt.marker(position.length);
        self.painted(f, BLUE, &format!(" {:gutter$} |", position.line))?;
        writeln!(f, " {}", position.excerpt.line())?;
        self.painted(f, BLUE, &format!(" {:gutter$} |", ""))?;
        write!(f, " {:start$}", "")?;
        self.painted(f, color, &"^".repeat(width))?;
        writeln!(f)
    }
}

/// `text` with everything escaped that would not show as itself.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_visible(&mut out, text);
    out
}

/// `text` in backquotes, at most some 40 characters of it, so that a message stays a sentence
/// whatever the file holds.
pub fn quoted(text: &str) -> String {
    const MOST: usize = 40;
    match text.char_indices().nth(MOST) {
        None => format!("`{text}`"),
        Some((end, _)) => format!("`{}…`", &text[..end]),
    }
}

fn push_visible(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\t' => (0..TAB).for_each(|_| out.push(' ')),
            c if is_hidden(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
}

/// Control characters, and those that reorder or hide text (Unicode Technical Report 36, "bidi").
fn is_hidden(c: char) -> bool {
    let hides = |c| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    c.is_control() || hides(c) || c == '\u{feff}'
}

/// Columns of a terminal that the text takes once escaped.
fn visible_width(text: &str) -> usize {
    visible(text).width()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, needle: &str) -> Option<Place> {
        let offset = text.find(needle).expect("needle in text");
        let column = text[..offset].chars().count() as u32 + 1;
        let length = needle.chars().count() as u32;
        let position = Position::new(text, offset, 7, column, length);
        Some(Place { file: "rules.yaml".into(), position: Some(position) })
    }

    #[test]
    fn an_error_shows_its_line_and_what_to_do() {
        let diagnostic = Diagnostic::error(at("  80: 70000", "70000"), "70000 is not a port")
            .help("use 1-65535");
        assert_eq!(
            diagnostic.to_string(),
            "rules.yaml:7:7: error: 70000 is not a port\n 7 |   80: 70000\n   |       ^^^^^\n\
             help: use 1-65535\n"
        );
    }

    #[test]
    fn related_places_share_the_gutter() {
        let mut diagnostic = Diagnostic::error(at("80: 2", "80"), "80/tcp is mapped twice");
        let mut first = at("80: 1", "80").expect("a place");
        first.position.as_mut().expect("a position").line = 1234;
        diagnostic.related.push((first, "first mapped here".into()));
        assert_eq!(
            diagnostic.to_string(),
            "rules.yaml:7:1: error: 80/tcp is mapped twice\n    7 | 80: 2\n      | ^^\n\
             rules.yaml:1234:1: first mapped here\n 1234 | 80: 1\n      | ^^\n"
        );
    }

    #[test]
    fn control_characters_of_the_file_do_not_reach_the_terminal() {
        let text = "a\u{1b}[2J\u{202e}b: x";
        let shown = Diagnostic::error(at(text, "x"), format!("no {text}")).to_string();
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown}");
        let caret = shown.lines().last().expect("lines").find('^').expect("caret");
        assert_eq!(shown.lines().nth(1).expect("lines").chars().nth(caret), Some('x'));
    }

    #[test]
    fn a_tab_moves_the_caret_as_it_moves_the_text() {
        let shown = Diagnostic::error(at("\t80: x", "x"), "m").to_string();
        assert!(shown.contains("\n 7 |     80: x\n   |         ^\n"), "{shown}");
    }

    #[test]
    fn wide_characters_move_the_caret_by_two() {
        let shown = Diagnostic::error(at("端口: x", "x"), "m").to_string();
        assert!(shown.contains("\n   |       ^\n"), "{shown}");
    }

    #[test]
    fn a_very_long_line_is_cut_around_the_column() {
        let text = format!("{}x{}", "a".repeat(100_000), "b".repeat(100_000));
        let shown = Diagnostic::error(at(&text, "x"), "m").to_string();
        assert!(shown.len() < 500, "{}", shown.len());
        assert!(shown.contains(&format!("…{}x{}…", "a".repeat(60), "b".repeat(59))), "{shown}");
    }

    #[test]
    fn color_comes_only_when_asked_for() {
        let diagnostic = Diagnostic::warning(None, "m");
        assert_eq!(diagnostic.to_string(), "warning: m\n");
        assert_eq!(diagnostic.display(Style::Colored).to_string(), "\x1b[1;33mwarning\x1b[0m: m\n");
    }

    #[test]
    fn json_is_flat() {
        let diagnostic = Diagnostic::error(at("80: x", "x"), "m");
        let json = serde_json::to_string(&diagnostic).expect("serialises");
        assert_eq!(
            json,
            "{\"file\":\"rules.yaml\",\"line\":7,\"column\":5,\"severity\":\"error\",\
             \"message\":\"m\",\"help\":null}"
        );
    }
}
