//! A filter of system calls, by number and arguments (seccomp(2)): what is not named passes.
//!
//! Made here and not by the compiler of [`seccompiler`], which compares a number with one other at
//! a time and each argument anew: the kernel runs the filter once for each number when it takes it
//! (`seccomp_cache_prepare`), and so the length of the way through is a part of every start.

mod calls;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompFilter, TargetArch, sock_filter,
};

use super::Needs;

/// No processor has a call of such a number, but x86-64: there, this bit asks for the x32 form of
/// a call, which is another number for the same work (`__X32_SYSCALL_BIT` in `asm/unistd.h`).
const FOREIGN: u32 = 0x4000_0000;

/// What is done about a call: instructions that return, or come to their end for one that passes.
type Judgement = BpfProgram;

/// The processor's numbers, and what is done about each.
type Rules = BTreeMap<u32, Judgement>;

pub fn install(needs: &Needs) -> Result<(), String> {
    let mut program = judged(&rules(needs), Some(FOREIGN..=u32::MAX));
    program.append(&mut of_this_processor().map_err(|e| format!("make a filter: {e}"))?);
    apply(&program)
}

/// The filter of a process that must not type into its terminal, and of nothing else: programs for
/// other tables of numbers, such as 32-bit ones, go on.
pub fn keep_from_typing() -> Result<(), String> {
    let requests = calls::IOCTL.iter().map(|number| (*number, typing()));
    let mut program = judged(&requests.collect(), None);
    program.push(returns(libc::SECCOMP_RET_ALLOW));
    apply(&program)
}

fn apply(program: &[sock_filter]) -> Result<(), String> {
    seccompiler::apply_filter(program).map_err(|e| format!("filter system calls: {e}"))
}

/// What stands behind the rules: calls by the table of another processor, such as those of a 32-bit
/// program, end the process; what is left passes.
fn of_this_processor() -> Result<BpfProgram, BackendError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let unused = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(BTreeMap::new(), SeccompAction::Allow, unused, architecture)?.try_into()
}

/// Refuses with EPERM: a library that tries something of its own accord goes on without it.
fn rules(needs: &Needs) -> Rules {
    let mut rules: Rules = refused(needs).map(|call| (call, vec![refusal(libc::EPERM)])).collect();
    let mut requests = typing();
    if !needs.writes {
        let to_write = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC;
        let opening = calls::OPEN.iter();
        rules.extend(opening.map(|(call, flags)| (*call as u32, has_any(*flags, to_write))));
        requests.append(&mut of_files());
    }
    rules.insert(libc::SYS_ioctl as u32, requests);
    if !needs.unshares {
        rules.insert(calls::CLONE3 as u32, vec![refusal(libc::ENOSYS)]);
        rules.insert(libc::SYS_clone as u32, has_any(0, calls::NEW_NAMESPACES));
    }
    rules
}

/// Whatever their arguments are.
fn refused(needs: &Needs) -> impl Iterator<Item = u32> {
    let groups = [
        (true, calls::NEVER),
        (!needs.unshares, calls::NAMESPACES),
        (!needs.executes, calls::EXECUTE),
        (!needs.writes, calls::CHANGE_FILES),
    ];
    let groups = groups.into_iter().filter(|(is_refused, _)| *is_refused);
    groups.flat_map(|(_, calls)| calls).map(|call| *call as u32)
}

/// A request of ioctl(2) that types into a terminal.
fn typing() -> Judgement {
    let mut judgement = vec![argument(1)];
    judgement.append(&mut is_one_of(calls::TYPING.iter().map(|request| *request as u32)));
    judgement
}

/// A request, loaded already, whose type (`_IOC_TYPE` of `asm-generic/ioctl.h`) is one of files'.
fn of_files() -> Judgement {
    let mut judgement = vec![step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, 0xff00)];
    judgement.append(&mut is_one_of(calls::OF_FILES.iter().map(|kind| u32::from(*kind) << 8)));
    judgement
}

