use std::os::unix::fs::symlink;

use super::*;

struct Root(tempfile::TempDir);

impl Root {
    /// With a file for each of these: path and text.
    fn with(files: &[(&str, &str)]) -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            root.file(path, text);
        }
        root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn link(&self, path: &str, to: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
    }

    fn at_boot(&self) -> AtBoot {
        System::at(self.0.path()).at_boot(Path::new(STATE_DIR))
    }

    #[track_caller]
    fn restored_by(&self, name: &str) {
        assert_eq!(self.at_boot().restores.as_deref(), Ok(name));
    }

    #[track_caller]
    fn not_restored(&self, why: &str, help: &str) {
        let missing = self.at_boot().restores.unwrap_err();
        assert!(missing.to_string().contains(why), "{missing}");
        assert!(missing.help().contains(help), "{}", missing.help());
    }
}

const ON_SYSTEMD: (&str, &str) = ("/run/systemd/system/x", "");
const PROGRAM: (&str, &str) = ("/usr/bin/portmap", "");
const THE_UNIT: (&str, &str) = (
    "/usr/lib/systemd/system/portmap-nft.service",
    include_str!("../../../packaging/systemd/portmap-nft.service"),
);
const WANTED: &str = "/etc/systemd/system/multi-user.target.wants/portmap-nft.service";

#[test]
fn a_unit_is_started_if_a_target_wants_it() {
    let root = Root::with(&[ON_SYSTEMD, PROGRAM]);
    root.not_restored("is not installed", "make install");
    root.file(THE_UNIT.0, THE_UNIT.1);
    root.not_restored("is not enabled", "systemctl enable portmap-nft.service");
    assert!(root.at_boot().restores.unwrap_err().can_be_enabled());
    root.link(WANTED, THE_UNIT.0);
    root.restored_by("portmap-nft.service");
    root.link("/etc/systemd/system/portmap-nft.service", "/dev/null");
    root.not_restored("is masked", "unmask");
    assert!(!root.at_boot().restores.unwrap_err().can_be_enabled());
}

#[test]
fn a_unit_is_started_with_another_one_only_if_that_is_started() {
    let root = Root::with(&[ON_SYSTEMD, PROGRAM, THE_UNIT]);
    root.link("/etc/systemd/system/nftables.service.wants/portmap-nft.service", THE_UNIT.0);
    root.not_restored("is not enabled", "");
    root.file("/lib/systemd/system/nftables.service", "[Unit]");
    root.not_restored("is not enabled", "");
    root.link("/etc/systemd/system/sysinit.target.wants/nftables.service", "x");
    root.restored_by("portmap-nft.service");
    // Units that want each other are no way to anywhere.
    fs::remove_dir_all(root.path("/etc/systemd/system/sysinit.target.wants")).unwrap();
    root.link("/etc/systemd/system/portmap-nft.service.wants/nftables.service", "x");
    root.not_restored("is not enabled", "");
}

#[test]
fn what_is_enabled_until_the_reboot_is_not_enabled() {
    let root = Root::with(&[ON_SYSTEMD, PROGRAM, THE_UNIT]);
    root.link("/run/systemd/system/multi-user.target.wants/portmap-nft.service", THE_UNIT.0);
    root.not_restored("is not enabled", "");
}

#[test]
fn a_unit_restores_what_it_says() {
    let root = Root::with(&[ON_SYSTEMD, THE_UNIT]);
    root.link(WANTED, THE_UNIT.0);
    root.not_restored("runs /usr/bin/portmap, which does not exist", "install");
    root.file(PROGRAM.0, "");
    root.restored_by("portmap-nft.service");
    let drop_in = "/etc/systemd/system/portmap-nft.service.d/dir.conf";
    root.file(drop_in, "[Service]\nEnvironment=A=b PORTMAP_STATE_DIR=/srv/portmap\n");
    root.not_restored("restores from /srv/portmap, and not from /var/lib/portmap", "--state-dir");
    root.file(drop_in, "[Service]\nExecStart=\nExecStart=/bin/true\n");
    root.not_restored("does not run `portmap restore`", "");
    root.file(
        drop_in,
        "[Service]\nExecStart=\nExecStart=/usr/bin/portmap restore --state-dir /srv/x\n",
    );
    let at_boot = System::at(root.0.path()).at_boot(Path::new("/srv/x"));
    assert!(at_boot.restores.is_ok(), "{at_boot:?}");
}

