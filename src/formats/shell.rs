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

#[cfg(test)]
mod tests {
    use super::*;

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
