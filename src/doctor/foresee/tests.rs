//! Facts written down, and what follows from them.

use super::super::told::EACH_MAX;
use super::*;
use crate::doctor::tests::{interface, listener, set, table};
use crate::firewall::expr::{Expr, Translation};
use crate::firewall::{Hook, Kind};
use crate::host::listeners::Listening;
use crate::host::login::SshSession;
use crate::host::user::Standing;
use crate::mapping::changes::changes;

fn facts(listeners: &[&str]) -> Facts {
    Facts {
        listening: Listening::new(listeners.iter().map(|l| listener(l)).collect(), Vec::new()),
        interfaces: vec![
            interface("eth0", &["192.0.2.1", "2001:db8::1", "fe80::1"]),
            interface("lo", &["127.0.0.1", "::1"]),
        ],
        ..Facts::default()
    }
}

fn found(before: &str, after: &str, facts: &Facts) -> Vec<Finding> {
    let (before, after) = (set(before), set(after));
    foresee(&changes(&before, &after), facts)
}

/// Code and port of each finding when this is mapped anew.
fn codes(after: &str, listeners: &[&str]) -> String {
    let findings = found("", after, &facts(listeners));
    let words = findings.iter().map(|f| match f.port {
        Some(port) => format!("{} {port}", f.code.name()),
        None => f.code.name().to_owned(),
    });
    words.collect::<Vec<_>>().join(", ")
}

#[test]
fn a_listener_on_all_addresses_is_all_that_is_wanted() {
    assert_eq!(codes("80: 3000", &["tcp :: 3000"]), "");
    assert_eq!(codes("80: 3000", &["tcp ::only 3000", "tcp 0.0.0.0 3000"]), "");
    assert_eq!(codes("53/udp: 5353", &["udp :: 5353"]), "");
    let each = ["192.0.2.1", "2001:db8::1", "127.0.0.1", "::1"].map(|a| format!("tcp {a} 3000"));
    assert_eq!(codes("80: 3000", &each.each_ref().map(String::as_str)), "");
}

#[test]
fn nobody_listens() {
    assert_eq!(codes("80: 3000", &["tcp :: 3001"]), "nobody-listens 80");
    let findings = found("", "80: 3000", &facts(&[]));
    assert_eq!(findings[0].summary, "nobody listens on port 3000, the target of 80/tcp");
    assert_eq!(findings[0].severity, Severity::Error);
    assert_eq!(findings[0].remedy[1].command.as_deref(), Some("sudo ss -ltnp"));
}

#[test]
fn what_cannot_be_seen_is_not_claimed() {
    let unseen = Listening::new(Vec::new(), vec![Protocol::Tcp]);
    let facts = Facts { listening: unseen, ..facts(&[]) };
    assert_eq!(found("", "80: 3000", &facts), []);
    assert_eq!(found("", "80/udp: 3000", &facts)[0].code, Code::NobodyListens);
}

#[test]
fn the_other_protocol_is_told_from_nobody() {
    assert_eq!(codes("53: 5353", &["udp :: 5353"]), "other-protocol 53");
    assert_eq!(codes("53/udp: 5353", &["tcp :: 5353"]), "other-protocol 53");
    assert_eq!(codes("53/sctp: 5353", &["tcp :: 5353"]), "nobody-listens 53");
    assert_eq!(codes("53/tcp+udp: 5353", &["udp :: 5353"]), "other-protocol 53");
}

#[test]
fn a_listener_on_loopback_leaves_out_clients_from_outside() {
    assert_eq!(codes("80: 3000", &["tcp 127.0.0.1 3000"]), "loopback-only 80");
    assert_eq!(codes("80: 3000", &["tcp 127.0.0.1 3000", "tcp ::1 3000"]), "loopback-only 80");
    let external = "80: { to: 3000, scope: external }";
    assert_eq!(codes(external, &["tcp ::1 3000"]), "loopback-only 80");
    let finding = &found("", "80: 3000", &facts(&["tcp 127.0.0.1 3000"]))[0];
    assert_eq!(finding.summary, "node (pid 812, www-data) listens on port 3000 of 127.0.0.1 only");
    assert_eq!(finding.detail, "clients from outside are refused at 80/tcp");
}

