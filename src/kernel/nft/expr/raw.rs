//! libnftnl's expressions, safe whatever is put into them.
//!
//! libnftnl copies as many bytes as it is told into a field of the expression, so a value of
//! another width than the field's would be written over its neighbours. The table of fields says
//! which expression a field belongs to and how wide it is; no others can be made.

use std::ffi::{CStr, CString, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;

use nftnl_sys as sys;

/// A field of one kind of expression, for values of type `T`.
pub struct Field<T: ?Sized> {
    expression: &'static CStr,
    number: u32,
    value: PhantomData<T>,
}

const fn field<T: ?Sized>(expression: &'static CStr, number: u32) -> Field<T> {
    Field { expression, number, value: PhantomData }
}

// The widths are those of the structures in libnftnl's src/expr/*.c. `[u8]` is a
// `union nftnl_data_reg`.
pub const META_KEY: Field<u32> = field(c"meta", sys::NFTNL_EXPR_META_KEY);
pub const META_DREG: Field<u32> = field(c"meta", sys::NFTNL_EXPR_META_DREG);
pub const CMP_SREG: Field<u32> = field(c"cmp", sys::NFTNL_EXPR_CMP_SREG);
pub const CMP_OP: Field<u32> = field(c"cmp", sys::NFTNL_EXPR_CMP_OP);
pub const CMP_DATA: Field<[u8]> = field(c"cmp", sys::NFTNL_EXPR_CMP_DATA);
pub const PAYLOAD_BASE: Field<u32> = field(c"payload", sys::NFTNL_EXPR_PAYLOAD_BASE);
pub const PAYLOAD_OFFSET: Field<u32> = field(c"payload", sys::NFTNL_EXPR_PAYLOAD_OFFSET);
pub const PAYLOAD_LEN: Field<u32> = field(c"payload", sys::NFTNL_EXPR_PAYLOAD_LEN);
pub const PAYLOAD_DREG: Field<u32> = field(c"payload", sys::NFTNL_EXPR_PAYLOAD_DREG);
pub const BITWISE_SREG: Field<u32> = field(c"bitwise", sys::NFTNL_EXPR_BITWISE_SREG);
pub const BITWISE_DREG: Field<u32> = field(c"bitwise", sys::NFTNL_EXPR_BITWISE_DREG);
pub const BITWISE_LEN: Field<u32> = field(c"bitwise", sys::NFTNL_EXPR_BITWISE_LEN);
pub const BITWISE_MASK: Field<[u8]> = field(c"bitwise", sys::NFTNL_EXPR_BITWISE_MASK);
pub const BITWISE_XOR: Field<[u8]> = field(c"bitwise", sys::NFTNL_EXPR_BITWISE_XOR);
pub const LOOKUP_SREG: Field<u32> = field(c"lookup", sys::NFTNL_EXPR_LOOKUP_SREG);
pub const LOOKUP_DREG: Field<u32> = field(c"lookup", sys::NFTNL_EXPR_LOOKUP_DREG);
pub const LOOKUP_SET: Field<str> = field(c"lookup", sys::NFTNL_EXPR_LOOKUP_SET);
pub const LOOKUP_SET_ID: Field<u32> = field(c"lookup", sys::NFTNL_EXPR_LOOKUP_SET_ID);
pub const LOOKUP_FLAGS: Field<u32> = field(c"lookup", sys::NFTNL_EXPR_LOOKUP_FLAGS);
pub const IMM_DREG: Field<u32> = field(c"immediate", sys::NFTNL_EXPR_IMM_DREG);
pub const IMM_DATA: Field<[u8]> = field(c"immediate", sys::NFTNL_EXPR_IMM_DATA);
pub const IMM_VERDICT: Field<u32> = field(c"immediate", sys::NFTNL_EXPR_IMM_VERDICT);
pub const IMM_CHAIN: Field<str> = field(c"immediate", sys::NFTNL_EXPR_IMM_CHAIN);
pub const CTR_PACKETS: Field<u64> = field(c"counter", sys::NFTNL_EXPR_CTR_PACKETS);
pub const CTR_BYTES: Field<u64> = field(c"counter", sys::NFTNL_EXPR_CTR_BYTES);
pub const REDIR_PROTO_MIN: Field<u32> = field(c"redir", sys::NFTNL_EXPR_REDIR_REG_PROTO_MIN);
pub const REDIR_FLAGS: Field<u32> = field(c"redir", sys::NFTNL_EXPR_REDIR_FLAGS);
pub const NAT_TYPE: Field<u32> = field(c"nat", sys::NFTNL_EXPR_NAT_TYPE);
pub const NAT_FAMILY: Field<u32> = field(c"nat", sys::NFTNL_EXPR_NAT_FAMILY);
pub const NAT_PROTO_MIN: Field<u32> = field(c"nat", sys::NFTNL_EXPR_NAT_REG_PROTO_MIN);
pub const NAT_FLAGS: Field<u32> = field(c"nat", sys::NFTNL_EXPR_NAT_FLAGS);
pub const FIB_FLAGS: Field<u32> = field(c"fib", sys::NFTNL_EXPR_FIB_FLAGS);
pub const FIB_RESULT: Field<u32> = field(c"fib", sys::NFTNL_EXPR_FIB_RESULT);
pub const FIB_DREG: Field<u32> = field(c"fib", sys::NFTNL_EXPR_FIB_DREG);
pub const CT_KEY: Field<u32> = field(c"ct", sys::NFTNL_EXPR_CT_KEY);
pub const CT_DIRECTION: Field<u8> = field(c"ct", sys::NFTNL_EXPR_CT_DIR);
pub const CT_SREG: Field<u32> = field(c"ct", sys::NFTNL_EXPR_CT_SREG);
pub const CT_DREG: Field<u32> = field(c"ct", sys::NFTNL_EXPR_CT_DREG);
pub const REJECT_TYPE: Field<u32> = field(c"reject", sys::NFTNL_EXPR_REJECT_TYPE);
pub const REJECT_CODE: Field<u8> = field(c"reject", sys::NFTNL_EXPR_REJECT_CODE);

/// `NFT_DATA_VALUE_MAXLEN`: libnftnl 1.2.4 copies whatever length it is given into so many bytes.
const DATA_MAX: usize = 64;

/// An expression while its fields are set. It is not freed: who takes [`Raw::into_inner`] puts it
/// into a rule, which owns it then.
pub struct Raw {
    expression: &'static CStr,
    raw: NonNull<sys::nftnl_expr>,
}

impl Raw {
    pub fn new(expression: &'static CStr) -> Self {
        // SAFETY: the name is a C string; libnftnl keeps none of it.
        let raw = unsafe { sys::nftnl_expr_alloc(expression.as_ptr()) };
        // Null only for an unknown name or without memory; both leave nothing sensible to do.
        let raw = NonNull::new(raw).expect("libnftnl knows the expression and there is memory");
        Self { expression, raw }
    }

    pub fn into_inner(self) -> NonNull<sys::nftnl_expr> {
        self.raw
    }

    /// The number of a field, which is this expression's and no other's.
    fn number<T: ?Sized>(&self, field: &Field<T>) -> u16 {
        assert_eq!(field.expression, self.expression, "a field of another expression");
        u16::try_from(field.number).expect("libnftnl has fewer fields")
    }

    pub fn u8(self, field: Field<u8>, value: u8) -> Self {
        let number = self.number(&field);
        // SAFETY: the pointer is a live expression's, and the field is one of it of 8 bits.
        unsafe { sys::nftnl_expr_set_u8(self.raw.as_ptr(), number, value) };
        self
    }

    pub fn u32(self, field: Field<u32>, value: u32) -> Self {
        let number = self.number(&field);
        // SAFETY: the pointer is a live expression's, and the field is one of it of 32 bits.
        unsafe { sys::nftnl_expr_set_u32(self.raw.as_ptr(), number, value) };
        self
    }

    pub fn u64(self, field: Field<u64>, value: u64) -> Self {
        let number = self.number(&field);
        // SAFETY: the pointer is a live expression's, and the field is one of it of 64 bits.
        unsafe { sys::nftnl_expr_set_u64(self.raw.as_ptr(), number, value) };
        self
    }

    pub fn text(self, field: Field<str>, value: &str) -> Self {
        let number = self.number(&field);
        let value = CString::new(value).expect("names of chains and sets have no zero");
        // SAFETY: both pointers are live, the field is one of the expression's that takes a
        // string, and libnftnl copies it.
        unsafe { sys::nftnl_expr_set_str(self.raw.as_ptr(), number, value.as_ptr()) };
        self
    }

    pub fn data(self, field: Field<[u8]>, value: &[u8]) -> Self {
        let number = self.number(&field);
        assert!(value.len() <= DATA_MAX, "{} bytes of data", value.len());
        let (data, len) = (value.as_ptr().cast::<c_void>(), value.len() as u32);
        // SAFETY: the pointer and the length are one slice's, and the field is one of the
        // expression's that has room for it.
        unsafe { sys::nftnl_expr_set(self.raw.as_ptr(), number, data, len) };
        self
    }
}
