//! What of portmap's this host starts at boot, as its files say: units and scripts that are
//! enabled. Nothing is run to find out, so that it works for an image that is being built, too.

mod flush;
mod init;
mod line;
mod systemd;

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::formats::shell_quoted as quoted;

#[cfg(fuzzing)]
pub use line::{command, crontab, script};
#[cfg(fuzzing)]
pub use systemd::runs as unit;

use init::Init;
use line::{Does, Run};

/// The unit. Not `portmap.service`: that is a name of rpcbind's on Debian and its derivatives.
const UNIT: &str = "portmap-nft.service";

/// The unit of `portmap guard`.
const GUARD: &str = "portmap-nft-guard.service";

/// The script for OpenRC and SysV init.
const SCRIPT: &str = "portmap-nft";

/// The state directory of a command that names none.
const STATE_DIR: &str = "/var/lib/portmap";

/// The file system of a host.
#[derive(Clone, Debug)]
pub struct System {
    root: PathBuf,
}

/// What is started at boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtBoot {
    /// The name of what restores the persisted mapping, or why nothing does.
    pub restores: Result<String, Missing>,
    /// The name of what applies rules files, as they are then. It comes after the former.
    pub applies: Option<String>,
}

/// Why nothing restores the persisted mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    NotInstalled(Init),
    NotEnabled(Init),
    /// systemd's `mask`.
    Masked,
    /// It could not be enabled.
    NotEnabling(String),
    /// It is enabled, but does not run portmap, or none that exists.
    Broken {
        service: String,
        why: String,
    },
    /// It restores from another state directory.
    Elsewhere {
        service: String,
        dir: PathBuf,
        wanted: PathBuf,
    },
}

impl Default for System {
    fn default() -> Self {
        Self::at("/")
    }
}

impl System {
    /// Where the system's log takes lines.
    pub fn log(&self) -> PathBuf {
        self.root.join("dev/log")
    }

    /// A host whose files are below `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// `path`, which is absolute, of this host.
    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// What is started at boot, and works on this state directory.
    pub fn at_boot(&self, state_dir: &Path) -> AtBoot {
        let init = Init::of(self);
        let mut restores = self.service(init, state_dir);
        let mut applies = None;
        for (name, run) in self.scripts(init) {
            match run.does {
                Does::Apply => applies = Some(name),
                Does::Restore if restores.is_err() => {
                    let elsewhere = self.elsewhere(&name, &run, state_dir);
                    match elsewhere {
                        None => restores = Ok(name),
                        Some(missing) => restores = Err(missing),
                    }
                }
                Does::Restore => {}
            }
        }
        AtBoot { restores, applies }
    }

    /// Whether a guard is started that puts the table back if another program removes it.
    pub fn starts_guard(&self) -> bool {
        Init::of(self) == Init::Systemd && self.starts_unit(GUARD)
    }

