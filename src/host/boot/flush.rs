//! What empties the whole ruleset when the host starts.

use std::fs;

use super::System;

/// Units that load a file of nftables rules when they start, and those files.
const LOADERS: [(&str, &str); 2] = [
    ("nftables.service", "/etc/nftables.conf"),
    ("nftables.service", "/etc/sysconfig/nftables.conf"),
];

impl System {
    /// Files whose rules begin by removing everybody's, and the unit that loads each at boot.
    pub fn flushers(&self) -> Vec<(String, String)> {
        let flushes = |(unit, file): &(&str, &str)| {
            let text = fs::read_to_string(self.path(file)).unwrap_or_default();
            let mut lines = text.lines().map(str::trim);
            self.starts_unit(unit) && lines.any(|line| line.starts_with("flush ruleset"))
        };
        let loaders = LOADERS.into_iter().filter(flushes);
        loaders.map(|(unit, file)| (file.to_owned(), unit.to_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_flushes_counts_only_if_boot_starts_it() {
        let root = tempfile::tempdir().unwrap();
        let system = System::at(root.path());
        let wants = root.path().join("etc/systemd/system/sysinit.target.wants");
        fs::create_dir_all(&wants).unwrap();
        let units = root.path().join("usr/lib/systemd/system");
        fs::create_dir_all(&units).unwrap();
        fs::write(units.join("nftables.service"), "[Service]\nExecStart=/usr/sbin/nft\n").unwrap();
        let rules = root.path().join("etc/nftables.conf");
        fs::write(&rules, "#!/usr/sbin/nft -f\n\n  flush ruleset\n").unwrap();
        assert_eq!(system.flushers(), []);
        symlink("/usr/lib/systemd/system/nftables.service", wants.join("nftables.service"))
            .unwrap();
        let expected = ("/etc/nftables.conf".to_owned(), "nftables.service".to_owned());
        assert_eq!(system.flushers(), [expected]);
        fs::write(&rules, "# flush ruleset\nflush table inet filter\n").unwrap();
        assert_eq!(system.flushers(), []);
    }
}
