//! `portmap completions`: a script for the user's shell. The script asks portmap itself, so that
//! it knows the generations that there are, and never lags behind the commands.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_complete::engine::{ArgValueCompleter, PathCompleter};
use clap_complete::env::{CompleteEnv, Shells};
use clap_complete::{ArgValueCandidates, CompletionCandidate};

use crate::cli::{Cli, Completions};
use crate::commands::failure::Result;
use crate::history::{self, History};
use crate::host::confine::{self, Needs};
use crate::host::environment;
use crate::ui::escape::visible;
use crate::ui::{Settings, Ui};

/// Set by the script, to the name of the shell.
const VARIABLE: &str = "PORTMAP_COMPLETE";

pub fn run(ui: &Ui, completions: &Completions) -> Result {
    let shell = &completions.shell;
    let shells = Shells::builtins();
    let completer = shells.completer(shell).context("find the completions of this shell")?;
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, "portmap", "portmap", "portmap", &mut script)
        .context("write the completion script")?;
    let script = String::from_utf8_lossy(&script);
    ui.print(match shell.as_str() {
        "bash" => quoting(&script),
        _ => script.into_owned(),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// bash puts what is offered on the command line as it is, unless it is told that these are names of
/// files: it would execute a part of one that is called `$(reboot).yaml`.
fn quoting(script: &str) -> String {
    script.replace("complete -o nospace ", "complete -o nospace -o filenames ")
}

/// Answers the script, and then does not return. Does nothing where no script asks.
///
/// The scripts ask with `portmap -- WORDS`, which is no command. A variable that is set for another
/// reason must not turn commands into ones that do nothing and succeed.
pub fn answer() {
    if environment::var_os(VARIABLE).is_none_or(|shell| shell.is_empty()) {
        return;
    }
    if std::env::args_os().nth(1).is_some_and(|word| word == "--") {
        // The history is read for it. Where the kernel cannot confine, it goes on all the same.
        let _ = confine::confine(&Needs::FILES);
        CompleteEnv::with_factory(command).var(VARIABLE).bin("portmap").complete();
    } else {
        Ui::new(Settings::default()).warn(format_args!(
            "{VARIABLE} is set, but no completion script asks: it has no effect here, unset it"
        ));
    }
}

/// The command line, with what only this machine knows.
fn command() -> Command {
    // Of a command and its visible alias only one would be offered, and not the command.
    let mut root =
        Cli::command().mut_subcommand("plan", |plan| plan.visible_alias(None).alias("diff"));
    for (command, argument) in [
        ("show", "number"),
        ("rollback", "number"),
        ("rollback", "to"),
        ("history", "diff"),
        ("history", "with"),
    ] {
        let generations = ArgValueCandidates::new(generations);
        root = root.mut_subcommand(command, |c| c.mut_arg(argument, |a| a.add(generations)));
    }
    root = root.mut_subcommand("man", |man| {
        man.mut_arg("page", |page| page.add(ArgValueCandidates::new(pages)))
    });
    for command in
        root.clone().get_subcommands().filter(|c| c.get_arguments().any(|a| a.get_id() == FILES))
    {
        root = root.mut_subcommand(command.get_name(), |c| {
            c.mut_arg(FILES, |files| files.add(ArgValueCompleter::new(rules_files())))
        });
    }
    root
}

/// The argument of every command that reads rules files.
const FILES: &str = "files";

/// Files as they are read from a directory, and directories on the way to them.
fn rules_files() -> PathCompleter {
    let is_yaml = |path: &Path| {
        path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
    };
    PathCompleter::any().filter(move |path| is_yaml(path) && !path.is_dir()).stdio()
}

/// The pages that `portmap man` has.
fn pages() -> Vec<CompletionCandidate> {
    let root = Cli::command();
    let shown = root.get_subcommands().filter(|command| !command.is_hide_set());
    let page = |command: &Command| {
        CompletionCandidate::new(command.get_name().to_owned()).help(command.get_about().cloned())
    };
    let rules = CompletionCandidate::new("rules").help(Some("The format of rules files".into()));
    shown.map(page).chain([rules]).collect()
}

/// As the line says that is being completed, or the environment. Some shells have `=` as a word of
/// its own.
fn state_dir() -> OsString {
    let mut words = std::env::args_os().skip_while(|word| word != "--state-dir").skip(1);
    let named = words.find(|word| word != "=").filter(|word| !word.is_empty());
    let joined = || {
        let words = std::env::args_os().filter_map(|word| word.into_string().ok());
        words.filter_map(|w| Some(w.strip_prefix("--state-dir=")?.into())).next()
    };
    named
        .or_else(joined)
        .or_else(|| environment::var_os("PORTMAP_STATE_DIR"))
        .unwrap_or_else(|| history::STATE_DIR.into())
}

/// The newest first, each with what is known of it.
fn generations() -> Vec<CompletionCandidate> {
    let Ok(history) = History::open(state_dir()) else { return Vec::new() };
    let candidate = |(order, header): (usize, &history::Header)| {
        let time = humantime::format_rfc3339_seconds(header.time);
        let what = match &header.message {
            Some(message) => format!("{time} {} {}", header.command, visible(message)),
            None => format!("{time} {}", header.command),
        };
        CompletionCandidate::new(header.number.to_string())
            .help(Some(what.into()))
            .display_order(Some(order))
    };
    history.headers().rev().enumerate().map(candidate).collect()
}
