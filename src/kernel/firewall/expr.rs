//! Expressions from their attributes: `linux/netfilter/nf_tables.h`.

use nix::libc;

use super::bounded;
use crate::firewall::expr::{
    Base, Bits, Data, Expr, Field, OptionKind, Register, Translation, Verdict,
};
use crate::firewall::value::Comparison;
use crate::firewall::xt;
use crate::kernel::netlink::wire::{Attrs, Malformed, be_u32, text};
use crate::kernel::nft::abi::*;

/// The expressions of a rule, one a nest.
pub fn read_all(list: &[u8]) -> Result<Vec<Expr>, Malformed> {
    let mut exprs = Vec::new();
    for attr in Attrs(list) {
        let nest = Attrs(attr?.1);
        let name = text(nest.find(NFTA_EXPR_NAME)?.ok_or(Malformed)?)?;
        let data = Parts(Attrs(nest.find(NFTA_EXPR_DATA)?.unwrap_or(&[])));
        // What lacks an attribute is from a kernel that says it otherwise.
        exprs.push(read(name, data).unwrap_or_else(|| Expr::Unknown(name.to_owned())));
    }
    Ok(exprs)
}

/// The attributes of an expression. What is malformed counts as missing, and then the expression
/// as not understood.
#[derive(Clone, Copy)]
struct Parts<'a>(Attrs<'a>);

impl<'a> Parts<'a> {
    fn bytes(self, attribute: u16) -> Option<&'a [u8]> {
        self.0.find(attribute).ok().flatten()
    }

    fn number(self, attribute: u16) -> Option<u32> {
        be_u32(self.bytes(attribute)?).ok()
    }

    fn offset(self, attribute: u16) -> Option<usize> {
        self.number(attribute).map(|number| number as usize)
    }

    /// Of data in registers.
    fn length(self, attribute: u16) -> Option<usize> {
        bounded(self.number(attribute)?).ok()
    }

    fn text(self, attribute: u16) -> Option<String> {
        text(self.bytes(attribute)?).ok().map(str::to_owned)
    }

    fn register(self, attribute: u16) -> Option<Register> {
        Register::from_number(self.number(attribute)?)
    }

    fn data_register(self, attribute: u16) -> Option<usize> {
        match self.register(attribute)? {
            Register::Data(offset) => Some(offset),
            Register::Verdict => None,
        }
    }

    fn data(self, attribute: u16) -> Option<Data> {
        data(self.bytes(attribute)?).ok().flatten()
    }

    fn value(self, attribute: u16) -> Option<Vec<u8>> {
        match self.data(attribute)? {
            Data::Value(value) => Some(value),
            Data::Verdict(_) => None,
        }
    }
}

/// A nest of `enum nft_data_attributes`.
pub fn data(nest: &[u8]) -> Result<Option<Data>, Malformed> {
    let nest = Attrs(nest);
    if let Some(value) = nest.find(NFTA_DATA_VALUE)? {
        return Ok(Some(Data::Value(value.to_vec())));
    }
    let Some(verdict) = nest.find(NFTA_DATA_VERDICT)? else { return Ok(None) };
    let code = be_u32(Attrs(verdict).find(NFTA_VERDICT_CODE)?.ok_or(Malformed)?)? as i32;
    let chain = || -> Result<String, Malformed> {
        Ok(text(Attrs(verdict).find(NFTA_VERDICT_CHAIN)?.ok_or(Malformed)?)?.to_owned())
    };
    // `enum nft_verdicts`; above them netfilter's own, with a number of a queue or an error.
    let verdict = match code {
        -1 => Verdict::Continue,
        -2 => Verdict::Break,
        -3 => Verdict::Jump(chain()?),
        -4 => Verdict::Goto(chain()?),
        -5 => Verdict::Return,
        _ => match code & 0xff {
            libc::NF_DROP => Verdict::Drop,
            libc::NF_ACCEPT => Verdict::Accept,
            _ => Verdict::Queue,
        },
    };
    Ok(Some(Data::Verdict(verdict)))
}

