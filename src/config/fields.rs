//! The keys of a mapping, merge keys followed, and the values behind them.

use std::collections::HashSet;

use crate::diagnostic::quoted;

use super::document::{Kind, NodeRef};
use super::entry::Reader;
use super::report::Complaint;
use super::value;

/// A key of a long entry that was recognised, with its value.
pub(super) type Field<'a> = (&'a str, NodeRef<'a>, NodeRef<'a>);

impl Reader<'_> {
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
                .help("leave it out where everything is meant");
            return self.fail(node, complaint);
        }
        values
    }

    pub(super) fn scalar<'a>(&mut self, name: &str, node: NodeRef<'a>) -> Option<&'a str> {
        let complaint = match node.kind() {
            Kind::Scalar(text) => return Some(text),
            Kind::Null => Complaint::new(format!("`{name}` has no value"))
                .help("write one behind it, or remove the key"),
            _ => Complaint::new(format!("`{name}` has a collection where one value belongs"))
                .help("if it is text with `: ` or brackets in it, quote it"),
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
        self.report.error(node.spot(), complaint);
        None
    }

    /// The keys of `node` that are known, merge keys followed. Others, and those that appear
    /// twice, are reported; `hint` may know what was meant by an unknown one.
    pub(super) fn fields<'a>(
        &mut self,
        node: NodeRef<'a>,
        known: &[&str],
        hint: fn(&str) -> Option<String>,
    ) -> Vec<Field<'a>> {
        let mut fields: Vec<Field> = Vec::new();
        let mut merges = None;
        for (key, value) in node.pairs() {
            let Some(text) = key.text() else {
                self.report.error(key.spot(), not_a_key());
                continue;
            };
            if text == "<<" {
                self.merge_key(&mut merges, key, value);
            } else if let Some((_, first, _)) = fields.iter().find(|(name, ..)| *name == text) {
                let complaint = Complaint::new(format!("{} appears twice", quoted(text)))
                    .help("remove one of them")
                    .related(first.spot(), "first here");
                self.report.error(key.spot(), complaint);
            } else if known.contains(&text) {
                fields.push((text, key, value));
            } else {
                self.report.error_with(key.spot(), || unknown_key(text, known, hint));
            }
        }
        for (text, key, value) in self.merged(node, merges) {
            if known.contains(&text) {
                fields.push((text, key, value));
            } else {
                self.report.error_with(key.spot(), || unknown_key(text, known, hint));
            }
        }
        fields
    }

    /// Takes note of a mapping's one `<<`.
    pub(super) fn merge_key<'a>(
        &mut self,
        merges: &mut Option<(NodeRef<'a>, NodeRef<'a>)>,
        key: NodeRef<'a>,
        value: NodeRef<'a>,
    ) {
        if let Some((first, _)) = merges {
            let first = first.spot();
            self.report.error_with(key.spot(), || {
                Complaint::new("`<<` appears twice")
                    .help("write a list behind one: `<<: [*one, *two]`")
                    .related(first, "first here")
            });
        } else {
            *merges = Some((key, value));
        }
    }

    /// What the mappings behind a `<<` say that neither `node` nor those before them do.
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
                let complaint = Complaint::new("`<<` merges mappings, and this is none");
                self.report.error(mapping.spot(), complaint);
            }
            for (key, value) in mapping.pairs().filter(|_| mapping.kind() == Kind::Mapping) {
                match key.text() {
                    Some("<<") => {
                        let complaint = Complaint::new("a `<<` in what a `<<` merges")
                            .help("list them side by side: `<<: [*one, *two]`");
                        self.report.error(key.spot(), complaint);
                    }
                    Some(text) if said.insert(text) => merged.push((text, key, value)),
                    Some(_) => {}
                    None => self.report.error(key.spot(), not_a_key()),
                }
            }
        }
        merged
    }
}

pub(super) fn not_a_key() -> Complaint {
    Complaint::new("a list or mapping cannot be a key").help("is a quote or a comma missing?")
}

fn unknown_key(text: &str, known: &[&str], hint: fn(&str) -> Option<String>) -> Complaint {
    match hint(text) {
        Some(hint) => Complaint::new(format!("unknown key {}", quoted(text))).help(hint),
        None => {
            let complaint = Complaint::new(format!("unknown key {}", quoted(text)));
            match value::closest(text, known) {
                Some(meant) => complaint.help(format!("did you mean `{meant}`?")),
                None => complaint.help(format!("the keys here are {}", value::listed(known))),
            }
        }
    }
}
