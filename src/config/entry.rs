//! The tree of one file to its entries, each checked for itself.

use std::sync::Arc;

use crate::diagnostic::quoted;
use crate::mapping::{Family, Port, Selector};

use super::Lookup;
use super::document::{self, Kind, NodeRef};
use super::fields::not_a_key;
use super::report::{Complaint, Report, Spot};
use super::selector::{Criteria, Said};
use super::value::{self, Ports, Protocols};

pub(super) const FILE_KEYS: [&str; 2] = ["ports", "defaults"];
pub(super) const CRITERIA_KEYS: [&str; 6] =
    ["protocol", "scope", "families", "interfaces", "sources", "addresses"];
/// Of an entry under its port.
pub(super) const ENTRY_KEYS: [&str; 8] =
    ["to", "comment", "protocol", "scope", "families", "interfaces", "sources", "addresses"];
/// Of an entry in a sequence.
pub(super) const ITEM_KEYS: [&str; 9] = [
    "port",
    "to",
    "comment",
    "protocol",
    "scope",
    "families",
    "interfaces",
    "sources",
    "addresses",
];

/// Names of interfaces in one list.
const INTERFACES_MAX: usize = 256;

/// One entry, which is a mapping for each of its ports, protocols and selectors.
pub(super) struct Entry {
    pub ports: Ports,
    pub protocols: Protocols,
    /// Where the first port goes; the others follow.
    pub to: Port,
    pub selectors: Arc<[Selector]>,
    pub comment: Option<Arc<str>>,
    pub spot: Spot,
    pub to_spot: Spot,
}

impl Entry {
    pub(super) fn targets(&self) -> Ports {
        let last = Port::new(self.to.get() + self.ports.span());
        Ports { first: self.to, last: last.unwrap_or(self.to) }
    }
}

/// Adds the entries of one file to `entries` and its problems to `report`.
pub(super) fn read(
    text: &str,
    source: u32,
    services: &Lookup,
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
    let mut reader = Reader {
        services,
        report,
        defaults: Criteria::default(),
        everyone: Arc::new([Selector::ANYONE]),
    };
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

pub(super) struct Reader<'r> {
    services: &'r Lookup<'r>,
    pub(super) report: &'r mut Report,
    defaults: Criteria,
    /// The selectors of an entry that says nothing.
    everyone: Arc<[Selector]>,
}

