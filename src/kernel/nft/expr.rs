//! The expressions of the kernel's bytecode that our rules are made of: each written with
//! libnftnl and read from netlink attributes, side by side.
//!
//! Registers are `NFT_REG_1`-`4` (128 bit) or `NFT_REG32_00`- (32 bit), as in `nf_tables.h`.

mod raw;

use std::ptr::NonNull;

use nftnl::Rule;
use nftnl::expr::Expression;
use nftnl_sys as sys;
use nix::libc;

use self::raw::Raw;
use super::abi::*;
use crate::kernel::netlink::wire::{Attrs, Malformed, be_u32, be_u64, text};
use crate::ruleset::Counter;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    Meta {
        key: u32,
        dreg: u32,
    },
    Cmp {
        op: u32,
        sreg: u32,
        data: Vec<u8>,
    },
    Payload {
        base: u32,
        offset: u32,
        len: u32,
        dreg: u32,
    },
    /// `(sreg & mask) ^ xor`
    Bitwise {
        sreg: u32,
        dreg: u32,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    /// Without `dreg`: is the key in the set, or, if `inverted`, is it not? With: the value found.
    /// `id` only when written.
    Lookup {
        set: String,
        id: Option<u32>,
        sreg: u32,
        dreg: Option<u32>,
        inverted: bool,
    },
    Immediate {
        dreg: u32,
        data: Vec<u8>,
    },
    Verdict {
        code: i32,
        chain: Option<String>,
    },
    Counter(Counter),
    /// Destination translation to the port in register `min`, and to no other address. (`max` is
    /// always the same: not a range.)
    Dnat {
        family: u32,
        min: u32,
        flags: u32,
    },
    /// To the port in register `min` of an address of this host.
    Redirect {
        min: u32,
        flags: u32,
    },
    Fib {
        flags: u32,
        result: u32,
        dreg: u32,
    },
    /// What connection tracking knows of the packet's flow, in one direction if there are two.
    Ct {
        key: u32,
        direction: Option<u8>,
        dreg: u32,
    },
    /// Sets what connection tracking is to know of the packet's flow in one direction.
    SetCt {
        key: u32,
        direction: u8,
        sreg: u32,
    },
    /// Refuses the packet, as `NFTA_REJECT_TYPE` and `NFTA_REJECT_ICMP_CODE` say.
    Reject {
        kind: u32,
        code: u8,
    },
}

impl Expression for Expr {
    fn to_expr(&self, _: &Rule) -> NonNull<sys::nftnl_expr> {
        self.raw().into_inner()
    }
}

impl Expr {
    fn raw(&self) -> Raw {
        match self {
            Expr::Meta { key, dreg } => {
                Raw::new(c"meta").u32(raw::META_KEY, *key).u32(raw::META_DREG, *dreg)
            }
            Expr::Cmp { op, sreg, data } => Raw::new(c"cmp")
                .u32(raw::CMP_SREG, *sreg)
                .u32(raw::CMP_OP, *op)
                .data(raw::CMP_DATA, data),
            Expr::Payload { base, offset, len, dreg } => Raw::new(c"payload")
                .u32(raw::PAYLOAD_BASE, *base)
                .u32(raw::PAYLOAD_OFFSET, *offset)
                .u32(raw::PAYLOAD_LEN, *len)
                .u32(raw::PAYLOAD_DREG, *dreg),
            Expr::Bitwise { sreg, dreg, mask, xor } => Raw::new(c"bitwise")
                .u32(raw::BITWISE_SREG, *sreg)
                .u32(raw::BITWISE_DREG, *dreg)
                .u32(raw::BITWISE_LEN, mask.len() as u32)
                .data(raw::BITWISE_MASK, mask)
                .data(raw::BITWISE_XOR, xor),
            Expr::Lookup { set, id, sreg, dreg, inverted } => {
                let mut lookup =
                    Raw::new(c"lookup").u32(raw::LOOKUP_SREG, *sreg).text(raw::LOOKUP_SET, set);
                if let Some(id) = id {
                    lookup = lookup.u32(raw::LOOKUP_SET_ID, *id);
                }
                if *inverted {
                    lookup = lookup.u32(raw::LOOKUP_FLAGS, LOOKUP_INVERTED);
                }
                match dreg {
                    Some(dreg) => lookup.u32(raw::LOOKUP_DREG, *dreg),
                    None => lookup,
                }
            }
            Expr::Immediate { dreg, data } => {
                Raw::new(c"immediate").u32(raw::IMM_DREG, *dreg).data(raw::IMM_DATA, data)
            }
            Expr::Ct { key, direction, dreg } => {
                let ct = Raw::new(c"ct").u32(raw::CT_KEY, *key).u32(raw::CT_DREG, *dreg);
                match direction {
                    Some(direction) => ct.u8(raw::CT_DIRECTION, *direction),
                    None => ct,
                }
            }
            Expr::Verdict { .. }
            | Expr::Counter(_)
            | Expr::Reject { .. }
            | Expr::Dnat { .. }
            | Expr::Redirect { .. }
            | Expr::Fib { .. }
            | Expr::SetCt { .. } => self.raw_statement(),
        }
    }

