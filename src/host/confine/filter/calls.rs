//! System calls by what they are for.

use nix::libc::*;

/// Newer than libc's own list; since 5.1 all architectures have the same numbers
/// (`scripts/syscall.tbl` of the kernel).
const FCHMODAT2: c_long = 452;
const SETXATTRAT: c_long = 463;
const REMOVEXATTRAT: c_long = 466;
const OPEN_TREE_ATTR: c_long = 467;
const FILE_SETATTR: c_long = 469;

/// For who takes a machine over: other processes' memory, mounts, kernel code, the clock. What
/// io_uring does passes by the filter.
#[rustfmt::skip]
pub const NEVER: &[c_long] = &[
    SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp, SYS_pidfd_getfd,
    SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_open_tree, SYS_move_mount,
    SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick, SYS_mount_setattr, OPEN_TREE_ATTR,
    SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_bpf,
    SYS_perf_event_open, SYS_reboot, SYS_swapon, SYS_swapoff, SYS_quotactl, SYS_acct,
    SYS_settimeofday, SYS_clock_settime, SYS_clock_adjtime, SYS_adjtimex,
    SYS_sethostname, SYS_setdomainname, SYS_add_key, SYS_request_key, SYS_keyctl,
    SYS_userfaultfd, SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register,
    SYS_open_by_handle_at, SYS_fanotify_init, SYS_mknodat,
    SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid,
    SYS_setfsuid, SYS_setfsgid, SYS_setgroups,
    #[cfg(target_arch = "x86_64")] SYS_mknod,
    #[cfg(target_arch = "x86_64")] SYS_iopl,
    #[cfg(target_arch = "x86_64")] SYS_ioperm,
    #[cfg(target_arch = "x86_64")] SYS_kexec_file_load,
];

pub const NAMESPACES: &[c_long] = &[SYS_unshare, SYS_setns];

/// Has its flags in memory, where no filter sees them: glibc goes on with clone(2) where it is not
/// implemented.
pub const CLONE3: c_long = SYS_clone3;

/// Flags of clone(2), of which each makes a namespace.
pub const NEW_NAMESPACES: c_int = CLONE_NEWNS
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNET;

/// The numbers of ioctl(2): the processor's own, that of 32-bit programs (`asm/unistd_32.h` of
/// x86, `tools/syscall.tbl` of arm), and that of x32 ones. Where one of them is another call
/// (setsockopt(2), fchownat(2)), no second argument of it is a request of [`TYPING`].
pub const IOCTL: &[u32] = &[SYS_ioctl as u32, 54, 0x4000_0000 | 514];

/// Requests of ioctl(2) by which a process types into its terminal, or has a console do so.
pub const TYPING: &[Ioctl] = &[TIOCSTI, TIOCLINUX];

/// Types of requests of ioctl(2) that change files and file systems through a descriptor that is
/// only open to read.
pub const OF_FILES: &[u8] = &[b'f', b'v', b'X', 0x94];

pub const EXECUTE: &[c_long] = &[SYS_execve, SYS_execveat];

/// Without those that open files. `openat2` has its flags in memory, where no filter sees them.
#[rustfmt::skip]
pub const CHANGE_FILES: &[c_long] = &[
    SYS_openat2, SYS_renameat2, SYS_linkat, SYS_symlinkat, SYS_unlinkat, SYS_mkdirat,
    SYS_fchmod, SYS_fchmodat, FCHMODAT2, SYS_fchown, SYS_fchownat, SYS_truncate,
    SYS_ftruncate, SYS_fallocate, SYS_utimensat, SYS_setxattr, SYS_lsetxattr,
    SYS_fsetxattr, SETXATTRAT, SYS_removexattr, SYS_lremovexattr, SYS_fremovexattr,
    REMOVEXATTRAT, FILE_SETATTR,
    #[cfg(not(target_arch = "riscv64"))] SYS_renameat,
    #[cfg(target_arch = "x86_64")] SYS_creat,
    #[cfg(target_arch = "x86_64")] SYS_rename,
    #[cfg(target_arch = "x86_64")] SYS_link,
    #[cfg(target_arch = "x86_64")] SYS_symlink,
    #[cfg(target_arch = "x86_64")] SYS_unlink,
    #[cfg(target_arch = "x86_64")] SYS_rmdir,
    #[cfg(target_arch = "x86_64")] SYS_mkdir,
    #[cfg(target_arch = "x86_64")] SYS_chmod,
    #[cfg(target_arch = "x86_64")] SYS_chown,
    #[cfg(target_arch = "x86_64")] SYS_lchown,
    #[cfg(target_arch = "x86_64")] SYS_utime,
    #[cfg(target_arch = "x86_64")] SYS_utimes,
    #[cfg(target_arch = "x86_64")] SYS_futimesat,
];

/// Each with the place of its flags among the arguments, counted from 0.
pub const OPEN: &[(c_long, u8)] = &[
    (SYS_openat, 2),
    #[cfg(target_arch = "x86_64")]
    (SYS_open, 1),
];
