//! To which network namespace a state directory belongs.
//!
//! The stamp in a kernel's table names a generation of one history. In another namespace, with
//! another table, the same directory would be judged by a stamp that says nothing about it.

use super::error::Error;
use super::{NAMESPACE, store};
use crate::host::dir::Dir;
use crate::host::namespace::NetworkNamespace;

/// Refuses the directory of another namespace that still exists; otherwise it belongs to this one
/// from now on. Only under the lock.
///
/// Where it cannot be written down (a full or read-only disk), the next command tries again.
pub fn claim(top: &Dir) -> Result<(), Error> {
    let Ok(current) = NetworkNamespace::current() else { return Ok(()) };
    // One that cannot be read is written anew: it protects from a mistake, not from an attack.
    match written(top) {
        Some(owner) if owner == current => return Ok(()),
        Some(owner) if owner.exists() => {
            return Err(Error::OtherNamespace {
                path: top.path().to_owned(),
                inode: owner.inode(),
            });
        }
        _ => {}
    }
    let _ = store::replace(top, NAMESPACE, &[encode(&current).as_bytes()]);
    Ok(())
}

/// Whether the directory says to which it belongs.
pub fn is_known(top: &Dir) -> bool {
    written(top).is_some()
}

fn written(top: &Dir) -> Option<NetworkNamespace> {
    decode(&store::read_small(top, NAMESPACE).ok().flatten()?)
}

/// What is written in the file.
pub fn encode(namespace: &NetworkNamespace) -> String {
    serde_yaml::to_string(namespace).expect("a text and a number")
}

/// `None` for what is no namespace.
pub fn decode(bytes: &[u8]) -> Option<NetworkNamespace> {
    serde_yaml::from_str(std::str::from_utf8(bytes).ok()?).ok()
}
