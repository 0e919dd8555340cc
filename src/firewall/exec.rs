//! One expression at a time, on registers of which not everything is known.

use super::connection::{DESTINATION_PORT, SOURCE_PORT, address_fields};
use super::expr::{Base, Bits, Data, Expr, Field, Register, Translation, Verdict, ct, fib, meta};
use super::facts::{Loaded, Moment};
use super::lookup::look_up;
use super::matches;
use super::state::State;
use super::tables::{Set, Table};
use super::value::{Byte, Truth, Why, any, compare, either, exactly, within};
use super::xt::Target;

/// What comes of an expression.
#[derive(Debug, PartialEq)]
pub enum Step {
    Next,
    /// The rule does not match.
    Break,
    /// The rule ends here, or goes on.
    Perhaps(Why),
    /// One of these, or else the rule does not match. `why` if there is more than one way.
    Ends {
        ends: Vec<End>,
        or_break: bool,
        why: Option<Why>,
    },
    /// Whatever an expression can do.
    Anything(Why),
}

/// How a rule can end the walk through its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Accept,
    Drop,
    Reject,
    Return,
    Jump(String),
    Goto(String),
    Translate(Translation),
    Anything(Why),
}

impl Step {
    fn end(end: End) -> Self {
        Step::Ends { ends: vec![end], or_break: false, why: None }
    }

    /// A condition: `why` is asked for only where it is not decided.
    fn only_if(truth: Truth, why: impl FnOnce() -> Why) -> Self {
        match truth {
            Truth::Yes => Step::Next,
            Truth::No => Step::Break,
            Truth::Maybe => Step::Perhaps(why()),
        }
    }
}

/// The registers, and why what is unknown in them is so.
pub struct Registers {
    bytes: [Byte; Register::SIZE],
    reasons: [&'static str; Register::SIZE / 4],
    /// Behind this, nothing has been written.
    written: usize,
}

const NO_REASON: &str = "depends on what is not known of the packet";

impl Registers {
    pub fn new() -> Self {
        let (bytes, reasons) = ([Byte::ANY; Register::SIZE], [NO_REASON; Register::SIZE / 4]);
        Self { bytes, reasons, written: 0 }
    }

    /// As they are before a rule. There are thousands of rules, and most write a few bytes.
    pub fn forget(&mut self) {
        self.bytes[..self.written].fill(Byte::ANY);
        self.reasons[..self.written / 4].fill(NO_REASON);
        self.written = 0;
    }

    fn load(&self, from: usize, len: usize) -> Option<&[Byte]> {
        self.bytes.get(from..from.checked_add(len)?)
    }

    /// With zeros up to the next multiple of four.
    fn store(&mut self, to: usize, bytes: &[Byte], reason: &'static str) -> Option<()> {
        let end = to.checked_add(bytes.len())?;
        let padded = end.next_multiple_of(4);
        self.bytes.get_mut(end..padded)?.fill(Byte::ZERO);
        self.bytes.get_mut(to..end)?.copy_from_slice(bytes);
        self.reasons[to / 4..padded / 4].fill(reason);
        self.written = self.written.max(padded);
        Some(())
    }

    fn why(&self, from: usize, len: usize) -> Why {
        let words = from / 4..(from + len).div_ceil(4);
        let unknown = |word: &usize| {
            self.bytes[word * 4..word * 4 + 4].iter().any(|byte| byte.known().is_none())
        };
        let word = words.clone().find(unknown).unwrap_or(from / 4);
        self.reasons.get(word).copied().unwrap_or(NO_REASON).into()
    }
}

/// Where an expression is evaluated.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub moment: Moment<'a>,
    pub table: &'a Table,
}

