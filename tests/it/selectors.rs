//! What `check` says of selectors that never match is true on the kernel.

use std::net::UdpSocket;

use crate::support::{Namespace, NoAnswer, World, answer};

/// Given `interfaces: lo`, nobody is served: connections of the host to itself do arrive there, but
/// it has been decided in output that they are not translated.
#[test]
fn nothing_is_translated_on_arrival_at_lo() {
    let world = World::new();
    let _app = world.host.serve("app", 3000);
    let rules = "ports:\n  80: { to: 3000, interfaces: lo }\n  81: { to: 3000, scope: local }\n";
    let file = world.host.file("rules.yaml", rules);
    world
        .host
        .portmap(["check".as_ref(), file.as_os_str()])
        .run()
        .succeeds()
        .says("`lo` never matches");
    world.host.apply(rules);
    for address in ["127.0.0.1", "192.0.2.1", "[::1]", "[2001:db8::1]"] {
        let ask = |port: u16| world.host.tcp_ask(&format!("{address}:{port}"));
        assert_eq!(ask(80), Err(NoAnswer::Refused), "{address}");
        assert_eq!(ask(81), answer("app"), "{address}");
    }
    assert_eq!(world.client.tcp_ask("192.0.2.1:80"), Err(NoAnswer::Refused));
}

/// Given packets to multicast and broadcast addresses, they pass by every mapping.
#[test]
fn multicast_and_broadcast_are_not_addresses_of_the_host() {
    let world = World::new();
    world.host.nft_script(
        "table inet t {
	chain prerouting {
		type filter hook prerouting priority -300
		udp dport 80 fib daddr type local counter comment \"own\"
		udp dport 80 fib daddr type { multicast, broadcast } counter comment \"other\"
	}
}
",
    );
    world.client.run(|| {
        let socket = UdpSocket::bind("192.0.2.2:0").unwrap();
        socket.set_broadcast(true).unwrap();
        for to in ["224.0.0.1:80", "255.255.255.255:80", "192.0.2.255:80", "192.0.2.1:80"] {
            socket.send_to(b"x", to).unwrap();
        }
    });
    // The last packet has come, and so have those before it.
    crate::support::wait_until("the packets have come", || {
        world.host.nft("list table inet t").contains("type local counter packets 1")
    });
    let counted = world.host.nft("list table inet t");
    assert!(counted.contains("counter packets 3 "), "{counted}");
}

/// Given loopback addresses from outside, the kernel drops them before anybody is asked.
#[test]
fn loopback_addresses_do_not_come_from_outside() {
    let host = Namespace::new();
    let check = |rules: &str| {
        let file = host.file("rules.yaml", rules);
        host.portmap(["check".as_ref(), file.as_os_str()]).run().succeeds()
    };
    let external = "ports: { 80: { to: 3000, scope: external, addresses: 127.0.0.1 } }";
    check(external).says("never matches from outside");
    let both = "ports: { 80: { to: 3000, addresses: 127.0.0.1 } }";
    assert_eq!(check(both).stderr, "");
}
