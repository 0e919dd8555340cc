//! Each finding where it should be, and absent where it should not.

use super::*;
use crate::doctor::facts::{Boot, Files, Sysctls};
use crate::doctor::foresee::{Facts as Around, Firewalls};
use crate::doctor::tests::{interface, listener, set, table};
use crate::firewall::expr::{Expr, Translation};
use crate::firewall::{Family, Hook, Kind, Table as Rules, Unread};
use crate::host::listeners::{Listener, Listening};
use crate::host::user::Standing;
use crate::mapping::GenerationId;

pub fn number(n: u64) -> Option<GenerationId> {
    GenerationId::new(n)
}

pub fn service(port: u16) -> Service {
    Service { protocol: Protocol::Tcp, port: Port::new(port).unwrap() }
}

fn listening(ports: &[u16]) -> Listening {
    let on = |port: &u16| listener(&format!("tcp :: {port}"));
    Listening::new(ports.iter().map(on).collect(), Vec::new())
}

/// 80 goes to 3000, where somebody listens; it is applied, recorded, and kept for boot.
pub fn healthy() -> Facts {
    Facts {
        mapping: set("80: 3000"),
        table: Table::Present { serving: number(2), drift: None, trial: None },
        around: Around {
            listening: listening(&[3000]),
            interfaces: vec![interface("eth0", &["192.0.2.1"]), interface("lo", &["127.0.0.1"])],
            firewalls: Firewalls { indexes: [("eth0".into(), 2)].into(), ..Firewalls::default() },
            ..Around::default()
        },
        boot: Boot { persisted: number(2), is_same: Some(true), ..Boot::default() },
        files: Files {
            directory: "/etc/portmap".into(),
            mapping: Some(set("80: 3000")),
            distrust: Vec::new(),
        },
        sysctls: Sysctls {
            unprivileged_start: Some(1024),
            ephemeral: Some((32768, 60999)),
            reserved: Vec::new(),
            conntrack: Some((10, 1000)),
        },
        ..Facts::default()
    }
}

/// The findings, `SEVERITY CODE` each.
#[track_caller]
pub fn codes(change: impl FnOnce(&mut Facts)) -> Vec<String> {
    let mut facts = healthy();
    change(&mut facts);
    let examination = examine(&facts);
    let word = |s: Severity| serde_json::to_value(s).unwrap().as_str().unwrap().to_owned();
    examination.findings.iter().map(|f| format!("{} {}", word(f.severity), f.code.name())).collect()
}

#[test]
fn a_healthy_machine_has_no_finding() {
    assert_eq!(codes(|_| {}), [""; 0]);
    let examination = examine(&healthy());
    assert!(examination.is_healthy());
    let paths: Vec<_> =
        examination.paths.iter().map(|p| (p.from, p.address.to_string(), p.answer)).collect();
    assert_eq!(
        paths,
        [
            (From::Outside, "192.0.2.1".to_owned(), Answer::Yes),
            (From::Here, "127.0.0.1".to_owned(), Answer::Yes),
            (From::Here, "192.0.2.1".to_owned(), Answer::Yes),
        ]
    );
}

#[test]
fn a_port_that_is_not_mapped_is_explained() {
    let asked = |f: &mut Facts| f.asked = vec![service(81)];
    assert_eq!(codes(asked), ["error not-mapped"]);
    assert_eq!(codes(|f| f.asked = vec![service(80)]), ["note target-takeable"]);
    let mut facts = healthy();
    asked(&mut facts);
    let finding = &examine(&facts).findings[0];
    assert!(finding.detail.contains("EACCES"), "{}", finding.detail);
    // What is mapped stays.
    assert_eq!(finding.remedy[0].command, None);
    assert!(finding.remedy[0].text.starts_with("add `81: 8081` to the rules file"));
    (facts.mapping, facts.files.mapping) = (set(""), None);
    let command = |facts: &Facts| examine(facts).findings[0].remedy[0].command.clone();
    assert_eq!(command(&facts).as_deref(), Some("sudo portmap apply 81:8081"));
    facts.subject = Subject::Rules;
    assert_eq!(command(&facts), None);
    // Where a program listens itself, nothing is wrong; where nobody may look, nothing is claimed.
    let served = |f: &mut Facts| {
        f.asked = vec![service(81)];
        f.around.listening = listening(&[81, 3000]);
    };
    assert_eq!(codes(served), ["note not-mapped"]);
    let unseen = |f: &mut Facts| {
        f.asked = vec![service(81)];
        f.table = Table::Unseen { why: "no".into() };
    };
    assert_eq!(codes(unseen), [""; 0]);
}