fn read(name: &str, p: Parts) -> Option<Expr> {
    Some(match name {
        "payload" => payload(p)?,
        "meta" => match (p.number(NFTA_META_KEY)?, p.data_register(NFTA_META_DREG)) {
            (key, Some(dest)) => Expr::Meta { dest, key },
            (key, None) => Expr::MetaSet { key, source: p.data_register(3)? },
        },
        "ct" => match (p.number(NFTA_CT_KEY)?, p.data_register(1)) {
            (key, Some(dest)) => {
                let direction = p.bytes(NFTA_CT_DIRECTION).and_then(|b| b.first().copied());
                Expr::Ct { dest, key, direction }
            }
            (key, None) => Expr::CtSet { key, source: p.data_register(NFTA_CT_SREG)? },
        },
        "fib" => Expr::Fib {
            dest: p.data_register(NFTA_FIB_DREG)?,
            result: p.number(NFTA_FIB_RESULT)?,
            flags: p.number(NFTA_FIB_FLAGS)?,
        },
        "immediate" => Expr::Immediate {
            dest: p.register(NFTA_IMMEDIATE_DREG)?,
            data: p.data(NFTA_IMMEDIATE_DATA)?,
        },
        "bitwise" => bitwise(p)?,
        "byteorder" => Expr::Byteorder {
            source: p.data_register(1)?,
            dest: p.data_register(2)?,
            len: p.length(4)?,
            size: p.length(5)?,
        },
        "cmp" => Expr::Compare {
            source: p.data_register(NFTA_CMP_SREG)?,
            comparison: comparison(p.number(NFTA_CMP_OP)?)?,
            data: p.value(NFTA_CMP_DATA)?,
        },
        "range" => Expr::Range {
            source: p.data_register(1)?,
            inverted: p.number(2)? == 1,
            from: p.value(3)?,
            to: p.value(4)?,
        },
        "lookup" => Expr::Lookup {
            set: p.text(NFTA_LOOKUP_SET)?,
            source: p.data_register(NFTA_LOOKUP_SREG)?,
            dest: match p.bytes(NFTA_LOOKUP_DREG) {
                Some(_) => Some(p.register(NFTA_LOOKUP_DREG)?),
                None => None,
            },
            inverted: p.number(NFTA_LOOKUP_FLAGS).unwrap_or(0) & 1 != 0,
        },
        "dynset" => Expr::Dynset {
            set: p.text(1)?,
            inverted: p.number(9).unwrap_or(0) & 1 != 0,
            stateful: p.bytes(7).is_some() || p.bytes(10).is_some(),
        },
        "match" => Expr::Match(xt::read_match(&p.text(1)?, p.number(2)?, p.bytes(3)?)),
        "target" => target(p)?,
        _ => return other(name, p),
    })
}

fn payload(p: Parts) -> Option<Expr> {
    let base = match p.number(NFTA_PAYLOAD_BASE)? {
        0 => Base::Link,
        PAYLOAD_NETWORK => Base::Network,
        PAYLOAD_TRANSPORT => Base::Transport,
        _ => Base::Other,
    };
    let (offset, len) = (p.offset(NFTA_PAYLOAD_OFFSET)?, p.length(NFTA_PAYLOAD_LEN)?);
    let field = Field { base, offset, len };
    Some(match p.data_register(NFTA_PAYLOAD_DREG) {
        Some(dest) => Expr::Payload { dest, field },
        None => Expr::PayloadSet { field },
    })
}

fn bitwise(p: Parts) -> Option<Expr> {
    let bits = match p.number(NFTA_BITWISE_OP).unwrap_or(0) {
        0 => Bits::Mask { mask: p.value(NFTA_BITWISE_MASK)?, xor: p.value(NFTA_BITWISE_XOR)? },
        _ => Bits::Other,
    };
    Some(Expr::Bitwise {
        source: p.data_register(NFTA_BITWISE_SREG)?,
        dest: p.data_register(NFTA_BITWISE_DREG)?,
        len: p.length(NFTA_BITWISE_LEN)?,
        bits,
    })
}

fn comparison(number: u32) -> Option<Comparison> {
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    let all = [Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual];
    all.get(number as usize).copied()
}

