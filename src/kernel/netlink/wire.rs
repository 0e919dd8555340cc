//! Netlink's own framing: messages and attributes, written and read with every length checked.

use nix::libc;

/// `struct nlmsghdr` of `linux/netlink.h`.
pub const HEADER: usize = 16;
/// `struct nfgenmsg` of `linux/netfilter/nfnetlink.h`, after the header of every message of a
/// netfilter subsystem.
pub const FAMILY_HEADER: usize = 4;
/// `struct nlattr`.
const ATTR: usize = 4;
/// `NLA_TYPE_MASK`: the upper two bits are flags.
const TYPE_MASK: u16 = 0x3fff;
/// `NLA_F_NESTED`
pub const NESTED: u16 = 1 << 15;

const fn align(len: usize) -> usize {
    len.next_multiple_of(4)
}

/// Bytes that are no netlink: a length that does not fit what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// A place in a [`Writer`] whose length is not known yet.
#[must_use]
pub struct Open(usize);

/// Messages one after another in one buffer.
#[derive(Default)]
pub struct Writer {
    pub bytes: Vec<u8>,
}

impl Writer {
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    /// Begins a message of a netfilter subsystem. `res_id` is zero but in the messages around a
    /// batch.
    pub fn begin(
        &mut self,
        message_type: u16,
        flags: u16,
        sequence: u32,
        family: u8,
        res_id: u16,
    ) -> Open {
        let open = self.begin_plain(message_type, flags, sequence);
        self.bytes.extend_from_slice(&[family, libc::NFNETLINK_V0 as u8]);
        self.bytes.extend_from_slice(&res_id.to_be_bytes());
        open
    }

    /// Begins a message of any other subsystem: what follows the header is the caller's.
    pub fn begin_plain(&mut self, message_type: u16, flags: u16, sequence: u32) -> Open {
        let open = Open(self.bytes.len());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&message_type.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        open
    }

    pub fn end(&mut self, open: Open) {
        self.end_at(open.0);
    }

    /// Sets the length of the message that begins at `start` and reaches to the end.
    pub fn end_at(&mut self, start: usize) {
        let len = u32::try_from(self.bytes.len() - start).expect("a message of less than 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&len.to_ne_bytes());
    }

    pub fn nest(&mut self, attribute: u16) -> Open {
        let open = Open(self.bytes.len());
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(attribute | NESTED).to_ne_bytes());
        open
    }

    /// The caller keeps a nest under 64 KiB: its length has 16 bits.
    pub fn close(&mut self, open: Open) {
        let len = length(self.bytes.len() - open.0);
        self.bytes[open.0..open.0 + 2].copy_from_slice(&len.to_ne_bytes());
    }

    pub fn attr(&mut self, attribute: u16, value: &[u8]) {
        let len = length(ATTR + value.len());
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&attribute.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(align(self.bytes.len()), 0);
    }

    pub fn attr_u32(&mut self, attribute: u16, value: u32) {
        self.attr(attribute, &value.to_be_bytes());
    }

    pub fn attr_u64(&mut self, attribute: u16, value: u64) {
        self.attr(attribute, &value.to_be_bytes());
    }

    /// A string with its closing zero, as nft sends them.
    pub fn attr_str(&mut self, attribute: u16, value: &str) {
        let len = length(ATTR + value.len() + 1);
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&attribute.to_ne_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.bytes.resize(align(self.bytes.len()), 0);
    }
}

/// Of an attribute, with its header. A longer one cannot be sent, and must not be cut off.
fn length(len: usize) -> u16 {
    u16::try_from(len).expect("an attribute of less than 64 KiB")
}

/// One message as it was received.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes after the family header.
    pub fn attrs(&self) -> Result<Attrs<'a>, Malformed> {
        self.payload.get(FAMILY_HEADER..).map(Attrs).ok_or(Malformed)
    }

    /// The family that the message is about.
    pub fn family(&self) -> Option<u8> {
        self.payload.first().copied()
    }
}