/// An argument with any of these bits.
fn has_any(place: u8, bits: libc::c_int) -> Judgement {
    let any = step(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 1, bits as u32);
    vec![argument(place), any, refusal(libc::EPERM)]
}

/// What is loaded is one of these values.
fn is_one_of(values: impl ExactSizeIterator<Item = u32>) -> Judgement {
    let equals = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let others = (0..values.len() as u8).rev();
    let compared = values.zip(others);
    let compared =
        compared.map(|(value, others)| step(equals, others, u8::from(others == 0), value));
    compared.chain([refusal(libc::EPERM)]).collect()
}

/// Loads the lower half of an argument, counted from 0: the kernel looks at no more of those that
/// are flags or requests.
fn argument(place: u8) -> sock_filter {
    let lower_half = if cfg!(target_endian = "big") { 4 } else { 0 };
    load(std::mem::offset_of!(libc::seccomp_data, args) + 8 * usize::from(place) + lower_half)
}

/// Every call judged by the rule for its number, and, if there is such a range, those that no
/// processor has refused. Those that pass come to the end.
fn judged(rules: &Rules, refused: Option<RangeInclusive<u32>>) -> BpfProgram {
    let mut groups = groups(rules);
    groups.extend(refused.map(|numbers| (numbers, vec![refusal(libc::EPERM)])));
    let mut program = vec![load(std::mem::offset_of!(libc::seccomp_data, nr))];
    program.append(&mut search(&groups));
    program
}

/// A binary search in sorted ranges: leads what is in none of them behind its own end.
fn search(groups: &[(RangeInclusive<u32>, Judgement)]) -> BpfProgram {
    let Some((range, judgement)) = groups.get(groups.len() / 2) else { return Vec::new() };
    let (below, above) = (&groups[..groups.len() / 2], &groups[groups.len() / 2 + 1..]);
    let (mut below, mut above) = (search(below), search(above));
    let to = |instructions: usize| step(libc::BPF_JMP | libc::BPF_JA, 0, 0, instructions as u32);
    let mut judgement = judgement.clone();
    if !matches!(&judgement[..], [only] if is_return(only)) {
        judgement.push(to(above.len() + 1 + below.len()));
    }
    let mut program = vec![
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, 0, *range.start()),
        to(1 + judgement.len() + above.len() + 1),
        step(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, judgement.len() as u8, 0, *range.end()),
    ];
    program.append(&mut judgement);
    program.append(&mut above);
    program.push(to(below.len()));
    program.append(&mut below);
    program
}

/// Numbers that follow one another and are judged alike, together.
fn groups(rules: &Rules) -> Vec<(RangeInclusive<u32>, Judgement)> {
    let rules: Vec<_> = rules.iter().collect();
    let alike = rules.chunk_by(|one, next| next.0 - one.0 == 1 && next.1 == one.1);
    alike.map(|chunk| (*chunk[0].0..=*chunk[chunk.len() - 1].0, chunk[0].1.clone())).collect()
}

fn load(offset: usize) -> sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset as u32)
}

fn refusal(errno: libc::c_int) -> sock_filter {
    returns(libc::SECCOMP_RET_ERRNO | errno as u32)
}

fn returns(what: u32) -> sock_filter {
    step(libc::BPF_RET | libc::BPF_K, 0, 0, what)
}

fn is_return(instruction: &sock_filter) -> bool {
    u32::from(instruction.code) == libc::BPF_RET | libc::BPF_K
}