impl Place<'_> {
    /// Carries out an expression. `None` where it reaches out of the registers.
    pub fn step(&self, expr: &Expr, registers: &mut Registers, state: &mut State) -> Step {
        self.try_step(expr, registers, state)
            .unwrap_or_else(|| Step::Anything("uses registers that do not exist".into()))
    }

    fn try_step(&self, expr: &Expr, r: &mut Registers, state: &mut State) -> Option<Step> {
        let moment = &self.moment;
        Some(match expr {
            Expr::Payload { dest, field } => {
                let reason = reason_of_field(moment, *field);
                put(r, *dest, moment.payload(state, *field), reason)?
            }
            Expr::Meta { dest, key } => {
                put(r, *dest, moment.meta(state, *key), reason_of_meta(*key))?
            }
            Expr::Ct { dest, key, direction } => {
                put(r, *dest, moment.ct(state, *key, *direction), reason_of_ct(*key))?
            }
            Expr::Fib { dest, result, flags } => {
                put(r, *dest, moment.fib(*result, *flags), reason_of_fib(*flags))?
            }
            Expr::Option { dest, kind, length, presence } => {
                let loaded = moment.option(*kind, *length, *presence);
                put(r, *dest, loaded, "depends on options in the packet")?
            }
            Expr::Varying { why, dest, length, may_break, .. } => {
                let loaded = if *may_break { Loaded::Perhaps } else { Loaded::Value };
                put(r, *dest, loaded(any(*length)), why)?
            }
            Expr::Bitwise { .. } | Expr::Byteorder { .. } | Expr::Immediate { .. } => {
                compute(expr, r)?
            }
            Expr::Compare { source, comparison, data } => {
                let truth = compare(r.load(*source, data.len())?, *comparison, data);
                Step::only_if(truth, || r.why(*source, data.len()))
            }
            Expr::Range { source, inverted, from, to } => {
                let inside = within(r.load(*source, from.len())?, from, to);
                Step::only_if(inside.invert_if(*inverted), || r.why(*source, from.len()))
            }
            Expr::Lookup { set, source, dest, inverted } => match self.table.sets.get(set) {
                Some(set) => lookup(r, set, *source, *dest, *inverted)?,
                None => Step::Anything(format!("looks in a set that was not read, {set}").into()),
            },
            Expr::Match(found) => {
                let (truth, why) = matches::matches(moment, state, found);
                Step::only_if(truth, || why)
            }
            _ => self.act(expr, r, state)?,
        })
    }

    /// Expressions that do something to the packet, or say nothing about it.
    fn act(&self, expr: &Expr, r: &mut Registers, state: &mut State) -> Option<Step> {
        Some(match expr {
            Expr::MetaSet { key: meta::MARK, source } => {
                state.mark = r.load(*source, 4)?.try_into().ok()?;
                Step::Next
            }
            // `meta pkttype set` and the like are written so rarely that they are not followed.
            Expr::MetaSet { key: meta::NFTRACE | meta::PRIORITY | meta::SECMARK, .. } => Step::Next,
            Expr::MetaSet { .. } => Step::Anything("changes what is known of the packet".into()),
            Expr::CtSet { key, source } => {
                let source = r.load(*source, 4)?.try_into().ok()?;
                set_ct(*key, source, state)
            }
            Expr::PayloadSet { field } => self.write(*field, state),
            Expr::Notrack => {
                state.tracking = state.tracking.exempted();
                Step::Next
            }
            Expr::Dynset { stateful, inverted, .. } => match (stateful, inverted) {
                (true, _) => Step::Perhaps("depends on how often it is asked for".into()),
                (false, false) => Step::Perhaps("depends on the room in a set".into()),
                (false, true) => Step::Perhaps("depends on what is in a set".into()),
            },
            Expr::Chance(what) => Step::Perhaps(format!("depends on {what}").into()),
            Expr::Neutral(_) => Step::Next,
            Expr::Reject => Step::end(End::Reject),
            Expr::Nat { translation, .. } => translate(*translation),
            Expr::Target(target) => aim(target, state),
            Expr::Unknown(what) => Step::Anything(format!("has an expression `{what}`").into()),
            // All others are conditions.
            _ => Step::Anything("has an expression that is not known here".into()),
        })
    }

    /// What is written to the packet is not followed, but where.
    fn write(&self, field: Field, state: &mut State) -> Step {
        let headers = std::rc::Rc::make_mut(&mut state.headers);
        let header = match field.base {
            Base::Network => &mut headers.network,
            Base::Transport => &mut headers.transport,
            Base::Link | Base::Other => return Step::Next,
        };
        match header.get_mut(field.offset..field.offset.saturating_add(field.len)) {
            Some(bytes) => bytes.fill(Byte::ANY),
            None => return Step::Anything("changes the packet".into()),
        }
        Step::Next
    }
}

