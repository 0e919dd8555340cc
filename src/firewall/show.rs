//! Rules as their owners write them, in the words of nft. What is not understood is named.

mod words;

use super::expr::{Bits, Data, Expr, Register, Translation};
use super::tables::{Chain, Rule, Set, Table};
use super::value::Comparison;
use super::xt::{Match, Target};
use words::{Kind, Subject};

/// Where it is, and the rule itself.
pub fn place(table: &Table, chain: &Chain, rule: Option<usize>) -> String {
    let (name, rule) = (&chain.name, rule.and_then(|index| Some((index, chain.rules.get(index)?))));
    match rule {
        Some((index, rule)) => {
            format!("{table}, chain {name}, rule {}: {}", index + 1, text(table, rule))
        }
        None => {
            let drops = chain.base.as_ref().is_some_and(|base| base.drops);
            format!("{table}, chain {name}: policy {}", if drops { "drop" } else { "accept" })
        }
    }
}

/// The rule alone.
pub fn text(table: &Table, rule: &Rule) -> String {
    if let Some(text) = &rule.text {
        return text.clone();
    }
    let mut writer =
        Writer { table, words: Vec::new(), loaded: Vec::new(), family: "", protocol: "" };
    for expr in &rule.exprs {
        writer.expr(expr);
    }
    writer.settle();
    if let Some(comment) = &rule.comment {
        writer.words.push(format!("comment \"{comment}\""));
    }
    writer.words.join(" ")
}

/// What a register holds, as nft names it.
#[derive(Clone)]
struct Loaded {
    dest: usize,
    subject: Subject,
    /// What was masked off, or another computation.
    mask: Option<Vec<u8>>,
}

struct Writer<'a> {
    table: &'a Table,
    words: Vec<String>,
    loaded: Vec<Loaded>,
    /// A comparison of `meta nfproto` or `meta l4proto` that the next word makes needless.
    family: &'static str,
    protocol: &'static str,
}

