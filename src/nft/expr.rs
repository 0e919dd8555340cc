//! The expressions of the kernel's bytecode that our rules are made of: each written with
//! libnftnl and read from netlink attributes, side by side.
//!
//! Registers are `NFT_REG_1`-`4` (128 bit) or `NFT_REG32_00`- (32 bit), as in `nf_tables.h`.

use std::ffi::{CString, c_void};
use std::ptr::NonNull;

use nftnl::Rule;
use nftnl::expr::Expression;
use nftnl_sys as sys;
use nix::libc;

use super::abi::*;
use super::wire::{Attrs, Malformed, be_u32, be_u64, text};
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
    /// Without `dreg`: is the key in the set? With: the value found. `id` only when written.
    Lookup {
        set: String,
        id: Option<u32>,
        sreg: u32,
        dreg: Option<u32>,
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
    /// The port in register `min`. (`max` is always the same: not a range.)
    Redirect {
        min: u32,
        flags: u32,
    },
    Fib {
        flags: u32,
        result: u32,
        dreg: u32,
    },
}

/// An `nftnl_expr` while its fields are set.
struct Raw(NonNull<sys::nftnl_expr>);

impl Raw {
    fn new(name: &std::ffi::CStr) -> Self {
        // SAFETY: the name is a C string; libnftnl copies nothing of it but a static descriptor.
        let raw = unsafe { sys::nftnl_expr_alloc(name.as_ptr()) };
        // Null only for an unknown name or without memory; both leave nothing sensible to do.
        Self(NonNull::new(raw).expect("libnftnl knows the expression and there is memory"))
    }

    fn u32(self, field: u32, value: u32) -> Self {
        // SAFETY: the pointer is a live nftnl_expr; the fields of this type take 32 bits.
        unsafe { sys::nftnl_expr_set_u32(self.0.as_ptr(), field as u16, value) };
        self
    }

    fn u64(self, field: u32, value: u64) -> Self {
        // SAFETY: as in `u32`; the fields of this type take 64 bits.
        unsafe { sys::nftnl_expr_set_u64(self.0.as_ptr(), field as u16, value) };
        self
    }

    fn text(self, field: u32, value: &str) -> Self {
        let value = CString::new(value).expect("names of chains and sets have no zero");
        // SAFETY: both pointers are live; libnftnl copies the string.
        unsafe { sys::nftnl_expr_set_str(self.0.as_ptr(), field as u16, value.as_ptr()) };
        self
    }

    fn data(self, field: u32, value: &[u8]) -> Self {
        // NFT_DATA_VALUE_MAXLEN: libnftnl 1.2.4 copies whatever length it is given.
        assert!(value.len() <= 64);
        let (data, len) = (value.as_ptr().cast::<c_void>(), value.len() as u32);
        // SAFETY: the pointer and the length are one slice's, no longer than the field.
        unsafe { sys::nftnl_expr_set(self.0.as_ptr(), field as u16, data, len) };
        self
    }
}

