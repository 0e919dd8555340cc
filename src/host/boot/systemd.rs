//! Units of systemd: where they are, what they run, and whether boot starts them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::System;
use super::line::{self, Run};

/// Where units are, the first of a name counts (systemd.unit(5)). Those in /run are gone after a
/// reboot.
const DIRS: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Targets that every ordinary boot reaches (systemd.special(7)).
const REACHED: [&str; 9] = [
    "default.target",
    "graphical.target",
    "multi-user.target",
    "basic.target",
    "sysinit.target",
    "local-fs.target",
    "network-pre.target",
    "network.target",
    "network-online.target",
];

/// A chain of units of which one starts the next is no longer than this.
const DEPTH_MAX: usize = 4;

/// Where systemctl(1) is installed. Never looked up in the caller's PATH: it runs as root.
const SYSTEMCTL: [&str; 2] = ["/usr/bin/systemctl", "/bin/systemctl"];

/// The files of a unit, as one text.
pub struct Unit {
    pub is_masked: bool,
    text: String,
}

impl Unit {
    /// What its `ExecStart=` lines make portmap do.
    pub fn runs(&self) -> Vec<Run> {
        runs(&self.text)
    }
}

/// The same of the text of a unit.
pub fn runs(text: &str) -> Vec<Run> {
    let mut commands = Vec::new();
    let mut state_dir = None;
    let text = text.replace("\\\n", " ");
    for line in text.lines().map(str::trim) {
        let Some((key, value)) = line.split_once('=') else { continue };
        match (key.trim_end(), value.trim()) {
            // An empty assignment takes the earlier ones back.
            ("ExecStart", "") => commands.clear(),
            ("ExecStart", command) => commands.extend(line::command(command)),
            ("Environment", "") => state_dir = None,
            ("Environment", value) => {
                state_dir = value.split_whitespace().find_map(line::assignment).or(state_dir);
            }
            _ => {}
        }
    }
    for run in &mut commands {
        run.state_dir = run.state_dir.take().or_else(|| state_dir.clone());
    }
    commands
}

impl System {
    /// `None` if there is no such unit.
    pub(super) fn unit(&self, name: &str) -> Option<Unit> {
        let paths = DIRS.iter().map(|dir| self.path(dir).join(name));
        let path = paths.into_iter().find(|path| fs::symlink_metadata(path).is_ok())?;
        let is_null = fs::read_link(&path).is_ok_and(|to| to == Path::new("/dev/null"));
        let mut text = if is_null { String::new() } else { fs::read_to_string(&path).ok()? };
        let is_masked = text.is_empty();
        for drop_in in self.drop_ins(name) {
            text.push('\n');
            text.push_str(&fs::read_to_string(drop_in).unwrap_or_default());
        }
        Some(Unit { is_masked, text })
    }

    /// `NAME.d/*.conf`, in the order of their names; the first of a name counts.
    fn drop_ins(&self, name: &str) -> Vec<PathBuf> {
        let files = DIRS.iter().flat_map(|dir| self.files(&format!("{dir}/{name}.d")));
        let mut seen = BTreeSet::new();
        let mut files: Vec<_> = files
            .filter(|file| file.extension().is_some_and(|end| end == "conf"))
            .filter(|file| seen.insert(file.file_name().map(ToOwned::to_owned)))
            .collect();
        files.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        files
    }

    /// Whether boot starts a unit, because a target or another unit that it starts wants it.
    pub(super) fn starts_unit(&self, name: &str) -> bool {
        self.starts(name, &self.wants(), DEPTH_MAX)
    }

    fn starts(&self, name: &str, wants: &[Wants], depth: usize) -> bool {
        let is_started = |wanting: &str| {
            REACHED.contains(&wanting)
                || depth > 0
                    && self.unit(wanting).is_some_and(|unit| !unit.is_masked)
                    && self.starts(wanting, wants, depth - 1)
        };
        let wanting = wants.iter().filter(|wants| wants.has(name)).map(|wants| wants.of.as_str());
        BTreeSet::from_iter(wanting).into_iter().any(is_started)
    }

    /// Units want others by links in directories of theirs. Those are looked for among all units,
    /// which may be many hundreds: once, and not again for each unit that wants another.
    fn wants(&self) -> Vec<Wants> {
        let entries = DIRS.iter().filter_map(|dir| fs::read_dir(self.path(dir)).ok()).flatten();
        entries.filter_map(|entry| Wants::at(entry.ok()?.path())).collect()
    }
}

/// A directory of links to units.
struct Wants {
    /// The unit that wants them.
    of: String,
    dir: PathBuf,
}

impl Wants {
    /// `None` if it is something else.
    fn at(dir: PathBuf) -> Option<Self> {
        let name = dir.file_name()?.to_str()?;
        let of = name.strip_suffix(".wants").or_else(|| name.strip_suffix(".requires"))?;
        Some(Self { of: of.to_owned(), dir })
    }

    fn has(&self, unit: &str) -> bool {
        fs::symlink_metadata(self.dir.join(unit)).is_ok()
    }
}

/// Makes boot start a unit of this host.
pub fn enable(unit: &str) -> Result<(), String> {
    let systemctl = SYSTEMCTL.into_iter().find(|path| Path::new(path).exists());
    let systemctl = systemctl.ok_or("there is no systemctl in /usr/bin or /bin")?;
    let output = Command::new(systemctl)
        .args(["--quiet", "enable", unit])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .map_err(|e| format!("run {systemctl}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; "))
}
