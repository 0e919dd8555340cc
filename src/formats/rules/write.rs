//! A [`MappingSet`] to the text of a file that reads back as the same set.

use std::collections::HashMap;
use std::fmt::{self, Write};

use crate::formats::hidden::is_hidden;
use crate::mapping::{
    Direct, Family, Mapping, MappingSet, Matches, Port, PortRange, Protocol, Scope, Service,
};

/// The file, in the short form where there is one: neighbouring ports with neighbouring targets
/// are a range, protocols with the same mappings one entry. A mapping, or a sequence if any port
/// is named more than once. An empty set is `ports: {}`, which only reads back as an error.
pub fn write(set: &MappingSet) -> String {
    if set.is_empty() {
        return "ports: {}\n".into();
    }
    let blocks = blocks(set);
    let is_sequence = blocks.iter().any(|block| block.first.len() > 1);
    let mut out = String::from("ports:\n");
    for block in &blocks {
        for mapping in block.first {
            let entry = Entry { block, mapping };
            let written = match is_sequence {
                true => entry.item(&mut out),
                false => entry.keyed(&mut out),
            };
            written.expect("a String takes all that is written");
        }
    }
    out
}

/// Neighbouring services whose mappings are the same but for the ports.
struct Block<'m> {
    /// The mappings of the first service, in order of evaluation.
    first: &'m [Mapping],
    /// How many services follow the first.
    span: u16,
    /// Those of the first and others with the same mappings.
    protocols: Vec<Protocol>,
}

fn blocks(set: &MappingSet) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block> = Vec::new();
    for group in set.services() {
        match blocks.last_mut() {
            Some(block) if continues(block.first, group, block.span + 1) => block.span += 1,
            _ => {
                let protocols = vec![group[0].service.protocol];
                blocks.push(Block { first: group, span: 0, protocols });
            }
        }
    }
    join_protocols(blocks)
}

/// Whether `group` is `first`, `distance` ports further on.
fn continues(first: &[Mapping], group: &[Mapping], distance: u16) -> bool {
    first.len() == group.len()
        && first.iter().zip(group).all(|(a, b)| {
            a.service.protocol == b.service.protocol
                && a.service.port.further(distance) == Some(b.service.port)
                && a.to.further(distance) == Some(b.to)
                && is_alike(a, b)
        })
}

fn is_alike(a: &Mapping, b: &Mapping) -> bool {
    a.selector == b.selector && a.comment == b.comment && a.user == b.user && a.direct == b.direct
}

/// Joins blocks that differ in nothing but the protocol. Nothing is joined within one service, so
/// the order of evaluation stays.
fn join_protocols(blocks: Vec<Block>) -> Vec<Block> {
    let mut joined: Vec<Block> = Vec::new();
    let mut by_port: HashMap<(u16, u16), Vec<usize>> = HashMap::new();
    for block in blocks {
        let same_ports =
            by_port.entry((block.first[0].service.port.get(), block.span)).or_default();
        let same = same_ports.iter().copied().find(|&i| is_same(joined[i].first, block.first));
        match same {
            Some(i) => joined[i].protocols.extend(block.protocols),
            None => {
                same_ports.push(joined.len());
                joined.push(block);
            }
        }
    }
    joined
}

fn is_same(a: &[Mapping], b: &[Mapping]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to == b.to && is_alike(a, b))
}

struct Entry<'e> {
    block: &'e Block<'e>,
    mapping: &'e Mapping,
}

