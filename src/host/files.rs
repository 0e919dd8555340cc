//! The arguments of a command to [`Source`]s: files, directories, standard input, and mappings that
//! are written in place of a file. Nothing here blocks on a path that is not a regular file.

use std::collections::HashMap;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::formats::diagnostic::{Diagnostic, Place, Position};

use crate::formats::rules::{self, Facts, Shape, Source};
use crate::formats::shell_quoted;

use super::problem::{Outcome, cannot, whole};
use super::trust::Caller;

/// The largest file that is read, in bytes.
pub const SIZE_MAX: u64 = 16 << 20;

/// What is read if there is no argument.
pub const DIRECTORY: &str = "/etc/portmap";

/// What could be read, and what is wrong with the rest.
#[derive(Debug, Default)]
pub struct Gathered {
    pub sources: Vec<Source>,
    /// Errors, in the order of the arguments.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads files, the `*.yaml` and `*.yml` of directories in lexical order, and standard input for
/// `-`; [`DIRECTORY`] if there is no argument. What looks like a mapping is one, and not a path.
pub fn gather(arguments: &[PathBuf], caller: Caller) -> Gathered {
    gather_or(arguments, Path::new(DIRECTORY), caller)
}

/// [`gather`] with another directory than [`DIRECTORY`].
pub fn gather_or(arguments: &[PathBuf], directory: &Path, caller: Caller) -> Gathered {
    let mut gatherer = Gatherer { caller, seen: HashMap::new(), gathered: Gathered::default() };
    if arguments.is_empty() {
        gatherer.default_directory(directory);
    }
    for (index, argument) in arguments.iter().enumerate() {
        match mapping(argument) {
            Some(text) => gatherer.take(Ok(Source::argument(index + 1, text))),
            None => gatherer.path(argument),
        }
    }
    gatherer.gathered
}

/// The argument as a mapping, if it is one, or nearly one and not the name of a file.
fn mapping(argument: &Path) -> Option<&str> {
    let text = argument.to_str()?;
    match rules::shape(text) {
        Shape::Mapping => Some(text),
        Shape::Nearly => fs::symlink_metadata(argument).is_err().then_some(text),
        Shape::Path => None,
    }
}

struct Gatherer {
    caller: Caller,
    /// The name under which a file was read first, by device and inode.
    seen: HashMap<(u64, u64), String>,
    gathered: Gathered,
}

/// Where standard input is counted as seen; no file has inode 0.
const STDIN: (u64, u64) = (0, 0);

impl Gatherer {
    fn default_directory(&mut self, directory: &Path) {
        if fs::metadata(directory).is_ok() {
            return self.path(directory);
        }
        let message = "no file is given, and the default directory does not exist";
        let (name, file) = (shell_quoted(directory), shell_quoted(directory.join("web.yaml")));
        let help = format!(
            "name a file or a mapping, as in `80:3000`; or create one: `mkdir {name} && printf \
             'ports:\\n  80: 3000\\n' > {file}`"
        );
        self.gathered.diagnostics.push(whole(&directory.display().to_string(), message).help(help));
    }

    fn path(&mut self, path: &Path) {
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
            let diagnostic = whole(name, "the directory has no `*.yaml` or `*.yml` file")
                .help("add a file, or name another directory; subdirectories are not read");
            return self.take(Err(diagnostic));
        }
        for file in files {
            let name = file.display().to_string();
            let outcome = match fs::metadata(&file) {
                Ok(metadata) if metadata.is_dir() => Err(subdirectory(&name)),
                Ok(metadata) => self.file(&file, &name, &metadata),
                Err(error) => Err(cannot("open", &name, &error)),
            };
            self.take(outcome);
        }
    }

    fn stdin(&mut self) -> Outcome<Source> {
        let name = "<stdin>";
        if self.seen.insert(STDIN, name.into()).is_some() {
            return Err(whole(name, "standard input is given twice"));
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
        let metadata =
            file.metadata().map_err(|error| cannot("read the attributes of", name, &error))?;
        if !may_block {
            check_kind(&metadata, name)?;
        }
        let identity = (metadata.dev(), metadata.ino());
        if let Some(first) = self.seen.insert(identity, name.into()) {
            return Err(
                whole(name, &format!("this is the same file as {first}")).help("give it once")
            );
        }
        if !is_handed_over {
            self.caller.check(&file, path, name, &metadata)?;
        }
        from_bytes(name, read_limited(file, name)?)
    }
}

/// Whether `path` is a descriptor of this process, as a shell makes for `<(…)`: opened by the
/// user's shell. A named FIFO is not one, as it could block.
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
    let path = shell_quoted(name);
    Err(whole(name, &format!("this is {what}, not a file"))
        .help(format!("to read from it, use standard input: `portmap … - < {path}`")))
}

fn subdirectory(name: &str) -> Diagnostic {
    whole(name, "this is a directory, not a file").help(
        "subdirectories are not read: move its files up, name it as an argument of its own, or \
         rename it to end differently",
    )
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
            .help(format!("convert it: `iconv -f UTF-16 -t UTF-8 {} > NEW`", shell_quoted(name))));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source::file(name, text)),
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
    let position =
        Position::new(&String::from_utf8_lossy(rest), before.len(), Some(line), column, 1);
    let place = Place { file: name.into(), position: Some(position) };
    let message = format!("byte 0x{:02x} is not valid UTF-8", bytes[valid]);
    Diagnostic::error(Some(place), message).help("save the file as UTF-8")
}

/// The port ranges that the kernel is set to; its defaults where they cannot be read.
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
mod tests;
