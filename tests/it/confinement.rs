//! What a running command may still do: seen from outside, while it waits for something.

use std::fs;
use std::process::{Child, Stdio};

use crate::support::{Namespace, skip, wait_until};

const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
const SYS_PTRACE: u64 = 1 << 19;
const DAC_READ_SEARCH: u64 = 1 << 2;

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

/// The calls, in their order, that strace(1) sees.
#[track_caller]
fn calls(host: &Namespace, arguments: &[&str]) -> Vec<String> {
    let log = host.dir().join("strace");
    let mut strace = host.command("strace");
    strace.args(["-f", "-qq", "-e", "trace=?open,openat,seccomp,sendto,execve", "-o"]).arg(&log);
    strace.arg(crate::support::portmap::PROGRAM).args(arguments).current_dir(host.dir());
    strace.env("PORTMAP_STATE_DIR", host.dir().join("state"));
    host.output(&mut strace, "");
    fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn it_is_confined_before_it_reads_a_file_or_asks_the_kernel() {
    let host = Namespace::new();
    host.file("rules.yaml", "ports: { 80: 3000 }");
    if !is_filtered() {
        skip("there is no filter of system calls for this kernel or processor");
        return;
    }
    for command in ["check", "render", "plan", "apply"] {
        let calls = calls(&host, &[command, "rules.yaml"]);
        let first = |what: &str| calls.iter().position(|call| call.contains(what));
        let confined = first("seccomp(").unwrap_or_else(|| panic!("{command}: {calls:?}"));
        // The command line of execve(2) names the file as well.
        let opens = |call: &String| call.contains("open") && call.contains("rules.yaml");
        let read = calls.iter().position(opens);
        assert!(read.is_some_and(|read| read > confined), "{command}: {calls:?}");
        assert!(first("sendto(").is_none_or(|asked| asked > confined), "{command}: {calls:?}");
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
    rule.args(["-A", "INPUT", "-p", "udp", "-j", "DROP"]).stderr(Stdio::null());
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
    for name in ["CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp"] {
        assert_eq!(field(&status, name), field(&own, name), "{name}");
    }
}
