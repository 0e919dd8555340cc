//! Interfaces, addresses and routes of the calling thread's network namespace: the little of
//! rtnetlink(7) that a veth pair takes.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use nix::libc;
use nix::net::if_::if_nametoindex;

use super::netlink::socket::{Socket, uninterrupted};
use super::netlink::wire::{Attrs, Malformed, NESTED, Writer, array, text};
use super::{Error, describe};
use crate::firewall::Device;

/// Of `linux/if_link.h` and `linux/veth.h`.
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
/// No duplicate address detection: the address can be used at once (`linux/if_addr.h`).
const NODAD: u32 = 0x02;

/// What was not done, and why.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("{doing}: {}{}", describe(*.errno), text.as_ref().map(|t| format!(": {t}")).unwrap_or_default())]
    Refused { doing: String, errno: i32, text: Option<String> },
    #[error(transparent)]
    Netlink(#[from] Error),
}

impl LinkError {
    pub fn errno(&self) -> Option<i32> {
        match self {
            LinkError::Refused { errno, .. } => Some(*errno),
            LinkError::Netlink(error) => error.errno(),
        }
    }
}

pub struct Links {
    socket: Socket,
}

impl Links {
    pub fn open() -> Result<Self, LinkError> {
        Ok(Self { socket: Socket::open_on(mnl::Bus::Route)? })
    }

