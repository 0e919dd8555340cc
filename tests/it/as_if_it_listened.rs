//! What a mapping means: what a client gets at the mapped port of an address of this host is what it
//! gets there at the target port. The same answer, the same refusal, the same silence.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use nix::net::if_::if_nametoindex;

use crate::support::net::{Ask, Server};
use crate::support::{Listen, Namespace, NoAnswer, World};

/// The ways to listen, each on a port of its own: from `TARGETS` on, mapped from `MAPPED` on.
/// `fe80` is the link-local address of eth0.
const WAYS: [&[&str]; 17] = [
    &[],
    &["::"],
    &["0.0.0.0"],
    &["::1"],
    &["127.0.0.1"],
    &["127.0.0.2"],
    &["192.0.2.1"],
    &["192.0.2.10"],
    &["2001:db8::1"],
    &["2001:db8::10"],
    &["198.51.100.77"],
    &["2001:db8:77::1"],
    &["fe80"],
    &["127.0.0.1", "::1"],
    &["192.0.2.10", "2001:db8::10"],
    &["192.0.2.1", "192.0.2.10", "198.51.100.77"],
    &["2001:db8::1", "2001:db8::10", "fe80"],
];
const MAPPED: u16 = 100;
const TARGETS: u16 = 3000;

/// The host's addresses: two of an interface, one that only `lo` has, the link-local one, loopback.
const OUTWARD: [&str; 7] = [
    "192.0.2.1",
    "192.0.2.10",
    "198.51.100.77",
    "2001:db8::1",
    "2001:db8::10",
    "2001:db8:77::1",
    "fe80",
];
const LOOPBACK: [&str; 3] = ["127.0.0.1", "127.0.0.2", "::1"];

/// What has not come by then will hardly come. Where that makes a difference between two ports,
/// both are asked again with more patience: the machine may be busy.
const SILENCE: Duration = Duration::from_millis(600);
const PATIENCE: Duration = Duration::from_secs(5);

fn world() -> World {
    let world = World::new().with_address("192.0.2.10/24").with_address("2001:db8::10/64");
    world
        .host
        .ip("address add 198.51.100.77/32 dev lo\naddress add 2001:db8:77::1/128 dev lo nodad");
    world
        .client
        .ip("route add 198.51.100.77 via 192.0.2.1\nroute add 2001:db8:77::1 via 2001:db8::1");
    world
}

/// The host's link-local address on eth0.
fn link_local(host: &Namespace) -> IpAddr {
    let listed = host.output(host.command("ip").args(["-6", "-o", "addr", "show", "eth0"]), "");
    let address = listed.split_whitespace().find(|word| word.starts_with("fe80:")).unwrap();
    address.split('/').next().unwrap().parse().unwrap()
}

/// An address and a port as a program in this namespace writes them.
fn socket(place: &Namespace, link_local: IpAddr, address: &str, port: u16) -> SocketAddr {
    match (address, link_local) {
        ("fe80", IpAddr::V6(ip)) => {
            let scope = place.run(|| if_nametoindex("eth0")).unwrap();
            SocketAddrV6::new(ip, port, 0, scope).into()
        }
        (other, _) => SocketAddr::new(other.parse().unwrap(), port),
    }
}

fn listen(host: &Namespace, link_local: IpAddr) -> Vec<Server> {
    let server = |(addresses, port): (&&[&str], u16)| {
        let places: Vec<_> =
            addresses.iter().map(|a| socket(host, link_local, a, port).to_string()).collect();
        let both = places.iter().flat_map(|place| [Listen::Tcp(place), Listen::Udp(place)]);
        host.serve_at(&format!("way {}", port - TARGETS), &both.collect::<Vec<_>>())
    };
    WAYS.iter().zip(TARGETS..).map(server).collect()
}

fn both_protocols(to: SocketAddr) -> [Ask; 2] {
    [Ask::Tcp(to), Ask::Udp(to)]
}

