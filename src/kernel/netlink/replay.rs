//! Under a fuzzer, what a socket receives is the fuzzer's; or it is kept, as the beginning of a
//! corpus.

use std::cell::RefCell;
use std::collections::VecDeque;

enum Mode {
    Kernel,
    Replay(VecDeque<Vec<u8>>),
    Record(Vec<u8>),
}

thread_local! {
    static MODE: RefCell<Mode> = const { RefCell::new(Mode::Kernel) };
}

/// Lets all sockets of this thread receive `datagrams` while `f` runs: each is preceded by its
/// length, in two bytes.
pub fn replay<T>(mut datagrams: &[u8], f: impl FnOnce() -> T) -> T {
    let mut queue = VecDeque::new();
    while let Some((&len, rest)) = datagrams.split_first_chunk::<2>() {
        let (datagram, rest) = rest.split_at(rest.len().min(u16::from_le_bytes(len).into()));
        queue.push_back(datagram.to_vec());
        datagrams = rest;
    }
    MODE.set(Mode::Replay(queue));
    let outcome = f();
    MODE.set(Mode::Kernel);
    outcome
}

/// What all sockets of this thread receive while `f` runs, in the form of [`replay`].
pub fn record<T>(f: impl FnOnce() -> T) -> (T, Vec<u8>) {
    MODE.set(Mode::Record(Vec::new()));
    let outcome = f();
    match MODE.replace(Mode::Kernel) {
        Mode::Record(datagrams) => (outcome, datagrams),
        _ => (outcome, Vec::new()),
    }
}

/// Whether the kernel is not to be asked.
pub fn is_on() -> bool {
    MODE.with_borrow(|mode| matches!(mode, Mode::Replay(_)))
}

pub fn received(datagram: &[u8]) {
    MODE.with_borrow_mut(|mode| {
        if let (Mode::Record(all), Ok(len)) = (mode, u16::try_from(datagram.len())) {
            all.extend_from_slice(&len.to_le_bytes());
            all.extend_from_slice(datagram);
        }
    });
}

/// The next datagram, every message of which answers the question `sequence`. Without a question,
/// messages are as they are, and an empty datagram is where the kernel has no more to say for now.
pub fn next(buffer: &mut [u8], sequence: Option<u32>) -> Option<usize> {
    let mut datagram = MODE.with_borrow_mut(|mode| match mode {
        Mode::Replay(queue) => queue.pop_front(),
        _ => None,
    })?;
    if sequence.is_none() && datagram.is_empty() {
        return None;
    }
    let mut at = 0;
    while let (Some(sequence), Some(head)) = (sequence, datagram.get_mut(at..at + 16)) {
        let len = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        head[8..12].copy_from_slice(&sequence.to_ne_bytes());
        if len < 16 {
            break;
        }
        at = at.saturating_add(len.next_multiple_of(4));
    }
    let len = datagram.len().min(buffer.len());
    buffer[..len].copy_from_slice(&datagram[..len]);
    Some(len)
}