#[test]
fn listeners_decide_who_is_answered() {
    assert_eq!(codes(|f| f.around.listening = listening(&[])), ["error nobody-listens"]);
    let both = codes(|f| f.around.listening = listening(&[80, 3000]));
    assert_eq!(both, ["warning listener-shadowed"]);
    let mut facts = healthy();
    facts.around.listening = listening(&[]);
    let paths = examine(&facts).paths;
    assert!(paths.iter().all(|p| p.answer == Answer::No), "{paths:?}");
    assert_eq!(paths[0].because, Some(Code::NobodyListens));
    facts.around = Around { interfaces: facts.around.interfaces, ..Around::unseen() };
    let examination = examine(&facts);
    assert_eq!(examination.findings, []);
    assert!(examination.paths.iter().all(|p| p.answer == Answer::Unknown));
    assert_eq!(examination.unseen, ["who listens with tcp: the kernel does not tell"]);
}

#[test]
fn a_listener_that_leaves_out_clients_is_as_bad_as_the_clients_it_leaves_out() {
    let on = |text: &str| {
        codes(|f| {
            let addresses = ["192.0.2.1", "2001:db8::1"];
            f.around.interfaces[0] = interface("eth0", &addresses);
            f.around.listening = Listening::new(vec![listener(text)], Vec::new());
        })
    };
    assert_eq!(on("tcp :: 3000"), [""; 0]);
    assert_eq!(on("udp :: 3000"), ["error other-protocol"]);
    assert_eq!(on("tcp 127.0.0.1 3000"), ["error loopback-only"]);
    assert_eq!(on("tcp 0.0.0.0 3000"), ["error one-family-only"]);
    assert_eq!(on("tcp 192.0.2.1 3000"), ["error one-address-only"]);
    // Clients here can mostly do with another address.
    let here = |text: &str| {
        codes(|f| {
            f.around.interfaces[1] = interface("lo", &["127.0.0.1", "::1"]);
            f.around.listening = Listening::new(vec![listener(text)], Vec::new());
        })
    };
    assert_eq!(here("tcp 0.0.0.0 3000"), ["warning one-family-only"]);
    assert_eq!(here("tcp 192.0.2.1 3000"), ["warning one-address-only"]);
}

#[test]
fn what_a_mapping_names_and_the_host_has_not_is_told() {
    let named = |ports: &str| {
        codes(|f| {
            f.mapping = set(ports);
            f.files.mapping = None;
        })
    };
    let ppp0 = named("80: { to: 3000, interfaces: [ppp0] }");
    assert_eq!(ppp0, ["warning no-such-interface"]);
    let address = named("80: { to: 3000, addresses: [198.51.100.7] }");
    assert_eq!(address, ["warning no-such-address"]);
    assert_eq!(named("80: { to: 3000, interfaces: [eth0], addresses: [192.0.2.1] }"), [""; 0]);
    let ada = |standing: Standing| {
        codes(|f| {
            f.mapping = set("80: { to: 3000, user: ada }");
            f.files.mapping = None;
            let user = f.mapping.iter().next().and_then(|m| m.user.clone()).unwrap();
            f.around.users = [(user, standing)].into();
            let of_ada = listener("tcp :: 3000 1001");
            f.around.listening = Listening::new(vec![of_ada], Vec::new());
        })
    };
    assert_eq!(ada(Standing::Gone { now: None }), ["warning no-such-user"]);
    assert_eq!(ada(Standing::Known), [""; 0]);
}

