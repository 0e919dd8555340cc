//! What goes wrong at the door, on the real kernel: each story plays in a network namespace of its
//! own.

use std::net::{TcpListener, TcpStream};
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

use super::netlink::socket;
use super::netlink::tests::{interrupt, meddle};
use super::netlink::wire::Writer;
use super::nft::abi::{NFTA_SET_FLAGS, SET_EVAL, SET_INTERVAL, SET_MAP};
use super::*;
use crate::mapping::{
    Comment, Family, Mapping, Matches, Port, Protocol, Scope, Selector, Service, Target,
};
use crate::plan::plan;
use crate::ruleset::{
    ChainName, Check, CheckRule, Counter, Layer, Lifetime, MapName, MapShape, Rule, RunId, desired,
};

fn in_namespace(story: impl FnOnce() + Send) {
    let story = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
        let mut links = links::Links::open().unwrap();
        links.set_up("lo").unwrap();
        story();
    };
    thread::scope(|scope| scope.spawn(story).join().unwrap());
}

fn tcp(port: u16) -> Service {
    Service { protocol: Protocol::Tcp, port: Port::new(port).unwrap() }
}

/// Port 80 to `to`, and for one network port 81.
fn mapping(to: u16) -> MappingSet {
    let to = Target::new(Port::new(to).unwrap());
    let sources = vec!["192.0.2.0/24".parse().unwrap()];
    let matches = Matches { sources, ..Matches::default() };
    let selector = Selector::new(Scope::Both, Family::Both, matches).unwrap();
    MappingSet::new(vec![
        Mapping::new(tcp(80), to),
        Mapping { selector, ..Mapping::new(tcp(81), to) },
    ])
}

/// What makes its table from nothing.
fn make(mapping: &MappingSet) -> Vec<Step> {
    let stamp = Stamp { generation: None, ruleset: 2, input: None };
    plan(Some(&desired(mapping, None, Some(stamp))), None)
}

fn commit(kernel: &mut Netlink, steps: &[Step]) {
    let generation = kernel.generation().unwrap();
    kernel.commit(steps, generation).unwrap();
}

/// Interrupts each dump of `read` once, one after another: it must read the same all the same. Then
/// interrupts all dumps, and returns what became of it.
#[track_caller]
fn interrupted<T: PartialEq + std::fmt::Debug>(
    mut read: impl FnMut() -> Result<T, Error>,
) -> Error {
    let undisturbed = read().unwrap();
    for n in 0.. {
        let (found, dumps) = interrupt(move |dump| dump == n, &mut read);
        assert_eq!(found.unwrap(), undisturbed, "dump {n} of {dumps}");
        if n >= dumps {
            assert!(n > 0, "there is no dump");
            break;
        }
    }
    interrupt(|_| true, &mut read).0.unwrap_err()
}

#[track_caller]
fn is_restless(error: &Error) {
    assert!(matches!(error, Error::Restless), "{error}");
    assert!(error.to_string().contains("it changed in each of 32 attempts"), "{error}");
    assert!(error.help().unwrap().contains("another program keeps changing the ruleset"));
}

#[test]
fn a_dump_of_the_ruleset_that_is_interrupted_is_begun_anew() {
    in_namespace(|| {
        let mut kernel = Netlink::open().unwrap();
        commit(&mut kernel, &make(&mapping(3000)));
        let id = RunId { pid: 4711, nth: 1 };
        let command = Some(Comment::new("npm start").unwrap());
        let run = RunTable { id, command, lifetime: Lifetime::Supervised { socket: Some(1) } };
        let generation = kernel.generation().unwrap();
        kernel.hold(&run, &make(&mapping(4000)), generation).unwrap();

        is_restless(&interrupted(|| {
            let Snapshot { generation, table, has_others } = kernel.snapshot(Extent::Whole)?;
            assert_eq!(table.as_ref().map(|table| table.foreign.len()), Some(0));
            Ok((generation, table, has_others))
        }));
        is_restless(&interrupted(|| kernel.stamp()));
        is_restless(&interrupted(|| kernel.runs().map(|runs| (runs.generation, runs.runs))));
        let all = |rulesets: Rulesets| format!("{:?}", rulesets.tables);
        is_restless(&interrupted(|| kernel.translations_of_others().map(all)));
        // What was asked last has left nothing behind that answers the next question.
        assert!(kernel.snapshot(Extent::Whole).unwrap().table.is_some());
    });
}

