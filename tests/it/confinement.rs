//! What a running command may still do: seen from outside, while it waits for something.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Stdio};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::support::{Namespace, needs_other_users, skip, wait_until};

const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
const SYS_PTRACE: u64 = 1 << 19;
const DAC_READ_SEARCH: u64 = 1 << 2;
const SETGID: u64 = 1 << 6;
const SETUID: u64 = 1 << 7;
const SETPCAP: u64 = 1 << 8;

/// A line of /proc/PID/status, or of such a text.
#[track_caller]
fn field<'t>(status: &'t str, name: &str) -> &'t str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    line.unwrap_or_else(|| panic!("no {name}: {status}")).trim()
}

#[track_caller]
fn capabilities(status: &str, set: &str) -> u64 {
    u64::from_str_radix(field(status, set), 16).unwrap()
}

/// Whether there is seccomp here, and for this processor.
fn is_filtered() -> bool {
    let known = ["x86_64", "aarch64", "riscv64"].contains(&std::env::consts::ARCH);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    known && status.contains("\nSeccomp:")
}

#[track_caller]
fn is_confined(status: &str, may: u64) {
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(capabilities(status, set) & !may, 0, "{set}: {status}");
    }
    assert_ne!(capabilities(status, "CapEff") & NET_ADMIN, 0, "{status}");
    assert_eq!(field(status, "NoNewPrivs"), "1", "{status}");
    let filtered = if is_filtered() { "2" } else { "0" };
    assert_eq!(field(status, "Seccomp"), filtered, "{status}");
}

#[test]
fn a_command_has_only_what_it_needs() {
    let host = Namespace::new();
    host.apply("ports: { 80: 3000 }");
    let watching = DAC_READ_SEARCH | NET_ADMIN | SYS_PTRACE;
    let cases: [(&[&str], u64, &str); 3] = [
        (&["guard"], watching, "\n"),
        (&["status", "--watch", "--interval", "100ms"], watching, "80"),
        (&["trace", "--timeout", "20s", "80"], watching | NET_RAW, "waiting"),
    ];
    for (arguments, may, says) in cases {
        let output = host.dir().join("output");
        let to = || fs::File::options().create(true).append(true).open(&output).unwrap();
        fs::write(&output, "").unwrap();
        let mut portmap = host.command(crate::support::portmap::PROGRAM);
        portmap.args(arguments).env("PORTMAP_STATE_DIR", host.dir().join("state"));
        portmap.stdin(Stdio::null()).stdout(to()).stderr(to());
        let mut portmap = portmap.spawn().unwrap();
        wait_until("it works", || fs::read_to_string(&output).unwrap().contains(says));
        let status = status_of(&portmap);
        portmap.kill().unwrap();
        portmap.wait().unwrap();
        is_confined(&status, may);
    }
}

fn status_of(process: &Child) -> String {
    fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap()
}

type Variables = &'static [(&'static str, &'static str)];

/// Commands with words that have them read something, and variables.
const CONFINED: [(&[&str], Variables); 24] = [
    (&["check", "rules.yaml"], &[]),
    (&["render", "rules.yaml"], &[]),
    (&["plan", "rules.yaml"], &[]),
    (&["apply", "--dry-run", "rules.yaml"], &[]),
    (&["apply", "rules.yaml"], &[]),
    (&["apply", "--persist", "443:8443"], &[]),
    (&["apply", "--confirm", "10m", "80:3000"], &[]),
    (&["status"], &[]),
    (&["confirm"], &[]),
    (&["doctor"], &[]),
    (&["doctor", "--probe", "--yes", "9"], &[]),
    (&["trace", "--timeout", "10ms", "80"], &[]),
    (&["history"], &[]),
    (&["show"], &[]),
    (&["rollback", "--dry-run"], &[]),
    (&["rollback"], &[]),
    (&["persist"], &[]),
    (&["persist", "--off"], &[]),
    (&["restore"], &[]),
    (&["reload"], &[]),
    (&["guard"], &[]),
    (&["clear", "--dry-run"], &[]),
    (&["clear"], &[]),
    // What a completion script asks.
    (
        &["--", "portmap", "show", ""],
        &[("PORTMAP_COMPLETE", "bash"), ("_CLAP_COMPLETE_INDEX", "2")],
    ),
];

