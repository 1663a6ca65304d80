//! Another file in the place of the one that is served, where nobody writes it: a replica's newest state on a read node.
//!
//! The whole of it is one rename, so whoever opens the path finds the old file or the new one, and a server goes over
//! at its next request ([`reader`](super::reader)). What was committed to the old file is gone with it: so a file whose
//! WAL holds anything is not swapped, and neither is one for contents that are older.
//!
//! The -wal and -shm of the old file hold nothing of it then, but tell of its size. They go first, so that nobody takes
//! them for those of the new one while a server still has them open.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use rusqlite::Connection;

use super::backup::{
    Depth, Lone, check_integrity, companions, count, folder, is_same, sync_folder, unfinished,
};
use super::health::is_in_wal_mode;
use super::writer::new_file_mode;
use super::{FileFault, StoreError, heartbeat, schema};
use crate::time::Timestamp;

/// How a file is swapped in.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub depth: Depth,
    /// Whether its contents may be older.
    pub force: bool,
}

/// What has come into the place.
#[derive(Debug)]
pub struct Swapped {
    pub sessions: u64,
    pub heartbeat: Option<Timestamp>,
    pub replaced: Replaced,
}

/// What was there before.
#[derive(Debug)]
pub enum Replaced {
    Nothing,
    File,
    /// A file of ours that can't be read any more, for this reason.
    Unreadable(FileFault),
}

/// Puts the file `new` into the place of the file `path`, which need not exist.
pub fn swap(path: &Path, new: &Path, options: Options) -> Result<Swapped, StoreError> {
    let at_path = |fault: FileFault| fault.at(path);
    let at_new = |fault: FileFault| fault.at(new);
    if is_same(path, new) {
        return Err(at_new(FileFault::Itself));
    }
    // What symbolic links lead to is moved, and they stay what they are.
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let (place, source) = (real(path), real(new));
    let outgoing = Outgoing::open(&place).map_err(at_path)?;
    let incoming = Incoming::open(&source).map_err(at_new)?;
    refuse_elsewhere(&source, &place).map_err(at_new)?;
    if !options.force {
        refuse_older(incoming.heartbeat, outgoing.heartbeat).map_err(at_new)?;
    }
    // It takes longer than all else by far, so what else there is to refuse was refused before.
    let sessions = incoming.check(options.depth).map_err(at_new)?;
    take_over(&source, outgoing.seen.as_ref()).map_err(at_new)?;
    let synced = File::open(&source).and_then(|file| file.sync_all());
    synced.map_err(|error| at_new(error.into()))?;
    if !incoming.file.is_unchanged() {
        return Err(at_new(FileFault::Changed));
    }
    outgoing.refuse_changed(&place).map_err(at_path)?;
    put_in_place(&source, &place).map_err(|fault| match fault {
        FileFault::ElsewhereThan { .. } => at_new(fault),
        fault => at_path(fault),
    })?;
    Ok(Swapped {
        sessions,
        heartbeat: incoming.heartbeat,
        replaced: outgoing.replaced,
    })
}

/// The file that is to come, found to be one of ours that a server can answer from.
struct Incoming {
    file: Lone,
    heartbeat: Option<Timestamp>,
}

impl Incoming {
    fn open(path: &Path) -> Result<Self, FileFault> {
        let file = Lone::open(path)?;
        schema::verify_for_copying(&file.connection)?;
        if !is_in_wal_mode(path)? {
            return Err(FileFault::NotWal {
                found: "that of a rollback journal".to_owned(),
            });
        }
        Ok(Self {
            heartbeat: heartbeat::read(&file.connection)?,
            file,
        })
    }

    /// Looks at every page. Returns how many sessions it has.
    fn check(&self, depth: Depth) -> Result<u64, FileFault> {
        // It goes from each index to its table, all over the file: by a mapping that takes two thirds of the processor
        // time. A file that somebody cuts meanwhile ends this program, with nothing done.
        let connection = &self.file.connection;
        connection.pragma_update(None, "mmap_size", i64::MAX)?;
        check_integrity(connection, depth)?;
        Ok(count(connection, "main")?)
    }
}

/// The file that is to go, as far as there is one.
struct Outgoing {
    seen: Option<Metadata>,
    file: Option<Lone>,
    heartbeat: Option<Timestamp>,
    replaced: Replaced,
}

