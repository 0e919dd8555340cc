//! Long texts on narrow lines.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// `text` in lines of at most `width` columns, at least one: broken after a blank, or else after
/// `-`, `/` and `,`, or else anywhere. A character that is wider than that has its own line.
pub fn wrapped(text: &str, width: usize) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while rest.trim_end().width() > width {
        let (line, next) = rest.split_at(break_at(rest, width));
        lines.push(line.trim_end());
        rest = next.trim_start();
    }
    if lines.is_empty() || !rest.is_empty() {
        lines.push(rest.trim_end());
    }
    lines
}

/// Where the first line ends; after at least one character.
fn break_at(text: &str, width: usize) -> usize {
    let mut used = 0;
    let (mut blank, mut joint, mut fits) = (0, 0, 0);
    for (at, c) in text.char_indices() {
        if c == ' ' {
            // A blank at the end of a line is not seen.
            blank = at;
        }
        used += c.width().unwrap_or_default();
        if used > width {
            break;
        }
        fits = at + c.len_utf8();
        if matches!(c, '-' | '/' | ',') {
            joint = fits;
        }
    }
    let first = text.chars().next().map_or(0, char::len_utf8);
    [blank, joint, fits, first].into_iter().find(|at| *at > 0).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::wrapped;

    #[test]
    fn a_line_is_broken_between_words() {
        assert_eq!(wrapped("a bc def", 8), ["a bc def"]);
        assert_eq!(wrapped("a bc def", 4), ["a bc", "def"]);
        assert_eq!(wrapped("a bc def", 5), ["a bc", "def"]);
        assert_eq!(wrapped("", 5), [""]);
    }

    #[test]
    fn a_long_word_is_broken_where_it_has_a_joint_and_else_anywhere() {
        assert_eq!(wrapped("6000-6063/tcp", 10), ["6000-6063/", "tcp"]);
        assert_eq!(wrapped("6000-6063/tcp", 6), ["6000-", "6063/", "tcp"]);
        assert_eq!(wrapped("from 2001:db8::/32", 6), ["from", "2001:d", "b8::/", "32"]);
        assert_eq!(wrapped("abcdef", 1), ["a", "b", "c", "d", "e", "f"]);
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(wrapped("日本語", 4), ["日本", "語"]);
        assert_eq!(wrapped("日本", 1), ["日", "本"]);
        assert_eq!(wrapped("e\u{301}e\u{301}", 1), ["e\u{301}", "e\u{301}"]);
    }
}
