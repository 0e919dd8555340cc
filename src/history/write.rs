//! A history that nobody else changes, and the changes to it.

use std::cell::OnceCell;
use std::io::ErrorKind;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use super::decide::{Seen, Settlement};
use super::error::Error;
use super::header::{self, Draft, HEADER_MAX, Header, MAPPING_MAX, Outcome};
use super::lock::{Deadline, Lock};
use super::store::{self, Opened};
use super::{
    BOOT, GENERATIONS, History, NAMESPACE, are_generations, are_ours, file_name, number_of, owner,
};
use crate::host::dir::Dir;
use crate::mapping::{GenerationId, Point};

/// How many generations [`Locked::prune`] keeps.
pub const KEEP: usize = 50;

/// A history that nobody else changes while this value lives.
#[derive(Debug)]
pub struct Locked {
    history: History,
    top: Dir,
    generations: Dir,
    _lock: Lock,
}

impl Deref for Locked {
    type Target = History;

    fn deref(&self) -> &History {
        &self.history
    }
}

impl History {
    /// Makes the directory if it is missing, takes the lock, removes what a killed writer left half
    /// written, and lists the generations.
    pub fn lock(dir: impl Into<PathBuf>, wait: Duration) -> Result<Locked, Error> {
        let path = dir.into();
        let until = Deadline::after(wait);
        let (top, lock) = loop {
            let top = store::make_dir(&path)?;
            check_recognised(&top)?;
            // Where the directory was removed and made again meanwhile, it is another lock.
            let Some(lock) = Lock::take(&top, until)? else { continue };
            if top.is_at_its_path().map_err(store::found("open directory", &path))? {
                break (top, lock);
            }
        };
        owner::claim(&top)?;
        let generations = top.make_dir(GENERATIONS).map_err(store::in_dir(&top, GENERATIONS))?;
        for dir in [&top, &generations] {
            match store::sweep(dir, is_written_by_us) {
                // What changes only the kernel goes on.
                Err(Error::Io { source, .. }) if source.kind() == ErrorKind::ReadOnlyFilesystem => {
                }
                result => result?,
            }
        }
        let history = History::open(path)?;
        Ok(Locked { history, top, generations, _lock: lock })
    }
}

/// The names of the files that are written by way of a temporary one.
fn is_written_by_us(name: &str) -> bool {
    matches!(name, BOOT | NAMESPACE) || number_of(name).is_some()
}

/// A directory that holds something else is not taken over: `--state-dir /etc` is a mistake. Beside
/// files of others, a name that portmap uses too is no sign: only what it has written is.
fn check_recognised(top: &Dir) -> Result<(), Error> {
    let mut names = top.names().map_err(Error::io("list", top.path()))?;
    // On a disk of its own mke2fs(8) has put it there, and it says nothing.
    names.retain(|name| name != "lost+found");
    let has_written = || {
        let has_boot = matches!(store::read_boot(top, BOOT), Ok(Some(_)));
        Ok::<_, Error>(has_boot || owner::is_known(top) || has_generations(top)?)
    };
    if names.is_empty() || are_ours(&names) || has_written()? {
        Ok(())
    } else {
        let what = "it has files of others, and none that portmap has written".into();
        Err(Error::NotOurs { path: top.path().to_owned(), what })
    }
}

/// Whether there are nothing but generations, or one that can be read, if only by a newer portmap.
fn has_generations(top: &Dir) -> Result<bool, Error> {
    let dir = top.open_dir(GENERATIONS).map_err(store::in_dir(top, GENERATIONS))?;
    let Some(dir) = dir else { return Ok(false) };
    let names = dir.names().map_err(Error::io("list", dir.path()))?;
    let is_readable =
        |number| matches!(Opened::open(&dir, number), Ok(Some(_)) | Err(Error::Newer { .. }));
    let mut numbers = names.iter().filter_map(|name| number_of(name.to_str()?));
    Ok(are_generations(&names) || numbers.any(is_readable))
}

impl Locked {
    pub(super) fn top(&self) -> &Dir {
        &self.top
    }

    /// Writes down a generation as an intent, before the commit to the kernel. `kernel` is the
    /// generation that the kernel's stamp names, if any: a number is never used twice, even if
    /// the history was lost.
    pub fn begin(
        &mut self,
        draft: Draft,
        mapping: &str,
        kernel: Option<GenerationId>,
    ) -> Result<GenerationId, Error> {
        let number = self.next_number(kernel)?;
        let (restores, back) = match draft.restores {
            None => (None, self.back_from(draft.parent)),
            Some(Point::Beginning) => (Some(Point::Beginning), None),
            Some(Point::Generation(restored)) => {
                let header = self.header_of(restored)?;
                (Some(header.restores.unwrap_or(restored.into())), header.back)
            }
        };
        let header = Header::intent(number, draft, restores, back, mapping);
        self.write(header, mapping.as_bytes())?;
        Ok(number)
    }

