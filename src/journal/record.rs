//! A generation as a value, and as the text of its file (see `docs/state.md`). Pure.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// The format that is written. Every change of it, a new key too, takes the next number.
pub const VERSION: u64 = 1;

/// The bytes of a header that are read in search of its end.
pub const HEADER_MAX: u64 = 1 << 20;

/// The bytes of a mapping: more than ten times what 60,000 mappings take.
pub const MAPPING_MAX: u64 = 32 << 20;

const TITLE: &str =
    "# A generation of portmap, see `portmap show`. An edit would count as damage.\n";
const END: &[u8] = b"---\n";
const HEADER_CHECK: &str = "header-check: ";

/// All that is known of a generation but the mapping itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// From 1 up, never used twice. 0 stands for the empty mapping, before the first apply.
    pub number: u64,
    /// When it was begun, in whole seconds.
    pub time: SystemTime,
    pub who: Option<Who>,
    pub command: Command,
    /// The files that the mapping was read from, as they were named.
    pub sources: Vec<String>,
    pub message: Option<String>,
    /// The generation that was active before; `None` if what was active is not in the history.
    pub parent: Option<u64>,
    /// The generation whose mapping this one repeats.
    pub restores: Option<u64>,
    /// Where a rollback from here leads: the parent, but for a generation that repeats another,
    /// that one's. `None` if there is nowhere to go or it is not known.
    pub back: Option<u64>,
    /// When the trial is, or was, to end, if it began as one.
    pub trial_until: Option<SystemTime>,
    pub outcome: Outcome,
    pub mapping_bytes: u64,
    /// CRC-32 (IEEE 802.3) of the mapping's text.
    pub mapping_crc32: u32,
}

impl Header {
    /// Whether this is the empty mapping (of `clear`, or of a rollback to the beginning).
    pub const fn is_empty(&self) -> bool {
        self.mapping_bytes == 0
    }

    /// Whether it is still to be decided how it ends.
    pub const fn is_open(&self) -> bool {
        matches!(self.outcome, Outcome::Intent | Outcome::Trial)
    }
}

/// How a generation ended. Whether a committed one is still active, the kernel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Written before the commit: it may or may not have reached the kernel.
    Intent,
    /// In the kernel on trial.
    Trial,
    /// Reached the kernel, to stay; a trial, by `confirm`.
    Committed,
    /// A trial that was not confirmed.
    Reverted,
    /// Never reached the kernel.
    Failed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Intent => "intent",
            Self::Trial => "trial",
            Self::Committed => "committed",
            Self::Reverted => "reverted",
            Self::Failed => "failed",
        })
    }
}

/// What made the generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    Apply,
    Rollback,
    Restore,
    Clear,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Apply => "apply",
            Self::Rollback => "rollback",
            Self::Restore => "restore",
            Self::Clear => "clear",
        })
    }
}

/// The user who asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Who {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    pub uid: u32,
}

impl Who {
    /// The user behind this process: through sudo the one who called it, otherwise the real user.
    pub fn invoking() -> Self {
        let real = nix::unistd::getuid().as_raw();
        let env = |name: &str| std::env::var(name).ok();
        Self::behind(real, env, |uid| {
            let user = nix::unistd::User::from_uid(uid.into());
            user.ok().flatten().map(|user| user.name)
        })
    }

    /// Only root is asked for `SUDO_UID`: anybody else could have set it himself.
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

/// Why a text is not a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    Damaged(String),
    Newer(u64),
}

fn damaged(what: impl Into<String>) -> Flaw {
    Flaw::Damaged(what.into())
}

/// Times are kept in whole seconds, from 1970 to 9999: what RFC 3339 can write.
pub(super) fn whole_seconds(time: SystemTime) -> SystemTime {
    const LAST: u64 = 253_402_300_799; // 9999-12-31T23:59:59Z
    let since = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.min(LAST))
}

fn format_time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(whole_seconds(time)).to_string()
}

fn parse_time(text: &str) -> Result<SystemTime, Flaw> {
    humantime::parse_rfc3339(text).map_err(|e| damaged(format!("time {text:?}: {e}")))
}

fn format_check(crc: u32) -> String {
    format!("crc32 {crc:08x}")
}

/// Accepts what [`format_check`] makes, and no other spelling of it.
fn parse_check(text: &str) -> Result<u32, Flaw> {
    let crc = text.strip_prefix("crc32 ").and_then(|hex| u32::from_str_radix(hex, 16).ok());
    crc.filter(|&crc| format_check(crc) == text)
        .ok_or_else(|| damaged(format!("{text:?} is not a checksum")))
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct V1 {
    version: u64,
    number: u64,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    who: Option<Who>,
    command: Command,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    sources: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    parent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    restores: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    back: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    trial_until: Option<String>,
    outcome: Outcome,
    mapping_bytes: u64,
    mapping_check: String,
}

/// The least that makes a generation: no check of the header, and nothing on who, why or what
/// came before. Read, no longer written.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct V0 {
    #[serde(rename = "version")]
    _version: u64,
    number: u64,
    time: String,
    outcome: Outcome,
    mapping_bytes: u64,
    mapping_check: String,
}

#[derive(Deserialize)]
struct Version {
    version: u64,
}

