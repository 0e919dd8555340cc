//! `doctor`: situations on the real kernel, and what it says of them.

mod codes;

use std::fs;

use serde_json::Value;

use crate::support::portmap::{Outcome, PROGRAM};
use crate::support::{Listen, Namespace, World};

/// Findings that are about this machine's own files, and not about the situation.
const OF_THE_MACHINE: [&str; 3] = ["capability-left", "boot-unit", "will-be-flushed"];

fn codes(outcome: &Outcome) -> Vec<String> {
    let document = outcome.json();
    let findings = document["findings"].as_array().unwrap();
    let codes = findings.iter().map(|f| f["code"].as_str().unwrap().to_owned());
    let codes: Vec<_> = codes.filter(|code| !OF_THE_MACHINE.contains(&code.as_str())).collect();
    let is_error = |f: &Value| f["severity"] == "error";
    assert_eq!(document["healthy"], !findings.iter().any(is_error), "{outcome}");
    assert_eq!(outcome.code, Some(i32::from(document["healthy"] == false)), "{outcome}");
    codes
}

/// The codes of what is found, the most serious first.
#[track_caller]
fn found(host: &Namespace, arguments: &[&str]) -> Vec<String> {
    codes(&host.portmap([&["doctor", "-ojson"], arguments].concat()).run())
}

/// The same with this done to the machine's files before.
#[track_caller]
fn found_with(host: &Namespace, mount: &str) -> Vec<String> {
    codes(&host.portmap_mounted(mount, ["doctor", "-ojson"]).run())
}

#[test]
fn a_port_that_is_refused_to_an_ordinary_user_is_explained() {
    let host = Namespace::new();
    let said = host.portmap(["doctor", "80"]).run().fails_with(1);
    for part in ["error: 80/tcp is not mapped [not-mapped]", "EACCES", "sudo portmap apply 80:3000"]
    {
        assert!(said.stdout.contains(part), "{said}");
    }
    host.apply("ports: { 80: 3000 }");
    let of_80 = ["nobody-listens", "not-persisted", "target-takeable"];
    assert_eq!(found(&host, &["80"]), of_80);
    assert_eq!(found(&host, &["81", "80/udp"]), ["not-mapped", "not-mapped", "not-persisted"]);
    host.portmap(["apply", "--persist", "8080:3000"]).run();
    let _app = host.serve("app", 3000);
    assert_eq!(found(&host, &["8080"]), [""; 0]);
    host.portmap(["doctor", "80x"]).run().fails_with(64);
    // What is typed because of it removes nothing.
    let said = host.portmap(["doctor", "81"]).run().fails_with(1);
    assert!(said.stdout.contains("add `81: 8081` to the rules file"), "{said}");
    assert!(!said.stdout.contains("sudo portmap apply"), "{said}");
    host.nft("delete table inet portmap");
    assert_eq!(found(&host, &["8080"]), ["not-applied"]);
    assert_eq!(found(&host, &["81"]), ["not-applied", "not-mapped"]);
}

#[test]
fn what_it_says_of_paths_is_what_clients_get() {
    let world = World::new();
    let (host, client) = (&world.host, &world.client);
    host.portmap(["apply", "--persist", "80:3000"]).run();
    let cases: [(&[Listen], &[&str]); 7] = [
        (&[Listen::Tcp("[::]:3000")], &[]),
        (&[], &["nobody-listens"]),
        (&[Listen::Udp("[::]:3000")], &["other-protocol"]),
        (&[Listen::Tcp("127.0.0.1:3000")], &["loopback-only"]),
        (&[Listen::Tcp("0.0.0.0:3000")], &["one-family-only"]),
        (&[Listen::Tcp("192.0.2.1:3000")], &["one-address-only"]),
        (&[Listen::Tcp("[::]:3000"), Listen::Tcp("[::]:80")], &["listener-shadowed"]),
    ];
    for (places, expected) in cases {
        let _server = host.serve_at("app", places);
        let outcome = host.portmap(["doctor", "-ojson"]).run();
        assert_eq!(codes(&outcome), expected, "{places:?}");
        let document = outcome.json();
        let paths = document["paths"].as_array().unwrap();
        assert_eq!(paths.len(), 6, "{outcome}");
        for path in paths {
            let from = if path["from"] == "here" { host } else { client };
            let address = path["address"].as_str().unwrap();
            let bracketed =
                if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
            let answered = from.tcp_ask(&format!("{bracketed}:80")).is_ok();
            assert_eq!(path["answer"], if answered { "yes" } else { "no" }, "{path}");
            assert_eq!(path["because"].is_null(), answered, "{path}");
        }
    }
}