#[test]
fn a_program_that_cannot_be_seen_is_not_passed_over() {
    let mut facts = healthy();
    let listeners = ["tcp :: 3000", "tcp :: 4000"].map(|text| {
        let program = None;
        Listener { program, ..listener(text) }
    });
    facts.around.listening = Listening::new(listeners.to_vec(), Vec::new());
    let examination = examine(&facts);
    assert_eq!(examination.findings, []);
    assert_eq!(examination.unseen.len(), 1, "{examination:?}");
    let unseen = &examination.unseen[0];
    assert!(unseen.starts_with("which program listens on 3000/tcp: "), "{unseen}");
    assert!(examination.paths.iter().all(|path| path.answer == Answer::Yes));
}

#[test]
fn a_stranger_at_the_target_is_not_heard() {
    let user = |f: &mut Facts, listener_of: &str| {
        f.mapping = set("80: { to: 3000, user: ada }");
        f.files.mapping = None;
        f.around.listening = Listening::new(vec![listener(listener_of)], Vec::new());
    };
    assert_eq!(codes(|f| user(f, "tcp :: 3000 1001")), [""; 0]);
    assert_eq!(codes(|f| user(f, "tcp :: 3000 33")), ["error wrong-user"]);
    let mut facts = healthy();
    user(&mut facts, "tcp :: 3000 33");
    for path in examine(&facts).paths {
        assert_eq!((path.answer, path.because), (Answer::No, Some(Code::WrongUser)));
    }
}

/// The findings with this table beside, and the answers on the path from outside and those here.
#[track_caller]
fn with_rules(rules: Rules) -> (Vec<String>, Vec<(Answer, Option<Code>)>) {
    let mut facts = healthy();
    facts.around.firewalls.rulesets.tables.push(rules);
    let examination = examine(&facts);
    let paths = examination.paths.iter().map(|p| (p.answer, p.because)).collect();
    (codes(|f| *f = facts), paths)
}

const YES: (Answer, Option<Code>) = (Answer::Yes, None);

#[test]
fn a_firewall_that_blocks_is_told_from_one_of_which_it_cannot_be_told() {
    let input = (Hook::Input, Kind::Filter, 0);
    assert_eq!(with_rules(table("open", input, vec![])), (vec![], vec![YES; 3]));
    let no = |code| (Answer::No, Some(code));
    // A policy of the input hook meets everybody.
    let (codes, paths) = with_rules(table("closed", input, vec![]));
    assert_eq!(codes, ["error firewall-blocks"; 2], "outside and here");
    assert_eq!(paths, [no(Code::FirewallBlocks); 3]);
    let unknown = || vec![Expr::Chance("limit"), Expr::Reject];
    let mut rate = table("open", input, Vec::new());
    rate.chains[0].rules = vec![crate::firewall::Rule { exprs: unknown(), ..Default::default() }];
    let (codes, paths) = with_rules(rate);
    assert_eq!(codes, ["warning firewall-unknown"; 2]);
    assert_eq!(paths, [(Answer::Unknown, Some(Code::FirewallUnknown)); 3]);
    let what = table("open", input, vec![Expr::Unknown("xt_what".into())]);
    assert_eq!(with_rules(what).0, ["warning firewall-unknown"; 2]);
    let raw = (Hook::Prerouting, Kind::Filter, -300);
    let (codes, paths) = with_rules(table("raw", raw, vec![Expr::Notrack]));
    assert_eq!(codes, ["error notrack"], "clients here are tracked where they leave");
    assert_eq!(paths, [no(Code::Notrack), YES, YES]);
}

#[test]
fn rules_that_cannot_be_read_are_no_rules_that_let_in() {
    let unread = |f: &mut Facts| {
        let why = "its program is not installed".to_owned();
        let unread = Unread { family: Family::Ip, table: "filter".to_owned(), why };
        f.around.firewalls.rulesets.unread.push(unread);
    };
    assert_eq!(codes(unread), ["warning firewall-unknown"; 2]);
    let mut facts = healthy();
    unread(&mut facts);
    let detail = &examine(&facts).findings[0].detail;
    assert!(detail.contains("legacy iptables (ip, table filter)"), "{detail}");
    let mut facts = healthy();
    facts.around.firewalls.unseen = Some("operation not permitted".to_owned());
    let examination = examine(&facts);
    assert_eq!(examination.findings, []);
    assert_eq!(examination.unseen, ["what firewalls do: operation not permitted"]);
    assert!(examination.paths.iter().all(|path| path.answer == Answer::Unknown));
}

