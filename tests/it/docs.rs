//! What the documents show is what happens: every YAML block is a rules file without mistakes,
//! every session at a prompt is typed and must print what it is shown to print, every firewall rule
//! lets in what it is meant to, and every recipe makes port 80 answer.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, id};
use std::thread;

use crate::support::{Namespace, NoAnswer, World, answer};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Markdown files of the project with what they say.
fn documents() -> Vec<(PathBuf, String)> {
    let docs = fs::read_dir(Path::new(ROOT).join("docs")).unwrap();
    let docs = docs.map(|entry| entry.unwrap().path());
    let top =
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(|name| Path::new(ROOT).join(name));
    docs.chain(top)
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect()
}

/// The fenced blocks of a language.
fn blocks<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let starts = document.match_indices(&fence).map(|(at, _)| at + fence.len());
    starts.map(|start| document[start..].split("```").next().unwrap_or_default()).collect()
}

#[test]
fn every_yaml_block_is_a_rules_file_without_mistakes() {
    let host = Namespace::new();
    let mut checked = 0;
    for (path, text) in documents() {
        for block in blocks(&text, "yaml").into_iter().filter(is_rules_file) {
            let outcome = host.portmap(["check", "-"]).stdin(block).run();
            assert_eq!(outcome.code, Some(0), "{}: {block}\n{outcome}", path.display());
            checked += 1;
        }
    }
    assert!(checked >= 2, "only {checked} blocks were found");
}

#[test]
fn every_session_prints_what_it_is_shown_to_print() {
    let mut typed = 0;
    for (path, text) in documents() {
        let host = Namespace::new();
        host.ip("link set lo up");
        prepare(&host);
        for block in blocks(&text, "console") {
            for (command, expected) in session(block) {
                if let Some(port) = application(&command) {
                    assert_eq!(expected, "", "{}: $ {command}", path.display());
                    serve_http(&host, port);
                    continue;
                }
                let printed = aligned_anyhow(&as_node(&type_in(&host, &command)));
                let expected = aligned_anyhow(&expected);
                assert_eq!(printed, expected, "{}: $ {command}", path.display());
                typed += 1;
            }
        }
    }
    assert!(typed >= 5, "only {typed} commands were found");
}

/// What the sessions assume to be there.
fn prepare(host: &Namespace) {
    fs::create_dir(host.dir().join("rules")).unwrap();
    for rules in fs::read_dir(Path::new(ROOT).join("rules")).unwrap() {
        let rules = rules.unwrap();
        host.file(
            &format!("rules/{}", rules.file_name().to_string_lossy()),
            &fs::read_to_string(rules.path()).unwrap(),
        );
    }
    host.file("rules.yaml", "ports:\n  80: 3000\n");
    host.file("broken.yaml", "ports:\n  80: 70000\n");
}

/// Commands after a prompt, each with the lines that follow it.
fn session(block: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), String::new())),
            (None, Some((_, output))) => {
                output.push_str(line);
                output.push('\n');
            }
            (None, None) => panic!("a session begins with a prompt: {line}"),
        }
    }
    commands
}

/// The port of a command that starts an application in the background: `PORT=3000 node app.js &`.
fn application(command: &str) -> Option<u16> {
    let (port, rest) = command.strip_prefix("PORT=")?.split_once(' ')?;
    rest.ends_with(" &").then(|| port.parse().unwrap())
}

/// In place of Node: `hello` for every request, on all addresses, until the test ends.
fn serve_http(host: &Namespace, port: u16) {
    let listener = host.run(|| TcpListener::bind(format!("[::]:{port}"))).unwrap();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.read(&mut [0; 4096]);
            let _ = client.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello\n");
        }
    });
}

