//! The history on a real file system: damage, a full disk, killed processes, many at once.
//!
//! Some tests start this program again as another process, in the part that `PART` names.

use std::error::Error as _;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::sched::{CloneFlags, unshare};
use portmap::history::{
    Command, Draft, Error, Header, History, Holder, KEEP, Locked, Outcome, Seen, Settlement,
    Stamped, Trial,
};
use portmap::mapping::{GenerationId, Point};
use tempfile::TempDir;

const WAIT: Duration = Duration::from_secs(20);
const MAPPING: &str = "ports:\n  80: 3000\n";
const NO_TABLE: Seen = Seen { stamp: Stamped::NoTable, trial: Trial::None };

fn id(number: u64) -> GenerationId {
    GenerationId::new(number).unwrap()
}

fn stamp(generation: u64) -> Seen {
    Seen { stamp: Stamped::Generation(id(generation)), trial: Trial::None }
}

fn draft(parent: u64) -> Draft {
    Draft {
        who: None,
        command: Command::Apply,
        sources: vec!["rules.yaml".into()],
        message: None,
        parent: Some(parent.into()),
        restores: None,
        trial_until: None,
    }
}

/// A state directory that is not there yet, in one that goes with the test.
struct State {
    outside: TempDir,
    dir: PathBuf,
}

impl State {
    fn new() -> Self {
        let outside = tempfile::tempdir().unwrap();
        let dir = outside.path().join("portmap");
        Self { outside, dir }
    }

    fn lock(&self) -> Locked {
        History::lock(&self.dir, WAIT).unwrap()
    }

    #[track_caller]
    fn lock_fails(&self) -> Error {
        History::lock(&self.dir, Duration::ZERO).unwrap_err()
    }

    /// The history, read anew.
    fn history(&self) -> History {
        History::open(&self.dir).unwrap()
    }

    /// A generation, read anew.
    fn read(&self, number: u64) -> Result<(Header, String), Error> {
        let history = History::open(&self.dir)?;
        let text = history.text(id(number))?;
        Ok((history.header(id(number)).expect("its mapping was read").clone(), text))
    }

    fn boot(&self) -> Result<Option<u64>, Error> {
        Ok(self.history().into_boot()?.map(GenerationId::get))
    }

    fn numbers(&self) -> Vec<u64> {
        self.history().numbers().map(GenerationId::get).collect()
    }

    fn generation(&self, number: u64) -> PathBuf {
        self.dir.join(format!("generations/{number:06}.yaml"))
    }
}

/// As an apply that goes well.
fn apply(locked: &mut Locked, mapping: &str) -> u64 {
    let parent = locked.numbers().next_back();
    let draft = draft(parent.map_or(0, GenerationId::get));
    let number = locked.begin(draft, mapping, parent).unwrap();
    locked.finish(number, Outcome::Committed).unwrap();
    number.get()
}

/// The number that the next generation gets, which is written as an intent.
fn begin(locked: &mut Locked, kernel: Option<u64>) -> Result<u64, Error> {
    locked.begin(draft(0), MAPPING, kernel.map(id)).map(GenerationId::get)
}

/// Every file below the directory, with its content.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

/// Fails where root is the only user, as in an ordinary user's namespace (user_namespaces(7)).
/// `make test` leaves such tests out there, by the list in tests/needs-root.
#[track_caller]
fn needs_root() {
    assert!(nix::unistd::geteuid().is_root(), "run this test as root");
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    let several = map.lines().any(|line| line.split_whitespace().nth(2) != Some("1"));
    assert!(several, "there is only one user here: run this test as root");
}

#[test]
fn a_generation_comes_back_as_it_was_written() {
    let state = State::new();
    let mut locked = state.lock();
    let until = SystemTime::now() + Duration::from_secs(60);
    let message = "a: \"b\"\n---\n# c";
    let draft = Draft { message: Some(message.into()), trial_until: Some(until), ..draft(0) };
    assert_eq!(locked.begin(draft, MAPPING, None).unwrap(), GenerationId::FIRST);
    let (mut header, mapping) = state.read(1).unwrap();
    assert_eq!(locked.header(id(1)), Some(&header), "what was written is what is known");
    assert_eq!((header.number.get(), header.outcome), (1, Outcome::Intent));
    assert_eq!((header.message.as_deref(), header.is_empty()), (Some(message), false));
    assert_eq!((header.parent, header.back), (Some(Point::Beginning), Some(Point::Beginning)));
    assert_eq!(mapping, MAPPING);

    locked.finish(id(1), Outcome::Trial).unwrap();
    let (read, mapping) = state.read(1).unwrap();
    header.outcome = Outcome::Trial;
    assert_eq!(read, header);
    assert_eq!(mapping, MAPPING);
    assert!(fs::read_to_string(state.generation(1)).unwrap().ends_with(MAPPING));
}

