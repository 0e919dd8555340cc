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
        let gathered = gather(&[path.to_owned()], caller, &none);
        let said: Vec<_> = gathered.diagnostics.iter().map(said).collect();
        assert_eq!(said.is_empty(), !gathered.sources.is_empty());
        said.concat().replace(self.0.to_str().expect("UTF-8"), "DIR")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Without the excerpt.
fn said(diagnostic: &Diagnostic) -> String {
    let Diagnostic { severity, place, message, help, .. } = diagnostic;
    let place = place.as_ref().expect("a place");
    let position = place.position.as_ref();
    let position =
        position.map_or_else(String::new, |p| format!("{}:{}: ", p.line.unwrap_or(0), p.column));
    let help = help.iter().map(|help| format!("help: {help}\n")).collect::<String>();
    format!("{}: {position}{}: {message}\n{help}", place.file, severity.name())
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

const ANYONE: Caller = Caller::Ordinary;

/// No descriptor was given.
fn none(_: u32) -> io::Result<OwnedFd> {
    Err(rustix::io::Errno::BADF.into())
}

/// Root, invoked by whoever runs the tests.
fn root() -> Caller {
    Caller::Root { invoked_by: Some(Uid::effective().as_raw()) }
}

fn names(gathered: &Gathered) -> Vec<&str> {
    gathered.sources.iter().map(Source::text).collect()
}

#[test]
fn a_directory_is_read_in_lexical_order() {
    let dir = Scratch::new();
    for name in ["b.yaml", "a.yml", "c.txt", ".hidden.yaml", "B.yaml"] {
        dir.file(name, name.as_bytes());
    }
    let gathered = gather_or(&[], &dir.0, ANYONE, &none);
    assert_eq!(names(&gathered), ["B.yaml", "a.yml", "b.yaml"]);
}

#[test]
fn a_directory_without_rules_says_so() {
    let dir = Scratch::new();
    assert_eq!(
        dir.answer(&dir.0, ANYONE),
        "DIR: error: the directory has no `*.yaml` or `*.yml` file\n\
         help: add a file, or name another directory; subdirectories are not read\n"
    );
    let gathered = gather_or(&[], &dir.0.join("none"), ANYONE, &none);
    let said = said(&gathered.diagnostics[0]);
    assert!(said.contains("no file is given"), "{said}");
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
    let said = gather(std::slice::from_ref(&dir.0), ANYONE, &none).diagnostics;
    assert_eq!(said[0].message, "this is a directory, not a file");
    let help = said[0].help.as_deref().expect("help");
    assert!(help.starts_with("subdirectories are not read: move its files up"), "{help}");
}

#[test]
fn what_is_not_there_is_named() {
    let dir = Scratch::new();
    let said = dir.answer(&dir.0.join("gone.yaml"), ANYONE);
    assert_eq!(
        said,
        "DIR/gone.yaml: error: cannot open: No such file or directory (os error 2)\n\
         help: check the path; a mapping is written as `80:3000`\n"
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
        "DIR/a.yaml: 2:7: error: byte 0xff is not valid UTF-8\n\
         help: save the file as UTF-8\n"
    );
    let said = dir.answer(&dir.file("b.yaml", b"\xff\xfep\0o\0"), ANYONE);
    assert!(said.contains("UTF-16"), "{said}");
    let gathered = gather(&[dir.file("c.yaml", b"\xef\xbb\xbfports:")], ANYONE, &none);
    assert_eq!(names(&gathered), ["ports:"]);
}

#[test]
fn a_file_is_read_once() {
    let dir = Scratch::new();
    let file = dir.file("a.yaml", b"a");
    let gathered = gather(&[file.clone(), dir.0.clone()], ANYONE, &none);
    assert_eq!(names(&gathered), ["a"]);
    let said = said(&gathered.diagnostics[0]);
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
        "DIR/a.yaml: error: DIR/a.yaml is open to all: every user may write it (mode 0666)\n\
         help: use a copy that nobody else can write: `install -v -m 600 DIR/a.yaml \
         \"$(mktemp -d)\"` makes one and says where; check what it says, then apply it or put it \
         in the place of the file\n"
    );
    chmod(&file, 0o644);
    chmod(&dir.0, 0o777);
    assert_eq!(
        dir.answer(&file, root()),
        "DIR/a.yaml: error: DIR is open to all: every user may replace files in it (mode 0777)\n\
         help: move the file to a directory where only root may write, such as /etc/portmap; or \
         check what it says, and run `portmap … - < DIR/a.yaml`\n"
    );
    chmod(&dir.0, 0o1777);
    assert_eq!(dir.answer(&file, root()), "");
}

/// Whoever had it open to write would go on, whatever its mode is made.
#[test]
fn the_copy_that_is_advised_is_nobody_elses_to_write() {
    use std::io::Write;
    let dir = Scratch::new();
    let file = dir.file("my rules.yaml", b"before");
    chmod(&file, 0o666);
    let mut held = File::options().append(true).open(&file).expect("open to write");
    let gathered = gather(std::slice::from_ref(&file), root(), &none);
    let help = gathered.diagnostics[0].help.clone().expect("help");
    let command = help.split('`').nth(1).expect("a command");
    let mut shell = std::process::Command::new("sh");
    let done = shell.env("TMPDIR", &dir.0).args(["-c", command]).output().expect("sh");
    assert!(done.status.success(), "{command}");
    let said = String::from_utf8(done.stdout).expect("UTF-8");
    let copy = PathBuf::from(said.trim_end().rsplit('\'').nth(1).expect("where it is"));
    held.write_all(b", after").expect("write");
    let gathered = gather(std::slice::from_ref(&copy), root(), &none);
    let texts: Vec<_> = gathered.sources.iter().map(Source::text).collect();
    assert_eq!(texts, ["before"]);
    // What only its owner might read stays so, and no other file is replaced.
    let mode = fs::metadata(&copy).expect("copy").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_ne!(copy.parent(), file.parent());
}