fn dnat() -> Vec<Expr> {
    let translation = Translation::Destination;
    vec![Expr::Nat { what: "dnat", translation, port: None }]
}

#[test]
fn whoever_translates_first_wins() {
    for (hook, priority, code, answers) in [
        (Hook::Prerouting, -150, "error other-nat", [Answer::No, Answer::Yes, Answer::Yes]),
        (Hook::Prerouting, -100, "warning other-nat", [Answer::Yes; 3]),
        (Hook::Output, -150, "error other-nat", [Answer::Yes, Answer::No, Answer::No]),
        (Hook::Output, -100, "warning other-nat", [Answer::Yes; 3]),
        // Which of two at one priority comes first is not told by the kernel.
        (Hook::Prerouting, -101, "warning other-nat", [Answer::Unknown, Answer::Yes, Answer::Yes]),
        (Hook::Output, -101, "warning other-nat", [Answer::Yes, Answer::Unknown, Answer::Unknown]),
    ] {
        let (codes, paths) = with_rules(table("nat", (hook, Kind::Nat, priority), dnat()));
        assert_eq!(codes, [code], "{hook:?} {priority}");
        assert_eq!(paths.iter().map(|(answer, _)| *answer).collect::<Vec<_>>(), answers);
        let lost = paths.iter().filter(|(answer, _)| *answer == Answer::No);
        assert!(lost.clone().all(|(_, because)| *because == Some(Code::OtherNat)));
    }
    let translation = Translation::Source;
    let source = vec![Expr::Nat { what: "masquerade", translation, port: None }];
    let after = table("nat", (Hook::Postrouting, Kind::Nat, 100), source);
    assert_eq!(with_rules(after).0, [""; 0]);
    let mut dormant = table("nat", (Hook::Prerouting, Kind::Nat, -150), dnat());
    dormant.dormant = true;
    assert_eq!(with_rules(dormant).0, [""; 0]);
    // What happens only to some clients is not claimed of all.
    let mut some = table("nat", (Hook::Prerouting, Kind::Nat, -150), Vec::new());
    let exprs = [vec![Expr::Chance("limit")], dnat()].concat();
    some.chains[0].rules.push(crate::firewall::Rule { exprs, ..Default::default() });
    let (codes, paths) = with_rules(some);
    assert_eq!(codes, ["warning other-nat"]);
    assert_eq!(paths[0], (Answer::Unknown, Some(Code::FirewallUnknown)));
}

#[test]
fn a_range_that_is_blocked_is_told_once() {
    let mut facts = healthy();
    facts.mapping = set("600-663: 6000-6063");
    facts.files.mapping = None;
    facts.around.listening = listening(&(6000..=6063).collect::<Vec<_>>());
    let closed = table("closed", (Hook::Input, Kind::Filter, 0), Vec::new());
    facts.around.firewalls.rulesets.tables.push(closed);
    let findings = examine(&facts).findings;
    assert_eq!(findings.len(), 2, "{findings:#?}");
    for finding in findings {
        assert!(finding.summary.starts_with("600-663/tcp: "), "{}", finding.summary);
        assert_eq!(
            finding.remedy[0].command.as_deref(),
            Some(
                "sudo nft insert rule inet fw closed meta l4proto tcp ct status dnat ct original \
                 proto-dst 600-663 accept"
            )
        );
    }
}

#[test]
fn more_mappings_than_can_be_walked_are_not_judged() {
    let mut facts = healthy();
    facts.mapping = set("600-664: 6000-6064");
    facts.files.mapping = None;
    facts.around.listening = listening(&(6000..=6064).collect::<Vec<_>>());
    let examination = examine(&facts);
    assert_eq!(examination.unseen.len(), 1, "{examination:?}");
    assert!(examination.unseen[0].contains("all but the first 64 ports"));
    // Asked for by name, each has its answer; what was not walked through is not known.
    facts.asked = (600..=664).map(service).collect();
    let paths = examine(&facts).paths;
    assert_eq!(paths[63 * 3].answer, Answer::Yes);
    assert_eq!(paths[64 * 3].answer, Answer::Unknown);
    facts.asked = vec![service(664)];
    let examination = examine(&facts);
    assert_eq!((examination.unseen, examination.paths[0].answer), (vec![], Answer::Yes));
}