impl Entry<'_> {
    /// `80: 3000`, or the long form below its port.
    fn keyed(&self, out: &mut String) -> fmt::Result {
        let fields = self.fields();
        if fields.is_empty() {
            return writeln!(out, "  {}: {}", self.service(), self.target());
        }
        write!(out, "  {}:\n    to: {}\n", self.service(), self.target())?;
        for (key, value) in fields {
            writeln!(out, "    {key}: {value}")?;
        }
        Ok(())
    }

    /// `- { port: 80, to: 3000 }`.
    fn item(&self, out: &mut String) -> fmt::Result {
        write!(out, "  - {{ port: {}, to: {}", self.service(), self.target())?;
        for (key, value) in self.fields() {
            write!(out, ", {key}: {value}")?;
        }
        writeln!(out, " }}")
    }

    fn service(&self) -> String {
        let Service { port, .. } = self.mapping.service;
        let ports = range(port, self.block.span);
        match self.block.protocols[..] {
            [Protocol::Tcp] => ports,
            ref protocols => {
                let names: Vec<_> = protocols.iter().map(|protocol| protocol.name()).collect();
                format!("{ports}/{}", names.join("+"))
            }
        }
    }

    fn target(&self) -> String {
        range(self.mapping.to.port(), self.block.span)
    }

    /// What is not the default, nor implied by the rest.
    fn fields(&self) -> Vec<(&'static str, String)> {
        let Mapping { selector, comment, user, direct, .. } = self.mapping;
        let any = Matches::default();
        let Matches { interfaces, sources, addresses } = selector.matches().unwrap_or(&any);
        let mut fields = Vec::new();
        if let Some(comment) = comment {
            fields.push(("comment", scalar(comment)));
        }
        if selector.scope() != Scope::Both && interfaces.is_empty() {
            fields.push(("scope", selector.scope().name().into()));
        }
        if selector.family() != Family::Both && sources.is_empty() && addresses.is_empty() {
            fields.push(("families", format!("[{}]", selector.family().name())));
        }
        let lists = [
            ("interfaces", list(interfaces)),
            ("sources", list(sources)),
            ("addresses", list(addresses)),
        ];
        fields.extend(lists.into_iter().filter_map(|(key, list)| Some((key, list?))));
        fields.extend(user.iter().map(|user| ("user", scalar(&user.in_full()))));
        if *direct != Direct::default() {
            fields.push(("direct", direct.name().into()));
        }
        fields
    }
}

/// The file was made of ports that exist.
fn range(first: Port, span: u16) -> String {
    PortRange::spanning(first, span).expect("the ports of a set").to_string()
}

/// `None` if there is nothing to list.
fn list<T: ToString>(values: &[T]) -> Option<String> {
    let values: Vec<_> = values.iter().map(|value| scalar(&value.to_string())).collect();
    (!values.is_empty()).then(|| format!("[{}]", values.join(", ")))
}

/// `text` plain where YAML takes it as it is, in double quotes otherwise.
fn scalar(text: &str) -> String {
    if is_plain(text) { text.into() } else { double_quoted(text) }
}

/// Whether `text` is the same in every context of YAML: narrower than YAML itself.
fn is_plain(text: &str) -> bool {
    let inner = |c: char| is_word(c) || " _-./()+:".contains(c);
    text.starts_with(is_word)
        && text.ends_with(|c: char| is_word(c) || c == ')')
        && text.chars().all(inner)
        && !text.contains(": ")
        && !matches!(text.to_ascii_lowercase().as_str(), "null" | "true" | "false" | "yes" | "no")
}

/// Letters and digits of all languages, but for the letters that are not seen.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() && !is_hidden(c)
}

fn double_quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_ascii_graphic() || c == ' ' || is_word(c) => out.push(c),
            c if u32::from(c) <= 0xffff => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_yaml_would_take_for_something_else_is_quoted() {
        for text in [
            "a: b",
            "*",
            "a #b",
            "null",
            " a",
            "a ",
            "- a",
            "[a]",
            "{a}",
            "é\u{2028}",
            "::1",
            "a\u{3164}",
        ] {
            assert!(scalar(text).starts_with('"'), "{text:?} -> {}", scalar(text));
        }
        for text in ["ftps for the scanner", "eth0", "2001:db8::/32", "10.0.0.0/8", "é"] {
            assert_eq!(scalar(text), text);
        }
    }
}
