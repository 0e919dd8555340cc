//! The doors for a fuzzer, which are there for nobody else: what the texts say that the kernel and
//! the files of this host consist of.

use std::collections::HashMap;
use std::net::SocketAddr;

use ipnet::IpNet;

use super::login::SshSession;
use super::{accounts, capabilities, holders, login, probe, services, sysctls, trust};
use crate::mapping::{Port, Protocol};

pub use super::acl::parse as access_list;
pub use super::boot::{command, crontab, script, unit};
pub use super::descriptors::inode as socket;

/// The parent in /proc/PID/stat.
pub fn parent(stat: &str) -> Option<u32> {
    login::parent(stat)
}

/// Among the variables of /proc/PID/environ.
pub fn ssh_session(environment: &[u8]) -> Option<SshSession> {
    login::connection(environment)
}

/// Whether /proc/PID/net/unix has a socket with this inode.
pub fn has_unix_socket(sockets: &str, inode: u64) -> bool {
    holders::lists(sockets, inode)
}

/// The inode of a socket in /proc/PID/net/netlink.
pub fn netlink_socket(sockets: &str, address: u32) -> Option<u64> {
    holders::inode(sockets, address)
}

/// Whether the connection from a client, in /proc/PID/net/tcp, has been taken.
pub fn is_taken(connections: &str, client: SocketAddr) -> Option<bool> {
    probe::taken(connections, client)
}

/// `0100007F:0050`
pub fn end(text: &str) -> Option<SocketAddr> {
    probe::end(text)
}

/// The destinations in /proc/PID/net/route and ipv6_route.
pub fn routes(v4: &str, v6: &str) -> (Vec<IpNet>, Vec<IpNet>) {
    (probe::routes4(v4), probe::routes6(v6))
}

/// Whether /proc/PID/uid_map maps a single user.
pub fn maps_one(uid_map: &str) -> bool {
    trust::maps_one(uid_map)
}

/// `32768 60999`
pub fn range(text: &str) -> Option<(u16, u16)> {
    sysctls::range(text)
}

/// `80,8000-8010`
pub fn ranges(text: &str) -> Vec<(u16, u16)> {
    sysctls::ranges(text)
}

/// Whether an extended attribute lets a program bind privileged ports.
pub fn may_bind(attribute: &[u8]) -> bool {
    capabilities::permits(attribute)
}

/// The names in services(5).
pub fn names(services: &str) -> HashMap<(String, Protocol), Port> {
    services::services(services)
}

/// The only user in a group.
pub fn sole_member(passwd: &str, group: &str, gid: u32, owner: u32) -> Option<String> {
    accounts::sole_member(passwd, group, gid, owner)
}