/// In numbers that every host has: 1 is `daemon`, 2 is `bin` (Debian's base-passwd and others).
#[test]
fn a_listener_of_another_user_is_found() {
    let world = World::new();
    let host = &world.host;
    let file = host.file("rules.yaml", "ports: { 80: { to: 3000, user: daemon } }");
    let path = file.to_str().unwrap();
    host.portmap(["apply", "--persist", path]).run();
    {
        let _right = host.serve_as(1, "right", &[3000]);
        assert_eq!(found(host, &[]), [""; 0]);
        assert!(world.client.tcp_ask("192.0.2.1:80").is_ok());
    }
    let _stranger = host.serve_as(2, "stranger", &[3000]);
    let outcome = host.portmap(["doctor", "-ojson"]).run();
    assert_eq!(codes(&outcome), ["wrong-user"], "{outcome}");
    for path in outcome.json()["paths"].as_array().unwrap() {
        assert_eq!((&path["answer"], &path["because"]), (&"no".into(), &"wrong-user".into()));
    }
    assert!(world.client.tcp_ask("192.0.2.1:80").is_err());
    let said = host.portmap(["doctor", "80"]).run().fails_with(1);
    assert!(said.stdout.contains("and only daemon may answer 80/tcp"), "{said}");
    // Before it is applied, too.
    host.portmap(["apply", "80:3000"]).run().succeeds();
    host.portmap(["plan", path]).run().succeeds().says("and only daemon may answer 80/tcp");
}

#[test]
fn a_user_that_the_host_does_not_have_is_found() {
    let host = Namespace::new();
    let file = host.file("rules.yaml", "ports: { 80: { to: 3000, user: 70001 } }");
    let rules = ["--rules", file.to_str().unwrap()];
    {
        let _app = host.serve_as(70001, "app", &[3000]);
        assert_eq!(found(&host, &rules), ["no-such-user"]);
    }
    let _app = host.serve_as(1, "app", &[3000]);
    host.file("rules.yaml", "ports: { 80: { to: 3000, user: daemon } }");
    assert_eq!(found(&host, &rules), [""; 0]);
    host.portmap(["apply", "--persist", file.to_str().unwrap()]).run();
    assert_eq!(found(&host, &[]), [""; 0]);
    // What is active names a user whose number has changed since, or who is gone.
    for (passwd, said) in [
        ("daemon:x:70001:0::/:/bin/sh", "the user daemon has the number 70001 now, and not 1"),
        ("other:x:1:0::/:/bin/sh", "this host has no user daemon"),
    ] {
        let mount =
            format!("echo '{passwd}' >$STATE/passwd; mount --bind $STATE/passwd /etc/passwd");
        let outcome = host.portmap_mounted(&mount, ["doctor", "-ojson"]).run();
        assert_eq!(codes(&outcome), ["no-such-user"], "{outcome}");
        assert!(outcome.stdout.contains(said), "{outcome}");
    }
}

#[test]
fn the_table_is_compared_with_what_was_applied() {
    let host = Namespace::new().that_boots();
    let _app = host.serve("app", 3000);
    let _next = host.serve("next", 3001);
    assert_eq!(found(&host, &[]), [""; 0]);
    host.portmap(["apply", "--persist", "80:3000"]).run();
    assert_eq!(found(&host, &[]), [""; 0]);
    host.portmap(["apply", "80:3001"]).run().succeeds();
    assert_eq!(found(&host, &[]), ["boot-differs"]);
    host.portmap(["apply", "--confirm", "60s", "80:3000"]).run().succeeds();
    assert_eq!(found(&host, &[]), ["on-trial"]);
    host.portmap(["rollback"]).run().succeeds();
    host.nft("add rule inet portmap output tcp dport 9999 drop");
    assert_eq!(found(&host, &[]), ["drifted", "boot-differs"]);
    host.nft("delete table inet portmap");
    assert_eq!(found(&host, &[]), ["not-applied"]);
    assert_eq!(found(&host, &["--rules", "80:3001"]), ["not-applied"]);
}

