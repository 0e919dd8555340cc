//! Network namespaces. Everything measured happens in one of ours, never in the machine's own.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns, unshare};

/// Kept alive by the open file; gone with it, rules and all.
pub struct Namespace(File);

impl Namespace {
    /// Makes a new one and enters it with this thread (and the children it spawns).
    pub fn enter_new() -> Result<Namespace> {
        unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
        ip("link set lo up")?;
        Ok(Namespace(File::open("/proc/thread-self/ns/net")?))
    }

    pub fn enter(&self) -> Result<()> {
        setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET).context("cannot enter a namespace")
    }
}

/// The server's end of each link. The links are in namespaces of their own.
pub const SERVER: [u8; 4] = [10, 99, 0, 1];

/// Two namespaces with a veth link: the server's, and the client's.
pub fn link() -> Result<(Namespace, Namespace)> {
    let client = Namespace::enter_new()?;
    let server = Namespace::enter_new()?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), client.0.as_raw_fd());
    ip(&format!("link add link0 type veth peer name link0 netns {path}"))?;
    ip("address add 10.99.0.1/24 dev link0")?;
    ip("link set link0 up")?;
    client.enter()?;
    ip("address add 10.99.0.2/24 dev link0")?;
    ip("link set link0 up")?;
    server.enter()?;
    Ok((server, client))
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output().context("cannot run ip")?;
    if !output.status.success() {
        bail!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
