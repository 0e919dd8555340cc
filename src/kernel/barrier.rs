//! Waits until the kernel has finished with the packets that it is working on.

use std::thread;
use std::time::Duration;

use nix::libc;

/// `MEMBARRIER_CMD_GLOBAL` of `linux/membarrier.h`.
const GLOBAL: libc::c_int = 1;

/// Where the kernel has no such call, or does not wait: longer than a packet takes through the rules
/// of one hook.
const GRACE: Duration = Duration::from_millis(20);

/// Returns after an RCU grace period (on more than one processor, `synchronize_rcu` is all that
/// membarrier(2) does for its global command). A packet is looked up in all rules of a hook within
/// one read-side critical section (`nft_do_chain` under `nf_hook`), preempted or not, so those that
/// began before are through. One that waits in an NFQUEUE has left the hook before, and enters the
/// next anew.
pub fn wait() {
    // SAFETY: membarrier(2) takes two integers, and touches no memory of this process.
    let done = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0) } == 0;
    // ENOSYS without CONFIG_MEMBARRIER, EINVAL with nohz_full processors. With a single processor
    // the call returns at once; but where the kernel can be preempted (CONFIG_PREEMPT_RCU), so can
    // whoever sends a packet. A process that may only use one of several waits in vain.
    let has_waited = done && thread::available_parallelism().is_ok_and(|n| n.get() > 1);
    if !has_waited {
        thread::sleep(GRACE);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;

    use super::*;

    #[test]
    fn with_one_processor_some_time_is_waited_all_the_same() {
        let on_one = || {
            let this_thread = Pid::from_raw(0);
            let all = sched_getaffinity(this_thread).unwrap();
            let first = (0..CpuSet::count()).find(|cpu| all.is_set(*cpu).unwrap()).unwrap();
            let mut one = CpuSet::new();
            one.set(first).unwrap();
            sched_setaffinity(this_thread, &one).unwrap();
            let start = Instant::now();
            wait();
            start.elapsed()
        };
        let waited = thread::spawn(on_one).join().unwrap();
        assert!(waited >= GRACE, "{waited:?}");
    }
}
