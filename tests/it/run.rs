//! `portmap run`: a mapping that lives exactly as long as a command and what it has left running.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use portmap::kernel::{Kernel, Netlink};
use portmap::mapping::{Mapping, MappingSet, Port, Protocol, Service, Target};
use portmap::plan::plan;
use portmap::ruleset::{Lifetime, RunId, RunTable, desired};

use crate::support::old_kernel::STARTS;
use crate::support::portmap::PROGRAM;
use crate::support::{Namespace, NoAnswer, World, answer, needs_other_users, wait_until};

/// What ends the mapping with its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The kernel.
    Kernel,
    /// A process of portmap's, where the kernel cannot.
    Supervisor,
}

pub const EITHER: [By; 2] = [By::Kernel, By::Supervisor];

impl By {
    /// What becomes of it on this machine: before Linux 5.12 all runs have a supervisor.
    fn on(self, host: &Namespace) -> Self {
        if self == By::Kernel && !host.has_owners() { By::Supervisor } else { self }
    }
}

/// A command under way. It is ended when this is dropped.
pub struct Run {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Run {
    #[track_caller]
    fn start(by: By, command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut run = Self { child, stdout };
        if by == By::Supervisor {
            while run.line() != STARTS {}
        }
        run
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    /// The next line of what it prints.
    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    #[track_caller]
    pub fn ends(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Namespace {
    pub fn run_command(&self, by: By, arguments: &[&str]) -> Command {
        let mut command = match by {
            By::Kernel => {
                let mut command = self.command(PROGRAM);
                command.arg("run").args(arguments);
                command
            }
            By::Supervisor => self.on_old_kernel(&[&["run"], arguments].concat()),
        };
        command.env("PORTMAP_STATE_DIR", self.dir().join("state"));
        command.env_remove("PORT").env_remove("SUDO_UID");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }

    /// Starts it, and returns when the command has said `ready`.
    #[track_caller]
    pub fn start_run(&self, arguments: &[&str]) -> Run {
        self.start_run_by(By::Kernel, arguments)
    }

    #[track_caller]
    fn start_run_by(&self, by: By, arguments: &[&str]) -> Run {
        let mut run = Run::start(by, &mut self.run_command(by, arguments));
        assert_eq!(run.line(), "ready", "{arguments:?}");
        run
    }

    /// The names of the tables that there are.
    #[track_caller]
    fn tables(&self) -> Vec<String> {
        let list = self.nft("list tables");
        list.lines().map(|line| line.trim_start_matches("table inet ").to_owned()).collect()
    }

    #[track_caller]
    pub fn has_no_runs_soon(&self) {
        wait_until("the table of a run is gone", || {
            self.tables().iter().all(|name| !name.starts_with("portmap-run"))
        });
    }
}

/// Says that it runs, and goes on until its input ends.
const WAIT: [&str; 4] = ["--", "sh", "-c", "echo ready; read end"];

pub fn waiting<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &WAIT].concat()
}

const REFUSED: Result<String, NoAnswer> = Err(NoAnswer::Refused);

#[test]
fn a_mapping_lives_as_long_as_its_command() {
    EITHER.into_iter().for_each(a_mapping_lives_as_long_as_its_command_by);
}

fn a_mapping_lives_as_long_as_its_command_by(by: By) {
    let world = World::new();
    let (host, client) = (&world.host, &world.client);
    let _app = host.serve("app", 8000);

    for end in ["input", "SIGTERM", "SIGKILL"] {
        let run = host.start_run_by(by, &waiting(&["80:8000", "80/udp:8000", "--user", "root"]));
        assert_eq!(host.tables(), [format!("portmap-run-{}", run.pid())]);
        for to in ["192.0.2.1:80", "[2001:db8::1]:80"] {
            assert_eq!((client.tcp_ask(to), host.tcp_ask(to)), (answer("app"), answer("app")));
            assert_eq!((client.udp_ask(to), host.udp_ask(to)), (answer("app"), answer("app")));
        }
        match end {
            "SIGTERM" => run.kill(Signal::SIGTERM),
            "SIGKILL" => run.kill(Signal::SIGKILL),
            _ => {}
        }
        run.ends();
        host.has_no_runs_soon();
        assert_eq!(client.tcp_ask("192.0.2.1:80"), REFUSED, "after {end}");
    }
    assert_eq!(host.ruleset(), "");
}

#[test]
fn exit_status_and_signals_are_the_commands_own() {
    EITHER.into_iter().for_each(exit_status_and_signals_are_the_commands_own_by);
}

fn exit_status_and_signals_are_the_commands_own_by(by: By) {
    let host = Namespace::new();
    let run = |script: &str| {
        let arguments = ["80:8000", "--user", "root", "--", "sh", "-c", script];
        Run::start(by, &mut host.run_command(by, &arguments)).ends()
    };
    assert_eq!(run("exit 7").code(), Some(7));
    assert_eq!(run("kill -USR1 $$").signal(), Some(Signal::SIGUSR1 as i32));
    // Rust ignores SIGPIPE; a command must not inherit that.
    let ignored = r#"set -- $(grep SigIgn /proc/$$/status); exit $(( (0x$2 >> 12) & 1 ))"#;
    assert_eq!(run(ignored).code(), Some(0));
    // There is no process between the command and who started it.
    let mut parent = host.start_run_by(
        by,
        &["80:8000", "--user", "root", "--", "sh", "-c", "echo ready; echo $$ $PPID"],
    );
    assert_eq!(parent.line(), format!("{} {}", parent.pid(), std::process::id()));

    let unknown = host.portmap(["run", "80:8000", "--user", "root", "--", "/no/such"]).run();
    unknown.fails_with(127).says("run `/no/such`");
    let not_executable = host.file("text", "no program");
    let path = not_executable.to_str().unwrap();
    let refused = host.portmap(["run", "80:8000", "--user", "root", "--", path]).run();
    refused.fails_with(126).says(path);
    host.has_no_runs_soon();
}

#[test]
fn what_a_command_leaves_running_keeps_the_mapping() {
    EITHER.into_iter().for_each(what_a_command_leaves_running_keeps_the_mapping_by);
}

fn what_a_command_leaves_running_keeps_the_mapping_by(by: By) {
    let host = Namespace::new();
    let script = "setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo ready; echo $!";
    let mut run = host.start_run_by(by, &["80:8000", "--user", "root", "--", "sh", "-c", script]);
    let left: u32 = run.line().parse().unwrap();
    let (pid, status) = (run.pid(), run.ends());
    assert!(status.success());

    let status = host.status();
    let [found] = &status["runs"].as_array().unwrap()[..] else { panic!("{status}") };
    assert_eq!((&found["pid"], &found["left_over"]), (&pid.into(), &false.into()));
    assert_eq!(found["supervised"], by.on(&host) == By::Supervisor);
    assert_eq!(found["processes"], serde_json::json!([{ "pid": left, "name": "sleep" }]));
    assert_eq!(found["mappings"][0]["to"], 8000);
    // Who is in the way is who holds it now, and not a number that may be another's by now.
    let refused = host.portmap(["run", "80:8001", "--user", "root", "--", "true"]).run();
    refused.fails_with(1).says(&format!("process {left} (sleep)")).says(&format!("`kill {left}`"));

    kill(Pid::from_raw(left as i32), Signal::SIGKILL).unwrap();
    host.has_no_runs_soon();
}

#[test]
fn a_hundred_runs_leave_nothing_behind() {
    EITHER.into_iter().for_each(a_hundred_runs_leave_nothing_behind_by);
}

fn a_hundred_runs_leave_nothing_behind_by(by: By) {
    let host = Namespace::new();
    for _ in 0..100 {
        let run =
            Run::start(by, &mut host.run_command(by, &["80", "--user", "root", "--", "true"]));
        // The one before may have the port still: the kernel is behind by a moment.
        if !run.ends().success() {
            host.has_no_runs_soon();
        }
    }
    host.has_no_runs_soon();
    assert_eq!(host.ruleset(), "");
}

#[test]
fn the_command_has_no_privileges() {
    EITHER.into_iter().for_each(the_command_has_no_privileges_by);
}

fn the_command_has_no_privileges_by(by: By) {
    needs_other_users();
    let host = Namespace::new();
    // As sudo does it. `daemon` is user and group 1 everywhere.
    let mut command = host.run_command(by, &waiting(&["80:8000"]));
    command.env("SUDO_UID", "1").env("SUDO_GID", "1").env("HOME", "/root").env("PORT", "9");
    let mut run = Run::start(by, &mut command);
    assert_eq!(run.line(), "ready");
    let status = std::fs::read_to_string(format!("/proc/{}/status", run.pid())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!((field("Uid:"), field("Gid:")), ("1 1 1 1".into(), "1 1 1 1".into()));
    assert_eq!((field("Groups:"), field("NoNewPrivs:")), ("1".into(), "1".into()));
    drop(run);

    // Named, and with the variables that go with it.
    let script = "echo ready; id -un; echo $USER $LOGNAME $PORTMAP_PORTS; echo $HOME";
    let mut run = host.start_run_by(by, &["80:8000", "--user", "nobody", "--", "sh", "-c", script]);
    assert_eq!(run.line(), "nobody");
    assert_eq!(run.line(), "nobody nobody 80/tcp:8000");
    assert_ne!(run.line(), "/root");

    let asked = host.portmap(["run", "80:8000", "--", "true"]).run();
    asked.fails_with(64).says("--user root");
    let unknown = host.portmap(["run", "80:8000", "--user", "no-such-user", "--", "true"]).run();
    unknown.fails_with(1).says("no user `no-such-user`");
    let unprivileged = host.portmap_unprivileged(["run", "80:8000", "--", "true"]).run();
    unprivileged.fails_with(1).says("CAP_NET_ADMIN");
}

/// At a terminal, another user's command cannot type what root's shell would read after it.
#[test]
fn the_command_has_neither_roots_keys_nor_a_way_to_type() {
    needs_other_users();
    let host = Namespace::new();
    let is_filtered = |status: &str| match status.split("Seccomp:\t").nth(1) {
        Some(mode) => !mode.starts_with('0'),
        None => false,
    };
    let own = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let setting = std::fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti");
    let lets_type = setting.map_or(true, |setting| setting.trim() != "0");
    let known = ["x86_64", "aarch64", "riscv64"].contains(&std::env::consts::ARCH);
    for (user, expected) in [("nobody", lets_type && known), ("root", false)] {
        let run = ["run", "80:8000", "--user", user, "--", "cat", "/proc/self/status"];
        let (status, said) = host.portmap(run).at_terminal().ends();
        assert_eq!(status, Some(0), "{said}");
        assert_eq!(is_filtered(&said), expected || is_filtered(&own), "{user}: {said}");
    }

    let run = ["run", "80:8000", "--user", "nobody", "--", "cat", "/proc/self/status"];
    for (error, ends) in [("ENOSYS", 0), ("EPERM", 0), ("EDQUOT", 1)] {
        let injected = host.portmap_injected("keyctl", &format!("error={error}"), "1+", run);
        let outcome = injected.hits();
        match ends {
            0 => outcome.succeeds(),
            _ => outcome.fails_with(1).says("begin without root's keys").says("/proc/key-users"),
        };
    }
    assert_eq!(host.tables(), [""; 0]);
}

#[test]
fn a_service_needs_one_capability_and_no_root() {
    let by = By::Kernel;
    needs_other_users();
    let host = Namespace::new();
    // As systemd does with `User=` and `AmbientCapabilities=CAP_NET_ADMIN`. The program is copied:
    // a user may not be able to reach the directory where it was built.
    let program = host.executable(PROGRAM, "portmap");
    let mut command = host.command("setpriv");
    command.args(["--reuid=1", "--regid=1", "--clear-groups", "--bounding-set=-all,+net_admin"]);
    command.args(["--inh-caps=-all,+net_admin", "--ambient-caps=+net_admin"]).arg(program);
    command.arg("run").args(waiting(&["80:8000"])).env("SUDO_UID", "7");
    let mut run = Run::start(by, command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    assert_eq!(run.line(), "ready");
    assert_eq!(host.tables(), [format!("portmap-run-{}", run.pid())]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", run.pid())).unwrap();
    for line in ["CapPrm:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line} in {status}");
    }
    assert!(status.contains("Uid:\t1\t1\t1\t1"), "{status}");
    drop(run);
    host.has_no_runs_soon();
}

/// `nft delete table inet NAME` as it is sent, for bash's printf.
fn deletion(name: &str) -> String {
    let message = |kind: u16, family: u8, resource: u16, body: &[u8]| {
        let mut bytes = (20 + body.len() as u32).to_ne_bytes().to_vec();
        // NLM_F_REQUEST | NLM_F_ACK
        bytes.extend([kind.to_ne_bytes(), 5u16.to_ne_bytes()].concat());
        bytes.extend([0; 8]);
        bytes.extend([family, 0]);
        bytes.extend(resource.to_be_bytes());
        bytes.extend(body);
        bytes
    };
    // NFTA_TABLE_NAME, padded
    let mut attribute = (4 + name.len() as u16 + 1).to_ne_bytes().to_vec();
    attribute.extend(1u16.to_ne_bytes());
    attribute.extend(name.bytes());
    attribute.push(0);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    // NFNL_MSG_BATCH_BEGIN, NFT_MSG_DELTABLE of the family inet, NFNL_MSG_BATCH_END; the
    // subsystem is NFNL_SUBSYS_NFTABLES.
    let batch = [
        message(0x10, 0, 10, &[]),
        message(10 << 8 | 2, 1, 0, &attribute),
        message(0x11, 0, 10, &[]),
    ];
    batch.concat().iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

#[test]
fn the_inherited_socket_is_of_no_use_to_the_command() {
    let by = By::Kernel;
    needs_other_users();
    let host = Namespace::new();
    if by.on(&host) != by {
        return;
    }
    // Finds the socket, sends what it is told to, and prints the error of the answer.
    let script = r#"
        for fd in /proc/self/fd/*; do
            case $(readlink $fd) in socket:*) fd=${fd##*/}; break; esac
        done
        echo ready; read -r message
        printf "$message" | dd bs=4096 iflag=fullblock >&$fd 2>/dev/null
        dd bs=4096 count=1 <&$fd 2>/dev/null | od -An -td4 -j16 -N4
        read end"#;
    // Root's own command may do what it likes, but not by what it writes without meaning it.
    for user in ["nobody", "root"] {
        let arguments = ["80:8000", "--user", user, "--", "bash", "-c", script];
        let mut run = host.start_run_by(by, &arguments);
        let table = format!("portmap-run-{}", run.pid());
        let message = deletion(&table);
        writeln!(run.child.stdin.as_mut().unwrap(), "{message}").unwrap();
        assert_eq!(run.line().trim(), "-1", "as {user}");
        assert!(host.tables().contains(&table), "as {user}");
    }
}

#[test]
fn the_command_learns_its_port() {
    EITHER.into_iter().for_each(the_command_learns_its_port_by);
}

fn the_command_learns_its_port_by(by: By) {
    let host = Namespace::new();
    host.apply("ports: { 80: 3000, 81: 3001 }");
    let _busy = host.serve("busy", 3002);
    let show = "echo ready; echo ${PORT-none} $PORTMAP_PORTS";
    let seen = |mappings: &[&str], port: Option<&str>| {
        let arguments = [mappings, &["--user", "root", "--", "sh", "-c", show]].concat();
        let mut command = host.run_command(by, &arguments);
        if let Some(port) = port {
            command.env("PORT", port);
        }
        let mut run = Run::start(by, &mut command);
        assert_eq!(run.line(), "ready");
        let line = run.line();
        run.ends();
        host.has_no_runs_soon();
        line
    };
    assert_eq!(seen(&["443:8443"], None), "8443 443/tcp:8443");
    assert_eq!(seen(&["443:8443"], Some("9")), "9 443/tcp:8443");
    assert_eq!(seen(&["443:8443"], Some("")), "8443 443/tcp:8443");
    // Neither mapped nor in use.
    assert_eq!(seen(&["443"], None), "3003 443/tcp:3003");
    assert_eq!(seen(&["443"], Some("9000")), "9000 443/tcp:9000");
    assert_eq!(seen(&["443", "8443"], None), "none 443/tcp:3003 8443/tcp:3004");
    assert_eq!(seen(&["53/tcp+udp:5353"], None), "5353 53/tcp:5353 53/udp:5353");
    assert_eq!(seen(&["600-603"], None), "none 600-603/tcp:3003-3006");
    // Not where outgoing connections get their ports.
    host.sysctl("net/ipv4/ip_local_port_range", "3000 60999");
    assert_eq!(seen(&["443"], None), "61000 443/tcp:61000");

    let wrong = host.portmap(["run", "443", "npm", "--user", "root", "--", "start"]).run();
    wrong.fails_with(64).says("`npm` is not a mapping").says("`--`");
    let wrong = host.portmap(["run", "443:0", "--user", "root", "--", "true"]).run();
    wrong.fails_with(1).says("argument 1:5");
}

#[test]
fn a_run_takes_precedence_and_is_left_alone() {
    EITHER.into_iter().for_each(a_run_takes_precedence_and_is_left_alone_by);
}

fn a_run_takes_precedence_and_is_left_alone_by(by: By) {
    let world = World::new();
    let (host, client) = (&world.host, &world.client);
    let _apps = [host.serve("file", 3000), host.serve("run", 8000), host.serve("new", 3001)];
    host.apply("ports: { 80: 3000, 80/udp: 3000 }");
    let ask = || [client.tcp_ask("192.0.2.1:80"), host.tcp_ask("[::1]:80")];
    let udp = client.udp_client(5000, "192.0.2.1:80");
    assert_eq!((ask(), udp.ask()), ([answer("file"), answer("file")], answer("file")));

    let mut command = host.run_command(by, &waiting(&["80:8000", "80/udp:8000", "--user", "root"]));
    let mut run = Run::start(by, command.stderr(Stdio::piped()));
    assert_eq!(run.line(), "ready");
    let mut stderr = BufReader::new(run.child.stderr.take().unwrap()).lines();
    assert!(stderr.any(|said| said.unwrap().contains("precedence over 80/tcp -> 3000")));
    let table = format!("portmap-run-{}", run.pid());

    // The same client too, though connection tracking knows it.
    assert_eq!((ask(), udp.ask()), ([answer("run"), answer("run")], answer("run")));
    host.apply("ports: { 80: 3001 }");
    host.portmap(["apply", "80:3000", "--confirm", "60s"]).run().succeeds();
    host.portmap(["rollback"]).run().succeeds();
    host.portmap(["rollback"]).run().succeeds();
    assert_eq!(ask(), [answer("run"), answer("run")]);
    host.portmap(["clear"]).run().succeeds();
    if by.on(host) == By::Kernel {
        host.nft("flush ruleset");
    }
    assert_eq!(ask(), [answer("run"), answer("run")]);
    assert_eq!(host.tables(), [table.as_str()]);
    let shown = host.portmap(["status"]).run().succeeds();
    assert!(shown.stdout.contains("sh -c echo ready; read end"), "{shown}");

    host.apply("ports: { 80: 3001 }");
    run.ends();
    host.has_no_runs_soon();
    assert_eq!(ask(), [answer("new"), answer("new")]);
}

#[test]
fn a_port_belongs_to_one_run() {
    EITHER.into_iter().for_each(a_port_belongs_to_one_run_by);
}

fn a_port_belongs_to_one_run_by(by: By) {
    let host = Namespace::new();
    let first = host.start_run_by(by, &waiting(&["80:8000", "--user", "root"]));
    let second = host.portmap(["run", "79-80:8001-8002", "--user", "root", "--", "true"]).run();
    let second = second.fails_with(1).says(&format!("process {}", first.pid()));
    second.says("sh -c echo ready; read end").says(&format!("`kill {}`", first.pid()));
    let other = host.start_run_by(by, &waiting(&["80/udp:8000", "--user", "root"]));
    assert_eq!(host.tables().len(), 2);
    drop((first, other));
    host.has_no_runs_soon();

    // However they race: all begin at once, and exactly one has it. They are started by this
    // thread, as a command dies with the one that started it.
    let start = |_| Run::start(by, &mut host.run_command(by, &waiting(&["80", "--user", "root"])));
    let all: Vec<_> = (0..8).map(start).collect();
    let begun: Vec<_> =
        all.into_iter().filter_map(|mut run| (run.line() == "ready").then_some(run)).collect();
    assert_eq!((begun.len(), host.tables().len()), (1, 1));
}

/// The process that watches over the mapping of a run. It keeps no file by which it could be found,
/// but its environment names the host's directory, and it is in a session of its own.
#[track_caller]
fn supervisor(host: &Namespace) -> Pid {
    let dir = host.dir().as_os_str().as_bytes();
    let is_ours = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let named = environment.windows(dir.len()).any(|part| part == dir);
        // ppid and session are the second and the fourth behind the name.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let session = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(3));
        named
            && session.is_some_and(|session| session != std::process::id().to_string())
            && session != own_session().as_deref()
    };
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let found: Vec<i32> = pids.filter(is_ours).collect();
    let [pid] = found[..] else { panic!("{found:?}") };
    Pid::from_raw(pid)
}

fn own_session() -> Option<String> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(3).map(str::to_owned)
}

#[test]
fn a_supervisor_has_one_privilege_and_nothing_else() {
    let host = Namespace::new();
    let mut run = host.run_command(By::Supervisor, &waiting(&["80:8000", "--user", "root"]));
    let mut run = Run::start(By::Supervisor, run.stderr(Stdio::piped()).process_group(0));
    assert_eq!(run.line(), "ready");
    let mut said = BufReader::new(run.child.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("Linux 5.12")));

