//! Addresses and networks, of clients and of this host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::formats::diagnostic::quoted;

use super::report::Complaint;

/// Where clients connect from: `192.0.2.10`, `2001:db8::1` or `203.0.113.0/24`.
pub(super) fn source(text: &str) -> Result<IpNet, Complaint> {
    let net = network(text)?;
    match unusable(&net) {
        Some(kind) => Err(Complaint::new(format!("no client has {kind}, {}", quoted(text)))
            .help("leave `sources` out to mean all clients")),
        None => Ok(net),
    }
}

/// What clients connect to, in the same form.
pub(super) fn address(text: &str) -> Result<IpNet, Complaint> {
    let net = network(text)?;
    match unusable(&net) {
        Some(kind) => {
            Err(Complaint::new(format!("{} is {kind}: no mapping applies to it", quoted(text)))
                .help(
                    "name addresses that this host has; leave `addresses` out to mean all of them",
                ))
        }
        None => Ok(net),
    }
}

/// What kind of addresses the network is of, if no host ever has one: portmap translates only what
/// is sent to addresses of the type `local` (ip-route(8)), and the kernel drops what comes from any
/// of these (`ip_route_input_slow`, `ip6_rcv_core`).
fn unusable(net: &IpNet) -> Option<&'static str> {
    let is_within = |outer: IpNet| outer.contains(net);
    let v4 = |a, b, c, d, bits| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits));
    let v6 = |first, bits| {
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0), bits))
    };
    match () {
        () if is_within(v4(224, 0, 0, 0, 4)) || is_within(v6(0xff00, 8)) => {
            Some("a multicast address")
        }
        () if is_within(v4(255, 255, 255, 255, 32)) => Some("the broadcast address"),
        () if is_within(v4(0, 0, 0, 0, 8)) || is_within(v6(0, 128)) => {
            Some("the unspecified address")
        }
        () => None,
    }
}

fn network(text: &str) -> Result<IpNet, Complaint> {
    let complaint = || {
        let help = match text.rsplit_once('/') {
            Some(_) => "write a network like `203.0.113.0/24` or `2001:db8::/32`",
            None => "write an address like `192.0.2.10`, or a network like `203.0.113.0/24`",
        };
        Complaint::new(format!("{} is not an address or network", quoted(text))).help(help)
    };
    let net: IpNet = match text.contains('/') {
        true => text.parse().map_err(|_| complaint())?,
        false => IpNet::from(text.parse::<IpAddr>().map_err(|_| complaint())?),
    };
    if net.trunc() != net {
        let bits = net.prefix_len();
        return Err(Complaint::new(format!("{text} has bits set after the first {bits}")).help(
            format!("write `{}` for the network, or `{}` for one address", net.trunc(), net.addr()),
        ));
    }
    match unmapped(&net) {
        Some(form) => Err(Complaint::new(format!("{} is IPv4-mapped IPv6", quoted(text)))
            .help(format!("write it as IPv4, `{form}`: this is how the packets arrive"))),
        None => Ok(net),
    }
}

/// The IPv4 form of an IPv4-mapped address or network, `::ffff:192.0.2.0/120` (RFC 4291).
fn unmapped(net: &IpNet) -> Option<String> {
    let IpNet::V6(net) = net else { return None };
    let (address, bits) = (net.addr().to_ipv4_mapped()?, net.prefix_len().checked_sub(96)?);
    Some(match bits {
        32 => address.to_string(),
        _ => format!("{address}/{bits}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_never_be_is_refused() {
        for text in
            ["224.0.0.0/4", "239.1.2.3", "255.255.255.255", "0.0.0.0", "::", "ff02::1", "0.0.0.0/8"]
        {
            assert!(source(text).is_err() && address(text).is_err(), "{text}");
        }
        for text in [
            "0.0.0.0/0",
            "::/0",
            "128.0.0.0/1",
            "240.0.0.1",
            "127.0.0.1",
            "::1",
            "fe80::1",
            "192.0.2.255",
            "::/8",
        ] {
            assert!(source(text).is_ok() && address(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn mapped_networks_have_an_ipv4_form() {
        let form = |text: &str| unmapped(&text.parse().expect("a network"));
        assert_eq!(form("::ffff:10.9.1.0/120").as_deref(), Some("10.9.1.0/24"));
        assert_eq!(form("::ffff:10.9.1.1/128").as_deref(), Some("10.9.1.1"));
        assert_eq!(form("::ffff:0:0/96").as_deref(), Some("0.0.0.0/0"));
        assert_eq!(form("::/80"), None);
        assert_eq!(form("2001:db8::/32"), None);
    }
}
