//! The history on a real file system: damage, a full disk, killed processes, many at once.
//!
//! Some tests start this program again as another process, in the part that `PART` names.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nix::sched::{CloneFlags, unshare};
use portmap::journal::{
    Command, Draft, Error, Holder, Journal, KEEP, Locked, Outcome, Seen, Trial, active, readable,
    rollback_target,
};
use tempfile::TempDir;

const WAIT: Duration = Duration::from_secs(20);
const MAPPING: &str = "ports:\n  80: 3000\n";
const NO_TABLE: Seen = Seen { generation: None, trial: Trial::None };

const fn stamp(generation: u64) -> Seen {
    Seen { generation: Some(generation), trial: Trial::None }
}

fn draft(parent: u64) -> Draft {
    Draft {
        who: None,
        command: Command::Apply,
        sources: vec!["rules.yaml".into()],
        message: None,
        parent: Some(parent),
        restores: None,
        trial_until: None,
    }
}

fn journal() -> (TempDir, Journal) {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::at(dir.path().join("portmap"));
    (dir, journal)
}

/// As an apply that goes well.
fn apply(locked: &Locked, mapping: &str) -> u64 {
    let parent = locked.numbers().unwrap().last().copied().unwrap_or(0);
    let header = locked.begin(draft(parent), mapping, Some(parent)).unwrap();
    locked.finish(header.number, Outcome::Committed).unwrap();
    header.number
}

fn generation(journal: &Journal, number: u64) -> PathBuf {
    journal.dir().join(format!("generations/{number:06}.yaml"))
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

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    // In an ordinary user's namespace root is the only user, and may not remount
    // (user_namespaces(7)).
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    let real = map.lines().any(|line| line.split_whitespace().nth(2) != Some("1"));
    if !(root && real) {
        eprintln!("left out: needs root");
    }
    root && real
}

#[test]
fn a_generation_comes_back_as_it_was_written() {
    let (_dir, journal) = journal();
    let locked = journal.lock(WAIT).unwrap();
    let until = SystemTime::now() + Duration::from_secs(60);
    let draft =
        Draft { message: Some("a: \"b\"\n---\n# c".into()), trial_until: Some(until), ..draft(0) };
    let header = locked.begin(draft, MAPPING, None).unwrap();
    assert_eq!((header.number, header.outcome), (1, Outcome::Intent));
    assert_eq!(journal.read(1).unwrap(), (header.clone(), MAPPING.to_owned()));

    locked.finish(1, Outcome::Trial).unwrap();
    let (read, mapping) = journal.read(1).unwrap();
    assert_eq!(read.outcome, Outcome::Trial);
    assert_eq!((read.message, read.trial_until), (header.message, header.trial_until));
    assert_eq!(mapping, MAPPING);
    assert!(fs::read_to_string(generation(&journal, 1)).unwrap().ends_with(MAPPING));
}

#[test]
fn where_nothing_was_kept_it_says_so() {
    let (_dir, journal) = journal();
    assert!(matches!(journal.list(), Err(Error::Absent { .. })));
    assert!(matches!(journal.read(1), Err(Error::Absent { .. })));
    assert!(matches!(journal.boot(), Err(Error::Absent { .. })));

    let locked = journal.lock(WAIT).unwrap();
    assert!(journal.list().unwrap().is_empty());
    assert_eq!(journal.boot().unwrap(), None);
    assert!(matches!(locked.finish(1, Outcome::Committed), Err(Error::Missing { .. })));
    assert!(matches!(locked.set_boot(1), Err(Error::Missing { .. })));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(journal.dir()), 0o755);
    assert_eq!(mode(&journal.dir().join("lock")), 0o600);

    // A directory that was lost is not an empty history.
    fs::remove_dir(journal.dir().join("generations")).unwrap();
    assert!(matches!(journal.list(), Err(Error::Absent { .. })));
}

