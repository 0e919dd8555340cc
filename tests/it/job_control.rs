//! `portmap run` at a shell, with somebody at the keys: the command is the shell's job, as if
//! portmap had never been there.

use std::process::Command;

use crate::run::{By, EITHER};
use crate::support::Namespace;
use crate::support::terminal::Terminal;

/// A shell, and a run that it is to start.
struct Shell {
    terminal: Terminal,
    settings: String,
}

impl Shell {
    /// With `./start`, which becomes a run of this script.
    #[track_caller]
    fn with(host: &Namespace, by: By, script: &str) -> Self {
        let script = host.file("app.sh", script);
        let run = ["80:3000", "--user", "root", "--", "sh", script.to_str().unwrap()];
        host.file("start", &script_of(&host.run_command(by, &run)));
        let mut shell = host.command("bash");
        shell.args(["--norc", "--noprofile", "--noediting", "-i"]).current_dir(host.dir());
        shell.env("PS1", "ready> ");
        let mut terminal = Terminal::of(shell, 80);
        terminal.shows("ready> ");
        let settings = terminal.settings();
        let mut shell = Self { terminal, settings };
        shell.press("sh ./start\n");
        shell
    }

    #[track_caller]
    fn press(&mut self, keys: &str) {
        self.terminal.forget();
        self.terminal.press(keys);
    }

    /// The job has ended, so.
    #[track_caller]
    fn ends_with(mut self, host: &Namespace, status: i32) {
        self.terminal.shows("ready> ");
        assert_eq!(self.terminal.settings(), self.settings, "the terminal is as before");
        self.press("echo status=$?\n");
        self.terminal.shows(&format!("status={status}\r\n"));
        host.has_no_runs_soon();
        self.press("exit\n");
        assert_eq!(self.terminal.ends().0, Some(0));
    }
}

/// A script that becomes this command, with its environment.
fn script_of(command: &Command) -> String {
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap());
    let mut script = String::new();
    for (name, value) in command.get_envs() {
        let name = name.to_str().unwrap();
        match value {
            Some(value) => script.push_str(&format!("export {name}={}\n", quoted(value))),
            None => script.push_str(&format!("unset {name}\n")),
        }
    }
    let words: Vec<_> =
        [command.get_program()].into_iter().chain(command.get_args()).map(quoted).collect();
    script + "exec " + &words.join(" ") + "\n"
}

#[track_caller]
fn has_run(host: &Namespace) {
    assert!(host.nft("list tables").contains("portmap-run-"));
}

#[test]
fn ctrl_c_is_the_commands() {
    let script = "trap 'n=$((n + 1)); echo \"interrupted: $n\"; [ $n -lt 2 ] || exit 7' INT
        echo begun; while :; do sleep 0.1; done";
    for by in EITHER {
        let host = Namespace::new();
        let mut shell = Shell::with(&host, by, script);
        shell.terminal.shows("begun");
        shell.press("\x03");
        shell.terminal.shows("interrupted: 1");
        has_run(&host);
        shell.press("\x03");
        shell.terminal.shows("interrupted: 2");
        shell.ends_with(&host, 7);
    }
}

#[test]
fn ctrl_c_ends_a_command_that_does_not_care() {
    for by in EITHER {
        let host = Namespace::new();
        let mut shell = Shell::with(&host, by, "echo begun; exec sleep 1000");
        shell.terminal.shows("begun");
        shell.press("\x03");
        // 128 + SIGINT
        shell.ends_with(&host, 130);
    }
}

#[test]
fn a_stopped_command_keeps_its_mapping_and_goes_on_in_the_foreground() {
    let script = "echo begun; read line; echo \"read: $line\"; exit 5";
    for by in EITHER {
        let host = Namespace::new();
        let mut shell = Shell::with(&host, by, script);
        shell.terminal.shows("begun");
        shell.press("\x1a");
        shell.terminal.shows("Stopped");
        shell.terminal.shows("ready> ");
        has_run(&host);
        shell.press("fg\n");
        shell.terminal.shows("sh ./start");
        shell.press("these words\n");
        shell.terminal.shows("read: these words");
        shell.ends_with(&host, 5);
    }
}