#[test]
fn rules_that_are_not_applied_can_be_examined() {
    let host = Namespace::new();
    let missing = "80: { to: 3000, interfaces: [ppp0] }, 81: { to: 3000, addresses: [192.0.2.7] }";
    let file = host.file("rules.yaml", &format!("ports: {{ {missing} }}"));
    let _app = host.serve("app", 3000);
    let rules = ["--rules", file.to_str().unwrap()];
    assert_eq!(found(&host, &rules), ["no-such-interface", "no-such-address"]);
    assert_eq!(found(&host, &["--rules", "80:3001"]), ["nobody-listens"]);
    assert_eq!(found(&host, &["--rules", "80:3000"]), [""; 0]);
    host.portmap(["doctor", "--rules", "80:99999"]).run().fails_with(1).says("99999");
}

#[test]
fn settings_of_the_host_are_seen() {
    let host = Namespace::new();
    let _apps = [3000, 40000].map(|port| host.serve("app", port));
    host.portmap(["apply", "--persist", "80:3000"]).run();
    host.sysctl("net/ipv4/ip_unprivileged_port_start", "80");
    assert_eq!(found(&host, &[]), ["privileged-ports-open"]);
    host.sysctl("net/ipv4/ip_unprivileged_port_start", "1024");
    assert_eq!(found(&host, &["--rules", "80:40000"]), ["target-takeable"]);
    host.sysctl("net/ipv4/ip_local_reserved_ports", "40000");
    assert_eq!(found(&host, &["--rules", "80:40000"]), [""; 0]);
    let full = "echo 1 >$STATE/max; for n in max count; do \
                mount --bind $STATE/max /proc/sys/net/netfilter/nf_conntrack_$n; done";
    assert_eq!(found_with(&host, full), ["conntrack-full"]);
}

#[test]
fn files_are_looked_at() {
    let host = Namespace::new();
    let _app = host.serve("app", 3000);
    host.portmap(["apply", "--persist", "80:3000"]).run();
    let etc = |mode: &str, rules: &str| {
        format!(
            "mount -t tmpfs none /etc; mkdir -m 755 /etc/portmap; \
             echo 'ports: {{ {rules} }}' >/etc/portmap/a.yaml; chmod {mode} /etc/portmap/a.yaml"
        )
    };
    assert_eq!(found_with(&host, &etc("644", "80: 3000")), [""; 0]);
    assert_eq!(found_with(&host, &etc("644", "80: 3001")), ["files-disagree"]);
    assert_eq!(found_with(&host, &etc("666", "80: 3000")), ["file-trust"]);
    host.nft("delete table inet portmap");
    host.portmap(["doctor"]).run().fails_with(1);
}

