//! Mappings as machines read them.

use std::fmt::Display;

use serde::Serialize;

use crate::mapping::changes::{Action, Change};
use crate::mapping::{Direct, Family, Mapping, Protocol, User};

/// What a mapping does, in JSON. Absent lists mean "any".
#[derive(Debug, Serialize)]
pub struct MappingJson {
    pub to: u16,
    pub scope: &'static str,
    pub families: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whose sockets may answer; absent: anybody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<UserJson>,
    /// Whether others may use the target itself; absent: they may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direct: Option<&'static str>,
}

/// A user. The number counts; the name is that of the time when the mapping was read.
#[derive(Debug, Serialize)]
pub struct UserJson {
    pub uid: u32,
    pub name: Option<String>,
}

impl From<&User> for UserJson {
    fn from(user: &User) -> Self {
        Self { uid: user.uid.get(), name: user.name.as_deref().map(str::to_owned) }
    }
}

impl From<&Mapping> for MappingJson {
    fn from(m: &Mapping) -> Self {
        let matches = m.selector.matches();
        Self {
            to: m.to.port().get(),
            scope: m.selector.scope().name(),
            families: match m.selector.family() {
                Family::Both => vec!["ipv4", "ipv6"],
                one => vec![one.name()],
            },
            interfaces: matches.map(|m| texts(&m.interfaces)).unwrap_or_default(),
            sources: matches.map(|m| texts(&m.sources)).unwrap_or_default(),
            addresses: matches.map(|m| texts(&m.addresses)).unwrap_or_default(),
            comment: m.comment.as_deref().map(str::to_owned),
            user: m.user.as_ref().map(UserJson::from),
            direct: (m.direct != Direct::default()).then(|| m.direct.name()),
        }
    }
}

/// One difference, in JSON.
#[derive(Debug, Serialize)]
pub struct ChangeJson {
    pub action: Action,
    pub port: u16,
    pub protocol: &'static str,
    pub before: Option<MappingJson>,
    pub after: Option<MappingJson>,
}

impl From<&Change<'_>> for ChangeJson {
    fn from(change: &Change<'_>) -> Self {
        let service = change.mapping().service;
        Self {
            action: change.action(),
            port: service.port.get(),
            protocol: Protocol::name(service.protocol),
            before: change.before().map(MappingJson::from),
            after: change.after().map(MappingJson::from),
        }
    }
}

fn texts<T: Display>(values: &[T]) -> Vec<String> {
    values.iter().map(T::to_string).collect()
}
