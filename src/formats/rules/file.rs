//! A whole file: its keys, and the entries under `ports`, as a mapping or as a list.

use std::sync::Arc;

use crate::formats::diagnostic::{excerpt, listed, quoted};
use crate::mapping::Selector;

use super::criteria::{self, CRITERIA_KEYS};
use super::document::{self, Kind, NodeRef};
use super::entry::{Entry, Reader};
use super::fields::not_a_key;
use super::mistakes::{self, Form};
use super::report::{Complaint, Report, Spot};
use super::selector::Criteria;
use super::source::Names;

pub(super) const FILE_KEYS: [&str; 2] = ["ports", "defaults"];

/// What an entry of a list looks like.
const AN_ITEM: &str = "an entry of a list is `{ port: 80, to: 3000 }`";

/// Adds the entries of one file to `entries` and its problems to `report`.
pub(super) fn read(
    text: &str,
    source: u32,
    names: Names,
    entries: &mut Vec<Entry>,
    report: &mut Report,
) {
    if let Some((spot, complaint)) = not_text(text, source) {
        return report.error(spot, complaint);
    }
    let tree = match document::parse(text, source) {
        Ok(tree) => tree,
        Err((spot, complaint)) => return report.error(spot, complaint),
    };
    let whole = Spot { source, ..Spot::default() };
    let defaults = Criteria::default();
    let everyone = Arc::new([Selector::ANYONE]);
    let mut reader = Reader { names, report, defaults, everyone };
    match tree.root() {
        Some(root) if root.kind() != Kind::Null => reader.file(root, entries),
        _ => reader.report.error(whole, nothing("the file is empty")),
    }
}

/// The first character that no text file has (YAML 1.2.2, section 5.1).
fn not_text(text: &str, source: u32) -> Option<(Spot, Complaint)> {
    let is_bad = |b: u8| (b < b' ' && !matches!(b, b'\t' | b'\n' | b'\r')) || b == 0x7f;
    let offset = text.bytes().position(is_bad)?;
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let spot = Spot {
        source,
        line: before.bytes().filter(|&b| b == b'\n').count() as u32 + 1,
        column: before[line_start..].chars().count() as u32,
        length: 1,
    };
    let message = format!("byte 0x{:02x} here is not text", text.as_bytes()[offset]);
    Some((spot, Complaint::new(message).help("is this the right file?")))
}

fn nothing(message: &str) -> Complaint {
    Complaint::new(message).help("to remove all mappings, use `portmap clear`")
}

