//! What did not come from us, made harmless for a terminal and its reader.

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

/// Control characters, and those that reorder or hide text: the format characters (general category
/// Cf) and the line separators of Unicode, its fillers, and the supplementary variation selectors
/// (Unicode Technical Report 36, Unicode Standard Annex 9).
pub fn is_hidden(c: char) -> bool {
    let is_format = matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
        | '\u{8e2}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e01ef}');
    let is_filler = matches!(
        c,
        '\u{34f}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{ffa0}'
    );
    c.is_control() || is_format || is_filler
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
}
