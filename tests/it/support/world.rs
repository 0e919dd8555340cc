//! A host and who is around it, all in namespaces of this test. Addresses are those for
//! documentation (RFC 5737, RFC 3849).
//!
//! ```text
//!               eth0 ═══ eth0   192.0.2.1     192.0.2.2      2001:db8::1    2001:db8::2
//!   client ═══                                                                           host
//!               wg0  ═══ wg0    198.51.100.1  198.51.100.2   2001:db8:1::1  2001:db8:1::2
//!
//!   host       lan0 ═══ eth0   203.0.113.1   203.0.113.2    2001:db8:2::1  2001:db8:2::2   behind
//! ```

use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use super::{Namespace, NoAnswer, wait_until};

pub struct World {
    /// Where portmap runs: always the `.1` of a link.
    pub host: Namespace,
    /// Another machine, directly connected by `eth0`.
    pub client: Namespace,
    behind: Option<Namespace>,
}

/// A veth pair: the host has address 1 in both networks, its peer 2.
struct Link {
    /// The index of the host's interface, unlike that of its peer. For a veth pair of two equal
    /// ones (`linkwatch_urgent_event`: `ifindex == iflink`) the kernel sits on the news that there
    /// is a carrier for up to a second.
    index: u32,
    /// On the host's side.
    interface: &'static str,
    /// On the other.
    peer_interface: &'static str,
    /// Without the last byte.
    v4: &'static str,
    /// Without the last group.
    v6: &'static str,
}

const FIRST: Link =
    Link { index: 10, interface: "eth0", peer_interface: "eth0", v4: "192.0.2.", v6: "2001:db8::" };
const SECOND: Link = Link {
    index: 20,
    interface: "wg0",
    peer_interface: "wg0",
    v4: "198.51.100.",
    v6: "2001:db8:1::",
};
const BEHIND: Link = Link {
    index: 30,
    interface: "lan0",
    peer_interface: "eth0",
    v4: "203.0.113.",
    v6: "2001:db8:2::",
};

impl World {
    /// A host and a client, joined by `eth0`.
    #[track_caller]
    pub fn new() -> Self {
        let world = Self { host: Namespace::new(), client: Namespace::new(), behind: None };
        FIRST.join(&world.host, &world.client);
        world
    }

    /// Boot restores what the host persists.
    #[track_caller]
    pub fn that_boots(self) -> Self {
        Self { host: self.host.that_boots(), ..self }
    }

    /// A second link to the client, by the host's interface `wg0`.
    #[track_caller]
    pub fn with_second_link(self) -> Self {
        SECOND.join(&self.host, &self.client);
        self
    }

    /// A third machine: the host forwards between it and the client.
    #[track_caller]
    pub fn with_behind(mut self) -> Self {
        let behind = Namespace::new();
        BEHIND.join(&self.host, &behind);
        self.host.sysctl("net/ipv4/ip_forward", "1");
        self.host.sysctl("net/ipv6/conf/all/forwarding", "1");
        self.client.ip("route add 203.0.113.0/24 via 192.0.2.1\n\
             route add 2001:db8:2::/64 via 2001:db8::1");
        behind.ip("route add default via 203.0.113.1\n\
             route add default via 2001:db8:2::1");
        self.behind = Some(behind);
        self
    }

    /// One more address of the host's on `eth0`: `192.0.2.10/24`.
    #[track_caller]
    pub fn with_address(self, address: &str) -> Self {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        self.host.ip(&format!("address add {address} dev eth0 {nodad}"));
        self
    }

    /// The machine of [`World::with_behind`].
    #[track_caller]
    pub fn behind(&self) -> &Namespace {
        self.behind.as_ref().expect("a world with somebody behind the host")
    }
}

impl Link {
    #[track_caller]
    fn join(&self, host: &Namespace, peer: &Namespace) {
        let Link { index, interface, peer_interface, v4, v6 } = self;
        let netns = peer.path();
        host.ip(&format!(
            "link add {interface} index {index} type veth peer name {peer_interface} netns {}\n{}",
            netns.display(),
            self.up(interface, 1)
        ));
        peer.ip(&self.up(peer_interface, 2));
        wait_until("both ends of a veth pair are running", || {
            is_running(host, interface) && is_running(peer, peer_interface)
        });
        // Nobody listens on port 9, so the first answer that can come is a refusal.
        for to in [format!("{v4}1:9"), format!("[{v6}1]:9")] {
            wait_until("the host is reachable", || {
                peer.udp_ask_within(&to, Duration::from_millis(200)) == Err(NoAnswer::Refused)
            });
        }
    }

    fn up(&self, interface: &str, last: u8) -> String {
        let Link { v4, v6, .. } = self;
        format!(
            "address add {v4}{last}/24 dev {interface}\n\
             address add {v6}{last}/64 dev {interface} nodad\n\
             link set {interface} up\n"
        )
    }
}

/// Up, and with a carrier that the kernel has taken notice of: before, it drops what is sent.
fn is_running(namespace: &Namespace, interface: &str) -> bool {
    namespace.run(|| {
        getifaddrs().unwrap().any(|address| {
            address.interface_name == interface
                && address.flags.contains(InterfaceFlags::IFF_RUNNING)
        })
    })
}
