//! The sections of a manual page that cannot be told from the command line's types.

use std::fmt::Write;

use clap::Command;

/// EXAMPLES, EXIT STATUS, ENVIRONMENT, FILES and SEE ALSO of a command, as roff.
pub fn written(command: &Command, root: &Command) -> String {
    let is_root = command.get_name() == root.get_name();
    let name = if is_root { "" } else { command.get_name() };
    let mut page = Page::default();
    if let Some(help) = command.get_after_long_help().or(command.get_after_help()) {
        page.examples(&help.to_string());
    }
    page.section("EXIT STATUS", &exit_status(command, is_root));
    page.section("ENVIRONMENT", &environment(name));
    page.section("FILES", &files(command, is_root));
    page.references(&see_also(name, root));
    page.0
}

/// A term and what is said about it.
type Entry = (&'static str, &'static str);

fn exit_status(command: &Command, is_root: bool) -> Vec<Entry> {
    let has = |id: &str| is_root || command.get_arguments().any(|arg| arg.get_id() == id);
    let name = command.get_name();
    if name == "run" {
        return EXIT_STATUS_OF_RUN.to_vec();
    }
    let changes = is_root || CHANGES_THE_KERNEL.contains(&name);
    let mut entries = vec![done(name, changes && !is_root), failed(name, is_root)];
    if has("detailed_exitcode") {
        entries.push((
            "2",
            match name {
                "plan" => "Only with \\fB\\-\\-detailed\\-exitcode\\fR: done, and there are changes.",
                _ if is_root => {
                    "Only \\fBplan\\fR, \\fBapply\\fR, \\fBclear\\fR and \\fBrollback\\fR with \
                     \\fB\\-\\-detailed\\-exitcode\\fR: done, and something was changed (by a dry run \
                     or \\fBplan\\fR: would be)."
                }
                _ => {
                    "Only with \\fB\\-\\-detailed\\-exitcode\\fR: done, and something was changed (by a \
                     dry run: would be)."
                }
            },
        ));
    }
    if changes {
        entries.push((
            "3",
            match name {
                "persist" => NOT_RESTORED,
                "apply" | "confirm" | "reload" => CHANGED_OR_NOT_RESTORED,
                _ if is_root => CHANGED_OR_NOT_RESTORED,
                _ => "The kernel was changed, but something after that failed; the message says what.",
            },
        ));
    }
    entries.push((
        "64",
        match name {
            "doctor" => {
                "Wrong usage; with \\fB\\-\\-probe\\fR: there was no terminal to ask at, and no \
                 \\fB\\-\\-yes\\fR."
            }
            _ => "Wrong usage.",
        },
    ));
    if is_root {
        entries.push((
            "N",
            "Of \\fBrun\\fR: the exit status of its command; 126 and 127 mean, as in a shell, that it \
             could not be executed or was not found.",
        ));
    }
    entries
}

fn done(name: &str, is_change: bool) -> Entry {
    let text = match name {
        "guard" => "It was told to end, by a signal.",
        "check" => "The files have no errors.",
        "doctor" => {
            "There is no finding of severity error; with \\fB\\-\\-probe\\fR: and every client that \
             was tried was served, as far as can be told."
        }
        _ if is_change => "Done, whether or not anything had to be changed.",
        _ => "Done.",
    };
    ("0", text)
}

fn failed(name: &str, is_root: bool) -> Entry {
    let text = match name {
        _ if is_root => {
            "Failed; nothing was changed. Of \\fBcheck\\fR: the files have errors; \\fBdoctor\\fR: there \
             is a finding of severity error, or a client of \\fB\\-\\-probe\\fR was not served; \
             \\fBstatus \\-\\-check\\fR: something is not as it should be; \\fBtrace\\fR: no connection \
             arrived in time; \\fBapply \\-\\-confirm\\fR on a terminal: the mapping was not kept."
        }
        "apply" => {
            "Failed; nothing was changed. With \\fB\\-\\-confirm\\fR on a terminal: the mapping was not \
             kept."
        }
        "check" => "The files have errors (with \\fB\\-\\-strict\\fR: or warnings).",
        "doctor" => {
            "There is a finding of severity error, or the examination failed. With \
             \\fB\\-\\-probe\\fR also: a client that was tried was not served, or the question whether \
             to connect was answered with no."
        }
        "guard" => "It could not begin, or cannot hear of changes any more.",
        "trace" => "No new connection arrived in time, or it could not be watched.",
        "status" => "Failed; with \\fB\\-\\-check\\fR: something is not as it should be.",
        _ if CHANGES_THE_KERNEL.contains(&name) => "Failed; nothing was changed.",
        _ => "Failed.",
    };
    ("1", text)
}

const EXIT_STATUS_OF_RUN: [Entry; 5] = [
    (
        "N",
        "The exit status of the command that was run. If a signal ends the command, \\fBportmap \
         run\\fR ends with that signal: it is the same process.",
    ),
    ("1", "Failed before the command was started; nothing was changed."),
    ("126", "The command was found, but could not be executed."),
    ("127", "The command was not found."),
    ("64", "Wrong usage."),
];

const NOT_RESTORED: &str = "The mapping is persisted, but nothing on this host restores it at boot; \
                            the message says why. Or what boot does was changed, and that could \
                            not be reported.";

const CHANGED_OR_NOT_RESTORED: &str = "The kernel was changed, but something after that failed; the \
                                       message says what. Or the mapping is active and persisted, \
                                       but nothing on this host restores it at boot, whether or \
                                       not anything was changed.";

const CHANGES_THE_KERNEL: [&str; 7] =
    ["apply", "confirm", "rollback", "persist", "restore", "reload", "clear"];