#[test]
fn root_looks_where_a_link_leads() {
    let (dir, other) = (Scratch::new(), Scratch::new());
    symlink(dir.file("a.yaml", b"a"), other.0.join("link.yaml")).expect("symlink");
    chmod(&dir.0, 0o777);
    let said = dir.answer(&other.0.join("link.yaml"), root());
    assert!(said.contains("DIR is open to all: every user may replace files in it"), "{said}");
}

/// Listed in tests/needs-root.
#[test]
fn root_refuses_what_belongs_to_others() {
    let dir = Scratch::new();
    let file = dir.file("a.yaml", b"a");
    std::os::unix::fs::chown(&file, Some(12345), Some(12345))
        .expect("give a file to another user: run this test as root");
    let said = dir.answer(&file, root());
    assert_eq!(
        said,
        "DIR/a.yaml: error: DIR/a.yaml belongs to uid 12345, not to root (mode 0644)\n\
         help: use a copy that nobody else can write: `install -v -m 600 DIR/a.yaml \
         \"$(mktemp -d)\"` makes one and says where; check what it says, then apply it or put it \
         in the place of the file\n"
    );
    let invoked = Caller::Root { invoked_by: Some(12345) };
    assert_eq!(dir.answer(&file, invoked), "");
    chmod(&file, 0o664);
    let said = dir.answer(&file, invoked);
    assert!(said.contains("is open to a group"), "{said}");
}

#[test]
fn a_pipe_of_the_shell_is_read() {
    use std::io::Write;
    let (reader, writer) = nix::unistd::pipe().expect("pipe");
    File::from(writer).write_all(b"ports:").expect("write");
    let path = PathBuf::from(format!("/dev/fd/{}", reader.as_raw_fd()));
    let given = |number: u32| {
        assert_eq!(number, reader.as_raw_fd() as u32);
        reader.try_clone()
    };
    assert_eq!(names(&gather(&[path], root(), &given)), ["ports:"]);
}

#[test]
fn all_files_together_have_a_limit() {
    let dir = Scratch::new();
    let count = TOTAL_MAX / SIZE_MAX + 2;
    for n in 0..count {
        let file = dir.file(&format!("{n}.yaml"), b"");
        File::options().write(true).open(file).unwrap().set_len(SIZE_MAX).unwrap();
    }
    let gathered = gather(std::slice::from_ref(&dir.0), ANYONE, &none);
    assert_eq!(gathered.sources.len() as u64, count - 2);
    let last = gathered.diagnostics.last().unwrap();
    assert!(last.message.contains("more than 64 MiB in all"), "{last:?}");
}

#[test]
fn what_looks_like_a_mapping_is_one() {
    let dir = Scratch::new();
    let gathered = |arguments: &[&str]| {
        let arguments: Vec<_> = arguments.iter().map(PathBuf::from).collect();
        gather(&arguments, ANYONE, &none)
    };
    let file = dir.file("80:3000", b"ports:");
    let file = file.to_str().expect("UTF-8");
    let mixed = gathered(&["443:8443", file, "53/udp:5353", "80 -> 3000"]);
    assert_eq!(names(&mixed), ["443:8443", "ports:", "53/udp:5353", "80 -> 3000"]);
    assert!(mixed.diagnostics.is_empty());
    let titles: Vec<_> = mixed.sources.iter().map(Source::title).collect();
    assert_eq!(titles, ["443:8443", file, "53/udp:5353", "80 -> 3000"]);
    // Only what can be nothing else goes before a file of that name.
    assert_eq!(gathered(&["./80:3000"]).diagnostics.len(), 1);
}

#[test]
fn paths_in_commands_are_quoted() {
    let dir = Scratch::new();
    let file = dir.file("my rules.yaml", b"a");
    chmod(&file, 0o666);
    let said = dir.answer(&file, root());
    assert!(said.contains("`install -v -m 600 'DIR/my rules.yaml' "), "{said}");
    let fifo = dir.0.join("a fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).expect("mkfifo");
    let said = dir.answer(&fifo, ANYONE);
    assert!(said.ends_with("`portmap … - < 'DIR/a fifo'`\n"), "{said}");
}

#[test]
fn only_the_name_of_a_descriptor_is_one() {
    for (path, number) in [("-", 0), ("/dev/stdin", 0), ("/dev/fd/0", 0), ("/proc/self/fd/63", 63)]
    {
        assert_eq!(descriptor(Path::new(path)), Some(number), "{path}");
    }
    for path in
        ["/dev/fd/", "/dev/fd/../../tmp/x", "/dev/fd/3/x", "/dev/fd/+3", "/dev//fd/3", "fd/3"]
    {
        assert_eq!(descriptor(Path::new(path)), None, "{path}");
    }
}
