//! What there is to know of a host before anything is judged.

use std::collections::BTreeMap;

use crate::firewall::Rulesets;
use crate::host::listeners::Listening;
use crate::host::login::SshSession;
use crate::host::network::Interface;
use crate::host::user::Standing;
use crate::mapping::{Protocol, User};

/// All rules of this network namespace, and the interfaces that packets arrive by.
#[derive(Clone, Debug, Default)]
pub struct Firewalls {
    pub rulesets: Rulesets,
    /// By the name of the interface (if_nametoindex(3)).
    pub indexes: BTreeMap<String, u32>,
    /// Why the rules could not be read: then nothing is said of them.
    pub unseen: Option<String>,
}

/// What there is to know of this host.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub listening: Listening,
    pub interfaces: Vec<Interface>,
    /// The ssh session in which the command runs.
    pub session: Option<SshSession>,
    /// Those that mappings name; without those of whom nothing could be learnt.
    pub users: BTreeMap<User, Standing>,
    /// The rules of others.
    pub firewalls: Firewalls,
}

impl Facts {
    /// Of a host of which nothing can be seen.
    pub fn unseen() -> Self {
        let listening = Listening::new(Vec::new(), Protocol::ALL.to_vec());
        Self { listening, ..Self::default() }
    }
}
