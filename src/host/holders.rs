//! Which processes have a socket open.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use super::descriptors::{self, DESCRIPTORS_MAX};
use super::proc;

/// A process, as it names itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    /// The first 15 bytes of its name (`/proc/PID/comm`).
    pub name: String,
}

/// `NETLINK_NETFILTER` of `linux/netlink.h`.
const NETFILTER: &str = "12";

/// The processes that hold the netfilter socket with this address (`nl_pid`, netlink(7)) in the
/// network namespace of this thread, by number. Empty if that cannot be told: the processes of
/// others are only seen by root, and only those of the same process namespace.
pub fn holders(address: u32) -> Vec<Process> {
    let sockets = proc::text("/proc/thread-self/net/netlink").unwrap_or_default();
    inode(&sockets, address).map_or(vec![], holders_of_inode)
}

/// The processes that have the socket with this inode open, by number; as far as that can be told,
/// as above.
pub fn holders_of_inode(inode: u64) -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut budget = DESCRIPTORS_MAX;
    let mut pids: Vec<u32> = pids.filter(|pid| has_open(*pid, inode, &mut budget)).collect();
    pids.sort_unstable();
    let process = |pid| Process { pid, name: name(pid) };
    pids.into_iter().map(process).collect()
}

/// Whether the unix sockets of the network namespace of this thread, as the kernel lists them, have
/// one with this inode. Needs no privilege. `None` if it cannot be told. A path that a socket is
/// bound to may have lines of its own, which are taken for others.
pub fn is_listed(inode: u64) -> Option<bool> {
    let sockets = proc::text("/proc/thread-self/net/unix").ok()?;
    Some(lists(&sockets, inode))
}

/// Lines of `Num RefCount Protocol Flags Type St Inode Path` (`unix_seq_show`).
pub(super) fn lists(sockets: &str, inode: u64) -> bool {
    let inode = inode.to_string();
    sockets.lines().skip(1).any(|line| line.split_ascii_whitespace().nth(6) == Some(&inode))
}

/// Lines of `sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode` (`netlink_native_seq_show`).
pub(super) fn inode(sockets: &str, address: u32) -> Option<u64> {
    sockets.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let [_, NETFILTER, pid, .., inode] = fields[..] else { return None };
        (pid.parse() == Ok(address)).then(|| inode.parse().ok())?
    })
}

/// A descriptor may be copied and closed between the listing and the look at it: then once more.
fn has_open(pid: u32, inode: u64, budget: &mut usize) -> bool {
    let mut look = || {
        let (mut found, mut missed) = (false, false);
        descriptors::each(Path::new(&format!("/proc/{pid}")), |socket| {
            missed |= socket.is_err();
            found = socket.is_ok_and(|socket| socket.map(u64::from) == Some(inode));
            *budget = budget.saturating_sub(1);
            if found || *budget == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        (found, missed)
    };
    match look() {
        (false, true) => look().0,
        (found, _) => found,
    }
}

/// What a process calls itself; empty if that cannot be told.
pub fn name(pid: u32) -> String {
    let name = proc::text(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_socket_is_open_until_it_is_closed() {
        use std::os::fd::AsFd;
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let inode = rustix::fs::fstat(one.as_fd()).unwrap().st_ino;
        assert_eq!(is_listed(inode), Some(true));
        assert!(holders_of_inode(inode).iter().any(|holder| holder.pid == std::process::id()));
        drop(one);
        assert_eq!(is_listed(inode), Some(false));
        drop(other);
        let sockets = "\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000003 00000000 00000000 0001 03 4711 @/tmp/a 4712
";
        assert!(lists(sockets, 4711) && !lists(sockets, 4712) && !lists(sockets, 471));
    }

    #[test]
    fn a_socket_of_any_name_hides_no_other() {
        use std::ffi::OsStr;
        use std::os::fd::AsFd;
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::net::{UnixListener, UnixStream};
        let dir = tempfile::tempdir().unwrap();
        let _odd = UnixListener::bind(dir.path().join(OsStr::from_bytes(b"caf\xc3"))).unwrap();
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(is_listed(rustix::fs::fstat(one.as_fd()).unwrap().st_ino), Some(true));
    }

    #[test]
    fn a_socket_is_found_by_its_protocol_and_address() {
        let sockets = "\
sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
0000000000000000 0   4711       00000551 0        0        0     2        0        11
0000000000000000 12  4711       00000000 0        0        0     2        0        22
0000000000000000 12  3456789012 00000000 0        0        0     2        0        33
";
        assert_eq!(inode(sockets, 4711), Some(22));
        assert_eq!(inode(sockets, 3456789012), Some(33));
        assert_eq!(inode(sockets, 1), None);
    }
}
