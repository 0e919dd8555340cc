//! What packaging/deps.sh installs, with an apt-get that is none.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use crate::support::PATIENCE;

/// All that deps.sh finds. None of the programs that it would install.
const PROGRAMS: [&str; 10] =
    ["bash", "sh", "dirname", "id", "env", "sed", "unshare", "mount", "setsid", "sleep"];

/// As of a package that starts its service, and takes its time.
const APT_GET: &str = r#"#!/bin/bash
case " $* " in *" update "* | *" --download-only "*) exit 0 ;; esac
setsid sleep 100 &
echo >"$STARTED"
wait
"#;

/// Kills the installation when it is under way, and lists what is where services are forbidden to
/// start.
const INSTALLATION: &str = r#"set -m
[ -L /usr/sbin ] || mount -t tmpfs tmpfs /usr/sbin || exit 1
PATH=$1 packaging/deps.sh bench >/dev/null &
while ! [ -s "$STARTED" ]; do kill -0 $! || exit 1; sleep 0.05; done
kill -KILL -- -$!
wait
[ -L /usr/sbin ] || ls -A /usr/sbin
"#;

#[test]
fn a_killed_installation_leaves_no_service_and_nothing_that_forbids_them() {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    for program in PROGRAMS {
        let paths = ["/usr/bin", "/bin"].map(|place| format!("{place}/{program}"));
        let path = paths.into_iter().find(|path| fs::exists(path).unwrap()).expect(program);
        symlink(path, bin.join(program)).unwrap();
    }
    fs::write(bin.join("apt-get"), APT_GET).unwrap();
    fs::set_permissions(bin.join("apt-get"), fs::Permissions::from_mode(0o755)).unwrap();

    // Who is left has this open.
    let (mut line, theirs) = UnixStream::pair().unwrap();
    line.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "bash", "-c", INSTALLATION, "bash"]);
    command.arg(&bin).env("STARTED", dir.path().join("started"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    let output = command.stderr(OwnedFd::from(theirs)).output().unwrap();
    drop(command);
    let mut said = String::new();
    let is_over = line.read_to_string(&mut said);
    assert!(is_over.is_ok(), "a process is left: {said}");
    assert!(output.status.success(), "{said}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "left in /usr/sbin: {said}");
}
