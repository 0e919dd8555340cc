//! The rules file: YAML text to a [`MappingSet`], with every problem at its place, and back; and
//! mappings on the command line, which are entries in the same words.
//!
//! The walk is text → `document` (a tree that knows its lines) → `file` and `entry` (each entry by
//! itself), or `argument` → `resolve` (all entries together). Nothing here opens a file.

#![forbid(unsafe_code)]

mod advice;
mod agreement;
mod argument;
mod criteria;
mod document;
mod entry;
mod fields;
mod file;
mod mistakes;
mod network;
mod ports;
mod report;
mod resolve;
mod selector;
mod source;
mod syntax;
mod value;
mod write;

use crate::formats::diagnostic::{Diagnostic, Severity};
use crate::mapping::{Digest, MappingSet};
use entry::Entry;
use report::Report;
use source::Form;

pub use argument::{NamedPorts, Shape, named_ports, shape, without_target};
pub use source::{Facts, Names, Services, Source};
pub use write::write;

/// The JSON Schema (draft 2020-12) of the file, for editors.
pub const SCHEMA: &str = include_str!("../../schema/rules.schema.json");

/// What the sources say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// `Some` exactly if there are no errors.
    pub mappings: Option<MappingSet>,
    /// By source and line; at the end, how many more there are of what is frequent.
    pub diagnostics: Vec<Diagnostic>,
}

impl Loaded {
    /// Turns warnings into errors. Notes stay notes.
    pub fn strict(mut self) -> Self {
        for diagnostic in &mut self.diagnostics {
            if diagnostic.severity == Severity::Warning {
                diagnostic.severity = Severity::Error;
            }
        }
        self.without_mappings_on_error()
    }

    /// Adds, before the rest, what was found while reading the files.
    pub fn after(mut self, mut found: Vec<Diagnostic>) -> Self {
        found.append(&mut self.diagnostics);
        self.diagnostics = found;
        self.without_mappings_on_error()
    }

    fn without_mappings_on_error(mut self) -> Self {
        if self.diagnostics.iter().any(Diagnostic::is_error) {
            self.mappings = None;
        }
        self
    }
}

/// Reads and merges `sources`. Opens nothing; all problems of all sources are found in one run.
pub fn load(sources: &[Source], facts: &Facts, names: Names) -> Loaded {
    let mut report = Report::default();
    let mut entries = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        read(source, index as u32, names, &mut entries, &mut report);
    }
    advice::advise(&entries, facts, &mut report);
    let mappings = resolve::resolve(&entries, &mut report);
    let mappings = if report.has_errors() { None } else { mappings };
    Loaded { mappings, diagnostics: report.finish(sources) }
}

fn read(source: &Source, index: u32, names: Names, entries: &mut Vec<Entry>, report: &mut Report) {
    match source.form {
        Form::File => file::read(&source.text, index, names, entries, report),
        Form::Argument => argument::read(&source.text, index, names, entries, report),
    }
}

/// The text under which a mapping is kept in the history: that of [`write()`], and none for the empty
/// mapping. The same mapping has the same text, whatever files it came from.
pub fn text(set: &MappingSet) -> String {
    if set.is_empty() { String::new() } else { write(set) }
}

/// The mapping of a [`text`], under `name` in the history. `None` if it does not read as one. Only
/// its form is checked: what was once applied can be restored even if a later version of portmap
/// would advise against it.
pub fn parse_stored(name: &str, text: String) -> Option<MappingSet> {
    if text.is_empty() {
        return Some(MappingSet::default());
    }
    let source = Source::file(name, text);
    let (mut report, mut entries) = (Report::default(), Vec::new());
    read(&source, 0, Names::NONE, &mut entries, &mut report);
    let mappings = resolve::merge(&entries, &mut report);
    if report.has_errors() { None } else { mappings }
}

/// A digest of what `sources` mean: equal for equal names and texts, read by the same version of
/// portmap under the same facts, with the same `extra` (whatever else changes the meaning).
pub fn digest(sources: &[Source], facts: &Facts, extra: &[&[u8]]) -> Digest {
    let facts = format!("{facts:?}");
    let fixed = [env!("CARGO_PKG_VERSION"), &facts].map(str::as_bytes);
    let texts = sources.iter().flat_map(|Source { name, text, form }| {
        let form: &[u8] = if *form == Form::File { b"file" } else { b"argument" };
        [form, name.as_bytes(), text.as_bytes()]
    });
    // The number of the extra parts tells them from the sources.
    let count = [extra.len() as u8];
    let count = [&count[..]];
    Digest::of(fixed.into_iter().chain(count).chain(extra.iter().copied()).chain(texts))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Given the keys of an object in the schema, they are those that the code reads.
    #[test]
    fn the_schema_has_the_same_keys() {
        let schema: serde_json::Value = serde_json::from_str(SCHEMA).expect("JSON");
        let keys = |pointer: &str| {
            let object = schema.pointer(pointer).and_then(|object| object.as_object());
            let mut keys: Vec<_> = object.expect(pointer).keys().cloned().collect();
            keys.sort();
            keys
        };
        let sorted = |known: &[&str]| {
            let mut known: Vec<_> = known.iter().map(ToString::to_string).collect();
            known.sort();
            known
        };
        assert_eq!(keys("/properties"), sorted(&file::FILE_KEYS));
        assert_eq!(keys("/properties/defaults/properties"), sorted(&criteria::CRITERIA_KEYS));
        assert_eq!(keys("/$defs/entry/properties"), sorted(entry::ENTRY_KEYS));
        assert_eq!(keys("/$defs/item/properties"), sorted(&entry::ITEM_KEYS));
    }
}