#[test]
fn a_mapped_port_is_as_if_the_app_listened_there() {
    let world = world();
    let link_local = link_local(&world.host);
    let _servers = listen(&world.host, link_local);
    let ways = WAYS.len() as u16;
    let (last, last_target) = (MAPPED + ways - 1, TARGETS + ways - 1);
    world.host.apply(&format!("ports: {{ {MAPPED}-{last}/tcp+udp: {TARGETS}-{last_target} }}"));

    let own = [&OUTWARD[..], &LOOPBACK].concat();
    let (mut answers, mut refusals, mut silences) = (0, 0, 0);
    for (who, place, addresses) in
        [("outside", &world.client, &OUTWARD[..]), ("here", &world.host, &own)]
    {
        let questions = |first: u16| -> Vec<Ask> {
            let ports = first..first + ways;
            let sockets = addresses.iter().flat_map(|address| {
                ports.clone().map(|port| socket(place, link_local, address, port))
            });
            sockets.flat_map(both_protocols).collect()
        };
        let (mapped, direct) = (questions(MAPPED), questions(TARGETS));
        let at_mapped = place.ask_all(&mapped, SILENCE);
        let at_target = place.ask_all(&direct, SILENCE);
        for (i, (at_mapped, at_target)) in at_mapped.into_iter().zip(at_target).enumerate() {
            let (at_mapped, at_target) = match at_mapped == at_target {
                true => (at_mapped, at_target),
                false => {
                    let again = |ask: Ask| place.ask_all(&[ask], PATIENCE).remove(0);
                    (again(mapped[i]), again(direct[i]))
                }
            };
            assert_eq!(at_mapped, at_target, "{who}: {:?}, {:?}", mapped[i], direct[i]);
            match at_target {
                Ok(_) => answers += 1,
                Err(NoAnswer::Refused) => refusals += 1,
                Err(NoAnswer::TimedOut) => silences += 1,
                Err(other) => panic!("{who}: {:?}: {other:?}", direct[i]),
            }
        }
    }
    // All three kinds are there in numbers, or the comparison would say little.
    assert!(answers > 100 && refusals > 200 && silences > 8, "{answers} {refusals} {silences}");
}

/// Packets to 127.0.0.0/8 that come in from elsewhere are dropped as martians, unless an address
/// that is rewritten on their way hides what they were sent to.
#[test]
fn nobody_reaches_loopback_over_the_wire() {
    let world = World::new();
    let _app = world.host.serve("app", 3000);
    world.host.apply("ports: { 80/tcp+udp: { to: 3000, addresses: [127.0.0.1] } }");
    world.host.nft_script(
        "table inet seen {
            chain arrived {
                type filter hook prerouting priority -400;
                iifname eth0 ip daddr 127.0.0.1 meta l4proto { tcp, udp } th dport 80 counter
            }
            chain delivered {
                type filter hook input priority 0;
                iifname eth0 meta l4proto { tcp, udp } th dport { 80, 3000 } counter
            }
        }",
    );
    // A neighbour who routes our loopback addresses to us.
    world.client.sysctl("net/ipv4/conf/all/route_localnet", "1");
    world.client.ip("route del local 127.0.0.0/8 dev lo table local\n\
         route del local 127.0.0.1 dev lo table local\n\
         route add 127.0.0.1 via 192.0.2.1 src 192.0.2.2");
    let counted = || {
        let listed = world.host.nft("list table inet seen");
        let words: Vec<_> = listed.split_whitespace().collect();
        let counters = words.windows(2).filter(|pair| pair[0] == "packets");
        counters.map(|pair| pair[1].parse().unwrap()).collect::<Vec<u32>>()
    };

    let asks = both_protocols("127.0.0.1:80".parse().unwrap());
    for (ask, answer) in asks.iter().zip(world.client.ask_all(&asks, SILENCE)) {
        assert_eq!(answer, Err(NoAnswer::TimedOut), "{ask:?}");
    }
    let [arrived, delivered] = counted()[..] else { panic!("two counters") };
    assert!(arrived >= 2, "the neighbour's packets do arrive: {arrived}");
    assert_eq!(delivered, 0);
    // What would let them in shows that delivery is seen.
    world.host.sysctl("net/ipv4/conf/all/route_localnet", "1");
    world.client.ask_all(&asks, SILENCE);
    assert!(counted()[1] >= 2, "{:?}", counted());
}
