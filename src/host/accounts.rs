//! Users and their groups, as far as trust depends on them.

use std::fs;

use nix::unistd::{Gid, Group, Uid, User};

/// A user's name, or the number of one who has none.
pub fn user_name(uid: u32) -> String {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| format!("uid {uid}"), |user| format!("{} (uid {uid})", user.name))
}

pub fn group_name(gid: u32) -> String {
    let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    group.map_or_else(|| format!("gid {gid}"), |group| format!("{} (gid {gid})", group.name))
}

/// Whether a group has no member but its owner, as distributions make one for each user together
/// with the umask 002.
///
/// Both must be in the local files, where all members can be seen, those by primary group too. A
/// directory service that gives its users the number of a local group is not looked through.
pub fn is_private(gid: u32, owner: u32) -> bool {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let Some(owner) = sole_member(&read("/etc/passwd"), &read("/etc/group"), gid, owner) else {
        return false;
    };
    // Members that another source adds (nsswitch.conf(5), `merge`).
    match Group::from_gid(Gid::from_raw(gid)) {
        Ok(Some(group)) => group.mem.iter().all(|member| *member == owner),
        _ => false,
    }
}

/// The owner's name, if `passwd` and `group` (passwd(5), group(5)) have no other user in the group.
/// Never for group 0, which programs run with that have no user of their own.
pub(super) fn sole_member(passwd: &str, group: &str, gid: u32, owner: u32) -> Option<String> {
    let is_elsewhere = |line: &str| line.starts_with(['+', '-']);
    if gid == 0 || passwd.lines().chain(group.lines()).any(is_elsewhere) {
        return None;
    }
    let primary = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, uid, gid) = (fields.next()?, fields.nth(1)?, fields.next()?);
        Some((name, uid.parse::<u32>().ok()?, gid.parse::<u32>().ok()?))
    });
    let primary: Vec<_> = primary.filter(|(.., primary)| *primary == gid).collect();
    let [(name, uid, _)] = primary[..] else { return None };
    if uid != owner {
        return None;
    }
    let groups = group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, gid, members) = (fields.next()?, fields.nth(1)?, fields.next()?);
        Some((name, gid.parse::<u32>().ok()?, members))
    });
    let groups: Vec<_> = groups.filter(|(_, number, _)| *number == gid).collect();
    let [(group, _, members)] = groups[..] else { return None };
    let only_owner = members.split(',').all(|member| member.is_empty() || member == name);
    (group == name && only_owner).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::sole_member;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nada:x:1000:\nstaff:x:50:ada\n";

    #[test]
    fn a_group_of_ones_own_is_private() {
        assert_eq!(sole_member(PASSWD, GROUP, 1000, 1000).as_deref(), Some("ada"));
        assert_eq!(sole_member(PASSWD, "ada:x:1000:ada\n", 1000, 1000).as_deref(), Some("ada"));
    }

    #[test]
    fn a_group_that_another_can_be_in_is_not() {
        let with = |line: &str| format!("{PASSWD}{line}\n");
        for passwd in [
            with("eve:x:1001:1000::/home/eve:/bin/sh"),
            with("toor:x:0:1000::/:/bin/sh"),
            with("+::::::"),
            String::new(),
        ] {
            assert_eq!(sole_member(&passwd, GROUP, 1000, 1000), None, "{passwd}");
        }
        for group in ["ada:x:1000:eve\n", "web:x:1000:\n", "ada:x:1000:\nweb:x:1000:eve\n", ""] {
            assert_eq!(sole_member(PASSWD, group, 1000, 1000), None, "{group}");
        }
        assert_eq!(sole_member(PASSWD, GROUP, 50, 1000), None, "not the primary group");
        assert_eq!(sole_member(PASSWD, GROUP, 0, 0), None, "group 0 is many programs'");
    }
}