#[test]
fn where_nothing_was_kept_there_is_an_empty_history() {
    let state = State::new();
    let history = state.history();
    assert_eq!(history.numbers().count(), 0);
    assert_eq!(history.boot().unwrap(), None);
    assert!(matches!(history.text(id(1)), Err(Error::Missing { .. })));
    assert!(!state.dir.exists(), "to read makes nothing");

    let mut locked = state.lock();
    assert_eq!(state.numbers(), [0; 0]);
    assert!(matches!(locked.finish(id(1), Outcome::Committed), Err(Error::Missing { .. })));
    assert!(matches!(locked.set_boot(id(1)), Err(Error::Missing { .. })));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state.dir), 0o755);
    assert_eq!(mode(&state.dir.join("lock")), 0o600);
}

#[test]
fn a_generation_that_goes_between_listing_and_reading_is_not_there() {
    let state = State::new();
    let mut locked = state.lock();
    apply(&mut locked, "first");
    apply(&mut locked, "second");
    let history = state.history();
    fs::remove_file(state.generation(1)).unwrap();
    assert!(history.contains(id(1)), "it was listed");
    assert!(history.entry(id(1)).is_none());
    let known: Vec<u64> = history.entries().map(|(number, _)| number.get()).collect();
    assert_eq!(known, [2]);
    assert!(matches!(history.text(id(1)), Err(Error::Missing { .. })));
}

#[test]
fn each_file_is_read_once() {
    let state = State::new();
    let mut locked = state.lock();
    apply(&mut locked, "first");
    let history = state.history();
    assert!(history.header(id(1)).is_some());
    fs::write(state.generation(1), "rubbish").unwrap();
    fs::write(state.dir.join("boot"), "").unwrap();
    assert!(history.header(id(1)).is_some(), "it is known already");
    assert!(history.boot().is_err());
    fs::remove_file(state.dir.join("boot")).unwrap();
    assert!(history.boot().is_err(), "it is known already");
    assert!(state.history().boot().is_ok());
    assert!(state.history().header(id(1)).is_none());
}

#[test]
fn boot_restores_what_it_is_told() {
    let state = State::new();
    let mut locked = state.lock();
    apply(&mut locked, MAPPING);
    locked.set_boot(id(1)).unwrap();
    assert_eq!(locked.boot().unwrap(), Some(id(1)));
    assert_eq!(state.boot().unwrap(), Some(1));
    locked.clear_boot().unwrap();
    locked.clear_boot().unwrap();
    assert_eq!(locked.boot().unwrap(), None);
    assert_eq!(state.boot().unwrap(), None);

    locked.set_boot(id(1)).unwrap();
    drop(locked);
    fs::write(state.dir.join("boot"), "").unwrap();
    assert!(matches!(state.boot(), Err(Error::Damaged { .. })));
    // It keeps nobody from going on, but nothing is removed: boot may need it.
    let mut locked = state.lock();
    for _ in 0..60 {
        apply(&mut locked, MAPPING);
    }
    locked.prune(Some(id(61).into())).unwrap();
    assert_eq!(state.numbers().len(), 61);
}

#[test]
fn back_leads_through_rollbacks_to_the_beginning() {
    let state = State::new();
    let mut locked = state.lock();
    for text in ["one", "two", "three"] {
        apply(&mut locked, text);
    }
    for expected in ["two", "one", ""] {
        let history = state.history();
        let newest = history.numbers().next_back().unwrap();
        let parent = history.active(stamp(newest.get()));
        let target = history.rollback_target(parent).unwrap();
        let number = target.generation();
        let mapping = number.map_or(String::new(), |number| history.text(number).unwrap());
        assert_eq!(mapping, expected);
        let draft =
            Draft { command: Command::Rollback, parent, restores: Some(target), ..draft(0) };
        let new = locked.begin(draft, &mapping, Some(newest)).unwrap();
        locked.finish(new, Outcome::Committed).unwrap();
    }
    let history = state.history();
    let parent = history.active(NO_TABLE);
    assert_eq!(parent, Some(id(6).into()));
    let nowhere = history.rollback_target(parent).unwrap_err();
    assert_eq!(nowhere.to_string(), "nothing came before: no mapping is active");
}

