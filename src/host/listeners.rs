//! Sockets that wait for clients, and whose they are.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::Path;

use nix::unistd::{Uid, User};
use rustix::io::Errno;

use super::descriptors::{self, DESCRIPTORS_MAX};
use super::proc;
use crate::mapping::{Family, Port, Protocol};

/// A socket that waits for clients: a listening one, or one of UDP that is not connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub protocol: Protocol,
    /// Unspecified for all addresses of the family; never an IPv4 address in IPv6 form.
    pub address: IpAddr,
    /// Whether `::` leaves out IPv4 (`IPV6_V6ONLY`, ipv6(7)).
    pub v6only: bool,
    pub port: Port,
    /// `SO_BINDTODEVICE`, socket(7).
    pub interface: Option<String>,
    /// The user who made the socket.
    pub uid: u32,
    pub user: Option<String>,
    /// Names the socket in /proc/PID/fd.
    pub inode: u32,
    /// `None` if it was not looked for, or belongs to somebody into whose processes this user may
    /// not look.
    pub program: Option<Program>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Program {
    pub pid: u32,
    /// As the kernel knows it: at most 15 bytes (proc(5), `comm`).
    pub name: String,
}

/// What could be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    /// Sorted by protocol and port.
    listeners: Vec<Listener>,
    /// Protocols of which it is not known who listens.
    unseen: Vec<Protocol>,
}

impl Listener {
    /// Whether it serves clients that connect to this address of the host.
    pub fn serves(&self, address: IpAddr) -> bool {
        match self.wildcard() {
            Some(family) => family.covers(Family::of(&address.into())),
            None => self.address == address,
        }
    }

    /// The families whose addresses it serves, all of them; `None` for a single address.
    pub fn wildcard(&self) -> Option<Family> {
        match self.address {
            address if !address.is_unspecified() => None,
            IpAddr::V4(_) => Some(Family::Ipv4),
            IpAddr::V6(_) if self.v6only => Some(Family::Ipv6),
            IpAddr::V6(_) => Some(Family::Both),
        }
    }
}

impl Listening {
    pub fn new(mut listeners: Vec<Listener>, unseen: Vec<Protocol>) -> Self {
        listeners.sort_by_key(|l| (l.protocol, l.port));
        Self { listeners, unseen }
    }

    /// Those on one port.
    pub fn on(&self, protocol: Protocol, port: Port) -> &[Listener] {
        let key = |l: &Listener| (l.protocol, l.port);
        let start = self.listeners.partition_point(|l| key(l) < (protocol, port));
        let len = self.listeners[start..].partition_point(|l| key(l) == (protocol, port));
        &self.listeners[start..start + len]
    }

    pub fn is_seen(&self, protocol: Protocol) -> bool {
        !self.unseen.contains(&protocol)
    }

    /// Looks up the programs and users of the listeners that `wanted` chooses.
    pub fn name(&mut self, wanted: impl Fn(&Listener) -> bool) {
        let chosen: Vec<_> = self.listeners.iter_mut().filter(|l| wanted(l)).collect();
        if chosen.is_empty() {
            return;
        }
        let inodes = chosen.iter().map(|l| l.inode).collect();
        let owners = owners(Path::new("/proc"), inodes);
        let mut users = BTreeMap::new();
        for listener in chosen {
            listener.program = owners.get(&listener.inode).cloned();
            let user = users.entry(listener.uid).or_insert_with(|| user_name(listener.uid));
            listener.user.clone_from(user);
        }
    }
}

fn user_name(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}