/// Standard output and error, as a terminal would show them.
fn type_in(host: &Namespace, command: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_portmap")).parent().unwrap();
    let stubs = host.dir().join("bin");
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{}:{path}", stubs.display(), program.display());
    let output = host
        .command("sh")
        .args(["-c", &format!("exec 2>&1; {}", command.replace("sudo ", ""))])
        .env("PATH", path)
        // A terminal would not be shown curl's progress.
        .env("CURL_HOME", host.file("home/.curlrc", "silent\n").parent().unwrap())
        .env("PORTMAP_STATE_DIR", host.dir().join("state"))
        .current_dir(host.dir())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The application that these tests are, under the name that it has in the documents.
fn as_node(output: &str) -> String {
    let name = fs::read_to_string("/proc/self/comm").unwrap();
    output.replace(&format!("{} (pid {}, root)", name.trim(), id()), "node (pid 812, www-data)")
}

/// Columns are as wide as the names in them.
fn aligned_anyhow(text: &str) -> String {
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n";
    text.lines().map(line).collect()
}

/// Other programs' files are YAML too.
fn is_rules_file(block: &&str) -> bool {
    block.lines().any(|line| line == "ports:")
}

fn readme() -> String {
    fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap()
}

#[test]
fn the_table_that_is_shown_is_the_one_in_the_kernel() {
    let text = readme();
    let shown =
        blocks(&text, "").into_iter().find(|b| b.starts_with("table inet portmap")).unwrap();
    let (host, stamp) = (Namespace::new(), " comment \"generation 1, ");
    host.apply("ports: { 80: 3000 }");
    let shown = shown.lines().map(|line| line.split(stamp).next().unwrap().to_owned() + "\n");
    assert_eq!(shown.collect::<String>(), host.table());
}

/// A host with port 80 mapped to 3000, and an application there. Its firewall lets in port 80 and
/// nothing else: that is not enough.
fn world_behind_a_firewall(firewall: impl Fn(&Namespace)) -> (World, impl Drop) {
    let world = World::new();
    let app = world.host.serve("app", 3000);
    world.host.apply("ports: { 80: 3000 }");
    firewall(&world.host);
    for address in ADDRESSES {
        let asked = world.client.tcp_ask(&format!("{address}:80"));
        assert_eq!(asked, Err(NoAnswer::TimedOut), "{address}: the firewall lets everything in");
    }
    (world, app)
}

const ADDRESSES: [&str; 2] = ["192.0.2.1", "[2001:db8::1]"];

#[track_caller]
fn port_80_answers_and_3000_does_not(world: &World) {
    for address in ADDRESSES {
        let ask = |port| world.client.tcp_ask(&format!("{address}:{port}"));
        assert_eq!(ask(80), answer("app"), "{address}");
        assert_eq!(ask(3000), Err(NoAnswer::TimedOut), "{address}");
    }
}

#[test]
fn the_nft_rule_lets_in_the_mapped_port() {
    let text = readme();
    let [rule] = blocks(&text, "nft")[..] else { panic!("one block of nft") };
    let (world, _app) = world_behind_a_firewall(|host| {
        host.nft_script(
            "table inet filter {
                chain input {
                    type filter hook input priority filter; policy drop
                    ct state established,related accept
                    meta l4proto ipv6-icmp accept
                    tcp dport 80 accept
                }
            }",
        );
    });
    assert_eq!(type_in(&world.host, rule), "");
    port_80_answers_and_3000_does_not(&world);
}

/// A policy of drop, as both iptables and ip6tables take it, with a chain for the rules of ufw.
fn iptables_firewall(host: &Namespace) {
    for (program, chain) in
        [("iptables-restore", "ufw-before-input"), ("ip6tables-restore", "ufw6-before-input")]
    {
        let icmp =
            if program.starts_with("ip6") { "-A INPUT -p ipv6-icmp -j ACCEPT\n" } else { "" };
        let rules = format!(
            "*filter\n:INPUT DROP\n:{chain} -\n-A INPUT -j {chain}\n{icmp}\
             -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n\
             -A INPUT -p tcp --dport 80 -j ACCEPT\nCOMMIT\n"
        );
        host.output(&mut host.command(program), &rules);
    }
}

