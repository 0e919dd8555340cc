//! Generations on disk: the history, its lock, and what a killed process leaves behind.
//!
//! The kernel is the truth about what is active, this is the record. A change goes
//! [`History::lock`], read the kernel, [`Locked::settle`], [`Locked::begin`], commit,
//! [`Locked::finish`], [`Locked::prune`]. Whatever happens in between, the next [`Locked::settle`]
//! finds an open generation and learns from the stamp in the kernel how it ended.
//!
//! A [`History`] is one value: the files are listed when it is opened, and each is read when it is
//! first asked for, once. Reading needs no lock: a file is replaced whole or not at all. What
//! cannot be read is an error with the file's name; it never counts as absent. A directory that
//! does not exist is a history without generations.
//!
//! The mapping is a text to this room, and the empty text is the empty mapping. The format is
//! described in `docs/state.md`.

#![forbid(unsafe_code)]

mod decide;
mod error;
mod guard;
mod header;
mod lock;
mod owner;
mod store;
mod write;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::host::dir::Dir;
use crate::mapping::GenerationId;

pub use decide::{Nowhere, Seen, Settlement, Stamped, Trial};
pub use error::{Error, Holder};
pub use guard::{Guard, Guarding};
pub use header::{Command, Draft, HEADER_MAX, Header, MAPPING_MAX, Outcome, VERSION};
#[cfg(fuzzing)]
pub use header::{check_mapping, decode, decode_boot, encode, is_whole, seal};
#[cfg(fuzzing)]
pub use lock::{is_ours as is_of_a_lock, moment as moment_of_lock, process as process_of_lock};
#[cfg(fuzzing)]
pub use owner::{decode as decode_namespace, encode as encode_namespace};
pub use write::{KEEP, Locked};

use store::Opened;

/// Where the state is kept unless `--state-dir` says otherwise.
pub const STATE_DIR: &str = "/var/lib/portmap";

/// Whether a directory with these names in it, and no others, is one of generations.
fn are_generations<N: AsRef<OsStr>>(names: &[N]) -> bool {
    let is_ours = |name: &str| number_of(store::of_temporary(name).unwrap_or(name)).is_some();
    let mut texts = names.iter().map(|name| name.as_ref().to_str());
    !names.is_empty() && texts.all(|name| name.is_some_and(is_ours))
}

/// All generations of a state directory, as they were when it was opened.
#[derive(Debug)]
pub struct History {
    files: Files,
    /// `None` in the cell: pruned since the directory was listed.
    generations: BTreeMap<GenerationId, OnceCell<Result<Option<Header>, Error>>>,
    boot: OnceCell<Result<Option<GenerationId>, Error>>,
    /// Whether a killed process has left a file half written.
    has_leftovers: bool,
}

/// A state directory, as far as it is there.
#[derive(Debug)]
struct Files {
    path: PathBuf,
    top: Option<Dir>,
    generations: Option<Dir>,
}

/// The names of the files in it.
const BOOT: &str = "boot";
const GENERATIONS: &str = "generations";
const GUARD: &str = "guard";
const LOCK: &str = "lock";
const QUEUE: &str = "lock.queue";
const NAMESPACE: &str = "namespace";

/// Whether a directory with these names in it, and no others, is one of portmap's. The queue for
/// the lock is the first that is made; `lock` by itself is what many programs have in theirs, dpkg
/// for one.
fn are_ours<N: AsRef<OsStr>>(names: &[N]) -> bool {
    let is_ours = |name: &str| {
        let name = store::of_temporary(name).unwrap_or(name);
        matches!(name, BOOT | GENERATIONS | GUARD | LOCK | QUEUE | NAMESPACE)
    };
    let mut texts = names.iter().map(|name| name.as_ref().to_str());
    texts.clone().all(|name| name.is_some_and(is_ours))
        && texts.any(|name| matches!(name, Some(GENERATIONS | QUEUE)))
}

impl Files {
    fn open(path: PathBuf) -> Result<Self, Error> {
        let top = store::open_dir(&path)?;
        let generations = match &top {
            Some(top) => top.open_dir(GENERATIONS).map_err(store::in_dir(top, GENERATIONS))?,
            None => None,
        };
        Ok(Self { path, top, generations })
    }

    /// Where a generation's file is, or would be.
    fn generation(&self, number: GenerationId) -> PathBuf {
        self.path.join(GENERATIONS).join(file_name(number))
    }

