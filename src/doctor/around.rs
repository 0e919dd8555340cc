//! What there is to know of a host before anything is judged.

use std::collections::BTreeMap;

use crate::host::listeners::Listening;
use crate::host::login::SshSession;
use crate::host::network::Interface;
use crate::host::user::Standing;
use crate::mapping::{Protocol, User};

/// What there is to know of this host.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub listening: Listening,
    pub interfaces: Vec<Interface>,
    /// The ssh session in which the command runs.
    pub session: Option<SshSession>,
    /// Those that mappings name; without those of whom nothing could be learnt.
    pub users: BTreeMap<User, Standing>,
}

impl Facts {
    /// Of a host of which nothing can be seen.
    pub fn unseen() -> Self {
        let listening = Listening::new(Vec::new(), Protocol::ALL.to_vec());
        Self { listening, ..Self::default() }
    }
}
