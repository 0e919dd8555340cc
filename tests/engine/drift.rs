//! What others did to our table: `plan` says it, `status` warns of it, `apply` repairs it.

use super::*;
use portmap::engine::{Cause, Refusal};

/// What a change would come to, what it comes to, and that nothing is left after.
#[track_caller]
fn seen_and_repaired(host: &Host, mapping: &str, says: &str) {
    let drift = host.drift().expect("status warns");
    assert!(drift.contains(says), "{drift}");
    let error = fails(host.engine().persist());
    assert!(matches!(error.cause(), Cause::Refused(Refusal::Drifted { .. })), "{error}");

    let plan = host.preview(mapping);
    assert!(plan.has_effect && plan.is_committed && plan.is_change(), "plan says so: {plan:?}");
    let change = host.apply(mapping).unwrap();
    assert!(change.has_effect && change.is_change(), "{change:?}");
    assert_eq!((&plan.foreign, &plan.repairs), (&change.foreign, &change.repairs));
    assert_eq!((&plan.before, &plan.after), (&change.before, &change.after));

    assert_eq!(host.drift(), None);
    assert_eq!(host.active(), mapping);
    assert!(!host.preview(mapping).is_committed);
    assert!(!host.apply(mapping).unwrap().is_committed);
}

#[test]
fn a_chain_that_was_emptied_is_filled_again() {
    for hook in Hook::ALL {
        let host = Host::with(&["80:3000"]);
        host.kernel.tamper(remove_rules(hook, |_| true));
        let drift = host.drift().unwrap();
        let name = ChainName::Hook(Layer::Active, hook).to_string();
        assert!(drift.contains(&format!("add to chain {name}")), "{drift}");
        if hook == Hook::Prerouting {
            // The stamp was in it: it is not known any more which generation this was.
            host.apply("80:3000").unwrap();
            assert_eq!((host.drift(), host.stamped()), (None, Some(2)));
        } else {
            seen_and_repaired(&host, "80:3000", "add to chain output");
            assert_eq!(host.outcomes().len(), 1, "the same mapping, and so the same generation");
        }
    }
}

#[test]
fn the_rule_for_the_packets_of_other_hosts_is_missed() {
    let host = Host::with(&["80:3000"]);
    host.kernel.tamper(remove_rules(Hook::Output, |r| matches!(r, Rule::ForThisHost(_))));
    seen_and_repaired(&host, "80:3000", "add to chain output: ");
}

#[test]
fn every_rule_of_a_base_chain_is_missed() {
    let rules = Host::with(&["80:3000"]).kernel.table().unwrap().ruleset;
    let chain = &rules.chains[&ChainName::Hook(Layer::Active, Hook::Output)];
    assert!(chain.len() >= 3, "{chain:?}");
    for (index, rule) in chain.iter().cloned().enumerate() {
        let host = Host::with(&["80:3000"]);
        host.kernel.tamper(remove_rules(Hook::Output, move |r| *r == rule));
        assert!(host.drift().is_some(), "rule {index}");
        seen_and_repaired(&host, "80:3000", "chain output");
    }
}

#[test]
fn a_rule_that_is_doubled_or_in_another_place_is_seen() {
    type Change = fn(&mut Vec<Rule>, &mut Vec<u64>);
    let changes: [Change; 2] = [
        |rules, handles| {
            rules.push(rules.last().unwrap().clone());
            handles.push(5000);
        },
        |rules, handles| {
            rules.rotate_left(1);
            handles.rotate_left(1);
        },
    ];
    for change in changes {
        let host = Host::with(&["80:3000"]);
        host.kernel.tamper(change_table(move |table| {
            let name = ChainName::Hook(Layer::Active, Hook::Output);
            let rules = table.ruleset.chains.get_mut(&name).unwrap();
            change(rules, table.handles.get_mut(&name).unwrap());
        }));
        seen_and_repaired(&host, "80:3000", "chain output");
    }
}

#[test]
fn objects_of_others_are_named_and_removed() {
    let host = Host::with(&["80:3000"]);
    let strange = "rule (handle 7) in chain output";
    host.kernel.tamper(change_table(|table| table.foreign.push(strange.to_owned())));
    let plan = host.preview("80:3000");
    assert_eq!((&plan.foreign[..], plan.repairs.len()), (&[strange.to_owned()][..], 0));
    seen_and_repaired(&host, "80:3000", strange);
}

#[test]
fn a_mapping_that_was_changed_is_told_and_is_a_change_like_any_other() {
    let host = Host::with(&["80:3000"]);
    host.kernel.tamper(add_mapping(tcp(81), 3001));
    host.kernel.tamper(add_mapping(tcp(80), 6666));
    let drift = host.drift().unwrap();
    assert!(drift.contains("+ 81/tcp -> 3001") && drift.contains("6666"), "{drift}");
    seen_and_repaired(&host, "80:3000", "+ 81/tcp -> 3001");
    assert_eq!((host.outcomes().len(), host.stamped()), (2, Some(2)));
}

#[test]
fn a_layer_of_a_trial_that_was_changed_is_told_while_it_runs_and_after() {
    let host = Host::with(&["80:3000"]);
    host.try_out("80:4000").unwrap();
    assert_eq!(host.drift(), None);
    host.kernel.tamper(add_mapping(tcp(81), 3001));
    assert_eq!(host.drift().unwrap(), "+ 81/tcp -> 3001", "the first layer, while it runs");
    host.kernel.pass(MINUTE);
    assert_eq!(host.drift().unwrap(), "+ 81/tcp -> 3001", "the first layer, after");

    let host = Host::with(&["80:3000"]);
    host.try_out("80:4000").unwrap();
    host.kernel.tamper(change_table(|table| {
        let trial = MapName::Ports(Layer::Trial, Default::default(), Default::default());
        let Some(portmap::ruleset::Map::Ports(elements)) = table.ruleset.maps.get_mut(&trial)
        else {
            panic!("{:?}", table.ruleset.maps)
        };
        elements.clear();
    }));
    let drift = host.drift().unwrap();
    assert!(drift.starts_with("- 80/tcp -> 4000"), "the second layer, while it runs: {drift}");

    let host = Host::with(&["80:3000"]);
    host.try_out("80:4000").unwrap();
    host.kernel.tamper(remove_rules(Hook::Output, |r| matches!(r, Rule::ForThisHost(_))));
    assert!(host.drift().unwrap().contains("chain output"));
}

#[test]
fn a_repair_that_others_undo_at_once_is_made_again() {
    let host = Host::with(&["80:3000"]);
    host.kernel.tamper(remove_rules(Hook::Output, |_| true));
    host.kernel.tamper_after(1, remove_rules(Hook::Output, |_| true));
    host.apply("80:3000").unwrap();
    assert_eq!((host.kernel.made().len(), host.drift()), (2, None));
}
