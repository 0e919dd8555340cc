//! Who may answer, and who may use a target itself.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::COMMENT_MAX;

/// The number of a user, 0 to 4294967294. The highest of 32 bits is no user (`INVALID_UID` of the
/// kernel's `include/linux/uidgid.h`; chown(2) takes it for "leave as it is").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(u32);

impl Uid {
    /// `None` for the number that is no user.
    pub const fn new(number: u32) -> Option<Self> {
        if number == u32::MAX { None } else { Some(Self(number)) }
    }

    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a user: 1 to [`COMMENT_MAX`] bytes, as it is the comment of an element in the
/// kernel; no number, and without control characters, double quotes, colons and parentheses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName(Arc<str>);

impl UserName {
    /// `None` for a text that cannot be the name of a user.
    pub fn new(name: &str) -> Option<Self> {
        let wrong = |c: char| c.is_control() || "\":()".contains(c);
        let sound = !name.is_empty()
            && name.len() <= COMMENT_MAX
            && name.trim() == name
            && !name.contains(wrong)
            && !name.bytes().all(|byte| byte.is_ascii_digit());
        sound.then(|| Self(name.into()))
    }
}

impl Deref for UserName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// The user whose sockets may answer. What counts is the number; the name is the one that it had
/// when it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct User {
    pub uid: Uid,
    /// `None` if the user was asked for by number.
    pub name: Option<UserName>,
}

impl User {
    /// `33(www-data)`, as id(1) writes it, or `33`: both number and name, to be read back.
    pub fn in_full(&self) -> String {
        match &self.name {
            Some(name) => format!("{}({})", self.uid, &**name),
            None => self.uid.to_string(),
        }
    }
}

impl fmt::Display for User {
    /// `www-data`, or `33` where there is no name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => self.uid.fmt(f),
        }
    }
}

/// Whether other machines may use the target without the mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direct {
    #[default]
    Allow,
    /// They are refused as if nobody listened there.
    Refuse,
}

impl Direct {
    pub const ALL: [Direct; 2] = [Direct::Allow, Direct::Refuse];

    pub const fn name(self) -> &'static str {
        match self {
            Direct::Allow => "allow",
            Direct::Refuse => "refuse",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_users_are_what_others_can_show() {
        for name in ["www-data", "_apt", "EXAMPLE\\ada", "ada@example.org", "domain users", "0x"] {
            assert!(UserName::new(name).is_some(), "{name}");
        }
        let long = "x".repeat(COMMENT_MAX + 1);
        for name in ["", " a", "33", "a:b", "a\nb", "a\"b", "33(www-data)", &long] {
            assert!(UserName::new(name).is_none(), "{name}");
        }
    }

    #[test]
    fn one_number_is_no_user() {
        assert_eq!(Uid::new(0).map(Uid::get), Some(0));
        assert_eq!(Uid::new(u32::MAX), None);
    }
}