/// Those whose command would inherit it, and those that read nothing of others.
const NOT_CONFINED: [&[&str]; 6] = [
    &["run", "8080:3000", "--user", "root", "--", "true"],
    &["man"],
    &["schema"],
    &["completions", "bash"],
    &["version"],
    &["--help"],
];

/// Whether a call opens what is neither the loader's nor its libraries', or asks the kernel.
fn reads_or_asks(call: &str) -> bool {
    let of_loader = [".so\"", ".so.", "\"/etc/ld.so.", "\"/proc/self/maps\""];
    let opens = ["open(", "openat(", "openat2("].iter().any(|name| call.contains(name));
    let asks = ["sendto(", "sendmsg(", "socket("].iter().any(|name| call.contains(name));
    asks || (opens && !of_loader.iter().any(|part| call.contains(part)))
}

#[test]
fn every_command_is_confined_before_it_reads_a_file_or_asks_the_kernel() {
    if !is_filtered() {
        skip("there is no filter of system calls for this kernel or processor");
        return;
    }
    let host = Namespace::new().that_boots();
    host.file("rules.yaml", "ports: { 80: 3000 }");
    host.file("etc/portmap/rules.yaml", "ports: { 80: 3001 }");
    host.apply("ports: { 80: 3002 }");
    // A guard would go on for ever: what it does first is seen if it does no more.
    let guard = ["-e", "inject=sendto:signal=KILL"];
    for (words, variables) in CONFINED {
        let options: &[&str] = if words[0] == "guard" { &guard } else { &[] };
        let (outcome, log) = host.portmap_observed(options, variables, words);
        let calls: Vec<_> = log.lines().collect();
        let first = |what: &str| {
            let at = calls.iter().position(|call| call.contains(what));
            at.unwrap_or_else(|| panic!("{words:?}: no {what}: {outcome}"))
        };
        let steps = [
            first("capset("),
            first("prctl(PR_SET_NO_NEW_PRIVS, 1"),
            first("SECCOMP_SET_MODE_FILTER"),
        ];
        assert!(steps.is_sorted(), "{words:?}: {log}");
        for step in steps {
            assert!(calls[step].ends_with("= 0"), "{words:?}: {}", calls[step]);
        }
        let read = calls.iter().position(|call| reads_or_asks(call));
        let read = read.unwrap_or_else(|| panic!("{words:?} reads nothing: {outcome}"));
        assert!(read > steps[2], "{words:?}: {}", calls[read]);
    }
}

#[test]
fn what_is_not_confined_is_known() {
    let host = Namespace::new();
    for words in NOT_CONFINED {
        let (outcome, log) = host.portmap_traced(words);
        outcome.succeeds();
        // Not of the process that watches over a run on an old kernel: its own calls.
        let process = log.split(' ').next().unwrap();
        let own = log.lines().filter(|line| line.split(' ').next() == Some(process));
        let own = own.collect::<Vec<_>>().join("\n");
        assert!(own.contains("exit_group("), "{own}");
        assert!(!own.contains("SECCOMP_SET_MODE_FILTER"), "{words:?}");
        assert!(!own.contains("PR_SET_NO_NEW_PRIVS"), "{words:?}");
    }
    let commands = host.portmap(["--help"]).run().succeeds().stdout;
    let commands = commands.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    for command in commands.lines().filter_map(|line| line.split_whitespace().next()) {
        let confined = CONFINED.iter().any(|(words, _)| words[0] == command);
        let is_known = confined || NOT_CONFINED.iter().any(|words| words[0] == command);
        assert!(is_known || command == "help", "{command} is in neither list");
    }
}

#[test]
fn without_what_confines_everything_works() {
    let host = Namespace::new();
    host.file("rules.yaml", "ports: { 80: 3000 }");
    for (call, port) in [("seccomp", 3000), ("capset", 3001), ("prctl", 3002)] {
        host.file("rules.yaml", &format!("ports: {{ 80: {port} }}"));
        let apply = ["apply", "-v", "rules.yaml"];
        let outcome = host.portmap_injected(call, "error=ENOSYS", 1, apply).outcome;
        let outcome = outcome.succeeds();
        assert!(
            call == "prctl" || !is_filtered() || outcome.stderr.contains("not confined"),
            "{outcome}"
        );
        assert_eq!(host.status()["mappings"][0]["to"], port);
    }
}