#[test]
fn a_listener_on_loopback_serves_a_mapping_for_this_machine() {
    let local = "80: { to: 3000, scope: local, addresses: [127.0.0.1] }";
    assert_eq!(codes(local, &["tcp 127.0.0.1 3000"]), "");
    let local = "80: { to: 3000, scope: local, families: ipv4 }";
    assert_eq!(codes(local, &["tcp 127.0.0.1 3000"]), "one-address-only 80");
    assert_eq!(codes(local, &["tcp 0.0.0.0 3000"]), "");
}

#[test]
fn a_listener_of_one_family_leaves_out_the_other() {
    assert_eq!(codes("80: 3000", &["tcp 0.0.0.0 3000"]), "one-family-only 80");
    assert_eq!(codes("80: 3000", &["tcp ::only 3000"]), "one-family-only 80");
    assert_eq!(codes("80: { to: 3000, families: ipv4 }", &["tcp 0.0.0.0 3000"]), "");
    let finding = &found("", "80: 3000", &facts(&["tcp 0.0.0.0 3000"]))[0];
    assert_eq!(finding.detail, "IPv6 clients of 80/tcp are refused ([::1], [2001:db8::1])");
    assert_eq!(finding.severity, Severity::Error);
    // A host without IPv6 but for its loopback: nobody outside is left out.
    let mut facts = facts(&["tcp 0.0.0.0 3000"]);
    facts.interfaces[0].addresses.retain(|a| a.is_ipv4());
    assert_eq!(found("", "80: 3000", &facts)[0].severity, Severity::Warning);
    facts.interfaces[1].addresses.retain(|a| a.is_ipv4());
    assert_eq!(found("", "80: 3000", &facts), []);
}

#[test]
fn a_listener_on_one_address_leaves_out_the_others() {
    assert_eq!(codes("80: 3000", &["tcp 192.0.2.1 3000"]), "one-address-only 80");
    let named = "80: { to: 3000, addresses: [192.0.2.1] }";
    assert_eq!(codes(named, &["tcp 192.0.2.1 3000"]), "");
    assert_eq!(codes("80: 3000", &["tcp ::%eth0 3000"]), "one-address-only 80");
    let arriving = "80: { to: 3000, interfaces: [eth0] }";
    assert_eq!(codes(arriving, &["tcp ::%eth0 3000"]), "");
    assert_eq!(codes(arriving, &["tcp ::%wg0 3000"]), "one-address-only 80");
}

#[test]
fn a_listener_on_the_mapped_port_is_not_reached_any_more() {
    let both = ["tcp :: 80", "tcp :: 3000"];
    assert_eq!(codes("80: 3000", &both), "listener-shadowed 80");
    assert_eq!(codes("80/udp: 3000", &both), "other-protocol 80");
    let ipv4 = "80: { to: 3000, families: ipv4 }";
    assert_eq!(codes(ipv4, &["tcp ::only 80", "tcp :: 3000"]), "");
    assert_eq!(codes("80: 3000", &["tcp 127.0.0.1 80", "tcp :: 3000"]), "listener-shadowed 80");
    let external = "80: { to: 3000, scope: external }";
    assert_eq!(codes(external, &["tcp 127.0.0.1 80", "tcp :: 3000"]), "");
    // It was left behind by an earlier change.
    assert_eq!(found("80: 3001", "80: 3000", &facts(&both)), []);
}

