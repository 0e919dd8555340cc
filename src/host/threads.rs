//! Work done at the same time, where the machine has a thread to spare for it.

use std::io;
use std::panic;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};

/// Is for whoever comes to it: a thread that cannot be started does not give it back.
struct Piece<Work>(Mutex<Option<Work>>);

impl<Work> Piece<Work> {
    fn new(work: Work) -> Self {
        Self(Mutex::new(Some(work)))
    }

    fn take(&self) -> Option<Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Does both: `one` on a thread of its own, or after `other` if none can be started.
pub fn at_once<A: Send, B>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B) -> (A, B) {
    let one = Piece::new(one);
    let take = || one.take().expect("nobody else has taken it")();
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, take);
        let other = other();
        let one = match thread {
            Ok(thread) => thread.join().unwrap_or_else(|cause| panic::resume_unwind(cause)),
            Err(_) => take(),
        };
        (one, other)
    })
}

/// What comes of each piece of work; `None` if it panics. What there is no thread for is done when
/// the others have begun.
pub fn each_at_once<Work: Send, Outcome: Send>(
    work: Vec<Work>,
    each: impl Fn(Work) -> Outcome + Sync,
) -> Vec<Option<Outcome>> {
    let work: Vec<_> = work.into_iter().map(Piece::new).collect();
    let take = &|piece: &Piece<Work>| piece.take().map(&each);
    thread::scope(|scope| {
        let start = |piece| thread::Builder::new().spawn_scoped(scope, move || take(piece));
        let threads: Vec<_> = work.iter().map(start).collect();
        let end = |(thread, piece): (io::Result<ScopedJoinHandle<_>>, _)| match thread {
            Ok(thread) => thread.join().ok().flatten(),
            Err(_) => take(piece),
        };
        threads.into_iter().zip(&work).map(end).collect()
    })
}
