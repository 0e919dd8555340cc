//! YAML text to a tree of values that know their place.
//!
//! Scalars stay text: `80` is not a number yet and `on` is never a boolean, so that YAML's guesses
//! cannot change what a file means. An alias refers to the node it names; how much it would expand
//! to is counted while reading, so that an alias bomb costs no more than its text.

use std::borrow::Cow;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span};

use super::report::{Complaint, Spot};
use super::syntax::Failure;

/// Collections within collections. Five levels are meaningful.
const DEPTH_MAX: usize = 32;

/// Values of one file, with every alias counted as often as it is used.
const NODES_MAX: u64 = 2_000_000;

/// Commas and opening brackets of one file. saphyr-parser keeps a whole flow collection (`[…]`,
/// `{…}`) as tokens, up to a kilobyte for each comma, until it knows that it is not a key: this, not
/// the size of the text, bounds its memory.
const SEPARATORS_MAX: usize = 500_000;

/// The nodes of one document in the order of the text; the first is the root.
pub(super) struct Tree<'t> {
    nodes: Vec<Node<'t>>,
    source: u32,
}

struct Node<'t> {
    value: Value<'t>,
    /// From 1, 0 and in characters, as the parser counts.
    line: u32,
    column: u32,
    length: u32,
    /// Index of the first node behind this one's descendants.
    end: u32,
}

enum Value<'t> {
    Plain(Cow<'t, str>),
    Quoted(Cow<'t, str>),
    Sequence,
    Mapping,
    /// Index of the node that it refers to, never one that contains it.
    Alias(u32),
}

/// What kind of value a node is, aliases followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    Null,
    Scalar(&'a str),
    Sequence,
    Mapping,
}

/// A node of a tree.
#[derive(Clone, Copy)]
pub(super) struct NodeRef<'a> {
    tree: &'a Tree<'a>,
    index: u32,
}

impl<'a> Tree<'a> {
    pub(super) fn root(&'a self) -> Option<NodeRef<'a>> {
        (!self.nodes.is_empty()).then_some(NodeRef { tree: self, index: 0 })
    }
}

impl<'a> NodeRef<'a> {
    fn node(self) -> &'a Node<'a> {
        &self.tree.nodes[self.index as usize]
    }

    fn resolved(self) -> Self {
        match self.node().value {
            Value::Alias(index) => Self { index, ..self },
            _ => self,
        }
    }

    pub(super) fn kind(self) -> Kind<'a> {
        match &self.resolved().node().value {
            Value::Plain(text) if matches!(&**text, "" | "~" | "null" | "Null" | "NULL") => {
                Kind::Null
            }
            Value::Plain(text) | Value::Quoted(text) => Kind::Scalar(text),
            Value::Sequence => Kind::Sequence,
            Value::Mapping => Kind::Mapping,
            Value::Alias(_) => unreachable!("an alias never refers to an alias"),
        }
    }

    /// The text of a scalar, null included; `None` for collections.
    pub(super) fn text(self) -> Option<&'a str> {
        match &self.resolved().node().value {
            Value::Plain(text) | Value::Quoted(text) => Some(text),
            _ => None,
        }
    }

    /// Where the node is; for an alias, where the node is that it refers to.
    pub(super) fn spot(self) -> Spot {
        let Node { line, column, length, .. } = *self.resolved().node();
        Spot { source: self.tree.source, line, column, length }
    }

    /// The direct descendants of a collection: a sequence's items, or a mapping's keys and values
    /// in turn. None for a scalar.
    pub(super) fn children(self) -> impl Iterator<Item = NodeRef<'a>> {
        let resolved = self.resolved();
        let end = resolved.node().end;
        let mut next = resolved.index + 1;
        std::iter::from_fn(move || {
            let child = (next < end).then_some(Self { index: next, ..self })?;
            next = child.node().end;
            Some(child)
        })
    }

    /// The items of a sequence, or the one value that takes its place.
    pub(super) fn items(self) -> impl Iterator<Item = NodeRef<'a>> {
        let is_list = self.kind() == Kind::Sequence;
        let one = (!is_list).then_some(self);
        one.into_iter().chain(self.children().filter(move |_| is_list))
    }

    /// A mapping's keys with their values, in the order of the text, merge keys (`<<`) included
    /// as they are.
    pub(super) fn pairs(self) -> impl Iterator<Item = (NodeRef<'a>, NodeRef<'a>)> {
        let mut children = self.children();
        std::iter::from_fn(move || Some((children.next()?, children.next()?)))
    }
}

/// Reads the one document of `text`; an empty tree if there is none.
pub(super) fn parse(text: &str, source: u32) -> Result<Tree<'_>, (Spot, Complaint)> {
    let spot = Spot { source, ..Spot::default() };
    if text.bytes().filter(|b| matches!(b, b',' | b'[' | b'{')).count() > SEPARATORS_MAX {
        let message = format!("more than {SEPARATORS_MAX} commas and brackets");
        return Err((
            spot,
            Complaint::new(message).help("write one entry on each line, without brackets"),
        ));
    }
    let mut builder = Builder::new(text, source);
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| builder.syntax_error(&error))?;
        builder.take(event, span)?;
    }
    Ok(builder.tree)
}

struct Builder<'t> {
    text: &'t str,
    /// Whether an index of characters is one of bytes.
    ascii: bool,
    tree: Tree<'t>,
    open: Vec<Open>,
    /// By the parser's anchor number: the node and how many nodes it counts as; `None` while its
    /// collection is open.
    anchors: Vec<Option<(u32, u64)>>,
    documents: usize,
}

