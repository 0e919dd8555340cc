//! Files that are whole or not there: the reading and writing below the history.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use super::error::Error;
use super::header::{self, Flaw, HEADER_MAX, Header, MAPPING_MAX};
use crate::mapping::GenerationId;

const TEMPORARY: &str = ".tmp";

/// What root uses must belong to root, and nobody else may write it. Other users can only read.
fn distrust(owner: u32, mode: u32, euid: u32) -> Option<String> {
    if euid != 0 {
        None
    } else if owner != 0 {
        Some(format!("it belongs to uid {owner}, not to root"))
    } else if mode & 0o022 != 0 {
        Some(format!("others than its owner may write it (mode {:04o})", mode & 0o7777))
    } else {
        None
    }
}

fn trust(path: &Path, meta: &Metadata) -> Result<(), Error> {
    match distrust(meta.uid(), meta.mode(), nix::unistd::geteuid().as_raw()) {
        Some(why) => Err(Error::Untrusted { path: path.to_owned(), why }),
        None => Ok(()),
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

/// Whether the directory exists. If so, it is one that may be used.
pub fn check_dir(path: &Path) -> Result<bool, Error> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => trust(path, &meta).map(|()| true),
        Ok(_) => Err(Error::io("open directory", path)(Errno::ENOTDIR.into())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("open directory", path)(e)),
    }
}

/// Makes a directory that all may read, with those above it, so that it outlives a crash.
pub fn make_dir(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    let failed = || Error::io("create directory", path);
    let parent = parent(path);
    DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(failed())?;
    match DirBuilder::new().mode(0o755).create(path) {
        // Whatever the umask says: status and history are for everybody.
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(failed())?,
        // By another process, or it is something else: that is the error then, as in a loop of
        // links.
        Err(e) if e.kind() == ErrorKind::AlreadyExists && check_dir(path)? => {}
        Err(e) => return Err(failed()(e)),
    }
    sync_dir(parent)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_dir(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::io("sync directory", path))
}

/// Opens a file of ours to read; `None` if there is none.
fn open(path: &Path) -> Result<Option<(File, Metadata)>, Error> {
    let failed = || Error::io("read", path);
    // Without O_NONBLOCK, a FIFO put in its place would hold us up for ever.
    let file = match OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path)
    {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed()(e)),
    };
    let meta = file.metadata().map_err(failed())?;
    if !meta.is_file() {
        let what = "it is not a regular file".into();
        return Err(Error::Damaged { path: path.to_owned(), what });
    }
    trust(path, &meta)?;
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
    pub fn open(path: &Path, number: GenerationId) -> Result<Option<Self>, Error> {
        let Some((file, meta)) = open(path)? else { return Ok(None) };
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
pub fn read_boot(path: &Path) -> Result<Option<GenerationId>, Error> {
    let Some(text) = read_small(path)? else { return Ok(None) };
    header::decode_boot(&text).map(Some).map_err(flawed(path))
}

/// A file of at most 4 KiB; `None` if there is none.
pub fn read_small(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    const LIMIT: u64 = 4096;
    let Some((file, meta)) = open(path)? else { return Ok(None) };
    if meta.len() > LIMIT {
        return Err(Error::TooLarge { path: path.to_owned(), bytes: meta.len(), limit: LIMIT });
    }
    let mut text = Vec::new();
    file.take(LIMIT).read_to_end(&mut text).map_err(Error::io("read", path))?;
    Ok(Some(text))
}

/// Puts `parts` at `path`, all or nothing, and on the disk before it returns. Only under the
/// lock: the temporary file has one name.
///
/// If only the last step fails, the sync of the directory, the new content is in place but may
/// not outlive a power cut.
pub fn replace(path: &Path, parts: &[&[u8]]) -> Result<(), Error> {
    let temporary = temporary(path);
    let result = write(&temporary, parts)
        .and_then(|()| fs::rename(&temporary, path).map_err(Error::io("replace", path)));
    if result.is_err() {
        // It may be what fills the disk. If this fails too, the next writer sweeps.
        let _ = fs::remove_file(&temporary);
    }
    result?;
    sync_dir(parent(path))
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY);
    name.into()
}

fn write(path: &Path, parts: &[&[u8]]) -> Result<(), Error> {
    let failed = || Error::io("write", path);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o644).open(path).map_err(failed())?;
    file.set_permissions(Permissions::from_mode(0o644)).map_err(failed())?;
    for part in parts {
        file.write_all(part).map_err(failed())?;
    }
    file.sync_all().map_err(Error::io("sync", path))
}

/// Removes files, those that are gone already too, and makes that last.
pub fn remove(dir: &Path, files: impl IntoIterator<Item = PathBuf>) -> Result<(), Error> {
    let mut any = false;
    for path in files {
        match fs::remove_file(&path) {
            Ok(()) => any = true,
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("remove", &path)(e)),
        }
    }
    if any { sync_dir(dir) } else { Ok(()) }
}

/// The names in a directory, those that are not text left out: they are not ours.
pub fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let read = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    };
    read().map_err(Error::io("list", dir))
}

/// Whether a file of this name is on its way to be another.
pub fn is_temporary(name: &str) -> bool {
    name.ends_with(TEMPORARY)
}

/// Removes what a killed writer left half written: the temporary files of those names for which
/// `is_ours` holds. Only under the lock.
pub fn sweep(dir: &Path, is_ours: impl Fn(&str) -> bool) -> Result<(), Error> {
    let names = names(dir)?.into_iter();
    let names = names.filter(|name| name.strip_suffix(TEMPORARY).is_some_and(&is_ours));
    remove(dir, names.map(|name| dir.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_believes_only_what_root_alone_writes() {
        assert_eq!(distrust(0, 0o100644, 0), None);
        assert_eq!(distrust(0, 0o040755, 0), None);
        assert!(distrust(1000, 0o100644, 0).unwrap().contains("uid 1000"));
        assert!(distrust(0, 0o100664, 0).unwrap().contains("0664"));
        assert!(distrust(0, 0o041777, 0).unwrap().contains("1777"));
    }

    #[test]
    fn others_may_look_at_anything() {
        assert_eq!(distrust(1000, 0o100666, 1000), None);
    }
}
