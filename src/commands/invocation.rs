//! How portmap was started: under whose privileges, and with what words.

use std::env;
use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, FromArgMatches};
use nix::unistd::Uid;

use crate::cli::Cli;
use crate::formats::rules::{self, Shape};
use crate::formats::shell_quoted;
use crate::host::environment;
use crate::kernel::{limits, secure};
use crate::ui::escape::{is_hidden, visible};
use crate::ui::{Settings, Ui};

/// To be called first. An exit code, if portmap is not to run at all.
///
/// Set-user-ID, it would give every user what only root may do. With capabilities of its file
/// (setcap(8)) an administrator gives it to whoever may execute it; but the environment is then
/// that of somebody with fewer privileges. Where root starts it and a security module asks for
/// care, as SELinux does for services, nothing was gained.
pub fn begin() -> Option<ExitCode> {
    limits::fail_beyond_the_file_size();
    if !secure::is_secure_execution() || Uid::current().is_root() {
        return None;
    }
    if Uid::effective().is_root() {
        Ui::new(Settings::default()).error(
            "portmap is installed set-user-ID root, so that every user could change the ports of \
             this host: it refuses to run",
            Some("run `chmod u-s` on the program as root, and let users in with sudo"),
        );
        return Some(ExitCode::FAILURE);
    }
    environment::distrust();
    None
}

/// This process's command line; the environment, for options that are not given, only if it is
/// believed.
pub fn read() -> Result<Cli, clap::Error> {
    let words: Vec<_> = env::args_os().collect();
    parse(&words).map_err(|error| presentable(error, &words))
}

fn parse(words: &[OsString]) -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    if !environment::is_believed() {
        command = command.mut_arg("state_dir", |dir| dir.env(Resettable::Reset));
    }
    let mut matches = match command.clone().try_get_matches_from(words) {
        Err(e) if e.kind() == ErrorKind::MissingSubcommand => return Err(without_command(command)),
        Err(e) if e.kind() == ErrorKind::InvalidSubcommand => return Err(or_apply(e)),
        matches => matches?,
    };
    Cli::from_arg_matches_mut(&mut matches).map_err(|e| e.format(&mut command))
}

/// The help, as an error. clap gives it by itself only where nothing at all is given, and a variable
/// of the environment counts as something.
fn without_command(command: Command) -> clap::Error {
    let bare = command.mut_arg("state_dir", |dir| {
        let (help, variable) = (dir.get_help().cloned(), dir.get_env().map(OsStr::to_owned));
        let dir = dir.env(Resettable::Reset);
        match (help, variable) {
            (Some(help), Some(name)) => {
                dir.help(format!("{help} [env: {}]", name.to_string_lossy()))
            }
            _ => dir,
        }
    });
    let error = bare.try_get_matches_from([NAME]).err();
    error.unwrap_or_else(|| clap::Error::new(ErrorKind::MissingSubcommand))
}

const NAME: &str = "portmap";

/// A mapping or a file, where a command belongs, is to be applied.
fn or_apply(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return error;
    };
    let is_file = word.ends_with(".yaml") || word.ends_with(".yml");
    if is_file || rules::shape(word) == Shape::Mapping {
        let tip = format!("to apply it, type `sudo {NAME} apply {}`", shell_quoted(word));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// clap repeats words of the command line as they are, amid colours of its own. They may be names
/// of files that somebody else chose, and command the terminal: then the same is said of the words
/// as they can be shown.
fn presentable(error: clap::Error, words: &[OsString]) -> clap::Error {
    let texts: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    if !texts.iter().any(|text| text.contains(is_hidden)) {
        return error;
    }
    let texts: Vec<OsString> = texts.iter().map(|text| visible(text).into()).collect();
    match parse(&texts) {
        Err(same) if same.kind() == error.kind() => same,
        _ => {
            let plain = error.render().to_string();
            let lines: Vec<_> = plain.lines().map(visible).collect();
            clap::Error::raw(error.kind(), lines.join("\n").trim_start_matches("error: "))
        }
    }
}