#[test]
fn boot_restores_what_it_is_told() {
    let (_dir, journal) = journal();
    let locked = journal.lock(WAIT).unwrap();
    apply(&locked, MAPPING);
    locked.set_boot(1).unwrap();
    assert_eq!(journal.boot().unwrap(), Some(1));
    locked.clear_boot().unwrap();
    locked.clear_boot().unwrap();
    assert_eq!(journal.boot().unwrap(), None);

    locked.set_boot(1).unwrap();
    fs::write(journal.dir().join("boot"), "").unwrap();
    assert!(matches!(journal.boot(), Err(Error::Damaged { .. })));
    assert!(matches!(locked.prune(0, Some(1)), Err(Error::Damaged { .. })));
    // It keeps nobody from going on.
    assert_eq!(apply(&locked, MAPPING), 2);
}

#[test]
fn back_leads_through_rollbacks_to_the_beginning() {
    let (_dir, journal) = journal();
    let locked = journal.lock(WAIT).unwrap();
    let texts = ["", "one", "two", "three"];
    for text in &texts[1..] {
        apply(&locked, text);
    }
    for expected in ["two", "one", ""] {
        let entries = journal.list().unwrap();
        let newest = entries.last().unwrap().number;
        let parent = active(readable(&entries), stamp(newest));
        let target = rollback_target(readable(&entries), &journal.numbers().unwrap(), parent);
        let target = target.unwrap();
        let mapping = if target == 0 { String::new() } else { journal.read(target).unwrap().1 };
        assert_eq!(mapping, expected);
        let draft =
            Draft { command: Command::Rollback, parent, restores: Some(target), ..draft(0) };
        let new = locked.begin(draft, &mapping, Some(newest)).unwrap();
        locked.finish(new.number, Outcome::Committed).unwrap();
    }
    let entries = journal.list().unwrap();
    let parent = active(readable(&entries), NO_TABLE);
    assert_eq!(parent, Some(6));
    let target = rollback_target(readable(&entries), &journal.numbers().unwrap(), parent);
    assert_eq!(target.unwrap_err().to_string(), "nothing came before: no mapping is active");
}

#[test]
fn fifty_are_kept_and_what_is_needed() {
    let (_dir, journal) = journal();
    let locked = journal.lock(WAIT).unwrap();
    for _ in 0..60 {
        apply(&locked, MAPPING);
    }
    locked.set_boot(5).unwrap();
    fs::write(generation(&journal, 3), "rubbish").unwrap();
    assert_eq!(locked.prune(KEEP, Some(60)).unwrap(), [1, 2, 6, 7, 8, 9, 10]);
    let numbers: BTreeSet<u64> = [3, 4, 5].into_iter().chain(11..=60).collect();
    assert_eq!(journal.numbers().unwrap(), numbers);
}

#[test]
fn a_number_is_never_used_twice() {
    let (_dir, journal) = journal();
    let locked = journal.lock(WAIT).unwrap();
    assert_eq!(locked.begin(draft(0), MAPPING, Some(7)).unwrap().number, 8);
    // A name is enough, be the file what it may.
    fs::write(generation(&journal, 20), "rubbish").unwrap();
    assert_eq!(apply(&locked, MAPPING), 21);
    locked.set_boot(21).unwrap();
    fs::remove_file(generation(&journal, 21)).unwrap();
    assert_eq!(apply(&locked, MAPPING), 22);
    // What is not named as we name it is not ours.
    fs::write(journal.dir().join("generations/99.yaml"), "").unwrap();
    fs::write(journal.dir().join("generations/000099.yaml.orig"), "").unwrap();
    assert_eq!(apply(&locked, MAPPING), 23);
    fs::write(journal.dir().join(format!("generations/{}.yaml", u64::MAX)), "").unwrap();
    assert!(matches!(locked.begin(draft(0), MAPPING, None), Err(Error::Exhausted { .. })));
}

