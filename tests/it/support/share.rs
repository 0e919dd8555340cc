//! Long work, on several hosts at a time.

use std::env;
use std::num::NonZero;
use std::sync::Mutex;
use std::thread;

/// A host waits for the kernel about as long as it computes. But the other tests that run beside a
/// short run have clients that do not wait for long.
fn hosts_per_processor() -> usize {
    if env::var_os("PORTMAP_RECORDS").is_some() { 3 } else { 1 }
}

/// What comes of each piece of work, in no order. Each host that `begin` makes does one piece after
/// another.
pub fn share<Work: Send, Host, Outcome: Send>(
    work: Vec<Work>,
    begin: impl Fn() -> Host + Sync,
    each: impl Fn(&Host, Work) -> Outcome + Sync,
) -> Vec<Outcome> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let workers = work.len().min(hosts_per_processor() * processors);
    let work = Mutex::new(work.into_iter());
    let worker = || {
        let host = begin();
        let next = || work.lock().unwrap().next();
        std::iter::from_fn(next).map(|piece| each(&host, piece)).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}