fn other(name: &str, p: Parts) -> Option<Expr> {
    Some(match name {
        "counter" => Expr::Neutral("counter"),
        "log" => Expr::Neutral("log"),
        "last" => Expr::Neutral("last"),
        "dup" => Expr::Neutral("dup"),
        "secmark" => Expr::Neutral("secmark"),
        "flow_offload" => Expr::Neutral("flow add"),
        "limit" => Expr::Chance("a rate"),
        "quota" => Expr::Chance("a quota"),
        "connlimit" => Expr::Chance("the number of connections"),
        "reject" => Expr::Reject,
        "notrack" => Expr::Notrack,
        "nat" => match p.number(NFTA_NAT_TYPE)? {
            NAT_DESTINATION => nat("dnat", Translation::Destination, p, NFTA_NAT_REG_PROTO_MIN),
            _ => nat("snat", Translation::Source, p, NFTA_NAT_REG_PROTO_MIN),
        },
        "redir" => nat("redirect", Translation::Destination, p, NFTA_REDIR_REG_PROTO_MIN),
        "masq" => nat("masquerade", Translation::Source, p, 2),
        "tproxy" => nat("tproxy", Translation::Socket, p, 3),
        "queue" => Expr::Immediate { dest: Register::Verdict, data: Data::Verdict(Verdict::Queue) },
        "exthdr" => {
            // `enum nft_exthdr_op`: IPv6 and IPv4 are 0 and 2.
            let kind = match p.number(6).unwrap_or(0) {
                0 | 2 => OptionKind::Network,
                _ => OptionKind::Transport,
            };
            let presence = p.number(5).unwrap_or(0) & 1 != 0;
            Expr::Option { dest: p.data_register(1)?, kind, length: p.length(4)?, presence }
        }
        "numgen" => varying("numgen", "depends on chance", p.data_register(1)?, 4, false),
        "hash" => {
            let why = "depends on the client's address or port";
            varying("jhash", why, p.data_register(2)?, 4, false)
        }
        "rt" => varying("rt", "depends on the route", p.data_register(1)?, 16, true),
        "socket" => varying("socket", "depends on a socket", p.data_register(2)?, 8, true),
        "objref" => object(p)?,
        _ => return None,
    })
}

fn nat(what: &'static str, translation: Translation, p: Parts, port: u16) -> Expr {
    Expr::Nat { what, translation, port: p.data_register(port) }
}

fn varying(
    what: &'static str,
    why: &'static str,
    dest: usize,
    length: usize,
    may_break: bool,
) -> Expr {
    Expr::Varying { what, why, dest, length, may_break }
}

/// ebtables and arptables have targets of these names, too; their tables are not looked at.
fn target(p: Parts) -> Option<Expr> {
    let name = p.text(1)?;
    Some(match name.as_str() {
        // `standard` and `ERROR` are iptables' own ways to write verdicts.
        "" | "standard" | "ERROR" => return None,
        name => Expr::Target(xt::read_target(name, p.number(2)?, p.bytes(3)?)),
    })
}

/// A named counter and the like: `NFT_OBJECT_*`.
fn object(p: Parts) -> Option<Expr> {
    Some(match p.number(1)? {
        1 => Expr::Neutral("counter name"),
        2 => Expr::Chance("a quota"),
        3 => Expr::Neutral("ct helper set"),
        4 => Expr::Chance("a rate"),
        5 => Expr::Chance("the number of connections"),
        7 => Expr::Neutral("ct timeout set"),
        8 => Expr::Neutral("secmark"),
        9 => Expr::Neutral("ct expectation set"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netlink::wire::Writer;

    /// What is loaded is made room for, known or not.
    #[test]
    fn what_does_not_fit_into_the_registers_is_not_understood() {
        let payload = |len: u32| {
            let mut writer = Writer::with_capacity(64);
            writer.attr_u32(NFTA_PAYLOAD_BASE, PAYLOAD_NETWORK);
            writer.attr_u32(NFTA_PAYLOAD_OFFSET, 12);
            writer.attr_u32(NFTA_PAYLOAD_LEN, len);
            writer.attr_u32(NFTA_PAYLOAD_DREG, 1);
            read("payload", Parts(Attrs(&writer.bytes)))
        };
        assert!(matches!(payload(64), Some(Expr::Payload { .. })));
        assert_eq!(payload(65), None);
        assert_eq!(payload(u32::MAX), None);
    }
}
