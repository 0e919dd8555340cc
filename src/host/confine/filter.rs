//! A filter of system calls, by number (seccomp(2)): what is not named passes.

mod calls;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

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
    apply(filter(needs))
}

/// The filter of a process that must not type into its terminal, and of nothing else.
pub fn keep_from_typing() -> Result<(), String> {
    apply(typing().and_then(|typing| refused_by_arguments([(libc::SYS_ioctl, typing)].into())))
}

fn apply(filter: Result<BpfProgram, BackendError>) -> Result<(), String> {
    let filter = filter.map_err(|e| format!("make a filter of system calls: {e}"))?;
    seccompiler::apply_filter(&filter).map_err(|e| format!("filter system calls: {e}"))
}

/// Refuses with EPERM: a library that tries something of its own accord goes on without it. Other
/// calls by the table of another processor, such as those of a 32-bit program, end the process.
fn filter(needs: &Needs) -> Result<BpfProgram, BackendError> {
    let mut program = refused_by_number(&refused(needs));
    if !needs.unshares {
        program.append(&mut not_implemented(calls::CLONE3));
    }
    program.append(&mut refused_by_arguments(by_arguments(needs)?)?);
    Ok(program)
}

type ByArguments = BTreeMap<i64, Vec<SeccompRule>>;

fn refused_by_arguments(rules: ByArguments) -> Result<BpfProgram, BackendError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let refusal = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, refusal, architecture)?.try_into()
}

fn by_arguments(needs: &Needs) -> Result<ByArguments, BackendError> {
    let mut rules = ByArguments::new();
    let mut requests = typing()?;
    if !needs.writes {
        for (call, flags) in calls::OPEN {
            rules.insert(*call, to_write(*flags)?);
        }
        for kind in calls::OF_FILES {
            requests.push(masked(1, 0xff00, u64::from(*kind) << 8)?);
        }
    }
    rules.insert(libc::SYS_ioctl, requests);
    if !needs.unshares {
        let namespaces = calls::NEW_NAMESPACES.iter().map(|flag| *flag as u32);
        let new = namespaces.map(|flag| masked(0, flag.into(), flag.into()));
        rules.insert(libc::SYS_clone, new.collect::<Result<_, _>>()?);
    }
    Ok(rules)
}

fn typing() -> Result<Vec<SeccompRule>, BackendError> {
    // The kernel looks at the lower half of a request.
    calls::TYPING
        .iter()
        .map(|request| masked(1, u32::MAX.into(), (*request as u32).into()))
        .collect()
}

/// Whatever their arguments are.
fn refused(needs: &Needs) -> Vec<u32> {
    let groups = [
        (true, calls::NEVER),
        (!needs.unshares, calls::NAMESPACES),
        (!needs.executes, calls::EXECUTE),
        (!needs.writes, calls::CHANGE_FILES),
    ];
    let groups = groups.into_iter().filter(|(is_refused, _)| *is_refused);
    groups.flat_map(|(_, calls)| calls).map(|call| *call as u32).collect()
}

/// What stands in front of the rules of seccompiler, which compare a number with one other at a
/// time. The kernel runs the filter once for each number when it takes it
/// (`seccomp_cache_prepare`), and so the length of the way through is a part of every start.
fn refused_by_number(calls: &[u32]) -> BpfProgram {
    let mut ranges = ranges(calls);
    ranges.push(FOREIGN..=u32::MAX);
    let number = std::mem::offset_of!(libc::seccomp_data, nr) as u32;
    let mut program = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, number)];
    program.append(&mut search(&ranges));
    program
}

/// A binary search in sorted ranges: refuses what is in one of them, and leads what is not behind
/// its own end.
fn search(ranges: &[RangeInclusive<u32>]) -> BpfProgram {
    let Some(range) = ranges.get(ranges.len() / 2) else { return Vec::new() };
    let (below, above) = (&ranges[..ranges.len() / 2], &ranges[ranges.len() / 2 + 1..]);
    let (mut below, mut above) = (search(below), search(above));
    let refusal = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let to = |instructions: usize| step(libc::BPF_JMP | libc::BPF_JA, 0, 0, instructions as u32);
    let mut program = vec![
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, 0, *range.start()),
        to(2 + above.len() + 1),
        step(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 1, 0, *range.end()),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, refusal),
    ];
    program.append(&mut above);
    program.push(to(below.len()));
    program.append(&mut below);
    program
}

fn step(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

/// The same numbers, those that follow one another together.
fn ranges(numbers: &[u32]) -> Vec<RangeInclusive<u32>> {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    let together = numbers.chunk_by(|one, next| next - one <= 1);
    together.map(|chunk| chunk[0]..=chunk[chunk.len() - 1]).collect()
}

/// The rest of the filter is for the other calls.
fn not_implemented(call: libc::c_long) -> BpfProgram {
    let refusal = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    vec![
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, refusal),
    ]
}

/// Where these bits of an argument, of its lower half, are so.
fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompRule, BackendError> {
    let condition = SeccompCondition::new(argument, Length::Dword, Is::MaskedEq(mask), value)?;
    SeccompRule::new(vec![condition])
}

/// With flags, in this argument, that open a file for more than reading.
fn to_write(argument: u8) -> Result<Vec<SeccompRule>, BackendError> {
    let is = |mask: libc::c_int, value: libc::c_int| masked(argument, mask as u64, value as u64);
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
mod tests {
    use super::*;

    /// Whether the program returns before its end for a call of this number.
    fn refuses(program: &[sock_filter], number: u32) -> bool {
        let mut at = 1;
        while let Some(sock_filter { code, jt, jf, k }) = program.get(at) {
            at += 1 + match u32::from(*code) & 0xf7 {
                0x05 => *k as usize,
                0x35 => usize::from(if number >= *k { *jt } else { *jf }),
                0x25 => usize::from(if number > *k { *jt } else { *jf }),
                0x06 => return true,
                other => panic!("no instruction of the search: {other:#x}"),
            };
        }
        assert_eq!(at, program.len(), "goes on right behind the end");
        false
    }

    #[test]
    fn just_the_calls_named_are_refused() {
        for calls in [refused(&Needs::FILES), vec![], vec![7], vec![3, 5, 4, 4, 9]] {
            let program = refused_by_number(&calls);
            for number in (0..1000).chain([FOREIGN - 1]) {
                assert_eq!(refuses(&program, number), calls.contains(&number), "{number}");
            }
            for number in [FOREIGN, FOREIGN | 83, u32::MAX] {
                assert!(refuses(&program, number), "{number:#x}");
            }
        }
    }
}
