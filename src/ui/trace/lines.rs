//! A story as labelled lines.

use std::fmt::{self, Display, Formatter};

use super::{Told, program};
use crate::story::{Chart, Leg, Passage, Said, Word};
use crate::ui::escape::visible;
use crate::ui::wrap::wrapped;

/// Columns of the labels, with the blanks after them.
const LABEL: usize = 16;

/// A label, empty for one that goes on, and the text beside it.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    label: String,
    text: String,
    /// Whether it is what the story comes to.
    is_end: bool,
}

#[derive(Debug)]
pub struct Lines {
    head: String,
    lines: Vec<Line>,
}

/// The lines on so many columns, with the labels of the end painted.
pub struct Fitting<'l, P> {
    lines: &'l Lines,
    width: Option<usize>,
    paint: P,
}

pub fn of(told: &Told) -> Lines {
    let Told { story, chart, .. } = told;
    let mut lines = Vec::new();
    let translated = || match story.asked.ip() == story.reached.ip() {
        true => format!("to port {}", story.reached.port()),
        false => format!("to {}", story.reached),
    };
    for (at, passage) in story.passages.iter().enumerate() {
        lines.extend(passage_lines(passage, chart));
        if story.translated_in == Some(at) {
            lines.push(line("translated", &translated()));
        }
    }
    if story.is_translated() && story.translated_in.is_none() {
        let text = format!("{}, as connection tracking remembers of the flow", translated());
        lines.push(line("translated", &text));
    }
    let ending = story.ending(chart, program(story, &told.listeners).as_deref());
    lines.push(Line { is_end: true, ..line(&story.outcome.name().replace('-', " "), &ending) });
    if let Some(elsewhere) = told.elsewhere() {
        lines.push(line("", &elsewhere));
    }
    if let Some(advice) = story.advice(chart) {
        lines.push(line("what to do", &advice));
    }
    if story.repeats > 0 {
        lines.push(line("repeated", &format!("{} times by the client", story.repeats)));
    }
    let service = format!("{}/{}", story.asked.port(), story.protocol);
    Lines { head: visible(&format!("{service}: {}", story.beginning())), lines }
}

fn line(label: &str, text: &str) -> Line {
    Line { label: label.to_owned(), text: visible(text), is_end: false }
}

/// One line, or several if the chain called others.
fn passage_lines(passage: &Passage, chart: &Chart) -> Vec<Line> {
    let hook = chart.base(&passage.place).map_or("", |base| base.hook);
    let label = match passage.leg {
        Leg::Request => hook.to_owned(),
        Leg::Answer => format!("< {hook}"),
    };
    let mut chain = &passage.place.chain;
    let mut lines = Vec::new();
    for word in &passage.words {
        let text = said(passage, word, chart);
        if lines.is_empty() {
            lines.push(line(&label, &format!("{}: {text}", passage.place)));
        } else if word.chain == *chain {
            lines.push(line("", &format!("  {text}")));
        } else {
            lines.push(line("", &format!("  chain {}: {text}", word.chain)));
        }
        chain = &word.chain;
    }
    lines
}

/// `rule 3: tcp dport 22 accept: accept`, `policy drop`
fn said(passage: &Passage, word: &Word, chart: &Chart) -> String {
    let Said::Rule { handle, .. } = word.said else { return word.said.words() };
    let verdict = word.said.words();
    let Some(written) = chart.rule(&passage.place_of(word), handle) else {
        return format!("rule with handle {handle}: {verdict}");
    };
    let position = written.position;
    match (&written.text, &written.comment) {
        (Some(text), _) => format!("rule {position}: {text}"),
        (None, Some(comment)) => format!("rule {position} \"{comment}\": {verdict}"),
        (None, None) => format!("rule {position} (handle {handle}): {verdict}"),
    }
}

impl Lines {
    pub fn fitting<P: Fn(&str) -> String>(&self, width: Option<usize>, paint: P) -> Fitting<'_, P> {
        Fitting { lines: self, width, paint }
    }
}

impl<P: Fn(&str) -> String> Display for Fitting<'_, P> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let width = self.width.unwrap_or(usize::MAX);
        for part in wrapped(&self.lines.head, width) {
            writeln!(f, "{part}")?;
        }
        for Line { label, text, is_end } in &self.lines.lines {
            let indent = LABEL - 2;
            // Blanks at the beginning stay.
            let inner = text.len() - text.trim_start().len();
            let room = width.saturating_sub(LABEL + inner).max(20);
            for (at, part) in wrapped(text.trim_start(), room).into_iter().enumerate() {
                let label = if at == 0 { label } else { "" };
                let blanks = " ".repeat((indent + inner).saturating_sub(label.len()));
                let label = if *is_end { (self.paint)(label) } else { label.to_owned() };
                writeln!(f, "  {label}{blanks}{part}")?;
            }
        }
        Ok(())
    }
}