#[test]
fn a_dump_of_the_devices_that_is_interrupted_is_begun_anew() {
    in_namespace(|| {
        let names = || links::devices().map(|devices| devices.into_keys().collect::<Vec<_>>());
        let error = interrupted(names);
        assert!(matches!(error, Error::Interrupted), "{error}");
        let (_, dumps) = interrupt(|_| true, names);
        assert_eq!(dumps, socket::ATTEMPTS);
    });
}

#[test]
fn a_dump_of_the_sockets_that_is_interrupted_is_begun_anew() {
    in_namespace(|| {
        let _app = TcpListener::bind("127.0.0.1:3000").unwrap();
        let protocols = [Protocol::Tcp, Protocol::Udp];
        let listening = move || format!("{:?}", sockets::listening(&protocols));
        let there = listening();
        assert!(there.contains("3000"), "{there}");
        for n in 0..4 {
            let (found, dumps) = interrupt(move |dump| dump == n, listening);
            assert_eq!((found, dumps), (there.clone(), 5), "dump {n}");
        }
        // What cannot be seen is no error, and is not taken for nobody.
        let unseen = Listening::new(Vec::new(), protocols.into());
        let found = interrupt(|_| true, listening);
        assert_eq!(found, (format!("{unseen:?}"), 4 * socket::ATTEMPTS));
    });
}

/// A connection to port 80, which is translated, for as long as both ends live.
fn connection() -> (TcpStream, TcpStream) {
    let mut kernel = Netlink::open().unwrap();
    commit(&mut kernel, &make(&mapping(3000)));
    let app = TcpListener::bind("127.0.0.1:3000").unwrap();
    let client = TcpStream::connect("127.0.0.1:80").unwrap();
    (client, app.accept().unwrap().0)
}

#[test]
fn a_dump_of_the_flows_that_is_interrupted_or_lost_is_begun_anew() {
    in_namespace(|| {
        let _connection = connection();
        assert_eq!(conntrack::translated_connections().unwrap(), 1);
        for n in 0..2 {
            let count = conntrack::translated_connections;
            let (found, dumps) = interrupt(move |dump| dump == n, count);
            assert_eq!((found.unwrap(), dumps), (1, 3), "dump {n}");
        }
        let (found, dumps) = interrupt(|_| true, conntrack::forget_translated_connections);
        let Err(conntrack::Error::List(error)) = found else { panic!("{found:?}") };
        assert_eq!((error.raw_os_error(), dumps), (Some(libc::EINTR), 5));

        let lose = |times: usize| {
            let mut left = times;
            move |_: &mut [u8]| match left {
                0 => Ok(()),
                _ => {
                    left -= 1;
                    Err(Errno::ENOBUFS)
                }
            }
        };
        assert_eq!(meddle(lose(1), conntrack::translated_connections).unwrap(), 1);
        let found = meddle(lose(usize::MAX), conntrack::forget_translated_connections);
        let Err(conntrack::Error::List(error)) = found else { panic!("{found:?}") };
        assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
        assert_eq!(conntrack::translated_connections().unwrap(), 1, "none was deleted");
    });
}

/// The table of a run is added and removed whenever the kernel has answered something, `times` times
/// in all.
fn meanwhile(times: usize) -> impl FnMut(&mut [u8]) -> Result<(), Errno> {
    let mut other = Netlink::open().unwrap();
    let lifetime = Lifetime::Supervised { socket: Some(1) };
    let run = RunTable { id: RunId { pid: 7, nth: 1 }, command: None, lifetime };
    let mut is_there = !other.runs().unwrap().runs.is_empty();
    let mut done = 0;
    move |_| {
        if done < times {
            let generation = other.generation().unwrap();
            let outcome = match is_there {
                true => other.release(TableName::Run(run.id), generation),
                false => other.hold(&run, &[Step::AddTable], generation),
            };
            outcome.unwrap();
            is_there = !is_there;
            done += 1;
        }
        Ok(())
    }
}

#[test]
fn what_is_read_while_others_commit_is_of_one_moment() {
    in_namespace(|| {
        let mut kernel = Netlink::open().unwrap();
        commit(&mut kernel, &make(&mapping(3000)));
        let before = kernel.snapshot(Extent::Whole).unwrap();
        let mut has_others = false;
        // With another number each time, it is another question after which the last one comes.
        for times in (1..40).step_by(3) {
            let seen = meddle(meanwhile(times), || kernel.snapshot(Extent::Whole)).unwrap();
            has_others ^= times % 2 == 1;
            assert_eq!((&seen.table, seen.has_others), (&before.table, has_others), "{times}");
            assert_eq!(seen.generation, kernel.generation().unwrap(), "{times}");
        }
        is_restless(&meddle(meanwhile(usize::MAX), || kernel.snapshot(Extent::Whole)).unwrap_err());
        is_restless(&meddle(meanwhile(usize::MAX), || kernel.runs()).unwrap_err());
        is_restless(&meddle(meanwhile(usize::MAX), firewall::read).unwrap_err());
        assert_eq!(kernel.snapshot(Extent::Whole).unwrap().table, before.table);
    });
}