    /// `None` if there is no such file.
    fn open_generation(&self, number: GenerationId) -> Result<Option<Opened>, Error> {
        let Some(dir) = &self.generations else { return Ok(None) };
        Opened::open(dir, number)
    }
}

fn file_name(number: GenerationId) -> String {
    format!("{:06}.yaml", number.get())
}

/// The number in the name of a generation's file. Not every spelling that parses is ours.
fn number_of(name: &str) -> Option<GenerationId> {
    let number = GenerationId::new(name.strip_suffix(".yaml")?.parse().ok()?)?;
    (file_name(number) == name).then_some(number)
}

impl History {
    /// Lists the generations. Their files are read when they are asked for.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, Error> {
        let files = Files::open(dir.into())?;
        let (mut generations, mut has_leftovers) = (BTreeMap::new(), false);
        if let Some(dir) = &files.generations {
            let names = store::names(dir)?;
            let numbers = names.iter().filter_map(|name| number_of(name));
            generations.extend(numbers.map(|number| (number, OnceCell::new())));
            has_leftovers = names.iter().any(|name| store::of_temporary(name).is_some());
        }
        Ok(Self { files, generations, boot: OnceCell::new(), has_leftovers })
    }

    pub fn dir(&self) -> &Path {
        &self.files.path
    }

    /// The numbers of all generations that have a file, readable or not.
    pub fn numbers(&self) -> impl DoubleEndedIterator<Item = GenerationId> + '_ {
        self.generations.keys().copied()
    }

    pub fn contains(&self, number: GenerationId) -> bool {
        self.generations.contains_key(&number)
    }

    /// Whether it is known how this generation ended, and every one that was begun after it: no
    /// killed process has left anything to settle.
    pub fn is_settled(&self, number: GenerationId) -> bool {
        let newer = || self.numbers().rev().take_while(|n| *n >= number);
        let ended = |number| self.header(number).is_some_and(|header| !header.is_open());
        !self.has_leftovers && newer().next().is_some() && newer().all(ended)
    }

    /// One generation without its mapping, which is not checked. `None` if there is no such file.
    pub fn entry(&self, number: GenerationId) -> Option<Result<&Header, &Error>> {
        let cell = self.generations.get(&number)?;
        let read = || {
            let opened = match self.files.open_generation(number) {
                // Once more: a change without knowing a generation loses the way back to it.
                Err(Error::Io { .. }) => self.files.open_generation(number)?,
                first => first?,
            };
            Ok(opened.map(|opened| opened.header))
        };
        cell.get_or_init(read).as_ref().map(Option::as_ref).transpose()
    }

    /// The same; `None` also if it cannot be read.
    pub fn header(&self, number: GenerationId) -> Option<&Header> {
        self.entry(number)?.ok()
    }

    /// All generations, the oldest first. One that cannot be read does not hide the others.
    pub fn entries(
        &self,
    ) -> impl DoubleEndedIterator<Item = (GenerationId, Result<&Header, &Error>)> {
        self.numbers().filter_map(|number| Some((number, self.entry(number)?)))
    }

    /// Those that can be read, the oldest first.
    pub fn headers(&self) -> impl DoubleEndedIterator<Item = &Header> {
        self.entries().filter_map(|(_, entry)| entry.ok())
    }

    /// The mapping of a generation, as `apply` accepts it; empty text for the empty mapping.
    pub fn text(&self, number: GenerationId) -> Result<String, Error> {
        let opened = match self.contains(number) {
            true => self.files.open_generation(number)?,
            false => None,
        };
        let missing = || Error::Missing { number, path: self.files.generation(number) };
        let (_, text) = opened.ok_or_else(missing)?.mapping()?;
        Ok(text)
    }

    /// [`History::boot`], with the error for the caller to keep.
    pub fn into_boot(self) -> Result<Option<GenerationId>, Error> {
        let _ = self.boot();
        self.boot.into_inner().unwrap_or(Ok(None))
    }

    /// The generation that boot restores; `None` if nothing is persisted.
    pub fn boot(&self) -> Result<Option<GenerationId>, &Error> {
        let read = || match &self.files.top {
            Some(top) => store::read_boot(top, BOOT),
            None => Ok(None),
        };
        self.boot.get_or_init(read).as_ref().copied()
    }
}
