//! Codes whose situation takes more to make: what boot does, what another program exempts, legacy
//! iptables.

use std::fs;
use std::os::unix::fs::symlink;

use super::{codes, finding_of, found, found_with};
use crate::support::namespace::feed;
use crate::support::{Namespace, World, skip};

/// The codes of what is found on a host that boots: with those of its own units.
#[track_caller]
fn at_boot(host: &Namespace) -> Vec<String> {
    let document = host.portmap(["doctor", "-ojson"]).run().json();
    let findings = document["findings"].as_array().unwrap();
    let codes = findings.iter().map(|finding| finding["code"].as_str().unwrap().to_owned());
    // Of the machine's own interpreters.
    codes.filter(|code| code != "capability-left").collect()
}

fn serving() -> (World, crate::support::net::Server) {
    let world = World::new();
    let app = world.host.serve("app", 3000);
    world.host.portmap(["apply", "--persist", "80:3000"]).run();
    (world, app)
}

#[test]
fn a_mapping_that_nothing_restores_is_told() {
    let host = Namespace::new().that_boots();
    let _app = host.serve("app", 3000);
    host.portmap(["apply", "80:3000"]).run().succeeds();
    assert_eq!(at_boot(&host), ["not-persisted"]);
    host.portmap(["persist"]).run().succeeds();
    assert_eq!(at_boot(&host), [""; 0]);
    let unit = host.etc("systemd/system/portmap-nft.service");
    let wants = host.etc("systemd/system/multi-user.target.wants/portmap-nft.service");
    fs::remove_file(&wants).unwrap();
    assert_eq!(at_boot(&host), ["boot-unit"]);
    let said = host.portmap(["doctor"]).run().succeeds();
    assert!(said.stdout.contains("warning: boot restores nothing"), "{said}");
    assert!(said.stdout.contains("systemctl enable portmap-nft.service"), "{said}");
    // What that does.
    symlink("../portmap-nft.service", &wants).unwrap();
    assert_eq!(at_boot(&host), [""; 0]);
    fs::write(&unit, "[Service]\nExecStart=/usr/bin/true\n").unwrap();
    assert_eq!(at_boot(&host), ["boot-unit"]);
}

/// `status` and `doctor` compare mappings, not the numbers of generations.
#[test]
fn what_boot_restores_is_told_alike_by_all_commands() {
    let host = Namespace::new().that_boots();
    let _app = host.serve("app", 3000);
    let said = || host.portmap(["status"]).run().succeeds().stdout;
    let is_sound = |code| host.portmap(["status", "--check"]).run().fails_with(code);
    host.portmap(["apply", "--persist", "80:3000"]).run().succeeds();
    host.portmap(["apply", "81:3000"]).run().succeeds();
    is_sound(1);
    assert_eq!(at_boot(&host), ["boot-differs"]);
    assert!(said().contains("`portmap persist` makes it restore this one"));
    host.portmap(["rollback"]).run().succeeds();
    is_sound(0);
    assert_eq!(at_boot(&host), [""; 0]);

    // What is advised for an empty mapping is not to persist that.
    host.portmap(["clear"]).run().succeeds();
    is_sound(1);
    assert_eq!(at_boot(&host), ["boot-differs"]);
    assert!(said().contains("`portmap persist --off` makes it restore nothing"), "{}", said());
    host.portmap(["persist", "--off"]).run().succeeds();
    is_sound(0);
    assert_eq!(at_boot(&host), [""; 0]);
    assert!(!said().contains("boot"), "{}", said());
}