/// What a kernel says of these steps that does not know the expression, or the type of chain, of
/// this name: here it is another one that no kernel knows.
#[track_caller]
fn refused_without(name: &str, steps: &[Step]) -> (String, String) {
    let (known, unknown) = (format!("{name}\0"), format!("{}\0", "?".repeat(name.len())));
    refused_with(steps, |bytes| {
        let places: Vec<_> =
            (0..bytes.len()).filter(|at| bytes[*at..].starts_with(known.as_bytes())).collect();
        assert!(!places.is_empty(), "no {name} in {steps:?}");
        for at in places {
            bytes[at..at + known.len()].copy_from_slice(unknown.as_bytes());
        }
    })
}

#[track_caller]
fn refused_with(steps: &[Step], change: impl FnOnce(&mut [u8])) -> (String, String) {
    let mut kernel = Netlink::open().unwrap();
    let generation = kernel.generation().unwrap();
    let mut batch = encode::batch(steps, generation);
    change(&mut batch.writer.bytes);
    let error = kernel.send(batch, steps, generation).unwrap_err();
    assert!(matches!(error, CommitError::Refused { .. }), "{error}");
    assert_eq!(kernel.generation().unwrap(), generation, "nothing is changed");
    assert!(kernel.snapshot(Extent::Whole).unwrap().table.is_none());
    (error.to_string(), error.help().unwrap_or_default().to_owned())
}

#[test]
fn what_a_kernel_is_built_without_is_named_with_its_remedy() {
    in_namespace(|| {
        let steps = make(&mapping(3000));
        let cases = [
            ("nat", "add chain prerouting: no such file", "CONFIG_NFT_NAT"),
            ("fib", "fib daddr type != local", "CONFIG_NFT_FIB_INET"),
        ];
        for (name, said, help) in cases {
            let (error, remedy) = refused_without(name, &steps);
            assert!(error.contains(said), "{name}: {error}");
            assert!(remedy.contains(help), "{name}: {error}: {remedy}");
        }
        let rule =
            |chain, rule| Step::AddRule { chain, before: None, rule, counter: Counter::default() };
        let answers = ChainName::Check(Layer::Active, Check::Answers);
        let direct = ChainName::Check(Layer::Active, Check::Direct);
        let hidden = MapName::Hidden(Layer::Active);
        let shape = MapShape { size: 64, counted: true };
        let checks = [
            Step::AddTable,
            Step::AddMap { name: hidden, shape },
            Step::AddChain(answers),
            Step::AddChain(direct),
            rule(answers, Rule::Check(CheckRule::OnlyTranslated)),
            rule(direct, Rule::Check(CheckRule::RefuseTcp(Layer::Active))),
        ];
        for (name, said, help) in [
            ("ct", "ct status", "modprobe nft_ct"),
            ("reject", "reject with tcp reset", "nft_reject_inet"),
            ("counter", "add set hidden", "modprobe nft_counter"),
        ] {
            let (error, remedy) = refused_without(name, &checks);
            assert!(error.contains(said), "{name}: {error}");
            assert!(remedy.contains(help), "{name}: {error}: {remedy}");
        }
    });
}

#[test]
fn a_kernel_that_cannot_make_a_map_is_too_old() {
    in_namespace(|| {
        let name = MapName::Ports(Layer::Active, Scope::Both, Family::Both);
        let steps =
            [Step::AddTable, Step::AddMap { name, shape: MapShape { size: 64, counted: false } }];
        // `NFTA_SET_FLAGS`, with `NFT_SET_MAP`; no set has `NFT_SET_INTERVAL` and `NFT_SET_EVAL`.
        let mut flags = Writer::default();
        flags.attr_u32(NFTA_SET_FLAGS, SET_MAP);
        let (error, remedy) = refused_with(&steps, |bytes| {
            let mut windows = bytes.windows(flags.bytes.len());
            let at = windows.position(|window| window == flags.bytes).expect("the flags of a map");
            bytes[at + 7] |= (SET_INTERVAL | SET_EVAL) as u8;
        });
        assert!(error.starts_with("commit: add map ports: operation not supported"), "{error}");
        assert!(remedy.contains("Linux 5.10"), "{remedy}");
    });
}