impl Reader<'_> {
    fn file(&mut self, root: NodeRef, entries: &mut Vec<Entry>) {
        if root.kind() != Kind::Mapping {
            let complaint = Complaint::new("the file has no `ports:`")
                .help("write `ports:`, and the entries under it, indented: `80: 3000`");
            return self.report.error(root.spot(), complaint);
        }
        let mut ports = None;
        for (name, _, value) in self.report.fields(root, &FILE_KEYS, entry_without_ports) {
            match name {
                "ports" => ports = Some(value),
                _ => self.defaults(value),
            }
        }
        match ports {
            Some(ports) => self.ports(ports, entries),
            None if self.report.has_errors() => {}
            None => self.report.error(root.spot(), nothing("the file has no `ports`")),
        }
    }

    fn defaults(&mut self, node: NodeRef) {
        match node.kind() {
            Kind::Null => return,
            Kind::Mapping => {}
            _ => {
                let complaint = Complaint::new("`defaults` is not a mapping")
                    .help(format!("its keys are {}", listed(&CRITERIA_KEYS)));
                return self.report.error(node.spot(), complaint);
            }
        }
        let mut defaults = Criteria::default();
        for (name, key, value) in self.report.fields(node, &CRITERIA_KEYS, not_a_default) {
            criteria::read(&mut defaults, name, key, value, None, self.names, self.report);
        }
        match defaults.selectors() {
            Ok(selectors) => {
                defaults.warn(self.report);
                self.everyone = selectors;
                self.defaults = defaults;
            }
            Err((spot, complaint)) => self.report.error(spot, complaint),
        }
    }

    fn ports(&mut self, node: NodeRef, entries: &mut Vec<Entry>) {
        match node.kind() {
            Kind::Mapping if node.children().next().is_some() => self.mapping(node, entries),
            Kind::Sequence if node.children().next().is_some() => self.sequence(node, entries),
            Kind::Scalar(text) => {
                // Lines without a space after the colon are one text, which goes over all of them.
                let first = text.split(' ').next().unwrap_or_default();
                let meant = [text, first].iter().find_map(|text| mistakes::entry(text, Form::Line));
                let help = match meant {
                    Some(meant) => instead(text, &meant),
                    None => "write each entry on a line of its own, indented: `80: 3000`".into(),
                };
                let complaint = Complaint::new(format!("{} is not an entry", quoted(text)));
                self.report.error(node.spot(), complaint.help(help));
            }
            _ => self.report.error(node.spot(), nothing("`ports` is empty")),
        }
    }

    fn mapping(&mut self, node: NodeRef, entries: &mut Vec<Entry>) {
        if self.is_item_without_dash(node) {
            return;
        }
        let mut merges = None;
        for (key, value) in node.pairs() {
            match key.text() {
                Some("<<") => self.report.merge_key(&mut merges, key, value),
                Some(text) => entries.extend(self.keyed(key, text, value)),
                None => self.report.error(key.spot(), not_a_key(key)),
            }
        }
        for (text, key, value) in self.report.merged(node, merges) {
            entries.extend(self.keyed(key, text, value));
        }
    }

    /// `port: 80` and `to: 3000` directly under `ports:`.
    fn is_item_without_dash(&mut self, node: NodeRef) -> bool {
        let keys = || node.pairs().filter_map(|(key, _)| key.text());
        let is_item = keys().any(|key| key == "port") && keys().any(|key| key == "to");
        if is_item {
            let complaint = Complaint::new("an entry with `port` and `to` belongs in a list")
                .help("put a `-` before `port`, or write `80: 3000`");
            self.report.error(node.spot(), complaint);
        }
        is_item
    }

    fn keyed(&mut self, key: NodeRef, text: &str, value: NodeRef) -> Option<Entry> {
        let complaint = match value.kind() {
            Kind::Scalar(to) => return self.short(key, text, value, to),
            Kind::Mapping => return self.long(key, Some((key, text)), value),
            Kind::Null => {
                let meant = mistakes::entry(text, Form::Line);
                let complaint = match meant {
                    Some(meant) => Complaint::new(format!("{} is not an entry", quoted(text)))
                        .help(instead(text, &meant)),
                    None => Complaint::new(format!("{} has no target", quoted(text)))
                        .help(format!("write it after the colon: `{}: 3000`", excerpt(text))),
                };
                return self.report.fail(key, complaint);
            }
            Kind::Sequence => Complaint::new("an entry has one target, not a list").help(
                "to choose a target by client, write `ports` as a list of `{ port: …, to: … }`",
            ),
        };
        self.report.fail(value, complaint)
    }

    fn sequence(&mut self, node: NodeRef, entries: &mut Vec<Entry>) {
        for item in node.children() {
            let complaint = match item.kind() {
                Kind::Mapping => {
                    entries.extend(self.long(item, None, item));
                    continue;
                }
                Kind::Scalar(text) => {
                    let complaint = Complaint::new(format!("{} is not an entry", quoted(text)));
                    match mistakes::entry(text, Form::Item) {
                        Some(meant) => complaint.help(format!("in a list, write `{meant}`")),
                        None => complaint.help(AN_ITEM),
                    }
                }
                Kind::Sequence => Complaint::new("a list is not an entry").help(AN_ITEM),
                Kind::Null => Complaint::new("this item is empty").help(AN_ITEM),
            };
            self.report.error(item.spot(), complaint);
        }
    }
}

fn instead(text: &str, meant: &str) -> String {
    match text.contains(':') {
        true => format!("write `{meant}`, with a space after the colon"),
        false => format!("write `{meant}`"),
    }
}

/// `80: 3000` at the top of the file.
fn entry_without_ports(text: &str) -> Option<String> {
    let is_port = text.starts_with(|c: char| c.is_ascii_digit());
    is_port.then(|| "entries go under `ports:`, indented".into())
}

fn not_a_default(text: &str) -> Option<String> {
    matches!(text, "to" | "comment" | "port")
        .then(|| format!("`{text}` belongs to a single entry, not to `defaults`"))
}