#[test]
fn a_service_that_flushes_is_told_with_what_it_does() {
    let host = Namespace::new().that_boots();
    let _app = host.serve("app", 3000);
    host.portmap(["apply", "--persist", "80:3000"]).run().succeeds();
    let units = host.etc("systemd/system");
    let rules = host.etc("nftables.conf");
    fs::write(&rules, "#!/usr/sbin/nft -f\nflush ruleset\n").unwrap();
    fs::write(units.join("nftables.service"), "[Service]\nExecStart=/usr/sbin/nft\n").unwrap();
    assert_eq!(at_boot(&host), [""; 0], "nothing starts it");
    fs::create_dir(units.join("sysinit.target.wants")).unwrap();
    symlink("../nftables.service", units.join("sysinit.target.wants/nftables.service")).unwrap();
    assert_eq!(at_boot(&host), ["will-be-flushed"]);
    let finding = host.portmap(["doctor", "-ojson"]).run().succeeds().json();
    let finding = finding_of(&finding, "will-be-flushed");
    assert_eq!(finding["severity"], "warning");
    assert_eq!(finding["evidence"]["file"], "/etc/nftables.conf");

    // It is so, and what is advised puts the mapping back.
    host.nft_script(&fs::read_to_string(&rules).unwrap());
    assert!(host.tcp_ask("127.0.0.1:80").is_err());
    assert!(at_boot(&host).contains(&"not-applied".to_owned()));
    host.portmap(["restore"]).run().succeeds();
    assert_eq!(host.tcp_ask("127.0.0.1:80").as_deref(), Ok("app"));

    fs::write(&rules, "#!/usr/sbin/nft -f\nflush table inet filter\n").unwrap();
    assert_eq!(at_boot(&host), [""; 0]);
}

#[test]
fn a_guard_that_boot_starts_and_that_does_not_run_is_told() {
    let host = Namespace::new().that_boots();
    let _app = host.serve("app", 3000);
    host.portmap(["apply", "--persist", "80:3000"]).run().succeeds();
    let units = host.etc("systemd/system");
    fs::write(units.join("portmap-nft-guard.service"), "[Service]\nExecStart=portmap guard\n")
        .unwrap();
    assert_eq!(at_boot(&host), [""; 0]);
    let wants = units.join("multi-user.target.wants/portmap-nft-guard.service");
    symlink("../portmap-nft-guard.service", wants).unwrap();
    assert_eq!(at_boot(&host), ["guard-down"]);
}

#[test]
fn clients_that_are_exempted_from_tracking_are_told() {
    let (world, _app) = serving();
    let (host, client) = (&world.host, &world.client);
    assert_eq!(found(host, &[]), [""; 0]);
    assert!(client.tcp_ask("192.0.2.1:80").is_ok());
    host.nft_script(
        "table inet raw { chain pre {
            type filter hook prerouting priority -300; iifname eth0 tcp dport 80 notrack; }; }",
    );
    let outcome = host.portmap(["doctor", "-ojson"]).run().fails_with(1);
    assert_eq!(codes(&outcome), ["notrack"], "{outcome}");
    let document = outcome.json();
    for path in document["paths"].as_array().unwrap() {
        let is_lost = path["from"] == "outside";
        assert_eq!(path["because"] == "notrack", is_lost, "{path}");
    }
    assert!(client.tcp_ask("192.0.2.1:80").is_err());
    host.nft("delete table inet raw");
    assert_eq!(found(host, &[]), [""; 0]);
}

/// A port of which only root decides who has it, and a target of which anybody does.
#[test]
fn that_any_user_may_answer_is_told_to_who_asks() {
    let host = Namespace::new();
    let _app = host.serve_as(1, "app", &[3000]);
    host.portmap(["apply", "--persist", "80:3000"]).run();
    assert_eq!(found(&host, &[]), [""; 0]);
    let said = host.portmap(["doctor"]).run().succeeds();
    assert!(!said.stdout.contains("target-takeable"), "{said}");
    for arguments in [&["80"][..], &["-v"]] {
        assert_eq!(found(&host, arguments), ["target-takeable"], "{arguments:?}");
    }
    // It is so: another user takes it as soon as it is free.
    drop(_app);
    {
        let _stranger = host.serve_as(2, "stranger", &[3000]);
        assert_eq!(host.tcp_ask("127.0.0.1:80").as_deref(), Ok("stranger"));
    }
    let file = host.file("rules.yaml", "ports: { 80: { to: 3000, user: daemon } }");
    host.portmap(["apply", "--persist", file.to_str().unwrap()]).run();
    let _app = host.serve_as(1, "app", &[3000]);
    assert_eq!(found(&host, &["80"]), [""; 0]);
}