impl Writer<'_> {
    fn load(&mut self, dest: usize, subject: Subject) {
        self.loaded.retain(|loaded| loaded.dest != dest);
        self.loaded.push(Loaded { dest, subject, mask: None });
    }

    /// Writes out what was waiting to be part of a longer word.
    fn settle(&mut self) {
        if !self.family.is_empty() {
            let family = if self.family == "ip" { "ipv4" } else { "ipv6" };
            self.words.push(format!("meta nfproto {family}"));
        }
        if !self.protocol.is_empty() {
            self.words.push(format!("meta l4proto {}", self.protocol));
        }
        self.family = "";
        self.protocol = "";
    }

    fn push(&mut self, word: impl Into<String>) {
        self.settle();
        self.words.push(word.into());
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Payload { dest, field } => {
                let subject = words::field(*field, self.table.family, self.family, self.protocol);
                if subject.covers_family {
                    self.family = "";
                }
                if subject.covers_protocol {
                    self.protocol = "";
                }
                self.load(*dest, subject);
            }
            Expr::Meta { dest, key } => self.load(*dest, words::meta(*key)),
            Expr::Ct { dest, key, direction } => self.load(*dest, words::ct(*key, *direction)),
            Expr::Fib { dest, result, flags } => self.load(*dest, words::fib(*result, *flags)),
            Expr::Option { dest, .. } => self.load(*dest, Subject::plain("exthdr", Kind::Hex)),
            Expr::Varying { dest, what, .. } => self.load(*dest, Subject::plain(what, Kind::Hex)),
            Expr::Bitwise { source, dest, bits, .. } => self.bitwise(*source, *dest, bits),
            Expr::Byteorder { source, dest, .. } => self.copy(*source, *dest),
            Expr::Compare { source, comparison, data } => self.compare(*source, *comparison, data),
            Expr::Range { source, inverted, from, to } => {
                let (name, kind) = self.subject(*source);
                let not = if *inverted { "!= " } else { "" };
                let range = format!("{}-{}", kind.show(from), kind.show(to));
                self.push(format!("{name} {not}{range}"));
            }
            Expr::Lookup { set, source, dest, inverted } => {
                self.lookup(set, *source, *dest, *inverted);
            }
            Expr::Immediate { dest: Register::Data(dest), data: Data::Value(value) } => {
                let shown = format!("0x{}", words::hex(value));
                self.load(*dest, Subject::constant(shown, value));
            }
            Expr::Immediate { data: Data::Verdict(verdict), .. } => {
                let verdict = words::verdict(verdict);
                self.push(verdict);
            }
            _ => {
                let word = self.statement(expr);
                self.push(word);
            }
        }
    }

    fn statement(&self, expr: &Expr) -> String {
        match expr {
            Expr::MetaSet { key, source } => {
                format!("{} set {}", words::meta(*key).name, self.value_of(*source))
            }
            Expr::CtSet { key, source } => {
                format!("{} set {}", words::ct(*key, None).name, self.value_of(*source))
            }
            Expr::PayloadSet { .. } => "(writes to the packet)".to_owned(),
            Expr::Dynset { set, .. } => format!("(update @{set})"),
            Expr::Chance(what) => format!("({what})"),
            Expr::Neutral(what) => (*what).to_owned(),
            Expr::Reject => "reject".to_owned(),
            Expr::Notrack => "notrack".to_owned(),
            Expr::Nat { what, port, translation } => match (port, translation) {
                (Some(register), Translation::Destination | Translation::Socket) => {
                    format!("{what} to :{}", self.port_of(*register))
                }
                _ => (*what).to_owned(),
            },
            Expr::Match(found) => xt_match(found),
            Expr::Target(target) => xt_target(target),
            Expr::Unknown(what) => format!("({what})"),
            _ => "(…)".to_owned(),
        }
    }

    fn find(&self, register: usize) -> Option<&Loaded> {
        self.loaded.iter().rev().find(|loaded| loaded.dest == register)
    }

    fn value_of(&self, register: usize) -> String {
        self.find(register).map_or("…".to_owned(), |loaded| loaded.subject.name.clone())
    }

    fn port_of(&self, register: usize) -> String {
        let loaded = self.find(register);
        let constant = loaded.and_then(|loaded| loaded.subject.value.as_deref());
        match constant.and_then(|value| value.first_chunk::<2>()) {
            Some(port) => u16::from_be_bytes(*port).to_string(),
            None => self.value_of(register),
        }
    }

    /// What is compared, and how its values are written.
    fn subject(&self, register: usize) -> (String, Kind) {
        match self.find(register) {
            Some(loaded) => (loaded.subject.name.clone(), loaded.subject.kind),
            None => ("…".to_owned(), Kind::Hex),
        }
    }

    fn copy(&mut self, source: usize, dest: usize) {
        if let Some(mut loaded) = self.find(source).cloned() {
            loaded.dest = dest;
            self.loaded.push(loaded);
        }
    }

    fn bitwise(&mut self, source: usize, dest: usize, bits: &Bits) {
        let Some(mut loaded) = self.find(source).cloned() else { return };
        loaded.dest = dest;
        match bits {
            Bits::Mask { mask, xor } if xor.iter().all(|byte| *byte == 0) => {
                loaded.mask = Some(mask.clone());
            }
            Bits::Mask { mask, xor } => {
                loaded.subject.name = format!(
                    "({} & 0x{} ^ 0x{})",
                    loaded.subject.name,
                    words::hex(mask),
                    words::hex(xor)
                );
            }
            Bits::Other => loaded.subject.name = format!("(… {})", loaded.subject.name),
        }
        self.loaded.retain(|other| other.dest != dest);
        self.loaded.push(loaded);
    }

    fn compare(&mut self, source: usize, comparison: Comparison, data: &[u8]) {
        let Some(loaded) = self.find(source).cloned() else {
            self.push("(…)");
            return;
        };
        let Subject { name, kind, .. } = &loaded.subject;
        let zero = data.iter().all(|byte| *byte == 0);
        if let Some(mask) = &loaded.mask {
            let word = match (kind.is_flags(), zero, comparison) {
                // `ct state established,related`: any of them.
                (true, true, Comparison::NotEqual) => format!("{name} {}", kind.show(mask)),
                (true, true, Comparison::Equal) => format!("{name} ! {}", kind.show(mask)),
                (true, ..) => format!(
                    "{name} & {} {}{}",
                    kind.show(mask),
                    words::operator(comparison, true),
                    kind.show(data)
                ),
                (false, ..) => {
                    let operator = words::operator(comparison, false);
                    match words::prefix(mask) {
                        Some(bits) => format!("{name} {operator}{}/{bits}", kind.show(data)),
                        None => {
                            format!("{name} & 0x{} {operator}{}", words::hex(mask), kind.show(data))
                        }
                    }
                }
            };
            self.push(word);
            return;
        }
        if comparison == Comparison::Equal && self.is_implied(name, data) {
            return;
        }
        let shown = kind.show(data);
        // A range is two comparisons.
        let begun = format!("{name} >= ");
        let last = self.words.last().filter(|_| comparison == Comparison::LessOrEqual);
        if let Some(first) = last.and_then(|word| word.strip_prefix(&begun)) {
            let range = format!("{name} {first}-{shown}");
            self.words.pop();
            self.words.push(range);
            return;
        }
        self.push(format!("{name} {}{shown}", words::operator(comparison, false)));
    }

    /// `meta nfproto ipv6` and `meta l4proto tcp` wait: what follows may say the same.
    fn is_implied(&mut self, name: &str, data: &[u8]) -> bool {
        match (name, data) {
            ("meta nfproto", [2]) => self.family = "ip",
            ("meta nfproto", [10]) => self.family = "ip6",
            ("meta l4proto", [number]) if words::protocol(*number).is_some() => {
                self.protocol = words::protocol(*number).unwrap_or_default();
            }
            _ => return false,
        }
        true
    }

    fn lookup(&mut self, set: &str, source: usize, dest: Option<Register>, inverted: bool) {
        let found = self.table.sets.get(set);
        let key_len = found.map_or(4, |set| set.key_len);
        let parts: Vec<Loaded> = (source..source + key_len)
            .step_by(4)
            .filter_map(|register| self.find(register).cloned())
            .collect();
        let name: Vec<&str> = parts.iter().map(|part| part.subject.name.as_str()).collect();
        let kinds: Vec<Kind> = parts.iter().map(|part| part.subject.kind).collect();
        let shown = match found {
            Some(set) if set.anonymous => elements(set, &kinds),
            _ => format!("@{set}"),
        };
        let name = name.join(" . ");
        let not = if inverted { "!= " } else { "" };
        match dest {
            None => self.push(format!("{name} {not}{shown}")),
            Some(Register::Verdict) => self.push(format!("{name} vmap {shown}")),
            Some(Register::Data(dest)) => {
                self.load(dest, Subject::plain(&format!("{name} map {shown}"), Kind::Hex));
            }
        }
    }
}

