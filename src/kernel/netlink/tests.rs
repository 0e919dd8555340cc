//! In tests, something happens to what the kernel has sent before it is read.

use std::cell::RefCell;

use nix::errno::Errno;

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