fn put(r: &mut Registers, dest: usize, loaded: Loaded, reason: &'static str) -> Option<Step> {
    Some(match loaded {
        Loaded::Value(bytes) => {
            r.store(dest, &bytes, reason)?;
            Step::Next
        }
        Loaded::Perhaps(bytes) => {
            r.store(dest, &bytes, reason)?;
            Step::Perhaps(reason.into())
        }
        Loaded::Nothing => Step::Break,
    })
}

fn compute(expr: &Expr, r: &mut Registers) -> Option<Step> {
    match expr {
        Expr::Immediate { dest: Register::Data(dest), data: Data::Value(value) } => {
            r.store(*dest, &exactly(value), NO_REASON)?;
        }
        Expr::Immediate { dest: Register::Verdict, data: Data::Verdict(verdict) } => {
            return Some(match end(verdict) {
                Ok(end) => Step::end(end),
                Err(step) => step,
            });
        }
        Expr::Bitwise { source, dest, len, bits } => {
            let bytes = r.load(*source, *len)?;
            let result = match bits {
                Bits::Mask { mask, xor } if mask.len() == *len && xor.len() == *len => {
                    let operands = mask.iter().zip(xor);
                    let each = bytes.iter().zip(operands);
                    each.map(|(byte, (mask, xor))| byte.map(|v| v & mask ^ xor)).collect()
                }
                _ => any(*len),
            };
            let reason = r.reasons[*source / 4];
            r.store(*dest, &result, reason)?;
        }
        Expr::Byteorder { source, dest, len, size } => {
            let mut bytes = r.load(*source, *len)?.to_vec();
            if cfg!(target_endian = "little") && *size > 0 {
                bytes.chunks_mut(*size).for_each(<[Byte]>::reverse);
            }
            let reason = r.reasons[*source / 4];
            r.store(*dest, &bytes, reason)?;
        }
        _ => return None,
    }
    Some(Step::Next)
}

/// How a verdict ends a rule; or that it does not.
fn end(verdict: &Verdict) -> Result<End, Step> {
    Ok(match verdict {
        Verdict::Accept => End::Accept,
        Verdict::Drop => End::Drop,
        Verdict::Return => End::Return,
        Verdict::Jump(chain) => End::Jump(chain.clone()),
        Verdict::Goto(chain) => End::Goto(chain.clone()),
        Verdict::Queue => End::Anything("asks a program (queue)".into()),
        Verdict::Continue => return Err(Step::Next),
        Verdict::Break => return Err(Step::Break),
    })
}

fn lookup(
    r: &mut Registers,
    set: &Set,
    source: usize,
    dest: Option<Register>,
    inverted: bool,
) -> Option<Step> {
    let found = look_up(set, r.load(source, set.key_len)?);
    let member = match found.is_member() {
        // Rules add and remove elements while packets come in.
        _ if set.dynamic => Truth::Maybe,
        truth => truth,
    };
    let why = || match set.dynamic {
        true => "depends on a set that rules fill".into(),
        false => r.why(source, set.key_len),
    };
    let Some(dest) = dest else {
        return Some(Step::only_if(member.invert_if(inverted), why));
    };
    if member == Truth::No {
        return Some(Step::Break);
    }
    if set.dynamic {
        return Some(Step::Anything(why()));
    }
    let data = found.data(set);
    match dest {
        Register::Verdict => {
            let verdicts = data.iter().filter_map(|data| match data {
                Data::Verdict(verdict) => Some(end(verdict)),
                Data::Value(_) => None,
            });
            let (mut ends, mut or_break, mut next) = (Vec::new(), found.nothing, false);
            for verdict in verdicts {
                match verdict {
                    Ok(end) => ends.push(end),
                    Err(Step::Next) => next = true,
                    Err(_) => or_break = true,
                }
            }
            if next {
                // Goes on with the rule, which nothing follows in practice.
                or_break = true;
            }
            let unsure = ends.len() > 1 || or_break;
            Some(Step::Ends { ends, or_break, why: unsure.then(why) })
        }
        Register::Data(dest) => {
            let values = data.iter().filter_map(|data| match data {
                Data::Value(value) => Some(exactly(value)),
                Data::Verdict(_) => None,
            });
            let value = values.reduce(|one, other| either(&one, &other));
            let why = why();
            r.store(dest, &value.unwrap_or_else(|| any(set.data_len)), NO_REASON)?;
            Some(Step::only_if(member, || why))
        }
    }
}

