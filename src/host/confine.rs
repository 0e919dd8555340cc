//! What this process will never need, given up before it reads anything that others wrote: so that
//! a mistake in a parser is no way to the rest of the machine.
//!
//! Capabilities go, `no_new_privs` is set, and a filter refuses system calls (seccomp(2)). Landlock
//! would say more exactly which files may be written, but a process under it cannot see which
//! sockets the processes of others have open (`hook_ptrace_access_check` in the kernel's
//! `security/landlock/task.c`), and to name these is part of what portmap is for.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
mod filter;

/// Others are not known to [`seccompiler`].
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
mod filter {
    pub fn install(_: &super::Needs) -> Result<(), String> {
        keep_from_typing()
    }

    pub fn keep_from_typing() -> Result<(), String> {
        let processor = std::env::consts::ARCH;
        Err(format!("filter system calls: their numbers on {processor} are not known"))
    }
}

use rustix::thread::{self, CapabilitySet, CapabilitySets};

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

    /// Makes a mapping, and becomes another user: what `run` does before its command begins.
    pub const RUN: CapabilitySet = Self::KERNEL
        .capabilities
        .union(CapabilitySet::SETUID)
        .union(CapabilitySet::SETGID)
        .union(CapabilitySet::SETPCAP);

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
    filter::install(needs)
}

/// This process, and those that it starts, cannot type into their terminal any more. Needs
/// `no_new_privs`.
///
/// # Errors
///
/// What this kernel or processor cannot do.
pub fn keep_from_typing() -> Result<(), String> {
    filter::keep_from_typing()
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

/// What a process lets rest because it may have to pass it on: until then it does without.
#[derive(Debug)]
pub struct Resting {
    before: CapabilitySets,
    kept: CapabilitySet,
}

impl Resting {
    /// Of the capabilities that have an effect, only these have one from here on.
    ///
    /// # Errors
    ///
    /// Why that cannot be; then nothing has changed.
    pub fn begin(kept: CapabilitySet) -> Result<Self, String> {
        let failed = |e| format!("let capabilities rest: {e}");
        let before = thread::capabilities(None).map_err(failed)?;
        let effective = before.effective & kept;
        let sets = CapabilitySets { effective, ..before };
        thread::set_capabilities(None, sets).map_err(failed)?;
        Ok(Self { before, kept })
    }

    /// All is as it was.
    pub fn wake(self) -> Result<(), String> {
        thread::set_capabilities(None, self.before).map_err(|e| format!("wake capabilities: {e}"))
    }

    /// What rests is gone for good.
    pub fn give_up(self) -> Result<(), String> {
        drop_capabilities(self.kept)
    }
}

/// `f`, without administering the network meanwhile.
pub fn without_the_network<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    let resting = Resting::begin(NETWORK.complement())?;
    let outcome = f();
    resting.wake()?;
    Ok(outcome)
}

#[cfg(test)]
mod tests;
