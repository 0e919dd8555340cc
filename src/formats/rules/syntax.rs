//! What is probably meant by a text that is not YAML: from the text itself, as the parser's words
//! are its own affair.

use super::report::{Complaint, Spot};

/// Where the parser gave up, and what it said.
pub(super) struct Failure<'t> {
    pub text: &'t str,
    /// Characters of `text` before the place.
    pub index: usize,
    pub spot: Spot,
    pub said: &'t str,
}

impl Failure<'_> {
    /// `depth` is how many levels of nesting are read.
    pub(super) fn explain(&self, depth: usize) -> (Spot, Complaint) {
        let open = self.open();
        if open.len() > depth {
            let complaint = Complaint::new(format!("more than {depth} levels of nesting"));
            return (self.spot, complaint);
        }
        let complaint = Complaint::new(format!("not valid YAML: {}", self.said));
        if let Some(spot) = self.tab() {
            return (spot, complaint.help("indent with spaces"));
        }
        if let Some(sigil) = self.sigil() {
            return (self.spot, complaint.help(sigil));
        }
        if let Some(open) = open.last() {
            let (c, end) = (open.c, open.end());
            let help = match c == end {
                true => format!("close it with `{end}`"),
                false => {
                    format!("close it with `{end}`, or quote the value if `{c}` belongs to it")
                }
            };
            let complaint = complaint.help(help);
            return (self.spot, complaint.related(open.spot, format!("this `{c}` is not closed")));
        }
        if let Some(spot) = self.without_colon() {
            let help = "an entry needs a colon and a space after it: `80: 3000`";
            return (spot, complaint.help(help));
        }
        let help = match self.lines().nth(self.line()).unwrap_or_default().matches(": ").count() {
            0 | 1 => "indent all entries of one level by the same number of spaces",
            _ => "write one entry on a line, and put quotes around text that contains `: `",
        };
        (self.spot, complaint.help(help))
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.split('\n')
    }

    /// From 0.
    fn line(&self) -> usize {
        self.spot.line.max(1) as usize - 1
    }

    /// A tab in the indentation of the line, or of the next: the parser may have stopped at the
    /// value before.
    fn tab(&self) -> Option<Spot> {
        let lines = self.lines().enumerate().skip(self.line()).take(2);
        let mut lines = lines;
        let (number, before) = lines.find_map(|(number, line)| {
            let indentation = &line[..line.len() - line.trim_start().len()];
            Some((number, indentation.find('\t')?))
        })?;
        Some(Spot { line: number as u32 + 1, column: before as u32, length: 1, ..self.spot })
    }

    /// A character that means something at the beginning of a value, where the parser stopped or
    /// just before.
    fn sigil(&self) -> Option<String> {
        let mut near = self.text.chars().skip(self.index.saturating_sub(1)).take(2);
        let sigil = near.find(|c| "*&%@`".contains(*c))?;
        Some(format!("a value that begins with `{sigil}` needs quotes, as in \"{sigil}\""))
    }

    /// The line, or the one before it, if it has no colon.
    fn without_colon(&self) -> Option<Spot> {
        let lines: Vec<&str> = self.lines().take(self.line() + 1).collect();
        let mut last = lines.iter().enumerate().rev().filter(|(_, line)| !line.trim().is_empty());
        let has_colon = |line: &str| line.contains(": ") || line.trim_end().ends_with(':');
        let (number, line) = last.by_ref().take(2).find(|(_, line)| !has_colon(line))?;
        let column = (line.len() - line.trim_start().len()) as u32;
        let length = line.trim().chars().count() as u32;
        Some(Spot { line: number as u32 + 1, column, length, ..self.spot })
    }

    /// The brackets and quotes that are open where the parser stopped, outermost first. It points to
    /// the beginning of a quote that has no end.
    fn open(&self) -> Vec<Open> {
        let is_quote = self.text.chars().nth(self.index).is_some_and(|c| "'\"".contains(c));
        let read = self.index + usize::from(is_quote);
        let mut open: Vec<Open> = Vec::new();
        let mut spot = Spot { line: 1, column: 0, length: 1, ..self.spot };
        let (mut before, mut in_comment) = (' ', false);
        for c in self.text.chars().take(read) {
            let in_quote = open.last().is_some_and(|open| "'\"".contains(open.c));
            let begins_value = " \t\n,:[{-?".contains(before);
            match c {
                '\n' => in_comment = false,
                _ if in_comment => {}
                '\'' | '"'
                    if in_quote
                        && open.last().is_some_and(|open| open.c == c)
                        && before != '\\' =>
                {
                    open.pop();
                }
                _ if in_quote => {}
                '#' if before.is_whitespace() => in_comment = true,
                '\'' | '"' | '[' | '{' if begins_value => open.push(Open { c, spot }),
                ']' | '}' if open.last().is_some_and(|open| open.end() == c) => {
                    open.pop();
                }
                _ => {}
            }
            before = c;
            spot = match c {
                '\n' => Spot { line: spot.line + 1, column: 0, ..spot },
                _ => Spot { column: spot.column + 1, ..spot },
            };
        }
        open
    }
}

struct Open {
    c: char,
    spot: Spot,
}

impl Open {
    fn end(&self) -> char {
        match self.c {
            '[' => ']',
            '{' => '}',
            quote => quote,
        }
    }
}
