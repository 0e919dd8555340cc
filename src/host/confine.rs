//! What this process will never need, given up before it reads anything that others wrote: so that
//! a mistake in a parser is no way to the rest of the machine.
//!
//! Capabilities go, `no_new_privs` is set, and a filter refuses system calls (seccomp(2)). Landlock
//! would say more exactly which files may be written, but a process under it cannot see which
//! sockets the processes of others have open (`hook_ptrace_access_check` in the kernel's
//! `security/landlock/task.c`), and to name these is part of what portmap is for.

mod calls;

use std::collections::BTreeMap;

use nix::libc;
use rustix::thread::{self, CapabilitySet, CapabilitySets};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

/// What a command still needs.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    pub capabilities: CapabilitySet,
    /// Changes files: those of the state directory.
    pub writes: bool,
    /// Runs programs of the system's.
    pub executes: bool,
    /// Makes namespaces of its own.
    pub unshares: bool,
}

/// The ruleset, and whatever else belongs to the network.
const NETWORK: CapabilitySet = CapabilitySet::NET_ADMIN;
/// Files that their owners alone may read.
const FILES: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;
/// Which sockets the processes of others have open.
const PROCESSES: CapabilitySet = CapabilitySet::SYS_PTRACE;

impl Needs {
    /// Reads files.
    pub const FILES: Self =
        Self { capabilities: FILES, writes: false, executes: false, unshares: false };

    /// Looks at the kernel as well, and at the processes that listen.
    pub const KERNEL: Self =
        Self { capabilities: FILES.union(NETWORK).union(PROCESSES), ..Self::FILES };

    /// Changes the kernel, and writes down what it does.
    pub const CHANGE: Self = Self { writes: true, ..Self::KERNEL };

    /// Asks iptables' own program for the rules that only it can tell; that needs a raw socket.
    pub const LOOK_AROUND: Self = Self {
        capabilities: Self::KERNEL.capabilities.union(CapabilitySet::NET_RAW),
        executes: true,
        ..Self::KERNEL
    };

    pub const fn and_make_namespaces(self) -> Self {
        let capabilities = self.capabilities.union(CapabilitySet::SYS_ADMIN);
        Self { capabilities, unshares: true, ..self }
    }
}

/// Confines the calling thread and those that it will start, for good: to be called before there
/// are others.
///
/// # Errors
///
/// What this kernel or processor cannot do. The rest is done all the same.
pub fn confine(needs: &Needs) -> Result<(), String> {
    let dropped = drop_capabilities(needs.capabilities);
    let sealed = thread::set_no_new_privs(true).map_err(|e| format!("set no_new_privs: {e}"));
    dropped.and(sealed)?;
    let filter = filter(needs).map_err(|e| format!("make a filter of system calls: {e}"))?;
    seccompiler::apply_filter(&filter).map_err(|e| format!("filter system calls: {e}"))
}

fn drop_capabilities(kept: CapabilitySet) -> Result<(), String> {
    let failed = |e| format!("drop capabilities: {e}");
    let CapabilitySets { effective, permitted, inheritable } =
        thread::capabilities(None).map_err(failed)?;
    let rest = CapabilitySets {
        effective: effective & kept,
        permitted: permitted & kept,
        inheritable: inheritable & kept,
    };
    thread::set_capabilities(None, rest).map_err(failed)
}

/// Refuses with EPERM: a library that tries something of its own accord goes on without it.
fn filter(needs: &Needs) -> Result<BpfProgram, seccompiler::BackendError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    // Without a rule, a call is refused whatever its arguments are.
    let mut refuse = |calls: &[libc::c_long]| {
        refused.extend(calls.iter().map(|call| (*call, Vec::new())));
    };
    refuse(calls::NEVER);
    if !needs.unshares {
        refuse(calls::NAMESPACES);
    }
    if !needs.executes {
        refuse(calls::EXECUTE);
    }
    if !needs.writes {
        refuse(calls::CHANGE_FILES);
        for (call, flags) in calls::OPEN {
            refused.insert(*call, to_write(*flags)?);
        }
    }
    let refusal = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(refused, SeccompAction::Allow, refusal, architecture)?.try_into()
}

/// With flags, in this argument, that open a file for more than reading.
fn to_write(argument: u8) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let is = |mask: libc::c_int, value: libc::c_int| {
        let (mask, value) = (mask as u64, value as u64);
        let condition = SeccompCondition::new(argument, Length::Dword, Is::MaskedEq(mask), value)?;
        SeccompRule::new(vec![condition])
    };
    [
        is(libc::O_ACCMODE, libc::O_WRONLY),
        is(libc::O_ACCMODE, libc::O_RDWR),
        is(libc::O_CREAT, libc::O_CREAT),
        is(libc::O_TRUNC, libc::O_TRUNC),
    ]
    .into_iter()
    .collect()
}

#[cfg(test)]
mod tests;
