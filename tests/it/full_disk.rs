//! No room for the history.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use crate::support::Namespace;

/// A file system of its own, which only this test and what it starts see.
struct Disk {
    filler: PathBuf,
}

impl Disk {
    #[track_caller]
    fn at(path: &Path) -> Self {
        let mount = |arguments: &[&str], at: &Path| {
            let status = Command::new("mount").args(arguments).arg(at).status();
            assert!(status.unwrap().success(), "mount {arguments:?}");
        };
        unshare(CloneFlags::CLONE_NEWNS).expect("make a mount namespace");
        mount(&["--make-rprivate"], Path::new("/"));
        fs::create_dir(path).unwrap();
        mount(&["-t", "tmpfs", "-o", "size=128k,mode=755", "portmap-test"], path);
        Self { filler: path.join("filler") }
    }

    /// To the last byte.
    #[track_caller]
    fn fill(&self) {
        fs::write(&self.filler, vec![0; 1 << 20]).unwrap_err();
    }

    fn make_room(&self) {
        fs::remove_file(&self.filler).unwrap();
    }
}

fn serves(host: &Namespace) -> String {
    host.status()["mappings"][0]["to"].to_string()
}

#[test]
fn nothing_is_lost_and_everything_goes_on_when_there_is_room() {
    let host = Namespace::new().that_boots();
    let disk = Disk::at(&host.dir().join("state"));
    host.portmap(["apply", "--persist", "80:3001"]).run().succeeds();
    host.portmap(["apply", "80:3002"]).run().succeeds();

    disk.fill();
    let all = || (host.states(), host.ruleset(), serves(&host));
    let before = all();
    assert_eq!(before.0, ["1 past, at boot", "2 active"]);
    let refused = [
        &["apply", "80:3004"][..],
        &["apply", "--persist", "80:3004"],
        &["apply", "--confirm", "1h", "80:3004"],
        &["persist"],
        &["rollback"],
        &["rollback", "--to", "1"],
        &["clear"],
    ];
    for command in refused {
        let outcome = host.portmap(command).run().fails_with(1);
        let outcome = outcome.says("No space left on device").says("help: free space on the file");
        assert!(outcome.stdout.is_empty(), "it does not say that anything is done: {outcome}");
        assert_eq!(all(), before, "{outcome}");
    }
    host.portmap(["apply", "80:3002"]).run().succeeds();
    host.portmap(["show", "1"]).run().succeeds();
    host.nft("flush ruleset");
    host.portmap(["restore"]).run().succeeds();
    assert_eq!(serves(&host), "3001", "what is persisted needs no room");
    disk.make_room();
    assert_eq!(host.states(), ["1 active, at boot", "2 past"]);
    host.portmap(["apply", "80:3003"]).run().succeeds();
    host.portmap(["persist"]).run().succeeds();
    assert_eq!(host.states(), ["1 past", "2 past", "3 active, at boot"]);
}

/// SIGXFSZ would end the process, with the kernel changed and nothing said.
#[test]
fn a_limit_on_the_size_of_files_is_told_as_a_full_disk_is() {
    let host = Namespace::new();
    host.portmap(["apply", "80:3001"]).run().succeeds();
    let limited = |bytes: u32, arguments: &[&str]| {
        let limit = format!("prlimit --pid $$ --fsize={bytes}");
        host.portmap_mounted(&limit, arguments).run()
    };
    let mut codes = Vec::new();
    for bytes in (0..=800).step_by(20) {
        let to = format!("80:{}", 4000 + bytes);
        let before = serves(&host);
        let outcome = limited(bytes, &["apply", &to]);
        let after = serves(&host);
        match outcome.code {
            Some(0) => assert_eq!(format!("80:{after}"), to),
            Some(1) => assert_eq!(after, before, "{outcome}"),
            Some(3) => assert_eq!(format!("80:{after}"), to, "{outcome}"),
            _ => panic!("{bytes}: {outcome}"),
        }
        codes.push(outcome.code.unwrap());
        if outcome.code != Some(0) {
            outcome.says("File too large").says("help: ").says("ulimit -f");
        }
        host.portmap(["persist"]).run();
    }
    codes.dedup();
    assert_eq!((codes.first(), codes.last()), (Some(&1), Some(&0)), "{codes:?}");
    // The command of a run is started as it would be without portmap.
    let ignored = ["run", "81:4000", "--user", "root", "--", "grep", "SigIgn", "/proc/self/status"];
    let plain = host.command("grep").args(["SigIgn", "/proc/self/status"]).output().unwrap();
    let plain = String::from_utf8(plain.stdout).unwrap();
    assert_eq!(host.portmap(ignored).run().succeeds().stdout, plain);
}

#[test]
fn a_trial_is_ended_by_the_kernel_and_its_end_is_written_when_there_is_room() {
    let host = Namespace::new().that_boots();
    let disk = Disk::at(&host.dir().join("state"));
    host.portmap(["apply", "80:3001"]).run().succeeds();
    let trials = [
        ("confirm", "80:3002", "3002", ["1 past", "2 active"]),
        ("rollback", "80:3003", "3002", ["2 active, at boot", "3 reverted"]),
    ];
    for (end, mapping, to, states) in trials {
        host.portmap(["apply", "--confirm", "1h", mapping]).run().succeeds();
        disk.fill();
        let outcome = host.portmap([end]).run().fails_with(3);
        outcome.says("the kernel does it").says("No space left").says("help: free space");
        assert_eq!(serves(&host), to, "{end}");
        let known = host.states();
        assert_eq!(known[known.len() - 2..], states, "it is seen in the kernel: {end}");
        // What cannot be settled is not built upon.
        let outcome = host.portmap(["apply", "80:3005"]).run().fails_with(1);
        outcome.says("settle the history").says("No space left").says("help: free space");
        assert_eq!((serves(&host), host.states()), (to.to_owned(), known.clone()));
        disk.make_room();
        host.portmap(["persist"]).run().succeeds();
        assert_eq!(host.states().len(), known.len(), "{end}");
        assert_eq!(serves(&host), to, "{end}");
    }
    assert_eq!(host.states(), ["1 past", "2 active, at boot", "3 reverted"]);
}
