//! The problems found so far, of all files, kept small however many there are.

use std::collections::HashMap;

use crate::formats::diagnostic::{Diagnostic, Place, Position, Severity};

use super::source::{Form, Source};

/// Errors shown; more are only counted.
const ERRORS_SHOWN: usize = 100;

/// Warnings and notes shown of each kind; more are only counted.
const WARNINGS_SHOWN: usize = 5;

/// A place in a source, 16 bytes; made into a [`Place`] only if it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Spot {
    /// Index into the sources.
    pub source: u32,
    /// From 1; 0 is the file as a whole.
    pub line: u32,
    /// From 0, in characters.
    pub column: u32,
    pub length: u32,
}

/// What is wrong with a value, without its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    message: String,
    help: Option<String>,
    related: Vec<(Spot, String)>,
}

impl Complaint {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, related: Vec::new() }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Adds to the help.
    pub(super) fn or(self, help: &str) -> Self {
        let help =
            self.help.iter().map(String::as_str).chain([help]).collect::<Vec<_>>().join("; ");
        Self { help: Some(help), ..self }
    }

    pub(super) fn related(mut self, spot: Spot, what: impl Into<String>) -> Self {
        self.related.push((spot, what.into()));
        self
    }
}

/// What a warning or a note is about; many of one kind are shown as a few and a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Concern {
    Unprivileged,
    PrivilegedTarget,
    EphemeralTarget,
    DoesNothing,
    NeverMatches,
}

impl Concern {
    const ALL: [Concern; 5] = [
        Concern::Unprivileged,
        Concern::PrivilegedTarget,
        Concern::EphemeralTarget,
        Concern::DoesNothing,
        Concern::NeverMatches,
    ];

    fn severity(self) -> Severity {
        match self {
            Concern::Unprivileged => Severity::Note,
            _ => Severity::Warning,
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Concern::Unprivileged => "entries with an unprivileged port",
            Concern::PrivilegedTarget => "entries with a privileged target",
            Concern::EphemeralTarget => "entries with a target in the ephemeral range",
            Concern::DoesNothing => "entries that do nothing",
            Concern::NeverMatches => "selectors that never match",
        }
    }
}

#[derive(PartialEq, Eq)]
struct Finding {
    severity: Severity,
    spot: Spot,
    complaint: Complaint,
}

#[derive(Default)]
pub(super) struct Report {
    findings: Vec<Finding>,
    errors: usize,
    warnings: [usize; Concern::ALL.len()],
}

impl Report {
    pub(super) fn error(&mut self, spot: Spot, complaint: Complaint) {
        self.error_with(spot, || complaint);
    }

    /// `complaint` is called only if it will be shown.
    pub(super) fn error_with(&mut self, spot: Spot, complaint: impl FnOnce() -> Complaint) {
        self.errors += 1;
        if self.errors <= ERRORS_SHOWN {
            let complaint = complaint();
            self.findings.push(Finding { severity: Severity::Error, spot, complaint });
        }
    }

    /// `complaint` is called only if it will be shown.
    pub(super) fn warn(
        &mut self,
        concern: Concern,
        spot: Spot,
        complaint: impl FnOnce() -> Complaint,
    ) {
        let count = &mut self.warnings[concern as usize];
        *count += 1;
        if *count <= WARNINGS_SHOWN {
            let complaint = complaint();
            self.findings.push(Finding { severity: concern.severity(), spot, complaint });
        }
    }

    /// How many so far.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    pub(super) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// What was found, by file and line; at the end how many more there are.
    pub(super) fn finish(mut self, sources: &[Source]) -> Vec<Diagnostic> {
        self.findings.sort_by_key(|finding| (finding.spot, finding.severity));
        // An alias brings the same value, and its problems, more than once.
        self.findings.dedup();
        let places = self.places(sources);
        let place = |spot: &Spot| places.get(spot).cloned();
        let mut diagnostics: Vec<_> = self
            .findings
            .into_iter()
            .map(|Finding { severity, spot, complaint }| Diagnostic {
                severity,
                code: None,
                place: place(&spot),
                message: complaint.message,
                help: complaint.help,
                related: complaint
                    .related
                    .into_iter()
                    .filter_map(|(spot, what)| Some((place(&spot)?, what)))
                    .collect(),
            })
            .collect();
        for concern in Concern::ALL {
            let count = self.warnings[concern as usize];
            if count > WARNINGS_SHOWN {
                let message =
                    format!("and {} more {}", grouped(count - WARNINGS_SHOWN), concern.summary());
                let severity = concern.severity();
                diagnostics.push(Diagnostic { severity, ..Diagnostic::warning(None, message) });
            }
        }
        if self.errors > ERRORS_SHOWN {
            let message = format!("and {} more errors", grouped(self.errors - ERRORS_SHOWN));
            diagnostics.push(Diagnostic::error(None, message));
        }
        diagnostics
    }

    fn places(&self, sources: &[Source]) -> HashMap<Spot, Place> {
        let mut spots: Vec<Spot> = Vec::new();
        for finding in &self.findings {
            spots.push(finding.spot);
            spots.extend(finding.complaint.related.iter().map(|(spot, _)| *spot));
        }
        spots.sort();
        spots.dedup();
        let of_one_source = spots.chunk_by(|a, b| a.source == b.source);
        of_one_source
            .flat_map(|spots| places_in(&sources[spots[0].source as usize], spots))
            .collect()
    }
}

/// The places of `spots`, which are sorted, in one walk through the text.
fn places_in(source: &Source, spots: &[Spot]) -> Vec<(Spot, Place)> {
    let mut cursor = Cursor { text: &source.text, offset: 0, line: 1, column: 0 };
    let mut places = Vec::with_capacity(spots.len());
    let file: std::sync::Arc<str> = source.name.as_str().into();
    for &spot in spots {
        let position = (spot.line > 0).then(|| {
            cursor.advance(spot.line, spot.column);
            let line = (source.form == Form::File).then_some(spot.line);
            Position::new(cursor.text, cursor.offset, line, spot.column + 1, spot.length)
        });
        places.push((spot, Place { file: file.clone(), position }));
    }
    places
}

/// Walks forward by lines and characters as saphyr-parser counts them: a line ends with LF, CR or
/// both.
struct Cursor<'t> {
    text: &'t str,
    offset: usize,
    line: u32,
    column: u32,
}

impl Cursor<'_> {
    fn advance(&mut self, line: u32, column: u32) {
        while (self.line, self.column) < (line, column) {
            let mut rest = self.text[self.offset..].chars();
            let Some(c) = rest.next() else { return };
            let ends_line = c == '\n' || (c == '\r' && rest.next() != Some('\n'));
            if ends_line && self.line == line {
                return;
            }
            self.offset += c.len_utf8();
            (self.line, self.column) =
                if ends_line { (self.line + 1, 0) } else { (self.line, self.column + 1) };
        }
    }
}

/// `60,000`.
pub(super) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
