//! Generations on disk: the history, its lock, and what a killed process leaves behind.
//!
//! The kernel is the truth about what is active, this is the record. A change goes
//! [`Journal::lock`], read the kernel, [`Locked::mend`], [`Locked::begin`], commit,
//! [`Locked::finish`], [`Locked::prune`]. Whatever happens in between, the next [`Locked::mend`]
//! finds an open generation and learns from the stamp in the kernel how it ended.
//!
//! Reading needs no lock: a file is replaced whole or not at all. What cannot be read is an
//! error with the file's name; it is never taken for absent.
//!
//! The mapping is a text to this room, and the empty text is the empty mapping. The format is
//! described in `docs/state.md`.

#![forbid(unsafe_code)]

mod decide;
mod error;
mod lock;
mod record;
mod store;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub use decide::{
    Mend, Nowhere, Seen, Trial, active, last_served, prunable, recover, rollback_target,
};
pub use error::{Error, Holder};
pub use record::{Command, HEADER_MAX, Header, MAPPING_MAX, Outcome, VERSION, Who};

use lock::Lock;
use store::Opened;

/// Where the state is kept unless `--state-dir` says otherwise.
pub const STATE_DIR: &str = "/var/lib/portmap";

/// How many generations [`Locked::prune`] is asked to keep.
pub const KEEP: usize = 50;

/// A state directory, which may not exist yet.
#[derive(Clone, Debug)]
pub struct Journal {
    dir: PathBuf,
}

/// One file of the history.
#[derive(Debug)]
pub struct Entry {
    /// From the name of the file.
    pub number: u64,
    pub header: Result<Header, Error>,
}

/// A generation to be made.
#[derive(Clone, Debug)]
pub struct Draft {
    pub who: Option<Who>,
    pub command: Command,
    pub sources: Vec<String>,
    pub message: Option<String>,
    /// What [`active`] says.
    pub parent: Option<u64>,
    /// The generation whose mapping it repeats; 0 for the empty one.
    pub restores: Option<u64>,
    pub trial_until: Option<SystemTime>,
}

impl Journal {
    /// Touches nothing yet.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn generations(&self) -> PathBuf {
        self.dir.join("generations")
    }

    fn file(&self, number: u64) -> PathBuf {
        self.generations().join(format!("{number:06}.yaml"))
    }

    fn boot_file(&self) -> PathBuf {
        self.dir.join("boot")
    }

    /// Both directories are there and to be trusted; [`Error::Absent`] if not there.
    fn check(&self) -> Result<(), Error> {
        store::check_dir(&self.dir)?;
        store::check_dir(&self.generations())
    }

    /// The numbers of all generations that have a file, readable or not.
    pub fn numbers(&self) -> Result<BTreeSet<u64>, Error> {
        self.check()?;
        Ok(store::names(&self.generations())?.iter().filter_map(|name| number_of(name)).collect())
    }

    /// All generations, the oldest first. One that cannot be read does not hide the others.
    /// Mappings are not read, and not checked.
    pub fn list(&self) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        for number in self.numbers()? {
            let header = match Opened::open(&self.file(number), number) {
                Ok(Some(opened)) => Ok(opened.header),
                // Pruned since we looked.
                Ok(None) => continue,
                Err(e) => Err(e),
            };
            entries.push(Entry { number, header });
        }
        Ok(entries)
    }

    /// One generation without its mapping, which is not checked.
    pub fn header(&self, number: u64) -> Result<Header, Error> {
        Ok(self.open(number)?.header)
    }

    /// Whether this generation can be read, and was written down with this mapping.
    pub fn holds(&self, number: u64, mapping: &str) -> bool {
        self.header(number).is_ok_and(|header| {
            header.mapping_bytes == mapping.len() as u64
                && header.mapping_crc32 == crc32fast::hash(mapping.as_bytes())
        })
    }

    /// One generation with its mapping, as `apply` accepts it; empty text for the empty mapping.
    pub fn read(&self, number: u64) -> Result<(Header, String), Error> {
        self.open(number)?.mapping()
    }

    fn open(&self, number: u64) -> Result<Opened, Error> {
        self.check()?;
        let path = self.file(number);
        Opened::open(&path, number)?.ok_or(Error::Missing { number, path })
    }

    /// The generation that boot restores; `None` if nothing is persisted.
    pub fn boot(&self) -> Result<Option<u64>, Error> {
        store::check_dir(&self.dir)?;
        store::read_boot(&self.boot_file())
    }

    /// Makes the directory if it is missing, takes the lock, and removes what a killed writer
    /// left half written.
    pub fn lock(&self, wait: Duration) -> Result<Locked, Error> {
        store::make_dir(&self.dir)?;
        store::check_dir(&self.dir)?;
        let lock = Lock::take(&self.dir.join("lock"), wait)?;
        store::make_dir(&self.generations())?;
        self.check()?;
        for dir in [&self.dir, &self.generations()] {
            match store::sweep(dir) {
                // What changes only the kernel goes on.
                Err(Error::Io { source, .. }) if source.kind() == ErrorKind::ReadOnlyFilesystem => {
                }
                result => result?,
            }
        }
        Ok(Locked { journal: self.clone(), _lock: lock })
    }
}

