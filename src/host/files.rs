//! The arguments of a command to [`Source`]s: files, directories, standard input, and mappings that
//! are written in place of a file. Nothing here blocks on a path that is not a regular file.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::formats::diagnostic::{Diagnostic, Place, Position};

use crate::formats::rules::{self, Facts, Shape, Source};
use crate::formats::shell_quoted;

use super::dir;
use super::path::{self, Found};
use super::problem::{Outcome, cannot, whole};
use super::sysctls;
use super::trust::{Caller, Distrust};

/// The largest file that is read, in bytes.
pub const SIZE_MAX: u64 = 16 << 20;

/// As many are read in all, in bytes.
pub const TOTAL_MAX: u64 = 4 * SIZE_MAX;

/// A copy of the descriptor of this process that has the number. Of the same opening: what is opened
/// anew is opened with the rights of this process, and not of who has opened it before.
pub type Given<'g> = &'g dyn Fn(u32) -> io::Result<OwnedFd>;

/// What messages call standard input.
pub const STDIN: &str = "<stdin>";

/// What is read if there is no argument.
pub const DIRECTORY: &str = "/etc/portmap";

/// What could be read, and what is wrong with the rest.
#[derive(Debug, Default)]
pub struct Gathered {
    pub sources: Vec<Source>,
    /// Errors, in the order of the arguments.
    pub diagnostics: Vec<Diagnostic>,
    /// The names of files that whoever asked root to read them may not read: what they say is not
    /// to be shown.
    pub withheld: Vec<String>,
}

/// Reads files, the `*.yaml` and `*.yml` of directories in lexical order, and standard input for
/// `-`; [`DIRECTORY`] if there is no argument. What looks like a mapping is one, and not a path.
pub fn gather(arguments: &[PathBuf], caller: Caller, given: Given<'_>) -> Gathered {
    gather_or(arguments, Path::new(DIRECTORY), caller, given)
}

/// [`gather`] with another directory than [`DIRECTORY`].
pub fn gather_or(
    arguments: &[PathBuf],
    directory: &Path,
    caller: Caller,
    given: Given<'_>,
) -> Gathered {
    let (seen, gathered) = (HashMap::new(), Gathered::default());
    let mut gatherer = Gatherer { caller, given, left: TOTAL_MAX, seen, gathered };
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

struct Gatherer<'g> {
    caller: Caller,
    given: Given<'g>,
    /// How many bytes may still be read.
    left: u64,
    /// The name under which a file was read first, by device and inode.
    seen: HashMap<(u64, u64), String>,
    gathered: Gathered,
}

/// Where standard input is counted as seen; no file has inode 0.
const STDIN_SEEN: (u64, u64) = (0, 0);

impl Gatherer<'_> {
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
        let outcome = match descriptor(path) {
            Some(0) => self.stdin(),
            Some(number) => self.descriptor(number, &name),
            None => match path::find(path, self.caller) {
                Ok(found) if found.kind() == FileType::Directory => {
                    return self.directory(&found, path, &name);
                }
                Ok(found) => self.file(&found, &name),
                Err(error) => Err(not_found(&name, error)),
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

    fn directory(&mut self, found: &Found, path: &Path, name: &str) {
        let files = match rule_files(found) {
            Ok(files) => files,
            Err(error) => return self.take(Err(not_found(name, error))),
        };
        if files.is_empty() {
            let diagnostic = whole(name, "the directory has no `*.yaml` or `*.yml` file")
                .help("add a file, or name another directory; subdirectories are not read");
            return self.take(Err(diagnostic));
        }
        for file in files {
            let name = path.join(&file).display().to_string();
            let outcome = match found.entry(&file) {
                Ok(found) if found.kind() == FileType::Directory => Err(subdirectory(&name)),
                Ok(found) => self.file(&found, &name),
                Err(error) => Err(not_found(&name, error)),
            };
            self.take(outcome);
        }
    }

    fn stdin(&mut self) -> Outcome<Source> {
        let name = STDIN;
        if self.seen.insert(STDIN_SEEN, name.into()).is_some() {
            return Err(whole(name, "standard input is given twice"));
        }
        self.read(io::stdin().lock(), name)
    }

    fn file(&mut self, found: &Found, name: &str) -> Outcome<Source> {
        check_kind(found.kind(), name)?;
        self.first_time(found.identity(), name)?;
        let file = found.file().map_err(|error| not_found(name, error))?;
        if !found.is_readable_by_invoker(&file) {
            self.gathered.withheld.push(name.into());
        }
        self.read(file, name)
    }

    /// A descriptor that this process was given, as a shell makes one for `<(…)`: whoever gave it
    /// has opened it already, as with standard input. To have it open is not to be allowed to read
    /// it (open(2), `O_PATH`).
    fn descriptor(&mut self, number: u32, name: &str) -> Outcome<Source> {
        let file = (self.given)(number).map_err(|error| cannot("open", name, &error))?;
        let file = File::from(file);
        let metadata =
            file.metadata().map_err(|error| cannot("read the attributes of", name, &error))?;
        if !metadata.file_type().is_fifo() {
            check_kind(FileType::from_raw_mode(metadata.mode()), name)?;
        }
        self.first_time((metadata.dev(), metadata.ino()), name)?;
        self.read(file, name)
    }

    fn read(&mut self, reader: impl Read, name: &str) -> Outcome<Source> {
        let bytes = read_limited(reader, self.left, name)?;
        self.left -= bytes.len() as u64;
        from_bytes(name, bytes)
    }

    fn first_time(&mut self, identity: (u64, u64), name: &str) -> Outcome<()> {
        match self.seen.insert(identity, name.into()) {
            None => Ok(()),
            Some(first) => {
                Err(whole(name, &format!("this is the same file as {first}")).help("give it once"))
            }
        }
    }
}

/// The number of a descriptor of this process, if `path` is exactly the name of one; a longer path
/// may lead out of there again.
fn descriptor(path: &Path) -> Option<u32> {
    let path = match path.as_os_str().as_bytes() {
        b"-" | b"/dev/stdin" => return Some(0),
        path => path,
    };
    let number =
        [&b"/dev/fd/"[..], b"/proc/self/fd/"].iter().find_map(|at| path.strip_prefix(*at))?;
    let is_number = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(number).ok()?.parse().ok())?
}

