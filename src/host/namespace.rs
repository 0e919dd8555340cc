//! The network namespace that this process is in, and whether another one still exists.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

/// A network namespace of one run of the machine (namespaces(7): the inode of `/proc/PID/ns/net`;
/// proc(5): `/proc/sys/kernel/random/boot_id`). An inode is free again once its namespace is gone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NetworkNamespace {
    boot: String,
    inode: u64,
}

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

impl NetworkNamespace {
    pub fn current() -> io::Result<Self> {
        let boot = fs::read_to_string(BOOT_ID)?.trim_end().to_owned();
        let inode = fs::metadata("/proc/thread-self/ns/net")?.ino();
        Ok(Self { boot, inode })
    }

    /// The inode, as `readlink /proc/PID/ns/net` and `lsns -t net` show it.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Whether it can be seen from here: the machine has not been started anew since, and a process
    /// is in it, or ip-netns(8) has given it a name.
    pub fn exists(&self) -> bool {
        fs::read_to_string(BOOT_ID).is_ok_and(|boot| boot.trim_end() == self.boot)
            && (self.is_named() || self.has_process())
    }

    fn is_named(&self) -> bool {
        let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        names.filter_map(|name| name.path().metadata().ok()).any(|m| m.ino() == self.inode)
    }

    fn has_process(&self) -> bool {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        processes
            .filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit))
            .filter_map(|entry| entry.path().join("ns/net").metadata().ok())
            .any(|m| m.ino() == self.inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_of_this_process_exists() {
        let here = NetworkNamespace::current().expect("proc is mounted");
        assert!(here.exists());
        assert!(!NetworkNamespace { inode: 1, ..here.clone() }.exists());
        assert!(!NetworkNamespace { boot: "another".into(), ..here }.exists());
    }
}