impl Outgoing {
    fn open(path: &Path) -> Result<Self, FileFault> {
        refuse_written(path)?;
        if !path.try_exists()? {
            // A link that leads nowhere may lead to a disk that is not there yet.
            if path.is_symlink() {
                return Err(FileFault::Missing);
            }
            return Ok(Self {
                seen: None,
                file: None,
                heartbeat: None,
                replaced: Replaced::Nothing,
            });
        }
        let seen = fs::metadata(path)?;
        let file = Lone::open(path)?;
        let read = |connection: &Connection| {
            schema::format(connection)?;
            Ok(heartbeat::read(connection)?)
        };
        let (heartbeat, replaced) = match read(&file.connection) {
            Ok(heartbeat) => (heartbeat, Replaced::File),
            // One that was made beforehand, for its mode.
            Err(FileFault::Empty) => (None, Replaced::Nothing),
            Err(FileFault::NotSqlite | FileFault::Foreign { .. }) => {
                return Err(FileFault::InTheWay);
            }
            Err(fault) => (None, Replaced::Unreadable(fault)),
        };
        Ok(Self {
            seen: Some(seen),
            file: Some(file),
            heartbeat,
            replaced,
        })
    }

    /// Whatever was done here meanwhile is not thrown away.
    fn refuse_changed(&self, path: &Path) -> Result<(), FileFault> {
        refuse_written(path)?;
        let is_unchanged = match &self.file {
            Some(file) => file.is_unchanged(),
            None => !path.try_exists()?,
        };
        is_unchanged.then_some(()).ok_or(FileFault::Changed)
    }
}

fn refuse_written(path: &Path) -> Result<(), FileFault> {
    match unfinished(path) {
        Some(companion) => {
            let bytes = fs::metadata(&companion)?.len();
            Err(FileFault::Written { companion, bytes })
        }
        None => Ok(()),
    }
}

/// A rename moves nothing from one file system to another.
fn refuse_elsewhere(new: &Path, path: &Path) -> Result<(), FileFault> {
    let file_system = |path: &Path| fs::metadata(path).map(|found| found.dev());
    if file_system(new)? == file_system(folder(path))? {
        Ok(())
    } else {
        Err(elsewhere(path))
    }
}

fn elsewhere(path: &Path) -> FileFault {
    FileFault::ElsewhereThan {
        path: path.to_owned(),
    }
}

/// What came later is not given up for what came before.
fn refuse_older(new: Option<Timestamp>, old: Option<Timestamp>) -> Result<(), FileFault> {
    match (new, old) {
        (new, Some(old)) if new.is_none_or(|new| new < old) => {
            Err(FileFault::Outdated { new, old })
        }
        _ => Ok(()),
    }
}

/// Gives the file to whom the one that was `seen` belongs, with its mode: whoever served that can serve this. Where there
/// was none, it gets the mode of a new one.
fn take_over(new: &Path, seen: Option<&Metadata>) -> Result<(), FileFault> {
    let found = fs::metadata(new)?;
    let Some(seen) = seen else {
        return Ok(set_mode(new, &found, new_file_mode())?);
    };
    let (user, group) = (seen.uid(), seen.gid());
    let give = || {
        if (found.uid(), found.gid()) != (user, group) {
            chown(new, Some(user), Some(group))?;
        }
        set_mode(new, &found, seen.mode() & 0o777)
    };
    give().map_err(|error| FileFault::NotToGive { user, group, error })
}

/// Who may write a folder may move files in it that are not theirs, but not change their mode.
fn set_mode(path: &Path, found: &Metadata, mode: u32) -> io::Result<()> {
    if found.mode() & 0o777 == mode {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// The rename, durably. Nothing of either file's companions is left.
fn put_in_place(new: &Path, path: &Path) -> Result<(), FileFault> {
    let leftovers: Vec<_> = companions(new).collect();
    for companion in companions(path) {
        remove(&companion)?;
    }
    fs::rename(new, path).map_err(|error| match error.kind() {
        // Between two places that one file system is mounted at.
        io::ErrorKind::CrossesDevices => elsewhere(path),
        _ => FileFault::Io(error),
    })?;
    sync_folder(path)?;
    sync_folder(new)?;
    for companion in leftovers {
        // It is done, and they hold nothing.
        let _ = remove(&companion);
    }
    Ok(())
}

fn remove(companion: &Path) -> io::Result<()> {
    match fs::remove_file(companion) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