    let supervisor = supervisor(&host);
    let status = fs::read_to_string(format!("/proc/{supervisor}/status")).unwrap();
    // CAP_NET_ADMIN is 12.
    for line in ["CapPrm:\t0000000000001000", "CapEff:\t0000000000001000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line} in {status}");
    }
    let open = fs::read_dir(format!("/proc/{supervisor}/fd")).unwrap().flatten();
    let mut open: Vec<_> = open.map(|entry| fs::read_link(entry.path()).unwrap()).collect();
    open.sort();
    let [null @ .., line] = &open[..] else { panic!("{open:?}") };
    assert!(line.to_str().unwrap().starts_with("socket:["), "{open:?}");
    assert_eq!(
        (null.len(), null.iter().all(|file| file.as_os_str() == "/dev/null")),
        (3, true),
        "{open:?}"
    );

    // What is meant for the command and its group does not reach it.
    for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGTERM] {
        kill(supervisor, signal).unwrap();
    }
    assert_eq!(host.tables().len(), 1);
    killpg(Pid::from_raw(run.pid() as i32), Signal::SIGTERM).unwrap();
    run.ends();
    host.has_no_runs_soon();
    wait_until("the supervisor has ended", || kill(supervisor, None).is_err());
}

#[test]
fn what_a_killed_supervisor_leaves_over_is_said_and_removed() {
    let host = Namespace::new();
    host.apply("ports: { 90: 3000 }");
    let left_over = || {
        let arguments = waiting(&["80:8000", "--user", "root"]);
        let run = host.start_run_by(By::Supervisor, &arguments);
        kill(supervisor(&host), Signal::SIGKILL).unwrap();
        // The mapping lives on with its command all the same.
        host.apply("ports: { 90: 3000 }");
        assert_eq!(host.status()["runs"][0]["left_over"], false);
        let refused = host.portmap(["run", "80:8001", "--user", "root", "--", "true"]).run();
        refused.fails_with(1).says(&format!("process {}", run.pid()));
        let table = format!("portmap-run-{}", run.pid());
        run.kill(Signal::SIGKILL);
        run.ends();
        let status = host.status();
        assert_eq!(status["runs"][0]["left_over"], true, "{status}");
        assert_eq!(status["runs"][0]["processes"], serde_json::json!([]));
        let text = host.portmap(["status"]).run().succeeds();
        text.says(&format!("{table} is left over"));
        table
    };
    let rules = host.file("rules.yaml", "ports: { 90: 3000 }");
    for command in [
        &["apply", rules.to_str().unwrap()][..],
        &["run", "80:8001", "--user", "root", "--", "true"],
        &["clear"],
    ] {
        let table = left_over();
        let done = host.portmap(command).run().succeeds();
        done.says(&format!("{table} is removed"));
        assert!(!host.tables().contains(&table), "{command:?}");
    }
}

