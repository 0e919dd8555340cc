//! In tests, something happens to what the kernel has sent before it is read.

use std::cell::RefCell;

use nix::errno::Errno;
use nix::libc;

use super::wire::HEADER;
use crate::kernel::Error;

type Deed = Box<dyn FnMut(&mut [u8]) -> Result<(), Errno>>;

thread_local! {
    static DEED: RefCell<Option<Deed>> = const { RefCell::new(None) };
}

/// While `f` runs, the deed is done to each datagram that a socket of this thread receives from the
/// kernel. One that fails takes the place of the datagram. What the deed itself asks the kernel is
/// left alone.
pub fn meddle<T>(
    deed: impl FnMut(&mut [u8]) -> Result<(), Errno> + 'static,
    f: impl FnOnce() -> T,
) -> T {
    DEED.set(Some(Box::new(deed)));
    let outcome = f();
    DEED.set(None);
    outcome
}

pub(super) fn meddle_with(datagram: &mut [u8]) -> Result<(), Error> {
    let Some(mut deed) = DEED.take() else { return Ok(()) };
    let done = deed(datagram);
    DEED.set(Some(deed));
    done.map_err(|errno| Error::Receive(errno.into()))
}

/// While `f` runs, the dumps that are chosen by their number, from 0, say at their end that they
/// were interrupted, and have nothing in them. Returns how many dumps there were as well.
pub fn interrupt<T>(chosen: impl Fn(usize) -> bool + 'static, f: impl FnOnce() -> T) -> (T, usize) {
    /// `NLM_F_MULTI` and `NLM_F_DUMP_INTR` of `linux/netlink.h`.
    const MULTI: u8 = 0x2;
    const INTERRUPTED: u8 = 0x10;
    let dumps = std::rc::Rc::new(RefCell::new(0));
    let count = dumps.clone();
    let deed = move |datagram: &mut [u8]| {
        let mut at = 0;
        while let Some(head) = datagram.get_mut(at..at + HEADER) {
            let len = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
            // The flags have 16 bits.
            let low = if cfg!(target_endian = "little") { 6 } else { 7 };
            let is_end = i32::from(u16::from_ne_bytes([head[4], head[5]])) == libc::NLMSG_DONE;
            if head[low] & MULTI != 0 && chosen(*count.borrow()) {
                match is_end {
                    true => head[low] |= INTERRUPTED,
                    // An answer to another question.
                    false => head[8..12].fill(0xff),
                }
            }
            *count.borrow_mut() += usize::from(is_end);
            at += len.next_multiple_of(4);
        }
        Ok(())
    };
    let outcome = meddle(deed, f);
    let dumps = *dumps.borrow();
    (outcome, dumps)
}
