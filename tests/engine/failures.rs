//! The kernel refuses, or does not answer: what an error says of its effect is true.

use super::*;
use nix::libc::{ENOENT, ENOMEM, EOPNOTSUPP, EPERM};
use portmap::engine::{Cause, Effect, Refusal};
use portmap::host::listeners::{Listener, Listening};
use portmap::mapping::{Port, Scope};
use portmap::plan::Step;
use portmap::ruleset::{CheckRule, Rule};

/// Some of the ways to change something, from generation 2 with 1 before it.
type Command = (&'static str, fn(&Host) -> Result<()>, &'static str);

const COMMANDS: [Command; 5] = [
    ("apply", |host| host.apply("80:5000").map(drop), "80:5000"),
    ("apply without history", |host| without_history(host, "80:5000"), "80:5000"),
    ("rollback", |host| host.roll_back().map(drop), "80:3000"),
    ("clear", |host| host.engine().clear(true).map(drop), ""),
    ("clear without history", |host| host.engine().clear(false).map(drop), ""),
];

fn without_history(host: &Host, mapping: &str) -> Result<()> {
    host.request(&ApplyRequest { keeps_history: false, ..request(mapping) }).map(drop)
}

fn host() -> Host {
    Host::with(&["80:3000", "80:4000"])
}

#[test]
fn a_refusal_changes_nothing() {
    for (name, command, _) in COMMANDS {
        let host = host();
        host.kernel.refuse(1, EPERM);
        let error = fails(command(&host));
        assert!(matches!(error.cause(), Cause::Commit(_)), "{name}: {error}");
        assert_eq!(error.effect, Effect::Unchanged, "{name}: {error}");
        assert_eq!((host.active().as_str(), host.stamped()), ("80:4000", Some(2)), "{name}");
        assert!(!host.outcomes()[2..].contains(&Outcome::Committed), "{name}");
        assert_eq!(host.kernel.cleaned(), [], "{name}");
    }
}

#[test]
fn a_kernel_without_memory_has_changed_nothing() {
    for (name, command, _) in COMMANDS {
        let host = host();
        let before = host.kernel.table();
        host.kernel.refuse(1, ENOMEM);
        let error = fails(command(&host));
        assert_eq!(error.effect, Effect::Unchanged, "{name}: {error}");
        assert!(error.to_string().contains("cannot allocate memory"), "{name}: {error}");
        let help = error.help().unwrap();
        assert!(help.contains("the kernel has no memory for it"), "{name}: {help}");
        assert_eq!(host.kernel.tried(), 1, "{name}: it is not tried again");
        assert_eq!(host.kernel.table(), before, "{name}");
        assert!(!host.outcomes()[2..].contains(&Outcome::Committed), "{name}");
    }
}

#[test]
fn a_kernel_that_lacks_something_is_told_apart_and_left_as_it_was() {
    type Unknown = fn(&Step) -> bool;
    fn adds(step: &Step, is_meant: fn(&Rule) -> bool) -> bool {
        matches!(step, Step::AddRule { rule, .. } if is_meant(rule))
    }
    let is_nat_chain: Unknown =
        |step| matches!(step, Step::AddChain(name) if name.to_string() == "prerouting");
    let has_fib: Unknown = |step| adds(step, |rule| matches!(rule, Rule::ForThisHost(_)));
    let has_nat: Unknown = |step| adds(step, |rule| matches!(rule, Rule::Lookup(_)));
    let has_reject: Unknown =
        |step| adds(step, |rule| matches!(rule, Rule::Check(CheckRule::RefuseTcp(_))));
    let is_map: Unknown = |step| matches!(step, Step::AddMap { .. });
    let is_element: Unknown = |step| matches!(step, Step::AddPorts { .. });
    let cases = [
        (ENOENT, is_nat_chain, "nft_chain_nat"),
        (EOPNOTSUPP, is_nat_chain, "CONFIG_NFT_NAT"),
        (ENOENT, has_fib, "CONFIG_NFT_FIB_INET"),
        (ENOENT, has_nat, "modprobe -a nft_nat"),
        (ENOENT, has_reject, "nft_reject_inet"),
        (ENOENT, is_map, "nft_counter"),
        (EOPNOTSUPP, is_map, "Linux 5.10"),
        (EOPNOTSUPP, is_element, "Linux 5.10"),
    ];
    let text = "ports:\n  80: { to: 3000, direct: refuse }\n".to_owned();
    let mapping = Rc::new(rules::parse_stored("test", text).unwrap());
    // A trial is tried once more without what not every kernel has.
    for (trial, attempts) in [(None, 1), (Some(MINUTE), 2)] {
        for (errno, unknown, what) in cases {
            let host = Host::new();
            host.kernel.lack(errno, unknown);
            let mapping = mapping.clone();
            let request = ApplyRequest { mapping, input: None, trial, ..request("") };
            let error = fails(host.request(&request));
            let help = error.help().unwrap_or_default();
            assert!(help.contains(what), "{what}: {error}: {help}");
            assert_eq!(error.effect, Effect::Unchanged, "{what}: {error}");
            assert_eq!((host.kernel.table(), host.kernel.tried()), (None, attempts), "{what}");
            assert!(host.outcomes().iter().all(|o| *o == Outcome::Failed), "{what}");
        }
    }
}

