//! A filter of system calls, by number (seccomp(2)): what is not named passes.

mod calls;

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch, sock_filter,
};

use super::Needs;

/// No processor has a call of such a number, but x86-64: there, this bit asks for the x32 form of
/// a call, which is another number for the same work (`__X32_SYSCALL_BIT` in `asm/unistd.h`).
const FOREIGN: u32 = 0x4000_0000;

pub fn install(needs: &Needs) -> Result<(), String> {
    let filter = filter(needs).map_err(|e| format!("make a filter of system calls: {e}"))?;
    seccompiler::apply_filter(&filter).map_err(|e| format!("filter system calls: {e}"))
}

/// Refuses with EPERM: a library that tries something of its own accord goes on without it. A call
/// by the table of another processor, such as that of a 32-bit program, ends the process.
fn filter(needs: &Needs) -> Result<BpfProgram, BackendError> {
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
    let named = SeccompFilter::new(refused, SeccompAction::Allow, refusal, architecture)?;
    let mut program = foreign_refused().to_vec();
    program.append(&mut named.try_into()?);
    Ok(program)
}

/// What stands in front of the rules of seccompiler, which can only compare a number with one
/// other.
fn foreign_refused() -> [sock_filter; 3] {
    let step = |code: u32, jt: u8, jf: u8, k: u32| sock_filter { code: code as u16, jt, jf, k };
    let number = std::mem::offset_of!(libc::seccomp_data, nr) as u32;
    let refusal = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, number),
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, FOREIGN),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, refusal),
    ]
}

/// With flags, in this argument, that open a file for more than reading.
fn to_write(argument: u8) -> Result<Vec<SeccompRule>, BackendError> {
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
