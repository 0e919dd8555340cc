//! Text for a shell to type.

use std::path::Path;

/// A path as one word of a command, in quotes where a shell needs them. What begins with a dash is
/// not taken for an option.
pub fn shell_quoted(path: impl AsRef<Path>) -> String {
    let text = path.as_ref().to_string_lossy();
    let text = if text.starts_with('-') { format!("./{text}").into() } else { text };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Whether this name of a table or chain is one word to nft (`string` in its scanner), and so to a
/// shell. The kernel takes any name: typed in a command, `a; flush ruleset` would be two, also in
/// quotes, as nft reads its arguments as one line.
pub fn is_nft_word(name: &str) -> bool {
    let goes_on = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphabetic() || "_.".contains(c))
        && name.chars().all(goes_on)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_be_a_command_is_not_a_word() {
        for name in
            ["a; flush ruleset", "a;b", "a b", "a\u{1b}[2J", "1a", "", "$(reboot)", "é", "-a"]
        {
            assert!(!is_nft_word(name), "{name}");
        }
        for name in ["filter", "ufw-user-input", "_a/b.c"] {
            assert!(is_nft_word(name), "{name}");
        }
    }

    #[test]
    fn only_what_needs_quotes_has_them() {
        for (path, quoted) in [
            ("/etc/portmap/web.yaml", "/etc/portmap/web.yaml"),
            ("my rules.yaml", "'my rules.yaml'"),
            ("it's", r"'it'\''s'"),
            ("$(reboot).yaml", "'$(reboot).yaml'"),
            ("a;b", "'a;b'"),
            ("-rf", "./-rf"),
            ("", "''"),
        ] {
            assert_eq!(shell_quoted(path), quoted);
        }
    }
}