impl Expression for Expr {
    fn to_expr(&self, _: &Rule) -> NonNull<sys::nftnl_expr> {
        let raw = match self {
            Expr::Meta { key, dreg } => Raw::new(c"meta")
                .u32(sys::NFTNL_EXPR_META_KEY, *key)
                .u32(sys::NFTNL_EXPR_META_DREG, *dreg),
            Expr::Cmp { op, sreg, data } => Raw::new(c"cmp")
                .u32(sys::NFTNL_EXPR_CMP_SREG, *sreg)
                .u32(sys::NFTNL_EXPR_CMP_OP, *op)
                .data(sys::NFTNL_EXPR_CMP_DATA, data),
            Expr::Payload { base, offset, len, dreg } => Raw::new(c"payload")
                .u32(sys::NFTNL_EXPR_PAYLOAD_BASE, *base)
                .u32(sys::NFTNL_EXPR_PAYLOAD_OFFSET, *offset)
                .u32(sys::NFTNL_EXPR_PAYLOAD_LEN, *len)
                .u32(sys::NFTNL_EXPR_PAYLOAD_DREG, *dreg),
            Expr::Bitwise { sreg, dreg, mask, xor } => Raw::new(c"bitwise")
                .u32(sys::NFTNL_EXPR_BITWISE_SREG, *sreg)
                .u32(sys::NFTNL_EXPR_BITWISE_DREG, *dreg)
                .u32(sys::NFTNL_EXPR_BITWISE_LEN, mask.len() as u32)
                .data(sys::NFTNL_EXPR_BITWISE_MASK, mask)
                .data(sys::NFTNL_EXPR_BITWISE_XOR, xor),
            Expr::Lookup { set, id, sreg, dreg } => {
                let mut raw = Raw::new(c"lookup")
                    .u32(sys::NFTNL_EXPR_LOOKUP_SREG, *sreg)
                    .text(sys::NFTNL_EXPR_LOOKUP_SET, set);
                if let Some(id) = id {
                    raw = raw.u32(sys::NFTNL_EXPR_LOOKUP_SET_ID, *id);
                }
                if let Some(dreg) = dreg {
                    raw = raw.u32(sys::NFTNL_EXPR_LOOKUP_DREG, *dreg);
                }
                raw
            }
            Expr::Immediate { dreg, data } => Raw::new(c"immediate")
                .u32(sys::NFTNL_EXPR_IMM_DREG, *dreg)
                .data(sys::NFTNL_EXPR_IMM_DATA, data),
            Expr::Verdict { code, chain } => {
                let raw = Raw::new(c"immediate")
                    .u32(sys::NFTNL_EXPR_IMM_DREG, REG_VERDICT)
                    .u32(sys::NFTNL_EXPR_IMM_VERDICT, *code as u32);
                match chain {
                    Some(chain) => raw.text(sys::NFTNL_EXPR_IMM_CHAIN, chain),
                    None => raw,
                }
            }
            Expr::Counter(counter) if *counter == Counter::default() => Raw::new(c"counter"),
            Expr::Counter(counter) => Raw::new(c"counter")
                .u64(sys::NFTNL_EXPR_CTR_PACKETS, counter.packets)
                .u64(sys::NFTNL_EXPR_CTR_BYTES, counter.bytes),
            Expr::Redirect { min, flags } => Raw::new(c"redir")
                .u32(sys::NFTNL_EXPR_REDIR_REG_PROTO_MIN, *min)
                .u32(sys::NFTNL_EXPR_REDIR_FLAGS, *flags),
            Expr::Fib { flags, result, dreg } => Raw::new(c"fib")
                .u32(sys::NFTNL_EXPR_FIB_FLAGS, *flags)
                .u32(sys::NFTNL_EXPR_FIB_RESULT, *result)
                .u32(sys::NFTNL_EXPR_FIB_DREG, *dreg),
        };
        raw.0
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

    fn u32(&mut self, attribute: u16) -> Result<u32, Malformed> {
        self.optional_u32(attribute)?.ok_or(Malformed)
    }

    fn u64(&mut self, attribute: u16) -> Result<u64, Malformed> {
        be_u64(self.take(attribute).ok_or(Malformed)?)
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
                if f.optional_u32(NFTA_LOOKUP_FLAGS)?.unwrap_or(0) != 0 {
                    return Err(Malformed);
                }
                Expr::Lookup {
                    set: text(f.take(NFTA_LOOKUP_SET).ok_or(Malformed)?)?.to_owned(),
                    id: f.optional_u32(NFTA_LOOKUP_SET_ID)?,
                    sreg: f.u32(NFTA_LOOKUP_SREG)?,
                    dreg: f.optional_u32(NFTA_LOOKUP_DREG)?,
                }
            }
            "immediate" => decode_immediate(&mut f)?,
            "counter" => {
                f.take(NFTA_COUNTER_PAD);
                let zero = f.0.iter().all(Option::is_none);
                Expr::Counter(if zero {
                    Counter::default()
                } else {
                    Counter {
                        packets: f.u64(NFTA_COUNTER_PACKETS)?,
                        bytes: f.u64(NFTA_COUNTER_BYTES)?,
                    }
                })
            }
            "redir" => {
                let min = f.u32(NFTA_REDIR_REG_PROTO_MIN)?;
                if f.optional_u32(NFTA_REDIR_REG_PROTO_MAX)?.is_some_and(|max| max != min) {
                    return Err(Malformed);
                }
                Expr::Redirect { min, flags: f.optional_u32(NFTA_REDIR_FLAGS)?.unwrap_or(0) }
            }
            "fib" => Expr::Fib {
                flags: f.u32(NFTA_FIB_FLAGS)?,
                result: f.u32(NFTA_FIB_RESULT)?,
                dreg: f.u32(NFTA_FIB_DREG)?,
            },
            _ => return Err(Malformed),
        };
        if f.0.iter().any(Option::is_some) { Err(Malformed) } else { Ok(expr) }
    }

    /// All expressions of a rule, from its `NFTA_RULE_EXPRESSIONS`.
    pub fn decode_all(list: &[u8]) -> Result<Vec<Expr>, Malformed> {
        Attrs(list).map(|attr| Expr::decode(Attrs(attr?.1))).collect()
    }
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

/// `NFT_GOTO` and `NFT_RETURN` as they stand in a verdict.
pub const GOTO: i32 = libc::NFT_GOTO;
pub const RETURN: i32 = libc::NFT_RETURN;