/// The number in the name of a generation's file. Not every spelling that parses is ours.
fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".yaml")?.parse().ok().filter(|&number| number > 0)?;
    (format!("{number:06}.yaml") == name).then_some(number)
}

/// A journal that nobody else changes while this value lives.
#[derive(Debug)]
pub struct Locked {
    journal: Journal,
    _lock: Lock,
}

impl std::ops::Deref for Locked {
    type Target = Journal;

    fn deref(&self) -> &Journal {
        &self.journal
    }
}

impl Locked {
    /// Writes down a generation as an intent, before the commit to the kernel. `kernel` is the
    /// generation that the kernel's stamp names, if any: a number is never used twice, even if
    /// the history was lost.
    pub fn begin(&self, draft: Draft, mapping: &str, kernel: Option<u64>) -> Result<Header, Error> {
        let number = self.next(kernel)?;
        let (restores, back) = match draft.restores {
            None => (None, self.back_from(draft.parent)?),
            Some(0) => (Some(0), None),
            Some(restored) => {
                let header = self.open(restored)?.header;
                (Some(header.restores.unwrap_or(restored)), header.back)
            }
        };
        let header = Header {
            number,
            time: record::whole_seconds(SystemTime::now()),
            who: draft.who,
            command: draft.command,
            sources: draft.sources,
            message: draft.message,
            parent: draft.parent,
            restores,
            back,
            trial_until: draft.trial_until.map(record::whole_seconds),
            outcome: Outcome::Intent,
            mapping_bytes: mapping.len() as u64,
            mapping_crc32: crc32fast::hash(mapping.as_bytes()),
        };
        self.write(&header, mapping.as_bytes())?;
        Ok(header)
    }

    /// Where a rollback from a new mapping leads: to what was active before. Where that is
    /// nothing, because of a reboot or of somebody's flush, to what served last.
    fn back_from(&self, parent: Option<u64>) -> Result<Option<u64>, Error> {
        if parent != Some(0) {
            return Ok(parent);
        }
        Ok(Some(decide::last_served(readable(&self.list()?)).unwrap_or(0)))
    }

    fn next(&self, kernel: Option<u64>) -> Result<u64, Error> {
        let newest = self.numbers()?.last().copied();
        // A pointer that cannot be read keeps nobody from working; `persist` reports it.
        let boot = self.boot().ok().flatten();
        let highest = newest.max(boot).max(kernel).unwrap_or(0);
        highest.checked_add(1).ok_or_else(|| Error::Exhausted { path: self.generations() })
    }

    fn write(&self, header: &Header, mapping: &[u8]) -> Result<(), Error> {
        let path = self.file(header.number);
        let head = record::encode(header);
        for (bytes, limit) in [(head.len(), HEADER_MAX), (mapping.len(), MAPPING_MAX)] {
            let bytes = bytes as u64;
            if bytes > limit {
                return Err(Error::TooLarge { path, bytes, limit });
            }
        }
        store::replace(&path, &[head.as_bytes(), mapping])
    }

    /// Writes down how a generation ended, or that it is on trial now.
    pub fn finish(&self, number: u64, outcome: Outcome) -> Result<(), Error> {
        // A damaged mapping keeps its checksum, and is noticed by who needs it: not a reason to
        // keep every later command from going on.
        let (mut header, mapping) = self.open(number)?.unchecked()?;
        if header.outcome == outcome {
            return Ok(());
        }
        header.outcome = outcome;
        self.write(&header, &mapping)
    }

    /// Ends what killed processes left open, by what the kernel says. What cannot be read is
    /// left alone.
    pub fn mend(&self, seen: Seen) -> Result<Vec<Mend>, Error> {
        let entries = self.list()?;
        let mends = recover(readable(&entries), seen);
        for mend in &mends {
            self.finish(mend.number, mend.to)?;
        }
        Ok(mends)
    }

    /// Makes boot restore `number`, which must be a readable generation.
    pub fn set_boot(&self, number: u64) -> Result<(), Error> {
        self.read(number)?;
        store::replace(&self.boot_file(), &[record::encode_boot(number).as_bytes()])
    }

    /// Makes boot restore nothing.
    pub fn clear_boot(&self) -> Result<(), Error> {
        store::remove(self.dir(), [self.boot_file()])
    }

    /// Removes old generations, and says which; see [`prunable`]. Nothing if it is not known
    /// which one boot needs. What cannot be read is never removed.
    pub fn prune(&self, keep: usize, active: Option<u64>) -> Result<Vec<u64>, Error> {
        let boot = self.boot()?;
        let entries = self.list()?;
        let surplus = prunable(readable(&entries), keep, active, boot);
        store::remove(&self.generations(), surplus.iter().map(|&number| self.file(number)))?;
        Ok(surplus)
    }
}

/// The headers that can be read, in the order of their numbers.
pub fn readable(entries: &[Entry]) -> impl DoubleEndedIterator<Item = &Header> {
    entries.iter().filter_map(|entry| entry.header.as_ref().ok())
}
