//! What is known of a generation beside its mapping, as the text of its file has it (see
//! `docs/state.md`). Pure.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::host::user::Who;
use crate::mapping::{Digest, GenerationId, Point};

/// The format that is written. Every change of it, a new key too, takes the next number.
/// 2: `mapping-hash`.
pub const VERSION: u64 = 2;

/// The format of the boot pointer.
const BOOT_VERSION: u64 = 1;

/// The bytes of a header that are read in search of its end.
pub const HEADER_MAX: u64 = 1 << 20;

/// The bytes of a mapping: more than ten times what 60,000 mappings take.
pub const MAPPING_MAX: u64 = 32 << 20;

const TITLE: &str =
    "# A generation of portmap, see `portmap show`. An edit would count as damage.\n";
const END: &[u8] = b"---\n";
const HEADER_CHECK: &str = "header-check: ";

/// All that is known of a generation but the mapping itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Header {
    pub(super) version: u64,
    pub number: GenerationId,
    /// When it was begun, in whole seconds.
    #[serde(with = "rfc3339")]
    pub time: SystemTime,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub who: Option<Who>,
    pub command: Command,
    /// The files that the mapping was read from, as they were named.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub sources: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// What was active before; `None` if that is not in the history.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<Point>,
    /// What this generation repeats the mapping of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub restores: Option<Point>,
    /// Where a rollback from here leads: the parent, but for a generation that repeats another,
    /// that one's. `None` if there is nowhere to go or it is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub back: Option<Point>,
    /// When the trial is, or was, to end, if it began as one.
    #[serde(skip_serializing_if = "Option::is_none", default, with = "rfc3339::option")]
    pub trial_until: Option<SystemTime>,
    pub outcome: Outcome,
    pub mapping_bytes: u64,
    /// CRC-32 (IEEE 802.3) of the mapping's text.
    #[serde(with = "crc32", rename = "mapping-check")]
    pub mapping_crc32: u32,
    /// Equal for equal mappings, whoever made them and where; `None` if version 1 wrote it.
    #[serde(skip_serializing_if = "Option::is_none", default, with = "blake2b")]
    pub mapping_hash: Option<Digest>,
}

/// What a change says of itself, before it has a number.
#[derive(Clone, Debug)]
pub struct Draft {
    pub who: Option<Who>,
    pub command: Command,
    pub sources: Vec<String>,
    pub message: Option<String>,
    /// What was active before.
    pub parent: Option<Point>,
    /// What it repeats the mapping of.
    pub restores: Option<Point>,
    pub trial_until: Option<SystemTime>,
}

impl Header {
    /// The intent to make `mapping` active.
    pub(super) fn intent(
        number: GenerationId,
        draft: Draft,
        restores: Option<Point>,
        back: Option<Point>,
        mapping: &str,
    ) -> Self {
        Self {
            version: VERSION,
            number,
            time: whole_seconds(SystemTime::now()),
            who: draft.who,
            command: draft.command,
            sources: draft.sources,
            message: draft.message,
            parent: draft.parent,
            restores,
            back,
            trial_until: draft.trial_until.map(whole_seconds),
            outcome: Outcome::Intent,
            mapping_bytes: mapping.len() as u64,
            mapping_crc32: crc32fast::hash(mapping.as_bytes()),
            mapping_hash: Some(Digest::of([mapping.as_bytes()])),
        }
    }

    /// Whether this is the empty mapping (of `clear`, or of a rollback to the beginning).
    pub const fn is_empty(&self) -> bool {
        self.mapping_bytes == 0
    }

    /// Whether it is still to be decided how it ends.
    pub const fn is_open(&self) -> bool {
        matches!(self.outcome, Outcome::Intent | Outcome::Trial)
    }

    /// Whether it was written with this mapping.
    pub fn holds(&self, mapping: &str) -> bool {
        self.mapping_bytes == mapping.len() as u64
            && self.mapping_crc32 == crc32fast::hash(mapping.as_bytes())
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

/// Why a text is not a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    Damaged(String),
    Newer(u64),
}

pub(super) fn damaged(what: impl Into<String>) -> Flaw {
    Flaw::Damaged(what.into())
}

/// The text of the header, with the line that ends it: what comes before the mapping in the file.
pub fn encode(header: &Header) -> String {
    let yaml = serde_yaml::to_string(header).expect("strings and numbers can be written as YAML");
    seal(format!("{TITLE}{yaml}"))
}

/// Ends a header: its checksum, and the line that divides it from the mapping.
pub fn seal(mut text: String) -> String {
    let check = crc32::format(crc32fast::hash(text.as_bytes()));
    text.push_str(&format!("{HEADER_CHECK}{check}\n---\n"));
    text
}

/// Whether `head`, the first lines of a file, ends with the line that ends a header.
pub fn is_whole(head: &[u8]) -> bool {
    head.strip_suffix(END).is_some_and(|rest| rest.ends_with(b"\n"))
}

/// Reads what [`encode`] wrote: all before the mapping.
pub fn decode(head: &[u8]) -> Result<Header, Flaw> {
    let cut = || damaged("the header has no end: the file is cut off, or not portmap's");
    let head = head.strip_suffix(END).filter(|_| is_whole(head)).ok_or_else(cut)?;
    let text = std::str::from_utf8(head).map_err(|_| damaged("the header is not text"))?;

    // Before all else: everything else may mean something else in another version.
    let version = version(text).ok_or_else(|| damaged("the header names no version"))?;
    if version > VERSION {
        return Err(Flaw::Newer(version));
    }
    let start = text.trim_end_matches('\n').rfind('\n').map_or(0, |newline| newline + 1);
    let (checked, last) = text.split_at(start);
    let check = last.strip_prefix(HEADER_CHECK).and_then(|l| l.strip_suffix('\n'));
    let check = check.ok_or_else(|| damaged("the header's checksum is missing"))?;
    let check = crc32::parse(check).ok_or_else(|| damaged(format!("{check:?} is no checksum")))?;
    if check != crc32fast::hash(checked.as_bytes()) {
        return Err(damaged("the header does not match its checksum"));
    }
    serde_yaml::from_str(checked).map_err(|e| damaged(format!("the header: {e}")))
}

/// The number in the line `version: 1`.
fn version(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("version:")).and_then(|n| n.trim().parse().ok())
}

