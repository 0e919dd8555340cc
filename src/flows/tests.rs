use super::*;
use crate::mapping::Comment;
use crate::mapping::Matches;
use crate::mapping::changes::differing_services;

const THIS_HOST: [&str; 3] = ["192.0.2.1", "2001:db8::1", "fe80::1"];

fn local() -> LocalAddresses {
    LocalAddresses::new(THIS_HOST.map(|a| a.parse().unwrap()))
}

/// A flow from `client` to `asked`, answered by `answers`.
fn flow(client: &str, asked: &str, answers: &str) -> Flow {
    let [client, asked, answers] = [client, asked, answers].map(|a| a.parse().unwrap());
    Flow {
        protocol: Protocol::Udp,
        original: Tuple { source: client, destination: asked },
        reply: Tuple { source: answers, destination: client },
    }
}

fn service(protocol: Protocol, port: u16) -> Service {
    Service { protocol, port: Port::new(port).unwrap() }
}

/// 53/udp goes to `to`, for whom `selector` says.
fn dns(to: u16, selector: Selector) -> Mapping {
    let service = service(Protocol::Udp, 53);
    Mapping { selector, ..Mapping::new(service, Target::new(Port::new(to).unwrap())) }
}

fn to(port: u16) -> Mapping {
    dns(port, Selector::ANYONE)
}

fn only(scope: Scope, family: Family) -> Selector {
    Selector::of(scope, family)
}

fn interfaces(names: &[&str]) -> Selector {
    let pattern = |name: &&str| match name.strip_suffix('*') {
        Some(prefix) => InterfacePattern::prefix(prefix).unwrap(),
        None => InterfacePattern::name(name).unwrap(),
    };
    let matches = Matches { interfaces: names.iter().map(pattern).collect(), ..Matches::default() };
    Selector::new(Scope::Both, Family::Both, matches).unwrap()
}

fn sources(networks: &[&str]) -> Selector {
    let sources = networks.iter().map(|n| n.parse().unwrap()).collect();
    Selector::new(Scope::Both, Family::Both, Matches { sources, ..Matches::default() }).unwrap()
}

fn addresses(networks: &[&str]) -> Selector {
    let addresses = networks.iter().map(|n| n.parse().unwrap()).collect();
    Selector::new(Scope::Both, Family::Both, Matches { addresses, ..Matches::default() }).unwrap()
}

fn set(mappings: &[Mapping]) -> MappingSet {
    MappingSet::new(mappings.to_vec())
}

#[track_caller]
fn is_deleted(flow: Flow, before: &[Mapping], after: &[Mapping]) {
    let contradicts = contradicts(&flow, &set(before), &set(after), &local());
    assert!(contradicts, "{flow:?} is left alone");
}

#[track_caller]
fn is_left_alone(flow: Flow, before: &[Mapping], after: &[Mapping]) {
    let contradicts = contradicts(&flow, &set(before), &set(after), &local());
    assert!(!contradicts, "{flow:?} is deleted");
}

fn at(port: u16) -> Flow {
    flow("198.51.100.7:4000", "192.0.2.1:53", &format!("192.0.2.1:{port}"))
}

#[test]
fn a_flow_at_the_old_target_is_deleted() {
    is_deleted(at(5353), &[to(5353)], &[to(5454)]);
    is_deleted(at(5353), &[to(5353)], &[]);
}

#[test]
fn a_flow_at_the_new_target_is_left_alone() {
    is_left_alone(at(5454), &[to(5353)], &[to(5454)]);
    is_left_alone(at(53), &[to(5353)], &[]);
}

#[test]
fn an_untranslated_flow_is_deleted_when_its_port_is_mapped() {
    is_deleted(at(53), &[], &[to(5353)]);
    // Older than the mapping before, even.
    is_deleted(at(53), &[to(5353)], &[to(5454)]);
}

#[test]
fn without_a_difference_nothing_is_deleted() {
    let comment = |text: &str| Mapping { comment: Some(Comment::new(text).unwrap()), ..to(5454) };
    is_left_alone(at(5353), &[to(5454)], &[to(5454)]);
    is_left_alone(at(5353), &[comment("a")], &[comment("b")]);
    is_left_alone(at(5353), &[], &[]);
}

