//! A transaction: messages side by side in one buffer, and which step each belongs to.

use nftnl::{MsgType, NlMsg};
use nix::libc;

use super::abi::NFNL_BATCH_GENID;
use super::query::{FAMILY, nft_type};
use crate::kernel::netlink::wire::{Open, Writer};
use crate::ruleset::TableName;

/// Which step a message belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// Where the message begins in the buffer.
    pub start: usize,
    /// Position in the list of steps.
    pub step: usize,
    /// Of the step's elements, the first that the message carries.
    pub first_element: usize,
}

/// The table that steps are about, as it is made. By default that of the files.
pub struct Place {
    pub name: TableName,
    /// `NFTA_TABLE_FLAGS`
    pub flags: u32,
    pub comment: Option<String>,
}

impl Default for Place {
    fn default() -> Self {
        Self { name: TableName::Main, flags: 0, comment: None }
    }
}

pub struct Batch {
    pub writer: Writer,
    pub place: Place,
    pub origins: Vec<Origin>,
    /// Numbers of anonymous sets.
    pub next_set: u32,
    step: usize,
    scratch: Vec<u64>,
}

/// No element, with the longest comment and a counter, is longer than this.
pub const ELEMENT_MAX: usize = 512;
/// A message of elements is closed when it is this long: the list's length has 16 bits.
pub const ELEMENTS_MAX: usize = u16::MAX as usize - ELEMENT_MAX - 256;

impl Batch {
    /// The beginning of a batch; with room for so many elements. With a generation, the kernel only
    /// takes it while the ruleset is at it (`NFNL_BATCH_GENID`, Linux 4.13).
    pub fn open(generation: Option<u32>, elements: usize) -> Self {
        let mut batch = Self {
            place: Place::default(),
            writer: Writer::with_capacity(elements * 36 + 16 * 1024),
            origins: Vec::new(),
            next_set: 0,
            step: usize::MAX,
            scratch: Vec::new(),
        };
        let begin = batch.frame(libc::NFNL_MSG_BATCH_BEGIN);
        if let Some(generation) = generation {
            batch.writer.attr_u32(NFNL_BATCH_GENID, generation);
        }
        batch.writer.end(begin);
        batch
    }

    /// What follows belongs to the step of this position.
    pub fn at_step(&mut self, step: usize) {
        self.step = step;
    }

    /// The end.
    pub fn close(&mut self) {
        // One acknowledgement for all, of the last message: older kernels give none for the end.
        if let Some(last) = self.origins.last().map(|o| o.start + 6) {
            self.writer.bytes[last] |= libc::NLM_F_ACK as u8;
        }
        self.step = usize::MAX;
        let end = self.frame(libc::NFNL_MSG_BATCH_END);
        self.writer.end(end);
    }

    /// The messages around a batch are of no family and name the subsystem in `res_id`.
    fn frame(&mut self, kind: i32) -> Open {
        self.origin(0);
        let subsystem = libc::NFNL_SUBSYS_NFTABLES as u16;
        let family = libc::NFPROTO_UNSPEC as u8;
        self.writer.begin(kind as u16, 0, 0, family, subsystem)
    }

    fn origin(&mut self, first_element: usize) {
        let start = self.writer.bytes.len();
        self.origins.push(Origin { start, step: self.step, first_element });
    }

    /// Begins a message of the current step.
    pub fn begin(&mut self, kind: i32, flags: i32, first_element: usize) -> Open {
        self.origin(first_element);
        self.writer.begin(nft_type(kind), flags as u16, 0, FAMILY, 0)
    }

    /// Names the table, in the attribute that a kind of message has for it.
    pub fn name_table(&mut self, attribute: u16) {
        self.writer.attr_str(attribute, &self.place.name.to_string());
    }

    /// Lets libnftnl write a message, and then `more` add attributes to it. The flags are set
    /// here: the crate asks for an acknowledgement of every message.
    pub fn object(
        &mut self,
        object: &impl NlMsg,
        verb: MsgType,
        flags: i32,
        more: impl FnOnce(&mut Writer),
    ) {
        self.scratch.resize((nftnl::nft_nlmsg_maxsize() as usize).div_ceil(8), 0);
        // SAFETY: the buffer is as long as the trait demands, and aligned for `nlmsghdr`. The
        // objects written here (tables, chains, rules with a score of expressions) are far smaller.
        unsafe { object.write(self.scratch.as_mut_ptr().cast(), 0, verb) };
        let first = self.scratch[0].to_ne_bytes();
        let len = u32::from_ne_bytes([first[0], first[1], first[2], first[3]]) as usize;
        self.origin(0);
        let words = &self.scratch[..len.div_ceil(8)];
        let start = self.writer.bytes.len();
        self.writer.bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        self.writer.bytes.truncate(start + len);
        let flags = (flags | libc::NLM_F_REQUEST) as u16;
        self.writer.bytes[start + 6..start + 8].copy_from_slice(&flags.to_ne_bytes());
        more(&mut self.writer);
        self.writer.end_at(start);
    }

    /// Whether there is nothing between the beginning and the end.
    pub fn is_empty(&self) -> bool {
        self.origins.len() <= 2
    }

    /// Numbers the messages: the first is that of the beginning.
    pub fn number(&mut self, first: u32) {
        for (index, origin) in self.origins.iter().enumerate() {
            let sequence = first.wrapping_add(index as u32).to_ne_bytes();
            self.writer.bytes[origin.start + 8..origin.start + 12].copy_from_slice(&sequence);
        }
    }
}