#[test]
fn fifty_are_kept_and_what_is_needed() {
    let state = State::new();
    let mut locked = state.lock();
    for _ in 0..60 {
        apply(&mut locked, MAPPING);
    }
    locked.set_boot(id(5)).unwrap();
    drop(locked);
    fs::write(state.generation(3), "rubbish").unwrap();
    let mut locked = state.lock();
    locked.prune(Some(id(60).into())).unwrap();
    let expected: Vec<u64> = [3, 4, 5].into_iter().chain(11..=60).collect();
    assert_eq!(expected.len(), KEEP + 3);
    assert_eq!(locked.numbers().map(GenerationId::get).collect::<Vec<_>>(), expected);
    assert_eq!(state.numbers(), expected);
}

#[test]
fn a_number_is_never_used_twice() {
    let state = State::new();
    let mut locked = state.lock();
    assert_eq!(begin(&mut locked, Some(7)).unwrap(), 8, "the kernel knows of a lost history");
    drop(locked);
    // A name is enough, whatever the file holds.
    fs::write(state.generation(20), "rubbish").unwrap();
    let mut locked = state.lock();
    assert_eq!(apply(&mut locked, MAPPING), 21);
    locked.set_boot(id(21)).unwrap();
    drop(locked);
    fs::remove_file(state.generation(21)).unwrap();
    assert_eq!(apply(&mut state.lock(), MAPPING), 22, "boot still names the one before");
    // What is not named as we name it is not ours.
    fs::write(state.dir.join("generations/99.yaml"), "").unwrap();
    fs::write(state.dir.join("generations/000099.yaml.orig"), "").unwrap();
    fs::write(state.dir.join("generations/000000.yaml"), "").unwrap();
    assert_eq!(apply(&mut state.lock(), MAPPING), 23);
    fs::write(state.generation(u64::MAX), "").unwrap();
    let error = begin(&mut state.lock(), None).unwrap_err();
    assert!(matches!(error, Error::Exhausted { .. }), "{error}");
}

#[test]
fn a_number_that_only_the_kernel_claims_uses_up_none() {
    let state = State::new();
    assert_eq!(begin(&mut state.lock(), Some(u64::MAX)).unwrap(), 1);
    assert_eq!(begin(&mut state.lock(), Some(u64::MAX)).unwrap(), 2);
    assert_eq!(begin(&mut state.lock(), Some(u64::MAX - 1)).unwrap(), u64::MAX);
}

#[test]
fn no_damage_makes_a_wrong_mapping_or_hides_the_others() {
    let state = State::new();
    let mut locked = state.lock();
    for mapping in ["first", MAPPING, "third"] {
        apply(&mut locked, mapping);
    }
    drop(locked);
    let path = state.generation(2);
    let good = fs::read(&path).unwrap();
    let check = |bad: &[u8], what: &str| {
        fs::write(&path, bad).unwrap();
        let error = state.read(2).expect_err(what);
        assert!(matches!(error, Error::Damaged { .. } | Error::Newer { .. }), "{what}: {error}");
        assert_eq!(error.path(), path);
        assert!(!error.help().is_empty());
    };
    for at in 0..good.len() {
        check(&good[..at], &format!("cut at {at}"));
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            check(&bad, &format!("bit {bit} of byte {at}"));
        }
        let mut bad = good.clone();
        bad[at..].fill(0);
        check(&bad, &format!("zeroes from {at}"));
    }
    check(&[&good[..], b"x"].concat(), "a byte too many");
    check(&fs::read(state.generation(3)).unwrap(), "another generation's file");

    let history = state.history();
    let known: Vec<_> = history.entries().map(|(n, entry)| (n.get(), entry.is_ok())).collect();
    assert_eq!(known, [(1, true), (2, false), (3, true)]);
    let mut locked = state.lock();
    assert_eq!(locked.settle(stamp(3)).unwrap(), []);
    assert_eq!(apply(&mut locked, MAPPING), 4);
}

#[test]
fn a_damaged_mapping_does_not_keep_its_generation_open() {
    let state = State::new();
    begin(&mut state.lock(), None).unwrap();
    let path = state.generation(1);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("3000", "3001")).unwrap();

    assert_eq!(state.lock().settle(stamp(1)).unwrap().len(), 1);
    let outcome = state.history().header(id(1)).map(|header| header.outcome);
    assert_eq!(outcome, Some(Outcome::Committed));
    assert!(matches!(state.read(1), Err(Error::Damaged { .. })));
}