/// The text of the header, with the line that ends it: what stands in the file before the mapping.
pub fn encode(header: &Header) -> String {
    let v1 = V1 {
        version: VERSION,
        number: header.number,
        time: format_time(header.time),
        who: header.who.clone(),
        command: header.command,
        sources: header.sources.clone(),
        message: header.message.clone(),
        parent: header.parent,
        restores: header.restores,
        back: header.back,
        trial_until: header.trial_until.map(format_time),
        outcome: header.outcome,
        mapping_bytes: header.mapping_bytes,
        mapping_check: format_check(header.mapping_crc32),
    };
    let yaml = serde_yaml::to_string(&v1).expect("strings and numbers can be written as YAML");
    let mut text = format!("{TITLE}{yaml}");
    let check = format_check(crc32fast::hash(text.as_bytes()));
    text.push_str(&format!("{HEADER_CHECK}{check}\n---\n"));
    text
}

/// Whether `head`, the first lines of a file, ends with the line that ends a header.
pub fn is_whole(head: &[u8]) -> bool {
    head.strip_suffix(END).is_some_and(|rest| rest.ends_with(b"\n"))
}

/// Reads what [`encode`] wrote, or an older portmap: all before the mapping.
pub fn decode(head: &[u8]) -> Result<Header, Flaw> {
    let cut = || damaged("the header has no end: the file is cut off, or not portmap's");
    let head = head.strip_suffix(END).filter(|_| is_whole(head)).ok_or_else(cut)?;
    let text = str::from_utf8(head).map_err(|_| damaged("the header is not text"))?;
    let yaml = |e: serde_yaml::Error| damaged(format!("the header: {e}"));

    // The version is read first, and leniently: all else may mean something else in another.
    match serde_yaml::from_str(text).map_err(yaml)? {
        Version { version: 0 } => v0(serde_yaml::from_str(text).map_err(yaml)?),
        Version { version: 1 } => {
            let start = text.trim_end_matches('\n').rfind('\n').map_or(0, |newline| newline + 1);
            let (checked, last) = text.split_at(start);
            let check = last.strip_prefix(HEADER_CHECK).and_then(|l| l.strip_suffix('\n'));
            let check = check.ok_or_else(|| damaged("the header's checksum is missing"))?;
            if parse_check(check)? != crc32fast::hash(checked.as_bytes()) {
                return Err(damaged("the header does not fit its checksum"));
            }
            v1(serde_yaml::from_str(checked).map_err(yaml)?)
        }
        Version { version } => Err(Flaw::Newer(version)),
    }
}

fn v1(v1: V1) -> Result<Header, Flaw> {
    Ok(Header {
        number: v1.number,
        time: parse_time(&v1.time)?,
        who: v1.who,
        command: v1.command,
        sources: v1.sources,
        message: v1.message,
        parent: v1.parent,
        restores: v1.restores,
        back: v1.back,
        trial_until: v1.trial_until.as_deref().map(parse_time).transpose()?,
        outcome: v1.outcome,
        mapping_bytes: v1.mapping_bytes,
        mapping_crc32: parse_check(&v1.mapping_check)?,
    })
}

fn v0(v0: V0) -> Result<Header, Flaw> {
    Ok(Header {
        number: v0.number,
        time: parse_time(&v0.time)?,
        who: None,
        command: Command::Apply,
        sources: Vec::new(),
        message: None,
        parent: None,
        restores: None,
        back: None,
        trial_until: None,
        outcome: v0.outcome,
        mapping_bytes: v0.mapping_bytes,
        mapping_crc32: parse_check(&v0.mapping_check)?,
    })
}

/// The mapping, if it is the one that `header` was written with.
pub fn check_mapping(header: &Header, text: Vec<u8>) -> Result<String, Flaw> {
    if text.len() as u64 != header.mapping_bytes {
        let (is, was) = (text.len(), header.mapping_bytes);
        return Err(damaged(format!("the mapping has {is} bytes, {was} were written")));
    }
    if crc32fast::hash(&text) != header.mapping_crc32 {
        return Err(damaged("the mapping does not fit its checksum"));
    }
    String::from_utf8(text).map_err(|_| damaged("the mapping is not text"))
}

const BOOT_TITLE: &str = "# What `portmap restore` puts back at boot, see `portmap persist`.\n";

/// The text of the pointer to the generation that boot restores.
pub fn encode_boot(number: u64) -> String {
    let text = format!("{BOOT_TITLE}version: {VERSION}\ngeneration: {number}\n");
    let check = format_check(crc32fast::hash(text.as_bytes()));
    format!("{text}check: {check}\n")
}

/// Reads what [`encode_boot`] wrote.
pub fn decode_boot(text: &[u8]) -> Result<u64, Flaw> {
    #[derive(Deserialize)]
    struct Boot {
        generation: u64,
    }
    let text = str::from_utf8(text).map_err(|_| damaged("it is not text"))?;
    let yaml = |e: serde_yaml::Error| damaged(e.to_string());
    let Version { version } = serde_yaml::from_str(text).map_err(yaml)?;
    if version > VERSION {
        return Err(Flaw::Newer(version));
    }
    let Boot { generation } = serde_yaml::from_str(text).map_err(yaml)?;
    // So short that the check is to write it again.
    if encode_boot(generation) == text {
        Ok(generation)
    } else {
        Err(damaged("it does not fit its checksum"))
    }
}

#[cfg(test)]
mod tests;
