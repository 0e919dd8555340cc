//! What a host starts at boot: files in its own /etc and /run, which only portmap sees.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::Namespace;
use super::namespace::before_exec;
use super::portmap::PROGRAM;

/// What of this host a command sees instead of the machine's.
const REPLACED: [(&str, &str); 3] = [("etc", "/etc"), ("run", "/run"), ("boot_id", BOOT_ID)];

/// Which run of the machine this is (proc(5)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

const WANTED: &str = "systemd/system/multi-user.target.wants/portmap-nft.service";

impl Namespace {
    /// Systemd runs here, and starts the unit of portmap at boot: it restores from this host's state
    /// directory.
    #[track_caller]
    pub fn that_boots(self) -> Self {
        for dir in ["etc", "run"] {
            fs::create_dir(self.dir().join(dir)).unwrap();
        }
        self.file("boot_id", &fs::read_to_string(BOOT_ID).unwrap());
        for name in ["passwd", "group", "services", "nsswitch.conf", "ld.so.cache"] {
            // Not every machine has all of them.
            let _ = fs::copy(Path::new("/etc").join(name), self.etc(name));
        }
        fs::create_dir_all(self.dir().join("run/systemd/system")).unwrap();
        fs::create_dir_all(self.etc(WANTED).parent().unwrap()).unwrap();
        let state = self.dir().join("state");
        let unit = format!(
            "[Service]\nExecStart={PROGRAM} restore\nEnvironment=PORTMAP_STATE_DIR={}\n",
            state.display()
        );
        fs::write(self.etc("systemd/system/portmap-nft.service"), unit).unwrap();
        symlink("../portmap-nft.service", self.etc(WANTED)).unwrap();
        self
    }

    /// What a reboot makes of the kernel, and of what names this run of the machine. Whatever runs
    /// must have ended before; nothing is restored yet.
    #[track_caller]
    pub fn loses_its_kernel(&self) {
        let another = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
        self.file("boot_id", &another);
        self.nft("flush ruleset");
        self.conntrack(&["-F"]);
        assert_eq!(self.ruleset(), "");
    }

    /// A file in this host's /etc.
    pub fn etc(&self, name: &str) -> PathBuf {
        self.dir().join("etc").join(name)
    }

    /// Lets the command see this host's own files, if there are any.
    pub fn mount_own(&self, command: &mut Command) {
        let c_string = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap();
        let pairs = REPLACED.map(|(own, place)| (self.dir().join(own), Path::new(place)));
        if pairs.iter().any(|(own, _)| !own.exists()) {
            return;
        }
        let pairs = pairs.map(|(own, place)| (c_string(&own), c_string(place)));
        before_exec(command, move || {
            const NONE: Option<&str> = None;
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
            for (own, place) in &pairs {
                mount(Some(own.as_c_str()), place.as_c_str(), NONE, MsFlags::MS_BIND, NONE)?;
            }
            Ok(())
        });
    }
}
