//! The user that a command runs as, and the way there: for good, and without any privilege.

use std::ffi::CString;
use std::io;
use std::path::PathBuf;

use nix::unistd::{self, Gid, Uid, User, getgrouplist, setgroups, setresgid, setresuid};
use rustix::io::Errno;
use rustix::thread::{self, CapabilitySet, CapabilitySets};

use super::environment;

/// A user, with all that makes a process one of that user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `None` for a number that is nobody's.
    pub name: Option<String>,
    uid: Uid,
    gid: Gid,
    /// With `gid`.
    groups: Vec<Gid>,
    /// Home directory and shell, where they are known.
    pub home: Option<PathBuf>,
    pub shell: Option<PathBuf>,
}

/// Whom a command runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The user of this process, who is not root.
    Same,
    Other(u32, Option<u32>),
    /// Nobody but root was found, and root was not asked for.
    OnlyRoot,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no user `{0}`")]
    Unknown(String),
    #[error("look up user `{name}`: {error}")]
    Lookup { name: String, error: io::Error },
    #[error("become {who}: {doing}: {error}")]
    Become { who: String, doing: &'static str, error: io::Error },
    #[error("become {who}: capabilities are left")]
    Left { who: String },
}

impl Error {
    /// Whether the user namespace of this process lacks the number (user_namespaces(7)).
    pub fn is_of_unmapped_number(&self) -> bool {
        let Self::Become { error, .. } = self else { return false };
        error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
    }
}

/// Unless a user is named: through sudo who called it, otherwise the user of this process.
pub fn choose() -> Choice {
    let real = unistd::getuid().as_raw();
    let effective = unistd::geteuid().as_raw();
    chosen(real, effective, |name| environment::var(name)?.parse().ok())
}

/// Only root's environment is asked: anybody else could have set it.
fn chosen(real: u32, effective: u32, number: impl Fn(&str) -> Option<u32>) -> Choice {
    match (real, effective) {
        (_, 1..) => Choice::Same,
        (1.., 0) => Choice::Other(real, None),
        (0, 0) => match number("SUDO_UID") {
            None | Some(0) => Choice::OnlyRoot,
            Some(uid) => Choice::Other(uid, number("SUDO_GID")),
        },
    }
}

impl Identity {
    /// By name, or by the number of a user that has one.
    pub fn named(name: &str) -> Result<Self, Error> {
        let lookup =
            |error: nix::Error| Error::Lookup { name: name.to_owned(), error: error.into() };
        let user = match User::from_name(name).map_err(lookup)? {
            Some(user) => Some(user),
            None => match name.parse() {
                Ok(uid) => User::from_uid(Uid::from_raw(uid)).map_err(lookup)?,
                Err(_) => None,
            },
        };
        let user = user.ok_or_else(|| Error::Unknown(name.to_owned()))?;
        Self::of(user).map_err(lookup)
    }

    /// By number. One that is nobody's has the given group and no other.
    pub fn numbered(uid: u32, gid: Option<u32>) -> Result<Self, Error> {
        let name = uid.to_string();
        let lookup = |error: nix::Error| Error::Lookup { name: name.clone(), error: error.into() };
        let uid = Uid::from_raw(uid);
        if let Some(user) = User::from_uid(uid).map_err(lookup)? {
            return Self::of(user).map_err(lookup);
        }
        let gid = Gid::from_raw(gid.ok_or_else(|| Error::Unknown(name.clone()))?);
        Ok(Self { name: None, uid, gid, groups: vec![gid], home: None, shell: None })
    }

    fn of(user: User) -> nix::Result<Self> {
        let User { name, uid, gid, dir, shell, .. } = user;
        let c_name = CString::new(name.as_str()).unwrap_or_default();
        let groups = getgrouplist(&c_name, gid)?;
        Ok(Self { name: Some(name), uid, gid, groups, home: Some(dir), shell: Some(shell) })
    }

    pub fn is_root(&self) -> bool {
        self.uid.is_root()
    }

    pub fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    /// Whether this process is one of that user's already.
    pub fn is_current(&self) -> bool {
        unistd::getuid() == self.uid && unistd::geteuid() == self.uid
    }

