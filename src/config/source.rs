//! Files, directories and standard input to [`Source`]s: the only part of this room that opens
//! anything. Nothing here blocks on a path that is no regular file.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::{Gid, Group, Uid, User};

use crate::diagnostic::{Diagnostic, Place, Position};
use crate::mapping::{Port, Protocol};

use super::{Facts, Source};

/// The largest file that is read, in bytes.
pub const SIZE_MAX: u64 = 16 << 20;

/// What is read if no file is named.
pub const DIRECTORY: &str = "/etc/portmap";

/// Who runs portmap, which decides whose files are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The effective user. Only for root, 0, are files checked: anyone else can do no harm.
    pub user: u32,
    /// Who asked root to run it; their files are believed as well.
    pub invoked_by: Option<u32>,
}

impl Caller {
    /// This process; the one who invoked it by sudo(8)'s `SUDO_UID`.
    pub fn current() -> Self {
        let invoked_by = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
        Self { user: Uid::effective().as_raw(), invoked_by }
    }

    fn believes(self, owner: u32) -> bool {
        owner == 0 || Some(owner) == self.invoked_by
    }
}

/// What could be read, and what is wrong with the rest.
#[derive(Debug, Default)]
pub struct Gathered {
    pub sources: Vec<Source>,
    /// Errors, in the order of the arguments.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads files, the `*.yaml` and `*.yml` of directories in lexical order, and standard input for
/// `-`; [`DIRECTORY`] if nothing is named.
pub fn gather(arguments: &[PathBuf], caller: Caller) -> Gathered {
    gather_or(arguments, Path::new(DIRECTORY), caller)
}

/// [`gather`] with another directory than [`DIRECTORY`].
pub fn gather_or(arguments: &[PathBuf], directory: &Path, caller: Caller) -> Gathered {
    let mut gatherer = Gatherer { caller, seen: HashMap::new(), gathered: Gathered::default() };
    if arguments.is_empty() {
        gatherer.default_directory(directory);
    }
    for argument in arguments {
        gatherer.argument(argument);
    }
    gatherer.gathered
}

struct Gatherer {
    caller: Caller,
    /// The name under which a file was read first, by device and inode.
    seen: HashMap<(u64, u64), String>,
    gathered: Gathered,
}

/// Where standard input is counted as seen; no file has inode 0.
const STDIN: (u64, u64) = (0, 0);

type Outcome<T> = Result<T, Box<Diagnostic>>;

impl Gatherer {
    fn default_directory(&mut self, directory: &Path) {
        if fs::metadata(directory).is_ok() {
            return self.argument(directory);
        }
        let name = directory.display();
        let message = "no file is named, and the directory read in that case does not exist";
        let help = format!(
            "name a file, or begin with:\n  mkdir {name} && printf 'ports:\\n  80: 3000\\n' > {name}/web.yaml"
        );
        self.gathered.diagnostics.push(*whole(&name.to_string(), message).help_boxed(help));
    }

    fn argument(&mut self, path: &Path) {
        let name = path.display().to_string();
        let outcome = match path.as_os_str().as_bytes() {
            b"-" | b"/dev/stdin" => self.stdin(),
            _ => match fs::metadata(path) {
                Ok(metadata) if metadata.is_dir() => return self.directory(path, &name),
                Ok(metadata) => self.file(path, &name, &metadata),
                Err(error) => Err(cannot("open", &name, &error)),
            },
        };
        self.take(outcome);
    }

    fn take(&mut self, outcome: Outcome<Source>) {
        match outcome {
            Ok(source) => self.gathered.sources.push(source),
            Err(diagnostic) => self.gathered.diagnostics.push(*diagnostic),
        }
    }

    fn directory(&mut self, path: &Path, name: &str) {
        let files = match rule_files(path) {
            Ok(files) => files,
            Err(error) => return self.take(Err(cannot("read", name, &error))),
        };
        if files.is_empty() {
            let diagnostic = whole(name, "the directory has no `*.yaml` or `*.yml` in it")
                .help_boxed("put a file there, or name another; subdirectories are not read");
            return self.take(Err(diagnostic));
        }
        for file in files {
            let name = file.display().to_string();
            let outcome = match fs::metadata(&file) {
                Ok(metadata) => self.file(&file, &name, &metadata),
                Err(error) => Err(cannot("open", &name, &error)),
            };
            self.take(outcome);
        }
    }

    fn stdin(&mut self) -> Outcome<Source> {
        let name = "<stdin>";
        if self.seen.insert(STDIN, name.into()).is_some() {
            return Err(whole(name, "standard input is named twice"));
        }
        let bytes = read_limited(io::stdin().lock(), name)?;
        from_bytes(name, bytes)
    }