    /// Has boot restore the persisted mapping, if that can be arranged here.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    pub fn enable(&self) -> Result<(), String> {
        if self.root != Path::new("/") {
            return Err(format!("{} is not the file system of this host", self.root.display()));
        }
        systemd::enable(UNIT)
    }

    /// The service that the package brings.
    fn service(&self, init: Init, state_dir: &Path) -> Result<String, Missing> {
        let (name, runs) = match init {
            Init::Systemd => {
                let unit = self.unit(UNIT).ok_or(Missing::NotInstalled(init))?;
                if unit.is_masked {
                    return Err(Missing::Masked);
                }
                if !self.starts_unit(UNIT) {
                    return Err(Missing::NotEnabled(init));
                }
                (UNIT.to_owned(), unit.runs())
            }
            Init::OpenRc | Init::SysV => {
                let name = format!("/etc/init.d/{SCRIPT}");
                let text = fs::read_to_string(self.path(&name));
                let text = text.map_err(|_| Missing::NotInstalled(init))?;
                if !self.starts_script(init, SCRIPT) {
                    return Err(Missing::NotEnabled(init));
                }
                (name, line::script(&text))
            }
            Init::Unknown => return Err(Missing::NotInstalled(init)),
        };
        let Some(run) = runs.into_iter().find(|run| run.does == Does::Restore) else {
            let why = "does not run `portmap restore`".to_owned();
            return Err(Missing::Broken { service: name, why });
        };
        if let Some(program) = run.program.filter(|p| !self.exists(p)) {
            let why = format!("runs {program}, which does not exist");
            return Err(Missing::Broken { service: name, why });
        }
        let run = Run { program: None, ..run };
        self.elsewhere(&name, &run, state_dir).map_or(Ok(name), Err)
    }

    fn elsewhere(&self, service: &str, run: &Run, wanted: &Path) -> Option<Missing> {
        let dir = run.state_dir.clone().unwrap_or_else(|| STATE_DIR.into());
        let real = |dir: &Path| fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
        let (service, wanted) = (service.to_owned(), wanted.to_owned());
        (real(&dir) != real(&wanted)).then_some(Missing::Elsewhere { service, dir, wanted })
    }

    /// What scripts of the administrator make portmap do at boot, with their names.
    fn scripts(&self, init: Init) -> Vec<(String, Run)> {
        let mut found = Vec::new();
        for file in self.boot_scripts(init) {
            let name = format!("/{}", file.strip_prefix(&self.root).unwrap_or(&file).display());
            let is_executable = fs::metadata(&file)
                .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
            if let (true, Ok(text)) = (is_executable, fs::read_to_string(&file)) {
                found.extend(line::script(&text).into_iter().map(|run| (name.clone(), run)));
            }
        }
        if self.starts_cron(init) {
            for (file, has_user) in self.crontabs() {
                let name = format!("/{}", file.strip_prefix(&self.root).unwrap_or(&file).display());
                let text = fs::read_to_string(&file).unwrap_or_default();
                let runs = line::crontab(&text, has_user);
                found.extend(runs.into_iter().map(|run| (name.clone(), run)));
            }
        }
        found
    }

    /// The files below a directory, in lexical order.
    fn files(&self, dir: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path(dir)).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
        files.sort();
        files
    }

    /// crontab(5) files of root and of the system; the latter name a user in each line.
    fn crontabs(&self) -> Vec<(PathBuf, bool)> {
        let of_system = std::iter::once(self.path("/etc/crontab")).chain(self.files("/etc/cron.d"));
        let of_root =
            ["/var/spool/cron/crontabs/root", "/var/spool/cron/root", "/var/spool/cron/tabs/root"];
        let of_root = of_root.into_iter().map(|path| (self.path(path), false));
        of_system.map(|path| (path, true)).chain(of_root).collect()
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled(Init::Systemd) => write!(f, "{UNIT} is not installed"),
            Self::NotInstalled(Init::OpenRc | Init::SysV) => {
                write!(f, "/etc/init.d/{SCRIPT} is not installed")
            }
            Self::NotInstalled(Init::Unknown) | Self::NotEnabled(Init::Unknown) => write!(
                f,
                "no service restores it, as this host is not started by systemd, OpenRC or SysV \
                 init"
            ),
            Self::NotEnabled(Init::Systemd) => write!(f, "{UNIT} is not enabled"),
            Self::NotEnabled(Init::OpenRc | Init::SysV) => {
                write!(f, "/etc/init.d/{SCRIPT} is not in a runlevel that boot enters")
            }
            Self::Masked => write!(f, "{UNIT} is masked"),
            Self::NotEnabling(why) => write!(f, "{UNIT} could not be enabled: {why}"),
            Self::Broken { service, why } => write!(f, "{service} {why}"),
            Self::Elsewhere { service, dir, wanted } => write!(
                f,
                "{service} restores from {}, and not from {}",
                dir.display(),
                wanted.display()
            ),
        }
    }
}

impl Missing {
    /// What the user can do.
    pub fn help(&self) -> String {
        let install = |name: &str| {
            format!("install -m 755 /usr/share/portmap/init/{name} /etc/init.d/{SCRIPT}")
        };
        match self {
            Self::NotInstalled(Init::Systemd) => format!(
                "install the unit, as the package and `make install` do, then run: systemctl \
                 enable {UNIT}"
            ),
            Self::NotEnabled(Init::Systemd) | Self::NotEnabling(_) => {
                format!("run: systemctl enable {UNIT}")
            }
            Self::NotInstalled(Init::OpenRc) => {
                format!("run: {} && rc-update add {SCRIPT} boot", install("openrc"))
            }
            Self::NotEnabled(Init::OpenRc) => format!("run: rc-update add {SCRIPT} boot"),
            Self::NotInstalled(Init::SysV) => {
                format!("run: {} && update-rc.d {SCRIPT} defaults", install("sysv"))
            }
            Self::NotEnabled(Init::SysV) => {
                format!("run: update-rc.d {SCRIPT} defaults, or chkconfig --add {SCRIPT}")
            }
            Self::NotInstalled(Init::Unknown) | Self::NotEnabled(Init::Unknown) => {
                "have whatever starts this host run `portmap restore`".to_owned()
            }
            Self::Masked => format!("run: systemctl unmask {UNIT} && systemctl enable {UNIT}"),
            Self::Broken { service, .. } => {
                format!("correct or install {service} again, so that it runs `portmap restore`")
            }
            Self::Elsewhere { wanted, .. } => format!(
                "have boot run `portmap restore --state-dir {}`, for example from /etc/rc.local",
                quoted(wanted)
            ),
        }
    }

    /// Whether [`System::enable`] may help.
    pub fn can_be_enabled(&self) -> bool {
        *self == Self::NotEnabled(Init::Systemd)
    }
}

#[cfg(test)]
mod tests;