/// The mapping, if it is the one that `header` was written with.
pub fn check_mapping(header: &Header, text: Vec<u8>) -> Result<String, Flaw> {
    if text.len() as u64 != header.mapping_bytes {
        let (is, was) = (text.len(), header.mapping_bytes);
        return Err(damaged(format!("the mapping has {is} bytes, {was} were written")));
    }
    if crc32fast::hash(&text) != header.mapping_crc32 {
        return Err(damaged("the mapping does not match its checksum"));
    }
    if header.mapping_hash.is_some_and(|hash| hash != Digest::of([&text[..]])) {
        return Err(damaged("the mapping does not match its hash"));
    }
    String::from_utf8(text).map_err(|_| damaged("the mapping is not text"))
}

const BOOT_TITLE: &str = "# What `portmap restore` puts back at boot, see `portmap persist`.\n";

/// The text of the pointer to the generation that boot restores.
pub fn encode_boot(number: GenerationId) -> String {
    let text = format!("{BOOT_TITLE}version: {BOOT_VERSION}\ngeneration: {number}\n");
    let check = crc32::format(crc32fast::hash(text.as_bytes()));
    format!("{text}check: {check}\n")
}

/// Reads what [`encode_boot`] wrote.
pub fn decode_boot(text: &[u8]) -> Result<GenerationId, Flaw> {
    #[derive(Deserialize)]
    struct Boot {
        generation: GenerationId,
    }
    let text = std::str::from_utf8(text).map_err(|_| damaged("it is not text"))?;
    let version = version(text).ok_or_else(|| damaged("it names no version"))?;
    if version > BOOT_VERSION {
        return Err(Flaw::Newer(version));
    }
    let Boot { generation } = serde_yaml::from_str(text).map_err(|e| damaged(e.to_string()))?;
    // So short that the check is to write it again.
    if encode_boot(generation) == text {
        Ok(generation)
    } else {
        Err(damaged("it does not match its checksum"))
    }
}

/// Times are kept in whole seconds, from 1970 to 9999: what RFC 3339 can write.
fn whole_seconds(time: SystemTime) -> SystemTime {
    const LAST: u64 = 253_402_300_799; // 9999-12-31T23:59:59Z
    let since = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.min(LAST))
}

/// Times as RFC 3339 writes them, in UTC.
mod rfc3339 {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        let time = super::whole_seconds(*time);
        to.collect_str(&humantime::format_rfc3339_seconds(time))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_rfc3339(&text).map_err(|e| D::Error::custom(format!("time {text:?}: {e}")))
    }

    pub mod option {
        use super::*;

        pub fn serialize<S: Serializer>(
            time: &Option<SystemTime>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, to),
                None => to.serialize_none(),
            }
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<SystemTime>, D::Error> {
            super::deserialize(from).map(Some)
        }
    }
}

/// Hashes as `blake2b 1f00c2d3e4f5a6b78091a2b3c4d5e6f7`.
mod blake2b {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::mapping::Digest;

    pub fn serialize<S: Serializer>(hash: &Option<Digest>, to: S) -> Result<S::Ok, S::Error> {
        match hash {
            Some(hash) => to.collect_str(&format_args!("blake2b {hash}")),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Digest>, D::Error> {
        let text = String::deserialize(from)?;
        let hash = text.strip_prefix("blake2b ").and_then(|hash| hash.parse().ok());
        hash.map(Some).ok_or_else(|| D::Error::custom(format!("{text:?} is no hash")))
    }
}

/// Checksums as `crc32 51e5a18d`, and in no other spelling.
mod crc32 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn format(crc: u32) -> String {
        format!("crc32 {crc:08x}")
    }

    pub fn parse(text: &str) -> Option<u32> {
        let crc = u32::from_str_radix(text.strip_prefix("crc32 ")?, 16).ok()?;
        (format(crc) == text).then_some(crc)
    }

    pub fn serialize<S: Serializer>(crc: &u32, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format(*crc))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        let text = String::deserialize(from)?;
        parse(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no checksum")))
    }
}

#[cfg(test)]
mod tests;
