//! `portmap run` on a kernel that cannot tie a table to a socket, as before Linux 5.12: the real one,
//! but for that. Like the servers of [`process`](super::process) it is this very program once more.

use std::env;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::Command;

use clap::Parser;
use portmap::cli::{self, Cli};
use portmap::commands;
use portmap::firewall::Rulesets;
use portmap::host::listeners::Listening;
use portmap::kernel::{CommitError, Error, Extent, Kernel, Netlink, Runs, Snapshot, conntrack};
use portmap::mapping::{MappingSet, Protocol};
use portmap::plan::Step;
use portmap::ruleset::{Lifetime, RunId, RunTable, Stamp};
use portmap::ui::{Settings, Ui};

use super::process::this_program;
use super::{Namespace, skip};

/// The words of the command line.
const VARIABLE: &str = "PORTMAP_TEST_RUN";
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

    /// `portmap run` with these words. On standard output it says a line of its own first.
    pub fn old_kernel_run(&self, words: &[&str]) -> Command {
        let mut command = this_program(self, module_path!(), "a_run");
        command.env(VARIABLE, words.join(&BETWEEN.to_string()));
        command
    }
}

#[test]
#[ignore = "no test, but the part that other tests start as a process"]
fn a_run() {
    let Ok(told) = env::var(VARIABLE) else { return };
    println!("\n{STARTS}");
    let words = ["portmap", "run"].into_iter().chain(told.split(BETWEEN));
    let Cli { common, command: cli::Command::Run(run), .. } = Cli::parse_from(words) else {
        panic!("{told}")
    };
    let ui = Ui::new(Settings::default());
    let open = || Netlink::open().map(WithoutOwner);
    if let Err(failure) = commands::run::with(&ui, &common, &run, open) {
        failure.show(&ui);
        panic!("it did not run");
    }
}

/// What comes before this is what the program says of itself as a program of tests.
pub const STARTS: &str = "the run starts";

struct WithoutOwner(Netlink);

impl Kernel for WithoutOwner {
    fn hold(&mut self, run: &RunTable, steps: &[Step], generation: u32) -> Result<(), CommitError> {
        match run.lifetime {
            Lifetime::Socket => Err(CommitError::NoOwner),
            Lifetime::Supervised { .. } => self.0.hold(run, steps, generation),
        }
    }

    fn release(&mut self, run: RunId, generation: u32) -> Result<(), CommitError> {
        self.0.release(run, generation)
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