    /// Where a rollback from a new mapping leads: to what was active before. Where that is
    /// nothing, because of a reboot or of somebody's flush, to what served last.
    fn back_from(&self, parent: Option<Point>) -> Option<Point> {
        match parent {
            Some(Point::Beginning) => {
                Some(self.last_served().map_or(Point::Beginning, Point::Generation))
            }
            other => other,
        }
    }

    fn next_number(&self, kernel: Option<GenerationId>) -> Result<GenerationId, Error> {
        // A pointer that cannot be read prevents nothing; `persist` reports it.
        let known = self.numbers().next_back().max(self.boot().ok().flatten());
        let exhausted = || Error::Exhausted { path: self.generations.path().to_owned() };
        match (known.max(kernel), known) {
            (None, _) => Ok(GenerationId::FIRST),
            (Some(highest), known) => match (highest.successor(), known) {
                (Some(next), _) => Ok(next),
                // No history ever gave that number to the kernel's table: somebody made it up.
                (None, Some(known)) => known.successor().ok_or_else(exhausted),
                (None, None) => Ok(GenerationId::FIRST),
            },
        }
    }

    /// The file's header, with the error if it cannot be read.
    fn header_of(&self, number: GenerationId) -> Result<Header, Error> {
        Ok(self.open_file(number)?.header)
    }

    fn open_file(&self, number: GenerationId) -> Result<Opened, Error> {
        let missing = || Error::Missing { number, path: self.files.generation(number) };
        Opened::open(&self.generations, number)?.ok_or_else(missing)
    }

    fn write(&mut self, header: Header, mapping: &[u8]) -> Result<(), Error> {
        let head = header::encode(&header);
        for (bytes, limit) in [(head.len(), HEADER_MAX), (mapping.len(), MAPPING_MAX)] {
            let bytes = bytes as u64;
            if bytes > limit {
                let path = self.files.generation(header.number);
                return Err(Error::TooLarge { path, bytes, limit });
            }
        }
        store::replace(&self.generations, &file_name(header.number), &[head.as_bytes(), mapping])?;
        self.history.generations.insert(header.number, OnceCell::from(Ok(Some(header))));
        Ok(())
    }

    /// Writes down how a generation ended, or that it is on trial now.
    pub fn finish(&mut self, number: GenerationId, outcome: Outcome) -> Result<(), Error> {
        if self.header(number).is_some_and(|header| header.outcome == outcome) {
            return Ok(());
        }
        // A damaged mapping keeps its checksum, and is noticed when it is needed: no reason to
        // keep every later command from going on.
        let (mut header, mapping) = self.open_file(number)?.unchecked()?;
        header.outcome = outcome;
        self.write(header, &mapping)
    }

    /// Writes down how generations ended that killed processes left open, as the kernel knows.
    /// What cannot be read is left alone.
    pub fn settle(&mut self, seen: Seen) -> Result<Vec<Settlement>, Error> {
        let settlements = self.settlements(seen);
        for settlement in &settlements {
            self.finish(settlement.number, settlement.to)?;
        }
        Ok(settlements)
    }

    /// Makes boot restore `number`, which must be a readable generation.
    pub fn set_boot(&mut self, number: GenerationId) -> Result<(), Error> {
        self.text(number)?;
        store::replace(&self.top, BOOT, &[header::encode_boot(number).as_bytes()])?;
        self.history.boot = OnceCell::from(Ok(Some(number)));
        Ok(())
    }

    /// Makes boot restore nothing.
    pub fn clear_boot(&mut self) -> Result<(), Error> {
        store::remove(&self.top, [BOOT.to_owned()])?;
        self.history.boot = OnceCell::from(Ok(None));
        Ok(())
    }

    /// Removes old generations; see [`History::prunable`]. Nothing if it is not known which one
    /// boot needs. What cannot be read is never removed.
    pub fn prune(&mut self, active: Option<Point>) -> Result<(), Error> {
        let Ok(boot) = self.boot() else { return Ok(()) };
        let surplus = self.prunable(KEEP, active, boot);
        let files = surplus.iter().map(|number| file_name(*number));
        store::remove(&self.generations, files)?;
        self.history.generations.retain(|number, _| !surplus.contains(number));
        Ok(())
    }
}