#[test]
fn openrc_starts_what_is_in_a_runlevel() {
    let script = include_str!("../../../packaging/openrc/portmap-nft");
    let root = Root::with(&[("/run/openrc/softlevel", "default")]);
    root.not_restored("/etc/init.d/portmap-nft is not installed", "rc-update add portmap-nft boot");
    root.file("/etc/init.d/portmap-nft", script);
    root.not_restored("runlevel", "rc-update add portmap-nft boot");
    root.file("/etc/runlevels/nonetwork/portmap-nft", "");
    root.not_restored("runlevel", "");
    root.file("/etc/runlevels/boot/portmap-nft", "");
    root.restored_by("/etc/init.d/portmap-nft");
}

#[test]
fn sysv_init_starts_what_its_runlevels_link_to() {
    let script = include_str!("../../../packaging/sysv/portmap-nft");
    let root = Root::with(&[("/etc/inittab", ""), ("/etc/rc3.d/K01portmap-nft", "")]);
    root.not_restored("is not installed", "update-rc.d portmap-nft defaults");
    root.file("/etc/init.d/portmap-nft", script);
    root.not_restored("runlevel", "update-rc.d");
    root.file("/etc/rcS.d/S07portmap-nft-other", "");
    root.not_restored("runlevel", "");
    root.file("/etc/rcS.d/S07portmap-nft", "");
    root.restored_by("/etc/init.d/portmap-nft");
}

#[test]
fn where_nothing_is_known_nothing_is_promised() {
    let root = Root::with(&[PROGRAM, THE_UNIT, ("/proc/1/comm", "app\n")]);
    symlink(root.0.path(), root.path("/proc/1/root")).unwrap();
    root.link(WANTED, THE_UNIT.0);
    root.link("/sbin/init", "/lib/systemd/systemd");
    root.not_restored("is not started by systemd", "portmap restore");
    // The same as an image: process 1 has another file system.
    fs::remove_file(root.path("/proc/1/root")).unwrap();
    root.restored_by("portmap-nft.service");
}

#[test]
fn scripts_of_the_administrator_count_if_they_are_run() {
    let generator = "/usr/lib/systemd/system-generators/systemd-rc-local-generator";
    let root = Root::with(&[ON_SYSTEMD, ("/etc/rc.local", "#!/bin/sh\nportmap restore\n")]);
    root.not_restored("not installed", "");
    root.file(generator, "");
    root.restored_by("/etc/rc.local");
    fs::set_permissions(root.path("/etc/rc.local"), fs::Permissions::from_mode(0o644)).unwrap();
    root.not_restored("not installed", "");

    root.file("/etc/rc.local", "#!/bin/sh\n/usr/share/portmap/boot/portmap-boot /etc/portmap\n");
    assert_eq!(root.at_boot().applies.as_deref(), Some("/etc/rc.local"));
    root.not_restored("not installed", "");

    root.file("/var/spool/cron/crontabs/root", "@reboot portmap apply x.yaml\n");
    assert_eq!(root.at_boot().applies.as_deref(), Some("/etc/rc.local"), "no cron is started");
    root.file("/lib/systemd/system/cron.service", "[Unit]");
    root.link("/etc/systemd/system/multi-user.target.wants/cron.service", "x");
    assert_eq!(root.at_boot().applies.as_deref(), Some("/var/spool/cron/crontabs/root"));

    let root =
        Root::with(&[("/run/openrc/x", ""), ("/etc/local.d/ports.start", "portmap restore")]);
    root.not_restored("not installed", "");
    root.file("/etc/runlevels/default/local", "");
    root.restored_by("/etc/local.d/ports.start");
}
