//! What the system's log is told.

use std::os::unix::net::UnixDatagram;

use crate::support::Namespace;
use crate::support::namespace::LOG_SOCKET;
use crate::support::portmap::Outcome;

/// A /dev of its own, with the log of this host in it.
const OWN_LOG: &str = "mkdir -p dev; mount -t tmpfs none dev; cp -a /dev/null /dev/urandom dev; \
                       touch dev/log; mount --bind log dev/log; mount --move dev /dev";

/// A log of this host's own, and who reads it.
struct Log<'h> {
    host: &'h Namespace,
    socket: UnixDatagram,
}

impl<'h> Log<'h> {
    #[track_caller]
    fn of(host: &'h Namespace) -> Self {
        let socket = UnixDatagram::bind(host.dir().join("log")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { host, socket }
    }

    #[track_caller]
    fn portmap(&self, arguments: &[&str]) -> Outcome {
        self.host.portmap_mounted(OWN_LOG, arguments).run()
    }

    /// The lines since it was last asked, without priority and process.
    #[track_caller]
    fn lines(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let mut lines = Vec::new();
        while let Ok(length) = self.socket.recv(&mut bytes) {
            let line = std::str::from_utf8(&bytes[..length]).expect("UTF-8");
            let (tag, line) = line.split_once("]: ").unwrap_or_else(|| panic!("{line}"));
            assert!(tag.starts_with("<29>portmap["), "{tag}");
            lines.push(line.to_owned());
        }
        lines
    }
}

#[test]
fn no_test_writes_to_the_log_of_this_machine() {
    let host = Namespace::new();
    let is_socket = host.command("test").args(["-S", LOG_SOCKET]).status().expect("test(1)");
    assert_eq!(is_socket.code(), Some(1));
}

#[test]
fn each_change_is_a_line() {
    let host = Namespace::new();
    let log = Log::of(&host);
    let rules = host.file("rules.yaml", "ports: { 80: 3000 }");
    let apply = ["apply", "--message", "a\nb", "rules.yaml"];
    log.portmap(&apply).succeeds();
    let said = format!(
        "generation 1 is active, 1 added; by root (uid 0); apply of {}; \"a\\nb\"",
        rules.display()
    );
    assert_eq!(log.lines(), [said]);
    log.portmap(&apply).succeeds();
    assert_eq!(log.lines(), [""; 0], "nothing was changed");
    log.portmap(&["rollback"]).succeeds();
    let said = "generation 2 is active: nothing is mapped, 1 removed; by root (uid 0); rollback";
    assert_eq!(log.lines(), [said]);

    // Nobody listens any more.
    drop(log.socket);
    host.portmap_mounted(OWN_LOG, apply).run().succeeds();
}

#[test]
fn what_boot_restores_is_a_line_too() {
    let host = Namespace::new();
    let log = Log::of(&host);
    host.apply("ports: { 80: 3000 }");
    // Nothing restores it here.
    log.portmap(&["persist"]).fails_with(3);
    assert_eq!(log.lines(), ["generation 1 is persisted; by root (uid 0)"]);
    log.portmap(&["persist"]).fails_with(3);
    assert_eq!(log.lines(), [""; 0], "it was already");
    log.portmap(&["persist", "--off"]).succeeds();
    assert_eq!(log.lines(), ["no generation is persisted any more; by root (uid 0)"]);

    host.file("rules.yaml", "ports: { 80: 4000 }");
    log.portmap(&["apply", "--persist", "rules.yaml"]).fails_with(3);
    let lines = log.lines();
    assert!(lines[0].starts_with("generation 2 is active, 1 changed; "), "{lines:?}");
    assert_eq!(lines[1..], ["generation 2 is persisted; by root (uid 0)"]);
    log.portmap(&["clear", "--persist"]).succeeds();
    let lines = log.lines();
    assert!(
        lines[0].starts_with("generation 3 is active: nothing is mapped, 1 removed; "),
        "{lines:?}"
    );
    assert_eq!(lines[1..], ["no generation is persisted any more; by root (uid 0)"]);
}

#[test]
fn a_mapping_that_lives_with_a_command_is_a_line() {
    let host = Namespace::new();
    let log = Log::of(&host);
    let run = ["run", "80-81:8000-8001", "53/udp:5353", "--user", "root", "--", "true", "a\"b"];
    log.portmap(&run).succeeds();
    let lines = log.lines();
    let [line] = &*lines else { panic!("{lines:?}") };
    let rest = line.strip_prefix("portmap-run-").expect(line);
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    assert_eq!(
        rest,
        " lives with its command, 80-81/tcp -> 8000-8001, 53/udp -> 5353; by root (uid 0); run of \
         true a'b"
    );
}

#[test]
fn the_end_of_a_trial_is_a_line_of_the_next_command() {
    let host = Namespace::new();
    let log = Log::of(&host);
    host.file("rules.yaml", "ports: { 80: 3000 }");
    log.portmap(&["apply", "--confirm", "1s", "rules.yaml"]).succeeds();
    let lines = log.lines();
    assert!(lines[0].starts_with("generation 1 is on trial for 1s, 1 added; "), "{lines:?}");
    std::thread::sleep(std::time::Duration::from_millis(1200));
    log.portmap(&["apply", "rules.yaml"]).succeeds();
    let lines = log.lines();
    let [end, apply] = &*lines else { panic!("{lines:?}") };
    assert_eq!(end, "the trial of generation 1 was not confirmed: reverted");
    assert!(apply.starts_with("generation 2 is active, 1 added; "), "{apply}");
}