#[test]
fn the_iptables_rules_let_in_the_mapped_port() {
    let text = readme();
    let [rules] = blocks(&text, "iptables")[..] else { panic!("one block of iptables") };
    let (world, _app) = world_behind_a_firewall(iptables_firewall);
    for rule in rules.lines() {
        assert_eq!(type_in(&world.host, rule), "");
    }
    port_80_answers_and_3000_does_not(&world);
}

/// ufw gives its files to iptables-restore and ip6tables-restore.
#[test]
fn the_ufw_rules_let_in_the_mapped_port() {
    let text = readme();
    let [rules] = blocks(&text, "ufw")[..] else { panic!("one block of ufw") };
    let (world, _app) = world_behind_a_firewall(iptables_firewall);
    for (program, rule) in ["iptables-restore", "ip6tables-restore"].into_iter().zip(rules.lines())
    {
        let input = format!("*filter\n{rule}\nCOMMIT\n");
        world.host.output(world.host.command(program).arg("--noflush"), &input);
    }
    port_80_answers_and_3000_does_not(&world);
}

/// `sudo portmap apply 80:8080`, as in a recipe; whether boot restores it is told elsewhere.
fn mapping(line: &str) -> Option<(String, u16)> {
    let arguments = line.strip_prefix("sudo portmap apply ")?.replace("--persist ", "");
    let target = arguments.strip_prefix("80:").expect("a recipe maps port 80").parse().unwrap();
    Some((format!("portmap apply --quiet {arguments}"), target))
}

#[test]
fn every_recipe_makes_port_80_answer() {
    let text = readme();
    let lines = blocks(&text, "sh").into_iter().flat_map(str::lines);
    let recipes: Vec<_> = lines.filter_map(mapping).collect();
    assert!(recipes.len() >= 3, "{recipes:?}");
    for (command, target) in recipes {
        let host = Namespace::new();
        let _app = host.serve("app", target);
        assert_eq!(type_in(&host, &command), "");
        assert_eq!(host.tcp_ask("[::1]:80"), answer("app"), "{command}");
    }
}

/// The container is a process in a network namespace of its own, and Podman says which.
#[test]
fn the_recipe_for_a_container_maps_inside_of_it() {
    let text = readme();
    let recipe = blocks(&text, "sh").into_iter().find(|block| block.contains("nsenter")).unwrap();
    let (host, container) = (Namespace::new(), Namespace::new());
    let _apps = [host.serve("host", 3000), container.serve("container", 3000)];
    let mut process = container.command("sleep").arg("60").spawn().unwrap();
    let podman = host.file("podman.sh", &format!("#!/bin/sh\necho {}\n", process.id()));
    host.executable(podman, "bin/podman");
    let state = host.dir().join("container");
    let command = recipe.replace("/var/lib/portmap-app", state.to_str().unwrap());
    assert_eq!(type_in(&host, &command), "+ 80/tcp -> 3000\n1 added; generation 1 is active\n");
    assert_eq!(container.tcp_ask("127.0.0.1:80"), answer("container"));
    assert_eq!(host.tcp_ask("127.0.0.1:80"), Err(NoAnswer::Refused));
    process.kill().unwrap();
    process.wait().unwrap();
}

/// Where systemd is not installed, there is nobody to ask.
#[test]
fn the_example_of_a_unit_is_correct_and_hardened() {
    let path = Path::new(ROOT).join("packaging/examples/app.service");
    let unit = fs::read_to_string(path).unwrap();
    let host = Namespace::new();
    // Node may be missing, and that is not the unit's mistake.
    assert!(unit.contains("ExecStart=/usr/bin/node "), "{unit}");
    let unit = host.file("app.service", &unit.replace("/usr/bin/node ", "/bin/sh "));
    for arguments in
        [&["verify"][..], &["--no-pager", "--offline=yes", "--threshold=15", "security"]]
    {
        let output = match Command::new("systemd-analyze").args(arguments).arg(&unit).output() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            output => output.unwrap(),
        };
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
}
