//! Files, directories and standard input to [`Source`]s: the only part of this room that opens
//! anything. Nothing here blocks on a path that is no regular file.

use std::collections::HashMap;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::diagnostic::{Diagnostic, Place, Position};

use super::trust::Caller;
use super::{Facts, Source};

/// The largest file that is read, in bytes.
pub const SIZE_MAX: u64 = 16 << 20;

/// What is read if no file is named.
pub const DIRECTORY: &str = "/etc/portmap";

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

pub(super) type Outcome<T> = Result<T, Diagnostic>;

impl Gatherer {
    fn default_directory(&mut self, directory: &Path) {
        if fs::metadata(directory).is_ok() {
            return self.argument(directory);
        }
        let name = directory.display();
        let message = "no file is named, and the directory read in that case does not exist";
        let help = format!(
            "name a file, or begin with one: `mkdir {name} && printf 'ports:\\n  80: 3000\\n' > \
             {name}/web.yaml`"
        );
        self.gathered.diagnostics.push(whole(&name.to_string(), message).help(help));
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
            Err(diagnostic) => self.gathered.diagnostics.push(diagnostic),
        }
    }

    fn directory(&mut self, path: &Path, name: &str) {
        let files = match rule_files(path) {
            Ok(files) => files,
            Err(error) => return self.take(Err(cannot("read", name, &error))),
        };
        if files.is_empty() {
            let diagnostic = whole(name, "the directory has no `*.yaml` or `*.yml` in it")
                .help("put a file there, or name another; subdirectories are not read");
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
            return Err(
                whole(name, &format!("this is the same file as {first}")).help("name it once")
            );
        }
        if !is_handed_over {
            self.caller.check(&file, path, name, &metadata)?;
        }
        from_bytes(name, read_limited(file, name)?)
    }
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
        .help(format!("to read from it, use standard input: `portmap … - < {name}`")))
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
        return Err(whole(name, &message).help("is this the right file?"));
    }
    Ok(bytes)
}

/// The text in `bytes`, without a byte order mark; it must be UTF-8.
fn from_bytes(name: &str, mut bytes: Vec<u8>) -> Outcome<Source> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(whole(name, "the file is UTF-16, not UTF-8")
            .help(format!("convert it: `iconv -f UTF-16 -t UTF-8 {name}`")));
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

fn not_utf8(name: &str, bytes: &[u8], valid: usize) -> Diagnostic {
    let start = bytes[..valid].iter().rposition(|&b| b == b'\n').map_or(0, |newline| newline + 1);
    let line = bytes[..start].iter().filter(|&&b| b == b'\n').count() as u32 + 1;
    let before = String::from_utf8_lossy(&bytes[start..valid]);
    let rest = &bytes[start..bytes.len().min(valid + 256)];
    let column = before.chars().count() as u32 + 1;
    let position = Position::new(&String::from_utf8_lossy(rest), before.len(), line, column, 1);
    let place = Place { file: name.into(), position: Some(position) };
    let message = format!("byte 0x{:02x} here is not UTF-8", bytes[valid]);
    Diagnostic::error(Some(place), message).help("save the file as UTF-8")
}

pub(super) fn whole(name: &str, message: &str) -> Diagnostic {
    Diagnostic::error(Some(Place::of_file(name)), message)
}

