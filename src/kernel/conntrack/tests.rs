use proptest::collection::vec;
use proptest::prelude::*;

use super::entry::parse_tuple;
use super::*;
use crate::flows::Tuple;
use crate::kernel::netlink::wire::{Attrs, Malformed, Messages, NESTED};
use crate::mapping::Port;
use crate::mapping::Protocol;
use std::net::{IpAddr, SocketAddr};

fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = Writer::default();
    out.attr(kind, payload);
    out.bytes
}

fn tuple(kind: u16, [source, destination]: [SocketAddr; 2]) -> Vec<u8> {
    let ip = match (source.ip(), destination.ip()) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            [attribute(CTA_IP_V4_SRC, &s.octets()), attribute(CTA_IP_V4_DST, &d.octets())].concat()
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            [attribute(CTA_IP_V6_SRC, &s.octets()), attribute(CTA_IP_V6_DST, &d.octets())].concat()
        }
        _ => unreachable!("one family"),
    };
    let proto = [
        attribute(CTA_PROTO_NUM, &[17]),
        attribute(CTA_PROTO_SRC_PORT, &source.port().to_be_bytes()),
        attribute(CTA_PROTO_DST_PORT, &destination.port().to_be_bytes()),
    ]
    .concat();
    let parts =
        [attribute(CTA_TUPLE_IP | NESTED, &ip), attribute(CTA_TUPLE_PROTO | NESTED, &proto)];
    attribute(kind | NESTED, &parts.concat())
}

/// What the kernel sends for a flow, without the message's header.
fn payload([client, asked, answers]: [SocketAddr; 3]) -> Vec<u8> {
    [
        vec![2, 0, 0, 0],
        tuple(CTA_TUPLE_ORIG, [client, asked]),
        tuple(CTA_TUPLE_REPLY, [answers, client]),
        attribute(3, &[0, 0, 1, 0x8e]),
        attribute(CTA_ID, &[1, 2, 3, 4]),
        attribute(CTA_ZONE, &[0, 7]),
    ]
    .concat()
}

fn example() -> [SocketAddr; 3] {
    ["198.51.100.7:4000", "192.0.2.1:53", "192.0.2.1:5353"].map(|a| a.parse().unwrap())
}

#[test]
fn a_flow_is_read_with_what_names_it() {
    let [client, asked, answers] = example();
    let entry = Entry::parse(&payload(example())).unwrap().unwrap();
    assert_eq!(
        entry.flow,
        Flow {
            protocol: Protocol::Udp,
            original: Tuple { source: client, destination: asked },
            reply: Tuple { source: answers, destination: client },
        }
    );
    let id = [
        tuple(CTA_TUPLE_ORIG, [client, asked]),
        attribute(CTA_ID, &[1, 2, 3, 4]),
        attribute(CTA_ZONE, &[0, 7]),
    ];
    assert_eq!(entry.handle, Handle { family: 2, id: id.concat() });
}

#[test]
fn what_could_not_be_named_for_deletion_is_passed_over() {
    let [client, asked, answers] = example();
    let original = tuple(CTA_TUPLE_ORIG, [client, asked]);
    let reply = tuple(CTA_TUPLE_REPLY, [answers, client]);
    let id = attribute(CTA_ID, &[1, 2, 3, 4]);
    let head = vec![2, 0, 0, 0];
    for missing in [
        [head.clone(), reply.clone(), id.clone()],
        [head.clone(), original.clone(), id],
        [head, original, reply],
    ] {
        assert_eq!(Entry::parse(&missing.concat()), Ok(None));
    }
}

#[test]
fn lengths_that_do_not_fit_are_malformed() {
    let whole = payload(example());
    assert_eq!(Entry::parse(&whole[..3]), Err(Malformed));
    // The inner attribute says 200 bytes, the outer one has less.
    let mut lying = whole.clone();
    lying[8] = 200;
    assert_eq!(Entry::parse(&lying), Err(Malformed));
    // Shorter than its own header.
    lying[8] = 3;
    assert_eq!(Entry::parse(&lying), Err(Malformed));
    let short_address = attribute(CTA_TUPLE_IP, &attribute(CTA_IP_V4_SRC, &[1, 2, 3]));
    assert_eq!(parse_tuple(&short_address), Err(Malformed));
}

