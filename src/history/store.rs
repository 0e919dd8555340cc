//! Files that are whole or not there: the reading and writing below the history.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::error::Error;
use super::file_name;
use super::header::{self, Flaw, HEADER_MAX, Header, MAPPING_MAX};
use crate::host::dir::Dir;
use crate::host::path;
use crate::host::trust::Caller;
use crate::mapping::GenerationId;

const TEMPORARY: &str = ".tmp";

/// What root uses must be root's own, and nobody else may write it. Other users can only read.
fn caller() -> Caller {
    Caller::current().alone()
}

/// The state directory, if there is one.
pub fn open_dir(path: &Path) -> Result<Option<Dir>, Error> {
    Dir::open(path, caller()).map_err(found("open directory", path))
}

/// Makes the state directory, with those above it, so that it outlives a crash.
pub fn make_dir(path: &Path) -> Result<Dir, Error> {
    Dir::make(path, caller()).map_err(found("create directory", path))
}

/// What went wrong on the way to a directory in the state directory.
pub fn in_dir(top: &Dir, name: &str) -> impl FnOnce(path::Error) -> Error + use<> {
    let path = top.path().join(name);
    move |e| found("open directory", &path)(e)
}

/// What went wrong on the way to `path`.
pub fn found(doing: &'static str, path: &Path) -> impl FnOnce(path::Error) -> Error {
    move |e| match e {
        path::Error::Io(source) => Error::io(doing, path)(source),
        path::Error::Distrust(distrust) => Error::untrusted(path, &distrust),
    }
}

fn flawed(path: &Path) -> impl FnOnce(Flaw) -> Error {
    move |flaw| {
        let path = path.to_owned();
        match flaw {
            Flaw::Damaged(what) => Error::Damaged { path, what },
            Flaw::Newer(version) => Error::Newer { path, version },
        }
    }
}

/// Opens a file of ours to read; `None` if there is none.
fn open(dir: &Dir, name: &str) -> Result<Option<(File, Metadata)>, Error> {
    let path = dir.path().join(name);
    let Some(file) = dir.file(name).map_err(found("read", &path))? else { return Ok(None) };
    let meta = file.metadata().map_err(Error::io("read", &path))?;
    if !meta.is_file() {
        return Err(Error::Damaged { path, what: "it is not a regular file".into() });
    }
    Ok(Some((file, meta)))
}

/// A generation's file, read up to the mapping.
#[derive(Debug)]
pub struct Opened {
    path: PathBuf,
    rest: BufReader<File>,
    pub header: Header,
}

impl Opened {
    /// `None` if there is no such file. A file of the wrong length is noticed here, the mapping's
    /// content by [`Opened::mapping`].
    pub fn open(dir: &Dir, number: GenerationId) -> Result<Option<Self>, Error> {
        let name = file_name(number);
        let path = &dir.path().join(&name);
        let Some((file, meta)) = open(dir, &name)? else { return Ok(None) };
        let mut rest = BufReader::new(file);
        let mut head = Vec::new();
        while !header::is_whole(&head) && (head.len() as u64) < HEADER_MAX {
            let mut line = (&mut rest).take(HEADER_MAX - head.len() as u64);
            if line.read_until(b'\n', &mut head).map_err(Error::io("read", path))? == 0 {
                break;
            }
        }
        let header = header::decode(&head).map_err(flawed(path))?;
        let damaged = |what| Error::Damaged { path: path.to_owned(), what };
        if header.number != number {
            return Err(damaged(format!("it says it is generation {}", header.number)));
        }
        if header.mapping_bytes > MAPPING_MAX {
            let (bytes, limit) = (header.mapping_bytes, MAPPING_MAX);
            return Err(Error::TooLarge { path: path.to_owned(), bytes, limit });
        }
        let (is, was) = (meta.len(), head.len() as u64 + header.mapping_bytes);
        if is != was {
            return Err(damaged(format!("it has {is} bytes, {was} were written")));
        }
        Ok(Some(Self { path: path.to_owned(), rest, header }))
    }

