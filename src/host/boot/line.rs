//! Command lines that run portmap, as units, shell scripts and crontabs have them. Pure.

use std::path::PathBuf;

/// A run of portmap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub does: Does,
    /// The state directory, if it is named.
    pub state_dir: Option<PathBuf>,
    /// Where the program is, if it is named by an absolute path.
    pub program: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// Restores the persisted mapping.
    Restore,
    /// Applies rules files, as they are then.
    Apply,
}

const STATE_DIR: &str = "PORTMAP_STATE_DIR";

/// What a shell script makes portmap do, as far as its lines tell.
pub fn script(text: &str) -> Vec<Run> {
    let text = text.replace("\\\n", " ");
    let mut state_dir = None;
    let mut runs = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let assigned = line.strip_prefix("export ").unwrap_or(line);
        if let Some(dir) = assignment(assigned).filter(|_| !assigned.contains(char::is_whitespace))
        {
            state_dir = Some(dir);
        }
        runs.extend(command(line).map(|run| run.or_in(state_dir.as_ref())));
    }
    runs
}

/// What a crontab(5) makes portmap do at boot. In those of the system each line names a user.
pub fn crontab(text: &str, has_user: bool) -> Vec<Run> {
    let mut state_dir = None;
    let mut runs = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(dir) = assignment(line) {
            state_dir = Some(dir);
        }
        let Some(rest) = line.strip_prefix("@reboot") else { continue };
        let rest = rest.trim_start();
        let line = match (has_user, rest.split_once(char::is_whitespace)) {
            (false, _) => rest,
            (true, Some(("root", command))) => command,
            (true, _) => continue,
        };
        runs.extend(command(line).map(|run| run.or_in(state_dir.as_ref())));
    }
    runs
}

/// `PORTMAP_STATE_DIR=DIR`
pub fn assignment(word: &str) -> Option<PathBuf> {
    let dir = unquoted(word).strip_prefix(STATE_DIR)?.strip_prefix('=')?;
    Some(unquoted(dir).into())
}

/// What one line makes portmap do; the first of several commands.
pub fn command(line: &str) -> Option<Run> {
    // Whether the next word is the name of a program.
    let mut begins = true;
    let mut state_dir = None;
    let line = line.replace(';', " ; ").replace('(', " ( ").replace(')', " ) ");
    let mut words = line.split_whitespace().map(unquoted);
    while let Some(word) = words.next() {
        let word = word.trim_start_matches('`');
        if begins {
            // The prefixes are those of systemd.service(5).
            let path = word.trim_start_matches(['@', '-', ':', '+', '!']);
            let program = path.starts_with('/').then(|| path.to_owned());
            match path.rsplit('/').next() {
                Some("portmap-boot") => return Some(Run { does: Does::Apply, state_dir, program }),
                Some("portmap") => return run(words, state_dir, program),
                _ => {}
            }
        }
        state_dir = assignment(word).or(state_dir);
        let passes = ["exec", "env", "sudo", "nice", "nohup", "command", "if", "then", "do", "!"];
        let separates = ["&&", "||", ";", "|", "{", "("].contains(&word);
        begins = separates || begins && (word.contains('=') || passes.contains(&word));
    }
    None
}

/// The arguments of portmap.
fn run<'a>(
    mut words: impl Iterator<Item = &'a str>,
    mut state_dir: Option<PathBuf>,
    program: Option<String>,
) -> Option<Run> {
    let mut does = None;
    while let Some(word) = words.next() {
        match word {
            "--state-dir" => state_dir = Some(words.next()?.into()),
            "-o" | "--output" | "--color" | "--wait" | "-m" | "--message" => drop(words.next()?),
            "-n" | "--dry-run" => return None,
            "restore" if does.is_none() => does = Some(Does::Restore),
            "apply" if does.is_none() => does = Some(Does::Apply),
            "&&" | "||" | ";" | "|" | ")" => break,
            _ => match word.strip_prefix("--state-dir=") {
                Some(dir) => state_dir = Some(unquoted(dir).into()),
                None if does.is_none() && !word.starts_with('-') => return None,
                None => {}
            },
        }
    }
    Some(Run { does: does?, state_dir, program })
}

impl Run {
    fn or_in(mut self, state_dir: Option<&PathBuf>) -> Self {
        self.state_dir = self.state_dir.or_else(|| state_dir.cloned());
        self
    }
}

fn unquoted(word: &str) -> &str {
    word.trim_matches(['"', '\''])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn does(line: &str) -> Option<(Does, Option<String>)> {
        let run = command(line)?;
        Some((run.does, run.state_dir.map(|dir| dir.to_str().unwrap().to_owned())))
    }

    #[test]
    fn a_run_of_portmap_is_told_from_a_mention() {
        let restore = Some((Does::Restore, None));
        let apply = Some((Does::Apply, None));
        for (line, expected) in [
            ("portmap restore", restore.clone()),
            ("\texec portmap --quiet restore", restore.clone()),
            ("-/usr/bin/portmap restore --if-missing", restore.clone()),
            ("sleep 1; /usr/bin/portmap -o json restore;", restore.clone()),
            ("if ! portmap restore; then", restore),
            ("/usr/share/portmap/boot/portmap-boot /home/me/rules.yaml", apply.clone()),
            ("said=$(portmap --quiet apply --message 'x' \"$@\" 2>&1)", apply.clone()),
            ("test -e x && sudo portmap apply /etc/portmap", apply),
            ("portmap apply --dry-run x.yaml", None),
            ("portmap clear --no-history", None),
            ("portmap status restore", None),
            ("logger -t portmap restore failed", None),
            ("command -v portmap >/dev/null || exit 5", None),
            ("echo portmap restore", None),
            ("", None),
        ] {
            assert_eq!(does(line), expected, "{line}");
        }
    }

    #[test]
    fn the_state_directory_is_found_wherever_it_can_be_named() {
        for line in [
            "portmap restore --state-dir /x",
            "portmap --state-dir=/x restore",
            "portmap --state-dir='/x' restore",
            "PORTMAP_STATE_DIR=/x portmap restore",
            "env A=b PORTMAP_STATE_DIR=\"/x\" portmap restore",
        ] {
            assert_eq!(does(line), Some((Does::Restore, Some("/x".into()))), "{line}");
        }
        for text in [
            "export PORTMAP_STATE_DIR=/x\nportmap \\\n  restore\n",
            "PORTMAP_STATE_DIR='/x'\nportmap restore",
        ] {
            let runs = script(text);
            assert_eq!(
                (runs.len(), runs[0].state_dir.as_deref()),
                (1, Some("/x".as_ref())),
                "{text}"
            );
        }
        assert_eq!(script("# portmap restore\n  # portmap restore\n"), []);
    }

    #[test]
    fn only_what_is_due_at_reboot_and_as_root_counts() {
        let text = "@reboot root portmap restore\n@reboot me portmap restore\n@daily root portmap apply x\n";
        assert_eq!(crontab(text, true).len(), 1);
        assert_eq!(crontab("@reboot  /usr/bin/portmap apply", false)[0].does, Does::Apply);
        assert_eq!(crontab("@reboot root portmap restore", false), []);
        assert_eq!(crontab("#@reboot portmap restore", false), []);
    }
}
