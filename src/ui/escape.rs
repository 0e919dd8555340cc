//! What did not come from us, made harmless for a terminal and its reader.

pub use crate::formats::hidden::is_hidden;

/// Columns that a tab takes.
const TAB: usize = 4;

/// `text` with everything escaped that would act on the terminal, reorder what is beside it, or
/// not be seen. A tab becomes spaces.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => (0..TAB).for_each(|_| out.push(' ')),
            c if is_hidden(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// The same of a text that has lines, and tabs at their beginnings.
pub fn visible_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if is_hidden(c) && !matches!(c, '\n' | '\t') => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_or_hides_is_escaped() {
        for c in [
            '\0',
            '\n',
            '\r',
            '\u{1b}',
            '\u{7f}',
            '\u{9b}',
            '\u{ad}',
            '\u{200b}',
            '\u{202e}',
            '\u{2066}',
            '\u{feff}',
            '\u{3164}',
            '\u{e0041}',
        ] {
            let shown = visible(&format!("a{c}b"));
            assert_eq!(shown, format!("a\\u{{{:x}}}b", u32::from(c)));
        }
    }

    #[test]
    fn text_of_any_language_shows_as_itself() {
        for text in ["a b", "é", "端口", "порт", "منفذ", "👍", "e\u{301}", "\\u{1b}"] {
            assert_eq!(visible(text), text);
        }
        assert_eq!(visible("\ta"), "    a");
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(visible_lines("{\n\ta\u{202e}\r\n}"), "{\n\ta\\u{202e}\\u{d}\n}");
    }
}