/// What could not be found, or is not believed.
fn not_found(name: &str, error: path::Error) -> Diagnostic {
    let distrust = match error {
        path::Error::Io(error) => return cannot("open", name, &error),
        path::Error::Distrust(distrust) => distrust,
    };
    let message = format!("{} {distrust}", distrust.path.display());
    // What is done about another program's directory, portmap cannot know.
    let is_ours = !distrust.is_of_directory() || distrust.path == Path::new(DIRECTORY);
    let help = match (is_ours, distrust.remedy()) {
        (true, Some(remedy)) => remedy,
        (true, None) => copy(&distrust),
        (false, _) => format!(
            "move the file to a directory where only root may write, such as {DIRECTORY}; or check \
             what it says, and run `portmap … - < {}`",
            shell_quoted(name)
        ),
    };
    whole(name, &message).help(help)
}

/// What to do about a file that others may write. A copy where it stands would be taken for rules
/// before anybody has read it, and might replace another file.
fn copy(distrust: &Distrust) -> String {
    format!(
        "use a copy that nobody else can write: `install -v -m 600 {} \"$(mktemp -d)\"` makes one and \
         says where; check what it says, then apply it or put it in the place of the file",
        shell_quoted(&distrust.path)
    )
}

fn check_kind(kind: FileType, name: &str) -> Outcome<()> {
    let what = match kind {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "a directory",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        _ => "a device",
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

/// Whether there are rules files in [`DIRECTORY`]. One that cannot be read may have some: who reads
/// them will say what is wrong.
pub fn default_has_rules() -> bool {
    match fs::read_dir(DIRECTORY) {
        Ok(entries) => entries.flatten().any(|entry| is_rules_file(&entry.file_name())),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

fn is_rules_file(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().map(OsStrExt::as_bytes);
    !name.as_bytes().starts_with(b".") && matches!(extension, Some(b"yaml" | b"yml"))
}

fn rule_files(directory: &Found) -> path::Result<Vec<OsString>> {
    let mut files = dir::names(&directory.directory(false)?)?;
    files.retain(|name| is_rules_file(name));
    files.sort();
    Ok(files)
}

fn read_limited(reader: impl Read, left: u64, name: &str) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut limited = reader.take(SIZE_MAX.min(left) + 1);
    limited.read_to_end(&mut bytes).map_err(|error| cannot("read", name, &error))?;
    if bytes.len() as u64 > SIZE_MAX {
        let message = format!("the file is larger than {} MiB", SIZE_MAX >> 20);
        return Err(whole(name, &message).help("is this the right file?"));
    }
    if bytes.len() as u64 > left {
        let message = format!("with this file, it is more than {} MiB in all", TOTAL_MAX >> 20);
        return Err(whole(name, &message).help("are these the right files?"));
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
    let defaults = Facts::default();
    Facts {
        ephemeral: sysctls::ephemeral().map_or(defaults.ephemeral, |(low, high)| low..=high),
        unprivileged_start: sysctls::unprivileged_start().unwrap_or(defaults.unprivileged_start),
    }
}

#[cfg(test)]
mod tests;