pub(super) fn cannot(verb: &str, name: &str, error: &io::Error) -> Diagnostic {
    let diagnostic = whole(name, &format!("cannot {verb}: {error}"));
    match error.kind() {
        io::ErrorKind::NotFound => {
            diagnostic.help(format!("check the name; with no file named, {DIRECTORY} is read"))
        }
        _ => diagnostic,
    }
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

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::atomic::{AtomicU32, Ordering};

    use nix::unistd::Uid;

    use super::*;

    /// A directory of its own for each test, removed in the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("portmap-source-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).expect("scratch directory");
            chmod(&path, 0o755);
            Self(path)
        }

        fn file(&self, name: &str, content: &[u8]) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, content).expect("scratch file");
            chmod(&path, 0o644);
            path
        }

        /// All that is said about `path`, without the directory's name.
        fn answer(&self, path: &Path, caller: Caller) -> String {
            let gathered = gather(&[path.to_owned()], caller);
            let said: Vec<_> = gathered.diagnostics.iter().map(ToString::to_string).collect();
            assert_eq!(said.is_empty(), !gathered.sources.is_empty());
            said.concat().replace(self.0.to_str().expect("UTF-8"), "DIR")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    }

    const ANYONE: Caller = Caller { user: 1000, invoked_by: None };

    /// Root, invoked by whoever runs the tests.
    fn root() -> Caller {
        Caller { user: 0, invoked_by: Some(Uid::effective().as_raw()) }
    }

    fn names(gathered: &Gathered) -> Vec<&str> {
        gathered.sources.iter().map(|source| source.text.as_str()).collect()
    }

    #[test]
    fn a_directory_is_read_in_lexical_order() {
        let dir = Scratch::new();
        for name in ["b.yaml", "a.yml", "c.txt", ".hidden.yaml", "B.yaml"] {
            dir.file(name, name.as_bytes());
        }
        let gathered = gather_or(&[], &dir.0, ANYONE);
        assert_eq!(names(&gathered), ["B.yaml", "a.yml", "b.yaml"]);
    }

    #[test]
    fn a_directory_without_rules_says_so() {
        let dir = Scratch::new();
        assert_eq!(
            dir.answer(&dir.0, ANYONE),
            "DIR: error: the directory has no `*.yaml` or `*.yml` in it\n\
             help: put a file there, or name another; subdirectories are not read\n"
        );
        let gathered = gather_or(&[], &dir.0.join("none"), ANYONE);
        let said = gathered.diagnostics[0].to_string();
        assert!(said.contains("no file is named"), "{said}");
        assert!(said.ends_with("none/web.yaml`\n"), "{said}");
    }

    #[test]
    fn what_is_no_file_is_refused_without_waiting() {
        let dir = Scratch::new();
        let fifo = dir.0.join("fifo.yaml");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).expect("mkfifo");
        assert_eq!(
            dir.answer(&fifo, ANYONE),
            "DIR/fifo.yaml: error: this is a FIFO, not a file\n\
             help: to read from it, use standard input: `portmap … - < DIR/fifo.yaml`\n"
        );
        let said = dir.answer(Path::new("/dev/zero"), ANYONE);
        assert!(said.contains("this is a device, not a file"), "{said}");
        fs::create_dir(dir.0.join("d.yaml")).expect("directory");
        let said = gather(std::slice::from_ref(&dir.0), ANYONE).diagnostics;
        assert_eq!(said[0].message, "this is a directory, not a file");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let dir = Scratch::new();
        let said = dir.answer(&dir.0.join("gone.yaml"), ANYONE);
        assert_eq!(
            said,
            "DIR/gone.yaml: error: cannot open: No such file or directory (os error 2)\n\
             help: check the name; with no file named, /etc/portmap is read\n"
        );
        symlink(dir.0.join("gone.yaml"), dir.0.join("link.yaml")).expect("symlink");
        let said = dir.answer(&dir.0, ANYONE);
        assert!(said.starts_with("DIR/link.yaml: error: cannot open"), "{said}");
    }

    #[test]
    fn size_is_limited_while_reading() {
        let dir = Scratch::new();
        let large = dir.file("large.yaml", b"");
        fs::File::options()
            .write(true)
            .open(&large)
            .and_then(|file| file.set_len(SIZE_MAX + 1))
            .expect("a sparse file");
        let said = dir.answer(&large, ANYONE);
        assert!(said.contains("the file is larger than 16 MiB"), "{said}");
    }

    #[test]
    fn only_utf_8_is_text() {
        let dir = Scratch::new();
        let said = dir.answer(&dir.file("a.yaml", b"ports:\n  80: \xff3000\n"), ANYONE);
        assert_eq!(
            said,
            "DIR/a.yaml:2:7: error: byte 0xff here is not UTF-8\n 2 |   80: \u{fffd}3000\n   |       ^\n\
             help: save the file as UTF-8\n"
        );
        let said = dir.answer(&dir.file("b.yaml", b"\xff\xfep\0o\0"), ANYONE);
        assert!(said.contains("UTF-16"), "{said}");
        let gathered = gather(&[dir.file("c.yaml", b"\xef\xbb\xbfports:")], ANYONE);
        assert_eq!(names(&gathered), ["ports:"]);
    }

    #[test]
    fn a_file_is_read_once() {
        let dir = Scratch::new();
        let file = dir.file("a.yaml", b"a");
        let gathered = gather(&[file.clone(), dir.0.clone()], ANYONE);
        assert_eq!(names(&gathered), ["a"]);
        let said = gathered.diagnostics[0].to_string();
        assert!(said.contains("this is the same file as"), "{said}");
    }

    #[test]
    fn root_refuses_what_others_may_write() {
        let dir = Scratch::new();
        let file = dir.file("a.yaml", b"a");
        assert_eq!(dir.answer(&file, root()), "");
        chmod(&file, 0o666);
        assert_eq!(dir.answer(&file, ANYONE), "");
        assert_eq!(
            dir.answer(&file, root()),
            "DIR/a.yaml: error: everybody may write the file\nhelp: run `chmod go-w DIR/a.yaml`\n"
        );
        chmod(&file, 0o644);
        chmod(&dir.0, 0o777);
        assert_eq!(
            dir.answer(&file, root()),
            "DIR/a.yaml: error: everybody may replace files in DIR\n\
             help: run `chmod go-w DIR`, or move the file\n"
        );
        chmod(&dir.0, 0o1777);
        assert_eq!(dir.answer(&file, root()), "");
    }

    #[test]
    fn root_looks_where_a_link_leads() {
        let (dir, other) = (Scratch::new(), Scratch::new());
        symlink(dir.file("a.yaml", b"a"), other.0.join("link.yaml")).expect("symlink");
        chmod(&dir.0, 0o777);
        let said = dir.answer(&other.0.join("link.yaml"), root());
        assert!(said.contains("everybody may replace files in DIR\n"), "{said}");
    }

    /// Needs to be root to give files away; otherwise there is nothing to see.
    #[test]
    fn root_refuses_what_belongs_to_others() {
        let dir = Scratch::new();
        let file = dir.file("a.yaml", b"a");
        if std::os::unix::fs::chown(&file, Some(12345), Some(12345)).is_err() {
            return;
        }
        let said = dir.answer(&file, root());
        assert_eq!(
            said,
            "DIR/a.yaml: error: DIR/a.yaml belongs to user 12345, and root does not take orders \
             from them\nhelp: look at it, then run `chown root DIR/a.yaml`\n"
        );
        let invoked = Caller { user: 0, invoked_by: Some(12345) };
        assert_eq!(dir.answer(&file, invoked), "");
        chmod(&file, 0o664);
        let said = dir.answer(&file, invoked);
        assert!(said.contains("its group may write the file"), "{said}");
    }

    #[test]
    fn a_pipe_of_the_shell_is_read() {
        use std::io::Write;
        use std::os::fd::OwnedFd;
        let (reader, mut writer) = io::pipe().expect("pipe");
        writer.write_all(b"ports:").expect("write");
        drop(writer);
        let reader = OwnedFd::from(reader);
        let path = PathBuf::from(format!("/dev/fd/{}", reader.as_raw_fd()));
        assert_eq!(names(&gather(&[path], root())), ["ports:"]);
    }
}