    fn file(&mut self, path: &Path, name: &str, metadata: &Metadata) -> Outcome<Source> {
        let is_handed_over = is_own_descriptor(path);
        let may_block = is_handed_over && metadata.file_type().is_fifo();
        if !may_block {
            check_kind(metadata, name)?;
        }
        let mut options = OpenOptions::new();
        let nonblock = if may_block { OFlag::empty() } else { OFlag::O_NONBLOCK };
        options.read(true).custom_flags((nonblock | OFlag::O_CLOEXEC | OFlag::O_NOCTTY).bits());
        let file = options.open(path).map_err(|error| cannot("open", name, &error))?;
        let metadata = file.metadata().map_err(|error| cannot("look at", name, &error))?;
        if !may_block {
            check_kind(&metadata, name)?;
        }
        let identity = (metadata.dev(), metadata.ino());
        if let Some(first) = self.seen.insert(identity, name.into()) {
            return Err(whole(name, &format!("this is the same file as {first}"))
                .help_boxed("name it once"));
        }
        if !is_handed_over {
            self.check_trust(&file, path, name, &metadata)?;
        }
        from_bytes(name, read_limited(file, name)?)
    }

    /// As root: whoever can write the file decides where root sends this host's connections.
    fn check_trust(
        &self,
        file: &File,
        path: &Path,
        name: &str,
        metadata: &Metadata,
    ) -> Outcome<()> {
        if self.caller.user != 0 {
            return Ok(());
        }
        let real = real_path(file, path).map_err(|error| cannot("resolve", name, &error))?;
        self.check_owner(name, &real, metadata)?;
        if let Some(who) = foreign_writers(metadata) {
            let help = format!("run `chmod {} {}`", who.chmod(), real.display());
            return Err(whole(name, &format!("{} may write the file", who.name())).help_boxed(help));
        }
        let directory = real.parent().unwrap_or(Path::new("/"));
        let metadata = fs::metadata(directory).map_err(|error| cannot("look at", name, &error))?;
        self.check_owner(name, directory, &metadata)?;
        // In a sticky directory, such as /tmp, only the owners of the file and of the directory
        // can replace it (inode(7)), and both are believed by now.
        let is_sticky = metadata.mode() & 0o1000 != 0;
        match foreign_writers(&metadata) {
            Some(who) if !is_sticky => {
                let shown = directory.display();
                let message = format!("{} may replace files in {shown}", who.name());
                let help = format!("run `chmod {} {shown}`, or move the file", who.chmod());
                Err(whole(name, &message).help_boxed(help))
            }
            _ => Ok(()),
        }
    }

    fn check_owner(&self, name: &str, path: &Path, metadata: &Metadata) -> Outcome<()> {
        let owner = metadata.uid();
        if self.caller.believes(owner) {
            return Ok(());
        }
        let user = User::from_uid(Uid::from_raw(owner)).ok().flatten();
        let user = user.map_or_else(|| format!("user {owner}"), |user| user.name);
        let shown = path.display();
        let message = format!("{shown} belongs to {user}, and root does not take orders from them");
        Err(whole(name, &message).help_boxed(format!("look at it, then run `chown root {shown}`")))
    }
}

/// Who else may write.
#[derive(Clone, Copy)]
enum Writers {
    Group,
    Others,
}

impl Writers {
    fn name(self) -> &'static str {
        match self {
            Writers::Group => "its group",
            Writers::Others => "everybody",
        }
    }

    fn chmod(self) -> &'static str {
        match self {
            Writers::Group => "g-w",
            Writers::Others => "go-w",
        }
    }
}

/// `None` if only the owner may write, be it through a group of which nobody else is a member,
/// as distributions make for each user together with the umask 002.
fn foreign_writers(metadata: &Metadata) -> Option<Writers> {
    match metadata.mode() {
        mode if mode & 0o002 != 0 => Some(Writers::Others),
        mode if mode & 0o020 != 0 && !is_private_group(metadata) => Some(Writers::Group),
        _ => None,
    }
}

fn is_private_group(metadata: &Metadata) -> bool {
    let user = User::from_uid(Uid::from_raw(metadata.uid())).ok().flatten();
    let group = Group::from_gid(Gid::from_raw(metadata.gid())).ok().flatten();
    let (Some(user), Some(group)) = (user, group) else { return false };
    user.gid == group.gid
        && user.name == group.name
        && group.mem.iter().all(|member| *member == user.name)
}

/// The path of what is open, whatever links led there or have changed since.
fn real_path(file: &File, path: &Path) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).or_else(|_| fs::canonicalize(path))
}

/// Whether `path` is a descriptor of this process, as a shell makes for `<(…)`: opened by the
/// user's shell, under the user's eyes. A named FIFO behind it is none, it could block.
fn is_own_descriptor(path: &Path) -> bool {
    let text = path.as_os_str().as_bytes();
    let of_process = [&b"/dev/fd/"[..], b"/proc/self/fd/"];
    let is_descriptor = of_process.iter().any(|prefix| text.starts_with(prefix));
    let number = path.file_name().map(Path::new);
    let Some(number) = number.filter(|_| is_descriptor) else { return false };
    let target = fs::read_link(Path::new("/proc/self/fd").join(number));
    target.is_ok_and(|target| {
        target.as_os_str().as_bytes().starts_with(b"pipe:[")
            || fs::metadata(target).is_ok_and(|metadata| metadata.is_file())
    })
}

