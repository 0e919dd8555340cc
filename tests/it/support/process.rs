//! Servers that are processes of other users. Each is this very program once more, told to be a
//! server and nothing else: a thread cannot be another user than its process in all respects.

use std::env;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

use super::net::Sockets;
use super::{Namespace, needs_other_users};

/// Says what to serve: `UID NAME PORT…`.
const VARIABLE: &str = "PORTMAP_TEST_SERVER";

/// A process that answers until this is dropped; then it is killed.
pub struct ServerProcess {
    child: Child,
    /// Its standard input, by which it says that it listens, and learns that it is not needed any
    /// more even if the test is killed.
    line: UnixStream,
}

impl ServerProcess {
    /// Lets it end in good order: it takes no new connections, and talks on those that it has until
    /// its clients are done.
    pub fn retire(mut self) {
        self.line.shutdown(Shutdown::Write).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Namespace {
    /// A process of this user on these ports of all addresses: TCP and UDP, IPv4 and IPv6.
    #[track_caller]
    pub fn serve_as(&self, uid: u32, name: &str, ports: &[u16]) -> ServerProcess {
        self.try_serve_as(uid, name, ports).expect("a server that listens")
    }

    /// `None` if somebody else has one of the ports.
    #[track_caller]
    pub fn try_serve_as(&self, uid: u32, name: &str, ports: &[u16]) -> Option<ServerProcess> {
        needs_other_users();
        let (line, theirs) = UnixStream::pair().unwrap();
        let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
        let mut command = this_program(self, module_path!(), "a_server");
        command.env(VARIABLE, format!("{uid} {name} {}", ports.join(" ")));
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::inherit());
        let child = command.spawn().unwrap();
        // Or its own copy of the line would keep it open.
        drop(command);
        let mut server = ServerProcess { child, line };
        let mut word = [0];
        match server.line.read(&mut word).unwrap() {
            1 if word == *LISTENS => Some(server),
            1 => None,
            _ => panic!("{name}: {}", server.child.wait().unwrap()),
        }
    }
}

const LISTENS: &[u8; 1] = b"l";
const TAKEN: &[u8; 1] = b"t";

/// This program once more, as a process that is nothing but a part of a test: the function of this
/// name in a module.
pub(super) fn this_program(host: &Namespace, module: &str, part: &str) -> Command {
    let (_, module) = module.split_once("::").expect("a module of a crate");
    let mut command = host.command(env::current_exe().unwrap());
    command.arg(format!("{module}::{part}"));
    command.args(["--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    command
}

#[test]
#[ignore = "no test, but the part that other tests start as a process"]
fn a_server() {
    let Ok(told) = env::var(VARIABLE) else { return };
    let words: Vec<_> = told.split(' ').collect();
    let [uid, name, ports @ ..] = &words[..] else { panic!("{told}") };
    let uid: u32 = uid.parse().unwrap();
    setgroups(&[]).unwrap();
    setgid(Gid::from_raw(uid)).unwrap();
    setuid(Uid::from_raw(uid)).unwrap();
    let mut line = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let ports: Vec<u16> = ports.iter().map(|port| port.parse().unwrap()).collect();
    match Sockets::to_be_shared(name, &ports) {
        Ok(mut sockets) => {
            line.write_all(LISTENS).unwrap();
            sockets.serve(&line);
            sockets.finish();
        }
        Err(_) => line.write_all(TAKEN).unwrap(),
    }
}