#[test]
fn a_table_that_is_only_called_as_one_of_ours_is_told_and_left_alone() {
    let host = Namespace::new();
    host.apply("ports: { 90: 3000 }");
    host.nft(
        "add table inet portmap-run-5; add chain inet portmap-run-5 c { type nat hook prerouting \
         priority -111; }; add rule inet portmap-run-5 c tcp dport 81 redirect to :4000",
    );
    let before = host.nft("list table inet portmap-run-5");
    let status = host.portmap(["status"]).run().succeeds();
    assert!(!status.stderr.contains("left over"), "{status}");
    status.says("not of portmap's making").says("`nft delete table inet portmap-run-5`");
    assert_eq!(host.status()["runs"][0]["left_over"], false);
    host.apply("ports: { 90: 3000 }");
    host.portmap(["run", "82:8000", "--user", "root", "--", "true"]).run().succeeds();
    host.portmap(["clear"]).run().succeeds();
    assert_eq!(host.nft("list table inet portmap-run-5"), before);
}

/// A table that goes with its socket moves no generation.
#[test]
fn what_goes_while_it_is_read_is_no_error() {
    let host = Namespace::new();
    if By::Kernel.on(&host) != By::Kernel {
        return;
    }
    host.apply("ports: { 90: 3000 }");
    let port = |number| Port::new(number).unwrap();
    let service = Service { protocol: Protocol::Tcp, port: port(80) };
    let mapping = MappingSet::new(vec![Mapping::new(service, Target::new(port(3000)))]);
    let steps = plan(Some(&desired(&mapping, None, None)), None);
    let come_and_go = || {
        // Each by a name of its own: a process that another test is about to start may hold the
        // socket of the last one for a moment.
        for nth in 1..=300 {
            let id = RunId { pid: 7, nth };
            let table = RunTable { id, command: None, lifetime: Lifetime::Socket };
            let mut kernel = Netlink::open().unwrap();
            let generation = kernel.generation().unwrap();
            kernel.hold(&table, &steps, generation).unwrap();
        }
    };
    let read = || {
        let mut kernel = Netlink::open()?;
        for run in kernel.runs()?.runs {
            assert_eq!(run.mapping(), mapping);
        }
        kernel.translations_of_others().map(drop)
    };
    host.run(|| {
        thread::scope(|scope| {
            let others = scope.spawn(come_and_go);
            let mut outcome = Ok(());
            while outcome.is_ok() && !others.is_finished() {
                outcome = read();
            }
            outcome
        })
    })
    .unwrap();
}

#[test]
fn a_mapping_is_gone_with_its_command() {
    EITHER.into_iter().for_each(a_mapping_is_gone_with_its_command_by);
}

/// How soon, `make bench` measures.
fn a_mapping_is_gone_with_its_command_by(by: By) {
    let host = Namespace::new();
    let is_gone = |death: &str| {
        host.run(|| {
            let mut kernel = Netlink::open().unwrap();
            let what = format!("{by:?}, {death}: the mapping is gone");
            wait_until(&what, || kernel.runs().unwrap().runs.is_empty());
        });
    };
    for death in ["exit", "SIGKILL"] {
        let mut run = host.start_run_by(by, &waiting(&["80:8000", "--user", "root"]));
        match death {
            "exit" => drop(run.child.stdin.take()),
            _ => run.kill(Signal::SIGKILL),
        }
        run.ends();
        is_gone(death);
    }
    let left = "setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo ready; echo $!";
    let arguments = ["80:8000", "--user", "root", "--", "sh", "-c", left];
    let mut run = host.start_run_by(by, &arguments);
    let child = Pid::from_raw(run.line().parse().unwrap());
    run.ends();
    kill(child, Signal::SIGKILL).unwrap();
    is_gone("of a daemonised child");
}
