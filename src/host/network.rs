//! The interfaces of this host and their addresses.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub addresses: Vec<IpAddr>,
}

/// All interfaces of this network namespace, by name, whether they are up or not.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let mut interfaces: Vec<Interface> = Vec::new();
    for entry in getifaddrs()? {
        let address = entry.address.and_then(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        });
        let name = entry.interface_name;
        let at = interfaces.iter().position(|i| i.name == name).unwrap_or_else(|| {
            interfaces.push(Interface { name, addresses: Vec::new() });
            interfaces.len() - 1
        });
        interfaces[at].addresses.extend(address);
    }
    interfaces.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(interfaces)
}

/// The index of an interface (if_nametoindex(3)); `None` if there is none of that name any more.
pub fn index(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

/// The indexes of these interfaces, but of those that are not there any more.
pub fn indexes(interfaces: &[Interface]) -> BTreeMap<String, u32> {
    let known = interfaces.iter().filter_map(|i| Some((i.name.clone(), index(&i.name)?)));
    known.collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_is_a_loopback_interface() {
        let interfaces = super::interfaces().unwrap();
        assert!(interfaces.iter().any(|interface| interface.name == "lo"), "{interfaces:?}");
    }
}