/// Which of two chains at one priority comes first is not told by the kernel.
#[test]
fn who_wins_at_our_own_priority_is_not_claimed() {
    let (world, _app) = serving();
    let host = &world.host;
    let _other = host.serve("other", 4000);
    super::dnat(host, "prerouting", -101, 80);
    let outcome = host.portmap(["doctor", "-ojson"]).run().succeeds();
    assert_eq!(codes(&outcome), ["other-nat"], "{outcome}");
    let document = outcome.json();
    let finding = finding_of(&document, "other-nat");
    assert_eq!(finding["evidence"]["wins"], "unknown", "{outcome}");
    assert_eq!(finding["severity"], "warning", "{outcome}");
    let outside = |path: &&serde_json::Value| path["from"] == "outside";
    let paths = document["paths"].as_array().unwrap();
    assert!(paths.iter().filter(outside).all(|path| path["answer"] == "unknown"), "{outcome}");
    assert_eq!(world.client.tcp_ask("192.0.2.1:80").as_deref(), Ok("other"), "it was made last");
    host.nft("delete table inet other");
    assert_eq!(found(host, &[]), [""; 0]);
}

/// `iptables-legacy` with these words, if there is such a thing.
fn iptables(host: &Namespace, words: &str) -> bool {
    let mut command = host.command("iptables-legacy");
    let has_legacy = feed(command.arg("-w").args(words.split(' ')), "").status.success();
    if !has_legacy {
        skip("there is no legacy iptables here");
    }
    has_legacy
}

#[test]
fn a_rule_of_legacy_iptables_is_named_with_what_lets_clients_in() {
    let (world, _app) = serving();
    let (host, client) = (&world.host, &world.client);
    if !iptables(host, "-A INPUT -i eth0 -p tcp --dport 80 -j DROP") {
        return;
    }
    // It sees the port after the translation.
    assert_eq!(found(host, &[]), [""; 0]);
    assert!(client.tcp_ask("192.0.2.1:80").is_ok());
    iptables(host, "-A INPUT -i eth0 -p tcp --dport 3000 -j REJECT");
    let outcome = host.portmap(["doctor", "-ojson"]).run().fails_with(1);
    assert_eq!(codes(&outcome), ["firewall-blocks"], "{outcome}");
    let document = outcome.json();
    let finding = finding_of(&document, "firewall-blocks");
    assert_eq!(finding["evidence"]["owner"], "iptables-legacy", "{outcome}");
    let rule = finding["evidence"]["rule"].as_str().unwrap();
    let place = "iptables-legacy table filter, chain INPUT, rule 2: -A INPUT -i eth0";
    assert!(rule.starts_with(place), "{rule}");
    assert!(client.tcp_ask("192.0.2.1:80").is_err());
    let command = finding["remedy"][0]["command"].as_str().unwrap();
    host.output(host.command("sh").args(["-c", command.trim_start_matches("sudo ")]), "");
    assert_eq!(found(host, &[]), [""; 0]);
    assert!(client.tcp_ask("192.0.2.1:80").is_ok());
}

/// iptables' own program, replaced: nothing that it says is believed to be complete.
#[test]
fn rules_of_legacy_iptables_that_cannot_be_read_are_no_rules_that_let_in() {
    let (world, _app) = serving();
    let host = &world.host;
    let replaced = |text: &str| {
        let script = host.file("save.sh", &format!("#!/bin/sh\ncat <<'END'\n{text}\nEND\n"));
        let program = host.executable(script, "save");
        format!("mount --bind {} /usr/sbin/iptables-legacy-save", program.display())
    };
    let is_asked = replaced("*filter\n:INPUT DROP [0:0]\nCOMMIT");
    if !iptables(host, "--version") {
        return;
    }
    // It is not even asked where there is no table: that would make one.
    assert_eq!(found_with(host, &is_asked), [""; 0]);
    iptables(host, "-A INPUT -p udp -j DROP");
    assert_eq!(found(host, &[]), [""; 0]);
    assert_eq!(found_with(host, &is_asked), ["firewall-blocks"; 2], "outside and here");
    for text in ["", "what", "*nat\n:INPUT ACCEPT [0:0]\nCOMMIT", "*filter\n:INPUT ACCEPT [0:0]"] {
        assert_eq!(found_with(host, &replaced(text)), ["firewall-unknown"; 2], "{text}");
    }
}