#[test]
fn what_is_no_file_or_too_large_is_refused() {
    let state = State::new();
    let mut locked = state.lock();
    apply(&mut locked, MAPPING);
    let path = state.generation(2);
    fs::create_dir(&path).unwrap();
    assert!(matches!(state.read(2), Err(Error::Damaged { .. })));
    fs::remove_dir(&path).unwrap();

    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(matches!(state.read(2), Err(Error::Damaged { .. })));
    fs::remove_file(&path).unwrap();

    symlink(state.generation(1), &path).unwrap();
    let error = state.read(2).unwrap_err();
    assert!(error.help().contains("symbolic link"), "{}", error.help());
    fs::remove_file(&path).unwrap();

    let long = "x".repeat(33 << 20);
    assert!(matches!(locked.begin(draft(0), &long, None), Err(Error::TooLarge { .. })));
    let wordy = Draft { message: Some("x".repeat(2 << 20)), ..draft(0) };
    assert!(matches!(locked.begin(wordy, MAPPING, None), Err(Error::TooLarge { .. })));
    fs::write(&path, long).unwrap();
    assert!(matches!(state.read(2), Err(Error::Damaged { .. })));
    fs::remove_file(&path).unwrap();
    assert_eq!(state.numbers(), [1]);
}

#[test]
fn root_does_not_believe_what_others_may_write() {
    needs_root();
    let state = State::new();
    apply(&mut state.lock(), MAPPING);
    let untrusted = || {
        let error = state.read(1).unwrap_err();
        assert!(matches!(error, Error::Untrusted { .. }), "{error}");
        error
    };
    let file = state.generation(1);
    for path in [&state.dir, &state.dir.join("generations"), &file] {
        let before = fs::metadata(path).unwrap().permissions();
        fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
        assert_eq!(untrusted().path(), path);
        fs::set_permissions(path, before).unwrap();
        chown(path, Some(1234), None).unwrap();
        assert_eq!(untrusted().path(), path);
        chown(path, Some(0), None).unwrap();
    }
    state.read(1).unwrap();
    fs::set_permissions(&state.dir, PermissionsExt::from_mode(0o777)).unwrap();
    assert!(matches!(state.lock_fails(), Error::Untrusted { .. }));
}

// The directory, and the files in it that are not portmap's.

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    let state = State::new();
    fs::create_dir(&state.dir).unwrap();
    fs::write(state.dir.join("passwd"), "root").unwrap();
    let before = contents(&state.dir);
    let error = state.lock_fails();
    assert!(matches!(error, Error::NotOurs { .. }), "{error}");
    assert_eq!(error.path(), state.dir);
    assert!(error.help().contains("--state-dir"), "{}", error.help());
    assert_eq!(contents(&state.dir), before);
    assert_eq!(fs::read_dir(&state.dir).unwrap().count(), 1);

    // A lock by itself is no sign: many programs have one.
    for name in ["lock", "boot", "namespace"] {
        fs::write(state.dir.join(name), "").unwrap();
        assert!(matches!(state.lock_fails(), Error::NotOurs { .. }), "{name}");
        fs::remove_file(state.dir.join(name)).unwrap();
    }

    fs::remove_file(state.dir.join("passwd")).unwrap();
    apply(&mut state.lock(), MAPPING);
    // A file that came later is no reason to refuse.
    fs::write(state.dir.join("notes"), "mine").unwrap();
    assert_eq!(apply(&mut state.lock(), MAPPING), 2);
}

/// Beside files of others, names that portmap uses too are no sign.
#[test]
fn a_directory_that_only_has_names_of_ours_too_is_left_alone() {
    for names in [&["lock.queue"][..], &["lock.queue", "lock"], &["generations/"]] {
        let state = State::new();
        fs::create_dir(&state.dir).unwrap();
        for name in ["boot", "namespace", "boot.tmp", "namespace.tmp", "passwd"] {
            fs::write(state.dir.join(name), "of others").unwrap();
        }
        for name in names {
            match name.strip_suffix('/') {
                None => fs::write(state.dir.join(name), "").unwrap(),
                Some(name) => {
                    let dir = state.dir.join(name);
                    fs::create_dir(&dir).unwrap();
                    fs::write(dir.join("alpha"), "of others").unwrap();
                    fs::write(dir.join("000002.yaml.tmp"), "of others").unwrap();
                }
            }
        }
        let before = contents(&state.dir);
        let error = state.lock_fails();
        assert!(matches!(error, Error::NotOurs { .. }), "{names:?}: {error}");
        assert_eq!(contents(&state.dir), before, "{names:?}");
    }
    // A name that is not text is one of others.
    let state = State::new();
    fs::create_dir(&state.dir).unwrap();
    let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff");
    fs::write(state.dir.join(name), "").unwrap();
    assert!(matches!(state.lock_fails(), Error::NotOurs { .. }));
}