    /// What does something with the packet.
    fn raw_statement(&self) -> Raw {
        match self {
            Expr::Verdict { code, chain } => {
                let verdict = Raw::new(c"immediate")
                    .u32(raw::IMM_DREG, REG_VERDICT)
                    .u32(raw::IMM_VERDICT, *code as u32);
                match chain {
                    Some(chain) => verdict.text(raw::IMM_CHAIN, chain),
                    None => verdict,
                }
            }
            Expr::Counter(counter) if *counter == Counter::default() => Raw::new(c"counter"),
            Expr::Counter(counter) => Raw::new(c"counter")
                .u64(raw::CTR_PACKETS, counter.packets)
                .u64(raw::CTR_BYTES, counter.bytes),
            Expr::Dnat { family, min, flags } => Raw::new(c"nat")
                .u32(raw::NAT_TYPE, NAT_DESTINATION)
                .u32(raw::NAT_FAMILY, *family)
                .u32(raw::NAT_PROTO_MIN, *min)
                .u32(raw::NAT_FLAGS, *flags),
            Expr::Redirect { min, flags } => {
                Raw::new(c"redir").u32(raw::REDIR_PROTO_MIN, *min).u32(raw::REDIR_FLAGS, *flags)
            }
            Expr::Fib { flags, result, dreg } => Raw::new(c"fib")
                .u32(raw::FIB_FLAGS, *flags)
                .u32(raw::FIB_RESULT, *result)
                .u32(raw::FIB_DREG, *dreg),
            Expr::SetCt { key, direction, sreg } => Raw::new(c"ct")
                .u32(raw::CT_KEY, *key)
                .u8(raw::CT_DIRECTION, *direction)
                .u32(raw::CT_SREG, *sreg),
            Expr::Reject { kind, code } => {
                Raw::new(c"reject").u32(raw::REJECT_TYPE, *kind).u8(raw::REJECT_CODE, *code)
            }
            other => unreachable!("{other:?} is not a statement"),
        }
    }
}

/// The fields of an expression by attribute number. All known expressions have fewer than 10;
/// a number beyond is one that we do not know.
struct Fields<'a>([Option<&'a [u8]>; 10]);

impl<'a> Fields<'a> {
    fn read(attrs: Attrs<'a>) -> Result<Self, Malformed> {
        let mut fields = Self([None; 10]);
        for attr in attrs {
            let (kind, value) = attr?;
            *fields.0.get_mut(usize::from(kind)).ok_or(Malformed)? = Some(value);
        }
        Ok(fields)
    }