#[test]
fn a_capability_that_was_left_on_an_interpreter_is_found() {
    let host = Namespace::new();
    let node = host.file("bin/node", "");
    let bin = node.parent().unwrap().display().to_string();
    let mount = format!("mount --bind {bin} /usr/local/bin");
    let left = |host: &Namespace| {
        let document = host.portmap_mounted(&mount, ["doctor", "-ojson"]).run().json();
        let findings = document["findings"].as_array().unwrap().clone().into_iter();
        let of_node = findings.filter(|f| f["evidence"]["path"] == "/usr/local/bin/node");
        of_node.map(|f| f["code"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(left(&host), [""; 0]);
    // `struct vfs_cap_data`, revision 2: CAP_NET_BIND_SERVICE is permitted and effective.
    let mut value = [0; 20];
    value[..8].copy_from_slice(&[1, 0, 0, 2, 0, 4, 0, 0]);
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&node, "security.capability", &value, flags).unwrap();
    assert_eq!(left(&host), ["capability-left"]);
}

#[test]
fn what_cannot_be_seen_is_said_and_nothing_is_claimed() {
    let host = Namespace::new();
    let _app = host.serve("app", 3000);
    host.portmap(["apply", "--persist", "80:3000"]).run();
    fs::set_permissions(
        host.dir().join("state"),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    let outcome = host.portmap_unprivileged(["doctor", "-ojson", "80", "81"]).run();
    assert_eq!(codes(&outcome), [""; 0], "{outcome}");
    let document = outcome.json();
    let unseen = document["unseen"][0].as_str().unwrap();
    assert!(unseen.contains("what is active") && unseen.ends_with("run with sudo"), "{outcome}");
    // Rules can be examined all the same; whose the listener is, is not seen.
    let rules = host.portmap_unprivileged(["doctor", "-ojson", "--rules", "80:3001"]).run();
    assert_eq!(codes(&rules), ["nobody-listens"], "{rules}");
}

/// As an ordinary user, whose /proc shows no process of others.
#[test]
fn programs_that_proc_hides_are_said_to_be_hidden() {
    let host = Namespace::new();
    let _app = host.serve_at("app", &[Listen::Tcp("127.0.0.1:3000")]);
    let program = host.executable(PROGRAM, "portmap").display().to_string();
    let hide = format!(
        "mount -t proc -o hidepid=2 none /proc; shift; \
         set -- setpriv --reuid 65534 --clear-groups {program} \"$@\""
    );
    let doctor = ["doctor", "-ojson", "--rules", "80:3000"];
    let outcome = host.portmap_mounted(&hide, doctor).run();
    let document = outcome.json();
    let unseen = document["unseen"].as_array().unwrap();
    let hidden = "which program listens on 3000/tcp: no process that this user can see";
    assert!(unseen.iter().any(|what| what.as_str().unwrap().starts_with(hidden)), "{outcome}");
    // What is seen all the same is told: where it listens, and for whom.
    let finding = finding_of(&document, "loopback-only");
    assert_eq!(finding["evidence"]["listeners"][0]["program"], Value::Null, "{outcome}");
    assert_eq!(finding["evidence"]["listeners"][0]["user"], "root", "{outcome}");
}

#[test]
fn a_kernel_without_nftables_is_recognised() {
    let host = Namespace::new();
    assert_eq!(found(&host, &[]), [""; 0]);
    let outcome = host.portmap_injected("socket", "error=EPROTONOSUPPORT", 1, ["doctor", "-ojson"]);
    assert_eq!(codes(&outcome.hits()), ["kernel-lacks"]);
}

/// A firewall sees the port after the translation: one that lets in 80 alone keeps everybody out.
#[test]
fn a_firewall_that_keeps_clients_out_is_named_with_what_lets_them_in() {
    let world = World::new();
    let (host, client) = (&world.host, &world.client);
    let _app = host.serve("app", 3000);
    host.portmap(["apply", "80:3000"]).run().succeeds();
    let firewall = |rules: &str| {
        host.nft_script(&format!(
            "table inet fw {{}}
            delete table inet fw
            table inet fw {{ chain input {{
                type filter hook input priority 0; policy drop;
                iifname lo accept
                ct state established,related accept
                meta l4proto icmpv6 accept
                {rules}
            }}
            }}"
        ));
    };
    firewall("ct status dnat accept");
    assert_eq!(found(host, &["80"]), ["not-persisted", "target-takeable"]);
    assert!(client.tcp_ask("192.0.2.1:80").is_ok());

    firewall("tcp dport 80 accept");
    let outcome = host.portmap(["doctor", "-ojson", "80"]).run().fails_with(1);
    let blocked = ["firewall-blocks", "not-persisted", "target-takeable"];
    assert_eq!(codes(&outcome), blocked, "{outcome}");
    let document = outcome.json();
    let finding = &document["findings"][0];
    assert_eq!(finding["evidence"]["table"], "fw");
    let paths = document["paths"].as_array().unwrap();
    let outside = paths.iter().find(|path| path["address"] == "192.0.2.1").unwrap();
    assert_eq!((&outside["from"], &outside["answer"]), (&"outside".into(), &"no".into()));
    assert!(client.tcp_ask("192.0.2.1:80").is_err());

    for remedy in finding["remedy"].as_array().unwrap() {
        let command = remedy["command"].as_str().unwrap().trim_start_matches("sudo ");
        host.output(host.command("sh").args(["-c", command]), "");
    }
    assert!(client.tcp_ask("192.0.2.1:80").is_ok(), "{outcome}");
    assert_eq!(found(host, &["80"]), ["not-persisted", "target-takeable"]);

    host.nft("delete table inet fw");
    host.portmap(["persist"]).run();
    assert_eq!(found(host, &[]), [""; 0]);
    firewall("ip saddr 192.0.2.2 ct status dnat accept");
    // IPv6 clients are kept out for sure; of the others it depends on who they are.
    let said = host.portmap(["doctor", "80"]).run().fails_with(1);
    assert!(said.stdout.contains("[firewall-unknown]"), "{said}");
    assert!(said.stdout.contains("cannot tell: firewall-unknown"), "{said}");
    assert!(said.stdout.contains("sudo portmap trace 80"), "{said}");

    firewall("numgen random mod 2 0 accept");
    let said = host.portmap(["doctor", "80"]).run().succeeds();
    assert!(said.stdout.contains(": numgen 0x00000000 accept"), "{said}");
    assert!(said.stdout.contains("\n  depends on chance\n"), "{said}");
}

/// A rule of another program that sends a port of this host elsewhere.
fn dnat(host: &Namespace, hook: &str, priority: i32, port: u16) {
    host.nft_script(&format!(
        "table inet other {{}}
         delete table inet other
         table inet other {{ chain nat {{
            type nat hook {hook} priority {priority};
            fib daddr type local tcp dport {port} redirect to :4000
         }}
         }}"
    ));
}

fn finding_of<'d>(document: &'d Value, code: &str) -> &'d Value {
    let findings = document["findings"].as_array().unwrap();
    findings.iter().find(|finding| finding["code"] == code).unwrap()
}

#[test]
fn another_program_that_translates_is_found_and_who_wins() {
    let world = World::new();
    let (host, client) = (&world.host, &world.client);
    let _servers = [host.serve("app", 3000), host.serve("other", 4000)];
    host.portmap(["apply", "--persist", "80:3000"]).run();
    for (hook, from) in [("prerouting", client), ("output", host)] {
        dnat(host, hook, -150, 80);
        let outcome = host.portmap(["doctor", "-ojson"]).run();
        assert_eq!(codes(&outcome), ["other-nat"], "{hook}");
        let document = outcome.json();
        let finding = finding_of(&document, "other-nat");
        assert_eq!(
            (&finding["severity"], &finding["evidence"]["wins"]),
            (&"error".into(), &"nft".into())
        );
        assert_eq!(finding["evidence"]["hooks"], serde_json::json!([hook]));
        assert_eq!(from.tcp_ask("192.0.2.1:80").as_deref(), Ok("other"));
        let word = if hook == "output" { "here" } else { "outside" };
        for path in document["paths"].as_array().unwrap() {
            let lost = path["from"] == word;
            assert_eq!(path["answer"] == "no", lost, "{path}");
            assert_eq!(path["because"] == "other-nat", lost, "{path}");
        }
        // The remedy works.
        let command = finding["remedy"][0]["command"].as_str().unwrap().trim_start_matches("sudo ");
        host.output(host.command("sh").args(["-c", command]), "");
        assert_eq!(found(host, &[]), [""; 0]);
        assert_eq!(from.tcp_ask("192.0.2.1:80").as_deref(), Ok("app"));

        dnat(host, hook, -100, 80);
        let outcome = host.portmap(["doctor", "-ojson"]).run().succeeds();
        assert_eq!(codes(&outcome), ["other-nat"], "{hook}");
        let document = outcome.json();
        let finding = finding_of(&document, "other-nat");
        assert_eq!(
            (&finding["severity"], &finding["evidence"]["wins"]),
            (&"warning".into(), &"portmap".into())
        );
        assert_eq!(from.tcp_ask("192.0.2.1:80").as_deref(), Ok("app"));

        for priority in [-150, -100] {
            dnat(host, hook, priority, 81);
            assert_eq!(found(host, &[]), [""; 0], "{hook}, another port");
        }
        host.nft("delete table inet other");
    }
}

#[test]
fn the_firewall_lets_in_those_for_whom_the_mapping_is() {
    let world = World::new();
    let (host, client) = (&world.host, &world.client);
    let _app = host.serve("app", 3000);
    host.nft_script(
        "table inet fw { chain input {
            type filter hook input priority 0; policy drop
            iifname lo accept
            ct state established,related accept
            ip saddr 192.0.2.0/24 ct status dnat accept
        }
        }",
    );
    let paths = |rules: &str| {
        host.apply(&format!("ports: [{rules}]"));
        let document = host.portmap(["doctor", "-ojson", "80"]).run().json();
        let paths = document["paths"].as_array().unwrap().iter();
        let words = |path: &Value| {
            let word = |key: &str| path[key].as_str().unwrap_or("-").to_owned();
            ["interface", "source", "answer"].map(word).join(" ")
        };
        let outside =
            paths.filter(|path| path["from"] == "outside" && path["address"] == "192.0.2.1");
        outside.map(words).collect::<Vec<_>>()
    };
    assert_eq!(paths("{ port: 80, to: 3000 }"), ["- - unknown"]);
    assert_eq!(paths("{ port: 80, to: 3000, sources: [192.0.2.0/25] }"), ["- - yes"]);
    assert!(client.tcp_ask("192.0.2.1:80").is_ok());
    assert_eq!(paths("{ port: 80, to: 3000, sources: [198.51.100.0/24] }"), ["- - no"]);
    assert_eq!(
        paths("{ port: 80, to: 3000, sources: [192.0.2.0/25, 198.51.100.0/24] }"),
        ["- 192.0.2.0/25 yes", "- 198.51.100.0/24 no"]
    );
}

