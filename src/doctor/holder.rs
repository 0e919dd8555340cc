//! Who holds a port, whichever port it is.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::host::listeners::{Listener, Program};
use crate::mapping::Family;

/// One program's or user's listeners on one port, and where they listen. Equal for neighbouring
/// ports that the same program holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub program: Option<Program>,
    pub uid: u32,
    pub user: Option<String>,
    /// `*`, `0.0.0.0`, `[::]`, `127.0.0.1`, `*%eth0`: sorted.
    pub addresses: Vec<String>,
}

impl Holder {
    /// Those of these listeners, each program once.
    pub fn of<'a>(listeners: impl IntoIterator<Item = &'a Listener>) -> Vec<Self> {
        let mut holders: Vec<Self> = Vec::new();
        for listener in listeners {
            let address = place(listener);
            let same = |h: &&mut Self| h.program == listener.program && h.uid == listener.uid;
            match holders.iter_mut().find(same) {
                Some(holder) if holder.addresses.contains(&address) => {}
                Some(holder) => holder.addresses.push(address),
                None => holders.push(Self {
                    program: listener.program.clone(),
                    uid: listener.uid,
                    user: listener.user.clone(),
                    addresses: vec![address],
                }),
            }
        }
        holders.iter_mut().for_each(|holder| holder.addresses.sort());
        holders.sort_by(|a, b| a.key().cmp(&b.key()));
        holders
    }

    fn key(&self) -> (Option<u32>, u32, &[String]) {
        (self.program.as_ref().map(|p| p.pid), self.uid, &self.addresses)
    }

    pub fn user(&self) -> String {
        self.user.clone().unwrap_or_else(|| format!("uid {}", self.uid))
    }

    pub fn to_json(&self) -> Value {
        json!({
            "program": self.program.as_ref().map(|p| &p.name),
            "pid": self.program.as_ref().map(|p| p.pid),
            "user": self.user,
            "uid": self.uid,
            "addresses": self.addresses,
        })
    }
}

impl Display for Holder {
    /// `node (pid 812, user www-data)`, `a program of user www-data`
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.program {
            Some(Program { pid, name }) => write!(f, "{name} (pid {pid}, {})", self.user()),
            None => write!(f, "a program of {}", self.user()),
        }
    }
}

/// `node (pid 812, www-data) and nginx (pid 5, root)`
pub fn listed(holders: &[Holder]) -> String {
    holders.iter().map(Holder::to_string).collect::<Vec<_>>().join(" and ")
}

/// `127.0.0.1 and [::1]`
pub fn places(holders: &[Holder]) -> String {
    let mut places: Vec<_> = holders.iter().flat_map(|h| &h.addresses).cloned().collect();
    places.sort();
    places.dedup();
    places.join(" and ")
}

fn place(listener: &Listener) -> String {
    let address = match (listener.wildcard(), listener.address) {
        (Some(Family::Both), _) => "*".to_owned(),
        (_, address) => written(address),
    };
    match &listener.interface {
        Some(interface) => format!("{address}%{interface}"),
        None => address,
    }
}

/// As it stands before a port: IPv6 in brackets.
pub fn written(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}
