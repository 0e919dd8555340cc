//! Access lists of files (acl(5)), as the kernel hands them out.

/// The extended attribute that holds one.
pub const ATTRIBUTE: &str = "system.posix_acl_access";

const VERSION: u32 = 2;
const READ: u16 = 4;
const WRITE: u16 = 2;
const EXECUTE: u16 = 1;

/// Whom an entry is about: the tags of `linux/posix_acl.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Owner,
    User(u32),
    OwningGroup,
    Group(u32),
    Others,
}

/// What an entry allows, once the mask has been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub who: Who,
    pub may_read: bool,
    pub may_write: bool,
    /// Of a directory: pass through it.
    pub may_execute: bool,
}

impl Entry {
    fn new(who: Who, allowed: u16) -> Self {
        let may = |what| allowed & what != 0;
        Self { who, may_read: may(READ), may_write: may(WRITE), may_execute: may(EXECUTE) }
    }
}

/// The attribute as entries (`struct posix_acl_xattr_header` and `posix_acl_xattr_entry` of
/// `linux/posix_acl_xattr.h`, little-endian). `None` if it is anything else: it never counts as an
/// empty list.
pub fn parse(attribute: &[u8]) -> Option<Vec<Entry>> {
    let (version, mut entries) = attribute.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != VERSION || entries.len() % 8 != 0 {
        return None;
    }
    let mut list = Vec::new();
    let mut mask = READ | WRITE | EXECUTE;
    while let Some((entry, rest)) = entries.split_first_chunk::<8>() {
        entries = rest;
        let [tag_low, tag_high, allowed_low, allowed_high, id @ ..] = entry;
        let allowed = u16::from_le_bytes([*allowed_low, *allowed_high]);
        let id = u32::from_le_bytes(*id);
        let who = match u16::from_le_bytes([*tag_low, *tag_high]) {
            0x01 => Who::Owner,
            0x02 => Who::User(id),
            0x04 => Who::OwningGroup,
            0x08 => Who::Group(id),
            0x10 => {
                mask = allowed;
                continue;
            }
            0x20 => Who::Others,
            _ => return None,
        };
        list.push((who, allowed));
    }
    let entry = |(who, allowed)| {
        let is_masked = !matches!(who, Who::Owner | Who::Others);
        Entry::new(who, if is_masked { allowed & mask } else { allowed })
    };
    Some(list.into_iter().map(entry).collect())
}

/// The list that the mode of a file stands for (inode(7)) where there is no attribute.
pub fn of_mode(mode: u32) -> Vec<Entry> {
    let entry = |who, shift: u32| Entry::new(who, (mode >> shift) as u16);
    vec![entry(Who::Owner, 6), entry(Who::OwningGroup, 3), entry(Who::Others, 0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for (tag, allowed, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(allowed.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    fn writers(entries: &[(u16, u16, u32)]) -> Vec<Who> {
        let list = parse(&attribute(entries)).expect("a list");
        list.iter().filter(|entry| entry.may_write).map(|entry| entry.who).collect()
    }

    const NOBODY: u32 = u32::MAX;

    #[test]
    fn the_mask_limits_all_but_the_owner_and_others() {
        let list = |mask| {
            [
                (0x01, 6, NOBODY),
                (0x02, 6, 65534),
                (0x04, 6, NOBODY),
                (0x08, 6, 50),
                (0x10, mask, NOBODY),
                (0x20, 2, NOBODY),
            ]
        };
        let named = [Who::Owner, Who::User(65534), Who::OwningGroup, Who::Group(50), Who::Others];
        assert_eq!(writers(&list(6)), named);
        assert_eq!(writers(&list(4)), [Who::Owner, Who::Others]);
    }

    #[test]
    fn what_is_no_list_is_not_an_empty_one() {
        assert_eq!(parse(&attribute(&[])), Some(Vec::new()));
        let whole = attribute(&[(0x01, 6, NOBODY), (0x20, 4, NOBODY)]);
        for length in (0..whole.len()).filter(|length| ![4, 12].contains(length)) {
            assert_eq!(parse(&whole[..length]), None, "{length} bytes");
        }
        assert_eq!(parse(&attribute(&[(0x40, 6, 0)])), None, "an unknown tag");
        assert_eq!(parse(&[1, 0, 0, 0]), None, "another version");
    }

    #[test]
    fn a_mode_is_a_list_of_three() {
        let writers = |mode| {
            let list = of_mode(mode);
            list.into_iter().filter(|e| e.may_write).map(|e| e.who).collect::<Vec<_>>()
        };
        assert_eq!(writers(0o100644), [Who::Owner]);
        assert_eq!(writers(0o040775), [Who::Owner, Who::OwningGroup]);
        assert_eq!(writers(0o646), [Who::Owner, Who::Others]);
    }
}
