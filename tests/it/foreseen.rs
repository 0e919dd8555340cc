//! What plan and apply see coming, and what status says of listeners.

use std::process;

use serde_json::{Value, json};

use crate::support::{Listen, Namespace, World};

/// The codes of the warnings that applying this mapping would bring.
#[track_caller]
fn foreseen(host: &Namespace, mapping: &str) -> Vec<String> {
    let file = host.file("rules.yaml", &format!("ports: {{ {mapping} }}"));
    let plan = ["plan".as_ref(), "-ojson".as_ref(), file.as_os_str()];
    let warnings = host.portmap(plan).run().succeeds().json()["warnings"].take();
    let code = |warning: &Value| warning["code"].as_str().unwrap_or("none").to_owned();
    warnings.as_array().unwrap().iter().map(code).collect()
}

#[test]
fn a_target_that_leaves_clients_out_is_foreseen() {
    let world = World::new();
    let host = &world.host;
    assert_eq!(foreseen(host, "80: 3000"), ["nobody-listens"]);
    let cases: [(&[Listen], &[&str]); 8] = [
        (&[Listen::Tcp("[::]:3000")], &[]),
        (&[Listen::Tcp("0.0.0.0:3000")], &["one-family-only"]),
        (&[Listen::Tcp("127.0.0.1:3000")], &["loopback-only"]),
        (&[Listen::Tcp("[::1]:3000"), Listen::Tcp("127.0.0.1:3000")], &["loopback-only"]),
        (&[Listen::Tcp("192.0.2.1:3000")], &["one-address-only"]),
        (&[Listen::Udp("[::]:3000")], &["other-protocol"]),
        (&[Listen::Tcp("[::]:3000"), Listen::Tcp("[::]:80")], &["listener-shadowed"]),
        (&[Listen::Tcp("[::]:3000"), Listen::Udp("[::]:80")], &[]),
    ];
    for (places, expected) in cases {
        let _server = host.serve_at("app", places);
        assert_eq!(foreseen(host, "80: 3000"), expected, "{places:?}");
    }
    let _server = host.serve_at("app", &[Listen::Udp("[::]:5353"), Listen::Tcp("[::]:53")]);
    assert_eq!(foreseen(host, "53/udp: 5353"), [""; 0]);
    assert_eq!(foreseen(host, "53/udp: { to: 5353, interfaces: [ppp0] }"), ["no-such-interface"]);
    let address = "53/udp: { to: 5353, addresses: [198.51.100.7] }";
    assert_eq!(foreseen(host, address), ["no-such-address"]);
}

#[test]
fn what_is_foreseen_is_true() {
    let world = World::new();
    let (host, client) = (&world.host, &world.client);
    let _server = host.serve_at("app", &[Listen::Tcp("0.0.0.0:3000"), Listen::Tcp("[::]:80")]);
    assert_eq!(client.tcp_ask("[2001:db8::1]:80").as_deref(), Ok("app"));
    host.apply("ports: { 80: 3000 }");
    assert_eq!(client.tcp_ask("192.0.2.1:80").as_deref(), Ok("app"));
    assert!(client.tcp_ask("[2001:db8::1]:80").is_err(), "of one family only");
    assert!(host.tcp_ask("[::1]:80").is_err(), "of one family only");
}

#[test]
fn a_warning_never_fails_an_apply_unless_it_is_asked_to() {
    let host = Namespace::new();
    host.portmap(["apply", "--strict", "80:3000"])
        .run()
        .fails_with(1)
        .says("error: nobody listens on port 3000, the target of 80/tcp");
    assert!(!host.ruleset().contains("portmap"), "refused before anything was changed");
    host.portmap(["plan", "--strict", "80:3000"]).run().fails_with(1);

    let applied = host.portmap(["apply", "80:3000"]).run().succeeds();
    let applied = applied.says("warning: nobody listens on port 3000, the target of 80/tcp");
    applied.says("help: start the program that is to answer on port 3000");
    for arguments in [&["apply", "80:3000"][..], &["apply", "--strict", "80:3000"]] {
        let again = host.portmap(arguments).run().succeeds();
        assert_eq!(again.stderr, "", "nothing changes: {again}");
    }
    let next = host.portmap(["apply", "80:3000", "81:3001"]).run().succeeds();
    assert!(!next.stderr.contains("80/tcp"), "only what changes: {next}");
    next.says("nobody listens on port 3001, the target of 81/tcp");
    let quiet = host.portmap(["apply", "-q", "82:3000"]).run().succeeds();
    assert_eq!(quiet.stderr, "");
}

