//! The file: YAML text to a [`MappingSet`], with every problem at its place, and back.
//!
//! The walk is text → `document` (a tree that knows its lines) → `entry` (what each entry
//! asks) → `resolve` (what they ask together). Only [`source`], [`trust`] and
//! [`services`] look at the file system.

#![forbid(unsafe_code)]

mod document;
mod entry;
mod fields;
mod report;
mod resolve;
mod selector;
pub mod services;
pub mod source;
pub mod trust;
mod value;
mod write;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::RangeInclusive;

use crate::diagnostic::{Diagnostic, Severity};
use crate::mapping::{MappingSet, Port, Protocol};
use report::Report;

pub use write::write;

/// The JSON Schema (draft 2020-12) of the file, for editors.
pub const SCHEMA: &str = include_str!("../schema/rules.schema.json");

/// The text of one file, and the name that messages give it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    pub name: String,
    /// Without a byte order mark.
    pub text: String,
}

/// What warnings depend on. The defaults are the kernel's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    /// `net.ipv4.ip_local_port_range`, for IPv6 as well (ip-sysctl.rst).
    pub ephemeral: RangeInclusive<u16>,
    /// `net.ipv4.ip_unprivileged_port_start`: who listens below needs `CAP_NET_BIND_SERVICE`.
    pub unprivileged_start: u16,
}

impl Default for Facts {
    fn default() -> Self {
        Self { ephemeral: 32768..=60999, unprivileged_start: 1024 }
    }
}

/// Finds a name of the services database, services(5).
pub type Lookup<'a> = dyn Fn(&str, Protocol) -> Option<Port> + 'a;

/// What the files say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// `Some` exactly if there are no errors.
    pub mappings: Option<MappingSet>,
    /// By file and line; at the end, how many more there are of what is frequent.
    pub diagnostics: Vec<Diagnostic>,
}

impl Loaded {
    /// Turns warnings into errors.
    pub fn strict(mut self) -> Self {
        for diagnostic in &mut self.diagnostics {
            diagnostic.severity = Severity::Error;
        }
        self.without_mappings_on_error()
    }

    /// Puts before the rest what was found wrong while reading the files.
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
pub fn load(sources: &[Source], facts: &Facts, services: &Lookup) -> Loaded {
    let mut report = Report::default();
    let mut entries = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        entry::read(&source.text, index as u32, services, &mut entries, &mut report);
    }
    resolve::warn(&entries, facts, &mut report);
    let mappings = resolve::resolve(&entries, &mut report);
    let mappings = if report.has_errors() { None } else { mappings };
    Loaded { mappings, diagnostics: report.finish(sources) }
}

/// A number for what `sources` mean: equal for equal names and texts, read by the same version of
/// portmap under the same `extra` (whatever else changes the meaning: facts, options). Collisions
/// are as rare as 64 bits allow; nothing but a shortcut may depend on it.
pub fn digest(sources: &[Source], extra: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    (env!("CARGO_PKG_VERSION"), sources, extra).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Given the keys of an object in the schema, they are those that the code reads.
    #[test]
    fn the_schema_knows_the_same_keys() {
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
        assert_eq!(keys("/properties"), sorted(&entry::FILE_KEYS));
        assert_eq!(keys("/properties/defaults/properties"), sorted(&entry::CRITERIA_KEYS));
        assert_eq!(keys("/$defs/entry/properties"), sorted(&entry::ENTRY_KEYS));
        assert_eq!(keys("/$defs/item/properties"), sorted(&entry::ITEM_KEYS));
    }
}