#[test]
fn a_mapping_for_an_interface_that_is_not_there_serves_nobody() {
    let mut facts = healthy();
    facts.mapping = set("80: { to: 3000, interfaces: [ppp0] }");
    facts.files.mapping = None;
    let path = &examine(&facts).paths[0];
    assert_eq!((path.answer, path.because), (Answer::No, Some(Code::NoSuchInterface)));
}

#[test]
fn the_machine_itself_is_looked_at() {
    assert_eq!(codes(|f| f.sysctls.conntrack = Some((1000, 1000))), ["error conntrack-full"]);
    assert_eq!(codes(|f| f.sysctls.conntrack = Some((900, 1000))), ["warning conntrack-full"]);
    assert_eq!(codes(|f| f.sysctls.conntrack = Some((899, 1000))), [""; 0]);
    assert_eq!(codes(|f| f.sysctls.conntrack = None), [""; 0]);
    let open = codes(|f| f.sysctls.unprivileged_start = Some(80));
    assert_eq!(open, ["note privileged-ports-open"]);
    assert_eq!(codes(|f| f.sysctls.unprivileged_start = Some(81)), [""; 0]);
    let capable = codes(|f| f.capable = vec!["/usr/bin/node".into()]);
    assert_eq!(capable, ["warning capability-left"]);
    let lacking = codes(|f| {
        f.table = Table::Impossible { why: "no".into(), help: "load it".into() };
    });
    assert_eq!(lacking, ["error kernel-lacks"]);
}

#[test]
fn a_target_that_others_can_take_is_noted() {
    let to_40000 = |f: &mut Facts| {
        f.mapping = set("80: 40000");
        f.files.mapping = None;
        f.around.listening = listening(&[40000]);
    };
    assert_eq!(codes(to_40000), ["note target-takeable"]);
    let reserved = |f: &mut Facts| {
        to_40000(f);
        f.sysctls.reserved = vec![(39999, 40001)];
    };
    assert_eq!(codes(reserved), [""; 0]);
}

/// It is so of every plain mapping: who does not ask is not told.
#[test]
fn a_privileged_port_that_any_user_may_answer_is_noted_where_it_is_asked_for() {
    let asked = |ports: &str, to: &[u16]| {
        let mut facts = healthy();
        facts.mapping = set(ports);
        facts.files.mapping = None;
        facts.around.listening = listening(to);
        facts.asked = facts.mapping.iter().map(|m| m.service).collect();
        examine(&facts).findings
    };
    let findings = asked("80: 3000, 443: 8443", &[3000, 8443]);
    let [finding] = &findings[..] else { panic!("{findings:#?}") };
    assert_eq!((finding.code, finding.severity), (Code::TargetTakeable, Severity::Note));
    assert!(finding.summary.contains("may answer 80/tcp, 443/tcp"), "{}", finding.summary);
    assert!(finding.remedy[0].text.contains("`80: { to: 3000, user: NAME }`"), "{finding:#?}");
    assert_eq!(asked("80: 3000", &[3000])[0].port, Some(80));
    assert_eq!(codes(|f| f.thorough = true), ["note target-takeable"]);
    // A user who is named, a port that anybody may have, a target that nobody may.
    for (ports, to) in [("80: { to: 3000, user: ada }", 3000), ("8080: 3000", 3000), ("80: 81", 81)]
    {
        let codes: Vec<_> = asked(ports, &[to]).iter().map(|finding| finding.code).collect();
        assert!(!codes.contains(&Code::TargetTakeable), "{ports}: {codes:?}");
    }
    let open = |f: &mut Facts| (f.thorough, f.sysctls.unprivileged_start) = (true, Some(80));
    assert_eq!(codes(open), ["note privileged-ports-open"], "anybody may have 80 itself");
}

#[test]
fn the_most_serious_comes_first() {
    let all = codes(|f| {
        f.boot.persisted = None;
        f.capable = vec!["/usr/bin/node".into()];
        f.around.listening = listening(&[]);
    });
    assert_eq!(all, ["error nobody-listens", "warning capability-left", "note not-persisted"]);
}
