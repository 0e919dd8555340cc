//! JSON that may be read at a terminal as well.

use serde::Serialize;

use super::escape::is_hidden;

/// A document, over several lines.
pub fn pretty(document: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string_pretty(document).map(harmless)
}

/// A document on a line.
pub fn line(document: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(document).map(harmless)
}

/// The same document. What JSON allows to stand for itself within a text, and a terminal acts on
/// (DEL and the control characters above it) or does not show, is escaped; outside of texts there
/// is nothing of the kind.
fn harmless(json: String) -> String {
    let is_hidden = |c: char| c != '\n' && is_hidden(c);
    if !json.contains(is_hidden) {
        return json;
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_hidden(c) {
            let mut units = [0; 2];
            let units = c.encode_utf16(&mut units);
            out.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_document_without_codes() {
        let text = "a\u{1b}[2J\u{7f}\u{9b}2J\u{202e}\u{e0041}é 日本 \"\\";
        for json in [pretty(&[text, "b"]).unwrap(), line(&[text, "b"]).unwrap()] {
            let codes = |c: char| c != '\n' && is_hidden(c);
            assert!(!json.contains(codes), "{json:?}");
            assert!(
                json.contains("é 日本") && json.contains(r"\u009b2J\u202e\udb40\udc41"),
                "{json}"
            );
            assert_eq!(serde_json::from_str::<[String; 2]>(&json).unwrap(), [text, "b"]);
        }
    }
}
