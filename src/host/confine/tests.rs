//! With real files, on threads of their own: a confinement is a thread's, and lasts as long as it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread as threads;

use nix::libc;
use nix::sched::{CloneFlags, unshare};

use super::*;

/// What `f` finds on a thread that is confined; `None`, with the reason shown, where it cannot be.
#[track_caller]
fn confined<T: Send>(needs: Needs, f: impl FnOnce() -> T + Send) -> Option<T> {
    let on_thread = || confine(&needs).map(|()| f());
    let found = threads::scope(|scope| scope.spawn(on_thread).join()).unwrap();
    found.map_err(left_out).ok()
}

/// Fails where there is seccomp, and the numbers of the processor's calls are known.
#[track_caller]
fn left_out(why: String) {
    let known = ["x86_64", "aarch64", "riscv64"].contains(&std::env::consts::ARCH);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    assert!(!known || !status.contains("\nSeccomp:"), "{why}");
    eprintln!("left out: {why}");
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
    let ran = confined(Needs::CHANGE, || {
        fs::write(dir.path().join("new"), "text").unwrap();
        refused("execute", Command::new("/bin/true").status());
        refused("unshare", unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from));
    });
    let Some(()) = ran else { return };
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

/// A small program in C, because a call without libc's help is unsafe code.
fn compiled(dir: &Path, source: &str) -> PathBuf {
    let (text, program) = (dir.join("program.c"), dir.join("program"));
    fs::write(&text, source).unwrap();
    let status = Command::new("cc").arg("-o").arg(&program).arg(&text).status();
    assert!(status.unwrap().success(), "cc compiles a small program");
    program
}