#[test]
fn translations_of_others_are_left_alone() {
    // To a container.
    let docker = flow("198.51.100.7:4000", "192.0.2.1:53", "172.17.0.2:53");
    is_left_alone(docker, &[], &[to(5353)]);
    is_left_alone(docker, &[to(5353)], &[]);
    is_left_alone(docker, &[to(53)], &[to(5353)]);
    // To another address of this host, as a redirect does.
    let moved = flow("192.0.2.1:4000", "192.0.2.1:53", "127.0.0.1:5353");
    is_left_alone(moved, &[to(5353)], &[]);
    is_left_alone(moved, &[to(5353)], &[to(5454)]);
    // To a port of this host that is not ours.
    is_left_alone(at(9999), &[to(5353)], &[to(5454)]);
    is_left_alone(at(9999), &[], &[to(5353)]);
    // From another port to the same target.
    let other = flow("198.51.100.7:4000", "192.0.2.1:1053", "192.0.2.1:5353");
    is_left_alone(other, &[to(5353)], &[]);
}

#[test]
fn flows_not_to_this_host_are_left_alone() {
    let forwarded = flow("198.51.100.7:4000", "203.0.113.5:53", "203.0.113.5:53");
    is_left_alone(forwarded, &[], &[to(5353)]);
    let resolver = flow("192.0.2.1:4000", "203.0.113.5:53", "203.0.113.5:53");
    is_left_alone(resolver, &[], &[to(5353)]);
    let hairpin = flow("198.51.100.7:4000", "203.0.113.5:53", "192.0.2.1:5353");
    is_left_alone(hairpin, &[to(5353)], &[]);
}

#[test]
fn flows_that_the_service_began_are_left_alone() {
    is_left_alone(flow("192.0.2.1:53", "198.51.100.7:4000", "198.51.100.7:4000"), &[], &[to(5353)]);
}

#[test]
fn only_connectionless_protocols_are_cleaned() {
    for (protocol, deleted) in [
        (Protocol::Udp, true),
        (Protocol::UdpLite, true),
        (Protocol::Tcp, false),
        (Protocol::Sctp, false),
        (Protocol::Dccp, false),
    ] {
        let flow = Flow { protocol, ..at(5353) };
        let before = set(&[Mapping { service: service(protocol, 53), ..to(5353) }]);
        let after = MappingSet::default();
        assert_eq!(contradicts(&flow, &before, &after, &local()), deleted, "{protocol}");
    }
}

#[test]
fn a_protocol_is_not_taken_for_another() {
    let udplite = Flow { protocol: Protocol::UdpLite, ..at(5353) };
    is_left_alone(udplite, &[to(5353)], &[to(5454)]);
}

#[test]
fn ipv6_and_this_hosts_own_clients_are_cleaned_alike() {
    for (client, asked, answers) in [
        ("[2001:db8::9]:4000", "[2001:db8::1]:53", "[2001:db8::1]:5353"),
        ("[fe80::9]:4000", "[fe80::1]:53", "[fe80::1]:5353"),
        ("[::1]:4000", "[::1]:53", "[::1]:5353"),
        ("127.0.0.1:4000", "127.0.0.1:53", "127.0.0.1:5353"),
        ("127.0.0.1:4000", "127.1.2.3:53", "127.1.2.3:5353"),
        ("192.0.2.1:4000", "192.0.2.1:53", "192.0.2.1:5353"),
    ] {
        let flow = flow(client, asked, answers);
        is_deleted(flow, &[to(5353)], &[to(5454)]);
        is_deleted(flow, &[to(5353)], &[]);
        is_left_alone(flow, &[to(5454)], &[to(5353)]);
    }
}

