//! Outdated UDP flows, on the real kernel. Each test has network namespaces of its own; it needs
//! root, `ip`, `nft` and (to look at flows with other eyes than ours) `conntrack`.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use portmap::kernel::conntrack::{clean, clean_redirected};
use portmap::mapping::{Mapping, MappingSet, Port, Protocol, Service, Target};

/// Runs `story` in a new network namespace with loopback up.
fn in_a_namespace<T: Send + 'static>(story: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace (these tests need root)");
        run("ip", "link set lo up");
        story()
    });
    match thread.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("run {program}: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn udp(port: u16, to: u16) -> Mapping {
    mapping(Protocol::Udp, port, to)
}

fn mapping(protocol: Protocol, port: u16, to: u16) -> Mapping {
    let [port, to] = [port, to].map(|p| Port::new(p).unwrap());
    let (service, to) = (Service { protocol, port }, Target::new(to));
    Mapping::new(service, to)
}

fn set(mappings: &[Mapping]) -> MappingSet {
    MappingSet::new(mappings.to_vec())
}

/// Puts the mapping into the kernel, as the program would.
fn apply(mappings: &MappingSet) {
    apply_with("dnat", mappings);
}

fn apply_with(statement: &str, mappings: &MappingSet) {
    let elements: Vec<_> = mappings
        .iter()
        .map(|m| format!("{} . {} : {}", m.service.protocol, m.service.port, m.to))
        .collect();
    let elements = match elements.join(", ") {
        none if none.is_empty() => none,
        some => format!("elements = {{ {some} }}"),
    };
    let chain = |hook: &str| {
        format!(
            "chain {hook} {{
                type nat hook {hook} priority -101; policy accept;
                fib daddr type != local return
                meta l4proto {{ tcp, udp, dccp, sctp, udplite }} \
                    {statement} to :meta l4proto . th dport map @ports
            }}"
        )
    };
    nft(&format!(
        "table inet portmap
        delete table inet portmap
        table inet portmap {{
            map ports {{ type inet_proto . inet_service : inet_service; size 64; {elements} }}
            {}
            {}
        }}",
        chain("prerouting"),
        chain("output"),
    ));
}

fn nft(script: &str) {
    use std::io::Write;
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "nft -f: {script}");
}

/// What changes the kernel and then the memory of it, as `portmap apply` does.
fn change(before: &[Mapping], after: &[Mapping]) -> usize {
    let (before, after) = (set(before), set(after));
    apply(&after);
    clean(&before, &after).expect("clean")
}

fn socket(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap_or_else(|e| panic!("bind {address}: {e}"));
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket
}

/// Servers that answer with the number of their port.
fn serve(addresses: &[&str]) {
    for address in addresses {
        let server = UdpSocket::bind(address).unwrap_or_else(|e| panic!("bind {address}: {e}"));
        let name = server.local_addr().unwrap().port().to_string();
        // Ends with the test's process: nobody is left who could send to it.
        thread::spawn(move || {
            let mut buffer = [0; 16];
            while let Ok((_, client)) = server.recv_from(&mut buffer) {
                let _ = server.send_to(name.as_bytes(), client);
            }
        });
    }
}

/// Which port served the request. The answer must come from where it was sent.
fn ask(client: &UdpSocket, server: &str) -> u16 {
    let server: SocketAddr = server.parse().unwrap();
    client.send_to(b"?", server).unwrap();
    let mut buffer = [0; 16];
    let (len, from) = client.recv_from(&mut buffer).expect("an answer");
    assert_eq!(from, server, "the answer comes from where the request was sent");
    std::str::from_utf8(&buffer[..len]).unwrap().parse().unwrap()
}

/// Asks until there is an answer.
fn reach(client: &str, server: &str) {
    let client = socket(client);
    let reached = (0..20)
        .any(|_| client.send_to(b"?", server).is_ok() && client.recv_from(&mut [0; 16]).is_ok());
    assert!(reached, "{server} is not reached");
}

/// Lines of `conntrack -L`.
fn flows(filter: &str) -> Vec<String> {
    run("conntrack", &format!("-L {filter}")).lines().map(str::to_owned).collect()
}

#[test]
fn a_client_that_keeps_its_port_reaches_the_new_target() {
    in_a_namespace(|| {
        serve(&["127.0.0.1:5353", "127.0.0.1:5454", "[::1]:5353", "[::1]:5454"]);
        let before = [udp(53, 5353)];
        apply(&set(&before));
        let (v4, v6) = (socket("127.0.0.1:4000"), socket("[::1]:4000"));
        assert_eq!(ask(&v4, "127.0.0.1:53"), 5353);
        assert_eq!(ask(&v6, "[::1]:53"), 5353);

        // This is why: the rules alone do not do it.
        let after = [udp(53, 5454)];
        apply(&set(&after));
        assert_eq!(ask(&v4, "127.0.0.1:53"), 5353);
        assert_eq!(ask(&v6, "[::1]:53"), 5353);

        assert_eq!(change(&before, &after), 2);
        assert_eq!(ask(&v4, "127.0.0.1:53"), 5454);
        assert_eq!(ask(&v6, "[::1]:53"), 5454);
        assert_eq!(clean(&set(&before), &set(&after)).unwrap(), 0, "nothing is outdated twice");
    });
}