    /// For people.
    pub fn title(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("uid {}", self.uid))
    }

    /// This process becomes one of that user's, and can never have a privilege again.
    pub fn assume(&self) -> Result<(), Error> {
        let who = self.title();
        let step = |doing, result: nix::Result<()>| {
            let failed =
                |error: nix::Error| Error::Become { who: who.clone(), doing, error: error.into() };
            result.map_err(failed)
        };
        empty_bounding_set();
        if !self.is_current() {
            step("set the groups", setgroups(&self.groups))?;
            step("set the group", setresgid(self.gid, self.gid, self.gid))?;
            step("set the user", setresuid(self.uid, self.uid, self.uid))?;
        }
        renounce(&who)
    }
}

/// The process stays with its user, and can never have a privilege again.
pub fn renounce_privileges() -> Result<(), Error> {
    empty_bounding_set();
    renounce("an ordinary process")
}

/// Of all that this process may do, it keeps the administration of its network.
pub fn keep_the_network_alone() -> Result<(), Error> {
    empty_bounding_set();
    let who = "a process that watches over a mapping";
    let failed = |doing| {
        move |error: Errno| Error::Become { who: who.to_owned(), doing, error: error.into() }
    };
    thread::clear_ambient_capability_set().map_err(failed("clear the ambient capabilities"))?;
    let (one, none) = (CapabilitySet::NET_ADMIN, CapabilitySet::empty());
    let sets = CapabilitySets { effective: one, permitted: one, inheritable: none };
    thread::set_capabilities(None, sets).map_err(failed("drop the capabilities"))?;
    thread::set_no_new_privs(true).map_err(failed("set no_new_privs"))
}

/// Needs CAP_SETPCAP, and so comes first. Without it the set stays, and means nothing once
/// `no_new_privs` is set.
fn empty_bounding_set() {
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        // The kernel knows fewer than 64 of them.
        if let Err(Errno::INVAL) = thread::remove_capability_from_bounding_set(one) {
            break;
        }
    }
}

fn renounce(who: &str) -> Result<(), Error> {
    let step = |doing, result: Result<(), Errno>| {
        result.map_err(|error| Error::Become { who: who.to_owned(), doing, error: error.into() })
    };
    step("clear the ambient capabilities", thread::clear_ambient_capability_set())?;
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    step("drop the capabilities", thread::set_capabilities(None, none))?;
    step("set no_new_privs", thread::set_no_new_privs(true))?;
    // What cannot fail must not be trusted to have worked.
    let left = thread::capabilities(None);
    match left {
        Ok(CapabilitySets { effective, permitted, inheritable })
            if (effective | permitted | inheritable).is_empty() =>
        {
            Ok(())
        }
        _ => Err(Error::Left { who: who.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_runs_as_who_asked_for_it() {
        let nothing = |_: &str| None;
        let sudo = |name: &str| match name {
            "SUDO_UID" => Some(1000),
            "SUDO_GID" => Some(100),
            _ => None,
        };
        assert_eq!(chosen(0, 0, sudo), Choice::Other(1000, Some(100)));
        assert_eq!(chosen(0, 0, nothing), Choice::OnlyRoot);
        // Root called sudo.
        assert_eq!(chosen(0, 0, |_| Some(0)), Choice::OnlyRoot);
        // Of a user who is no root, the environment means nothing.
        assert_eq!(chosen(1001, 1001, sudo), Choice::Same);
        assert_eq!(chosen(1001, 0, sudo), Choice::Other(1001, None));
    }

    #[test]
    fn root_is_known_by_name_and_by_number() {
        for name in ["root", "0"] {
            let root = Identity::named(name).unwrap();
            assert!(root.is_root(), "{root:?}");
            assert_eq!(root.title(), "root");
        }
        assert!(matches!(Identity::named("no such user"), Err(Error::Unknown(_))));
        assert!(matches!(Identity::numbered(4_000_000_000, None), Err(Error::Unknown(_))));
        let nobody = Identity::numbered(4_000_000_000, Some(7)).unwrap();
        assert_eq!(
            (nobody.title(), nobody.groups),
            ("uid 4000000000".to_owned(), vec![Gid::from_raw(7)])
        );
    }
}