#[test]
fn no_damage_makes_a_wrong_mapping_or_hides_the_others() {
    let (_dir, journal) = journal();
    let locked = journal.lock(WAIT).unwrap();
    for mapping in ["first", MAPPING, "third"] {
        apply(&locked, mapping);
    }
    let path = generation(&journal, 2);
    let good = fs::read(&path).unwrap();
    let check = |bad: &[u8], what: &str| {
        fs::write(&path, bad).unwrap();
        let error = journal.read(2).expect_err(what);
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
    check(&fs::read(generation(&journal, 3)).unwrap(), "another generation's file");

    let entries = journal.list().unwrap();
    let known: Vec<(u64, bool)> = entries.iter().map(|e| (e.number, e.header.is_ok())).collect();
    assert_eq!(known, [(1, true), (2, false), (3, true)]);
    assert_eq!(locked.mend(stamp(3)).unwrap(), []);
    assert_eq!(apply(&locked, MAPPING), 4);
}

#[test]
fn a_damaged_mapping_does_not_keep_its_generation_open() {
    let (_dir, journal) = journal();
    let locked = journal.lock(WAIT).unwrap();
    locked.begin(draft(0), MAPPING, None).unwrap();
    let path = generation(&journal, 1);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("3000", "3001")).unwrap();

    assert_eq!(locked.mend(stamp(1)).unwrap().len(), 1);
    assert_eq!(journal.list().unwrap()[0].header.as_ref().unwrap().outcome, Outcome::Committed);
    assert!(matches!(journal.read(1), Err(Error::Damaged { .. })));
}

#[test]
fn what_is_no_file_or_too_large_is_refused() {
    let (_dir, journal) = journal();
    let locked = journal.lock(WAIT).unwrap();
    apply(&locked, MAPPING);
    let path = generation(&journal, 2);
    fs::create_dir(&path).unwrap();
    assert!(matches!(journal.read(2), Err(Error::Damaged { .. })));
    fs::remove_dir(&path).unwrap();

    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(matches!(journal.read(2), Err(Error::Damaged { .. })));
    fs::remove_file(&path).unwrap();

    symlink(generation(&journal, 1), &path).unwrap();
    let error = journal.read(2).unwrap_err();
    assert!(error.help().contains("symbolic link"), "{}", error.help());
    fs::remove_file(&path).unwrap();

    let long = "x".repeat(33 << 20);
    assert!(matches!(locked.begin(draft(0), &long, None), Err(Error::TooLarge { .. })));
    let wordy = Draft { message: Some("x".repeat(2 << 20)), ..draft(0) };
    assert!(matches!(locked.begin(wordy, MAPPING, None), Err(Error::TooLarge { .. })));
    fs::write(&path, long).unwrap();
    assert!(matches!(journal.read(2), Err(Error::Damaged { .. })));
    fs::remove_file(&path).unwrap();
    assert_eq!(journal.list().unwrap().len(), 1);
}

#[test]
fn root_does_not_believe_what_others_may_write() {
    if !is_root() {
        return;
    }
    let (_dir, journal) = journal();
    apply(&journal.lock(WAIT).unwrap(), MAPPING);
    let untrusted = || {
        let error = journal.read(1).unwrap_err();
        assert!(matches!(error, Error::Untrusted { .. }), "{error}");
        error
    };
    let file = generation(&journal, 1);
    for path in [journal.dir(), &journal.dir().join("generations"), &file] {
        let before = fs::metadata(path).unwrap().permissions();
        fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
        assert_eq!(untrusted().path(), path);
        fs::set_permissions(path, before).unwrap();
        std::os::unix::fs::chown(path, Some(1234), None).unwrap();
        assert_eq!(untrusted().path(), path);
        std::os::unix::fs::chown(path, Some(0), None).unwrap();
    }
    journal.read(1).unwrap();
    fs::set_permissions(journal.dir(), PermissionsExt::from_mode(0o777)).unwrap();
    assert!(matches!(journal.lock(WAIT), Err(Error::Untrusted { .. })));
}

