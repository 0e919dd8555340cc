//! A client that is not on this machine: a network namespace of one thread's own, joined to this
//! one by a veth pair.
//!
//! The namespace has no name. It ends with its thread, so with the process, whatever ends that; the
//! pair of interfaces ends with it.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::net::if_::InterfaceFlags;
use nix::sched::{CloneFlags, unshare};

use super::links::{LinkError, Links};

/// The interface on this side, and on the other.
pub const INTERFACE: &str = "portmap-probe";
const OTHER_SIDE: &str = "outside";

/// How long a veth pair may take to have a carrier: the kernel reports one up to a second late
/// (`linkwatch`).
const PATIENCE: Duration = Duration::from_secs(5);

/// One client, for one of this host's addresses. A program that listens on all addresses answers a
/// datagram from the one that the route to the client names, so each address has its own client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    pub own: IpAddr,
    pub address: IpAddr,
}

#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    #[error("make a network namespace for the probe: {0}")]
    Namespace(io::Error),
    #[error("join the probe's network namespace: {0}")]
    Link(#[from] LinkError),
    #[error("join the probe's network namespace: the interfaces have had no carrier for 5 s")]
    NoCarrier,
}

impl OutsideError {
    pub fn help(&self) -> &'static str {
        let errno = match self {
            OutsideError::Namespace(error) => error.raw_os_error(),
            OutsideError::Link(error) => error.errno(),
            OutsideError::NoCarrier => None,
        };
        match errno {
            Some(libc::EEXIST) => "another probe is running; try again when it has ended",
            Some(libc::EPERM | libc::EACCES) => "run as root",
            Some(libc::EOPNOTSUPP) => "the kernel has no veth (CONFIG_VETH); try `modprobe veth`",
            _ => "without it, only clients on this machine can be tried",
        }
    }
}

type Job = Box<dyn FnOnce() + Send>;

pub struct Outside {
    /// `None` when it is to end.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Whether the pair is ours: there may be one of another probe.
    is_joined: bool,
    clients: Vec<Client>,
}

impl Outside {
    /// With clients of these networks for these addresses of this host. Of a family that has no
    /// network, or that is switched off here, there are none.
    pub fn open(networks: &[IpNet], own: &[IpAddr]) -> Result<Self, OutsideError> {
        let (jobs, list) = channel::<Job>();
        let (ready, born) = channel();
        let thread = thread::Builder::new().spawn(move || {
            let namespace = unshare(CloneFlags::CLONE_NEWNET)
                .map_err(io::Error::from)
                .and_then(|()| File::open("/proc/thread-self/ns/net"));
            let is_born = namespace.is_ok();
            if ready.send(namespace).is_ok() && is_born {
                work(list);
            }
        });
        let thread = thread.map_err(OutsideError::Namespace)?;
        let namespace = born.recv().unwrap_or_else(|_| Err(io::Error::other("its thread ended")));
        let mut outside =
            Self { jobs: Some(jobs), thread: Some(thread), is_joined: false, clients: Vec::new() };
        let namespace = namespace.map_err(OutsideError::Namespace)?;
        outside.join(&namespace, networks, own)?;
        Ok(outside)
    }

    fn join(
        &mut self,
        namespace: &File,
        networks: &[IpNet],
        own: &[IpAddr],
    ) -> Result<(), OutsideError> {
        let mut here = Links::open()?;
        here.add_pair(INTERFACE, OTHER_SIDE, namespace.as_fd())?;
        self.is_joined = true;
        here.set_up(INTERFACE)?;
        self.there(|there| {
            there.set_up("lo")?;
            there.set_up(OTHER_SIDE)
        })?;
        for network in networks {
            // The network's own address is nobody's: of IPv6 it means any router (RFC 4291).
            let mut hosts = network.hosts().filter(|host| *host != network.network());
            let Some(gateway) = hosts.next() else { continue };
            let length = network.prefix_len();
            let with_length = move |address| IpNet::new(address, length).unwrap_or(address.into());
            match here.add_address(INTERFACE, with_length(gateway)) {
                Ok(()) => {}
                // IPv6 is switched off, or not there at all.
                Err(e) if e.errno().is_some_and(is_missing_family) => continue,
                Err(e) => return Err(e.into()),
            }
            let own = own.iter().filter(|own| own.is_ipv4() == gateway.is_ipv4());
            for (own, address) in own.copied().zip(hosts) {
                self.there(move |there| {
                    there.add_address(OTHER_SIDE, with_length(address))?;
                    there.add_route(own, OTHER_SIDE, Some(gateway), address)
                })?;
                here.add_route(address, INTERFACE, None, own)?;
                self.clients.push(Client { own, address });
            }
        }
        self.wait_for_carrier()
    }

    fn there(
        &self,
        change: impl FnOnce(&mut Links) -> Result<(), LinkError> + Send + 'static,
    ) -> Result<(), OutsideError> {
        let outcome = self.run(|| Links::open().and_then(|mut there| change(&mut there)));
        Ok(outcome.ok_or(OutsideError::NoCarrier)??)
    }

    fn wait_for_carrier(&self) -> Result<(), OutsideError> {
        let deadline = Instant::now() + PATIENCE;
        while !(is_running(INTERFACE) && self.run(|| is_running(OTHER_SIDE)) == Some(true)) {
            if Instant::now() > deadline {
                return Err(OutsideError::NoCarrier);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Whether there is a client for this address of this host.
    pub fn reaches(&self, own: IpAddr) -> bool {
        self.clients.iter().any(|client| client.own == own)
    }

    /// Does it in the other namespace. Threads that it starts, and sockets, are there as well.
    /// `None` if it panicked.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (answer, result) = channel();
        let job = Box::new(move || {
            let _ = answer.send(job());
        });
        self.jobs.as_ref()?.send(job).ok()?;
        result.recv().ok()
    }
}

fn is_missing_family(errno: i32) -> bool {
    [libc::EACCES, libc::EAFNOSUPPORT, libc::EOPNOTSUPP].contains(&errno)
}

fn work(list: Receiver<Job>) {
    list.into_iter().for_each(|job| job());
}

impl Drop for Outside {
    fn drop(&mut self) {
        // The kernel takes a namespace apart some time after its end; the pair can go now.
        if self.is_joined {
            let _ = Links::open().and_then(|mut links| links.delete(INTERFACE));
        }
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Up, and with a carrier that the kernel has taken notice of.
fn is_running(name: &str) -> bool {
    let running = |flags: InterfaceFlags| flags.contains(InterfaceFlags::IFF_RUNNING);
    getifaddrs().is_ok_and(|mut all| all.any(|a| a.interface_name == name && running(a.flags)))
}