#[test]
fn an_answer_that_is_lost_does_not_hide_the_change() {
    for (name, command, serves) in COMMANDS {
        let host = host();
        host.kernel.lose_answer(1);
        let error = fails(command(&host));
        assert_eq!(error.effect, Effect::Changed, "{name}: {error}");
        assert!(error.to_string().starts_with("the mapping is in the kernel"), "{name}: {error}");
        assert_eq!(host.active(), serves, "{name}");
        assert!(host.outcomes().iter().all(|o| *o == Outcome::Committed), "{name}");
        let cleaned = host.kernel.cleaned();
        assert_eq!(cleaned, [(set("80:4000"), set(serves))], "{name}: UDP clients follow");
    }
}

#[test]
fn a_request_that_is_lost_changes_nothing() {
    for (name, command, _) in COMMANDS {
        let host = host();
        host.kernel.lose_request(1);
        let error = fails(command(&host));
        assert_eq!(error.effect, Effect::Unchanged, "{name}: {error}");
        assert_eq!(host.active(), "80:4000", "{name}");
        assert!(!host.outcomes()[2..].contains(&Outcome::Committed), "{name}");
    }
}

#[test]
fn what_cannot_be_read_any_more_is_not_known() {
    for (name, command, serves) in COMMANDS {
        let host = host();
        host.kernel.lose_answer(1);
        host.kernel.go_blind_after(1);
        let error = fails(command(&host));
        assert_eq!(error.effect, Effect::Partly, "{name}: {error}");
        assert!(error.to_string().contains("not known"), "{name}: {error}");
        // The next command learns it.
        host.kernel.see_again();
        assert_eq!(host.active(), serves, "{name}");
        host.apply("80:6000").unwrap();
        assert!(host.outcomes().iter().all(|o| *o == Outcome::Committed), "{name}");
    }
}

#[test]
fn a_change_that_cannot_be_read_back_is_made() {
    let host = host();
    host.kernel.go_blind_after(1);
    let error = fails(host.apply("80:5000"));
    assert!(error.effect > Effect::Unchanged, "{error}");
    assert_eq!(host.active(), "80:5000");
}

#[test]
fn a_repair_that_is_refused_or_lost_has_changed_nothing() {
    for lost in [true, false] {
        let host = host();
        host.kernel.tamper(remove_rules(Hook::Output, |_| true));
        let drift = host.drift().unwrap();
        match lost {
            true => host.kernel.lose_request(1),
            false => host.kernel.refuse(1, EPERM),
        }
        let error = fails(host.apply("80:4000"));
        assert_eq!(error.effect, Effect::Unchanged, "{error}");
        assert_eq!(host.drift().unwrap(), drift);
    }
}

#[test]
fn the_end_of_a_trial_takes_two_commits_and_may_stop_between_them() {
    type End = (&'static str, fn(&Host) -> Result<()>, &'static str, Outcome);
    let ends: [End; 2] = [
        (
            "confirm",
            |host| host.engine().confirm(None, false).map(drop),
            "80:5000",
            Outcome::Committed,
        ),
        ("rollback", |host| host.roll_back().map(drop), "80:4000", Outcome::Reverted),
    ];
    for (name, end, serves, outcome) in ends {
        let on_trial = || {
            let mut host = host();
            host.try_out("80:5000").unwrap();
            host.kernel = FakeKernel::new(host.kernel.table().as_ref());
            host
        };
        let host = on_trial();
        host.kernel.refuse(1, EPERM);
        let error = fails(end(&host));
        assert_eq!(error.effect, Effect::Unchanged, "{name}: {error}");
        assert_eq!(host.outcomes()[2], Outcome::Trial, "{name}");
        assert_eq!(host.drift(), None, "{name}: it runs as before");

        let host = on_trial();
        host.kernel.lose_answer(1);
        let error = fails(end(&host));
        assert_eq!(error.effect, Effect::Partly, "{name}: {error}");
        assert_eq!((host.active().as_str(), host.outcomes()[2]), (serves, outcome), "{name}");

        let host = on_trial();
        host.kernel.refuse(2, EPERM);
        let error = fails(end(&host));
        assert_eq!(error.effect, Effect::Partly, "{name}: {error}");
        assert_eq!(host.active(), serves, "{name}");
        assert_eq!(host.engine().status().unwrap().trial.map(|trial| trial.number), None, "{name}");
        assert_eq!(host.outcomes()[2], outcome, "{name}");
        assert_eq!(host.layer(Layer::Trial), "80:5000", "{name}: what stays, and has no effect");
        assert_eq!(host.drift(), None, "{name}");
        // The next command removes it.
        host.apply("80:6000").unwrap();
        assert_eq!(host.layer(Layer::Trial), "", "{name}");
    }
}