#[test]
fn scopes_and_families_are_told_apart() {
    let outside = at(5353);
    let inside = flow("192.0.2.1:4000", "192.0.2.1:53", "192.0.2.1:5353");
    let outside6 = flow("[2001:db8::9]:4000", "[2001:db8::1]:53", "[2001:db8::1]:5353");
    let before = [to(5353)];

    let after = [dns(5353, only(Scope::External, Family::Both))];
    is_left_alone(outside, &before, &after);
    is_left_alone(outside6, &before, &after);
    is_deleted(inside, &before, &after);

    let after = [dns(5353, only(Scope::Local, Family::Both))];
    is_deleted(outside, &before, &after);
    is_left_alone(inside, &before, &after);

    let after = [dns(5353, only(Scope::Both, Family::Ipv6))];
    is_deleted(outside, &before, &after);
    is_left_alone(outside6, &before, &after);

    // What before did not translate for this scope, another program did.
    is_left_alone(inside, &[dns(5353, only(Scope::External, Family::Both))], &[]);
}

#[test]
fn sources_and_addresses_are_known() {
    let near = at(5353);
    let far = flow("203.0.113.9:4000", "192.0.2.1:53", "192.0.2.1:5353");
    let after = [dns(5353, sources(&["198.51.100.0/24"]))];
    is_left_alone(near, &[to(5353)], &after);
    is_deleted(far, &[to(5353)], &after);
    // And the other way round: the remainder goes elsewhere.
    let after = [dns(5454, sources(&["198.51.100.0/24"])), to(5353)];
    is_deleted(near, &[to(5353)], &after);
    is_left_alone(far, &[to(5353)], &after);

    is_left_alone(near, &[to(5353)], &[dns(5353, addresses(&["192.0.2.1/32"]))]);
    is_deleted(near, &[to(5353)], &[dns(5353, addresses(&["192.0.2.2/32"]))]);
}

#[test]
fn an_unknown_interface_is_given_the_benefit_of_the_doubt() {
    let eth0 = |port| dns(port, interfaces(&["eth0"]));
    // It may have come by eth0, or not.
    is_left_alone(at(53), &[], &[eth0(5353)]);
    is_left_alone(at(5353), &[to(5353)], &[eth0(5353)]);
    is_left_alone(at(5353), &[to(5353)], &[eth0(5454), to(5353)]);
    // Either way it would go elsewhere now.
    is_deleted(at(53), &[], &[eth0(5353), to(5454)]);
    is_deleted(at(5353), &[to(5353)], &[eth0(5454)]);
    is_deleted(at(5353), &[eth0(5353)], &[]);
    // Interfaces are for what arrives.
    let inside = flow("127.0.0.1:4000", "127.0.0.1:53", "127.0.0.1:5353");
    is_deleted(inside, &[to(5353)], &[eth0(5353)]);
}

#[test]
fn where_a_flow_went_tells_by_which_interface_it_came() {
    let eth0 = |port| dns(port, interfaces(&["eth0"]));
    let wg = |port| dns(port, interfaces(&["wg*"]));
    // At 5353, so it came by eth0, and would go to 5454 now.
    is_deleted(at(5353), &[eth0(5353)], &[eth0(5454), to(5353)]);
    is_deleted(at(5353), &[eth0(5353), to(5454)], &[eth0(5454), to(5353)]);
    is_deleted(at(5454), &[eth0(5353), to(5454)], &[eth0(5454), to(5353)]);
    is_deleted(at(5353), &[wg(5353)], &[eth0(5353)]);
    // Untranslated, so it did not come by eth0.
    is_deleted(at(53), &[eth0(5353)], &[to(5353)]);
    is_left_alone(at(53), &[eth0(5353)], &[eth0(5454)]);
    // wg0 is one of wg*, wg1 is not wg0.
    let wg0 = |port| dns(port, interfaces(&["wg0"]));
    is_left_alone(at(5353), &[wg0(5353)], &[wg(5353)]);
    is_left_alone(at(5353), &[wg(5353)], &[wg0(5454), wg(5353)]);
    is_deleted(at(5353), &[wg0(5353), wg(5454)], &[wg0(5454), wg(5353)]);
}

#[test]
fn the_first_mapping_that_matches_decides() {
    let office = |port| dns(port, sources(&["198.51.100.0/24"]));
    is_left_alone(at(5353), &[to(5353)], &[office(5353), to(5454)]);
    is_deleted(at(5353), &[office(5353), to(5454)], &[office(5454), to(5353)]);
}

