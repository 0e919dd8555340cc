//! Commands of portmap's on a kernel that cannot tie a table to a socket, as before Linux 5.12: the
//! real one, but for that. Like the servers of [`process`](super::process) it is this very program once more.

use std::env;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use portmap::cli::{self, Cli};
use portmap::commands;
use portmap::firewall::Rulesets;
use portmap::host::listeners::Listening;
use portmap::kernel::trace::Tracer;
use portmap::kernel::{CommitError, Error, Extent, Kernel, Netlink, Runs, Snapshot, conntrack};
use portmap::mapping::{MappingSet, Protocol};
use portmap::plan::Step;
use portmap::ruleset::{Lifetime, RunTable, Stamp, TableName};
use portmap::ui::{Settings, Ui};

use super::process::this_program;
use super::{Namespace, skip};

/// The words of the command line.
const VARIABLE: &str = "PORTMAP_TEST_COMMAND";
const BETWEEN: char = '\u{1f}';

impl Namespace {
    /// Whether the kernel can end a table with the process that made it; says if the rest of the
    /// test is left out for want of that.
    pub fn has_owners(&self) -> bool {
        // The table goes with nft.
        let table = "add table inet owned { flags owner; }";
        let has_owners = self.command("nft").arg(table).output().unwrap().status.success();
        if !has_owners {
            skip("this kernel cannot end a table with the process that made it (Linux 5.12)");
        }
        has_owners
    }

    /// portmap with these words. On standard output it says a line of its own first.
    pub fn on_old_kernel(&self, words: &[&str]) -> Command {
        let mut command = this_program(self, module_path!(), "a_command");
        command.env(VARIABLE, words.join(&BETWEEN.to_string()));
        command
    }

    /// The same, started, for a command that has a say in how signals end it. Here another thread
    /// begins the program, which has to leave them to it.
    pub fn start_on_old_kernel(&self, words: &[&str]) -> Child {
        let mut command = self.on_old_kernel(words);
        command.env("PORTMAP_STATE_DIR", self.dir().join("state"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let left: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        let before = SigSet::thread_get_mask().unwrap();
        left.thread_block().unwrap();
        let child = command.spawn();
        before.thread_set_mask().unwrap();
        child.unwrap()
    }
}

#[test]
#[ignore = "no test, but the part that other tests start as a process"]
fn a_command() {
    let Ok(told) = env::var(VARIABLE) else { return };
    println!("\n{STARTS}");
    let words = ["portmap"].into_iter().chain(told.split(BETWEEN));
    let Cli { common, command, .. } = Cli::parse_from(words);
    let ui = Ui::new(Settings::default());
    let open = || Netlink::open().map(WithoutOwner);
    let tracer = Tracer::open_without_owner;
    let done = match command {
        cli::Command::Run(run) => commands::run::with(&ui, &common, &run, open),
        cli::Command::Trace(trace) => commands::trace::with(&ui, &common, &trace, tracer),
        cli::Command::Doctor(doctor) => commands::doctor::with(&ui, &common, &doctor, tracer),
        _ => panic!("{told}"),
    };
    if let Err(failure) = done {
        failure.show(&ui);
        panic!("it did not run");
    }
}

/// What comes before this is what the program says of itself as a program of tests.
pub const STARTS: &str = "the command starts";

struct WithoutOwner(Netlink);

impl Kernel for WithoutOwner {
    fn hold(&mut self, run: &RunTable, steps: &[Step], generation: u32) -> Result<(), CommitError> {
        match run.lifetime {
            Lifetime::Socket => Err(CommitError::NoOwner),
            Lifetime::Supervised { .. } => self.0.hold(run, steps, generation),
        }
    }

    fn release(&mut self, table: TableName, generation: u32) -> Result<(), CommitError> {
        self.0.release(table, generation)
    }

    fn into_inherited(self) -> io::Result<OwnedFd> {
        self.0.into_inherited()
    }

    fn generation(&mut self) -> Result<u32, Error> {
        self.0.generation()
    }

    fn stamp(&mut self) -> Result<Option<Stamp>, Error> {
        self.0.stamp()
    }

    fn snapshot(&mut self, extent: Extent) -> Result<Snapshot, Error> {
        self.0.snapshot(extent)
    }

    fn commit(&mut self, steps: &[Step], generation: u32) -> Result<(), CommitError> {
        self.0.commit(steps, generation)
    }

    fn runs(&mut self) -> Result<Runs, Error> {
        self.0.runs()
    }

    fn clean_flows(
        &mut self,
        before: &MappingSet,
        after: &MappingSet,
    ) -> Result<usize, conntrack::Error> {
        self.0.clean_flows(before, after)
    }

    fn clean_redirected_flows(&mut self, before: &MappingSet) -> Result<usize, conntrack::Error> {
        self.0.clean_redirected_flows(before)
    }

    fn translated_connections(&mut self) -> Result<usize, conntrack::Error> {
        self.0.translated_connections()
    }

    fn forget_translated_connections(&mut self) -> Result<usize, conntrack::Error> {
        self.0.forget_translated_connections()
    }

    fn wait_for_packets(&mut self) {
        self.0.wait_for_packets();
    }

    fn clear_trial_flows(&mut self) -> Result<usize, conntrack::Error> {
        self.0.clear_trial_flows()
    }

    fn listening(&mut self, protocols: &[Protocol]) -> Listening {
        self.0.listening(protocols)
    }

    fn is_open(&mut self, inode: u64) -> Option<bool> {
        self.0.is_open(inode)
    }

    fn translations_of_others(&mut self) -> Result<Rulesets, Error> {
        self.0.translations_of_others()
    }

    fn is_connected(&mut self, local: SocketAddr, peer: SocketAddr) -> bool {
        self.0.is_connected(local, peer)
    }
}