#[test]
fn a_second_one_waits_and_is_told_for_whom() {
    let (_dir, journal) = journal();
    let held = journal.lock(WAIT).unwrap();
    let began = Instant::now();
    let error = journal.lock(Duration::from_millis(300)).unwrap_err();
    assert!(began.elapsed() >= Duration::from_millis(300));
    let Error::Locked { holder: Some(Holder { pid, name: Some(_) }), .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*pid, std::process::id() as i32);
    assert!(error.to_string().ends_with("still after 300ms"), "{error}");

    // Readers do not wait, and another directory is another lock.
    assert!(journal.list().unwrap().is_empty());
    let (_other_dir, other) = self::journal();
    other.lock(Duration::ZERO).unwrap();

    let waiting = std::thread::spawn({
        let journal = journal.clone();
        move || journal.lock(Duration::MAX).map(drop)
    });
    drop(held);
    waiting.join().unwrap().unwrap();
}

#[test]
fn everybody_has_a_turn() {
    let (_dir, journal) = journal();
    let end = Instant::now() + Duration::from_secs(2);
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let journal = journal.clone();
            std::thread::spawn(move || {
                let mut turns = 0;
                while Instant::now() < end {
                    let _locked = journal.lock(WAIT).unwrap();
                    std::thread::sleep(Duration::from_millis(5));
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
    let (_dir, journal) = journal();
    let old = journal.lock(WAIT).unwrap();
    let waiting = std::thread::spawn({
        let journal = journal.clone();
        move || journal.lock(WAIT).map(drop)
    });
    std::thread::sleep(Duration::from_millis(60));
    fs::remove_dir_all(journal.dir()).unwrap();
    let new = journal.lock(WAIT).unwrap();
    drop(old);
    std::thread::sleep(Duration::from_millis(100));
    assert!(!waiting.is_finished());
    drop(new);
    waiting.join().unwrap().unwrap();
}

// Other processes.

/// Not a test of its own: what the processes do that the tests below start.
#[test]
fn part() {
    let Ok(part) = std::env::var("PART") else { return };
    let journal = Journal::at(std::env::var("STATE").unwrap());
    match part.as_str() {
        "begin and hang" => {
            let locked = journal.lock(WAIT).unwrap();
            locked.begin(draft(0), MAPPING, None).unwrap();
            fs::write(journal.dir().join("generations/000009.yaml.tmp"), "half").unwrap();
            println!("begun");
            std::thread::sleep(Duration::from_secs(600));
        }
        "apply" => {
            for _ in 0..10 {
                let locked = journal.lock(WAIT).unwrap();
                assert_eq!(locked.mend(NO_TABLE).unwrap(), []);
                apply(&locked, MAPPING);
            }
        }
        other => panic!("no such part: {other}"),
    }
}

fn start(part: &str, journal: &Journal) -> Child {
    Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "part", "--nocapture"])
        .env("PART", part)
        .env("STATE", journal.dir())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn the_next_one_mends_what_a_killed_one_began() {
    for (seen, expected) in [(stamp(1), Outcome::Committed), (NO_TABLE, Outcome::Failed)] {
        let (_dir, journal) = journal();
        let mut child = start("begin and hang", &journal);
        let began = Instant::now();
        while journal.read(1).is_err()
            || !journal.dir().join("generations/000009.yaml.tmp").exists()
        {
            assert!(began.elapsed() < WAIT);
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(matches!(journal.lock(Duration::ZERO), Err(Error::Locked { .. })));
        child.kill().unwrap();
        child.wait().unwrap();

        assert_eq!(journal.list().unwrap().len(), 1);
        let locked = journal.lock(WAIT).unwrap();
        let mends = locked.mend(seen).unwrap();
        assert_eq!(mends.iter().map(|m| (m.number, m.to)).collect::<Vec<_>>(), [(1, expected)]);
        assert_eq!(journal.read(1).unwrap().0.outcome, expected);
        assert_eq!(locked.mend(seen).unwrap(), []);
        assert!(contents(journal.dir()).iter().all(|(path, _)| !path.ends_with("000009.yaml.tmp")));
    }
}

#[test]
fn many_at_once_make_one_line() {
    let (_dir, journal) = journal();
    let mut children: Vec<Child> = (0..8).map(|_| start("apply", &journal)).collect();
    let mut reads = 0;
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        // Without the lock, and still never half a state.
        match journal.list() {
            Ok(entries) => {
                for entry in &entries {
                    let (header, mapping) = journal.read(entry.number).unwrap();
                    assert_eq!((header.number, mapping.as_str()), (entry.number, MAPPING));
                    assert!(entry.header.is_ok());
                }
                reads += 1;
            }
            Err(error) => assert!(matches!(error, Error::Absent { .. }), "{error}"),
        }
    }
    assert!(reads > 0);
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let entries = journal.list().unwrap();
    let line: Vec<(u64, Option<u64>)> =
        readable(&entries).map(|header| (header.number, header.parent)).collect();
    assert_eq!(line, (1..=80).map(|n| (n, Some(n - 1))).collect::<Vec<_>>());
}

// Bad disks. A thread can have mounts of its own.

fn mount(args: &[&str], at: &Path) {
    assert!(Process::new("mount").args(args).arg(at).status().unwrap().success());
}

fn private_mounts() -> bool {
    let root = is_root() && unshare(CloneFlags::CLONE_NEWNS).is_ok();
    if root {
        mount(&["--make-rprivate"], Path::new("/"));
    }
    root
}

fn kind(error: &Error) -> ErrorKind {
    let source = error.source().unwrap_or_else(|| panic!("{error}"));
    source.downcast_ref::<std::io::Error>().unwrap().kind()
}

#[test]
fn a_full_disk_leaves_everything_as_it_was() {
    if !private_mounts() {
        return;
    }
    let (dir, journal) = journal();
    mount(&["-t", "tmpfs", "-o", "size=256k", "portmap-test"], dir.path());
    let locked = journal.lock(WAIT).unwrap();
    apply(&locked, MAPPING);
    locked.set_boot(1).unwrap();
    let before = contents(journal.dir());

    let long = "x".repeat(1 << 20);
    let error = locked.begin(draft(1), &long, Some(1)).unwrap_err();
    assert_eq!(kind(&error), ErrorKind::StorageFull);
    assert!(error.to_string().contains("000002.yaml"), "{error}");
    assert!(error.help().contains("make room"), "{}", error.help());
    assert_eq!(contents(journal.dir()), before);

    // To the last byte.
    let filler = dir.path().join("filler");
    fs::write(&filler, vec![0; 1 << 20]).unwrap_err();
    for result in [locked.finish(1, Outcome::Reverted), locked.set_boot(1)] {
        assert_eq!(kind(&result.unwrap_err()), ErrorKind::StorageFull);
    }
    assert_eq!(contents(journal.dir()), before);
    drop(locked);
    // The lock, and what only removes, work all the same.
    journal.lock(WAIT).unwrap().clear_boot().unwrap();

    fs::remove_file(filler).unwrap();
    assert_eq!(apply(&journal.lock(WAIT).unwrap(), MAPPING), 2);
}

#[test]
fn a_read_only_disk_can_be_read_and_locked() {
    if !private_mounts() {
        return;
    }
    let (dir, journal) = journal();
    mount(&["-t", "tmpfs", "portmap-test"], dir.path());
    apply(&journal.lock(WAIT).unwrap(), MAPPING);
    let elsewhere = Journal::at(dir.path().join("elsewhere"));
    mount(&["-o", "remount,ro"], dir.path());

    let before = contents(journal.dir());
    assert_eq!(journal.read(1).unwrap().1, MAPPING);
    let locked = journal.lock(WAIT).unwrap();
    assert!(matches!(journal.lock(Duration::ZERO), Err(Error::Locked { .. })));
    let errors = [
        locked.begin(draft(1), MAPPING, Some(1)).unwrap_err(),
        locked.finish(1, Outcome::Reverted).unwrap_err(),
        locked.set_boot(1).unwrap_err(),
        elsewhere.lock(WAIT).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(kind(&error), ErrorKind::ReadOnlyFilesystem);
        assert!(error.help().contains("read-write"), "{}", error.help());
    }
    assert_eq!(contents(journal.dir()), before);
}
