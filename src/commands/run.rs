//! `portmap run`: a mapping that lives as long as a command.

mod supervisor;

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::unix::process::CommandExt;
use std::process::{self, Command};

use crate::cli::{self, Common};
use crate::commands::confinement;
use crate::commands::failure::{Failure, Result};
use crate::engine::{Begun, Engine, Involved, RunRequest};
use crate::formats::diagnostic::Severity;
use crate::formats::hidden::is_hidden;
use crate::formats::rules::{self, Facts, Names, Shape, Source};
use crate::host::confine::{self, Resting};
use crate::host::identity::{self, Choice, Identity};
use crate::host::services::Services;
use crate::host::{environment, files, ports, terminal};
use crate::kernel::{self, Kernel, Netlink, keyring, limits};
use crate::mapping::words::fold;
use crate::mapping::{Comment, MappingSet, Port, PortRange};
use crate::ruleset::Lifetime;
use crate::ui::Ui;
use supervisor::Supervisor;

pub fn run(ui: &Ui, common: &Common, run: &cli::Run) -> Result {
    with(ui, common, run, Netlink::open_to_be_inherited)
}

/// The same with another door to the kernel.
pub fn with<K: Kernel>(
    ui: &Ui,
    common: &Common,
    run: &cli::Run,
    open: impl Fn() -> std::result::Result<K, kernel::Error>,
) -> Result {
    let mut resting = confinement::rest(ui);
    let user = user(run)?;
    if !user.as_ref().is_some_and(stays_root) {
        confinement::give_up(ui, resting.take());
    }
    let arguments = Arguments::new(&run.mappings)?;
    let mut engine = Engine::new(open()?, &common.state_dir, common.wait, ui);
    let mut begin = |lifetime| {
        let command = command_line(&run.command);
        let request = RunRequest { pid: process::id(), command, lifetime };
        engine.begin_run(&request, |involved| arguments.mapping(ui, involved))
    };
    let (begun, _held) = match begin(Lifetime::Socket) {
        Err(Failure::Engine(e)) if e.lacks_owner() => {
            let supervisor = Supervisor::start(common, &open)
                .map_err(|e| cannot("start a process that watches over the mapping", &e))?;
            let begun = begin(supervisor.lifetime())?;
            ui.note(supervisor::NOTE);
            (begun, supervisor.into_inherited())
        }
        begun => (begun?, engine.into_kernel().into_inherited()),
    };
    let _held = _held.map_err(|e| cannot("pass the mapping on to the command", &e))?;
    tell(ui, &begun);
    become_user(user.as_ref(), resting)?;
    if let Some(user) = user.as_ref().filter(|user| !stays_root(user)) {
        part_from_root(ui, user)?;
    }
    limits::restore_at_the_file_size();
    let error = command(run, &begun.mapping, user.as_ref()).exec();
    Err(not_run(&run.command[0], &error))
}

/// Who the command runs as; `None` for the user of this process, who is not root.
fn user(run: &cli::Run) -> Result<Option<Identity>> {
    let found = match (&run.user, identity::choose()) {
        (Some(name), _) => Identity::named(name),
        (None, Choice::Same) => return Ok(None),
        (None, Choice::Other(uid, gid)) => Identity::numbered(uid, gid),
        (None, Choice::OnlyRoot) => {
            return Err(Failure::Usage {
                message: "the command would run as root, and was not asked to".into(),
                help: "name another user: `portmap run … --user USER -- …`; for root, \
                       `--user root`"
                    .into(),
            });
        }
    };
    let found = found.map_err(|e| Failure::refused(e.to_string(), HELP_USER))?;
    Ok(Some(found))
}

const HELP_WAKE: &str = "something refuses capset(2) by now: look at the host's security modules";

const HELP_USER: &str = "`getent passwd` lists the users; name one with --user";

/// Root by name is root, with all that this process may do.
fn stays_root(user: &Identity) -> bool {
    user.is_root() && user.is_current()
}

/// Everybody else has no privilege.
fn become_user(user: Option<&Identity>, resting: Option<Resting>) -> Result<()> {
    let done = match user {
        Some(user) if stays_root(user) => {
            let woken = resting.map_or(Ok(()), Resting::wake);
            return woken.map_err(|why| Failure::refused(why, HELP_WAKE));
        }
        Some(user) => user.assume(),
        None => identity::renounce_privileges(),
    };
    done.map_err(|e| {
        let help = match e.is_of_unmapped_number() {
            true => {
                "this user namespace has no such number (/proc/self/uid_map): name another user \
                     with --user"
            }
            false => {
                "to become another user takes root, also where portmap itself has \
                      CAP_NET_ADMIN"
            }
        };
        Failure::refused(e.to_string(), help)
    })
}

/// What is root's, and no privilege: its keys, and its terminal.
fn part_from_root(ui: &Ui, user: &Identity) -> Result<()> {
    keyring::leave_session_of_others(user.uid()).map_err(|e| {
        let message = format!("begin without root's keys (keyctl(2)): {e}");
        Failure::refused(message, "/proc/key-users says how many keys each user has, and may have")
    })?;
    if terminal::can_be_typed_into() {
        if let Err(why) = confine::keep_from_typing() {
            ui.warn(format_args!("the command can type into this terminal: {why}"));
        }
    }
    Ok(())
}

/// `PORT` of the environment, if that is believed. An empty one says as little as none.
fn given_port() -> Option<OsString> {
    environment::var_os("PORT").filter(|port| !port.is_empty())
}

/// The arguments that say what is to be mapped.
struct Arguments<'a> {
    texts: &'a [String],
    facts: Facts,
    services: Services,
    /// `PORT`, which is the target of the only mapping if that leaves it open.
    port: Option<Port>,
    /// Whether what is odd about them has been said.
    has_warned: Cell<bool>,
}