/// A disk of its own for the state, and a file that came later.
#[test]
fn a_directory_is_known_by_what_portmap_has_written() {
    for damaged in ["namespace", "generations/000001.yaml"] {
        let state = State::new();
        fs::create_dir_all(state.dir.join("lost+found")).unwrap();
        apply(&mut state.lock(), MAPPING);
        fs::write(state.dir.join("notes"), "mine").unwrap();
        fs::write(state.dir.join(damaged), "damaged").unwrap();
        assert_eq!(apply(&mut state.lock(), MAPPING), 2, "{damaged}");
    }
}

/// A power cut has emptied all that says whose it is, and an editor has kept a copy.
#[test]
fn a_directory_with_nothing_but_generations_in_its_place_is_known() {
    let state = State::new();
    apply(&mut state.lock(), MAPPING);
    fs::write(state.dir.join("boot~"), "").unwrap();
    for name in ["namespace", "generations/000001.yaml"] {
        fs::write(state.dir.join(name), "").unwrap();
    }
    assert_eq!(apply(&mut state.lock(), MAPPING), 2);
    // Where it is open to others, that is what is to be mended, and not another one taken.
    fs::set_permissions(&state.dir, PermissionsExt::from_mode(0o775)).unwrap();
    assert!(state.lock_fails().help().contains("chmod g-w"), "{}", state.lock_fails().help());
    fs::set_permissions(&state.dir, PermissionsExt::from_mode(0o755)).unwrap();

    let mut locked = state.lock();
    locked.set_boot(id(2)).unwrap();
    drop(locked);
    fs::remove_dir_all(state.dir.join("generations")).unwrap();
    assert_eq!(state.lock().boot().unwrap(), Some(id(2)));
}

/// Whoever can open it can lock it, and keep everybody out.
#[test]
fn a_lock_that_others_can_open_is_closed_to_them() {
    let state = State::new();
    drop(state.lock());
    for name in ["lock", "lock.queue"] {
        let path = state.dir.join(name);
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        drop(state.lock());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600, "{name}");
    }
}

/// Root that has given up CAP_DAC_OVERRIDE could open them no more.
#[test]
fn files_have_their_mode_whatever_the_umask_says() {
    let state = State::new();
    let made = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // The umask becomes this thread's own.
            unshare(CloneFlags::CLONE_FS).unwrap();
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o777));
            apply(&mut state.lock(), MAPPING)
        });
        thread.join().unwrap()
    });
    assert_eq!(made, 1);
    for (name, mode) in [
        ("", 0o755),
        ("lock", 0o600),
        ("lock.queue", 0o600),
        ("namespace", 0o644),
        ("generations", 0o755),
        ("generations/000001.yaml", 0o644),
    ] {
        let found = fs::metadata(state.dir.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(found, mode, "{name:?} is {found:o}");
    }
}

#[test]
fn a_directory_that_was_only_just_begun_is_its_own() {
    for names in [&["lock.queue"][..], &["lock.queue", "lock"]] {
        let state = State::new();
        fs::create_dir(&state.dir).unwrap();
        for name in names {
            fs::write(state.dir.join(name), "").unwrap();
        }
        assert_eq!(apply(&mut state.lock(), MAPPING), 1, "{names:?}");
    }
}

#[test]
fn a_lock_that_others_have_written_to_is_left_alone() {
    let state = State::new();
    drop(state.lock());
    for name in ["lock", "lock.queue"] {
        for text in ["kept", "12 of mine\n", "\u{ff}", &"1".repeat(100)] {
            let path = state.dir.join(name);
            fs::write(&path, text).unwrap();
            let error = state.lock_fails();
            assert!(matches!(error, Error::NotOurs { .. }), "{name}: {error}");
            assert_eq!(error.path(), path);
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            for of_ours in ["4711\n", "\0\0\0\0\0", "2026-11-29T03:04:05.678Z", ""] {
                fs::write(&path, of_ours).unwrap();
                drop(state.lock());
            }
        }
    }
}