    pub fn mapping(self) -> Result<(Header, String), Error> {
        let path = self.path.clone();
        let (header, text) = self.unchecked()?;
        let text = header::check_mapping(&header, text).map_err(flawed(&path))?;
        Ok((header, text))
    }

    /// The mapping as it is there, to be written again with another header.
    pub fn unchecked(self) -> Result<(Header, Vec<u8>), Error> {
        let mut text = Vec::new();
        let mut rest = self.rest.take(MAPPING_MAX + 1);
        rest.read_to_end(&mut text).map_err(Error::io("read", &self.path))?;
        Ok((self.header, text))
    }
}

/// The generation that boot restores; `None` if there is no such file.
pub fn read_boot(dir: &Dir, name: &str) -> Result<Option<GenerationId>, Error> {
    let Some(text) = read_small(dir, name)? else { return Ok(None) };
    header::decode_boot(&text).map(Some).map_err(flawed(&dir.path().join(name)))
}

/// A file of at most 4 KiB; `None` if there is none.
pub fn read_small(dir: &Dir, name: &str) -> Result<Option<Vec<u8>>, Error> {
    const LIMIT: u64 = 4096;
    let Some((file, meta)) = open(dir, name)? else { return Ok(None) };
    let path = &dir.path().join(name);
    if meta.len() > LIMIT {
        return Err(Error::TooLarge { path: path.clone(), bytes: meta.len(), limit: LIMIT });
    }
    let mut text = Vec::new();
    file.take(LIMIT).read_to_end(&mut text).map_err(Error::io("read", path))?;
    Ok(Some(text))
}

/// Puts `parts` into the file of this name, all or nothing, and on the disk before it returns. Only
/// under the lock: the temporary file has one name.
///
/// If only the last step fails, the sync of the directory, the new content is in place but may
/// not outlive a power cut.
pub fn replace(dir: &Dir, name: &str, parts: &[&[u8]]) -> Result<(), Error> {
    let temporary = format!("{name}{TEMPORARY}");
    let path = dir.path().join(name);
    let result = write(dir, &temporary, parts)
        .and_then(|()| dir.rename(&temporary, name).map_err(Error::io("replace", &path)));
    if result.is_err() {
        // It may be what fills the disk. If this fails too, the next writer sweeps.
        let _ = dir.remove(&temporary);
    }
    result?;
    sync(dir)
}

fn write(dir: &Dir, name: &str, parts: &[&[u8]]) -> Result<(), Error> {
    let path = &dir.path().join(name);
    let failed = || Error::io("write", path);
    let mut file = dir.create_new(name, 0o644).map_err(failed())?;
    for part in parts {
        file.write_all(part).map_err(failed())?;
    }
    file.sync_all().map_err(Error::io("sync", path))
}

fn sync(dir: &Dir) -> Result<(), Error> {
    dir.sync().map_err(|source| Error::Unsynced { path: dir.path().to_owned(), source })
}

/// Removes files, those that are gone already too, and makes that last.
pub fn remove(dir: &Dir, names: impl IntoIterator<Item = String>) -> Result<(), Error> {
    let mut any = false;
    for name in names {
        any |= dir.remove(&name).map_err(Error::io("remove", &dir.path().join(&name)))?;
    }
    if any { sync(dir) } else { Ok(()) }
}

/// The names in a directory, those that are not text left out: they are not ours.
pub fn names(dir: &Dir) -> Result<Vec<String>, Error> {
    let names = dir.names().map_err(Error::io("list", dir.path()))?;
    Ok(names.into_iter().map(OsString::into_string).filter_map(Result::ok).collect())
}

/// The name that a file of this name is on its way to.
pub fn of_temporary(name: &str) -> Option<&str> {
    name.strip_suffix(TEMPORARY)
}

/// Removes what a killed writer left half written: the temporary files of those names for which
/// `is_ours` holds. Only under the lock.
pub fn sweep(dir: &Dir, is_ours: impl Fn(&str) -> bool) -> Result<(), Error> {
    let names = names(dir)?.into_iter();
    let names = names.filter(|name| of_temporary(name).is_some_and(&is_ours));
    remove(dir, names)
}