#[test]
fn an_outside_client_that_keeps_its_port_reaches_the_new_target() {
    in_a_namespace(|| {
        let (tell_thread, thread_id) = mpsc::channel();
        let (go, wait) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        // The client is another host. It sets out when it is told to, and asks whenever it is told
        // to, until `go` is dropped.
        let client = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            tell_thread.send(nix::unistd::gettid()).unwrap();
            wait.recv().unwrap();
            run("ip", "addr add 192.0.2.9/24 dev outside");
            run("ip", "addr add 2001:db8::9/64 dev outside nodad");
            run("ip", "link set outside up");
            // The first packets may be lost while the link comes up.
            reach("192.0.2.9:0", "192.0.2.1:123");
            reach("[2001:db8::9]:0", "[2001:db8::1]:123");
            let (v4, v6) = (socket("192.0.2.9:4000"), socket("[2001:db8::9]:4000"));
            while wait.recv().is_ok() {
                answer.send((ask(&v4, "192.0.2.1:53"), ask(&v6, "[2001:db8::1]:53"))).unwrap();
            }
        });
        let client_thread = thread_id.recv().unwrap();
        run("ip", &format!("link add inside type veth peer name outside netns {client_thread}"));
        run("ip", "addr add 192.0.2.1/24 dev inside");
        run("ip", "addr add 2001:db8::1/64 dev inside nodad");
        run("ip", "link set inside up");
        serve(&["192.0.2.1:123", "[2001:db8::1]:123"]);
        serve(&["192.0.2.1:53", "192.0.2.1:5353", "192.0.2.1:5454"]);
        serve(&["[2001:db8::1]:53", "[2001:db8::1]:5353", "[2001:db8::1]:5454"]);
        let asks = || {
            go.send(()).unwrap();
            answers.recv_timeout(Duration::from_secs(20)).expect("the client's answer")
        };

        apply(&set(&[]));
        go.send(()).unwrap(); // its end of the link is there
        assert_eq!(asks(), (53, 53));
        assert_eq!(change(&[], &[udp(53, 5353)]), 2);
        assert_eq!(asks(), (5353, 5353));
        assert_eq!(change(&[udp(53, 5353)], &[udp(53, 5454)]), 2);
        assert_eq!(asks(), (5454, 5454));
        assert_eq!(change(&[udp(53, 5454)], &[]), 2);
        assert_eq!(asks(), (53, 53));
        drop(go);
        client.join().unwrap();
    });
}

#[test]
fn a_flow_from_before_the_mapping_was_added_is_deleted() {
    in_a_namespace(|| {
        serve(&["127.0.0.1:53", "127.0.0.1:5353"]);
        // Conntrack works in a namespace only once a rule asks for it.
        apply(&set(&[]));
        let client = socket("127.0.0.1:4000");
        assert_eq!(ask(&client, "127.0.0.1:53"), 53);
        assert_eq!(change(&[], &[udp(53, 5353)]), 1);
        assert_eq!(ask(&client, "127.0.0.1:53"), 5353);
        assert_eq!(change(&[udp(53, 5353)], &[]), 1);
        assert_eq!(ask(&client, "127.0.0.1:53"), 53);
    });
}

#[test]
fn what_an_earlier_build_moved_to_another_address_is_deleted_with_its_table() {
    in_a_namespace(|| {
        serve(&["127.0.0.1:5353", "127.0.0.53:5353", "127.0.0.9:9999"]);
        nft("table ip other {
            chain output {
                type nat hook output priority -110;
                udp dport 53 ip daddr 127.0.0.8 dnat to 127.0.0.9:9999
            }
        }");
        let mapping = set(&[udp(53, 5353)]);
        apply_with("redirect", &mapping);
        let client = socket("127.0.0.1:4000");
        // In the output hook the address becomes 127.0.0.1.
        assert_eq!(ask(&client, "127.0.0.53:53"), 5353);
        assert_eq!(ask(&client, "127.0.0.1:53"), 5353);
        assert_eq!(ask(&client, "127.0.0.8:53"), 9999);
        let moved = || flows("-p udp --orig-dst 127.0.0.53 --reply-src 127.0.0.1");
        assert_eq!(moved().len(), 1);

        apply(&mapping);
        assert_eq!(ask(&client, "127.0.0.53:53"), 5353);
        assert_eq!(moved().len(), 1, "this is why");
        assert_eq!(clean_redirected(&mapping).unwrap(), 1);

        assert_eq!(ask(&client, "127.0.0.53:53"), 5353);
        assert_eq!(moved().len(), 0);
        nft("delete table ip other");
        assert_eq!(ask(&client, "127.0.0.8:53"), 9999, "another program's flow is left alone");
    });
}

