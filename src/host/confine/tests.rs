//! With real files, on threads of their own: a confinement is a thread's, and lasts as long as it.

use std::fs::{self, File};
use std::io;
use std::process::Command;
use std::thread as threads;

use nix::sched::{CloneFlags, unshare};

use super::*;

/// What `f` finds on a thread that is confined; `None`, with the reason shown, where it cannot be.
fn confined<T: Send>(needs: Needs, f: impl FnOnce() -> T + Send) -> Option<T> {
    let on_thread = || match confine(&needs) {
        Ok(()) => Some(f()),
        Err(why) => {
            eprintln!("left out: {why}");
            None
        }
    };
    threads::scope(|scope| scope.spawn(on_thread).join()).unwrap()
}

#[track_caller]
fn refused<T>(what: &str, result: io::Result<T>) {
    let error = result.err().unwrap_or_else(|| panic!("{what} was not refused"));
    assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{what}: {error}");
}

#[test]
fn who_only_reads_cannot_change_any_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("file"), "text").unwrap();
    confined(Needs::KERNEL, || {
        assert_eq!(fs::read_to_string(path("file")).unwrap(), "text");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        refused("create", fs::write(path("new"), ""));
        refused("write", File::options().write(true).open(path("file")));
        refused("read and write", File::options().read(true).write(true).open(path("file")));
        refused("append", File::options().append(true).open(path("file")));
        refused("remove", fs::remove_file(path("file")));
        refused("rename", fs::rename(path("file"), path("new")));
        refused("link", fs::hard_link(path("file"), path("new")));
        refused("symlink", std::os::unix::fs::symlink("file", path("new")));
        refused("mkdir", fs::create_dir(path("new")));
        refused("chown", std::os::unix::fs::chown(path("file"), Some(0), None));
        let mode = fs::metadata(path("file")).unwrap().permissions();
        refused("chmod", fs::set_permissions(path("file"), mode));
        refused("rmdir", fs::remove_dir(dir.path()));
    });
    assert_eq!(fs::read_to_string(path("file")).unwrap(), "text");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn who_changes_the_kernel_writes_files_but_runs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    confined(Needs::CHANGE, || {
        fs::write(dir.path().join("new"), "text").unwrap();
        refused("execute", Command::new("/bin/true").status());
        refused("unshare", unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from));
    });
    assert_eq!(fs::read_to_string(dir.path().join("new")).unwrap(), "text");
}

#[test]
fn what_it_runs_is_confined_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let needs = Needs { executes: true, ..Needs::KERNEL };
    let status = confined(needs, || {
        let script = format!("echo >{}", dir.path().join("new").display());
        let written = Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
        assert!(!written.status.success(), "{written:?}");
        let status = Command::new("/bin/cat").arg("/proc/self/status").output().unwrap();
        String::from_utf8(status.stdout).unwrap()
    });
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let Some(status) = status else { return };
    assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    let capabilities = u64::from_str_radix(capabilities, 16).unwrap();
    assert_eq!(capabilities & !Needs::KERNEL.capabilities.bits(), 0, "{status}");
}

#[test]
fn capabilities_that_were_not_there_are_not_gained() {
    let before = thread::capabilities(None).unwrap();
    let after = confined(Needs::CHANGE, || thread::capabilities(None).unwrap());
    let Some(after) = after else { return };
    assert_eq!(after.effective, before.effective & Needs::CHANGE.capabilities);
    assert_eq!(after.permitted, before.permitted & Needs::CHANGE.capabilities);
}