/// What takes a machine over, by the numbers that the C library knows. The arguments make no sense,
/// so that a kernel that is asked says so, and nothing happens: a line for each call, with its error
/// number.
const TAKE_OVER: &str = r#"
    #include <errno.h>
    #include <stdio.h>
    #include <sys/ioctl.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    #ifndef SYS_io_uring_setup
    #define SYS_io_uring_setup 425
    #endif
    #define CALL(name, ...) \
        errno = 0, syscall(SYS_##name, __VA_ARGS__), printf(#name " %d\n", errno)
    int main(void) {
        CALL(ptrace, -1, -1, 0, 0);
        CALL(mount, 0, 0, 0, 0, 0);
        CALL(finit_module, -1, "", 0);
        CALL(setuid, getuid());
        CALL(clock_settime, 9999, 0);
        CALL(bpf, -1, 0, 0);
        CALL(io_uring_setup, 0, 0);
        CALL(ioctl, -1, TIOCSTI, 0);
        return 0;
    }"#;

const TAKING_OVER: [&str; 8] = [
    "ptrace",
    "mount",
    "finit_module",
    "setuid",
    "clock_settime",
    "bpf",
    "io_uring_setup",
    "ioctl",
];

/// The calls of [`TAKE_OVER`] that were answered with EPERM.
fn not_permitted(program: &Path) -> Vec<String> {
    let output = Command::new(program).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<_> = said.lines().filter_map(|line| line.split_once(' ')).collect();
    assert_eq!(answers.len(), TAKING_OVER.len(), "{said}");
    let eperm = libc::EPERM.to_string();
    let refused = answers.into_iter().filter(|(_, errno)| *errno == eperm);
    refused.map(|(name, _)| name.to_owned()).collect()
}

/// The filter alone, with all capabilities that there are: it is not for want of them that a call is
/// refused.
#[test]
fn nobody_can_take_the_machine_over() {
    let dir = tempfile::tempdir().unwrap();
    let program = compiled(dir.path(), TAKE_OVER);
    let executes = |needs: Needs| Needs { executes: true, ..needs };
    for needs in [
        Needs::FILES,
        Needs::KERNEL,
        Needs::CHANGE,
        Needs::LOOK_AROUND,
        Needs::LOOK_AROUND.and_make_namespaces(),
        Needs { writes: true, ..Needs::LOOK_AROUND.and_make_namespaces() },
    ] {
        let filtered = || {
            thread::set_no_new_privs(true).unwrap();
            filter::install(&executes(needs)).map(|()| not_permitted(&program))
        };
        let refused = threads::scope(|scope| scope.spawn(filtered).join()).unwrap();
        match refused {
            Ok(refused) => assert_eq!(refused, TAKING_OVER, "{needs:?}"),
            Err(why) => return left_out(why),
        }
    }
    // That the filter makes a difference: to root of the machine, the kernel says something else.
    let before = not_permitted(&program);
    let never = ["ptrace", "mount", "setuid", "clock_settime", "ioctl"];
    assert!(!before.iter().any(|call| never.contains(&call.as_str())), "{before:?}");
}

/// What the filter looks at the arguments for: an attribute of a file that is open to read, one of
/// another kind of file system, and a new user namespace, by either call. Without a filter, none of
/// them has a meaning to the kernel either.
const BY_ARGUMENTS: &str = r#"
    #define _GNU_SOURCE
    #include <errno.h>
    #include <linux/fs.h>
    #include <sched.h>
    #include <stdio.h>
    #include <sys/ioctl.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    #define CALL(...) errno = 0, syscall(__VA_ARGS__), printf("%d ", errno)
    int main(void) {
        CALL(SYS_ioctl, -1, FS_IOC_SETFLAGS, 0);
        CALL(SYS_ioctl, -1, FICLONE, 0);
        CALL(SYS_ioctl, -1, TCGETS, 0);
        CALL(SYS_clone, CLONE_NEWUSER | CLONE_FS, 0, 0, 0, 0);
        CALL(435, 0, 0);
        return 0;
    }"#;

#[test]
fn arguments_are_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let program = compiled(dir.path(), BY_ARGUMENTS);
    let said = |install: &(dyn Fn() -> Result<(), String> + Sync)| {
        let on_thread = || {
            thread::set_no_new_privs(true).unwrap();
            install()?;
            Ok(String::from_utf8(Command::new(&program).output().unwrap().stdout).unwrap())
        };
        threads::scope(|scope| scope.spawn(on_thread).join()).unwrap()
    };
    let (eperm, ebadf, einval) = (libc::EPERM, libc::EBADF, libc::EINVAL);
    let nothing = format!("{ebadf} {ebadf} {ebadf} {einval} {einval} ");
    assert_eq!(said(&|| Ok(())), Ok::<_, String>(nothing.clone()));
    let reads = Needs { executes: true, ..Needs::KERNEL };
    let changes = Needs { writes: true, ..reads };
    let all = changes.and_make_namespaces();
    let enosys = libc::ENOSYS;
    for (needs, expected) in [
        (reads, format!("{eperm} {eperm} {ebadf} {eperm} {enosys} ")),
        (changes, format!("{ebadf} {ebadf} {ebadf} {eperm} {enosys} ")),
        (all, nothing),
    ] {
        match said(&|| filter::install(&needs)) {
            Ok(said) => assert_eq!(said, expected, "{needs:?}"),
            Err(why) => return left_out(why),
        }
    }
}

#[test]
fn who_is_kept_from_typing_is_kept_from_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let program = compiled(dir.path(), TAKE_OVER);
    let on_thread = || {
        let before = not_permitted(&program);
        thread::set_no_new_privs(true).unwrap();
        keep_from_typing().map(|()| (before, not_permitted(&program)))
    };
    match threads::scope(|scope| scope.spawn(on_thread).join()).unwrap() {
        Ok((before, after)) => assert_eq!(after, [before, vec!["ioctl".to_owned()]].concat()),
        Err(why) => left_out(why),
    }
}