    /// A pair of interfaces, the second in another namespace. Where that namespace ends, so do
    /// both.
    pub fn add_pair(
        &mut self,
        name: &str,
        peer: &str,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), LinkError> {
        let doing = format!("add the interfaces {name} and {peer}");
        self.change(libc::RTM_NEWLINK, CREATE, &interface(0, 0), &doing, |w| {
            w.attr_str(libc::IFLA_IFNAME, name);
            let info = w.nest(libc::IFLA_LINKINFO);
            w.attr_str(IFLA_INFO_KIND, "veth");
            let data = w.nest(IFLA_INFO_DATA);
            let nest = w.nest(VETH_INFO_PEER & !NESTED);
            w.bytes.extend(interface(0, 0));
            w.attr_str(libc::IFLA_IFNAME, peer);
            w.attr(libc::IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
            w.close(nest);
            w.close(data);
            w.close(info);
        })
    }

    pub fn delete(&mut self, name: &str) -> Result<(), LinkError> {
        let doing = format!("remove the interface {name}");
        self.change(libc::RTM_DELLINK, 0, &interface(0, 0), &doing, |w| {
            w.attr_str(libc::IFLA_IFNAME, name);
        })
    }

    pub fn set_up(&mut self, name: &str) -> Result<(), LinkError> {
        let doing = format!("set the interface {name} up");
        let up = libc::IFF_UP as u32;
        self.change(libc::RTM_NEWLINK, 0, &interface(index(name, &doing)?, up), &doing, |_| {})
    }

    pub fn add_address(&mut self, name: &str, address: IpNet) -> Result<(), LinkError> {
        let doing = format!("add the address {address} to {name}");
        let index = index(name, &doing)?.to_ne_bytes();
        let mut head = vec![family(address.addr()), address.prefix_len(), 0, 0];
        head.extend(index);
        self.change(libc::RTM_NEWADDR, CREATE, &head, &doing, |w| {
            w.attr(libc::IFA_LOCAL, &bytes(address.addr()));
            w.attr(libc::IFA_ADDRESS, &bytes(address.addr()));
            w.attr(libc::IFA_FLAGS, &NODAD.to_ne_bytes());
        })
    }

    /// What is sent to this one address goes by the interface, and by the gateway if there is one;
    /// it comes from `source` unless the sender says otherwise.
    pub fn add_route(
        &mut self,
        to: IpAddr,
        name: &str,
        gateway: Option<IpAddr>,
        source: IpAddr,
    ) -> Result<(), LinkError> {
        let doing = format!("add a route to {to} by {name}");
        let index = index(name, &doing)?;
        let scope = match gateway {
            Some(_) => libc::RT_SCOPE_UNIVERSE,
            None => libc::RT_SCOPE_LINK,
        };
        let mut head = vec![family(to), IpNet::from(to).prefix_len(), 0, 0];
        head.extend([libc::RT_TABLE_MAIN, libc::RTPROT_BOOT, scope, libc::RTN_UNICAST]);
        head.extend([0; 4]);
        self.change(libc::RTM_NEWROUTE, CREATE, &head, &doing, |w| {
            w.attr(libc::RTA_DST, &bytes(to));
            w.attr(libc::RTA_OIF, &index.to_ne_bytes());
            w.attr(libc::RTA_PREFSRC, &bytes(source));
            if let Some(gateway) = gateway {
                w.attr(libc::RTA_GATEWAY, &bytes(gateway));
            }
        })
    }

    /// Sends one message: the header, what the kind of message has after it, and attributes.
    fn change(
        &mut self,
        kind: u16,
        flags: u16,
        head: &[u8],
        doing: &str,
        attrs: impl FnOnce(&mut Writer),
    ) -> Result<(), LinkError> {
        let sequence = self.socket.reserve_sequences(1);
        let flags = flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut writer = Writer::default();
        writer.bytes.extend([0; 4]);
        writer.bytes.extend(kind.to_ne_bytes());
        writer.bytes.extend(flags.to_ne_bytes());
        writer.bytes.extend(sequence.to_ne_bytes());
        writer.bytes.extend([0; 4]);
        writer.bytes.extend(head);
        attrs(&mut writer);
        writer.end_at(0);
        let answers = self.socket.transact(&writer.bytes)?;
        match answers.into_iter().find(|answer| answer.errno != 0) {
            None => Ok(()),
            Some(refusal) => {
                let (errno, text) = (refusal.errno, refusal.text);
                Err(LinkError::Refused { doing: doing.to_owned(), errno, text })
            }
        }
    }
}

const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;

/// The devices of this network namespace, and which of them are below others.
pub fn devices() -> Result<BTreeMap<String, Device>, Error> {
    let mut socket = Socket::open_on(mnl::Bus::Route)?;
    let mut found: Vec<Found> = Vec::new();
    uninterrupted(|| {
        found.clear();
        socket.ask_plain(libc::RTM_GETLINK, true, &interface(0, 0), &mut |message| {
            if message.kind == libc::RTM_NEWLINK {
                found.push(Found::read(message.payload)?);
            }
            Ok(())
        })
    })?;
    let is_on = |upper: &Found, lower: &Found| {
        lower.master == Some(upper.index) || upper.link == Some(lower.index)
    };
    let device = |upper: &Found| {
        let below = found.iter().filter(|lower| is_on(upper, lower));
        let below = below.map(|lower| lower.name.clone()).collect();
        (upper.name.clone(), Device { is_bridge: upper.is_bridge, below })
    };
    Ok(found.iter().map(device).collect())
}

/// A device as the kernel tells of it.
struct Found {
    index: u32,
    name: String,
    is_bridge: bool,
    /// The bridge, bond or VRF that it is part of.
    master: Option<u32>,
    /// The device that it is on.
    link: Option<u32>,
}

impl Found {
    /// `struct ifinfomsg`, and attributes.
    fn read(payload: &[u8]) -> Result<Self, Malformed> {
        const HEAD: usize = 16;
        let (head, attrs) = payload.split_at_checked(HEAD).ok_or(Malformed)?;
        let attrs = Attrs(attrs);
        let number =
            |kind| attrs.find(kind)?.map(array).transpose().map(|n| n.map(u32::from_ne_bytes));
        let info = attrs.find(libc::IFLA_LINKINFO)?.map(Attrs);
        let kind = info.map(|info| info.find(IFLA_INFO_KIND)).transpose()?.flatten();
        let kind = kind.map(text).transpose()?;
        // The other end of a pair is not below, and numbers of other namespaces say nothing here.
        let is_pair = kind == Some("veth") || attrs.find(libc::IFLA_LINK_NETNSID)?.is_some();
        Ok(Self {
            index: u32::from_ne_bytes(array(&head[4..8])?),
            name: text(attrs.find(libc::IFLA_IFNAME)?.ok_or(Malformed)?)?.to_owned(),
            is_bridge: kind == Some("bridge"),
            master: number(libc::IFLA_MASTER)?,
            link: number(libc::IFLA_LINK)?.filter(|_| !is_pair),
        })
    }
}

/// `struct ifinfomsg`: of any family and type, with these flags to be set.
fn interface(index: u32, flags: u32) -> Vec<u8> {
    let mut head = vec![0; 4];
    head.extend(index.to_ne_bytes());
    head.extend(flags.to_ne_bytes());
    head.extend(flags.to_ne_bytes());
    head
}

fn index(name: &str, doing: &str) -> Result<u32, LinkError> {
    if_nametoindex(name).map_err(|errno| LinkError::Refused {
        doing: doing.to_owned(),
        errno: errno as i32,
        text: None,
    })
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
