//! What takes several questions, answered as of one moment.

use nix::libc;

use super::read::generation;
use crate::kernel::netlink::socket::Socket;
use crate::kernel::{ATTEMPTS, Error};

/// What is read, and the one generation of the whole ruleset at which it was.
pub fn consistent<T>(
    socket: &mut Socket,
    mut read: impl FnMut(&mut Socket) -> Result<T, Error>,
) -> Result<(u32, T), Error> {
    let mut before = generation(socket)?;
    let mut last = Error::Restless;
    for _ in 0..ATTEMPTS {
        let found = read(socket);
        let now = generation(socket)?;
        match found {
            Ok(found) if now == before => return Ok((now, found)),
            Err(error) if now == before => match error {
                Error::Interrupted => {}
                // A table that goes with its socket moves no generation (`nft_rcv_nl_event`): it
                // may have been there when it was listed.
                Error::Kernel { errno: libc::ENOENT } => last = error,
                error => return Err(error),
            },
            // What a dump failed with while the ruleset moved says nothing: a set that was listed
            // may be gone.
            _ => before = now,
        }
    }
    Err(last)
}