/// A collection whose end has not been read.
struct Open {
    index: u32,
    anchor: usize,
    weight: u64,
}

impl<'t> Builder<'t> {
    fn new(text: &'t str, source: u32) -> Self {
        Self {
            text,
            ascii: text.is_ascii(),
            tree: Tree { nodes: Vec::new(), source },
            open: Vec::new(),
            anchors: Vec::new(),
            documents: 0,
        }
    }

    fn take(&mut self, event: Event<'t>, span: Span) -> Result<(), (Spot, Complaint)> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.check_tag(tag.is_none_or(|tag| tag.is_yaml_core_schema()), span)?;
                let value = self.scalar(text, style, span);
                self.leaf(value, anchor, 1, span)
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(tag.is_none_or(|tag| tag.is_yaml_core_schema()), span)?;
                self.start(Value::Sequence, anchor, span)
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(tag.is_none_or(|tag| tag.is_yaml_core_schema()), span)?;
                self.start(Value::Mapping, anchor, span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::DocumentStart(_) => self.document(span),
            _ => Ok(()),
        }
    }

    /// Borrows from the text where the scalar is written as it is read: most are, and a file of
    /// 60,000 entries then needs no allocation for any of them.
    fn scalar(&self, text: Cow<'t, str>, style: ScalarStyle, span: Span) -> Value<'t> {
        if style != ScalarStyle::Plain {
            return Value::Quoted(text);
        }
        let start = span.start.index();
        let written = match self.ascii {
            true => self.text.get(start..start + text.len()),
            false => None,
        };
        match written {
            Some(written) if written == text => Value::Plain(Cow::Borrowed(written)),
            _ => Value::Plain(text),
        }
    }

    fn leaf(
        &mut self,
        value: Value<'t>,
        anchor: usize,
        weight: u64,
        span: Span,
    ) -> Result<(), (Spot, Complaint)> {
        let index = self.push(value, span);
        self.remember(anchor, Some((index, weight)));
        self.weigh(weight, span)
    }

    fn start(
        &mut self,
        value: Value<'t>,
        anchor: usize,
        span: Span,
    ) -> Result<(), (Spot, Complaint)> {
        if self.open.len() == DEPTH_MAX {
            let message = format!("more than {DEPTH_MAX} levels of nesting");
            return Err((self.spot(span), Complaint::new(message)));
        }
        let index = self.push(value, Span::empty(span.start));
        self.remember(anchor, None);
        self.open.push(Open { index, anchor, weight: 1 });
        Ok(())
    }

    fn end(&mut self, span: Span) -> Result<(), (Spot, Complaint)> {
        let Some(Open { index, anchor, weight }) = self.open.pop() else { return Ok(()) };
        self.tree.nodes[index as usize].end = self.tree.nodes.len() as u32;
        self.remember(anchor, Some((index, weight)));
        self.weigh(weight, span)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), (Spot, Complaint)> {
        match self.anchors.get(anchor).copied().flatten() {
            Some((index, weight)) => self.leaf(Value::Alias(index), 0, weight, span),
            None => {
                let complaint = Complaint::new("this alias is inside the value that it refers to");
                Err((self.spot(span), complaint))
            }
        }
    }

    fn document(&mut self, span: Span) -> Result<(), (Spot, Complaint)> {
        self.documents += 1;
        if self.documents == 1 {
            return Ok(());
        }
        let complaint = Complaint::new("a second document begins here")
            .help("a file is one document: remove the `---`, or use two files");
        Err((self.spot(span), complaint))
    }

    fn push(&mut self, value: Value<'t>, span: Span) -> u32 {
        let index = self.tree.nodes.len() as u32;
        let spot = self.spot(span);
        self.tree.nodes.push(Node {
            value,
            line: spot.line,
            column: spot.column,
            length: spot.length,
            end: index + 1,
        });
        index
    }

    /// Anchor 0 is none.
    fn remember(&mut self, anchor: usize, node: Option<(u32, u64)>) {
        if anchor == 0 {
            return;
        }
        if self.anchors.len() <= anchor {
            self.anchors.resize(anchor + 1, None);
        }
        self.anchors[anchor] = node;
    }

    /// Adds to the collection around, which no more than the whole document may outgrow.
    fn weigh(&mut self, weight: u64, span: Span) -> Result<(), (Spot, Complaint)> {
        let Some(around) = self.open.last_mut() else { return Ok(()) };
        around.weight = around.weight.saturating_add(weight);
        if around.weight <= NODES_MAX {
            return Ok(());
        }
        let message = format!("more than {NODES_MAX} values, with aliases expanded");
        Err((self.spot(span), Complaint::new(message)))
    }

    fn check_tag(&self, known: bool, span: Span) -> Result<(), (Spot, Complaint)> {
        if known {
            return Ok(());
        }
        let complaint = Complaint::new("tags are not supported").help("remove the `!…`");
        Err((self.spot(span), complaint))
    }

    fn spot(&self, span: Span) -> Spot {
        Spot { length: span.len() as u32, ..self.spot_of_marker(&span.start) }
    }

    fn spot_of_marker(&self, marker: &Marker) -> Spot {
        Spot {
            source: self.tree.source,
            line: marker.line() as u32,
            column: marker.col() as u32,
            length: 0,
        }
    }

    fn syntax_error(&self, error: &ScanError) -> (Spot, Complaint) {
        let (text, said) = (self.text, error.info());
        let (spot, index) = (self.spot_of_marker(error.marker()), error.marker().index());
        Failure { text, index, spot, said }.explain(DEPTH_MAX)
    }
}
