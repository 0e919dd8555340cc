use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::fs::{XattrFlags, setxattr};
use tempfile::TempDir;

use super::*;
use crate::host::acl::ATTRIBUTE;

const ROOT: Caller = Caller::Root { invoked_by: None };
/// Somebody who is not in the tests' way.
const EVE: u32 = 12345;

/// Nobody but root may write there.
fn scratch() -> TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap()
}

fn file(path: &Path) {
    fs::write(path, "").unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
}

/// A file of root's, and a directory where everybody may put things beside it.
fn file_and_shared(dir: &TempDir) -> (PathBuf, PathBuf) {
    let (target, shared) = (dir.path().join("rules.yaml"), dir.path().join("shared"));
    file(&target);
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
    (target, shared)
}

fn open(path: &Path, caller: Caller) -> Result<File> {
    find(path, caller)?.file()
}

/// Which component is not believed.
#[track_caller]
fn distrusted(path: &Path, caller: Caller) -> PathBuf {
    match open(path, caller) {
        Err(Error::Distrust(distrust)) => distrust.path,
        other => panic!("{other:?}"),
    }
}

/// An access list by which a user may read and write, whatever the mode seems to say.
fn let_write(path: &Path, user: u32) {
    let entries = [(1, 6, u32::MAX), (2, 6, user), (4, 4, u32::MAX), (16, 6, u32::MAX)];
    set_list(path, &[&entries[..], &[(32, 4, u32::MAX)]].concat());
}

/// An access list of tags, permissions and numbers, as in `linux/posix_acl_xattr.h`.
fn set_list(path: &Path, entries: &[(u16, u16, u32)]) {
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, allowed, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(allowed.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    setxattr(path, ATTRIBUTE, &list, XattrFlags::empty()).expect("a file system with access lists");
}

/// Listed in tests/needs-root.
#[test]
fn an_ancestor_of_another_user_is_refused() {
    let dir = scratch();
    let deep = dir.path().join("a/b/c");
    fs::create_dir_all(&deep).unwrap();
    file(&deep.join("rules.yaml"));
    let way = deep.join("rules.yaml");
    open(&way, ROOT).unwrap();
    let ancestor = dir.path().join("a");
    chown(&ancestor, Some(EVE), None).unwrap();
    assert_eq!(distrusted(&way, ROOT), ancestor);
    assert_eq!(distrusted(&deep.join("../c/./rules.yaml"), ROOT), ancestor);
    open(&way, Caller::Root { invoked_by: Some(EVE) }).unwrap();
    open(&way, Caller::Ordinary).unwrap();
}

/// Listed in tests/needs-root.
#[test]
fn a_link_of_another_user_is_refused_even_in_a_sticky_directory() {
    let dir = scratch();
    let (target, shared) = file_and_shared(&dir);
    let link = shared.join("link.yaml");
    symlink(&target, &link).unwrap();
    assert_eq!(find(&link, ROOT).unwrap().path, target);
    std::os::unix::fs::lchown(&link, Some(EVE), None).unwrap();
    assert_eq!(distrusted(&link, ROOT), link);
    // A name that anybody may have made for a file of root's.
    let name = shared.join("name.yaml");
    fs::hard_link(&target, &name).unwrap();
    assert_eq!(distrusted(&name, ROOT), name);
}

#[test]
fn an_access_list_lets_others_write() {
    let dir = scratch();
    let path = dir.path().join("rules.yaml");
    file(&path);
    open(&path, ROOT).unwrap();
    let_write(&path, EVE);
    assert_eq!(distrusted(&path, ROOT), path);
    open(&path, Caller::Root { invoked_by: Some(EVE) }).unwrap();
    fs::remove_file(&path).unwrap();
    file(&path);
    let_write(dir.path(), EVE);
    assert_eq!(distrusted(&path, ROOT), dir.path());
}

#[test]
fn group_0_is_nobodys_own() {
    let dir = scratch();
    let path = dir.path().join("rules.yaml");
    file(&path);
    fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
    assert_eq!(distrusted(&path, ROOT), path);
}

#[test]
fn links_are_followed_as_the_kernel_does() {
    let dir = scratch();
    let real = dir.path().join("real");
    fs::create_dir(&real).unwrap();
    file(&real.join("rules.yaml"));
    symlink("real", dir.path().join("relative")).unwrap();
    symlink(dir.path().join("relative"), dir.path().join("absolute")).unwrap();
    symlink("../real/../relative/rules.yaml", real.join("up.yaml")).unwrap();
    for way in ["relative/rules.yaml", "absolute/rules.yaml", "absolute/up.yaml"] {
        let found = find(&dir.path().join(way), ROOT).unwrap();
        assert_eq!(found.path, real.join("rules.yaml"), "{way}");
    }
    symlink("loop", dir.path().join("loop")).unwrap();
    let Err(Error::Io(error)) = find(&dir.path().join("loop"), ROOT) else { panic!() };
    assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    let Err(Error::Io(error)) = find(&dir.path().join("real/rules.yaml/.."), ROOT) else {
        panic!()
    };
    assert_eq!(error.raw_os_error(), Some(Errno::NOTDIR.raw_os_error()));
}

#[test]
fn what_is_made_is_for_everybody_to_read() {
    let dir = scratch();
    let made = make(&dir.path().join("a/b"), ROOT).unwrap();
    assert_eq!(made.stat.st_mode & 0o7777, 0o755);
    assert_eq!(make(&dir.path().join("a/b"), ROOT).unwrap().identity(), made.identity());
    symlink("nowhere", dir.path().join("link")).unwrap();
    let Err(Error::Io(error)) = make(&dir.path().join("link"), ROOT) else { panic!() };
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
}

/// In a sticky directory anybody may have made another name of it.
#[test]
fn a_link_of_several_names_is_refused_where_others_may_put_things() {
    let dir = scratch();
    let (target, shared) = file_and_shared(&dir);
    let (own, planted) = (dir.path().join("link"), shared.join("link"));
    symlink(&target, &own).unwrap();
    fs::hard_link(&own, &planted).unwrap();
    assert_eq!(distrusted(&planted, ROOT), planted);
    open(&own, ROOT).unwrap();
    fs::remove_file(&own).unwrap();
    open(&planted, ROOT).unwrap();
}

/// Listed in tests/needs-root.
#[test]
fn what_the_invoker_may_not_read_is_known() {
    let dir = scratch();
    let path = dir.path().join("secret.yaml");
    file(&path);
    let readable = || {
        let found = find(&path, Caller::Root { invoked_by: Some(EVE) }).unwrap();
        found.is_readable_by_invoker(&found.file().unwrap())
    };
    assert!(readable());
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert!(!readable());
    chown(&path, Some(EVE), None).unwrap();
    assert!(readable());
    fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    assert!(!readable());
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    assert!(readable());
    // The mode of a directory with an access list says nothing of those whom it names.
    set_list(
        dir.path(),
        &[(1, 7, u32::MAX), (2, 0, EVE), (4, 5, u32::MAX), (16, 5, u32::MAX), (32, 5, u32::MAX)],
    );
    assert!(!readable());
}