#[test]
fn a_lock_that_is_another_file_too_is_refused_and_that_file_is_untouched() {
    let state = State::new();
    drop(state.lock());
    let precious = state.outside.path().join("precious");
    for name in ["lock", "lock.queue"] {
        fs::write(&precious, "precious").unwrap();
        let path = state.dir.join(name);
        fs::remove_file(&path).unwrap();
        fs::hard_link(&precious, &path).unwrap();
        let error = state.lock_fails();
        assert!(matches!(error, Error::Io { .. }), "{name}: {error}");
        assert_eq!(error.path(), path);
        assert!(error.source().unwrap().to_string().contains("links"), "{error:?}");

        fs::remove_file(&path).unwrap();
        symlink(&precious, &path).unwrap();
        let error = state.lock_fails();
        assert!(error.help().contains("symbolic link"), "{name}: {}", error.help());
        fs::remove_file(&path).unwrap();
        drop(state.lock());
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious", "{name}");
    }
}

#[test]
fn only_its_own_temporary_files_are_swept() {
    let state = State::new();
    apply(&mut state.lock(), MAPPING);
    let ours = ["boot.tmp", "namespace.tmp", "generations/000002.yaml.tmp"];
    let others = ["notes.tmp", "lock.tmp", "generations/2.yaml.tmp", "generations/x.tmp", "tmp"];
    for name in ours.iter().chain(&others) {
        fs::write(state.dir.join(name), "half").unwrap();
    }
    assert!(!state.history().is_settled(id(1)), "somebody was killed");
    drop(state.lock());
    for name in ours {
        assert!(!state.dir.join(name).exists(), "{name}");
    }
    for name in others {
        assert_eq!(fs::read_to_string(state.dir.join(name)).unwrap(), "half", "{name}");
    }
}

#[test]
fn a_path_that_is_no_directory_is_named() {
    let state = State::new();
    symlink("portmap", &state.dir).unwrap();
    for error in [History::open(&state.dir).unwrap_err(), state.lock_fails()] {
        assert_eq!(error.path(), state.dir);
        assert!(error.help().contains("symbolic link"), "{}", error.help());
    }
    fs::remove_file(&state.dir).unwrap();
    symlink("nowhere", &state.dir).unwrap();
    let error = state.lock_fails();
    assert!(error.help().contains("move it away"), "{}", error.help());
    fs::remove_file(&state.dir).unwrap();
    fs::write(&state.dir, "").unwrap();
    for error in [History::open(&state.dir).unwrap_err(), state.lock_fails()] {
        assert_eq!(error.path(), state.dir);
        assert!(error.help().contains("move it away"), "{}", error.help());
    }
}

#[test]
fn paths_in_commands_to_type_are_quoted() {
    let outside = tempfile::tempdir().unwrap();
    let dir = outside.path().join("it's a dir; rm");
    apply(&mut History::lock(&dir, WAIT).unwrap(), MAPPING);
    fs::write(dir.join("generations/000001.yaml"), "").unwrap();
    let help = History::open(&dir).unwrap().text(id(1)).unwrap_err().help();
    assert!(help.contains(r"'\''s a dir; rm/generations/000001.yaml'"), "{help}");
}

// The lock.

#[test]
fn a_second_one_waits_and_is_told_for_whom() {
    let state = State::new();
    let held = state.lock();
    let began = Instant::now();
    let error = History::lock(&state.dir, Duration::from_millis(300)).unwrap_err();
    assert!(began.elapsed() >= Duration::from_millis(300));
    let Error::Locked { holder: Holder { process: Some((pid, Some(_))) }, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*pid, std::process::id() as i32);
    assert!(error.to_string().ends_with("still after 300ms"), "{error}");

    // Readers do not wait, and another directory is another lock.
    assert_eq!(state.numbers(), [0; 0]);
    drop(State::new().lock());

    let dir = state.dir.clone();
    let waiting = thread::spawn(move || History::lock(dir, Duration::MAX).map(drop));
    drop(held);
    waiting.join().unwrap().unwrap();
}

#[test]
fn everybody_has_a_turn() {
    let state = State::new();
    let end = Instant::now() + Duration::from_secs(2);
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let dir = state.dir.clone();
            thread::spawn(move || {
                let mut turns = 0;
                while Instant::now() < end {
                    let _locked = History::lock(&dir, WAIT).unwrap();
                    thread::sleep(Duration::from_millis(5));
                    turns += 1;
                }
                turns
            })
        })
        .collect();
    let turns: Vec<u32> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(turns.iter().all(|&turns| turns > 2), "{turns:?}");
}