#[test]
fn only_the_user_that_is_named_may_listen_there() {
    let ada = "80: { to: 3000, user: ada }";
    assert_eq!(codes(ada, &["tcp :: 3000 1001"]), "");
    assert_eq!(codes(ada, &["tcp :: 3000"]), "wrong-user 80");
    assert_eq!(codes("80: { to: 3000, user: 33 }", &["tcp :: 3000"]), "");
    assert_eq!(codes(ada, &[]), "nobody-listens 80");
    // The narrower socket gets the clients: of two users, only one address is lost.
    let both = ["tcp :: 3000 1001", "tcp 127.0.0.1 3000"];
    assert_eq!(codes(ada, &both), "wrong-user 80");
    let finding = &found("", ada, &facts(&both))[0];
    assert_eq!(finding.evidence["missing"], serde_json::json!(["127.0.0.1"]));
    let elsewhere = "80: { to: 3000, user: ada, scope: external }";
    assert_eq!(codes(elsewhere, &both), "");
    assert_eq!(codes(ada, &["tcp :: 3000", "tcp 0.0.0.0 3000 1001"]), "wrong-user 80");
    let finding = &found("", ada, &facts(&["tcp :: 3000"]))[0];
    assert_eq!(
        finding.summary,
        "node (pid 812, www-data) listens on port 3000, and only ada may answer 80/tcp"
    );
    assert_eq!(finding.severity, Severity::Error);
    // A mapping that is given a user later is looked at again; neighbours are told together.
    let found_later = found("80: 3000", ada, &facts(&["tcp :: 3000"]));
    assert_eq!(found_later[0].code, Code::WrongUser);
    let range = "80-81: { to: 3000-3001, user: ada }";
    assert_eq!(codes(range, &["tcp :: 3000", "tcp :: 3001"]), "wrong-user 80");
}

#[test]
fn users_that_a_mapping_names_are_there() {
    let told = |mapping: &str, standing: Standing| {
        let mut facts = facts(&["tcp :: 3000 1001"]);
        for user in set(mapping).iter().filter_map(|m| m.user.clone()) {
            facts.users.insert(user, standing.clone());
        }
        let findings = found("", mapping, &facts);
        findings.into_iter().map(|f| (f.code, f.summary, f.detail)).collect::<Vec<_>>()
    };
    let ada = "80: { to: 3000, user: ada }";
    assert_eq!(told(ada, Standing::Known), []);
    let gone = |now: Option<&str>| Standing::Gone { now: now.map(str::to_owned) };
    let (code, summary, detail) = told(ada, gone(None)).remove(0);
    assert_eq!((code, &*summary), (Code::NoSuchUser, "this host has no user ada"));
    assert!(detail.ends_with("number 1001 may answer 80/tcp, and nobody has that number"));
    let (_, summary, _) = told("80: { to: 3000, user: 1001 }", gone(None)).remove(0);
    assert_eq!(summary, "this host has no user 1001");
    let (_, _, detail) = told(ada, gone(Some("eve"))).remove(0);
    assert!(detail.ends_with("which is eve now"), "{detail}");
    let other = crate::mapping::Uid::new(1002).unwrap();
    let (_, summary, _) = told(ada, Standing::Renumbered(other)).remove(0);
    assert_eq!(summary, "the user ada has the number 1002 now, and not 1001");
}

#[test]
fn selectors_name_what_is_there() {
    let at_eth0 = "80: { to: 3000, interfaces: [eth0, 'et*'], addresses: [192.0.2.0/24] }";
    assert_eq!(codes(at_eth0, &["tcp :: 3000"]), "");
    let elsewhere = "80: { to: 3000, interfaces: [wg0, 'ppp*'], addresses: [198.51.100.1] }";
    assert_eq!(
        codes(elsewhere, &["tcp :: 3000"]),
        "no-such-interface 80, no-such-interface 80, no-such-address 80"
    );
    let findings = found("", elsewhere, &facts(&["tcp :: 3000"]));
    assert_eq!(findings[1].summary, "no interface of this host matches ppp*");
    assert_eq!(findings[2].summary, "this host does not have the address 198.51.100.1");
    assert_eq!(codes("80: { to: 3000, addresses: [127.0.0.9] }", &["tcp :: 3000"]), "");
}

