//! Users: the one behind this process, and those that a file names.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use super::environment;
use crate::mapping::{self, Uid};

/// The number of a user, wherever this host keeps its users (getpwnam(3), nsswitch.conf(5)); `None`
/// if there is no such user.
pub fn find(name: &str) -> io::Result<Option<Uid>> {
    let user = nix::unistd::User::from_name(name)?;
    Ok(user.and_then(|user| Uid::new(user.uid.as_raw())))
}

/// What this host makes of a user that a mapping names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Name and number are as they were.
    Known,
    /// There is no such user; who has the number now.
    Gone { now: Option<String> },
    /// The name is of another number now.
    Renumbered(Uid),
}

/// Asks where this host keeps its users.
pub fn standing(user: &mapping::User) -> io::Result<Standing> {
    let now = |uid: Uid| -> io::Result<Option<String>> {
        Ok(nix::unistd::User::from_uid(uid.get().into())?.map(|user| user.name))
    };
    Ok(match &user.name {
        Some(name) => match find(name)? {
            Some(uid) if uid == user.uid => Standing::Known,
            Some(uid) => Standing::Renumbered(uid),
            None => Standing::Gone { now: now(user.uid)? },
        },
        None => match now(user.uid)? {
            Some(_) => Standing::Known,
            None => Standing::Gone { now: None },
        },
    })
}

/// The user who asked for a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Who {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    pub uid: u32,
}

impl Who {
    /// Through sudo the user who called it, otherwise the real user.
    pub fn invoking() -> Self {
        let real = nix::unistd::getuid().as_raw();
        Self::behind(real, environment::var, |uid| {
            let user = nix::unistd::User::from_uid(uid.into());
            user.ok().flatten().map(|user| user.name)
        })
    }

    /// Only root's environment is asked for `SUDO_UID`: anybody else could have set it.
    fn behind(
        real: u32,
        env: impl Fn(&str) -> Option<String>,
        name_of: impl Fn(u32) -> Option<String>,
    ) -> Self {
        let sudo = || env("SUDO_UID")?.parse().ok();
        match (real == 0).then(sudo).flatten() {
            Some(uid) => {
                let user = env("SUDO_USER").filter(|user| !user.is_empty());
                Self { name: user.or_else(|| name_of(uid)), uid }
            }
            None => Self { name: name_of(real), uid: real },
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "uid {}", self.uid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn through_sudo_it_is_the_one_who_called_it() {
        let name_of = |uid| (uid == 1000).then(|| "ada".to_owned());
        let sudo = |name: &str| match name {
            "SUDO_UID" => Some("1000".to_owned()),
            _ => None,
        };
        let ada = Who { name: Some("ada".into()), uid: 1000 };
        assert_eq!(Who::behind(0, sudo, name_of), ada);
        assert_eq!(Who::behind(1000, |_| None, name_of), ada);
        // Set by a user who is not root, it means nothing.
        assert_eq!(Who::behind(1001, sudo, name_of), Who { name: None, uid: 1001 });
        assert_eq!(Who::behind(0, |_| Some("nonsense".into()), name_of).uid, 0);
    }
}
