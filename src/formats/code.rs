//! The words by which programs know what is wrong with a mapping on a host.

use serde::{Serialize, Serializer};

/// What is wrong: a word that never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    NobodyListens,
    LoopbackOnly,
    OneFamilyOnly,
    OneAddressOnly,
    OtherProtocol,
    WrongUser,
    ListenerShadowed,
    SshSession,
    NoSuchInterface,
    NoSuchAddress,
    NoSuchUser,
    FirewallBlocks,
    FirewallUnknown,
    OtherNat,
    Notrack,
    NotMapped,
    ConntrackFull,
    NotApplied,
    Drifted,
    OnTrial,
    NotPersisted,
    BootUnit,
    BootDiffers,
    WillBeFlushed,
    GuardDown,
    TargetTakeable,
    PrivilegedPortsOpen,
    CapabilityLeft,
    KernelLacks,
    FileTrust,
    FilesDisagree,
    HistoryUnreadable,
}

impl Code {
    pub const fn name(self) -> &'static str {
        match self {
            Code::NobodyListens => "nobody-listens",
            Code::LoopbackOnly => "loopback-only",
            Code::OneFamilyOnly => "one-family-only",
            Code::OneAddressOnly => "one-address-only",
            Code::OtherProtocol => "other-protocol",
            Code::WrongUser => "wrong-user",
            Code::ListenerShadowed => "listener-shadowed",
            Code::SshSession => "ssh-session",
            Code::NoSuchInterface => "no-such-interface",
            Code::NoSuchAddress => "no-such-address",
            Code::NoSuchUser => "no-such-user",
            Code::FirewallBlocks => "firewall-blocks",
            Code::FirewallUnknown => "firewall-unknown",
            Code::OtherNat => "other-nat",
            Code::Notrack => "notrack",
            Code::NotMapped => "not-mapped",
            Code::ConntrackFull => "conntrack-full",
            Code::NotApplied => "not-applied",
            Code::Drifted => "drifted",
            Code::OnTrial => "on-trial",
            Code::NotPersisted => "not-persisted",
            Code::BootUnit => "boot-unit",
            Code::BootDiffers => "boot-differs",
            Code::WillBeFlushed => "will-be-flushed",
            Code::GuardDown => "guard-down",
            Code::TargetTakeable => "target-takeable",
            Code::PrivilegedPortsOpen => "privileged-ports-open",
            Code::CapabilityLeft => "capability-left",
            Code::KernelLacks => "kernel-lacks",
            Code::FileTrust => "file-trust",
            Code::FilesDisagree => "files-disagree",
            Code::HistoryUnreadable => "history-unreadable",
        }
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
