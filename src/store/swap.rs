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
    let at_new = |fault: FileFault| fault.at(new);
    if is_same(path, new) {
        return Err(at_new(FileFault::Itself));
    }
    let incoming = Incoming::open(new, options.depth).map_err(at_new)?;
    // A symbolic link to the file stays one.
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let outgoing = Outgoing::open(&real).map_err(|fault| fault.at(path))?;
    if !options.force {
        refuse_older(incoming.heartbeat, outgoing.heartbeat).map_err(at_new)?;
    }
    if let Some(seen) = &outgoing.seen {
        take_over(new, seen).map_err(at_new)?;
    }
    let synced = File::open(new).and_then(|file| file.sync_all());
    synced.map_err(|error| at_new(error.into()))?;
    if !incoming.file.is_unchanged() {
        return Err(at_new(FileFault::Changed));
    }
    if outgoing
        .file
        .as_ref()
        .is_some_and(|file| !file.is_unchanged())
    {
        return Err(FileFault::Changed.at(path));
    }
    put_in_place(&real, new).map_err(|fault| match fault {
        FileFault::ElsewhereThan { .. } => at_new(fault),
        fault => fault.at(path),
    })?;
    Ok(Swapped {
        sessions: incoming.sessions,
        heartbeat: incoming.heartbeat,
        replaced: outgoing.replaced,
    })
}

/// The file that is to come, found to be one that a server can answer from.
struct Incoming {
    file: Lone,
    sessions: u64,
    heartbeat: Option<Timestamp>,
}

impl Incoming {
    fn open(path: &Path, depth: Depth) -> Result<Self, FileFault> {
        let file = Lone::open(path)?;
        schema::verify_for_copying(&file.connection)?;
        if !is_in_wal_mode(path)? {
            return Err(FileFault::NotWal {
                found: "that of a rollback journal".to_owned(),
            });
        }
        check_integrity(&file.connection, depth)?;
        Ok(Self {
            sessions: count(&file.connection, "main")?,
            heartbeat: heartbeat::read(&file.connection)?,
            file,
        })
    }
}

/// The file that is to go, as far as there is one.
struct Outgoing {
    seen: Option<Metadata>,
    /// `None` where there is none, or none that can be read.
    file: Option<Lone>,
    heartbeat: Option<Timestamp>,
    replaced: Replaced,
}

impl Outgoing {
    fn open(path: &Path) -> Result<Self, FileFault> {
        if let Some(companion) = unfinished(path) {
            let bytes = fs::metadata(&companion)?.len();
            return Err(FileFault::Written { companion, bytes });
        }
        if !path.try_exists()? {
            return Ok(Self {
                seen: None,
                file: None,
                heartbeat: None,
                replaced: Replaced::Nothing,
            });
        }
        let seen = Some(fs::metadata(path)?);
        let file = Lone::open(path)?;
        let read = |connection: &Connection| {
            schema::format(connection)?;
            Ok(heartbeat::read(connection)?)
        };
        match read(&file.connection) {
            Ok(heartbeat) => Ok(Self {
                seen,
                file: Some(file),
                heartbeat,
                replaced: Replaced::File,
            }),
            Err(FileFault::NotSqlite | FileFault::Foreign { .. }) => Err(FileFault::InTheWay),
            Err(fault) => Ok(Self {
                seen,
                file: None,
                heartbeat: None,
                replaced: Replaced::Unreadable(fault),
            }),
        }
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

/// Gives the file to whom the one that was `seen` belongs, with its mode: whoever served that can serve this.
fn take_over(new: &Path, seen: &Metadata) -> Result<(), FileFault> {
    let (user, group) = (seen.uid(), seen.gid());
    let found = fs::metadata(new)?;
    if (found.uid(), found.gid()) != (user, group)
        && let Err(error) = chown(new, Some(user), Some(group))
    {
        return Err(FileFault::NotToGive { user, group, error });
    }
    fs::set_permissions(new, Permissions::from_mode(seen.mode() & 0o777))?;
    Ok(())
}

/// The rename, durably. Nothing of either file's companions is left.
fn put_in_place(path: &Path, new: &Path) -> Result<(), FileFault> {
    // Where the rename can't be done, nothing of the old file may have been taken away.
    let file_system = |path: &Path| fs::metadata(folder(path)).map(|folder| folder.dev());
    if file_system(path)? != file_system(new)? {
        return Err(FileFault::ElsewhereThan {
            path: path.to_owned(),
        });
    }
    let leftovers: Vec<_> = companions(new).collect();
    for companion in companions(path) {
        remove(&companion)?;
    }
    fs::rename(new, path)?;
    for companion in leftovers {
        remove(&companion)?;
    }
    sync_folder(path)?;
    sync_folder(new)?;
    Ok(())
}

fn remove(companion: &Path) -> io::Result<()> {
    match fs::remove_file(companion) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