/// Who holds the sockets with these inodes. Of several processes the first, which is the parent of
/// the others unless numbers have begun anew; but the service manager only if there is no other,
/// since it keeps the sockets that it has handed on (systemd.socket(5)).
fn owners(root: &Path, mut inodes: Vec<u32>) -> HashMap<u32, Program> {
    inodes.sort_unstable();
    inodes.dedup();
    let mut found: HashMap<u32, Program> = HashMap::new();
    // Those of which no other is to be looked for.
    let mut known = 0;
    let mut budget = DESCRIPTORS_MAX;
    for pid in pids(root) {
        let directory = root.join(pid.to_string());
        let mut name = None;
        descriptors::each(&directory, |socket| {
            if known == inodes.len() || budget == 0 {
                return ControlFlow::Break(());
            }
            budget -= 1;
            let inode = match socket {
                Ok(Some(inode)) => inode,
                // What goes for one goes for all of the process.
                Err(Errno::ACCESS | Errno::PERM) => return ControlFlow::Break(()),
                _ => return ControlFlow::Continue(()),
            };
            let is_known = found.get(&inode).is_some_and(|program| program.pid != 1);
            if !is_known && inodes.binary_search(&inode).is_ok() {
                known += usize::from(pid != 1);
                let name = name.get_or_insert_with(|| program_name(&directory));
                found.insert(inode, Program { pid, name: name.clone() });
            }
            ControlFlow::Continue(())
        });
        if known == inodes.len() || budget == 0 {
            break;
        }
    }
    found
}

/// In ascending order.
fn pids(proc: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
    let mut pids: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

fn program_name(directory: &Path) -> String {
    let name = proc::text(directory.join("comm")).unwrap_or_default();
    let name = name.trim_end_matches('\n').to_owned();
    if name.is_empty() { "?".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::TcpListener;
    use std::os::unix::fs::symlink;

    use super::*;

    fn listener(address: &str, v6only: bool) -> Listener {
        Listener {
            protocol: Protocol::Tcp,
            address: address.parse().unwrap(),
            v6only,
            port: Port::new(3000).unwrap(),
            interface: None,
            uid: 0,
            user: None,
            inode: 1,
            program: None,
        }
    }

    #[test]
    fn a_listener_serves_the_addresses_that_it_is_bound_to() {
        let served = |address: &str, v6only| {
            let listener = listener(address, v6only);
            let all = ["127.0.0.1", "192.0.2.1", "::1", "2001:db8::1"];
            let served = all.into_iter().filter(|a| listener.serves(a.parse().unwrap()));
            served.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(served("::", false), "127.0.0.1 192.0.2.1 ::1 2001:db8::1");
        assert_eq!(served("::", true), "::1 2001:db8::1");
        assert_eq!(served("0.0.0.0", false), "127.0.0.1 192.0.2.1");
        assert_eq!(served("192.0.2.1", false), "192.0.2.1");
        assert_eq!(served("::1", false), "::1");
    }

    #[test]
    fn a_process_that_is_not_there_any_more_is_passed_over() {
        let proc = tempfile::tempdir().unwrap();
        let process = |pid: &str, comm: &str, targets: &[&str]| {
            let fd = proc.path().join(pid).join("fd");
            fs::create_dir_all(&fd).unwrap();
            fs::write(proc.path().join(pid).join("comm"), comm).unwrap();
            for (n, target) in targets.iter().enumerate() {
                symlink(target, fd.join(n.to_string())).unwrap();
            }
        };
        process("1", "systemd\n", &["socket:[7]", "socket:[8]"]);
        process("20", "nginx\n", &["/dev/null", "socket:[7]", "socket:[9]"]);
        process("21", "nginx\n", &["socket:[7]", "socket:[x]", "pipe:[7]"]);
        fs::create_dir(proc.path().join("22")).unwrap();
        fs::create_dir(proc.path().join("self")).unwrap();
        let owners = owners(proc.path(), vec![9, 8, 7, 6]);
        let program = |pid, name: &str| Program { pid, name: name.to_owned() };
        assert_eq!(owners[&7], program(20, "nginx"), "the first, and not the service manager");
        assert_eq!(owners[&8], program(1, "systemd"), "there is no other");
        assert_eq!(owners[&9], program(20, "nginx"));
        assert_eq!(owners.len(), 3);
    }

    #[test]
    fn a_socket_of_this_process_is_found() {
        use std::os::fd::AsRawFd;
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
        let inode = descriptors::inode(link.to_str().unwrap()).unwrap();
        let owners = owners(Path::new("/proc"), vec![inode]);
        assert_eq!(owners[&inode].pid, std::process::id());
    }
}