fn check_kind(metadata: &Metadata, name: &str) -> Outcome<()> {
    let kind = metadata.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(whole(name, &format!("this is {what}, not a file"))
        .help_boxed(format!("to read from it, use standard input: `portmap … - < {name}`")))
}

fn rule_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"."));
        let extension = path.extension().map(OsStrExt::as_bytes);
        if !is_hidden && matches!(extension, Some(b"yaml" | b"yml")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_limited(reader: impl Read, name: &str) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut limited = reader.take(SIZE_MAX + 1);
    limited.read_to_end(&mut bytes).map_err(|error| cannot("read", name, &error))?;
    if bytes.len() as u64 > SIZE_MAX {
        let message = format!("the file is larger than {} MiB", SIZE_MAX >> 20);
        return Err(whole(name, &message).help_boxed("is this the right file?"));
    }
    Ok(bytes)
}

/// The text in `bytes`, without a byte order mark; it must be UTF-8.
fn from_bytes(name: &str, mut bytes: Vec<u8>) -> Outcome<Source> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(whole(name, "the file is UTF-16, not UTF-8")
            .help_boxed(format!("convert it: `iconv -f UTF-16 -t UTF-8 {name}`")));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source { name: name.into(), text }),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            Err(not_utf8(name, error.as_bytes(), valid))
        }
    }
}

fn not_utf8(name: &str, bytes: &[u8], valid: usize) -> Box<Diagnostic> {
    let start = bytes[..valid].iter().rposition(|&b| b == b'\n').map_or(0, |newline| newline + 1);
    let line = bytes[..start].iter().filter(|&&b| b == b'\n').count() as u32 + 1;
    let before = String::from_utf8_lossy(&bytes[start..valid]);
    let rest = &bytes[start..bytes.len().min(valid + 256)];
    let column = before.chars().count() as u32 + 1;
    let position = Position::new(&String::from_utf8_lossy(rest), before.len(), line, column, 1);
    let place = Place { file: name.into(), position: Some(position) };
    let message = format!("byte 0x{:02x} here is not UTF-8", bytes[valid]);
    Box::new(Diagnostic::error(Some(place), message).help("save the file as UTF-8"))
}

fn whole(name: &str, message: &str) -> Box<Diagnostic> {
    Box::new(Diagnostic::error(Some(Place::of_file(name)), message))
}

trait HelpBoxed {
    fn help_boxed(self, help: impl Into<String>) -> Self;
}

impl HelpBoxed for Box<Diagnostic> {
    fn help_boxed(self, help: impl Into<String>) -> Self {
        Box::new((*self).help(help))
    }
}

fn cannot(verb: &str, name: &str, error: &io::Error) -> Box<Diagnostic> {
    whole(name, &format!("cannot {verb}: {error}"))
}

/// What the kernel says of its ports; what cannot be read is taken to be the default.
pub fn facts() -> Facts {
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok();
    let numbers = |name| -> Option<Vec<u16>> {
        read(name)?.split_whitespace().map(|number| number.parse().ok()).collect()
    };
    let mut facts = Facts::default();
    if let Some([low, high]) = numbers("ip_local_port_range").as_deref() {
        facts.ephemeral = *low..=*high;
    }
    if let Some([start]) = numbers("ip_unprivileged_port_start").as_deref() {
        facts.unprivileged_start = *start;
    }
    facts
}

/// The services database, services(5), read when first asked. Only the file: names that NSS would
/// find elsewhere are not known.
pub struct Services {
    path: PathBuf,
    names: OnceCell<HashMap<(String, Protocol), Port>>,
}

impl Services {
    pub const PATH: &str = "/etc/services";

    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), names: OnceCell::new() }
    }

    /// `None` also if there is no such file.
    pub fn lookup(&self, name: &str, protocol: Protocol) -> Option<Port> {
        let read = || services(&fs::read_to_string(&self.path).unwrap_or_default());
        self.names.get_or_init(read).get(&(name.to_owned(), protocol)).copied()
    }
}

impl Default for Services {
    fn default() -> Self {
        Self::new(Self::PATH)
    }
}

/// Lines of `name port/protocol alias…  # comment`; the first of a name counts.
fn services(text: &str) -> HashMap<(String, Protocol), Port> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or("").split_whitespace();
        let (Some(name), Some(port)) = (words.next(), words.next()) else { continue };
        let Some((port, protocol)) = port.split_once('/') else { continue };
        let port = port.parse().ok().and_then(Port::new);
        let (Some(port), Ok(protocol)) = (port, protocol.parse()) else { continue };
        for name in std::iter::once(name).chain(words) {
            names.entry((name.to_owned(), protocol)).or_insert(port);
        }
    }
    names
}