fn environment(name: &str) -> Vec<Entry> {
    match name {
        "run" => [&ENVIRONMENT_OF_RUN[..], &ENVIRONMENT[..2]].concat(),
        _ => ENVIRONMENT.to_vec(),
    }
}

const ENVIRONMENT_OF_RUN: [Entry; 4] = [
    (
        "PORT",
        "Set for the command, if all mappings have the same target, to that target. If it is set \
         already, it stays as it is, and is the target of a single mapping that names none.",
    ),
    (
        "PORTMAP_PORTS",
        "Set for the command to all mappings, such as \
         \\(lq80/tcp:3000 6000\\-6003/tcp:16000\\-16003\\(rq.",
    ),
    (
        "SUDO_UID, SUDO_GID",
        "Set by \\fBsudo\\fR(8): the user that the command runs as, where \\fB\\-\\-user\\fR \
         is not given.",
    ),
    ("HOME, SHELL, USER, LOGNAME", "Set for the command to those of the user that it runs as."),
];

const ENVIRONMENT: [Entry; 3] = [
    ("PORTMAP_STATE_DIR", "The state directory, where \\fB\\-\\-state\\-dir\\fR is not given."),
    (
        "NO_COLOR",
        "If set and not empty, no colour is used, unless \\fB\\-\\-color\\fR asks for it.",
    ),
    ("SUDO_USER, SUDO_UID", "Set by \\fBsudo\\fR(8): the history records who made a change."),
];

fn files(command: &Command, is_root: bool) -> Vec<Entry> {
    let mut entries = Vec::new();
    if is_root || reads_rules(command) {
        entries.push((
            "/etc/portmap/*.yaml, /etc/portmap/*.yml",
            "The rules files that are read where no \\fIFILE\\fR is given; see \
             \\fBportmap\\-rules\\fR(5).",
        ));
        entries.push(("/etc/services", "Names of ports."));
    }
    if is_root || !matches!(command.get_name(), "check" | "render") {
        entries.push((
            "/var/lib/portmap",
            "The state directory: one file per generation, and which one is restored at boot.",
        ));
    }
    if is_root || matches!(command.get_name(), "persist" | "restore" | "reload" | "apply") {
        entries.push((
            "portmap-nft.service",
            "The systemd unit that restores the persisted mapping at boot.",
        ));
        entries.push((
            "/usr/share/portmap/init",
            "Scripts that do the same for OpenRC and SysV init.",
        ));
    }
    entries
}

fn reads_rules(command: &Command) -> bool {
    command.get_positionals().any(|arg| arg.get_id() == "files")
}

/// The pages to refer to, of `portmap-NAME` or, for an empty name, of `portmap` itself.
fn see_also(name: &str, root: &Command) -> Vec<(String, u8)> {
    let commands = || root.get_subcommands().filter(|command| !command.is_hide_set());
    let mut pages = Vec::new();
    if name.is_empty() {
        pages.extend(commands().map(|command| (format!("portmap-{}", command.get_name()), 8)));
    } else {
        pages.push(("portmap".to_owned(), 8));
        let related = related(name).iter().filter(|other| root.find_subcommand(other).is_some());
        pages.extend(related.map(|other| (format!("portmap-{other}"), 8)));
    }
    pages.push(("portmap-rules".to_owned(), 5));
    pages.push(("nft".to_owned(), 8));
    pages
}

fn related(name: &str) -> &'static [&'static str] {
    match name {
        "check" => &["apply", "schema"],
        "render" => &["apply", "plan"],
        "plan" => &["apply", "status"],
        "apply" => &["plan", "confirm", "rollback", "persist", "status"],
        "status" => &["apply", "doctor", "history"],
        "doctor" => &["status", "trace"],
        "trace" => &["doctor", "status"],
        "run" => &["apply"],
        "guard" => &["status", "restore"],
        "confirm" => &["apply", "rollback"],
        "rollback" => &["history", "apply"],
        "history" => &["show", "rollback"],
        "show" => &["history", "rollback"],
        "persist" => &["restore", "apply"],
        "restore" => &["persist", "reload"],
        "reload" => &["apply", "restore"],
        "clear" => &["rollback", "persist"],
        "schema" => &["check"],
        _ => &[],
    }
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn section(&mut self, heading: &str, entries: &[Entry]) {
        let _ = writeln!(self.0, ".SH \"{heading}\"");
        for (term, text) in entries {
            let _ = writeln!(self.0, ".TP\n\\fB{}\\fR\n{text}", escaped(term));
        }
    }

    /// The end of the help text: examples in indented lines, each block under a heading.
    fn examples(&mut self, help: &str) {
        self.line(".SH \"EXAMPLES\"");
        let mut verbatim = false;
        for line in help.lines() {
            let indented = line.strip_prefix("  ");
            if indented.is_some() != verbatim && !line.is_empty() {
                self.line(if verbatim { ".EE\n.RE" } else { ".RS 4\n.EX" });
                verbatim = !verbatim;
            }
            match (indented, line) {
                (Some(example), _) => self.line(&escaped(example)),
                // The page has a heading for them, and a section with references.
                (None, "Examples:") => {}
                (None, text) if text.is_empty() || text.starts_with("See ") => {}
                (None, text) => self.line(&format!(".PP\n{}", escaped(text))),
            }
        }
        if verbatim {
            self.line(".EE\n.RE");
        }
    }

    fn references(&mut self, pages: &[(String, u8)]) {
        self.line(".SH \"SEE ALSO\"");
        for (at, (name, section)) in pages.iter().enumerate() {
            let comma = if at + 1 < pages.len() { "," } else { "" };
            self.line(&format!(".BR {} ({section}){comma}", escaped(name)));
        }
    }
}

/// Text that roff prints as it is.
pub fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
