//! What portmap relies on: the kernel does this with the table that portmap leaves in it. Written
//! with nft alone, so that a story that fails here is about the kernel, and not about us.

use crate::support::Listen::{Tcp, Udp};
use crate::support::namespace::{feed, without_privileges};
use crate::support::net::counts;
use crate::support::{Namespace, NoAnswer, World, answer};

/// The layout of plain mappings, with these elements.
fn table(elements: &str) -> String {
    format!(
        "table inet portmap {{
	map ports {{
		type inet_proto . inet_service : inet_service
		size 64
		counter
		elements = {{ {elements} }}
	}}

	chain prerouting {{
		type nat hook prerouting priority -101; policy accept;
		fib daddr type != local return
		tcp flags != syn / fin,syn,rst,ack return
		meta l4proto {{ tcp, udp, dccp, sctp, udplite }} dnat to :meta l4proto . th dport map @ports
	}}

	chain output {{
		type nat hook output priority -101; policy accept;
		fib daddr type != local return
		tcp flags != syn / fin,syn,rst,ack return
		meta l4proto {{ tcp, udp, dccp, sctp, udplite }} dnat to :meta l4proto . th dport map @ports
	}}
}}
"
    )
}

const WEB: &str = r#"tcp . 80 counter packets 0 bytes 0 comment "hello" : 3000, udp . 80 counter packets 0 bytes 0 : 3000"#;

/// All the addresses of the host in a [`World`], as its own programs may use them.
const OWN: [&str; 4] = ["127.0.0.1:80", "192.0.2.1:80", "[::1]:80", "[2001:db8::1]:80"];

#[test]
fn everybody_reaches_the_server_through_port_80() {
    let world = World::new();
    let _app = world.host.serve("app", 3000);
    assert_eq!(world.client.tcp_ask("192.0.2.1:80"), Err(NoAnswer::Refused));
    assert_eq!(world.client.udp_ask("192.0.2.1:80"), Err(NoAnswer::Refused));

    world.host.nft_script(&table(WEB));

    for to in ["192.0.2.1:80", "[2001:db8::1]:80"] {
        assert_eq!(world.client.tcp_ask(to), answer("app"), "tcp {to} from outside");
        assert_eq!(world.client.udp_ask(to), answer("app"), "udp {to} from outside");
    }
    for to in OWN {
        assert_eq!(world.host.tcp_ask(to), answer("app"), "tcp {to} from the host itself");
        assert_eq!(world.host.udp_ask(to), answer("app"), "udp {to} from the host itself");
    }
}

#[test]
fn the_server_sees_the_clients_own_address() {
    let world = World::new();
    let _app = world.host.serve("app", 3000);
    world.host.nft_script(&table(WEB));

    let client_v4 = Ok("192.0.2.2".parse().unwrap());
    let client_v6 = Ok("2001:db8::2".parse().unwrap());
    assert_eq!(world.client.tcp_seen_as("192.0.2.1:80"), client_v4);
    assert_eq!(world.client.udp_seen_as("192.0.2.1:80"), client_v4);
    assert_eq!(world.client.tcp_seen_as("[2001:db8::1]:80"), client_v6);
    assert_eq!(world.client.udp_seen_as("[2001:db8::1]:80"), client_v6);
}

/// A UDP server on the wildcard address answers from the first address, whatever was asked: with
/// and without a mapping.
#[test]
fn an_address_that_is_not_the_first_of_its_interface_is_answered_from() {
    let world = World::new().with_address("192.0.2.10/24").with_address("2001:db8::10/64");
    let udp = [Udp("192.0.2.10:3000"), Udp("[2001:db8::10]:3000")];
    let _app = world.host.serve_at("app", &[&[Tcp("[::]:3000")][..], &udp].concat());
    world.host.nft_script(&table(WEB));

    for to in ["192.0.2.10:80", "[2001:db8::10]:80"] {
        assert_eq!(world.client.tcp_ask(to), answer("app"), "tcp {to}");
        assert_eq!(world.client.udp_ask(to), answer("app"), "udp {to}");
    }
}