impl Reader<'_> {
    fn file(&mut self, root: NodeRef, entries: &mut Vec<Entry>) {
        if root.kind() != Kind::Mapping {
            let complaint = Complaint::new("the file is not a mapping")
                .help("begin with `ports:`, and below it, indented, `80: 3000`");
            return self.report.error(root.spot(), complaint);
        }
        let mut ports = None;
        for (name, _, value) in self.fields(root, &FILE_KEYS, misplaced_entry) {
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
                    .help(format!("its keys are {}", value::listed(&CRITERIA_KEYS)));
                return self.report.error(node.spot(), complaint);
            }
        }
        let mut criteria = Criteria::default();
        for (name, key, value) in self.fields(node, &CRITERIA_KEYS, not_a_default) {
            self.criterion(&mut criteria, name, key, value, false);
        }
        match criteria.selectors() {
            Ok(selectors) => {
                self.everyone = selectors;
                self.defaults = criteria;
            }
            Err((spot, complaint)) => self.report.error(spot, complaint),
        }
    }

    fn ports(&mut self, node: NodeRef, entries: &mut Vec<Entry>) {
        match node.kind() {
            Kind::Mapping if node.children().next().is_some() => self.mapping(node, entries),
            Kind::Sequence if node.children().next().is_some() => self.sequence(node, entries),
            Kind::Scalar(text) => {
                let complaint = Complaint::new(format!("`ports` is {}", quoted(text)));
                let help = "put each entry on a line of its own, indented: `80: 3000`";
                self.report.error(node.spot(), complaint.help(help));
            }
            _ => self.report.error(node.spot(), nothing("`ports` is empty")),
        }
    }

    fn mapping(&mut self, node: NodeRef, entries: &mut Vec<Entry>) {
        let mut merges = None;
        for (key, value) in node.pairs() {
            match key.text() {
                Some("<<") => self.merge_key(&mut merges, key, value),
                Some(text) => entries.extend(self.keyed(key, text, value)),
                None => self.report.error(key.spot(), not_a_key()),
            }
        }
        for (text, key, value) in self.merged(node, merges) {
            entries.extend(self.keyed(key, text, value));
        }
    }

    fn keyed(&mut self, key: NodeRef, text: &str, value: NodeRef) -> Option<Entry> {
        match value.kind() {
            Kind::Scalar(to) => self.short(key, text, value, to),
            Kind::Mapping => self.long(key, Some((key, text)), value),
            Kind::Null => {
                let complaint = Complaint::new(format!("{} goes nowhere", quoted(text)))
                    .help(format!("write the target behind it: `{text}: 3000`"));
                self.fail(key, complaint)
            }
            Kind::Sequence => {
                let complaint = Complaint::new("an entry has one target, not a list")
                    .help("to choose by client, make `ports` a list of `{ port: …, to: … }`");
                self.fail(value, complaint)
            }
        }
    }

    fn sequence(&mut self, node: NodeRef, entries: &mut Vec<Entry>) {
        for item in node.children() {
            match item.kind() {
                Kind::Mapping => entries.extend(self.long(item, None, item)),
                Kind::Scalar(text) => {
                    let complaint = Complaint::new(format!("{} is not an entry", quoted(text)))
                        .help("in a list, an entry is `{ port: 80, to: 3000 }`");
                    self.report.error(item.spot(), complaint);
                }
                _ => {
                    let complaint = Complaint::new("this item is not an entry")
                        .help("in a list, an entry is `{ port: 80, to: 3000 }`");
                    self.report.error(item.spot(), complaint);
                }
            }
        }
    }

    /// `80: 3000`.
    fn short(&mut self, key: NodeRef, text: &str, value: NodeRef, to: &str) -> Option<Entry> {
        let left = self.left(key, text, self.defaults.protocols());
        let right = self.right(value, to);
        let (ports, said) = left?;
        let to = right?;
        self.check_widths(ports, to, value)?;
        Some(Entry {
            ports,
            protocols: said.unwrap_or(self.defaults.protocols()),
            to: to.first,
            selectors: self.everyone.clone(),
            comment: None,
            spot: key.spot(),
            to_spot: value.spot(),
        })
    }

    /// An entry with keys; its port is outside of it, or one of them.
    fn long(
        &mut self,
        at: NodeRef,
        outside: Option<(NodeRef, &str)>,
        body: NodeRef,
    ) -> Option<Entry> {
        let known: &[&str] = if outside.is_some() { &ENTRY_KEYS } else { &ITEM_KEYS };
        let before = self.report.errors();
        let mut said = Criteria::default();
        let (mut port, mut to, mut comment) = (outside, None, None);
        for (name, key, value) in self.fields(body, known, misplaced_key) {
            match name {
                "port" => port = self.scalar(name, value).map(|text| (value, text)),
                "to" => to = self.scalar(name, value).map(|text| (value, text)),
                "comment" => comment = self.comment(value),
                _ => self.criterion(&mut said, name, key, value, true),
            }
        }
        let is_sound = self.report.errors() == before;
        if is_sound {
            self.check_complete(at, port.is_some(), to.is_some());
        }
        let protocols = said.protocols.clone();
        let criteria = said.or(&self.defaults);
        let left = port.and_then(|(node, text)| {
            let (ports, suffix) = self.left(node, text, criteria.protocols())?;
            self.check_protocol_said_once(node, suffix, protocols.as_ref())?;
            Some((node, ports, suffix.unwrap_or(criteria.protocols())))
        });
        let right = to.and_then(|(node, text)| Some((node, self.right(node, text)?)));
        let selectors = if is_sound { self.selectors(&criteria) } else { None };
        let ((node, ports, protocols), (to_node, to)) = (left?, right?);
        self.check_widths(ports, to, to_node)?;
        Some(Entry {
            ports,
            protocols,
            to: to.first,
            selectors: selectors?,
            comment,
            spot: node.spot(),
            to_spot: to_node.spot(),
        })
    }

    fn left(
        &mut self,
        node: NodeRef,
        text: &str,
        unless_said: Protocols,
    ) -> Option<(Ports, Option<Protocols>)> {
        self.take(node, value::service(text, unless_said, self.services))
    }

    fn right(&mut self, node: NodeRef, text: &str) -> Option<Ports> {
        self.take(node, value::target(text))
    }

    fn comment(&mut self, node: NodeRef) -> Option<Arc<str>> {
        let text = self.scalar("comment", node)?;
        self.take(node, value::comment(text)).map(Arc::from)
    }

    fn selectors(&mut self, criteria: &Criteria) -> Option<Arc<[Selector]>> {
        match criteria.selectors() {
            Ok(selectors) => Some(selectors),
            Err((spot, complaint)) => {
                self.report.error(spot, complaint);
                None
            }
        }
    }

    fn check_widths(&mut self, ports: Ports, to: Ports, node: NodeRef) -> Option<()> {
        if ports.span() == to.span() {
            return Some(());
        }
        let width = |ports: Ports| match ports.span() {
            0 => "one port".to_owned(),
            more => format!("{} ports", u32::from(more) + 1),
        };
        let message = format!("{ports} is {}, {to} is {}", width(ports), width(to));
        let complaint = Complaint::new(message);
        let last = Port::new(to.first.get().saturating_add(ports.span()))
            .filter(|last| last.get() - to.first.get() == ports.span());
        self.fail(
            node,
            match last {
                Some(last) => complaint.help(format!(
                    "ranges go one to one; write `{}`",
                    Ports { first: to.first, last }
                )),
                None => complaint.help("ranges go one to one; both sides are equally wide"),
            },
        )
    }

    fn check_protocol_said_once(
        &mut self,
        node: NodeRef,
        suffix: Option<Protocols>,
        said: Option<&Said<Protocols>>,
    ) -> Option<()> {
        let (Some(_), Some(said)) = (suffix, said) else { return Some(()) };
        let complaint = Complaint::new("the protocol is said twice")
            .help("keep it behind the port, or in `protocol`")
            .related(said.spot, "and here");
        self.fail(node, complaint)
    }

    fn check_complete(&mut self, at: NodeRef, has_port: bool, has_to: bool) {
        let lacking = match (has_port, has_to) {
            (true, true) => return,
            (false, true) => "`port`",
            (true, false) => "`to`",
            (false, false) => "`port` and no `to`",
        };
        let complaint = Complaint::new(format!("the entry has no {lacking}"))
            .help("an entry needs both: `{ port: 80, to: 3000 }`");
        self.report.error(at.spot(), complaint);
    }

    /// Reads one of [`CRITERIA_KEYS`].
    fn criterion(
        &mut self,
        into: &mut Criteria,
        name: &str,
        key: NodeRef,
        node: NodeRef,
        in_entry: bool,
    ) {
        let spot = key.spot();
        // An empty list takes back what the defaults say; where they say nothing, it may be meant
        // as "nobody", and must not become "anybody".
        let is_default = |named: bool| in_entry && named;
        let interfaces = is_default(self.defaults.interfaces.is_some());
        let sources = is_default(self.defaults.sources.is_some());
        let addresses = is_default(self.defaults.addresses.is_some());
        match name {
            "protocol" => {
                let all = |list: Vec<Protocols>| {
                    list.into_iter().fold(Protocols::default(), Protocols::union)
                };
                into.protocols =
                    Said::at(spot, self.list(name, node, false, value::protocols).map(all));
            }
            "scope" => {
                let text = self.scalar(name, node);
                let scope = text.and_then(|text| self.take(node, value::scope(text)));
                into.scope = Said::at(spot, scope);
            }
            "families" => {
                let families = self.list(name, node, false, value::family);
                into.families = Said::at(spot, families.map(|list| both_or_one(&list)));
            }
            "interfaces" => {
                let list = self.list(name, node, interfaces, value::interface);
                let list = list.filter(|list| self.check_few(node, list.len()));
                into.interfaces = Said::at(spot, list);
            }
            "sources" => {
                into.sources = Said::at(spot, self.list(name, node, sources, value::network));
            }
            _ => {
                into.addresses = Said::at(spot, self.list(name, node, addresses, value::network));
            }
        }
    }

    fn check_few(&mut self, node: NodeRef, interfaces: usize) -> bool {
        if interfaces <= INTERFACES_MAX {
            return true;
        }
        let message = format!("{interfaces} interfaces are more than {INTERFACES_MAX}");
        self.report.error(node.spot(), Complaint::new(message).help("name a group by `wg*`"));
        false
    }
}

fn both_or_one(families: &[Family]) -> Family {
    match families {
        [first, rest @ ..] if rest.iter().all(|family| family == first) => *first,
        _ => Family::Both,
    }
}

fn looks_like_port(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

/// `80: 3000` at the top of the file.
fn misplaced_entry(text: &str) -> Option<String> {
    looks_like_port(text).then(|| "entries stand below `ports:`, indented".into())
}

/// `- 80: 3000`.
fn misplaced_key(text: &str) -> Option<String> {
    looks_like_port(text).then(|| {
        "in a list, an entry is `{ port: 80, to: 3000 }`; or remove the dashes of all entries"
            .into()
    })
}

fn not_a_default(text: &str) -> Option<String> {
    matches!(text, "to" | "comment" | "port").then(|| "it belongs to one entry".into())
}
