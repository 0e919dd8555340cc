//! A mapping that lives with a command, beside that of the files.

use super::*;
use portmap::engine::{Begun, Cause, Effect, Involved, Refusal, RunRequest};
use portmap::kernel::CommitError;
use portmap::mapping::{Comment, Port, PortRange};
use portmap::ruleset::{Lifetime, Run, RunId, TraceId, TraceTable};
use std::os::unix::net::UnixStream;

fn request(pid: u32) -> RunRequest {
    RunRequest { pid, command: Comment::new("npm start").ok(), lifetime: Lifetime::Socket }
}

impl Host {
    fn begin(&self, pid: u32, mapping: &str) -> Result<Begun> {
        self.engine().begin_run(&request(pid), |_| Ok(set(mapping)))
    }

    /// The names of the runs and what they map.
    fn runs(&self) -> Vec<String> {
        let text = |run: &Run| format!("{} {}", run.table.id, words(&run.mapping()));
        self.kernel.all_runs().iter().map(text).collect()
    }
}

/// One that somebody else begins.
fn another(pid: u32, mapping: &str) -> Run {
    let host = Host::new();
    host.begin(pid, mapping).unwrap();
    host.kernel.all_runs().remove(0)
}

#[test]
fn a_run_is_beside_the_mapping_of_the_files() {
    let host = Host::with(&["80:3000 443:8443"]);
    let before = host.kernel.table();

    let begun = host.begin(7, "80:4000 81:4001").unwrap();

    assert_eq!(begun.id, RunId { pid: 7, nth: 1 });
    assert_eq!(words(&MappingSet::new(begun.overridden)), "80:3000");
    assert_eq!(host.runs(), ["portmap-run-7 80:4000 81:4001"]);
    assert_eq!(host.kernel.table(), before);
    assert_eq!(host.outcomes(), [Outcome::Committed], "it is no generation");
    let [(before, after)] = &host.kernel.cleaned()[..] else { panic!("flows are cleaned once") };
    assert_eq!(words(before), "80:3000 443:8443");
    assert_eq!(words(after), "80:4000 81:4001 443:8443");
}

#[test]
fn what_the_files_do_leaves_runs_alone() {
    let host = Host::with(&["80:3000"]);
    host.begin(7, "80:4000").unwrap();

    host.apply("80:3001").unwrap();
    host.roll_back().unwrap();
    host.engine().clear(true).unwrap();

    assert_eq!(host.runs(), ["portmap-run-7 80:4000"]);
    let status = host.engine().status().unwrap();
    assert_eq!(status.runs.len(), 1);
    assert!(status.drift.is_none() && status.view.observed().is_none());
}

#[test]
fn a_port_belongs_to_one_run() {
    let host = Host::new();
    host.begin(7, "80:4000").unwrap();
    let refused = fails(host.begin(8, "79:4000 80:4001"));
    let Cause::Refused(Refusal::RunElsewhere { service, pid, .. }) = refused.cause() else {
        panic!("{refused}")
    };
    assert_eq!((*service, *pid), (tcp(80), 7));
    assert!(refused.to_string().contains("80/tcp is mapped by another run: `npm start`"));
    assert_eq!(host.runs(), ["portmap-run-7 80:4000"]);
}

#[test]
fn of_two_runs_at_once_the_slower_looks_again() {
    let host = Host::new();
    host.kernel.be_overtaken_by(another(8, "80:4000"));
    let refused = fails(host.begin(7, "80:4001"));
    assert!(matches!(refused.cause(), Cause::Refused(Refusal::RunElsewhere { pid: 8, .. })));

    // And does not choose the target that the other one has chosen.
    let host = Host::new();
    host.kernel.be_overtaken_by(another(8, "80:4000"));
    let pick = |involved: &Involved| {
        let ports = (4000..4002).map(|port| PortRange::one(Port::new(port).unwrap()));
        Ok::<_, Error>(set(&format!("81:{}", involved.first_free(ports, |_| true).unwrap())))
    };
    host.engine().begin_run(&request(7), pick).unwrap();
    assert_eq!(host.runs(), ["portmap-run-8 80:4000", "portmap-run-7 81:4001"]);
}