#[test]
fn of_several_interfaces_the_one_that_is_blocked_is_named() {
    let world = World::new();
    let host = &world.host;
    let _app = host.serve("app", 3000);
    host.ip("link add eth1 type veth peer name wire1\nlink set eth1 up\naddress add 192.0.2.9/32 dev lo");
    host.portmap(["apply", "--persist", "80:3000"]).run();
    host.nft_script(
        "table inet fw { chain input { type filter hook input priority 0; iifname eth1 drop; }; }",
    );
    let outcome = host.portmap(["doctor", "-ojson"]).run().fails_with(1);
    let document = outcome.json();
    let finding = &document["findings"][0];
    assert_eq!(finding["evidence"]["interface"], "eth1", "{outcome}");
    let summary = finding["summary"].as_str().unwrap();
    assert!(summary.contains("clients from outside by eth1 are kept out"), "{summary}");
    let paths = document["paths"].as_array().unwrap().iter();
    let shared = paths.filter(|path| path["from"] == "outside" && path["address"] == "192.0.2.9");
    let shared: Vec<_> = shared.map(|p| (p["interface"].clone(), p["answer"].clone())).collect();
    let row = |interface: &str, answer: &str| (interface.into(), answer.into());
    let rows = [row("eth0", "yes"), row("eth1", "no"), row("wire1", "yes")];
    assert_eq!(shared, rows, "{outcome}");
    let said = host.portmap(["doctor"]).run().fails_with(1);
    assert!(said.stdout.contains("outside, eth1"), "{said}");
}