#[test]
fn a_lock_whose_directory_was_removed_is_not_the_lock() {
    let state = State::new();
    let old = state.lock();
    let waiting = {
        let dir = state.dir.clone();
        thread::spawn(move || History::lock(dir, WAIT).map(drop))
    };
    thread::sleep(Duration::from_millis(60));
    fs::remove_dir_all(&state.dir).unwrap();
    let new = state.lock();
    drop(old);
    thread::sleep(Duration::from_millis(100));
    assert!(!waiting.is_finished());
    drop(new);
    waiting.join().unwrap().unwrap();
}

// Other network namespaces. A thread can be in one of its own; one that no process is in, and that
// has no name, counts as gone.

/// Runs `work` on a thread in a network namespace of its own.
fn elsewhere<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let inside = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace");
        work()
    };
    thread::scope(|scope| scope.spawn(inside).join().unwrap())
}

/// Ends with the value: a process that does nothing.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        Self(Process::new("sleep").arg("600").spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn the_directory_of_another_namespace_is_refused_until_that_is_gone() {
    let state = State::new();
    let resident = elsewhere(|| {
        apply(&mut state.lock(), MAPPING);
        Sleeper::new()
    });
    let before = contents(&state.dir.join("generations"));
    let error = state.lock_fails();
    let Error::OtherNamespace { inode, .. } = error else { panic!("{error}") };
    let there = fs::metadata(format!("/proc/{}/ns/net", resident.0.id())).unwrap();
    assert_eq!(inode, std::os::unix::fs::MetadataExt::ino(&there));
    assert!(error.to_string().contains(&format!("net:[{inode}]")), "{error}");
    assert!(error.help().contains("--state-dir"), "{}", error.help());
    assert_eq!(contents(&state.dir.join("generations")), before);
    assert_eq!(state.numbers(), [1], "it can be read");

    drop(resident);
    assert_eq!(apply(&mut state.lock(), MAPPING), 2);
    // It belongs to this one now, where processes are.
    elsewhere(|| assert!(matches!(state.lock_fails(), Error::OtherNamespace { .. })));
    assert_eq!(apply(&mut state.lock(), MAPPING), 3);
}

#[test]
fn the_namespaces_of_the_last_boot_are_gone() {
    let state = State::new();
    let _resident = elsewhere(|| {
        apply(&mut state.lock(), MAPPING);
        Sleeper::new()
    });
    let path = state.dir.join("namespace");
    let text = fs::read_to_string(&path).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(text.contains(boot.trim_end()), "{text}");
    fs::write(&path, text.replace(boot.trim_end(), "00000000-0000-0000-0000-000000000000"))
        .unwrap();
    assert_eq!(apply(&mut state.lock(), MAPPING), 2);

    for damage in ["", "rubbish", "boot: 1\n"] {
        fs::write(&path, damage).unwrap();
        drop(state.lock());
        assert!(fs::read_to_string(&path).unwrap().contains(boot.trim_end()), "{damage}");
    }
}

// Other processes.

/// Not a test of its own: what the processes do that the tests below start.
#[test]
fn part() {
    let Ok(part) = std::env::var("PART") else { return };
    let dir = PathBuf::from(std::env::var("STATE").unwrap());
    match part.as_str() {
        "begin and hang" => {
            let mut locked = History::lock(&dir, WAIT).unwrap();
            locked.begin(draft(0), MAPPING, None).unwrap();
            fs::write(dir.join("generations/000009.yaml.tmp"), "half").unwrap();
            thread::sleep(Duration::from_secs(600));
        }
        "apply" => {
            for _ in 0..10 {
                let mut locked = History::lock(&dir, WAIT).unwrap();
                assert_eq!(locked.settle(NO_TABLE).unwrap(), []);
                apply(&mut locked, MAPPING);
            }
        }
        other => panic!("no such part: {other}"),
    }
}