#[test]
fn what_rests_wakes_or_is_gone() {
    let before = thread::capabilities(None).unwrap();
    let kept = Needs::FILES.capabilities;
    let on_thread = || {
        let resting = Resting::begin(kept).unwrap();
        let meanwhile = thread::capabilities(None).unwrap();
        assert_eq!(meanwhile.effective, before.effective & kept);
        assert_eq!(
            (meanwhile.permitted, meanwhile.inheritable),
            (before.permitted, before.inheritable)
        );
        resting.wake().unwrap();
        assert_eq!(thread::capabilities(None).unwrap(), before);
        Resting::begin(kept).unwrap().give_up().unwrap();
        let after = thread::capabilities(None).unwrap();
        assert_eq!(after.effective, before.effective & kept);
        assert_eq!(after.permitted, before.permitted & kept);
        assert_eq!(after.inheritable, before.inheritable & kept);
    };
    threads::scope(|scope| scope.spawn(on_thread).join()).unwrap();
}

/// The numbers of other tables than the processor's own, on which the filter must not depend.
#[cfg(target_arch = "x86_64")]
mod foreign {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    /// Makes a directory by the x32 form of mkdir(2), types into a terminal that is none by a 32-bit
    /// program's ioctl(2) and the x32 one, or asks a 32-bit program's getpid(2). Ends with the error
    /// number, or with those of the two.
    const PROGRAM: &str = r#"
        #include <errno.h>
        #include <stdio.h>
        #include <sys/ioctl.h>
        #include <sys/syscall.h>
        #include <unistd.h>
        static long as_32_bit(long number, long first, long second) {
            long result;
            __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first), "c"(second), "d"(0)
                             : "r8", "r9", "r10", "r11", "memory");
            return result;
        }
        int main(int count, char **arguments) {
            if (count > 2) {
                int x32 = syscall(0x40000000 | 514, -1, TIOCSTI, 0) == 0 ? 0 : errno;
                printf("%d %d\n", x32, -(int)as_32_bit(54, -1, TIOCSTI));
                return 0;
            }
            if (count > 1)
                return syscall(0x40000000 | SYS_mkdir, arguments[1], 0700) == 0 ? 0 : errno;
            return as_32_bit(20, 0, 0) == getpid() ? 0 : ENOSYS;
        }"#;

    /// By a program that a confined process starts.
    fn call(command: &mut Command) -> Option<ExitStatus> {
        let needs = Needs { executes: true, ..Needs::KERNEL };
        confined(needs, || command.status().unwrap())
    }

    #[test]
    fn the_x32_form_of_a_call_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().join("made");
        let Some(status) = call(Command::new(compiled(dir.path(), PROGRAM)).arg(&made)) else {
            return;
        };
        // ENOSYS is the answer of a kernel that does not know x32, if it is asked.
        assert_eq!(status.code(), Some(libc::EPERM), "{status}");
        assert!(!made.exists());
    }

    /// Unless this kernel runs no 32-bit programs.
    fn of_32_bit(dir: &Path) -> Option<Command> {
        let mut command = Command::new(compiled(dir, PROGRAM));
        let status = command.status().unwrap();
        if !status.success() {
            eprintln!("left out: this kernel runs no 32-bit programs: {status}");
        }
        status.success().then_some(command)
    }

    #[test]
    fn a_32_bit_program_that_is_kept_from_typing_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let Some(mut command) = of_32_bit(dir.path()) else { return };
        let on_thread = || {
            thread::set_no_new_privs(true).unwrap();
            keep_from_typing().unwrap();
            assert!(command.status().unwrap().success());
            String::from_utf8(command.args(["both", "types"]).output().unwrap().stdout).unwrap()
        };
        let said = threads::scope(|scope| scope.spawn(on_thread).join()).unwrap();
        assert_eq!(said, format!("{0} {0}\n", libc::EPERM));
    }

    #[test]
    fn a_call_of_a_32_bit_program_ends_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let Some(mut command) = of_32_bit(dir.path()) else { return };
        let Some(status) = call(&mut command) else { return };
        assert_eq!(status.signal(), Some(libc::SIGSYS), "{status}");
    }
}
