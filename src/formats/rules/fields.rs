//! The keys of a mapping, merge keys followed, and their values.

use std::collections::HashSet;

use crate::formats::closest;
use crate::formats::diagnostic::{listed, quoted};

use super::document::{Kind, NodeRef};
use super::mistakes;
use super::report::{Complaint, Report};

/// A key of a long entry that was recognised, with its value.
pub(super) type Field<'a> = (&'a str, NodeRef<'a>, NodeRef<'a>);

/// What to do about an unknown key, if more is known than the keys themselves tell.
pub(super) type Hint = fn(&str) -> Option<String>;

impl Report {
    /// A list of scalars, or one scalar; `None` if anything in it was wrong.
    pub(super) fn list<T>(
        &mut self,
        name: &str,
        node: NodeRef,
        empty_allowed: bool,
        read: impl Fn(&str) -> Result<T, Complaint>,
    ) -> Option<Vec<T>> {
        if node.kind() != Kind::Sequence {
            let text = self.scalar(name, node)?;
            return self.take(node, read(text)).map(|value| vec![value]);
        }
        let mut values = Some(Vec::new());
        for item in node.children() {
            let text = self.scalar(name, item);
            match (text.and_then(|text| self.take(item, read(text))), &mut values) {
                (Some(value), Some(values)) => values.push(value),
                _ => values = None,
            }
        }
        if values.as_ref().is_some_and(Vec::is_empty) && !empty_allowed {
            let complaint = Complaint::new(format!("`{name}` is an empty list"))
                .help("leave it out to select everything");
            return self.fail(node, complaint);
        }
        values
    }

    pub(super) fn scalar<'a>(&mut self, name: &str, node: NodeRef<'a>) -> Option<&'a str> {
        let complaint = match node.kind() {
            Kind::Scalar(text) => return Some(text),
            Kind::Null => Complaint::new(format!("`{name}` has no value"))
                .help("write one after the colon, or remove the key"),
            Kind::Sequence => Complaint::new(format!("`{name}` takes one value here, not a list"))
                .help("write one value; put quotes around text that begins with `[`"),
            Kind::Mapping => {
                Complaint::new(format!("`{name}` takes one value here, not a mapping"))
                    .help("put quotes around text that ends with `:` or contains `: `")
            }
        };
        self.fail(node, complaint)
    }

    pub(super) fn take<T>(&mut self, node: NodeRef, result: Result<T, Complaint>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(complaint) => self.fail(node, complaint),
        }
    }

    pub(super) fn fail<T>(&mut self, node: NodeRef, complaint: Complaint) -> Option<T> {
        self.error(node.spot(), complaint);
        None
    }

    /// The keys of `node` that are known, merge keys followed. Others, and those that appear
    /// twice, are reported; `hint` may know what was meant by an unknown one.
    pub(super) fn fields<'a>(
        &mut self,
        node: NodeRef<'a>,
        known: &[&str],
        hint: Hint,
    ) -> Vec<Field<'a>> {
        let mut fields: Vec<Field> = Vec::new();
        let mut merges = None;
        for (key, value) in node.pairs() {
            let Some(text) = key.text() else {
                self.error(key.spot(), not_a_key(key));
                continue;
            };
            if text == "<<" {
                self.merge_key(&mut merges, key, value);
            } else if let Some((_, first, _)) = fields.iter().find(|(name, ..)| *name == text) {
                let complaint = Complaint::new(format!("the key {} is repeated", quoted(text)))
                    .help("remove one of them")
                    .related(first.spot(), "first here");
                self.error(key.spot(), complaint);
            } else if known.contains(&text) {
                fields.push((text, key, value));
            } else {
                self.error_with(key.spot(), || unknown_key(text, known, hint));
            }
        }
        for (text, key, value) in self.merged(node, merges) {
            if known.contains(&text) {
                fields.push((text, key, value));
            } else {
                self.error_with(key.spot(), || unknown_key(text, known, hint));
            }
        }
        fields
    }

    /// Remembers a mapping's one `<<`.
    pub(super) fn merge_key<'a>(
        &mut self,
        merges: &mut Option<(NodeRef<'a>, NodeRef<'a>)>,
        key: NodeRef<'a>,
        value: NodeRef<'a>,
    ) {
        if let Some((first, _)) = merges {
            let first = first.spot();
            self.error_with(key.spot(), || {
                Complaint::new("the key `<<` is repeated")
                    .help("merge both with one key: `<<: [*one, *two]`")
                    .related(first, "first here")
            });
        } else {
            *merges = Some((key, value));
        }
    }

    /// The pairs that a `<<` merges: those whose key neither `node` nor an earlier one of the merged
    /// mappings has.
    pub(super) fn merged<'a>(
        &mut self,
        node: NodeRef<'a>,
        merges: Option<(NodeRef<'a>, NodeRef<'a>)>,
    ) -> Vec<Field<'a>> {
        let Some((_, value)) = merges else { return Vec::new() };
        let mut said: HashSet<&str> = node.pairs().filter_map(|(key, _)| key.text()).collect();
        let mappings: Vec<_> = match value.kind() {
            Kind::Sequence => value.children().collect(),
            _ => vec![value],
        };
        let mut merged = Vec::new();
        for mapping in mappings {
            if mapping.kind() != Kind::Mapping {
                let complaint = Complaint::new("`<<` takes a mapping or a list of mappings");
                self.error(mapping.spot(), complaint);
            }
            for (key, value) in mapping.pairs().filter(|_| mapping.kind() == Kind::Mapping) {
                match key.text() {
                    Some("<<") => {
                        let complaint = Complaint::new(
                            "`<<` is not supported inside a mapping that is merged itself",
                        )
                        .help("merge both with one key: `<<: [*one, *two]`");
                        self.error(key.spot(), complaint);
                    }
                    Some(text) if said.insert(text) => merged.push((text, key, value)),
                    Some(_) => {}
                    None => self.error(key.spot(), not_a_key(key)),
                }
            }
        }
        merged
    }
}

/// A list or a mapping where a key belongs: `[80, 443]: 3000`.
pub(super) fn not_a_key(node: NodeRef) -> Complaint {
    let names: Vec<&str> =
        node.children().filter_map(NodeRef::text).filter(|t| !t.is_empty()).collect();
    let what = if node.kind() == Kind::Sequence { "a list" } else { "a mapping" };
    let complaint = Complaint::new(format!("{what} cannot be a key"));
    match names.len() {
        2..=8 => complaint.help(format!("write one entry for each: {}", listed(&names))),
        _ => complaint.help("check for a missing quote or comma"),
    }
}

fn unknown_key(text: &str, known: &[&str], hint: Hint) -> Complaint {
    let complaint = Complaint::new(format!("unknown key {}", quoted(text)));
    if let Some(hint) = hint(text) {
        return complaint.help(hint);
    }
    let meant = mistakes::key(text).filter(|meant| known.contains(meant));
    match meant.or_else(|| closest(text, known)) {
        Some("families") => {
            complaint.help("did you mean `families`? It takes `ipv4` or `ipv6`, or a list of both")
        }
        Some(meant) => complaint.help(format!("did you mean `{meant}`?")),
        None => complaint.help(format!("the keys here are {}", listed(known))),
    }
}