#[test]
fn a_mapping_that_moves_is_in_both_places_between_two_commits() {
    let moves = || {
        let text = "ports:\n  80: { to: 3000, scope: external }\n".to_owned();
        Rc::new(rules::parse_stored("test", text).unwrap())
    };
    let request = || ApplyRequest { mapping: moves(), ..request("80:3001") };
    let serves = |host: &Host| {
        let table = host.kernel.table().unwrap();
        let scopes = table.ruleset.mapping(Layer::Active);
        scopes.iter().map(|m| m.selector.scope()).collect::<Vec<_>>()
    };
    let before = || Host::with(&["80:3000"]);

    let host = before();
    host.request(&request()).unwrap();
    assert_eq!((host.kernel.tried(), serves(&host)), (2, vec![Scope::External]));

    let host = before();
    host.kernel.refuse(1, EPERM);
    assert_eq!(fails(host.request(&request())).effect, Effect::Unchanged);
    assert_eq!(serves(&host), [Scope::Both]);

    let host = before();
    host.kernel.refuse(2, EPERM);
    let error = fails(host.request(&request()));
    assert_eq!(error.effect, Effect::Partly, "{error}");
    assert!(error.to_string().contains("so is what it was to replace"), "{error}");
    assert_eq!(serves(&host), [Scope::Both, Scope::External], "nobody is refused");
    let drift = host.drift().unwrap();
    assert!(drift.contains("80"), "{drift}");
    let in_force = |host: &Host| host.engine().in_force(digest("80:3001"), false).unwrap();
    assert_eq!(in_force(&host), None, "it is not done");
    // The next command ends it.
    host.request(&request()).unwrap();
    assert_eq!((host.drift(), serves(&host)), (None, vec![Scope::External]));
    assert_ne!(in_force(&host), None);
}

#[test]
fn a_kernel_without_zones_has_trials_all_the_same() {
    let host = host();
    let udp = |to: u16| {
        let text = format!("ports:\n  53/udp: {to}\n");
        Rc::new(rules::parse_stored("test", text).unwrap())
    };
    host.kernel.refuse(1, nix::libc::EOPNOTSUPP);
    let trial = ApplyRequest { mapping: udp(5353), trial: Some(MINUTE), ..request("") };
    let change = host.request(&trial).unwrap();
    assert!(change.trial.is_some());
    assert_eq!(host.told(), ["trial without zone"]);
    assert!(!host.kernel.table().unwrap().ruleset.has_zone());
    assert_eq!(host.layer(Layer::Trial), "53:5353");
}

#[test]
fn strict_refuses_what_would_leave_clients_out_before_anything_is_written() {
    let host = Host::new();
    let strict = ApplyRequest { strict: true, ..request("80:3000") };
    let refused = host.request(&strict).unwrap_err();
    assert_eq!(refused.effect, Effect::Unchanged);
    assert!(matches!(refused.cause(), Cause::Refused(Refusal::Findings(_))), "{refused}");
    assert_eq!(host.kernel.tried(), 0);
    let history = History::open(host.dir.path()).unwrap();
    assert_eq!(history.entries().count(), 0, "nothing is recorded either");

    let port = Port::new(3000).unwrap();
    let listener = Listener {
        protocol: Protocol::Tcp,
        address: "::".parse().unwrap(),
        v6only: false,
        port,
        interface: None,
        uid: 0,
        user: None,
        inode: 0,
        program: None,
    };
    host.kernel.listen(Listening::new(vec![listener], Vec::new()));
    host.request(&strict).unwrap();
    assert_eq!(host.kernel.tried(), 1);
}
