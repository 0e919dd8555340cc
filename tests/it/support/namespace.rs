//! A network namespace of a test's own. It has no name: it lives as long as somebody holds its
//! file descriptor, so nothing is left behind by a test that dies.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Write};
use std::mem::forget;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Output, Stdio};
use std::sync::{Arc, LazyLock};
use std::thread;

use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, setgid, setgroups, setsid, setuid};
use portmap::kernel::Kernel;
use portmap::kernel::Netlink;
use tempfile::TempDir;

pub struct Namespace {
    net: Arc<OwnedFd>,
    /// Files of this host: rules, portmap's state.
    dir: TempDir,
}

/// A new namespace; or why there is none, and what to do about it.
fn new_net() -> Result<OwnedFd, String> {
    on_fresh_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        File::open("/proc/thread-self/ns/net")
    })
    .map(OwnedFd::from)
    .map_err(|error: io::Error| {
        format!(
            "make a network namespace: {error}\n\
             help: run the tests as root, or as root of a user namespace: `unshare -Ur cargo test`\n\
             help: if `unshare -Ur` is refused too, look at the sysctls user.max_user_namespaces,\n\
             kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns"
        )
    })
}

/// Whether tests that need namespaces can run at all; if not, why, and what to do about it.
pub fn can_make_namespaces() -> Result<(), String> {
    new_net().map(drop)
}

/// Fails where no file can be given to another user: in an ordinary user's namespace only one is
/// mapped (user_namespaces(7)). `make test` leaves such tests out there, by the list in
/// tests/needs-root.
#[track_caller]
pub fn needs_other_users() {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let several = map.lines().any(|line| line.split_whitespace().nth(2) != Some("1"));
    assert!(several, "there is only one user here: run this test as root");
}

/// A thread's namespace is its own, and goes with it.
fn on_fresh_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(f).join()).unwrap_or_else(|panic| panic::resume_unwind(panic))
}

/// Moves the calling thread, for good, into the namespace at `path`.
pub fn enter(path: &Path) -> io::Result<()> {
    Ok(setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?)
}

impl Namespace {
    /// With `lo` up, and without the pauses that the kernel makes out of courtesy to others.
    #[track_caller]
    pub fn new() -> Self {
        let net = Arc::new(new_net().unwrap_or_else(|why| panic!("{why}")));
        let dir = tempfile::Builder::new()
            .prefix("portmap-test-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        let namespace = Self { net, dir };
        namespace.assert_private();
        // Duplicate address detection and limited ICMP errors: both would have to be waited for.
        // The limit for each peer is one thing, that for the whole namespace another (50 at once,
        // icmp_global_allow()); only types that no mask names are free of both.
        namespace.sysctl("net/ipv6/conf/default/accept_dad", "0");
        namespace.sysctl("net/ipv4/icmp_ratemask", "0");
        namespace.sysctl("net/ipv6/icmp/ratemask", "\n");
        namespace.ip("link set lo up");
        namespace
    }

    /// Panics if this is the namespace that the test binary was started in.
    #[track_caller]
    fn assert_private(&self) {
        let file = |path: &Path| fs::metadata(path).map(|m| (m.dev(), m.ino())).unwrap();
        // Of the main thread, which never changes its namespace.
        let initial = file(Path::new("/proc/self/ns/net"));
        assert_ne!(file(&self.path()), initial, "a test would work in the machine's own namespace");
    }

    /// For `ip link … netns PATH`: valid while this process and the namespace live.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.net.as_raw_fd()).into()
    }

    /// Runs `f` on a thread inside. Sockets that it returns stay in this namespace for good.
    #[track_caller]
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        on_fresh_thread(|| {
            setns(&self.net, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
            f()
        })
    }

