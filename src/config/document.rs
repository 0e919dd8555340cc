//! YAML text to a tree of values that know where they stand.
//!
//! Scalars stay text: `80` is not a number yet and `on` is never a boolean, so that YAML's guesses
//! cannot change what a file means. Aliases lead to the node they name; how much they would expand
//! to is counted while reading, so that an alias bomb costs no more than its text.

use std::borrow::Cow;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span};

use super::report::{Complaint, Spot};

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
    /// Index of the node that it stands for, never one that contains it.
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
            Value::Alias(_) => unreachable!("an alias never stands for an alias"),
        }
    }

    /// The text of a scalar, be it null; `None` for collections.
    pub(super) fn text(self) -> Option<&'a str> {
        match &self.resolved().node().value {
            Value::Plain(text) | Value::Quoted(text) => Some(text),
            _ => None,
        }
    }

    /// Where the node stands; for an alias, where its meaning stands.
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

    /// A mapping's keys with their values, in the order of the text, merge keys (`<<`) included
    /// as they stand.
    pub(super) fn pairs(self) -> impl Iterator<Item = (NodeRef<'a>, NodeRef<'a>)> {
        let mut children = self.children();
        std::iter::from_fn(move || Some((children.next()?, children.next()?)))
    }
}

/// Reads the one document of `text`; an empty tree if there is none.
pub(super) fn parse(text: &str, source: u32) -> Result<Tree<'_>, (Spot, Complaint)> {
    let spot = Spot { source, ..Spot::default() };
    if text.bytes().filter(|b| matches!(b, b',' | b'[' | b'{')).count() > SEPARATORS_MAX {
        let message =
            format!("more than {SEPARATORS_MAX} commas and brackets are too many to read");
        return Err((spot, Complaint::new(message).help("write lists and mappings as lines")));
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
    /// By the parser's anchor number: the node and how many nodes it stands for; `None` while its
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

    /// Borrows from the text where the scalar stands there as it is: most do, and a file of
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
                let complaint = Complaint::new("this alias stands inside of what it names");
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
            .help("a file is one document: remove the `---`, or use one file for each");
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
        let message = format!("more than {NODES_MAX} values, counting what aliases stand for");
        Err((self.spot(span), Complaint::new(message)))
    }

    fn check_tag(&self, known: bool, span: Span) -> Result<(), (Spot, Complaint)> {
        if known {
            return Ok(());
        }
        let complaint = Complaint::new("this value has a tag, which means nothing here")
            .help("remove the `!…`");
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

    /// The tab that the parser stumbled over: it points to the value in whose next line it is.
    fn tab(&self, error: &ScanError) -> Option<Spot> {
        let mut spot = self.spot_of_marker(error.marker());
        if !error.info().contains("tab") {
            return None;
        }
        for c in self.text.chars().skip(error.marker().index()) {
            match c {
                '\t' => return Some(Spot { length: 1, ..spot }),
                '\n' => spot = Spot { line: spot.line + 1, column: 0, ..spot },
                _ => spot.column += 1,
            }
        }
        None
    }

    fn syntax_error(&self, error: &ScanError) -> (Spot, Complaint) {
        let spot = self.spot_of_marker(error.marker());
        if error.info() == "recursion limit exceeded" {
            return (spot, Complaint::new(format!("more than {DEPTH_MAX} levels of nesting")));
        }
        let spot = self.tab(error).unwrap_or(spot);
        let info = match error.info().split_once(", ") {
            Some((parsing, info)) if parsing.starts_with("while ") => info,
            _ => error.info(),
        };
        let complaint = Complaint::new(format!("not valid YAML: {info}"));
        match syntax_help(error.info()) {
            Some(help) => (spot, complaint.help(help)),
            None => (spot, complaint),
        }
    }
}

/// What is usually meant, by the parser's words; without a match there is only no help.
fn syntax_help(info: &str) -> Option<&'static str> {
    let helps = [
        ("tab", "indent with spaces"),
        ("anchor or alias", "a value that begins with `*` or `&` needs quotes: \"*\""),
        ("unknown anchor", "a value that begins with `*` needs quotes: \"*\""),
        ("mapping values are not allowed", "check the indentation, and quote text that holds `: `"),
        ("simple key", "a key needs a colon and a space behind it: `80: 3000`"),
        ("flow mapping", "close the `{` with `}`, with commas in between"),
        ("flow sequence", "close the `[` with `]`, with commas in between"),
        ("quoted scalar", "close the quote"),
        ("indentation", "indent entries of one level alike"),
        ("block mapping", "indent entries of one level alike"),
    ];
    helps.into_iter().find(|(part, _)| info.contains(part)).map(|(_, help)| help)
}