    fn take(&mut self, attribute: u16) -> Option<&'a [u8]> {
        self.0[usize::from(attribute)].take()
    }

    fn optional_u32(&mut self, attribute: u16) -> Result<Option<u32>, Malformed> {
        self.take(attribute).map(be_u32).transpose()
    }

    fn optional_u8(&mut self, attribute: u16) -> Result<Option<u8>, Malformed> {
        match self.take(attribute) {
            None => Ok(None),
            Some(&[value]) => Ok(Some(value)),
            Some(_) => Err(Malformed),
        }
    }

    fn u32(&mut self, attribute: u16) -> Result<u32, Malformed> {
        self.optional_u32(attribute)?.ok_or(Malformed)
    }

    fn u64(&mut self, attribute: u16) -> Result<u64, Malformed> {
        be_u64(self.take(attribute).ok_or(Malformed)?)
    }

    /// The register of a port that is no range.
    fn one_port(&mut self, min: u16, max: u16) -> Result<u32, Malformed> {
        let min = self.u32(min)?;
        match self.optional_u32(max)? {
            Some(max) if max != min => Err(Malformed),
            _ => Ok(min),
        }
    }

    /// The `NFTA_DATA_VALUE` in a nest.
    fn data(&mut self, attribute: u16) -> Result<Vec<u8>, Malformed> {
        let nest = self.take(attribute).ok_or(Malformed)?;
        Ok(Attrs(nest).find(NFTA_DATA_VALUE)?.ok_or(Malformed)?.to_vec())
    }
}

impl Expr {
    /// Reads one `NFTA_LIST_ELEM` of a rule's expressions. An expression or an attribute that we
    /// do not know is an error: nothing of a rule may be overlooked.
    pub fn decode(attrs: Attrs) -> Result<Expr, Malformed> {
        let name = text(attrs.find(NFTA_EXPR_NAME)?.ok_or(Malformed)?)?;
        let mut f = Fields::read(Attrs(attrs.find(NFTA_EXPR_DATA)?.unwrap_or(&[])))?;
        let expr = match name {
            "meta" => Expr::Meta { key: f.u32(NFTA_META_KEY)?, dreg: f.u32(NFTA_META_DREG)? },
            "cmp" => Expr::Cmp {
                sreg: f.u32(NFTA_CMP_SREG)?,
                op: f.u32(NFTA_CMP_OP)?,
                data: f.data(NFTA_CMP_DATA)?,
            },
            "payload" => Expr::Payload {
                dreg: f.u32(NFTA_PAYLOAD_DREG)?,
                base: f.u32(NFTA_PAYLOAD_BASE)?,
                offset: f.u32(NFTA_PAYLOAD_OFFSET)?,
                len: f.u32(NFTA_PAYLOAD_LEN)?,
            },
            "bitwise" => {
                // Kernels before 5.6 have no operation: mask and xor is all they know.
                let op = f.optional_u32(NFTA_BITWISE_OP)?.unwrap_or(0);
                let len = f.u32(NFTA_BITWISE_LEN)? as usize;
                let (mask, xor) = (f.data(NFTA_BITWISE_MASK)?, f.data(NFTA_BITWISE_XOR)?);
                if op != 0 || mask.len() != len || xor.len() != len {
                    return Err(Malformed);
                }
                let (sreg, dreg) = (f.u32(NFTA_BITWISE_SREG)?, f.u32(NFTA_BITWISE_DREG)?);
                Expr::Bitwise { sreg, dreg, mask, xor }
            }
            "lookup" => {
                let flags = f.optional_u32(NFTA_LOOKUP_FLAGS)?.unwrap_or(0);
                if flags & !LOOKUP_INVERTED != 0 {
                    return Err(Malformed);
                }
                Expr::Lookup {
                    set: text(f.take(NFTA_LOOKUP_SET).ok_or(Malformed)?)?.to_owned(),
                    id: f.optional_u32(NFTA_LOOKUP_SET_ID)?,
                    sreg: f.u32(NFTA_LOOKUP_SREG)?,
                    dreg: f.optional_u32(NFTA_LOOKUP_DREG)?,
                    inverted: flags != 0,
                }
            }
            "immediate" => decode_immediate(&mut f)?,
            name => decode_statement(name, &mut f)?,
        };
        if f.0.iter().any(Option::is_some) { Err(Malformed) } else { Ok(expr) }
    }

    /// All expressions of a rule, from its `NFTA_RULE_EXPRESSIONS`.
    pub fn decode_all(list: &[u8]) -> Result<Vec<Expr>, Malformed> {
        Attrs(list).map(|attr| Expr::decode(Attrs(attr?.1))).collect()
    }
}

