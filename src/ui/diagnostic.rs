//! A [`Diagnostic`] as text for people: the line with a caret, what is wrong, what to do.

use std::fmt::{self, Write};

use unicode_width::UnicodeWidthStr;

use crate::formats::diagnostic::{Diagnostic, Excerpt, Place, Position, Severity};

use super::escape::visible;

/// How text is to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    #[default]
    Plain,
    /// With ANSI colours (ECMA-48 SGR).
    Colored,
}

/// Several lines, each ended by a newline. Nothing that the file or its name holds can act on the
/// terminal.
pub fn text(diagnostic: &Diagnostic, style: Style) -> impl fmt::Display + '_ {
    Text { diagnostic, style }
}

struct Text<'d> {
    diagnostic: &'d Diagnostic,
    style: Style,
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diagnostic { severity, place, message, help, related, code: _ } = self.diagnostic;
        self.place(f, place.as_ref())?;
        self.painted(f, severity_color(*severity), severity.name())?;
        writeln!(f, ": {}", visible(message))?;
        let places = || place.iter().chain(related.iter().map(|(place, _)| place));
        let gutter = places().filter_map(|p| p.position.as_ref()).map(digits).max().unwrap_or(0);
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
        Severity::Note => CYAN,
    }
}

/// The number in front of an excerpt; an argument has none.
fn number(position: &Position) -> String {
    position.line.map_or_else(String::new, |line| line.to_string())
}

fn digits(position: &Position) -> usize {
    number(position).len()
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
            match line {
                Some(line) => write!(f, "{line}:{column}:")?,
                None => write!(f, "{column}:")?,
            }
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
        let Some(excerpt) = &position.excerpt else { return Ok(()) };
        let (start, width) = marker(excerpt, position.length);
        self.painted(f, BLUE, &format!(" {:>gutter$} |", number(position)))?;
        writeln!(f, " {}", line(excerpt))?;
        self.painted(f, BLUE, &format!(" {:gutter$} |", ""))?;
        write!(f, " {:start$}", "")?;
        self.painted(f, color, &"^".repeat(width))?;
        writeln!(f)
    }
}

fn line(excerpt: &Excerpt) -> String {
    let dots = |is_cut: bool| if is_cut { "…" } else { "" };
    let Excerpt { before, after, cut_before, cut_after } = excerpt;
    [dots(*cut_before), &visible(before), &visible(after), dots(*cut_after)].concat()
}

/// Columns of the terminal before the marker, and those it spans.
fn marker(excerpt: &Excerpt, length: u32) -> (usize, usize) {
    let width = |text: &str| visible(text).width();
    let marked: String = excerpt.after.chars().take(length as usize).collect();
    let start = usize::from(excerpt.cut_before) + width(&excerpt.before);
    (start, width(&marked).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::diagnostic::tests::at;

    fn plain(diagnostic: &Diagnostic) -> String {
        text(diagnostic, Style::Plain).to_string()
    }

    #[test]
    fn an_error_shows_its_line_and_what_to_do() {
        let diagnostic = Diagnostic::error(at("  80: 70000", "70000"), "70000 is not a port")
            .help("use 1-65535");
        assert_eq!(
            plain(&diagnostic),
            "rules.yaml:7:7: error: 70000 is not a port\n 7 |   80: 70000\n   |       ^^^^^\n\
             help: use 1-65535\n"
        );
    }

    #[test]
    fn related_places_share_the_gutter() {
        let mut diagnostic = Diagnostic::error(at("80: 2", "80"), "80/tcp is mapped twice");
        let mut first = at("80: 1", "80").expect("a place");
        first.position.as_mut().expect("a position").line = Some(1234);
        diagnostic.related.push((first, "first mapped here".into()));
        assert_eq!(
            plain(&diagnostic),
            "rules.yaml:7:1: error: 80/tcp is mapped twice\n    7 | 80: 2\n      | ^^\n\
             rules.yaml:1234:1: first mapped here\n 1234 | 80: 1\n      | ^^\n"
        );
    }

    #[test]
    fn control_characters_of_the_file_do_not_reach_the_terminal() {
        let text = "a\u{1b}[2J\u{202e}b: x";
        let shown = plain(&Diagnostic::error(at(text, "x"), format!("no {text}")));
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown}");
        let caret = shown.lines().last().expect("lines").find('^').expect("caret");
        assert_eq!(shown.lines().nth(1).expect("lines").chars().nth(caret), Some('x'));
    }

    #[test]
    fn a_tab_moves_the_caret_as_it_moves_the_text() {
        let shown = plain(&Diagnostic::error(at("\t80: x", "x"), "m"));
        assert!(shown.contains("\n 7 |     80: x\n   |         ^\n"), "{shown}");
    }

    #[test]
    fn wide_characters_move_the_caret_by_two() {
        let shown = plain(&Diagnostic::error(at("端口: x", "x"), "m"));
        assert!(shown.contains("\n   |       ^\n"), "{shown}");
    }

    #[test]
    fn a_very_long_line_is_cut_around_the_column() {
        let text = format!("{}x{}", "a".repeat(100_000), "b".repeat(100_000));
        let shown = plain(&Diagnostic::error(at(&text, "x"), "m"));
        assert!(shown.len() < 500, "{}", shown.len());
        assert!(shown.contains(&format!("…{}x{}…", "a".repeat(60), "b".repeat(59))), "{shown}");
    }

    #[test]
    fn color_comes_only_when_asked_for() {
        let diagnostic = Diagnostic::warning(None, "m");
        assert_eq!(plain(&diagnostic), "warning: m\n");
        assert_eq!(text(&diagnostic, Style::Colored).to_string(), "\x1b[1;33mwarning\x1b[0m: m\n");
    }
}