#[test]
fn the_program_that_loses_its_port_is_named() {
    let host = Namespace::new();
    let _server = host.serve("app", 80);
    let _target = host.serve("app", 3000);
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    let whom = format!("{} (pid {}, root) listens on 80/tcp itself", name.trim(), process::id());
    host.portmap(["apply", "80:3000"]).run().succeeds().says(&whom);
}

#[test]
fn the_own_ssh_session_is_recognised() {
    let world = World::new();
    let (host, client) = (&world.host, &world.client);
    let _sshd = host.serve("sshd", 22);
    let _other = host.serve("other", 2222);
    let session = client.tcp_connect("192.0.2.1:22").unwrap();
    let port = session.local_port();
    let plan = |variable: String| {
        let mut plan = host.portmap(["plan", "22:2222"]);
        plan.env("SSH_CONNECTION", &variable);
        plan.run().succeeds()
    };
    plan(format!("192.0.2.2 {port} 192.0.2.1 22"))
        .says("your own ssh session came in on 22/tcp")
        .says("portmap apply --confirm 60s");
    // What the environment says is not so, or not any more.
    let gone = plan(format!("192.0.2.2 {} 192.0.2.1 22", port ^ 1));
    assert!(!gone.stderr.contains("ssh"), "{gone}");
}

#[test]
fn status_names_the_listener_of_each_target() {
    let host = Namespace::new();
    let app = host.serve_at("app", &[Listen::Tcp("127.0.0.1:3000"), Listen::Udp("[::]:5353")]);
    host.apply("ports: { 80: 3000, 81: 3001, 53/udp: 5353 }");
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    let here = |addresses: &[&str]| {
        json!([{ "program": name.trim(), "pid": process::id(), "user": "root", "uid": 0,
                 "addresses": addresses }])
    };
    let status = host.status();
    let listeners: Vec<_> = status["mappings"].as_array().unwrap().iter().collect();
    assert_eq!(listeners[0]["listeners"], here(&["127.0.0.1"]), "{status}");
    assert_eq!(listeners[1]["listeners"], json!([]), "{status}");
    assert_eq!(listeners[2]["listeners"], here(&["*"]), "{status}");
    let text = host.portmap(["status"]).run().succeeds().stdout;
    let who = format!("{} (pid {}, root)", name.trim(), process::id());
    assert!(text.contains(&format!("{who} on 127.0.0.1  ")), "{text}");
    assert!(text.contains("81/tcp  3001  nobody"), "{text}");
    drop(app);
    assert_eq!(host.status()["mappings"][0]["listeners"], json!([]));
}

/// What docker leaves in the kernel when it publishes port 80, as iptables-save shows it.
#[test]
fn a_rule_of_another_program_for_the_same_port_is_foreseen() {
    let world = World::new();
    let host = &world.host;
    let _server = host.serve("app", 3000);
    let docker = include_str!("../firewalls/docker-publishes-80.v4");
    host.output(host.command("iptables-nft-restore").arg("-n"), docker);
    assert_eq!(foreseen(host, "80: 3000"), ["other-nat"]);
    assert_eq!(foreseen(host, "81: 3000"), [""; 0]);
    assert_eq!(foreseen(host, "80/udp: 3000"), [""; 0]);
    assert_eq!(foreseen(host, "80: { to: 3000, families: ipv6 }"), [""; 0]);
    // Of more than can be compared, that is said.
    assert_eq!(foreseen(host, "600-663: 6000-6063"), ["nobody-listens"]);
    assert_eq!(foreseen(host, "600-664: 6000-6064"), ["nobody-listens", "other-nat"]);
    let many = host.portmap(["plan", "600-664:6000-6064"]).run().succeeds();
    many.says("note: of 1 more new mapping it was not looked at");
    let said = host.portmap(["apply", "80:3000"]).run().succeeds();
    let said =
        said.says("portmap comes before a rule of docker: table ip nat, chain DOCKER, rule 1");
    said.says("sudo docker ps --filter publish=80/tcp");
    let again = host.portmap(["apply", "80:3000"]).run().succeeds();
    assert_eq!(again.stderr, "", "nothing changes: {again}");
}
