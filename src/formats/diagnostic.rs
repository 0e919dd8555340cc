//! What is wrong, where, and what to do about it: a value, and an item of the `errors` and `warnings`
//! of JSON output. As text for people it is made in [`crate::ui::diagnostic`].

#![forbid(unsafe_code)]

use std::sync::Arc;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::code::Code;

/// A line with more characters is cut around the column: one of megabytes would fill the terminal.
const LINE_MAX: usize = 120;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Error,
    /// Works, but probably not as intended.
    Warning,
    /// Worth knowing when looking at the file, and of no interest when applying it.
    Note,
}

impl Severity {
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// A file or an argument, and mostly a position in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// As the user named it; not a path to open.
    pub file: Arc<str>,
    /// `None` is the file as a whole.
    pub position: Option<Position>,
}

/// A position in a file or an argument, with as much of its line as is worth showing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// From 1; `None` in an argument, which has only one.
    pub line: Option<u32>,
    /// From 1, in characters (Unicode scalar values).
    pub column: u32,
    /// In characters; 0 is shown like 1.
    pub length: u32,
    /// `None` where what the file says is not to be shown.
    pub excerpt: Option<Box<Excerpt>>,
}

/// The part of a line around a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// What comes before the column.
    pub before: Box<str>,
    /// The column and what follows.
    pub after: Box<str>,
    /// Whether there is more of the line before and after.
    pub cut_before: bool,
    pub cut_after: bool,
}

/// One problem, or one thing to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// A word that never changes, of a problem that has one.
    pub code: Option<Code>,
    pub place: Option<Place>,
    /// What is wrong: lower case, no full stop, may quote the file.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Other places that belong to it, each with what is to be seen there.
    pub related: Vec<(Place, String)>,
}

impl Place {
    pub fn of_file(file: &str) -> Self {
        Self { file: file.into(), position: None }
    }
}

impl Position {
    /// The position at byte `offset` of `text`, whose line and column (from 1) the caller knows.
    /// An offset past the end, or inside a character, is moved back to one that can be shown.
    pub fn new(text: &str, offset: usize, line: Option<u32>, column: u32, length: u32) -> Self {
        let offset = (0..=offset.min(text.len())).rev().find(|&o| text.is_char_boundary(o));
        let (before, after) = text.split_at(offset.unwrap_or(0));
        Self { line, column, length, excerpt: Some(Box::new(Excerpt::new(before, after))) }
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
}

impl Diagnostic {
    pub fn error(place: Option<Place>, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            severity: Severity::Error,
            code: None,
            place,
            message,
            help: None,
            related: Vec::new(),
        }
    }

    pub fn warning(place: Option<Place>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, message) }
    }

    pub fn note(place: Option<Place>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::error(place, message) }
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same without anything that the file says: nothing but where it is, and that it is wrong.
    #[must_use]
    pub fn withheld(mut self) -> Self {
        if let Some(position) = self.place.as_mut().and_then(|place| place.position.as_mut()) {
            position.excerpt = None;
        }
        self.message = "something is wrong here; what the file says is not shown, as the user who \
                        ran sudo may not read it"
            .into();
        self.help = self.place.as_ref().map(|place| {
            let file = super::shell_quoted(&*place.file);
            format!("as root: `env -u SUDO_UID portmap check {file}`")
        });
        self.related.clear();
        self
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// `file`, `line`, `column` (null where there is none), `severity`, `code` (absent where there is
/// none), `message`, `help` (null where there is none).
impl Serialize for Diagnostic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let position = self.place.as_ref().and_then(|p| p.position.as_ref());
        let mut object = serializer.serialize_struct("Diagnostic", 7)?;
        object.serialize_field("file", &self.place.as_ref().map(|p| &*p.file))?;
        object.serialize_field("line", &position.and_then(|p| p.line))?;
        object.serialize_field("column", &position.map(|p| p.column))?;
        object.serialize_field("severity", self.severity.name())?;
        match self.code {
            Some(code) => object.serialize_field("code", &code)?,
            None => object.skip_field("code")?,
        }
        object.serialize_field("message", &self.message)?;
        object.serialize_field("help", &self.help)?;
        object.end()
    }
}

/// `text` in backquotes, cut as [`excerpt`] does.
pub fn quoted(text: &str) -> String {
    format!("`{}`", excerpt(text))
}

/// At most some 40 characters of `text`, so that a message stays a sentence whatever the file
/// contains.
pub fn excerpt(text: &str) -> String {
    const MOST: usize = 40;
    match text.char_indices().nth(MOST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// "`a`, `b` and `c`".
pub fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => format!("`{one}`"),
        [most @ .., last] => {
            let most: Vec<_> = most.iter().map(|word| format!("`{word}`")).collect();
            format!("{} and `{last}`", most.join(", "))
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Where `needle` is in a line of a file.
    pub fn at(text: &str, needle: &str) -> Option<Place> {
        let offset = text.find(needle).expect("needle in text");
        let column = text[..offset].chars().count() as u32 + 1;
        let length = needle.chars().count() as u32;
        let position = Position::new(text, offset, Some(7), column, length);
        Some(Place { file: "rules.yaml".into(), position: Some(position) })
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
