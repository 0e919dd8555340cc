//! One entry of a file, checked for itself.

use std::sync::Arc;

use crate::mapping::{Comment, Direct, Mapping, PortRange, Selector, User};

use super::document::NodeRef;
use super::fields::Hint;
use super::ports::Protocols;
use super::report::{Complaint, Report, Spot};
use super::selector::{Criteria, Said};
use super::source::Names;
use super::{criteria, mistakes, value};

/// Of an entry in a list.
pub(super) const ITEM_KEYS: [&str; 11] = [
    "port",
    "to",
    "comment",
    "protocol",
    "scope",
    "families",
    "interfaces",
    "sources",
    "addresses",
    "user",
    "direct",
];
/// Of an entry under its port.
pub(super) const ENTRY_KEYS: &[&str] = ITEM_KEYS.split_at(1).1;

/// One entry, which is a mapping for each of its ports, protocols and selectors.
pub(super) struct Entry {
    pub ports: PortRange,
    pub protocols: Protocols,
    /// As wide as `ports`, one to one.
    pub to: PortRange,
    pub selectors: Arc<[Selector]>,
    pub comment: Option<Comment>,
    pub user: Option<User>,
    pub direct: Direct,
    pub spot: Spot,
    pub to_spot: Spot,
}

/// A mapping and the index of the entry that it comes from.
pub(super) struct Candidate {
    pub mapping: Mapping,
    pub entry: u32,
}

/// What an entry with keys is made of.
#[derive(Default)]
struct Parts<'n> {
    port: Option<(NodeRef<'n>, &'n str)>,
    to: Option<(NodeRef<'n>, &'n str)>,
    comment: Option<Comment>,
    said: Criteria,
    /// Whether there are no errors so far.
    is_sound: bool,
}

pub(super) struct Reader<'r> {
    pub(super) names: Names<'r>,
    pub(super) report: &'r mut Report,
    pub(super) defaults: Criteria,
    /// The selectors of an entry without any of its own.
    pub(super) everyone: Arc<[Selector]>,
}

impl Reader<'_> {
    /// `80: 3000`.
    pub(super) fn short(
        &mut self,
        key: NodeRef,
        text: &str,
        value: NodeRef,
        to: &str,
    ) -> Option<Entry> {
        if let Some(meant) = mistakes::ranges(text, to) {
            let complaint = Complaint::new("ranges are written with a hyphen");
            return self.report.fail(key, complaint.help(format!("write `{meant}`")));
        }
        let left = self.left(key, text, self.defaults.protocols());
        let right = self.report.take(value, value::target(to));
        let ((ports, said), to) = (left?, right?);
        self.report.take(value, value::check_widths(ports, to))?;
        Some(Entry {
            ports,
            protocols: said.unwrap_or(self.defaults.protocols()),
            to,
            selectors: self.everyone.clone(),
            comment: None,
            user: self.defaults.user(),
            direct: self.defaults.direct(),
            spot: key.spot(),
            to_spot: value.spot(),
        })
    }

    /// An entry with keys; its port is outside of it, or one of them.
    pub(super) fn long(
        &mut self,
        at: NodeRef,
        outside: Option<(NodeRef, &str)>,
        body: NodeRef,
    ) -> Option<Entry> {
        let Parts { port, to, comment, said, is_sound } = self.parts(outside, body);
        if is_sound {
            self.check_complete(at, port.is_some(), to.is_some());
        }
        let (protocols, has_selectors) = (said.protocols.clone(), said.has_selectors());
        let criteria = said.or(&self.defaults);
        let left = port.and_then(|(node, text)| {
            let (ports, suffix) = self.left(node, text, criteria.protocols())?;
            self.check_protocol_said_once(node, suffix, protocols.as_ref())?;
            Some((node, ports, suffix.unwrap_or(criteria.protocols())))
        });
        let right =
            to.and_then(|(node, text)| Some((node, self.report.take(node, value::target(text))?)));
        let selectors = if is_sound { self.selectors(&criteria, has_selectors) } else { None };
        let ((node, ports, protocols), (to_node, to)) = (left?, right?);
        self.report.take(to_node, value::check_widths(ports, to))?;
        let (spot, to_spot) = (node.spot(), to_node.spot());
        let (selectors, user, direct) = (selectors?, criteria.user(), criteria.direct());
        Some(Entry { ports, protocols, to, selectors, comment, user, direct, spot, to_spot })
    }

    fn parts<'n>(
        &mut self,
        outside: Option<(NodeRef<'n>, &'n str)>,
        body: NodeRef<'n>,
    ) -> Parts<'n> {
        let (known, hint): (&[&str], Hint) = match outside {
            Some(_) => (ENTRY_KEYS, key_of_entry),
            None => (&ITEM_KEYS, key_of_item),
        };
        let before = self.report.errors();
        let mut parts = Parts { port: outside, ..Parts::default() };
        for (name, key, value) in self.report.fields(body, known, hint) {
            match name {
                "port" => parts.port = self.report.scalar(name, value).map(|text| (value, text)),
                "to" => parts.to = self.report.scalar(name, value).map(|text| (value, text)),
                "comment" => parts.comment = self.comment(value),
                _ => {
                    let (defaults, names) = (Some(&self.defaults), self.names);
                    criteria::read(&mut parts.said, name, key, value, defaults, names, self.report);
                }
            }
        }
        parts.is_sound = self.report.errors() == before;
        parts
    }

    fn left(
        &mut self,
        node: NodeRef,
        text: &str,
        unless_said: Protocols,
    ) -> Option<(PortRange, Option<Protocols>)> {
        self.report.take(node, value::service(text, unless_said, self.names))
    }

    fn comment(&mut self, node: NodeRef) -> Option<Comment> {
        let text = self.report.scalar("comment", node)?;
        self.report.take(node, value::comment(text))
    }

    fn selectors(&mut self, criteria: &Criteria, has_selectors: bool) -> Option<Arc<[Selector]>> {
        match criteria.selectors() {
            Ok(selectors) => {
                // Of the defaults alone it has been said already.
                if has_selectors {
                    criteria.warn(self.report);
                }
                Some(selectors)
            }
            Err((spot, complaint)) => {
                self.report.error(spot, complaint);
                None
            }
        }
    }

    fn check_protocol_said_once(
        &mut self,
        node: NodeRef,
        suffix: Option<Protocols>,
        said: Option<&Said<Protocols>>,
    ) -> Option<()> {
        let (Some(_), Some(said)) = (suffix, said) else { return Some(()) };
        let complaint = Complaint::new("the protocol is given twice")
            .help("give it after the port or in `protocol`, not both")
            .related(said.spot, "also given here");
        self.report.fail(node, complaint)
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
}

/// `- 80: 3000`.
fn key_of_item(text: &str) -> Option<String> {
    let is_port = text.starts_with(|c: char| c.is_ascii_digit());
    is_port.then(|| {
        "an entry of a list is `{ port: 80, to: 3000 }`; for `80: 3000`, remove all the dashes"
            .into()
    })
}

/// `80: { port: 80 }` and the like.
fn key_of_entry(text: &str) -> Option<String> {
    let is_port = text == "port" || mistakes::key(text) == Some("port");
    is_port.then(|| "the port is the key of the entry: `80: { to: 3000 }`".into())
}
