//! The program under test, run on a host.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use super::Namespace;
use super::namespace::{feed, without_privileges};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_portmap");

/// A run that is being prepared.
pub struct Portmap {
    pub(super) command: Command,
    stdin: String,
    /// Keeps the program's file open until it has been executed.
    program: Option<File>,
}

impl Namespace {
    /// `portmap ARGUMENTS` on this host, with a state directory of this host's own.
    #[track_caller]
    pub fn portmap<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Portmap {
        self.prepare(PROGRAM, None).args(arguments)
    }

    /// The same as a user without privileges. The program is executed by descriptor: a user may
    /// not be able to reach the directory where it was built.
    #[track_caller]
    pub fn portmap_unprivileged<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Portmap {
        let program = File::open(PROGRAM).unwrap();
        let path = format!("/proc/self/fd/{}", program.as_raw_fd());
        let mut portmap = self.prepare(&path, Some(program));
        portmap.command.arg0("portmap");
        without_privileges(&mut portmap.command);
        portmap.args(arguments)
    }

    /// The same after commands for the shell, in a mount namespace of its own: `$STATE` is the
    /// state directory.
    #[track_caller]
    pub fn portmap_mounted<A: AsRef<OsStr>>(
        &self,
        mount: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Portmap {
        let script = format!("STATE=$PORTMAP_STATE_DIR; {mount}; exec \"$@\"");
        let unshare = ["--mount", "sh", "-ec", &script, "sh", PROGRAM];
        self.prepare("unshare", None).args(unshare).args(arguments)
    }

    /// Runs the same under strace(1), which does something to the `when`th call of `call` in each
    /// thread: `signal=KILL` before it is made, `error=EIO` in its place, `delay_enter=5` (microseconds).
    /// `when` may be more than a number, in the words of strace: `3..5`, `3+`.
    #[track_caller]
    pub fn portmap_injected<A: AsRef<OsStr>>(
        &self,
        call: &str,
        effect: &str,
        when: impl fmt::Display,
        arguments: impl IntoIterator<Item = A>,
    ) -> Injected {
        let outcome = self.portmap_to_inject(call, effect, &when, arguments).run();
        let (hit, log) = self.was_hit(&when);
        Injected { injection: format!("{call}:{effect}:when={when}"), outcome, hit, log }
    }

    /// The same, still to be started. Its signals other than KILL come after the call.
    #[track_caller]
    pub fn portmap_to_inject<A: AsRef<OsStr>>(
        &self,
        call: &str,
        effect: &str,
        when: impl fmt::Display,
        arguments: impl IntoIterator<Item = A>,
    ) -> Portmap {
        let strace = self.strace_that_injects(call, effect, when);
        self.prepare("strace", None).args(strace).args([PROGRAM]).args(arguments)
    }

    /// The words for strace(1) before those of the program.
    pub fn strace_that_injects(
        &self,
        call: &str,
        effect: &str,
        when: impl fmt::Display,
    ) -> Vec<OsString> {
        let calls = names_of(call);
        let (trace, inject) =
            (format!("trace={calls}"), format!("inject={calls}:{effect}:when={when}"));
        let words = ["-f", "-q", "-e", &trace, "-e", &inject, "-o"].map(OsString::from);
        words.into_iter().chain([self.strace_log().into_os_string()]).collect()
    }

    pub fn strace_log(&self) -> PathBuf {
        self.dir().join("strace.log")
    }

    /// Whether the last program under strace(1) came to the `when`th call, or the first of those
    /// that it means, and strace's log.
    #[track_caller]
    pub fn was_hit(&self, when: impl fmt::Display) -> (bool, String) {
        let when = when.to_string();
        let first = when.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        let when: usize = first.parse().expect("the number of a call");
        let log = fs::read_to_string(self.strace_log());
        let log = log.unwrap_or_else(|e| panic!("strace's log: {e}"));
        let marks = ["(INJECTED)", "(DELAYED)", "+++ killed by"];
        // A signal that is blocked leaves no mark. The first execve is strace's own.
        let mut counts: BTreeMap<_, usize> = BTreeMap::new();
        let is_own = |(nth, line): &(usize, &str)| *nth == 0 && line.contains("execve(");
        let lines = log.lines().enumerate().filter(|line| !is_own(line));
        for call in lines.filter_map(|(_, line)| line.split_once('(')) {
            *counts.entry(call.0).or_default() += 1;
        }
        let was_called = counts.values().any(|count| *count >= when);
        (was_called || marks.iter().any(|mark| log.contains(mark)), log)
    }

    /// Runs the same under strace(1), and returns all its system calls.
    #[track_caller]
    pub fn portmap_traced<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> (Outcome, String) {
        self.portmap_observed(&[], &[], arguments)
    }

    /// The same with options for strace, and variables.
    #[track_caller]
    pub fn portmap_observed<A: AsRef<OsStr>>(
        &self,
        options: &[&str],
        variables: &[(&str, &str)],
        arguments: impl IntoIterator<Item = A>,
    ) -> (Outcome, String) {
        let path = self.dir().join("strace.log");
        let mut portmap = self.prepare("strace", None);
        portmap.command.envs(variables.iter().copied());
        let portmap = portmap.args(options).args(["-f", "-q", "-o"]).args([&path]);
        let outcome = portmap.args([PROGRAM]).args(arguments).run();
        let log = fs::read_to_string(path);
        let log = log.unwrap_or_else(|e| panic!("strace's log: {e}: {outcome}"));
        (outcome, log)
    }

    /// Runs the same within a limit, in the words of prlimit(1).
    #[track_caller]
    pub fn portmap_limited<A: AsRef<OsStr>>(
        &self,
        limit: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Portmap {
        self.prepare("prlimit", None).args([limit, PROGRAM]).args(arguments)
    }

    #[track_caller]
    fn prepare(&self, path: &str, program: Option<File>) -> Portmap {
        let mut command = self.command(path);
        command.env("PORTMAP_STATE_DIR", self.dir().join("state"));
        command.env_remove("NO_COLOR").current_dir(self.dir());
        self.mount_own(&mut command);
        Portmap { command, stdin: String::new(), program }
    }

    /// Writes these rules to `rules.yaml`, applies them, and expects that to succeed.
    #[track_caller]
    pub fn apply(&self, rules: &str) -> Outcome {
        let file = self.file("rules.yaml", rules);
        self.portmap(["apply".as_ref(), file.as_os_str()]).run().succeeds()
    }

    /// The same without what is counted.
    #[track_caller]
    pub fn layout(&self) -> String {
        let list = ["--stateless", "list", "table", "inet", "portmap"];
        without_stamp(&self.output(self.command("nft").args(list), ""))
    }

    /// The generations, as `history -o json` lists them.
    #[track_caller]
    pub fn history(&self) -> serde_json::Value {
        let mut document = self.portmap(["history", "-o", "json"]).run().succeeds().json();
        document["generations"].take()
    }

    /// Number and state of each generation: `2 active, at boot`.
    #[track_caller]
    pub fn states(&self) -> Vec<String> {
        let history = self.history();
        let state = |g: &serde_json::Value| {
            let boot = if g["persisted"] == true { ", at boot" } else { "" };
            format!("{} {}{boot}", g["number"], g["state"].as_str().unwrap())
        };
        history.as_array().unwrap().iter().map(state).collect()
    }

    /// What `status -o json` prints.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        self.portmap(["status", "-o", "json"]).run().succeeds().json()
    }

    /// `nft list table inet portmap`, without the stamp: the comment that says which generation
    /// this is.
    #[track_caller]
    pub fn table(&self) -> String {
        without_stamp(&self.nft("list table inet portmap"))
    }

    /// The same by object, sorted: nft lists objects in the order in which they were made.
    #[track_caller]
    pub fn blocks(&self) -> Vec<String> {
        let table = without_expiry(&self.table());
        let body = table.split_once('\n').map_or("", |(_, body)| body);
        let mut blocks: Vec<_> = body.split("\n\t}\n").map(str::trim).map(str::to_owned).collect();
        blocks.sort();
        blocks
    }
}

/// The stamp stands at the end of a rule: ` comment "generation 12, ruleset 57, …"`.
fn without_stamp(listing: &str) -> String {
    let line = |line: &str| match line.find(" comment \"generation ") {
        Some(stamp) => format!("{}\n", &line[..stamp]),
        None => format!("{line}\n"),
    };
    listing.lines().map(line).collect()
}

/// What is left of a gate's time: ` expires 59s792ms`.
fn without_expiry(listing: &str) -> String {
    let mut parts = listing.split(" expires ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.find([',', ' ']).map_or("", |at| &part[at..]))
}

impl Portmap {
    fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// A variable of its environment.
    pub fn env(&mut self, name: &str, value: impl AsRef<OsStr>) -> &mut Self {
        self.command.env(name, value);
        self
    }

    /// One that it does not have.
    pub fn without_env(&mut self, name: &str) -> &mut Self {
        self.command.env_remove(name);
        self
    }

    /// What it reads from standard input; without this, nothing.
    pub fn stdin(mut self, text: &str) -> Self {
        self.stdin = text.to_owned();
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Outcome {
        self.start().wait()
    }

    /// Starts it, and returns at once.
    #[track_caller]
    pub fn start(self) -> Running {
        let Portmap { mut command, stdin, program } = self;
        let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        let line = format!("portmap {}", words.join(" "));
        let (send, output) = channel();
        thread::spawn(move || {
            let output = feed(&mut command, &stdin);
            drop(program);
            // Nobody receives if the test has given up.
            let _ = send.send(output);
        });
        Running { command: line, output }
    }
}

/// The same operation has other names on newer architectures, which have only the calls that take
/// a directory. strace passes over the names that it does not know (`?`).
fn names_of(call: &str) -> &str {
    match call {
        "chmod" => "?chmod,?fchmodat",
        "mkdir" => "?mkdir,?mkdirat",
        "rename" => "?rename,?renameat,?renameat2",
        "unlink" => "?unlink,?unlinkat",
        other => other,
    }
}

/// How a run ended that something was done to.
pub struct Injected {
    injection: String,
    pub outcome: Outcome,
    /// Whether the program came to the call. If not, the run was an ordinary one.
    pub hit: bool,
    /// The calls as strace shows them, a line each.
    log: String,
}

impl Injected {
    #[track_caller]
    pub fn hits(self) -> Outcome {
        assert!(self.hit, "{} was not hit: {}", self.injection, self.outcome);
        self.outcome
    }

    /// Which of its thread's calls sends the first transaction, counted as `when` is.
    #[track_caller]
    pub fn first_commit(&self) -> usize {
        let lines: Vec<_> = self.log.lines().filter(|line| line.contains("sendto(")).collect();
        let is_commit = |line: &&str| line.contains("NFNL_MSG_BATCH_BEGIN");
        let commit = lines.iter().position(is_commit).unwrap_or_else(|| panic!("{}", self.log));
        let thread = lines[commit].split(' ').next();
        lines[..=commit].iter().filter(|line| line.split(' ').next() == thread).count()
    }
}

/// A program that has not ended by then never will. On an emulated processor, 130,000 mappings take
/// half a minute.
const HANGS: Duration = Duration::from_secs(180);

/// A run under way.
pub struct Running {
    command: String,
    output: Receiver<Output>,
}

impl Running {
    #[track_caller]
    pub fn wait(self) -> Outcome {
        let Running { command, output } = self;
        let output = match output.recv_timeout(HANGS) {
            Ok(output) => output,
            Err(RecvTimeoutError::Timeout) => panic!("{command}: still runs after {HANGS:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("{command}: not started, see above"),
        };
        let text = |bytes| String::from_utf8(bytes).expect("portmap prints UTF-8");
        Outcome {
            command,
            code: output.status.code(),
            signal: output.status.signal(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// How a run ended.
pub struct Outcome {
    command: String,
    /// `None`: killed by a signal.
    pub code: Option<i32>,
    /// That one.
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { command, code, stdout, stderr, .. } = self;
        write!(f, "{command}: exit code {code:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

impl Outcome {
    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert!(self.code == Some(0), "expected to succeed: {self}");
        self
    }

    #[track_caller]
    pub fn fails_with(self, code: i32) -> Self {
        assert!(self.code == Some(code), "expected exit code {code}: {self}");
        self
    }

    /// Somewhere on stderr.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "expected `{text}` on stderr: {self}");
        self
    }

    /// The document on stdout.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("expected JSON on stdout: {e}: {self}"))
    }
}
