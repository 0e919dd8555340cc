use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, getsockname, getsockopt, sendto,
};

use super::*;
use crate::kernel::held;
use crate::kernel::netlink::tests::meddle;
use crate::kernel::nft::abi::{NFTA_GEN_ID, NFTA_TABLE_NAME};
use crate::kernel::nft::batch::Batch;
use crate::kernel::nft::query::nft_type;
use crate::kernel::nft::read::generation;

/// The sockets among the descriptors of a process, by their names.
fn sockets(listing: &str) -> Vec<String> {
    let names = listing.lines().filter_map(|line| line.split(" -> ").nth(1));
    names.filter(|name| name.starts_with("socket:")).map(str::to_owned).collect()
}

#[test]
fn a_child_has_no_socket_of_ours() {
    let socket = Socket::open().unwrap();
    let ours = fs::read_link(format!("/proc/self/fd/{}", socket.socket.as_raw_fd())).unwrap();
    let ours = ours.to_str().unwrap().to_owned();
    let child = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    let child = String::from_utf8(child.stdout).unwrap();
    assert!(child.contains(" -> "), "{child}");
    assert!(!sockets(&child).contains(&ours), "{ours} in\n{child}");
}

#[test]
fn a_dump_ends_with_any_number() {
    let end_with = |code: &[u8]| {
        let (kind, flags, sequence) = (libc::NLMSG_DONE as u16, 0, 1);
        end(&Message { kind, flags, sequence, payload: code })
    };
    for code in [&[][..], &[0; 3], &[0; 4], &7i32.to_ne_bytes()] {
        assert!(end_with(code).is_ok(), "{code:?}");
    }
    for code in [-libc::EPERM, -1_000_000, i32::MIN] {
        assert!(end_with(&code.to_ne_bytes()).is_err(), "{code}");
    }
}

#[test]
fn silence_ends_in_an_error() {
    let mut socket = Socket::open().unwrap();
    let soon = TimeVal::new(0, 20_000);
    setsockopt(&socket.fd(), sockopt::ReceiveTimeout, &soon).unwrap();
    // Nothing was asked.
    let heard = socket.receive(MsgFlags::empty());
    assert!(matches!(heard, Err(Error::Silent)), "{heard:?}");
    assert!(matches!(socket.receive(MsgFlags::MSG_DONTWAIT), Ok(None)));
}

#[test]
fn every_socket_waits_ten_seconds_and_no_longer() {
    for bus in [mnl::Bus::Netfilter, mnl::Bus::SockDiag, mnl::Bus::Route] {
        let socket = Socket::open_on(bus).unwrap();
        let patience = getsockopt(&socket.fd(), sockopt::ReceiveTimeout).unwrap();
        assert_eq!(patience, TimeVal::new(10, 0), "{bus:?}");
    }
}

/// Another program's socket writes this to one of ours.
fn intrude(on: &Socket, datagram: &[u8]) {
    intrude_at(&getsockname(on.socket.as_raw_fd()).unwrap(), datagram);
}

fn intrude_at(address: &NetlinkAddr, datagram: &[u8]) {
    let protocol = SockProtocol::NetlinkNetFilter;
    let (family, flags) = (AddressFamily::Netlink, SockFlag::SOCK_CLOEXEC);
    let other = nix::sys::socket::socket(family, SockType::Raw, flags, protocol).unwrap();
    let sent = sendto(other.as_raw_fd(), datagram, address, MsgFlags::empty()).unwrap();
    assert_eq!(sent, datagram.len());
}

/// `NLMSG_ERROR`, as an answer to the message of this number.
fn refusal(sequence: u32, errno: i32) -> Vec<u8> {
    let mut writer = Writer::default();
    let message = writer.begin_plain(libc::NLMSG_ERROR as u16, 0, sequence);
    writer.bytes.extend_from_slice(&errno.wrapping_neg().to_ne_bytes());
    writer.bytes.extend_from_slice(&[0; super::super::wire::HEADER]);
    writer.end(message);
    writer.bytes
}

/// The answer to the question for the generation.
fn generation_is(number: u32, sequence: u32) -> Vec<u8> {
    let kind = nft_type(libc::NFT_MSG_NEWGEN);
    let mut writer = Writer::default();
    let message = writer.begin(kind, 0, sequence, 0, 0);
    writer.attr_u32(NFTA_GEN_ID, number);
    writer.end(message);
    writer.bytes
}

fn in_namespace(story: impl FnOnce() + Send) {
    let story = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        story();
    };
    thread::scope(|scope| scope.spawn(story).join().unwrap());
}

/// Adds a table, or removes it.
fn batch(socket: &mut Socket, kind: i32) -> Vec<u8> {
    let mut batch = Batch::open(None, 0);
    batch.at_step(0);
    let message = batch.begin(kind, libc::NLM_F_CREATE, 0);
    batch.writer.attr_str(NFTA_TABLE_NAME, "t");
    batch.writer.end(message);
    batch.close();
    let first = socket.reserve_sequences(batch.origins.len() as u32);
    batch.number(first);
    batch.writer.bytes
}

