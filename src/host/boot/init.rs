//! Which program starts this host, and what it starts by name.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::System;
use crate::host::proc;

/// The program that starts this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    Systemd,
    OpenRc,
    SysV,
    /// None of these: a container that starts an application, for example.
    Unknown,
}

impl Init {
    pub(super) fn of(system: &System) -> Self {
        // sd_booted(3)
        if system.exists("/run/systemd/system") {
            return Self::Systemd;
        }
        if system.exists("/run/openrc") {
            return Self::OpenRc;
        }
        let is_sysv = system.exists("/etc/inittab") && !rc_dirs(system).is_empty();
        match first_process(system) {
            // Running, and neither of the above.
            Some(name) if name == "init" && is_sysv => Self::SysV,
            Some(_) => Self::Unknown,
            // An image that is being built: what its /sbin/init is will start it.
            None => {
                let init = fs::read_link(system.path("/sbin/init")).unwrap_or_default();
                match init.file_name().and_then(|name| name.to_str()) {
                    Some("systemd") => Self::Systemd,
                    _ if system.exists("/sbin/openrc") => Self::OpenRc,
                    _ if is_sysv => Self::SysV,
                    _ => Self::Unknown,
                }
            }
        }
    }
}

/// The name of process 1, if this is its file system: in an image that is being built it is another.
fn first_process(system: &System) -> Option<String> {
    let root = |path: &Path| fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    let is_its_own = match root(&system.path("/proc/1/root")) {
        Some(of_first) => root(&system.root) == Some(of_first),
        // Only root may look there; who is not, builds no image.
        None => system.root == Path::new("/"),
    };
    let name = proc::text(system.path("/proc/1/comm")).ok()?;
    is_its_own.then(|| name.trim_end().to_owned())
}

/// Where SysV init has links to the scripts of the runlevels that boot enters.
fn rc_dirs(system: &System) -> Vec<PathBuf> {
    let levels = ["S", "2", "3", "4", "5"];
    let dirs = levels.iter().flat_map(|l| [format!("/etc/rc{l}.d"), format!("/etc/rc.d/rc{l}.d")]);
    dirs.map(|dir| system.path(&dir)).filter(|dir| dir.is_dir()).collect()
}

impl System {
    /// Whether boot runs `/etc/init.d/NAME start`.
    pub(super) fn starts_script(&self, init: Init, name: &str) -> bool {
        match init {
            Init::OpenRc => ["sysinit", "boot", "default"]
                .iter()
                .any(|level| self.path(&format!("/etc/runlevels/{level}/{name}")).exists()),
            Init::SysV => rc_dirs(self).iter().any(|dir| {
                let entries = fs::read_dir(dir).into_iter().flatten().flatten();
                // S12name
                entries.filter_map(|entry| entry.file_name().into_string().ok()).any(|link| {
                    link.strip_prefix('S').is_some_and(|link| {
                        link.trim_start_matches(|c: char| c.is_ascii_digit()) == name
                    })
                })
            }),
            Init::Systemd | Init::Unknown => false,
        }
    }

    /// Scripts of the administrator that are run at boot if they are executable.
    pub(super) fn boot_scripts(&self, init: Init) -> Vec<PathBuf> {
        let rc_local = ["/etc/rc.local", "/etc/rc.d/rc.local"].map(|path| self.path(path));
        match init {
            // systemd-rc-local-generator(8)
            Init::Systemd => {
                let dirs = ["/usr/lib/systemd/system-generators", "/lib/systemd/system-generators"];
                let generates =
                    |dir: &&str| self.exists(&format!("{dir}/systemd-rc-local-generator"));
                if dirs.iter().any(generates) { rc_local.into() } else { Vec::new() }
            }
            Init::SysV => rc_local.into(),
            Init::OpenRc if self.starts_script(init, "local") => {
                let mut files = self.files("/etc/local.d");
                files.retain(|file| file.extension().is_some_and(|end| end == "start"));
                files
            }
            Init::OpenRc | Init::Unknown => Vec::new(),
        }
    }

    /// Whether boot starts a cron daemon, which runs what is due `@reboot`.
    pub(super) fn starts_cron(&self, init: Init) -> bool {
        ["cron", "crond", "cronie"].iter().any(|name| match init {
            Init::Systemd => self.starts_unit(&format!("{name}.service")),
            _ => self.starts_script(init, name),
        })
    }
}