#[test]
fn forwarded_traffic_passes_untouched() {
    let world = World::new().with_behind();
    let _app = world.host.serve("app", 3000);
    let _other = world.behind().serve("other machine", 80);
    world.host.nft_script(&table(WEB));

    for to in ["203.0.113.2:80", "[2001:db8:2::2]:80"] {
        assert_eq!(world.client.tcp_ask(to), answer("other machine"), "tcp {to}");
        assert_eq!(world.client.udp_ask(to), answer("other machine"), "udp {to}");
    }
    // But any address of the host is the host's, from whichever side.
    assert_eq!(world.client.tcp_ask("203.0.113.1:80"), answer("app"));
    assert_eq!(world.behind().tcp_ask("192.0.2.1:80"), answer("app"));
}

#[test]
fn outgoing_connections_pass_untouched() {
    let world = World::new();
    let _app = world.host.serve("app", 3000);
    let _other = world.client.serve("other machine", 80);
    world.host.nft_script(&table(WEB));

    for to in ["192.0.2.2:80", "[2001:db8::2]:80"] {
        assert_eq!(world.host.tcp_ask(to), answer("other machine"), "tcp {to}");
        assert_eq!(world.host.udp_ask(to), answer("other machine"), "udp {to}");
    }
}

#[test]
fn a_tracked_udp_flow_keeps_its_target_until_it_is_deleted() {
    let world = World::new();
    let (_old, _new) = (world.host.serve("old", 5353), world.host.serve("new", 5454));
    world.host.nft_script(&table("udp . 53 counter packets 0 bytes 0 : 5353"));
    let resolver = world.client.udp_client(40000, "192.0.2.1:53");
    assert_eq!(resolver.ask(), answer("old"));

    world.host.nft_script(
        "delete element inet portmap ports { udp . 53 }
         add element inet portmap ports { udp . 53 : 5454 }",
    );

    assert_eq!(resolver.ask(), answer("old"), "the flow is tracked");
    assert_eq!(world.client.udp_ask("192.0.2.1:53"), answer("new"), "another flow is not");
    let flow = |line: &String| line.contains("sport=40000 dport=53 ");
    assert!(world.host.conntrack_flows().iter().any(flow));

    // By the port that the client sent to: the translated one would not find it.
    world.host.conntrack(&["-D", "-p", "udp", "--sport", "40000", "--dport", "53"]);

    assert!(!world.host.conntrack_flows().iter().any(flow));
    assert_eq!(resolver.ask(), answer("new"));
}

#[test]
fn an_established_connection_outlives_its_mapping() {
    let world = World::new();
    let _app = world.host.serve("app", 3000);
    world.host.nft_script(&table(WEB));
    let mut connection = world.client.tcp_connect("192.0.2.1:80").unwrap();
    assert_eq!(connection.ask(), answer("app"));

    world.host.nft("delete element inet portmap ports { tcp . 80 }");

    assert_eq!(connection.ask(), answer("app"));
    assert_eq!(world.client.tcp_ask("192.0.2.1:80"), Err(NoAnswer::Refused));
}

#[test]
fn an_element_replaced_in_one_transaction_leaves_no_gap() {
    let world = World::new();
    let (_old, _new) = (world.host.serve("old", 3000), world.host.serve("new", 4000));
    world.host.nft_script(&table(WEB));
    let asker = world.client.keep_asking_tcp("192.0.2.1:80");
    asker.wait_for(50);

    world.host.nft_script(
        "delete element inet portmap ports { tcp . 80 }
         add element inet portmap ports { tcp . 80 : 4000 }",
    );

    asker.wait_for(50);
    let outcomes = asker.stop();
    let counts = counts(&outcomes);
    assert!(outcomes.is_sorted_by_key(|o| *o == answer("new")), "back to the old: {counts:?}");
    let expected = [&answer("new"), &answer("old")];
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), expected, "{counts:?}");
}