#[test]
fn nobody_but_the_kernel_answers() {
    in_namespace(|| {
        let truth = generation(&mut Socket::open().unwrap()).unwrap();
        let mut socket = Socket::open().unwrap();
        for forged in [refusal(1, libc::EPERM), generation_is(4711, 1), vec![0xff; 40]] {
            intrude(&socket, &forged);
            socket.sequence = 0;
            assert_eq!(generation(&mut socket).unwrap(), truth);
        }
        // Of a batch, it is not told what became of it.
        let transaction = batch(&mut socket, libc::NFT_MSG_NEWTABLE);
        for sequence in 0..=socket.sequence {
            intrude(&socket, &refusal(sequence, libc::EPERM));
            intrude(&socket, &refusal(sequence, 0));
        }
        let answers = socket.transact(&transaction).unwrap();
        let errors: Vec<_> = answers.iter().map(|answer| answer.errno).collect();
        assert_eq!(errors, [0], "one acknowledgement, by the kernel");
        assert_eq!(generation(&mut socket).unwrap(), truth + 1);
        // Nor is one heard that tells the groups' members of a commit.
        intrude(&socket, &generation_is(4711, 0));
        let overrun = socket.overhear(&mut |message| panic!("{message:?}")).unwrap();
        assert!(!overrun);
    });
}

#[test]
fn who_is_never_silent_is_not_listened_to_for_ever() {
    let mut socket = Socket::open().unwrap();
    socket.patience = Duration::from_millis(50);
    let address = getsockname::<NetlinkAddr>(socket.socket.as_raw_fd()).unwrap();
    let over = AtomicBool::new(false);
    let heard = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                intrude_at(&address, &refusal(1, libc::EPERM));
                thread::sleep(Duration::from_millis(1));
            }
        });
        let heard = socket.receive(MsgFlags::empty());
        over.store(true, Ordering::Relaxed);
        heard
    });
    assert!(matches!(heard, Err(Error::Silent)), "{heard:?}");
}

/// A program with all privileges writes there what its caller has it write, as to its standard output.
#[test]
fn what_is_written_to_an_inherited_socket_without_meaning_it_is_refused() {
    in_namespace(|| {
        let mut socket = Socket::open_to_be_inherited().unwrap();
        let before = generation(&mut socket).unwrap();
        let made = batch(&mut socket, libc::NFT_MSG_NEWTABLE);
        let copy = held::inheritable(socket.fd()).unwrap();
        nix::unistd::write(&copy, &made).unwrap();
        let answer = socket.receive(MsgFlags::empty()).unwrap().unwrap();
        let mut answers = Messages(&socket.buffer[..answer]).map(|m| Answer::read(&m.unwrap()));
        assert_eq!(answers.next().unwrap().unwrap().errno, libc::EPERM);
        assert_eq!(generation(&mut socket).unwrap(), before);
        // Whoever means it may.
        let made = batch(&mut socket, libc::NFT_MSG_NEWTABLE);
        let answers = socket.transact(&made).unwrap();
        assert!(answers.iter().all(|answer| answer.errno == 0), "{answers:?}");
        assert_eq!(generation(&mut socket).unwrap(), before + 1);
    });
}

/// A datagram that does not fit is cut off; of a stranger's, that is no matter.
#[test]
fn a_long_datagram_of_another_program_is_no_fault() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        let long = vec![0; RECEIVE + 1];
        intrude(&socket, &long);
        let before = generation(&mut socket).unwrap();
        let transaction = batch(&mut socket, libc::NFT_MSG_NEWTABLE);
        intrude(&socket, &long);
        let answers = socket.transact(&transaction).unwrap();
        assert!(answers.iter().all(|answer| answer.errno == 0), "{answers:?}");
        intrude(&socket, &long);
        assert!(!socket.overhear(&mut |_| {}).unwrap());
        assert_eq!(generation(&mut socket).unwrap(), before + 1);
    });
}

/// The buffer is full before all have been given; the first is the one that tells what is wrong.
#[test]
fn of_more_answers_than_there_is_room_for_the_first_are_taken() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        setsockopt(&socket.fd(), sockopt::RcvBuf, &1).unwrap();
        let count = 1000;
        let mut many = Batch::open(None, 0);
        many.at_step(0);
        for _ in 0..count {
            let message = many.begin(libc::NFT_MSG_DELTABLE, 0, 0);
            many.writer.attr_str(NFTA_TABLE_NAME, "nobody's");
            many.writer.end(message);
        }
        many.close();
        let first = socket.reserve_sequences(many.origins.len() as u32);
        many.number(first);
        let answers = socket.transact(&many.writer.bytes).unwrap();
        assert!(answers.len() < count, "the buffer has room for all");
        let (errno, sequence) = (answers[0].errno, answers[0].sequence);
        assert_eq!((errno, sequence), (libc::ENOENT, first + 1));
        // It can be asked again.
        generation(&mut socket).unwrap();
    });
}

#[test]
fn without_any_answer_it_is_an_error() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        let transaction = batch(&mut socket, libc::NFT_MSG_NEWTABLE);
        let mut is_first = true;
        let lose = move |datagram: &mut [u8]| match std::mem::take(&mut is_first) {
            true => Err(Errno::ENOBUFS),
            false => panic!("{datagram:?}"),
        };
        let lost = meddle(lose, || socket.transact(&transaction)).unwrap_err();
        assert_eq!(lost.errno(), Some(libc::ENOBUFS), "{lost}");
    });
}
