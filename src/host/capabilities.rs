//! Capabilities that files grant to whoever executes them (capabilities(7)).

use std::fs;
use std::path::{Path, PathBuf};

/// `XATTR_NAME_CAPS` of `linux/xattr.h`.
const ATTRIBUTE: &str = "security.capability";
/// `VFS_CAP_REVISION_1` to `3` of `linux/capability.h`, whose permitted set begins at byte 4.
const REVISIONS: [u8; 3] = [1, 2, 3];
/// `CAP_NET_BIND_SERVICE`
const BIND_SERVICE: u32 = 1 << 10;

/// Programs that run whatever they are given.
const INTERPRETERS: [&str; 10] =
    ["node", "nodejs", "deno", "bun", "python", "python3", "ruby", "perl", "php", "java"];
const DIRECTORIES: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// Interpreters that may bind privileged ports, each file once.
pub fn interpreters() -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for directory in DIRECTORIES {
        for name in INTERPRETERS {
            let Ok(path) = fs::canonicalize(Path::new(directory).join(name)) else { continue };
            if !paths.contains(&path) && may_bind(&path) {
                paths.push(path);
            }
        }
    }
    paths
}

fn may_bind(path: &Path) -> bool {
    // `struct vfs_ns_cap_data` is the longest.
    let mut value = [0; 24];
    let len = rustix::fs::getxattr(path, ATTRIBUTE, &mut value[..]).unwrap_or(0);
    permits(value.get(..len).unwrap_or_default())
}

/// Of `struct vfs_cap_data`, little-endian: the revision is in its fourth byte.
pub(super) fn permits(value: &[u8]) -> bool {
    let Some(&[_, _, _, revision, p0, p1, p2, p3]) = value.first_chunk() else { return false };
    REVISIONS.contains(&revision) && u32::from_le_bytes([p0, p1, p2, p3]) & BIND_SERVICE != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capability_is_found_among_others() {
        let value = |permitted: u32| {
            let mut value = vec![1, 0, 0, 2];
            value.extend_from_slice(&permitted.to_le_bytes());
            value.extend_from_slice(&[0; 12]);
            value
        };
        assert!(permits(&value(BIND_SERVICE)));
        assert!(permits(&value(u32::MAX)));
        assert!(!permits(&value(!BIND_SERVICE)));
        assert!(!permits(&value(BIND_SERVICE)[..7]));
        assert!(!permits(&[]));
    }
}