#[test]
fn what_lets_in_a_range_is_typed_once() {
    let world = World::new();
    let (host, client) = (&world.host, &world.client);
    let _servers = [3000, 3001].map(|port| host.serve("app", port));
    host.portmap(["apply", "--persist", "80-81:3000-3001"]).run();
    let remedies = |outcome: &Outcome| -> Vec<String> {
        let document = outcome.json();
        let findings = document["findings"].as_array().unwrap().iter();
        let blocks = findings.filter(|finding| finding["code"] == "firewall-blocks");
        let remedies = blocks.flat_map(|finding| finding["remedy"].as_array().unwrap().clone());
        remedies.map(|remedy| remedy["command"].as_str().unwrap().to_owned()).collect()
    };
    let close: [&dyn Fn(); 2] = [
        &|| {
            host.nft_script(
                "table inet fw { chain input {
                    type filter hook input priority 0; policy drop; iifname lo accept
                    ct state established accept
                    meta l4proto icmpv6 accept
                 }; }",
            );
        },
        &|| {
            host.nft("delete table inet fw");
            for program in ["iptables-nft", "ip6tables-nft"] {
                let rule = ["-A", "INPUT", "-p", "tcp", "--syn", "!", "-i", "lo", "-j", "DROP"];
                host.output(host.command(program).args(rule), "");
            }
        },
    ];
    for close in close {
        close();
        let outcome = host.portmap(["doctor", "-ojson"]).run().fails_with(1);
        assert!(client.tcp_ask("192.0.2.1:81").is_err());
        let commands = remedies(&outcome);
        assert!(matches!(commands.len(), 1 | 2), "{commands:?}");
        for command in commands {
            let typed = command.trim_start_matches("sudo ").replace("tables -", "tables-nft -");
            host.output(host.command("sh").args(["-c", &typed]), "");
        }
        let said = host.portmap(["doctor", "80-81"]).run();
        assert!(said.stdout.contains("\n80-81/tcp  outside  192.0.2.1"), "{said}");
        for port in [80, 81] {
            assert!(client.tcp_ask(&format!("192.0.2.1:{port}")).is_ok(), "{outcome}");
            assert!(client.tcp_ask(&format!("[2001:db8::1]:{port}")).is_ok(), "{outcome}");
        }
        assert_eq!(found(host, &[]), [""; 0]);
    }
}