/// The elements of an anonymous set, or as many as one likes to read.
fn elements(set: &Set, kinds: &[Kind]) -> String {
    const MOST: usize = 12;
    let one = |element: &super::tables::Element| {
        let key = words::key(&element.from, &element.to, kinds);
        match &element.data {
            Some(Data::Verdict(verdict)) => format!("{key} : {}", words::verdict(verdict)),
            Some(Data::Value(value)) => format!("{key} : 0x{}", words::hex(value)),
            None => key,
        }
    };
    let mut shown: Vec<String> = set.elements.iter().take(MOST).map(one).collect();
    if set.elements.len() > MOST {
        shown.push("…".to_owned());
    }
    match &set.catch_all {
        Some(Data::Verdict(verdict)) => shown.push(format!("* : {}", words::verdict(verdict))),
        Some(Data::Value(value)) => shown.push(format!("* : 0x{}", words::hex(value))),
        None if set.has_catch_all => shown.push("*".to_owned()),
        None => {}
    }
    format!("{{ {} }}", shown.join(", "))
}

fn xt_match(found: &Match) -> String {
    match found {
        Match::Comment(text) => format!("/* {text} */"),
        _ => format!("-m {}", words::match_name(found)),
    }
}

fn xt_target(target: &Target) -> String {
    match target {
        Target::Reject => "reject".to_owned(),
        Target::Mark { value, mask } => format!("-j MARK --set-xmark {value:#x}/{mask:#x}"),
        Target::ConnectionMark => "-j CONNMARK".to_owned(),
        Target::Notrack => "-j NOTRACK".to_owned(),
        Target::Zone => "-j CT --zone".to_owned(),
        Target::Neutral(name) | Target::Nat(name) | Target::Unknown(name) => format!("-j {name}"),
    }
}
