//! Lines and words, as iptables-save quotes them: `xtables_save_string` of iptables' `xtables.c`.

use std::slice::Iter;

use super::Problem;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Without quotes and backslashes.
    pub text: String,
    pub quoted: bool,
    /// Where it begins in its line.
    at: usize,
}

impl Word {
    /// An option, and not a text that looks like one.
    pub fn is(&self, option: &str) -> bool {
        !self.quoted && self.text == option
    }
}

/// A line; within quotes it goes on in the next.
#[derive(Debug)]
pub struct Line<'a> {
    /// Counted from 1.
    pub number: usize,
    pub words: Vec<Word>,
    text: &'a str,
}

impl<'a> Line<'a> {
    /// As it stands, from this word on.
    pub fn from(&self, word: usize) -> &'a str {
        let at = self.words.get(word).map_or(self.text.len(), |word| word.at);
        self.text[at..].trim_end()
    }
}

/// The lines with words, without comments.
pub fn lines(text: &str) -> Result<Vec<Line<'_>>, Problem> {
    let (mut lines, mut rest, mut number) = (Vec::new(), text, 1);
    while !rest.is_empty() {
        let end = if rest.starts_with('#') {
            rest.find('\n').unwrap_or(rest.len())
        } else {
            let (words, end) = words(rest).map_err(|what| Problem { line: number, what })?;
            if !words.is_empty() {
                lines.push(Line { number, words, text: &rest[..end] });
            }
            end
        };
        number += rest[..end].matches('\n').count() + 1;
        rest = rest[end..].strip_prefix('\n').unwrap_or_default();
    }
    Ok(lines)
}

/// The words of the first line, and where it ends.
fn words(text: &str) -> Result<(Vec<Word>, usize), &'static str> {
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        let blanks = text[at..].len() - text[at..].trim_start_matches([' ', '\t', '\r']).len();
        at += blanks;
        match text[at..].chars().next() {
            None | Some('\n') => return Ok((words, at)),
            Some('"') => {
                let (word, end) = quoted(text, at)?;
                words.push(word);
                at = end;
            }
            Some(_) => {
                let len = text[at..].find([' ', '\t', '\r', '\n']).unwrap_or(text[at..].len());
                let text = text[at..at + len].to_owned();
                words.push(Word { text, quoted: false, at });
                at += len;
            }
        }
    }
}

/// A word in quotes, and where it ends.
fn quoted(text: &str, at: usize) -> Result<(Word, usize), &'static str> {
    let mut word = String::new();
    let mut chars = text[at..].char_indices().skip(1);
    while let Some((offset, char)) = chars.next() {
        match char {
            '"' => {
                let end = at + offset + 1;
                let is_end = text[end..].chars().next().is_none_or(char::is_whitespace);
                let word = Word { text: word, quoted: true, at };
                return if is_end { Ok((word, end)) } else { Err("a quote inside of a word") };
            }
            '\\' => word.extend(chars.next().map(|(_, char)| char)),
            _ => word.push(char),
        }
    }
    Err("a quote without its end")
}

/// The words of a rule, one after another.
pub struct Words<'w>(Iter<'w, Word>);

impl<'w> Words<'w> {
    pub fn new(words: &'w [Word]) -> Self {
        Self(words.iter())
    }

    /// How many are left.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn next(&mut self) -> Option<&'w Word> {
        self.0.next()
    }

    /// The next word, whatever it looks like.
    pub fn value(&mut self) -> Option<&'w str> {
        self.next().map(|word| word.text.as_str())
    }

    pub fn peek(&self) -> Option<&'w Word> {
        self.0.clone().next()
    }

    /// Whether there is an option left of the match or target that is read.
    pub fn goes_on(&self) -> bool {
        self.peek().is_some_and(|word| !["-m", "-j", "-g"].iter().any(|begin| word.is(begin)))
    }

    /// What is left of a match or target that is not understood.
    pub fn rest(&mut self) -> Vec<&'w str> {
        let mut rest = Vec::new();
        while self.goes_on() {
            rest.extend(self.value());
        }
        rest
    }

    /// Whether `!` stands before the next option.
    pub fn inverted(&mut self) -> bool {
        let inverted = self.peek().is_some_and(|word| word.is("!"));
        if inverted {
            self.next();
        }
        inverted
    }
}

/// `0x10/0xff0`, or a number alone.
pub fn marked(text: &str) -> Option<(u32, u32)> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    match text.split_once('/') {
        Some((value, mask)) => Some((number(value)?, number(mask)?)),
        None => Some((number(text)?, u32::MAX)),
    }
}