#[test]
fn the_own_ssh_session_is_told_what_happens_to_it() {
    let over = |port: u16| {
        let client = "192.0.2.2:4711".parse().unwrap();
        let server = format!("192.0.2.1:{port}").parse().unwrap();
        let session = Some(SshSession { client, server });
        Facts { session, ..facts(&["tcp :: 2222"]) }
    };
    let told = |before, after, port| {
        let findings = found(before, after, &over(port));
        findings.iter().filter(|f| f.code == Code::SshSession).map(|f| f.summary.clone()).next()
    };
    let came = Some("your own ssh session came in on 22/tcp".to_owned());
    let may = Some("your own ssh session may have come in on 22/tcp".to_owned());
    assert_eq!(told("", "22: 2222", 22), came);
    assert_eq!(told("22: 2222", "22: 2223", 2222), may);
    assert_eq!(told("22: 2222", "", 2222), may);
    for (before, after, port) in [
        ("", "22: 2222", 2222),
        ("", "22/udp: 2222", 22),
        ("", "80: 2222", 22),
        ("", "22: { to: 2222, scope: local }", 22),
        ("", "22: { to: 2222, families: ipv6 }", 22),
        ("22: 2222", "22: { to: 2222, comment: x }", 2222),
    ] {
        assert_eq!(told(before, after, port), None, "{before}; {after}; {port}");
    }
}

#[test]
fn what_does_not_change_is_not_looked_at() {
    assert_eq!(found("80: 3000", "80: 3000", &facts(&[])), []);
    assert_eq!(found("80: 3000", "80: { to: 3000, comment: new }", &facts(&[])), []);
    assert_eq!(found("80: 3000, 81: 3001", "80: 3000", &facts(&[])), []);
    let changed = found("80: 3000, 81: 3001", "80: 3000, 81: 3002", &facts(&[]));
    assert_eq!(changed.iter().map(|f| f.port).collect::<Vec<_>>(), [Some(81)]);
}

#[test]
fn neighbours_are_told_together_and_crowds_are_cut_short() {
    let findings = found("", "600-663: 6000-6063", &facts(&[]));
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].summary, "nobody listens on ports 6000-6063, the target of 600-663/tcp");
    let crowd: Vec<_> = (0..100).map(|n| format!("{}: {}", 100 + n, 9000 - n)).collect();
    let findings = found("", &crowd.join(", "), &facts(&[]));
    assert_eq!(findings.len(), EACH_MAX + 1);
    assert_eq!(findings[EACH_MAX].summary, "the same of 80 more mappings (nobody-listens)");
}

/// Where somebody translates, and only then, it matters that not all are compared.
#[test]
fn mappings_that_are_not_compared_with_others_are_said_not_to_be() {
    let ports = "600-700: 6000-6100";
    let listeners: Vec<_> = (6000..=6100).map(|port| format!("tcp :: {port}")).collect();
    let listeners: Vec<_> = listeners.iter().map(String::as_str).collect();
    let mut facts = facts(&listeners);
    assert_eq!(found("", ports, &facts), []);
    let translation = Translation::Destination;
    let dnat = vec![Expr::Nat { what: "dnat", translation, port: None }];
    let at = (Hook::Forward, Kind::Nat, -100);
    facts.firewalls.rulesets.tables.push(table("nat", at, dnat));
    let findings = found("", ports, &facts);
    let [finding] = &findings[..] else { panic!("{findings:#?}") };
    assert_eq!((finding.code, finding.severity), (Code::OtherNat, Severity::Note));
    assert!(finding.summary.starts_with("of 37 more new mappings"), "{}", finding.summary);
    assert_eq!(found("", "600-663: 6000-6063", &facts), []);
    assert_eq!(found(ports, "600-700: 6001-6101", &facts)[0].code, Code::NobodyListens);
}