/// The messages of one datagram.
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let whole = self.0;
        self.0 = &[];
        let Some(head) = whole.first_chunk::<HEADER>() else {
            return Some(Err(Malformed));
        };
        let [l0, l1, l2, l3, t0, t1, f0, f1, s0, s1, s2, s3, ..] = *head;
        let len = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let Some(payload) = whole.get(HEADER..len) else {
            return Some(Err(Malformed));
        };
        self.0 = whole.get(align(len)..).unwrap_or(&[]);
        Some(Ok(Message {
            kind: u16::from_ne_bytes([t0, t1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            payload,
        }))
    }
}

/// The attributes of a message or a nest, as (type, value).
#[derive(Clone, Copy)]
pub struct Attrs<'a>(pub &'a [u8]);

impl<'a> Iterator for Attrs<'a> {
    type Item = Result<(u16, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let whole = self.0;
        self.0 = &[];
        let Some(&[l0, l1, t0, t1]) = whole.first_chunk::<ATTR>() else {
            return Some(Err(Malformed));
        };
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(value) = whole.get(ATTR..len) else {
            return Some(Err(Malformed));
        };
        self.0 = whole.get(align(len)..).unwrap_or(&[]);
        Some(Ok((u16::from_ne_bytes([t0, t1]) & TYPE_MASK, value)))
    }
}

impl<'a> Attrs<'a> {
    /// The value of the first attribute of this type.
    pub fn find(self, attribute: u16) -> Result<Option<&'a [u8]>, Malformed> {
        for attr in self {
            let (kind, value) = attr?;
            if kind == attribute {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

pub fn be_u16(value: &[u8]) -> Result<u16, Malformed> {
    array(value).map(u16::from_be_bytes)
}

/// A value of this length and no other.
pub fn array<const N: usize>(value: &[u8]) -> Result<[u8; N], Malformed> {
    value.try_into().map_err(|_| Malformed)
}

pub fn be_u32(value: &[u8]) -> Result<u32, Malformed> {
    value.try_into().map(u32::from_be_bytes).map_err(|_| Malformed)
}

pub fn be_u64(value: &[u8]) -> Result<u64, Malformed> {
    value.try_into().map(u64::from_be_bytes).map_err(|_| Malformed)
}

/// A string that may or may not bring its closing zero.
pub fn text(value: &[u8]) -> Result<&str, Malformed> {
    let value = value.strip_suffix(&[0]).unwrap_or(value);
    std::str::from_utf8(value).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut writer = Writer::default();
        let message = writer.begin(3, 0, 7, 1, 0);
        writer.attr_str(1, "portmap");
        let nest = writer.nest(4);
        writer.attr_u32(1, 5);
        writer.close(nest);
        writer.end(message);

        let messages: Vec<_> = Messages(&writer.bytes).map(Result::unwrap).collect();
        assert_eq!((messages.len(), messages[0].sequence), (1, 7));
        let attrs = messages[0].attrs().unwrap();
        assert_eq!(text(attrs.find(1).unwrap().unwrap()), Ok("portmap"));
        let nest = Attrs(attrs.find(4).unwrap().unwrap());
        assert_eq!(be_u32(nest.find(1).unwrap().unwrap()), Ok(5));
    }

    #[test]
    fn lengths_beyond_the_buffer_are_errors() {
        for len in [0u16, 3, 9, 200] {
            let mut bytes = vec![0; 8];
            bytes[..2].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(Attrs(&bytes).next(), Some(Err(Malformed)), "{len}");
        }
        assert_eq!(Attrs(&[1, 2, 3]).next(), Some(Err(Malformed)));
        for len in [0u32, 15, 33, u32::MAX] {
            let mut bytes = vec![0; 32];
            bytes[..4].copy_from_slice(&len.to_ne_bytes());
            assert!(Messages(&bytes).next().unwrap().is_err(), "{len}");
        }
    }

    #[test]
    #[should_panic(expected = "less than 64 KiB")]
    fn no_length_is_cut_off() {
        Writer::default().attr(1, &vec![0; 65532]);
    }

    #[test]
    fn an_unpadded_tail_ends_the_walk() {
        let mut bytes = vec![0; 5];
        bytes[..2].copy_from_slice(&5u16.to_ne_bytes());
        let attrs: Vec<_> = Attrs(&bytes).collect();
        assert_eq!(attrs, [Ok((0, &[0][..]))]);
    }
}