    /// A command that will run inside, in plain English.
    #[track_caller]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.assert_private();
        let mut command = Command::new(program);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin")).env("LC_ALL", "C");
        let net = Arc::clone(&self.net);
        let log = machines_log();
        before_exec(&mut command, move || {
            setns(&net, CloneFlags::CLONE_NEWNET)?;
            log.map_or(Ok(()), hide)
        });
        command
    }

    /// Runs the command with this input, and returns what it printed. It must succeed.
    #[track_caller]
    pub fn output(&self, command: &mut Command, stdin: &str) -> String {
        let output = feed(command, stdin);
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{}: {}\n--- stdin\n{stdin}\n--- stdout\n{stdout}\n--- stderr\n{}",
            shown(command),
            output.status,
            String::from_utf8_lossy(&output.stderr),
        );
        stdout.into_owned()
    }

    /// Commands for `ip -batch`, one a line.
    #[track_caller]
    pub fn ip(&self, batch: &str) -> String {
        self.output(self.command("ip").args(["-batch", "-"]), batch)
    }

    /// By path below /proc/sys: an interface's name may contain the dot that sysctl(8) splits at.
    #[track_caller]
    pub fn sysctl(&self, path: &str, value: &str) {
        let path = Path::new("/proc/sys").join(path);
        self.run(|| fs::write(&path, value)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// One nft command, as on its command line: `list table inet portmap`.
    #[track_caller]
    pub fn nft(&self, command: &str) -> String {
        self.output(self.command("nft").arg(command), "")
    }

    /// The same, answered in JSON: the list of objects without the leading `metainfo`.
    #[track_caller]
    pub fn nft_json(&self, command: &str) -> Vec<serde_json::Value> {
        let text = self.output(self.command("nft").args(["-j", command]), "");
        let mut document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let serde_json::Value::Array(mut objects) = document["nftables"].take() else {
            panic!("not a list of objects: {text}");
        };
        objects.retain(|object| object.get("metainfo").is_none());
        objects
    }

    /// The counted connections of each element in the maps of ports: by map and key,
    /// `ports tcp . 80`.
    #[track_caller]
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let mut counters = BTreeMap::new();
        for object in self.nft_json("list table inet portmap") {
            let map = &object["map"];
            // Each element is a pair of key and data; a key with a counter or a comment is wrapped.
            for pair in map["elem"].as_array().into_iter().flatten() {
                let element = &pair[0]["elem"];
                let Some(packets) = element["counter"]["packets"].as_u64() else { continue };
                let key = &element["val"]["concat"];
                let (map, protocol) = (text(&map["name"]), text(&key[0]));
                counters.insert(format!("{map} {protocol} . {}", key[1]), packets);
            }
        }
        counters
    }

    /// A script for `nft -f`: one transaction.
    #[track_caller]
    pub fn nft_script(&self, script: &str) {
        self.output(self.command("nft").args(["-f", "-"]), script);
    }

    /// `list ruleset`: everything of everybody in this namespace.
    #[track_caller]
    pub fn ruleset(&self) -> String {
        self.nft("list ruleset")
    }

    /// The generation of the ruleset: the kernel adds one with every commit, by anyone. nft does
    /// not tell it. That it is true is a test among the kernel's facts.
    pub fn ruleset_generation(&self) -> u32 {
        self.run(|| Netlink::open().and_then(|mut kernel| kernel.generation()))
            .expect("ask for the generation of the ruleset")
    }

    /// The tracked flows, a line each, as conntrack(8) prints them.
    #[track_caller]
    pub fn conntrack_flows(&self) -> Vec<String> {
        self.conntrack(&["-L"]).lines().map(str::to_owned).collect()
    }

    /// Runs conntrack(8). It must succeed.
    #[track_caller]
    pub fn conntrack(&self, arguments: &[&str]) -> String {
        self.output(self.command("conntrack").args(arguments), "")
    }

    /// The directory of this host's files. Nobody but the owner may write there.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// An executable copy of a file, by a process of its own. While a thread of the tests has a
    /// file open for writing, a command that another thread starts at that moment has it open too,
    /// and until that is executed nobody else can execute the file (ETXTBSY of execve(2)).
    #[track_caller]
    pub fn executable(&self, from: impl AsRef<Path>, name: &str) -> PathBuf {
        let path = self.dir().join(name);
        let mut install = self.command("install");
        self.output(install.args(["-D", "-m", "755"]).arg(from.as_ref()).arg(&path), "");
        path
    }

    /// Writes a file that only its owner may write and everybody may read, and its directory.
    #[track_caller]
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir().join(name);
        let parent = path.parent().unwrap();
        fs::create_dir_all(parent).unwrap();
        fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path
    }
}

/// The socket of this machine's log, wherever /dev/log leads; `None` if it has none.
fn machines_log() -> Option<&'static CStr> {
    static LOG: LazyLock<Option<CString>> = LazyLock::new(|| {
        let socket = fs::canonicalize(LOG_SOCKET).ok()?;
        Some(CString::new(socket.into_os_string().into_vec()).expect("a path"))
    });
    LOG.as_deref()
}

/// Where programs expect the log to be (syslog(3)).
pub const LOG_SOCKET: &str = "/dev/log";

/// Puts something that takes no lines in the place of a socket, for this process and its children.
fn hide(socket: &CStr) -> io::Result<()> {
    const NONE: Option<&CStr> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, c"/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    Ok(mount(Some(c"/dev/null"), socket, NONE, MsFlags::MS_BIND, NONE)?)
}

/// Without the environment, which `Debug` would print as well.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Runs a command to its end, with this input.
#[track_caller]
pub fn feed(command: &mut Command, stdin: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("start {}: {e}", shown(command)));
    let mut pipe = child.stdin.take().unwrap();
    thread::scope(|scope| {
        // A program may end without reading its input: then this fails, and it is no matter.
        scope.spawn(move || pipe.write_all(stdin.as_bytes()));
        child.wait_with_output().unwrap()
    })
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

/// Makes the command run as `nobody`, without privileges.
///
/// In a user namespace that maps only root there is no nobody to become; there, a further user
/// namespace without any mapping takes all privileges over the network namespace away.
pub fn without_privileges(command: &mut Command) {
    const NOBODY: u32 = 65534;
    before_exec(command, || {
        let become_nobody = || {
            setgroups(&[])?;
            setgid(Gid::from_raw(NOBODY))?;
            setuid(Uid::from_raw(NOBODY))
        };
        Ok(become_nobody().or_else(|_| unshare(CloneFlags::CLONE_NEWUSER))?)
    });
}

/// Makes the terminal at `path` the one that the command belongs to: its Ctrl-C and its hangup
/// reach the command.
pub fn belonging_to(command: &mut Command, path: CString) {
    before_exec(command, move || {
        setsid()?;
        // The first terminal that a session without one opens becomes its own (tty(4)).
        Ok(open(path.as_c_str(), OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map(forget)?)
    });
}

/// `steps` may only make system calls that are safe after a fork (signal-safety(7)), and must not
/// allocate: other threads of the test may have held a lock at the fork.
pub(super) fn before_exec(
    command: &mut Command,
    mut steps: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    let steps = move || {
        steps()?;
        // As at login, also where the tests were started by nohup(1) or in the background.
        for ignored in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
            // SAFETY: no handler is set, and signal(2) is a system call.
            unsafe { signal(ignored, SigHandler::SigDfl) }?;
        }
        // A test that gives up takes its commands along. A change of user would undo this.
        Ok(set_pdeathsig(Signal::SIGKILL)?)
    };
    // SAFETY: the callers are in this directory, and do as they are told above; prctl(2) is a
    // system call.
    unsafe { command.pre_exec(steps) };
}
