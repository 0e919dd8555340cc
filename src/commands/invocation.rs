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
use crate::formats::{closest, shell_quoted};
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
        Err(e) => return Err(with_what_is_meant(e, &command, words)),
        Ok(matches) => matches,
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

/// clap's own suggestions include what only has many letters in common: `history` for `stop`.
fn with_what_is_meant(
    mut error: clap::Error,
    command: &Command,
    words: &[OsString],
) -> clap::Error {
    let invalid = |error: &clap::Error, kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.clone()),
        _ => None,
    };
    if let Some(word) = invalid(&error, ContextKind::InvalidSubcommand) {
        let names: Vec<_> = command.get_subcommands().flat_map(names).collect();
        if is_to_be_applied(&word) {
            let tip = format!("to apply it, type `sudo {NAME} apply {}`", shell_quoted(&word));
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
        } else if let Some(name) = closest(&word, &names) {
            let names = ContextValue::Strings(vec![name.to_owned()]);
            error.insert(ContextKind::SuggestedSubcommand, names);
        }
    } else if let Some(word) = invalid(&error, ContextKind::InvalidArg) {
        let options = options(command, words);
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        if let Some(option) = closest(&word, &options) {
            error.insert(ContextKind::SuggestedArg, ContextValue::String(option.to_owned()));
            // How to give the word as an argument, which it was not meant as.
            error.remove(ContextKind::Suggested);
        }
    }
    error
}

/// A mapping or a file.
fn is_to_be_applied(word: &str) -> bool {
    let is_file = word.ends_with(".yaml") || word.ends_with(".yml");
    is_file || rules::shape(word) == Shape::Mapping
}

/// What is shown in the help: aliases that are not are for who knows them.
fn names(command: &Command) -> impl Iterator<Item = &str> {
    let shown = !command.is_hide_set();
    command.get_name_and_visible_aliases().into_iter().filter(move |_| shown)
}

/// The long options where a word of the command line was not understood.
fn options(command: &Command, words: &[OsString]) -> Vec<String> {
    // Until then it has no `--help` and no `--version`.
    let mut command = command.clone();
    command.build();
    let chosen = words.iter().skip(1).find_map(|word| command.find_subcommand(word));
    let of = |command: &Command| -> Vec<String> {
        let shown = command.get_arguments().filter(|option| !option.is_hide_set());
        shown.filter_map(|option| option.get_long()).map(|long| format!("--{long}")).collect()
    };
    let mut options = of(&command);
    options.extend(chosen.map(of).unwrap_or_default());
    options
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
