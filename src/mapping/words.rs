//! Mappings in words: `80/tcp -> 3000 (local)`, `+ 443/tcp -> 8443`.

use std::fmt::{self, Display, Formatter};

use super::changes::{Action, Change};
use super::{Direct, Family, Mapping, Port, PortRange, Scope, Selector, Service, User};

/// Neighbours that differ only in their ports, by the same distance: a range of the file.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    pub first: &'a Mapping,
    pub last: &'a Mapping,
}

impl<'a> Run<'a> {
    fn of(mapping: &'a Mapping) -> Self {
        Self { first: mapping, last: mapping }
    }

    /// Whether `next` continues the run: the next port to the next port, all else equal.
    fn is_continued_by(&self, next: &Mapping) -> bool {
        let last = self.last;
        last.service.protocol == next.service.protocol
            && Some(next.service.port) == last.service.port.further(1)
            && Some(next.to) == last.to.further(1)
            && last.selector == next.selector
            && last.comment == next.comment
            && last.user == next.user
            && last.direct == next.direct
    }

    /// `80/tcp`, `6000-6063/tcp`
    pub fn service(&self) -> String {
        let (first, last) = (self.first.service, self.last.service);
        format!("{}/{}", ports(first.port, last.port), first.protocol)
    }

    /// `3000`, `16000-16063`
    pub fn to(&self) -> String {
        ports(self.first.to.port(), self.last.to.port())
    }

    /// `port 3000`, `ports 16000-16063`
    pub fn target(&self) -> String {
        let s = if self.first.to == self.last.to { "" } else { "s" };
        format!("port{s} {}", self.to())
    }

    /// `, user www-data, direct refuse`; nothing if anybody may answer, and use the target.
    pub fn terms(&self) -> String {
        let Mapping { user, direct, .. } = self.first;
        user_in_words(user, user) + &direct_in_words(*direct, *direct)
    }

    /// ` (local, ipv4)`; nothing if it is for everyone.
    fn restriction(&self) -> String {
        match &self.first.selector {
            selector if *selector == Selector::ANYONE => String::new(),
            selector => format!(" ({})", clients(selector)),
        }
    }
}

impl Display for Run<'_> {
    /// `80/tcp -> 3000 (local, ipv4), user www-data  # the shop`
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}{}", self.service(), self.to(), self.restriction())?;
        f.write_str(&self.terms())?;
        match &self.first.comment {
            Some(comment) => write!(f, "  # {comment}"),
            None => Ok(()),
        }
    }
}

fn ports(first: Port, last: Port) -> String {
    PortRange::new(first, last).expect("a run goes upwards").to_string()
}

/// Folds neighbours into runs. `same` says what beside the mapping itself must agree.
pub fn fold<'a, T>(
    items: &'a [T],
    mapping: impl Fn(&'a T) -> &'a Mapping,
    same: impl Fn(&T, &T) -> bool,
) -> Vec<(Run<'a>, &'a [T])> {
    let places = items.iter().enumerate().map(|(i, item)| (mapping(item), i..i + 1));
    let runs = fold_by(places, |part, next| {
        let joins = same(&items[part.end - 1], &items[next.start]);
        part.end += usize::from(joins);
        joins
    });
    runs.into_iter().map(|(run, part)| (run, &items[part])).collect()
}

/// Folds neighbours of which the same is to be said.
pub fn fold_judged<'a, T: PartialEq>(
    items: impl IntoIterator<Item = (&'a Mapping, T)>,
) -> Vec<(Run<'a>, T)> {
    fold_by(items, |of_run, judgement| of_run == judgement)
}