fn step(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program returns for a call, or nothing where it comes to its end.
    fn judge(program: &[sock_filter], number: u32, arguments: [u32; 3]) -> Option<u32> {
        let (mut at, mut loaded) = (0, 0);
        while let Some(sock_filter { code, jt, jf, k }) = program.get(at) {
            let mut jump = |holds| at += usize::from(if holds { *jt } else { *jf });
            match u32::from(*code) {
                0x20 if *k == 0 => loaded = number,
                0x20 => loaded = arguments[(*k as usize - 16) / 8],
                0x54 => loaded &= *k,
                0x05 => at += *k as usize,
                0x15 => jump(loaded == *k),
                0x25 => jump(loaded > *k),
                0x35 => jump(loaded >= *k),
                0x45 => jump(loaded & *k != 0),
                0x06 => return Some(*k),
                other => panic!("no instruction of such a filter: {other:#x}"),
            };
            at += 1;
        }
        assert_eq!(at, program.len(), "goes on right behind the end");
        None
    }

    const REFUSED: Option<u32> = Some(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);

    #[test]
    fn just_the_calls_named_are_refused() {
        let refusals = |calls: &[u32]| calls.iter().map(|n| (*n, vec![refusal(1)])).collect();
        let of_files: Vec<_> = refused(&Needs::FILES).collect();
        for calls in [&of_files[..], &[], &[7], &[3, 5, 4, 4, 9]] {
            let program = judged(&refusals(calls), Some(FOREIGN..=u32::MAX));
            for number in (0..1000).chain([FOREIGN - 1]) {
                let expected = if calls.contains(&number) { REFUSED } else { None };
                assert_eq!(judge(&program, number, [0; 3]), expected, "{number}");
            }
            for number in [FOREIGN, FOREIGN | 83, u32::MAX] {
                assert_eq!(judge(&program, number, [0; 3]), REFUSED, "{number:#x}");
            }
        }
    }

    /// Neighbours of all kinds, so that no rule is reached by the number of another.
    #[test]
    fn each_number_is_judged_by_its_own_rule() {
        let kinds = [
            vec![refusal(libc::EPERM)],
            vec![refusal(libc::ENOSYS)],
            has_any(0, 0b101),
            [typing(), of_files()].concat(),
        ];
        let rules: Rules = (0..60).map(|n| (n, kinds[n as usize * 7 / 5 % 4].clone())).collect();
        let program = judged(&rules, None);
        for (number, rule) in &rules {
            for first in 0..8 {
                for second in [0, 0x5401, libc::TIOCSTI as u32, 0x6601, 0xabcd_9403] {
                    let arguments = [first, second, 0];
                    let alone = judge(rule, *number, arguments);
                    assert_eq!(
                        judge(&program, *number, arguments),
                        alone,
                        "{number} {arguments:x?}"
                    );
                }
            }
        }
        assert_eq!(judge(&program, 60, [0b101, libc::TIOCSTI as u32, 0]), None);
    }

    #[test]
    fn flags_and_requests_are_told_apart() {
        let all = rules(&Needs::FILES);
        let judged = |call: libc::c_long, arguments| judge(&all[&(call as u32)], 0, arguments);
        let of = |place: usize, value: u32| {
            let mut arguments = [0; 3];
            arguments[place] = value;
            arguments
        };
        for (call, place) in calls::OPEN {
            let open = |flags: libc::c_int| judged(*call, of(usize::from(*place), flags as u32));
            assert_eq!(open(libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOFOLLOW), None);
            assert_eq!(open(libc::O_PATH | libc::O_DIRECTORY), None);
            for flags in
                [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC, libc::O_TMPFILE | 2]
            {
                assert_eq!(open(flags | libc::O_CLOEXEC), REFUSED, "{flags:o}");
            }
        }
        for request in calls::TYPING {
            assert_eq!(judged(libc::SYS_ioctl, of(1, *request as u32)), REFUSED);
        }
        for kind in calls::OF_FILES {
            assert_eq!(judged(libc::SYS_ioctl, of(1, u32::from(*kind) << 8 | 7)), REFUSED);
        }
        assert_eq!(judged(libc::SYS_ioctl, of(1, libc::TIOCGWINSZ as u32)), None);
        for bit in (0..32).map(|bit| 1_i32 << bit) {
            let expected = if calls::NEW_NAMESPACES & bit != 0 { REFUSED } else { None };
            assert_eq!(judged(libc::SYS_clone, of(0, bit as u32)), expected, "{bit:#x}");
        }
    }
}