#[test]
fn a_port_mapped_to_itself_looks_untranslated() {
    // "All but the office": the exception goes where it asked to go.
    let office = dns(53, sources(&["198.51.100.0/24"]));
    is_left_alone(at(53), &[], &[office.clone(), to(5353)]);
    is_left_alone(at(53), &[office.clone(), to(5353)], &[]);
    is_deleted(at(53), &[office], &[to(5353)]);
}

#[test]
fn what_an_earlier_build_redirected_is_known() {
    let found = |flow: &Flow, before: &[Mapping]| redirected(flow, &set(before), &local());
    for (client, asked, answers) in [
        // In the output hook, redirect goes to loopback whatever the address was.
        ("127.0.0.1:4000", "127.1.2.3:53", "127.0.0.1:5353"),
        ("192.0.2.1:4000", "192.0.2.1:53", "127.0.0.1:5353"),
        // In prerouting, to the interface's first address.
        ("[2001:db8::9]:4000", "[fe80::1]:53", "[2001:db8::1]:5353"),
    ] {
        let flow = flow(client, asked, answers);
        assert!(found(&flow, &[to(5353)]), "{flow:?}");
        assert!(!found(&flow, &[to(5454)]), "another program's: {flow:?}");
        assert!(!found(&flow, &[]), "another program's: {flow:?}");
        assert!(!found(&Flow { protocol: Protocol::Tcp, ..flow }, &[to(5353)]), "{flow:?}");
    }
    // As it would be made now.
    assert!(!found(&at(5353), &[to(5353)]));
    let docker = flow("198.51.100.7:4000", "192.0.2.1:53", "172.17.0.2:5353");
    assert!(!found(&docker, &[to(5353)]));
    let hairpin = flow("198.51.100.7:4000", "203.0.113.5:53", "192.0.2.1:5353");
    assert!(!found(&hairpin, &[to(5353)]));
    // By any interface that it may have come by.
    let moved = flow("198.51.100.7:4000", "192.0.2.1:53", "127.0.0.1:5353");
    assert!(found(&moved, &[dns(5353, interfaces(&["eth0"]))]));
    assert!(!found(&moved, &[dns(5353, only(Scope::Local, Family::Both))]));
}

#[test]
fn port_zero_is_nobodys() {
    is_left_alone(flow("198.51.100.7:4000", "192.0.2.1:0", "192.0.2.1:5353"), &[to(5353)], &[]);
}

#[test]
fn differing_services_are_those_added_removed_and_changed() {
    let tcp = |from, port| Mapping { service: service(Protocol::Tcp, from), ..to(port) };
    let udp = |from, port| Mapping { service: service(Protocol::Udp, from), ..to(port) };
    let commented = Mapping { comment: Some(Comment::new("new").unwrap()), ..tcp(80, 3000) };
    let before = set(&[tcp(80, 3000), tcp(443, 8443), udp(53, 5353), udp(69, 6969)]);
    let after = set(&[commented, tcp(443, 8444), tcp(990, 2990), udp(69, 6969), udp(123, 5123)]);
    let names =
        |services: Vec<Service>| services.iter().map(Service::to_string).collect::<Vec<_>>();

    assert_eq!(
        names(differing_services(&before, &after)),
        ["443/tcp", "990/tcp", "53/udp", "123/udp"]
    );
    assert_eq!(
        names(differing_services(&after, &before)),
        ["443/tcp", "990/tcp", "53/udp", "123/udp"]
    );
    assert!(differing_services(&before, &before).is_empty());
    assert_eq!(differing_services(&MappingSet::default(), &after).len(), 5);
}

#[test]
fn the_order_of_overlapping_mappings_is_a_difference() {
    let eth0 = dns(5353, interfaces(&["eth0"]));
    let eth = dns(5454, interfaces(&["eth*"]));
    let (one, other) = (set(&[eth0.clone(), eth.clone()]), set(&[eth, eth0]));
    assert_eq!(differing_services(&one, &other).len(), 1);
}