impl<'a> Arguments<'a> {
    fn new(texts: &'a [String]) -> Result<Self> {
        let services = Services::default();
        for text in texts {
            let lookup = |name: &str, protocol| services.lookup(name, protocol);
            let names = Names { services: &lookup, ..Names::NONE };
            let is_open = rules::without_target(text, names).is_some();
            if !is_open && rules::shape(text) == Shape::Path {
                return Err(not_a_mapping(text));
            }
        }
        let port = given_port().and_then(|port| port.to_str()?.parse().ok());
        let port = port.and_then(Port::new).filter(|_| texts.len() == 1);
        Ok(Self { texts, facts: files::facts(), services, port, has_warned: Cell::new(false) })
    }

    /// What they say, with a free target where they leave it open.
    fn mapping(&self, ui: &Ui, involved: &Involved) -> Result<MappingSet> {
        let lookup = |name: &str, protocol| self.services.lookup(name, protocol);
        let names = Names { services: &lookup, ..Names::NONE };
        let mut sources = Vec::with_capacity(self.texts.len());
        let mut chosen: Vec<PortRange> = Vec::new();
        for (index, text) in self.texts.iter().enumerate() {
            let text = match rules::without_target(text, names) {
                None => text.clone(),
                Some(ports) => {
                    let target = self.target(ports.span(), involved, &chosen)?;
                    chosen.push(target);
                    format!("{text}:{target}")
                }
            };
            sources.push(Source::argument(index + 1, &text));
        }
        let loaded = rules::load(&sources, &self.facts, names);
        match loaded.mappings {
            Some(mapping) => {
                // That a port needs no mapping is known to who asks for one.
                let warnings =
                    loaded.diagnostics.iter().filter(|d| d.severity == Severity::Warning);
                if !self.has_warned.replace(true) {
                    ui.warn_of(&warnings.cloned().collect::<Vec<_>>());
                }
                Ok(mapping)
            }
            None => Err(Failure::Files(loaded.diagnostics)),
        }
    }

    fn target(&self, span: u16, involved: &Involved, chosen: &[PortRange]) -> Result<PortRange> {
        if let Some(port) = self.port.filter(|_| span == 0) {
            return Ok(PortRange::one(port));
        }
        let candidates = self.facts.targets(span);
        let candidates = candidates.filter(|range| !chosen.iter().any(|c| c.overlaps(*range)));
        involved.first_free(candidates, ports::is_free).ok_or_else(|| {
            Failure::refused("no port outside of the ephemeral range is free", "name a target")
        })
    }
}

fn not_a_mapping(text: &str) -> Failure {
    Failure::Usage {
        message: format!("`{text}` is not a mapping"),
        help: "a mapping is PORT:TARGET, or PORT alone for a free target; the command comes after \
               `--`, as in `portmap run 80:3000 -- npm start`"
            .into(),
    }
}

/// What is said before the command has the word.
fn tell(ui: &Ui, begun: &Begun) {
    for (run, _) in fold(&begun.overridden, |m| m, |_, _| true) {
        ui.note(format_args!("while the command runs, it takes precedence over {run}"));
    }
}

/// The command line as the comment of a table: nothing that a reader does not see, no double quotes,
/// and not too long.
fn command_line(command: &[OsString]) -> Option<Comment> {
    let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    let line: String = words
        .join(" ")
        .chars()
        .map(|c| {
            if is_hidden(c) {
                ' '
            } else if c == '"' {
                '\''
            } else {
                c
            }
        })
        .collect();
    Comment::shortened(&line)
}

/// With the environment of this process, but for the variables that name its user.
fn command(run: &cli::Run, mapping: &MappingSet, user: Option<&Identity>) -> Command {
    let (program, arguments) = run.command.split_first().expect("clap demands a command");
    let mut command = Command::new(program);
    command.args(arguments);
    let mappings: Vec<_> = mapping.iter().collect();
    let folded = fold(&mappings, |m| *m, |_, _| true);
    let ports: Vec<_> =
        folded.iter().map(|(run, _)| format!("{}:{}", run.service(), run.to())).collect();
    command.env("PORTMAP_PORTS", ports.join(" "));
    if given_port().is_none() {
        let first = mappings.first().map(|m| m.to);
        if let Some(to) = first.filter(|to| mappings.iter().all(|m| m.to == *to)) {
            command.env("PORT", to.to_string());
        }
    }
    if let Some(user) = user {
        user_variables(&mut command, user);
    }
    command
}

/// sudo has set them to root's. As su(1) does, and systemd for `User=`.
fn user_variables(command: &mut Command, user: &Identity) {
    if let Some(name) = &user.name {
        command.env("USER", name).env("LOGNAME", name);
    }
    if let Some(home) = &user.home {
        command.env("HOME", home);
    }
    if let Some(shell) = &user.shell {
        command.env("SHELL", shell);
    }
}

fn cannot(what: &str, error: &io::Error) -> Failure {
    Failure::refused(format!("{what}: {error}"), "see `ulimit -n`")
}

/// As env(1), timeout(1) and the shells do.
fn not_run(program: &OsStr, error: &io::Error) -> Failure {
    let program = program.to_string_lossy();
    let message = format!("run `{program}`: {error}");
    let is_missing = error.kind() == ErrorKind::NotFound;
    let has_path = std::env::var_os("PATH").is_some_and(|path| !path.is_empty());
    let help = match is_missing {
        true if !has_path => "check its name; PATH is empty or not set: name it by its whole path",
        true => {
            "check its name; sudo looks for programs in its own PATH: name it by its whole path"
        }
        false => "the user that the command runs as must be able to execute it",
    };
    Failure::NotRun { message, help: help.into(), is_missing }
}