#[test]
fn who_is_overtaken_each_time_begins_no_run() {
    let host = Host::with(&["80:3000"]);
    let others: Vec<_> = (1..=60).map(|n| another(n, &format!("{}:4000", 100 + n))).collect();
    others.iter().for_each(|run| host.kernel.be_overtaken_by(run.clone()));
    let error = fails(host.begin(77, "80:4001"));
    let Cause::Refused(Refusal::Restless { attempts }) = error.cause() else { panic!("{error}") };
    assert_eq!((*attempts, error.effect), (50, Effect::Unchanged));
    assert!(error.help().unwrap().contains("nft monitor"));
    assert_eq!(host.runs().len(), 50, "all of them are others'");
    assert!(host.runs().iter().all(|run| !run.contains("portmap-run-77")));
    assert_eq!(host.kernel.cleaned(), []);
}

#[test]
fn a_process_number_that_comes_again_is_no_obstacle() {
    let host = Host::new();
    for port in ["80:4000", "81:4001", "82:4002"] {
        host.begin(7, port).unwrap();
    }
    let expected = ["portmap-run-7 80:4000", "portmap-run-7-2 81:4001", "portmap-run-7-3 82:4002"];
    assert_eq!(host.runs(), expected);
}

#[test]
fn an_old_kernel_says_that_it_cannot() {
    let host = Host::new();
    host.kernel.forget_owners();
    let refused = fails(host.begin(7, "80:4000"));
    assert!(matches!(refused.cause(), Cause::Commit(CommitError::NoOwner)), "{refused}");
    assert!(refused.lacks_owner());
}

/// A socket that somebody holds, and its number.
fn socket() -> (UnixStream, u64) {
    let (held, _) = UnixStream::pair().unwrap();
    let number = nix::sys::stat::fstat(&held).unwrap().st_ino;
    (held, number)
}

fn supervised(pid: u32, socket: u64) -> RunRequest {
    RunRequest { lifetime: Lifetime::Supervised { socket: Some(socket) }, ..request(pid) }
}

#[test]
fn a_supervised_run_ends_when_its_supervisor_says_so() {
    let host = Host::with(&["80:3000"]);
    let ((_one, first), (_other, second)) = (socket(), socket());
    for (pid, socket, mapping) in [(7, first, "80:4000"), (8, second, "81:4001")] {
        let request = supervised(pid, socket);
        host.engine().begin_run(&request, |_| Ok::<_, Error>(set(mapping))).unwrap();
    }
    host.engine().end_run(first).unwrap();
    assert_eq!(host.runs(), ["portmap-run-8 81:4001"]);
    let (before, after) = host.kernel.cleaned().pop().unwrap();
    assert_eq!((&*words(&before), &*words(&after)), ("80:4000", "80:3000"));
    // Somebody else may have been faster.
    host.engine().end_run(first).unwrap();
    assert_eq!(host.runs(), ["portmap-run-8 81:4001"]);
}

#[test]
fn what_nobody_holds_any_more_is_removed_by_the_next_command() {
    let host = Host::with(&["80:3000"]);
    let left_over = || {
        let (held, number) = socket();
        let request = supervised(7, number);
        host.engine().begin_run(&request, |_| Ok::<_, Error>(set("81:4000"))).unwrap();
        let left_over = |host: &Host| host.engine().status().unwrap().runs[0].is_left_over;
        assert!(!left_over(&host));
        host.apply("80:3000 90:3000").unwrap();
        assert_eq!(host.runs().len(), 1);
        drop(held);
        assert!(left_over(&host));
    };
    left_over();
    host.apply("80:3000 90:3000").unwrap();
    assert_eq!(host.runs().len(), 0, "even if apply has nothing else to do");
    left_over();
    host.engine().clear(true).unwrap();
    assert_eq!(host.runs().len(), 0);
    left_over();
    host.begin(8, "81:4001").unwrap();
    assert_eq!(host.runs(), ["portmap-run-8 81:4001"], "it is in nobody's way");
}