fn set_ct(key: u32, source: [Byte; 4], state: &mut State) -> Step {
    match key {
        ct::MARK => {
            // Without a connection nothing is set.
            let unsure = state.tracking.absent || state.tracking.untracked;
            for (byte, set) in state.connection_mark.iter_mut().zip(source) {
                *byte = if unsure { byte.or(set) } else { set };
            }
            Step::Next
        }
        ct::ZONE => {
            state.tracking.template |= state.tracking.absent;
            state.tracking.absent = false;
            Step::Next
        }
        ct::LABELS | ct::HELPER | ct::EVENTMASK => Step::Next,
        _ => Step::Anything("changes what is known of the connection".into()),
    }
}

fn translate(translation: Translation) -> Step {
    match translation {
        // Only where a socket is found.
        Translation::Socket => Step::Ends {
            ends: vec![End::Translate(translation)],
            or_break: true,
            why: Some("depends on a program that listens".into()),
        },
        _ => Step::end(End::Translate(translation)),
    }
}

/// A target of iptables.
fn aim(target: &Target, state: &mut State) -> Step {
    match target {
        Target::Reject => Step::end(End::Reject),
        Target::Neutral(_) => Step::Next,
        Target::Mark { value, mask } => {
            let operands = value.to_ne_bytes().into_iter().zip(mask.to_ne_bytes());
            for (byte, (value, mask)) in state.mark.iter_mut().zip(operands) {
                *byte = byte.map(|byte| (byte & !mask) ^ value);
            }
            Step::Next
        }
        Target::ConnectionMark => {
            state.mark = [Byte::ANY; 4];
            state.connection_mark = [Byte::ANY; 4];
            Step::Next
        }
        Target::Notrack => {
            state.tracking = state.tracking.exempted();
            Step::Next
        }
        Target::Zone => set_ct(ct::ZONE, [Byte::ANY; 4], state),
        Target::Nat(name) => translate(match name.as_str() {
            "SNAT" | "MASQUERADE" => Translation::Source,
            "TPROXY" => Translation::Socket,
            _ => Translation::Destination,
        }),
        Target::Unknown(name) => Step::Anything(format!("has the target {name}").into()),
    }
}

fn reason_of_field(moment: &Moment, field: Field) -> &'static str {
    let ipv6 = moment.connection.is_ipv6();
    let (source, destination, len) = address_fields(ipv6);
    let (client, port) = match moment.leg.is_answer() {
        true => (destination, DESTINATION_PORT),
        false => (source, SOURCE_PORT),
    };
    match field.base {
        Base::Network if (client..client + len).contains(&field.offset) => {
            "depends on the client's address"
        }
        Base::Transport if field.offset == port => "depends on the client's port",
        Base::Link => "depends on the client's hardware address",
        _ => NO_REASON,
    }
}

fn reason_of_meta(key: u32) -> &'static str {
    match key {
        meta::MARK => "depends on a mark from elsewhere",
        meta::SKUID | meta::SKGID | meta::CGROUP => "depends on the program that sends",
        meta::TIME_NS | meta::TIME_DAY | meta::TIME_HOUR => "depends on the time",
        meta::PRANDOM | meta::CPU => "depends on chance",
        meta::IIFTYPE | meta::OIFTYPE | meta::IIFKIND | meta::OIFKIND => {
            "depends on the kind of interface"
        }
        _ => NO_REASON,
    }
}

fn reason_of_ct(key: u32) -> &'static str {
    match key {
        ct::MARK => "depends on a mark from elsewhere",
        ct::SRC | ct::SRC_IP | ct::SRC_IP6 => "depends on the client's address",
        ct::PROTO_SRC => "depends on the client's port",
        _ => "depends on what is not known of the connection",
    }
}

fn reason_of_fib(flags: u32) -> &'static str {
    match flags & fib::SADDR {
        0 => "depends on how this host routes the address",
        _ => "depends on how this host routes the client's address",
    }
}