/// `joins` takes what comes with the next mapping into what there is of the run so far, or refuses
/// to.
fn fold_by<'a, T>(
    items: impl IntoIterator<Item = (&'a Mapping, T)>,
    joins: impl Fn(&mut T, &T) -> bool,
) -> Vec<(Run<'a>, T)> {
    let mut runs: Vec<(Run<'a>, T)> = Vec::new();
    for (mapping, next) in items {
        if let Some((run, so_far)) = runs.last_mut() {
            if run.is_continued_by(mapping) && joins(so_far, &next) {
                run.last = mapping;
                continue;
            }
        }
        runs.push((Run::of(mapping), next));
    }
    runs
}

/// The lines of a diff: `+ 80/tcp -> 3000`, `~ 443/tcp: 9443 -> 8443`, `- 53/udp -> 5353`. What
/// follows a `#` is a comment and nothing else.
pub fn fold_changes(changes: &[Change<'_>]) -> Vec<(Action, String)> {
    let same = |a: &Change<'_>, b: &Change<'_>| a.action() == b.action() && continues_before(a, b);
    fold(changes, Change::mapping, same)
        .into_iter()
        .map(|(run, part)| (part[0].action(), line(&run, &part[0], &part[part.len() - 1])))
        .collect()
}

fn continues_before(a: &Change<'_>, b: &Change<'_>) -> bool {
    match (a, b) {
        (Change::Change { before: a, .. }, Change::Change { before: b, .. }) => {
            Run::of(a).is_continued_by(b)
        }
        _ => true,
    }
}

fn line(run: &Run<'_>, first: &Change<'_>, last: &Change<'_>) -> String {
    let mark = first.action().mark();
    match (first, last) {
        (Change::Change { before: first, .. }, Change::Change { before: last, .. }) => {
            format!("{mark} {}", changed(&Run { first, last }, run))
        }
        _ => format!("{mark} {run}"),
    }
}

/// `80/tcp: 3000 -> 4000 (local)  # the shop`, `80/tcp -> 3000, comment "shop" -> "the shop"`
fn changed(before: &Run<'_>, after: &Run<'_>) -> String {
    let (was, is) = (before.to(), after.to());
    let service = after.service();
    let mut text = match was == is {
        true => format!("{service} -> {is}"),
        false => format!("{service}: {was} -> {is}"),
    };
    text.push_str(&after.restriction());
    let (a, b) = (before.first, after.first);
    text.push_str(&user_in_words(&a.user, &b.user));
    text.push_str(&direct_in_words(a.direct, b.direct));
    let is_elsewhere = was != is || a.user != b.user || a.direct != b.direct;
    match (a.comment.as_deref(), b.comment.as_deref()) {
        (None, None) if !is_elsewhere => text.push_str(", in another order"),
        (Some(a), Some(b)) if a == b && !is_elsewhere => text.push_str(", in another order"),
        (None, None) => {}
        (Some(a), Some(b)) if a == b => text.push_str(&format!("  # {a}")),
        (Some(a), Some(b)) => text.push_str(&format!(", comment \"{a}\" -> \"{b}\"")),
        (None, Some(b)) => text.push_str(&format!(", comment \"{b}\" added")),
        (Some(a), None) => text.push_str(&format!(", comment \"{a}\" removed")),
    }
    text
}

/// Services, sorted, in words: `80/tcp, 6000-6063/tcp`; of many, the first few.
pub fn services(services: &[Service]) -> String {
    const SHOWN: usize = 8;
    let follows =
        |a: &Service, b: &Service| a.protocol == b.protocol && a.port.further(1) == Some(b.port);
    let runs: Vec<_> = services.chunk_by(follows).collect();
    let name = |run: &&[Service]| {
        let (first, last) = (run[0], run[run.len() - 1]);
        format!("{}/{}", ports(first.port, last.port), first.protocol)
    };
    let mut names: Vec<_> = runs.iter().take(SHOWN).map(name).collect();
    let more: usize = runs.iter().skip(SHOWN).map(|run| run.len()).sum();
    if more > 0 {
        names.push(format!("{more} more"));
    }
    names.join(", ")
}

/// `, user www-data`, `, user www-data -> deploy`, `, user www-data added`
fn user_in_words(before: &Option<User>, after: &Option<User>) -> String {
    match (before, after) {
        (None, None) => String::new(),
        (Some(a), Some(b)) if a == b => format!(", user {a}"),
        (Some(a), Some(b)) => format!(", user {} -> {}", a.in_full(), b.in_full()),
        (None, Some(b)) => format!(", user {b} added"),
        (Some(a), None) => format!(", user {a} removed"),
    }
}

/// `, direct refuse`, `, direct allow -> refuse`
fn direct_in_words(before: Direct, after: Direct) -> String {
    match (before, after) {
        (Direct::Allow, Direct::Allow) => String::new(),
        (a, b) if a == b => format!(", direct {}", b.name()),
        (a, b) => format!(", direct {} -> {}", a.name(), b.name()),
    }
}

/// For whom a mapping is meant, in words: `external, ipv4, on eth0, from 203.0.113.0/24`.
pub fn clients(selector: &Selector) -> String {
    let mut words = Vec::new();
    if selector.scope() != Scope::Both {
        words.push(selector.scope().name().to_owned());
    }
    if selector.family() != Family::Both {
        words.push(selector.family().name().to_owned());
    }
    if let Some(matches) = &selector.matches() {
        let lists = [
            ("on", texts(&matches.interfaces)),
            ("from", texts(&matches.sources)),
            ("to", texts(&matches.addresses)),
        ];
        let lists = lists.into_iter().filter(|(_, values)| !values.is_empty());
        words.extend(lists.map(|(word, values)| format!("{word} {}", values.join(" "))));
    }
    if words.is_empty() { "everyone".to_owned() } else { words.join(", ") }
}

fn texts<T: Display>(values: &[T]) -> Vec<String> {
    values.iter().map(T::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::rules::{self, Facts, Names, Source};
    use crate::mapping::MappingSet;
    use crate::mapping::changes::changes;

    fn set(text: &str) -> MappingSet {
        let source = Source::file("rules.yaml", text);
        let loaded = rules::load(&[source], &Facts::default(), Names::NONE);
        loaded.mappings.unwrap_or_else(|| panic!("{text}"))
    }

    fn runs(text: &str) -> Vec<String> {
        let set = set(text);
        let mappings: Vec<_> = set.iter().collect();
        fold(&mappings, |m| m, |_, _| true).iter().map(|(run, _)| run.to_string()).collect()
    }

    fn lines(before: &str, after: &str) -> Vec<String> {
        let (before, after) = (set(before), set(after));
        fold_changes(&changes(&before, &after)).into_iter().map(|(_, line)| line).collect()
    }

    #[test]
    fn a_range_is_one_run() {
        assert_eq!(runs("ports: { 600-603: 6000-6003 }"), ["600-603/tcp -> 6000-6003"]);
        assert_eq!(runs("ports: { 600-601: 6000-6001, 602: 6002 }"), ["600-602/tcp -> 6000-6002"]);
    }

    #[test]
    fn a_run_ends_where_anything_differs() {
        let apart = "ports: [{ port: 1, to: 11 }, { port: 3, to: 13 }, { port: 4/udp, to: 14 },
            { port: 4, to: 15 }, { port: 5, to: 16, scope: local },
            { port: 6, to: 17, scope: local, comment: x }]";
        assert_eq!(
            runs(apart),
            [
                "1/tcp -> 11",
                "3/tcp -> 13",
                "4/tcp -> 15",
                "5/tcp -> 16 (local)",
                "6/tcp -> 17 (local)  # x",
                "4/udp -> 14",
            ]
        );
    }

    #[test]
    fn the_last_port_of_all_ends_a_run() {
        let all = "ports: { 65534-65535: 1-2, 1/udp: 3 }";
        assert_eq!(runs(all), ["65534-65535/tcp -> 1-2", "1/udp -> 3"]);
    }

    #[test]
    fn changes_are_folded_with_what_was_before() {
        let before = "ports: { 80: 3000, 600-603: 6000-6003, 900: 9000 }";
        let after = "ports: { 80: 4000, 600-603: 7000-7003, 443: 8443 }";
        assert_eq!(
            lines(before, after),
            [
                "~ 80/tcp: 3000 -> 4000",
                "+ 443/tcp -> 8443",
                "~ 600-603/tcp: 6000-6003 -> 7000-7003",
                "- 900/tcp -> 9000",
            ]
        );
    }

    #[test]
    fn one_change_is_not_folded_with_another() {
        // The same now, but not before.
        let before = "ports: { 1: 11, 2: 22 }";
        let after = "ports: { 1: 31, 2: 32 }";
        assert_eq!(lines(before, after), ["~ 1/tcp: 11 -> 31", "~ 2/tcp: 22 -> 32"]);
    }

    #[test]
    fn a_change_says_what_was_otherwise() {
        let entry = |to: u16, comment: &str| format!("ports: {{ 80: {{ to: {to}{comment} }} }}");
        let (without, a, b) = ("", ", comment: a", ", comment: b");
        let line = |before: (u16, &str), after: (u16, &str)| {
            lines(&entry(before.0, before.1), &entry(after.0, after.1)).concat()
        };
        assert_eq!(line((1, a), (1, b)), "~ 80/tcp -> 1, comment \"a\" -> \"b\"");
        assert_eq!(line((1, without), (1, a)), "~ 80/tcp -> 1, comment \"a\" added");
        assert_eq!(line((1, a), (1, without)), "~ 80/tcp -> 1, comment \"a\" removed");
        assert_eq!(line((1, a), (2, b)), "~ 80/tcp: 1 -> 2, comment \"a\" -> \"b\"");
        assert_eq!(line((1, a), (2, a)), "~ 80/tcp: 1 -> 2  # a");
        let only_local = line((1, ", scope: local"), (2, ", scope: local"));
        assert_eq!(only_local, "~ 80/tcp: 1 -> 2 (local)");
    }

    #[test]
    fn another_order_is_a_change() {
        let one = "{ port: 80, to: 1, interfaces: a }";
        let two = "{ port: 80, to: 2, sources: 192.0.2.1 }";
        let (before, after) = (format!("ports: [{one}, {two}]"), format!("ports: [{two}, {one}]"));
        assert_eq!(
            lines(&before, &after),
            [
                "~ 80/tcp -> 2 (ipv4, from 192.0.2.1/32), in another order",
                "~ 80/tcp -> 1 (external, on a), in another order",
            ]
        );
    }

    #[test]
    fn clients_are_named_in_words() {
        let words = |entry: &str| {
            let set = set(&format!("ports: {{ 80: {{ to: 3000{entry} }} }}"));
            clients(&set.iter().next().expect("one").selector)
        };
        assert_eq!(words(""), "everyone");
        assert_eq!(words(", scope: local, families: ipv6"), "local, ipv6");
        assert_eq!(
            words(", interfaces: [eth0, 'wg*'], sources: 192.0.2.0/24, addresses: 198.51.100.1"),
            "external, ipv4, on eth0 wg*, from 192.0.2.0/24, to 198.51.100.1/32"
        );
    }
}