#[test]
fn the_kernel_is_asked_for_as_little_as_says_it_all() {
    let service = |protocol, port| Service { protocol, port: Port::new(port).unwrap() };
    let (dns, ntp) = (service(Protocol::Udp, 53), service(Protocol::Udp, 123));
    let udplite = service(Protocol::UdpLite, 53);
    let port = attribute(CTA_PROTO_DST_PORT, &[0, 53]);
    let names_port = |filter: &[u8]| filter.windows(port.len()).any(|w| w == port);

    assert!(names_port(&filter_for(&[dns])));
    let both = filter_for(&[dns, ntp]);
    assert!(!both.is_empty() && !names_port(&both));
    assert!(filter_for(&[dns, udplite]).is_empty());
}

#[test]
fn an_error_names_the_operation_and_the_remedy() {
    let error = Error::List(Errno::EINVAL.into());
    assert_eq!(error.to_string(), "look at tracked flows: read the connection tracking table");
    assert!(error.help().contains("modprobe nf_conntrack_netlink"));
    let error = Error::Delete { deleted: 3, failed: 2, source: Errno::EPERM.into() };
    assert_eq!(error.to_string(), "delete outdated UDP flows: 2 of 5 not deleted");
    assert!(error.help().contains("CAP_NET_ADMIN"));
}

proptest! {
    #[test]
    fn no_datagram_makes_the_reader_panic(datagram in vec(any::<u8>(), 0..400)) {
        for message in Messages(&datagram).flatten() {
            let _ = Entry::parse(message.payload);
        }
        let _ = Entry::parse(&datagram);
    }

    /// Nearer to the real thing than noise: some bytes of a true message are others.
    #[test]
    fn no_damage_makes_the_reader_panic(
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut payload = payload(example());
        for (index, byte) in damage {
            let at = index.index(payload.len());
            payload[at] = byte;
        }
        payload.truncate(cut.index(payload.len() + 1));
        if let Ok(Some(entry)) = Entry::parse(&payload) {
            // Whatever was made of it: a deletion names a tuple and a flow, always.
            let kinds: Vec<_> = Attrs(&entry.handle.id).map(|a| a.unwrap().0).collect();
            prop_assert!(kinds.contains(&CTA_TUPLE_ORIG) && kinds.contains(&CTA_ID));
        }
    }
}

/// A filter that the kernel refuses would do no harm but cost: nobody would notice.
#[test]
fn the_kernel_accepts_the_filter() {
    use std::net::UdpSocket;
    use std::process::Command;

    let story = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .expect("make a network namespace: run as root, or with `unshare -Ur cargo test`");
        for command in [
            "ip link set lo up",
            "nft add table inet t",
            "nft add chain inet t output { type filter hook output priority 0; }",
            // Conntrack wakes up in a namespace when a rule asks for it.
            "nft add rule inet t output ct state new",
        ] {
            let words: Vec<_> = command.split(' ').collect();
            assert!(Command::new(words[0]).args(&words[1..]).status().unwrap().success());
        }
        for (client, address) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
            let client = UdpSocket::bind(client).unwrap();
            for port in [53, 123, 123] {
                client.send_to(b"?", (address, port)).unwrap();
            }
        }
        let service = |port| Service { protocol: Protocol::Udp, port: Port::new(port).unwrap() };
        for (services, flows) in [(vec![service(53)], 1), (vec![service(1), service(2)], 2)] {
            for family in [AF_INET, AF_INET6] {
                let found = dump(family, &filter_for(&services), &mut |_| true).unwrap();
                assert_eq!(found.len(), flows, "{services:?}");
            }
        }
    };
    std::thread::spawn(story).join().unwrap();
}
