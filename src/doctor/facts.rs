//! What was found out about this host, for [`super::examine`].

use std::time::Duration;

use super::foresee;
use crate::mapping::{GenerationId, MappingSet, Service};

/// All that an examination is based on. What could not be seen is `None` or says so.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The ports that were asked for; empty for all that are mapped.
    pub asked: Vec<Service>,
    /// Whether what is true of nearly every mapping is to be told even if no port was asked for.
    pub thorough: bool,
    /// What is examined: what serves, or what the rules that were named would make of it.
    pub mapping: MappingSet,
    pub subject: Subject,
    pub table: Table,
    /// What the generation maps whose table is gone; empty where none is missed, or its text cannot
    /// be read.
    pub lost: MappingSet,
    pub around: foresee::Facts,
    pub boot: Boot,
    pub guard: Guard,
    pub files: Files,
    pub sysctls: Sysctls,
    /// Interpreters that may bind privileged ports, whatever script they run.
    pub capable: Vec<String>,
    /// What of the history cannot be read.
    pub problems: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subject {
    /// What is active.
    #[default]
    Active,
    /// Rules that need not be.
    Rules,
}

/// Our table in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Table {
    /// It is not there; the generation that was active before it went.
    Absent { lost: Option<GenerationId> },
    Present {
        serving: Option<GenerationId>,
        /// How it differs from what portmap put there.
        drift: Option<String>,
        trial: Option<Trial>,
    },
    /// The kernel cannot do what portmap needs: why, and what to do.
    Impossible { why: String, help: String },
    /// This user may not look: why.
    Unseen { why: String },
    #[default]
    Unasked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    pub number: Option<GenerationId>,
    /// Zero once the kernel has gone back.
    pub left: Duration,
}

/// What a reboot would bring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// The generation that is restored.
    pub persisted: Option<GenerationId>,
    /// Whether it maps what is active; `None` if that cannot be told.
    pub is_same: Option<bool>,
    /// Whether it maps nothing.
    pub is_empty: bool,
    /// Whether boot applies the rules files, whatever is persisted.
    pub applies: bool,
    /// Why nothing will restore it, and what to do.
    pub missing: Option<(String, String)>,
    /// Files that empty the whole ruleset when their service starts, with that service.
    pub flushers: Vec<(String, String)>,
}

/// Who puts the table back if another program removes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// The process that does.
    pub pid: Option<u32>,
    /// Whether boot starts one.
    pub is_wanted: bool,
}

/// The rules files in the default directory.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Their directory.
    pub directory: String,
    /// What they say; `None` if there are none, or they have mistakes.
    pub mapping: Option<MappingSet>,
    /// Why they are not believed, and what to do.
    pub distrust: Vec<(String, Option<String>)>,
}

/// proc(5), /proc/sys/net; `None` for what cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sysctls {
    /// `net.ipv4.ip_unprivileged_port_start`
    pub unprivileged_start: Option<u16>,
    /// `net.ipv4.ip_local_port_range`
    pub ephemeral: Option<(u16, u16)>,
    /// `net.ipv4.ip_local_reserved_ports`: from and to.
    pub reserved: Vec<(u16, u16)>,
    /// Connections that are tracked, and how many can be.
    pub conntrack: Option<(u64, u64)>,
}