#[test]
fn a_counter_counts_connections() {
    let world = World::new();
    let _app = world.host.serve("app", 3000);
    world.host.nft_script(&table(WEB));

    let mut connection = world.client.tcp_connect("192.0.2.1:80").unwrap();
    for _ in 0..3 {
        assert_eq!(connection.ask(), answer("app"));
    }
    assert_eq!(world.host.tcp_ask("[::1]:80"), answer("app"));

    assert_eq!(
        world.host.counters(),
        [("ports tcp . 80".into(), 2), ("ports udp . 80".into(), 0)].into()
    );
}

#[test]
fn a_chain_of_a_service_selects_by_interface() {
    let world = World::new().with_second_link();
    let (_app, _vpn) = (world.host.serve("app", 3000), world.host.serve("vpn app", 4000));
    world.host.nft_script(
        r#"table inet portmap {
            chain tcp-80 {
                meta l4proto tcp iifname "wg*" counter dnat to :4000
                meta l4proto tcp counter dnat to :3000
            }
            map selected {
                type inet_proto . inet_service : verdict
                elements = { tcp . 80 : goto tcp-80 }
            }
            chain prerouting {
                type nat hook prerouting priority -101; policy accept;
                fib daddr type != local return
                meta l4proto . th dport vmap @selected
            }
        }"#,
    );

    assert_eq!(world.client.tcp_ask("192.0.2.1:80"), answer("app"));
    assert_eq!(world.client.tcp_ask("[2001:db8::1]:80"), answer("app"));
    assert_eq!(world.client.tcp_ask("198.51.100.1:80"), answer("vpn app"));
    assert_eq!(world.client.tcp_ask("[2001:db8:1::1]:80"), answer("vpn app"));
}

/// As it would be reached on port 3000.
#[test]
fn a_server_on_one_address_serves_that_address_alone() {
    let world = World::new();
    let _app = world.host.serve_at("app", &[Tcp("127.0.0.1:3000"), Udp("127.0.0.1:3000")]);
    world.host.nft_script(&table(WEB));

    assert_eq!(world.host.tcp_ask("127.0.0.1:80"), answer("app"));
    assert_eq!(world.host.udp_ask("127.0.0.1:80"), answer("app"));
    for to in ["192.0.2.1:80", "[::1]:80"] {
        assert_eq!(world.host.tcp_ask(to), Err(NoAnswer::Refused), "tcp {to}");
        assert_eq!(world.host.udp_ask(to), Err(NoAnswer::Refused), "udp {to}");
    }
    assert_eq!(world.client.tcp_ask("192.0.2.1:80"), Err(NoAnswer::Refused));
    assert_eq!(world.client.udp_ask("192.0.2.1:80"), Err(NoAnswer::Refused));
}

#[test]
fn nobody_without_privileges_may_even_read_the_ruleset() {
    let host = Namespace::new();
    let mut nft = host.command("nft");
    without_privileges(nft.args(["list", "ruleset"]));

    let output = feed(&mut nft, "");

    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("Operation not permitted"), "{stderr}");
}

#[test]
fn the_generation_rises_by_one_with_every_commit_of_anybody() {
    let host = Namespace::new();
    let before = host.ruleset_generation();

    host.nft_script(&table(WEB));
    assert_eq!(host.ruleset_generation(), before + 1);

    host.nft("add table inet foreign");
    assert_eq!(host.ruleset_generation(), before + 2);

    host.ruleset();
    assert_eq!(host.ruleset_generation(), before + 2, "reading changes nothing");
}

#[test]
fn nothing_of_a_test_is_seen_outside_its_namespace() {
    let (one, other) = (Namespace::new(), Namespace::new());
    one.nft_script(&table(WEB));
    assert_eq!(other.ruleset(), "");
}