/// iptables' own program, here one that tries to write.
#[test]
fn what_doctor_runs_cannot_write() {
    let host = Namespace::new();
    host.apply("ports: { 80: 3000 }");
    let written = host.dir().join("written");
    let script =
        format!("#!/bin/sh\n(echo >{}) 2>/dev/null && exit 7\nexit 8\n", written.display());
    let script = host.file("spy.sh", &script);
    let program = host.executable(script, "spy");
    let mut rule = host.command("iptables-legacy");
    rule.args(["-w", "-A", "INPUT", "-p", "udp", "-j", "DROP"]).stderr(Stdio::null());
    if !rule.status().is_ok_and(|status| status.success()) {
        skip("there is no legacy iptables here");
        return;
    }
    let mount = format!("mount --bind {} /usr/sbin/iptables-legacy-save", program.display());
    let outcome = host.portmap_mounted(&mount, ["doctor", "-ojson"]).run();
    let ended = if is_filtered() { "exit status: 8" } else { "exit status: 7" };
    assert!(outcome.stdout.contains(ended), "{outcome}");
    assert_eq!(written.exists(), !is_filtered());
}

#[test]
fn the_command_of_a_run_is_not_confined() {
    let host = Namespace::new();
    let run = ["run", "80:3000", "--user", "root", "--", "cat", "/proc/self/status"];
    let status = host.portmap(run).run().succeeds().stdout;
    let own = fs::read_to_string("/proc/thread-self/status").unwrap();
    for name in ["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"] {
        assert_eq!(field(&status, name), field(&own, name), "{name}");
    }
}

/// What a run looks like while it reads the services database, and what its command says of itself.
fn run_reading(host: &Namespace, user: &str) -> (String, String) {
    let services = host.dir().join("services");
    mkfifo(&services, Mode::from_bits_truncate(0o644)).unwrap();
    let mut run = host.command("unshare");
    let mount = "mount --bind services /etc/services; exec \"$@\"";
    run.args(["--mount", "sh", "-ec", mount, "sh", crate::support::portmap::PROGRAM]);
    run.args(["run", "http:3000", "--user", user, "--", "cat", "/proc/self/status"]);
    run.current_dir(host.dir()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut run = run.spawn().unwrap();
    let mut open = fs::File::options();
    open.write(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let mut writer = None;
    wait_until("it reads", || {
        writer = open.open(&services).ok();
        writer.is_some() || run.try_wait().unwrap().is_some()
    });
    let status = status_of(&run);
    let mut writer = writer.expect("it ended before it read");
    writer.write_all(b"http 80/tcp\n").unwrap();
    drop(writer);
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    fs::remove_file(&services).unwrap();
    (status, String::from_utf8(output.stdout).unwrap())
}

const OF_A_RUN: u64 = DAC_READ_SEARCH | NET_ADMIN | SYS_PTRACE | SETGID | SETUID | SETPCAP;

#[test]
fn what_a_run_passes_on_rests_while_it_reads() {
    let host = Namespace::new();
    let (reading, command) = run_reading(&host, "root");
    let own = fs::read_to_string("/proc/thread-self/status").unwrap();
    let effective = capabilities(&own, "CapEff");
    assert_eq!(capabilities(&reading, "CapEff"), effective & OF_A_RUN, "{reading}");
    assert_ne!(effective & !OF_A_RUN, 0, "there is something to rest");
    for (name, status) in [("CapPrm", &reading), ("CapPrm", &command), ("CapEff", &command)] {
        assert_eq!(field(status, name), field(&own, name), "{name}: {status}");
    }
}

#[test]
fn a_run_keeps_only_what_it_needs_while_it_reads() {
    needs_other_users();
    let host = Namespace::new();
    let (reading, command) = run_reading(&host, "nobody");
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(capabilities(&reading, set) & !OF_A_RUN, 0, "{set}: {reading}");
        assert_eq!(capabilities(&command, set), 0, "{set}: {command}");
    }
    assert_ne!(capabilities(&reading, "CapEff") & NET_ADMIN, 0, "{reading}");
}
