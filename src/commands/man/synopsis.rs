//! SYNOPSIS: each option with its value, and what may be repeated. What is shown can be typed.

use clap::{Arg, ArgAction, Command};

use super::sections::escaped;

/// The section, as roff.
pub fn synopsis(command: &Command) -> String {
    let mut words =
        vec![format!("\\fB{}\\fR", escaped(command.get_bin_name().unwrap_or("portmap")))];
    let is_shown = |arg: &&Arg| !arg.is_hide_set() && !arg.is_positional() && !is_of_clap(arg);
    let (common, own): (Vec<_>, Vec<_>) =
        command.get_arguments().filter(is_shown).partition(|arg| arg.is_global_set());
    words.extend(own.into_iter().chain(common).map(option));
    words.extend(command.get_positionals().filter(|arg| !arg.is_hide_set()).map(positional));
    if command.has_subcommands() {
        words.push("\\fICOMMAND\\fR".to_owned());
    }
    format!(".SH SYNOPSIS\n{}\n", words.join(" "))
}

/// `--help` and `--version`, which print something and do nothing else.
fn is_of_clap(arg: &Arg) -> bool {
    matches!(
        arg.get_action(),
        ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
    )
}

fn option(arg: &Arg) -> String {
    let short = arg.get_short().map(|short| format!("\\fB\\-{short}\\fR"));
    let long = arg.get_long().map(|long| format!("\\fB\\-\\-{}\\fR", escaped(long)));
    let names: Vec<_> = short.into_iter().chain(long).collect();
    let value = match arg.get_action().takes_values() {
        true => format!(" {}", value(arg)),
        false => String::new(),
    };
    marked(arg, &format!("{}{value}", names.join("|")))
}

fn positional(arg: &Arg) -> String {
    // The first word is run, the others are its own.
    match arg.is_last_set() {
        true => format!("\\-\\- {} [\\fIARGUMENT\\fR...]", value(arg)),
        false => marked(arg, &value(arg)),
    }
}

fn value(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let names: Vec<_> = names.iter().map(|name| format!("\\fI{}\\fR", escaped(name))).collect();
    names.join(" ")
}

/// Whether it can be left out, and whether it can be repeated.
fn marked(arg: &Arg, text: &str) -> String {
    let more = if matches!(arg.get_action(), ArgAction::Append) { "..." } else { "" };
    match arg.is_required_set() {
        true => format!("{text}{more}"),
        false if arg.is_positional() => format!("[{text}{more}]"),
        false => format!("[{text}]{more}"),
    }
}
