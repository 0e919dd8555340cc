//! Connections outlive a change of the mapping: those that are older than it, and those that go
//! through a mapping which is removed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use portmap::kernel::{Extent, Kernel, Netlink};
use portmap::mapping::MappingSet;
use portmap::plan::{Step, plan};
use portmap::ruleset::{Layer, desired};

use crate::support::{Namespace, NoAnswer, World, answer, wait_until};

/// Both ends of an established connection.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl Pair {
    fn open(listener: &TcpListener, client: &Namespace, to: &str) -> Self {
        let to: SocketAddr = to.parse().unwrap();
        let client = client.run(|| TcpStream::connect(to)).unwrap();
        let server = listener.accept().unwrap().0;
        for end in [&client, &server] {
            end.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        }
        Self { client, server }
    }

    /// Each end hears the other; `server_first` says who speaks first.
    fn talk(&self, server_first: bool) -> std::io::Result<()> {
        let (client, server) = (&self.client, &self.server);
        let (first, second) = if server_first { (server, client) } else { (client, server) };
        for (mut from, mut to) in [(first, second), (second, first)] {
            from.write_all(b"still there?")?;
            to.read_exact(&mut [0; 12])?;
        }
        Ok(())
    }
}

/// Nothing has used connection tracking before the first mapping does: to it, the next packet of an
/// established connection looks like the first of a new one.
#[test]
fn a_connection_from_before_the_first_mapping_goes_on() {
    let world = World::new();
    let _app = world.host.serve("app", 3000);
    let listener = world.host.run(|| TcpListener::bind("[::]:80")).unwrap();
    let outside = ["192.0.2.1:80", "[2001:db8::1]:80"].map(|to| (&world.client, to));
    let here = ["127.0.0.1:80", "192.0.2.1:80", "[::1]:80", "[2001:db8::1]:80"];
    let here = here.map(|to| (&world.host, to));
    let clients = [&outside[..], &here].concat();
    let pairs: Vec<_> = clients
        .iter()
        .flat_map(|(client, to)| [false, true].map(|server_first| (client, to, server_first)))
        .map(|(client, to, server_first)| (Pair::open(&listener, client, to), to, server_first))
        .collect();
    for (pair, to, server_first) in &pairs {
        pair.talk(*server_first).unwrap_or_else(|e| panic!("{to}: {e}"));
    }
    assert!(world.host.conntrack_flows().is_empty(), "connections are tracked already");

    world.host.apply("ports: { 80: 3000 }");

    for (pair, to, server_first) in &pairs {
        let who = if *server_first { "the server" } else { "the client" };
        pair.talk(*server_first).unwrap_or_else(|e| panic!("{to}, {who} first: {e}"));
    }
    for (client, to) in clients {
        assert_eq!(client.tcp_ask(to), answer("app"), "a new connection to {to}");
    }
}

fn translated(host: &Namespace) -> usize {
    host.run(|| Netlink::open().unwrap().translated_connections().unwrap())
}

/// Commits what leads to the table of no mapping, or to no table.
fn empty(host: &Namespace, chains_stay: bool) {
    host.run(|| {
        let mut kernel = Netlink::open().unwrap();
        let seen = kernel.snapshot(Extent::Whole).unwrap();
        let wanted = chains_stay.then(|| desired(&MappingSet::default(), None, None));
        kernel.commit(&plan(wanted.as_ref(), seen.table.as_ref()), seen.generation).unwrap();
    });
}

#[test]
fn a_connection_keeps_its_translation_for_as_long_as_the_chains_stay() {
    let world = World::new();
    let _app = world.host.serve("app", 3000);
    world.host.apply("ports: { 80/tcp+udp: 3000 }");
    let ask = ["192.0.2.1:80", "[2001:db8::1]:80"];
    let mut connections: Vec<_> =
        ask.iter().map(|to| world.client.tcp_connect(to).unwrap()).collect();
    connections.push(world.host.tcp_connect("127.0.0.1:80").unwrap());
    for connection in &mut connections {
        assert_eq!(connection.ask(), answer("app"));
    }

    empty(&world.host, true);
    for connection in &mut connections {
        assert_eq!(connection.ask(), answer("app"));
    }
    assert_eq!(world.client.tcp_ask("192.0.2.1:80"), Err(NoAnswer::Refused));
    assert_eq!(translated(&world.host), 3);

    // The other way round they are lost; this is why the chains stay.
    empty(&world.host, false);
    for connection in &mut connections {
        assert_ne!(connection.ask(), answer("app"));
    }
}

#[test]
fn translated_connections_are_counted_until_they_are_closed() {
    let world = World::new();
    let _app = world.host.serve("app", 3000);
    let _direct = world.host.serve("direct", 81);
    world.host.apply("ports: { 80/tcp+udp: 3000, 22: 3000 }");
    assert_eq!(translated(&world.host), 0);
    let mut through = world.client.tcp_connect("192.0.2.1:80").unwrap();
    let mut around = world.client.tcp_connect("192.0.2.1:81").unwrap();
    let mut straight = world.client.tcp_connect("192.0.2.1:3000").unwrap();
    assert_eq!(through.ask(), answer("app"));
    assert_eq!(around.ask(), answer("direct"));
    assert_eq!(straight.ask(), answer("app"));
    assert_eq!(world.client.udp_ask("192.0.2.1:80"), answer("app"));

    assert_eq!(translated(&world.host), 1);

    drop(through);
    wait_until("the connection is closed", || translated(&world.host) == 0);
}

#[test]
fn the_table_of_no_mapping_reads_back_as_it_was_made() {
    let host = Namespace::new();
    empty(&host, true);
    host.run(|| {
        let mut kernel = Netlink::open().unwrap();
        let seen = kernel.snapshot(Extent::Whole).unwrap().table.unwrap();
        assert_eq!(seen.ruleset, desired(&MappingSet::default(), None, None));
        assert_eq!(seen.ruleset.mapping(Layer::Active), MappingSet::default());
        assert_eq!(plan(None, Some(&seen)), [Step::DeleteTable]);
    });
}