#[test]
fn however_many_nobody_holds_are_removed_at_once() {
    let host = Host::new();
    let (held, number) = socket();
    for n in 1..=60 {
        let mut left = another(n, &format!("{}:4000", 100 + n));
        left.table.lifetime = Lifetime::Supervised { socket: Some(number) };
        host.kernel.add_run(left);
    }
    drop(held);
    host.begin(77, "80:4001").unwrap();
    assert_eq!(host.runs(), ["portmap-run-77 80:4001"]);
}

#[test]
fn who_is_overtaken_each_time_ends_no_run_and_says_so() {
    let host = Host::new();
    let (held, number) = socket();
    let request = supervised(7, number);
    host.engine().begin_run(&request, |_| Ok::<_, Error>(set("80:4000"))).unwrap();
    drop(held);
    let overtake = || {
        for n in 1..=60 {
            host.kernel.be_overtaken_by(another(100 + n, &format!("{}:4000", 100 + n)));
        }
    };
    overtake();
    let error = fails(host.engine().end_run(number));
    assert!(matches!(error.cause(), Cause::Refused(Refusal::Restless { attempts: 50 })), "{error}");
    assert!(host.runs().contains(&"portmap-run-7 80:4000".to_owned()));
    // Another command that comes by has its own work to do.
    overtake();
    host.apply("90:3000").unwrap();
    assert!(host.runs().contains(&"portmap-run-7 80:4000".to_owned()));
}

#[test]
fn what_a_killed_trace_has_left_is_removed_by_the_next_command() {
    let host = Host::with(&["80:3000"]);
    let add = |pid, socket| {
        let lifetime = Lifetime::Supervised { socket };
        host.kernel.add_trace(TraceTable { id: TraceId { pid, nth: 1 }, lifetime });
    };
    let (_held, living) = socket();
    add(1, Some(living));
    add(2, None);
    let others = ["portmap-trace-1", "portmap-trace-2"];
    let left_over = || add(3, Some(socket().1));
    let is_left_over = || {
        let traces = host.engine().status().unwrap().traces;
        traces.iter().map(|trace| trace.is_left_over).collect::<Vec<_>>()
    };
    left_over();
    assert_eq!(is_left_over(), [false, false, true]);
    host.apply("80:3000").unwrap();
    assert_eq!(host.kernel.traces(), others, "even if apply has nothing else to do");
    left_over();
    host.engine().clear(true).unwrap();
    assert_eq!(host.kernel.traces(), others);
    left_over();
    host.begin(8, "81:4001").unwrap();
    assert_eq!(host.kernel.traces(), others);

    // A trace is to show what there is: a run that nobody holds stays.
    let request = supervised(7, socket().1);
    host.engine().begin_run(&request, |_| Ok::<_, Error>(set("82:4000"))).unwrap();
    left_over();
    host.engine().sweep_traces();
    assert_eq!(host.kernel.traces(), others);
    assert_eq!(host.runs().len(), 2);
}

/// Where it was started, its process may have had another number.
#[test]
fn a_run_whose_processes_cannot_be_seen_is_not_told_by_a_number_of_here() {
    let host = Host::new();
    host.begin(1, "80:4000").unwrap();
    let refused = fails(host.begin(2, "80:4001"));
    assert!(refused.to_string().contains("cannot be seen from here"), "{refused}");
    assert!(!refused.help().unwrap().contains("kill"), "{:?}", refused.help());
}

/// What has only the name of a run's table is somebody else's.
#[test]
fn a_table_that_is_only_called_as_one_of_ours_is_left_alone() {
    let host = Host::with(&["80:3000"]);
    let mut foreign = another(5, "81:4000");
    foreign.table.lifetime = Lifetime::Supervised { socket: None };
    host.kernel.add_run(foreign);
    assert!(!host.engine().status().unwrap().runs[0].is_left_over);
    host.apply("80:3000").unwrap();
    host.engine().clear(true).unwrap();
    host.begin(8, "82:4001").unwrap();
    assert_eq!(host.runs(), ["portmap-run-5 81:4000", "portmap-run-8 82:4001"]);
    let refused = fails(host.begin(9, "81:4002"));
    assert!(matches!(refused.cause(), Cause::Refused(Refusal::TableElsewhere { .. })), "{refused}");
    assert!(refused.help().unwrap().contains("nft delete table inet portmap-run-5"));
}