fn start(part: &str, state: &State) -> Child {
    Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "part", "--nocapture"])
        .env("PART", part)
        .env("STATE", &state.dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn the_next_one_settles_what_a_killed_one_began() {
    for (seen, expected) in [(stamp(1), Outcome::Committed), (NO_TABLE, Outcome::Failed)] {
        let state = State::new();
        let half = state.dir.join("generations/000009.yaml.tmp");
        let mut child = start("begin and hang", &state);
        let began = Instant::now();
        while state.read(1).is_err() || !half.exists() {
            assert!(began.elapsed() < WAIT);
            thread::sleep(Duration::from_millis(5));
        }
        assert!(matches!(state.lock_fails(), Error::Locked { .. }));
        child.kill().unwrap();
        child.wait().unwrap();

        assert_eq!(state.numbers(), [1]);
        assert!(!state.history().is_settled(id(1)));
        let mut locked = state.lock();
        let settled = Settlement { number: id(1), from: Outcome::Intent, to: expected };
        assert_eq!(locked.settle(seen).unwrap(), [settled]);
        assert_eq!(state.read(1).unwrap().0.outcome, expected);
        assert_eq!(locked.settle(seen).unwrap(), []);
        assert!(!half.exists());
        assert!(state.history().is_settled(id(1)));
    }
}

#[test]
fn many_at_once_make_one_line() {
    let state = State::new();
    let mut children: Vec<Child> = (0..8).map(|_| start("apply", &state)).collect();
    let mut reads = 0;
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        // Without the lock, and still never half a state.
        let history = state.history();
        for (number, entry) in history.entries() {
            assert_eq!(entry.unwrap().number, number);
            assert_eq!(history.text(number).unwrap(), MAPPING);
        }
        reads += usize::from(history.numbers().count() > 0);
    }
    assert!(reads > 0);
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let history = state.history();
    // Nobody prunes in this test.
    let line: Vec<_> =
        history.headers().map(|header| (header.number.get(), header.parent)).collect();
    let expected = (1..=80).map(|number| (number, Some(Point::from(number - 1))));
    assert_eq!(line, expected.collect::<Vec<_>>());
}

// Bad disks. A thread can have mounts of its own.

fn mount(args: &[&str], at: &Path) {
    assert!(Process::new("mount").args(args).arg(at).status().unwrap().success());
}

#[track_caller]
fn private_mounts() {
    needs_root();
    unshare(CloneFlags::CLONE_NEWNS).expect("make a mount namespace");
    mount(&["--make-rprivate"], Path::new("/"));
}

#[track_caller]
fn kind(error: &Error) -> ErrorKind {
    let source = error.source().unwrap_or_else(|| panic!("{error}"));
    source.downcast_ref::<std::io::Error>().unwrap().kind()
}

#[test]
fn a_full_disk_leaves_everything_as_it_was() {
    private_mounts();
    let state = State::new();
    mount(&["-t", "tmpfs", "-o", "size=256k", "portmap-test"], state.outside.path());
    let mut locked = state.lock();
    apply(&mut locked, MAPPING);
    locked.set_boot(id(1)).unwrap();
    let before = contents(&state.dir);

    let long = "x".repeat(1 << 20);
    let error = locked.begin(draft(1), &long, Some(id(1))).unwrap_err();
    assert_eq!(kind(&error), ErrorKind::StorageFull);
    assert!(error.to_string().contains("000002.yaml"), "{error}");
    assert!(error.help().contains("free space"), "{}", error.help());
    assert_eq!(contents(&state.dir), before);

    // To the last byte.
    let filler = state.outside.path().join("filler");
    fs::write(&filler, vec![0; 1 << 20]).unwrap_err();
    for result in [locked.finish(id(1), Outcome::Reverted), locked.set_boot(id(1))] {
        assert_eq!(kind(&result.unwrap_err()), ErrorKind::StorageFull);
    }
    assert_eq!(contents(&state.dir), before);
    let outcome = locked.header(id(1)).map(|header| header.outcome);
    assert_eq!(outcome, Some(Outcome::Committed), "what is known is what is on the disk");
    drop(locked);
    // The lock, and what only removes, work all the same.
    state.lock().clear_boot().unwrap();

    fs::remove_file(filler).unwrap();
    assert_eq!(apply(&mut state.lock(), MAPPING), 2);
}

#[test]
fn a_read_only_disk_can_be_read_and_locked() {
    private_mounts();
    let state = State::new();
    mount(&["-t", "tmpfs", "portmap-test"], state.outside.path());
    apply(&mut state.lock(), MAPPING);
    let elsewhere = state.outside.path().join("elsewhere");
    mount(&["-o", "remount,ro"], state.outside.path());

    let before = contents(&state.dir);
    assert_eq!(state.read(1).unwrap().1, MAPPING);
    let mut locked = state.lock();
    assert!(matches!(state.lock_fails(), Error::Locked { .. }));
    let errors = [
        locked.begin(draft(1), MAPPING, Some(id(1))).unwrap_err(),
        locked.finish(id(1), Outcome::Reverted).unwrap_err(),
        locked.set_boot(id(1)).unwrap_err(),
        History::lock(elsewhere, WAIT).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(kind(&error), ErrorKind::ReadOnlyFilesystem);
        assert!(error.help().contains("read-write"), "{}", error.help());
    }
    assert_eq!(contents(&state.dir), before);
}