#[test]
fn flows_of_an_unchanged_mapping_survive() {
    in_a_namespace(|| {
        serve(&["127.0.0.1:5123", "127.0.0.1:5353", "127.0.0.1:5454", "127.0.0.1:9999"]);
        let before = [udp(53, 5353), udp(123, 5123)];
        apply(&set(&before));
        let client = socket("127.0.0.1:4000");
        assert_eq!(ask(&client, "127.0.0.1:123"), 5123);
        assert_eq!(ask(&client, "127.0.0.1:53"), 5353);

        // Not what `clean` is told: a flow that came up again would give itself away. (Its
        // identity would not: that is made of the tuple and the place in memory, and a new flow
        // often gets both again.)
        apply(&set(&[udp(53, 5454), udp(123, 9999)]));
        let after = [udp(53, 5454), udp(123, 5123)];
        assert_eq!(clean(&set(&before), &set(&after)).unwrap(), 1);
        assert_eq!(ask(&client, "127.0.0.1:123"), 5123);
        assert_eq!(ask(&client, "127.0.0.1:53"), 5454);
    });
}

#[test]
fn flows_of_other_programs_redirects_survive() {
    in_a_namespace(|| {
        serve(&["127.0.0.1:5353", "127.0.0.1:9999"]);
        // One from another port to our target, one from our port (seen first) to another target.
        nft("table ip other {
            chain output {
                type nat hook output priority -110;
                udp dport 1053 redirect to :5353
                udp dport 53 ip daddr 127.0.0.9 redirect to :9999
            }
        }");
        let before = [udp(53, 5353)];
        apply(&set(&before));
        let client = socket("127.0.0.1:4000");
        assert_eq!(ask(&client, "127.0.0.1:53"), 5353);
        assert_eq!(ask(&client, "127.0.0.1:1053"), 5353);
        assert_eq!(ask(&client, "127.0.0.9:53"), 9999);
        // Flows that came up again would find nobody.
        nft("delete table ip other");
        assert_eq!(change(&before, &[]), 1);
        assert_eq!(ask(&client, "127.0.0.1:1053"), 5353);
        assert_eq!(ask(&client, "127.0.0.9:53"), 9999);
        assert!(flows("-p udp -d 127.0.0.1 --dport 53").is_empty());
    });
}

#[test]
fn an_established_tcp_connection_stays_at_the_old_target() {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    in_a_namespace(|| {
        let old = TcpListener::bind("127.0.0.1:3000").unwrap();
        let before = [mapping(Protocol::Tcp, 80, 3000)];
        apply(&set(&before));
        let mut client = TcpStream::connect("127.0.0.1:80").unwrap();
        let mut server = old.accept().unwrap().0;

        assert_eq!(change(&before, &[mapping(Protocol::Tcp, 80, 4000)]), 0);
        client.write_all(b"still there?").unwrap();
        let mut buffer = [0; 12];
        server.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"still there?");
    });
}

#[test]
fn flows_in_zones_are_deleted_there_and_nowhere_else() {
    in_a_namespace(|| {
        serve(&["127.0.0.1:5353", "127.0.0.1:5454", "127.0.0.2:53"]);
        nft("table ip zones {
            chain output {
                type filter hook output priority -300;
                udp sport 4001 ct zone set 7
                udp dport 4001 ct zone set 7
                udp sport 4002 ct original zone set 8
            }
            chain prerouting {
                type filter hook prerouting priority -300;
                udp sport 4001 ct zone set 7
                udp dport 4001 ct zone set 7
                udp sport 4002 ct original zone set 8
            }
        }");
        let before = [udp(53, 5353)];
        apply(&set(&before));
        let clients = ["127.0.0.1:4000", "127.0.0.1:4001", "127.0.0.1:4002"].map(socket);
        for client in &clients {
            assert_eq!(ask(client, "127.0.0.1:53"), 5353);
        }
        assert_eq!(change(&before, &[udp(53, 5454)]), 3);
        assert!(flows("-p udp --dport 53").is_empty());
        for client in &clients {
            assert_eq!(ask(client, "127.0.0.1:53"), 5454);
        }
    });
}

#[test]
fn more_flows_than_fit_into_one_datagram_are_deleted() {
    in_a_namespace(|| {
        const CLIENTS: u16 = 2000;
        let before = [udp(53, 5353), udp(123, 5123)];
        apply(&set(&before));
        let clients: Vec<_> =
            (0..CLIENTS).map(|i| UdpSocket::bind(("127.0.0.1", 20000 + i)).unwrap()).collect();
        for client in &clients {
            for port in [53, 123] {
                match client.send_to(b"?", ("127.0.0.1", port)) {
                    // Nobody listens, and the socket remembers that it was told so.
                    Err(e) if e.kind() == ErrorKind::ConnectionRefused => {}
                    sent => assert_eq!(sent.unwrap(), 1),
                }
            }
        }
        assert_eq!(change(&before, &[udp(123, 5123)]), usize::from(CLIENTS));
        assert!(flows("-p udp --dport 53").is_empty());
        assert_eq!(flows("-p udp --dport 123").len(), usize::from(CLIENTS));
    });
}

#[test]
fn nothing_to_clean_is_no_error() {
    in_a_namespace(|| {
        // No rule has ever asked for conntrack here.
        assert_eq!(clean(&set(&[udp(53, 5353)]), &set(&[])).unwrap(), 0);
    });
}