/// What does something with the packet.
fn decode_statement(name: &str, f: &mut Fields) -> Result<Expr, Malformed> {
    Ok(match name {
        "counter" => {
            f.take(NFTA_COUNTER_PAD);
            let zero = f.0.iter().all(Option::is_none);
            Expr::Counter(if zero {
                Counter::default()
            } else {
                Counter { packets: f.u64(NFTA_COUNTER_PACKETS)?, bytes: f.u64(NFTA_COUNTER_BYTES)? }
            })
        }
        "nat" => {
            if f.u32(NFTA_NAT_TYPE)? != NAT_DESTINATION {
                return Err(Malformed);
            }
            let min = f.one_port(NFTA_NAT_REG_PROTO_MIN, NFTA_NAT_REG_PROTO_MAX)?;
            let flags = f.optional_u32(NFTA_NAT_FLAGS)?.unwrap_or(0);
            Expr::Dnat { family: f.u32(NFTA_NAT_FAMILY)?, min, flags }
        }
        "redir" => {
            let min = f.one_port(NFTA_REDIR_REG_PROTO_MIN, NFTA_REDIR_REG_PROTO_MAX)?;
            Expr::Redirect { min, flags: f.optional_u32(NFTA_REDIR_FLAGS)?.unwrap_or(0) }
        }
        "ct" => {
            let key = f.u32(NFTA_CT_KEY)?;
            let direction = f.optional_u8(NFTA_CT_DIRECTION)?;
            match f.optional_u32(NFTA_CT_DREG)? {
                Some(dreg) => Expr::Ct { key, direction, dreg },
                None => Expr::SetCt {
                    key,
                    direction: direction.ok_or(Malformed)?,
                    sreg: f.u32(NFTA_CT_SREG)?,
                },
            }
        }
        "reject" => Expr::Reject {
            kind: f.u32(NFTA_REJECT_TYPE)?,
            // A reset has no code, and some kernels report none.
            code: f.optional_u8(NFTA_REJECT_CODE)?.unwrap_or(0),
        },
        "fib" => Expr::Fib {
            flags: f.u32(NFTA_FIB_FLAGS)?,
            result: f.u32(NFTA_FIB_RESULT)?,
            dreg: f.u32(NFTA_FIB_DREG)?,
        },
        _ => return Err(Malformed),
    })
}

fn decode_immediate(f: &mut Fields) -> Result<Expr, Malformed> {
    let dreg = f.u32(NFTA_IMMEDIATE_DREG)?;
    if dreg != REG_VERDICT {
        return Ok(Expr::Immediate { dreg, data: f.data(NFTA_IMMEDIATE_DATA)? });
    }
    let data = Attrs(f.take(NFTA_IMMEDIATE_DATA).ok_or(Malformed)?);
    let (code, chain) = decode_verdict(data)?;
    Ok(Expr::Verdict { code, chain: chain.map(str::to_owned) })
}

/// The code and the chain of an `NFTA_DATA_VERDICT`.
pub fn decode_verdict(data: Attrs<'_>) -> Result<(i32, Option<&str>), Malformed> {
    let verdict = Attrs(data.find(NFTA_DATA_VERDICT)?.ok_or(Malformed)?);
    let code = be_u32(verdict.find(NFTA_VERDICT_CODE)?.ok_or(Malformed)?)? as i32;
    let chain = verdict.find(NFTA_VERDICT_CHAIN)?.map(text).transpose()?;
    Ok((code, chain))
}

/// The counter among the expressions of an element: `NFTA_SET_ELEM_EXPR`.
pub fn decode_counter(nest: &[u8]) -> Result<Counter, Malformed> {
    match Expr::decode(Attrs(nest))? {
        Expr::Counter(counter) => Ok(counter),
        _ => Err(Malformed),
    }
}

/// `NF_DROP`, `NFT_GOTO` and `NFT_RETURN` as a verdict has them.
pub const DROP: i32 = libc::NF_DROP;
pub const GOTO: i32 = libc::NFT_GOTO;
pub const RETURN: i32 = libc::NFT_RETURN;
