//! What the path of the file leads to, and whether it still does.
//!
//! SQLite can't see that the file under its path is no longer the one it opened. Its device and inode tell, and
//! those of its -wal and -shm. Asking the kernel for all three takes longer than a count, so a worker asks only
//! after something has happened in their folder, which one read of an inotify queue tells: the kernel puts an
//! event there before the call that replaces a file returns.
//!
//! A file that is written over in place keeps its inode. Its own events tell of every write, and the wal-index whether
//! a checkpoint was at work ([`Checkpoints`]); if none was, somebody else wrote.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::ioctl_fionread;

use super::direct::Checkpoints;

/// The path of a file in WAL mode.
#[derive(Debug)]
pub(super) struct Place(PathBuf);

/// Device and inode of the file and of its -wal and -shm, `None` where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity([Option<(u64, u64)>; 3]);

impl Place {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// What the path leads to now. Like SQLite, this looks for -wal and -shm beside the file itself, not beside a
    /// symbolic link to it.
    pub(super) fn identity(&self) -> Identity {
        let Ok(real) = self.0.canonicalize() else {
            return Identity([None; 3]);
        };
        Identity(["", "-wal", "-shm"].map(|suffix| {
            let mut path = real.as_os_str().to_owned();
            path.push(suffix);
            number(Path::new(&path))
        }))
    }
}

/// Device and inode of what stands at `path`.
pub(super) fn number(path: &Path) -> Option<(u64, u64)> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

impl Identity {
    /// Whether both are of the same file, whatever became of its -wal and -shm.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        self.0[0].is_some() && self.0[0] == other.0[0]
    }

    /// Device and inode of the file itself.
    pub(super) fn file(&self) -> Option<(u64, u64)> {
        self.0[0]
    }

    /// Device and inode of the -wal.
    pub(super) fn wal(&self) -> Option<(u64, u64)> {
        self.0[1]
    }
}

/// One worker's eye on a [`Place`].
pub(super) struct Watch {
    /// What the paths must lead to.
    identity: Identity,
    /// The events of the file and of its folder.
    events: Option<Events>,
    /// How far checkpoints had come at the last look.
    checkpoints: Option<Checkpoints>,
}

struct Events {
    queue: OwnedFd,
    /// The number of the file's own in the queue.
    file: i32,
    /// Whether the folder's are in it, too: not where a symbolic link on the way to it could be turned without an
    /// event in it.
    has_folder: bool,
}

impl Watch {
    /// Whatever happened before the queue was there is in no event: the paths are to be followed once. `checkpoints`
    /// are those from before this call.
    pub(super) fn new(place: &Place, identity: Identity, checkpoints: Option<Checkpoints>) -> Self {
        Self {
            identity,
            events: Events::of(place.path()).ok(),
            checkpoints,
        }
    }

    /// Whether the paths lead where they did.
    pub(super) fn is_unchanged(&self, place: &Place) -> bool {
        self.identity == place.identity()
    }

    /// Whether nothing has happened to the file or in its folder since the last look.
    pub(super) fn is_quiet(&self) -> bool {
        // Asked without a buffer for what would have happened: most of the time nothing has.
        self.events
            .as_ref()
            .is_some_and(|events| events.has_folder && ioctl_fionread(&events.queue) == Ok(0))
    }

    /// Takes the events off the queue; whether the file was written by anything but a checkpoint, as `checkpoints`
    /// tells how far these have come.
    ///
    /// A checkpoint is in the wal-index from before its first write until it is forgotten after its last one. So a
    /// write that is told by an event was its work if one is under way, or if one has come further since the last
    /// look; and what is remembered of this look was read before the events were taken, so that none of them can be
    /// left for the next look, which would find no difference any more.
    pub(super) fn was_overwritten(
        &mut self,
        checkpoints: impl Fn() -> Option<Checkpoints>,
    ) -> bool {
        let before = checkpoints();
        let was_written = self.events.as_ref().is_some_and(Events::take);
        let last = std::mem::replace(&mut self.checkpoints, before);
        let is_explained = |now: Option<Checkpoints>| {
            now.is_none_or(|now| now.is_under_way() || last != Some(now))
        };
        was_written && !is_explained(before) && !is_explained(checkpoints())
    }
}

impl Events {
    /// A queue of what happens to the contents of the file at `path`, to names in its folder, and to that itself.
    fn of(path: &Path) -> std::io::Result<Self> {
        let (absolute, real) = (std::path::absolute(path)?, path.canonicalize()?);
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let file = inotify::add_watch(&queue, &real, WatchFlags::MODIFY)?;
        let has_folder = absolute == real;
        if has_folder {
            let names = WatchFlags::MOVE
                | WatchFlags::CREATE
                | WatchFlags::DELETE
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF;
            inotify::add_watch(&queue, absolute.parent().unwrap_or(&absolute), names)?;
        }
        Ok(Self {
            queue,
            file,
            has_folder,
        })
    }

    /// Empties the queue; whether the file was written.
    fn take(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.queue, &mut buffer);
        let mut was_written = false;
        while let Ok(event) = events.next() {
            was_written |= event.wd() == self.file && event.events().contains(ReadFlags::MODIFY);
        }
        was_written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use rusqlite::Connection;

    /// A watched file `x` in a folder of its own, and the queue emptied of what led there.
    fn watched(folder: &Path) -> (Place, Watch) {
        for name in ["x", "x-wal", "x-shm"] {
            fs::write(folder.join(name), name).unwrap();
        }
        let place = Place::new(&folder.join("x"));
        let watch = Watch::new(&place, place.identity(), None);
        assert!(watch.is_quiet() && watch.is_unchanged(&place));
        (place, watch)
    }

    type Change = fn(&Path);

    const CHANGES: [(&str, Change); 6] = [
        ("another file moved over it", |folder| {
            fs::write(folder.join("y"), "y").unwrap();
            fs::rename(folder.join("y"), folder.join("x")).unwrap();
        }),
        ("deleted", |folder| {
            fs::remove_file(folder.join("x")).unwrap()
        }),
        ("moved away", |folder| {
            fs::rename(folder.join("x"), folder.join("z")).unwrap()
        }),
        ("without its WAL", |folder| {
            fs::remove_file(folder.join("x-wal")).unwrap()
        }),
        ("with other shared memory", |folder| {
            fs::write(folder.join("y"), "y").unwrap();
            fs::rename(folder.join("y"), folder.join("x-shm")).unwrap();
        }),
        ("in a folder that was moved", |folder| {
            fs::rename(folder, folder.with_extension("old")).unwrap()
        }),
    ];

    #[test]
    fn every_change_is_noticed_at_once() {
        for (what, change) in CHANGES {
            let base = tempfile::tempdir().unwrap();
            let folder = base.path().canonicalize().unwrap().join("folder");
            fs::create_dir(&folder).unwrap();
            let (place, mut watch) = watched(&folder);
            assert!(watch.events.is_some(), "the folder is watched");
            change(&folder);
            assert!(!watch.is_quiet(), "{what}");
            assert!(!watch.was_overwritten(|| None), "{what}");
            assert!(watch.is_quiet(), "{what}, and each event is told once");
            assert!(!watch.is_unchanged(&place), "{what}");
        }
    }

    #[test]
    fn the_companions_are_beside_the_file_and_not_beside_a_link_to_it() {
        let base = tempfile::tempdir().unwrap();
        let (place, _) = watched(base.path());
        std::os::unix::fs::symlink("x", base.path().join("link")).unwrap();
        let link = Place::new(&base.path().join("link"));
        assert_eq!(link.identity(), place.identity());
        fs::remove_file(base.path().join("x-shm")).unwrap();
        assert_eq!(link.identity(), place.identity());
        assert_eq!(link.identity().0[2], None);
    }

    #[test]
    fn what_happens_to_others_is_no_change() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().canonicalize().unwrap();
        let (place, watch) = watched(&folder);
        fs::write(folder.join("x-wal"), "written").unwrap();
        assert!(watch.is_quiet());
        fs::write(folder.join("other"), "").unwrap();
        fs::remove_file(folder.join("other")).unwrap();
        assert!(!watch.is_quiet() && watch.is_unchanged(&place));
    }

    /// Beside a writer that does nothing but write and checkpoint, and then once without a checkpoint.
    #[test]
    fn checkpoints_are_told_from_other_writes() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().canonicalize().unwrap().join("x");
        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 3; CREATE TABLE t (x)",
            )
            .unwrap();
        let reader = Connection::open(&path).unwrap();
        let ask = "SELECT count(*) FROM t";
        reader.query_row(ask, [], |_| Ok(())).unwrap();
        let now = || Checkpoints::of(&reader);
        let place = Place::new(&path);
        let mut watch = Watch::new(&place, place.identity(), now());
        let mut times = 0;
        std::thread::scope(|scope| {
            let writing = scope.spawn(move || {
                for _ in 0..2_000 {
                    writer
                        .execute("INSERT INTO t VALUES (zeroblob(9000))", [])
                        .unwrap();
                }
                writer
            });
            while !writing.is_finished() {
                if !watch.is_quiet() {
                    times += 1;
                    assert!(!watch.was_overwritten(now));
                }
            }
            // It stays open: the last one to close it writes the file.
            let _writer = writing.join().unwrap();
            watch.was_overwritten(now);
            assert!(watch.is_quiet());
            // In a process of its own: to close the file here would drop SQLite's locks of this process.
            let written = std::process::Command::new("dd")
                .args(["if=/dev/zero", "bs=1", "count=1", "seek=99", "conv=notrunc"])
                .arg(format!("of={}", path.display()))
                .output()
                .unwrap();
            assert!(written.status.success());
            assert!(!watch.is_quiet() && watch.was_overwritten(now));
            assert!(watch.is_quiet() && !watch.was_overwritten(now));
        });
        assert!(times > 5, "only {times} looks");
    }

    #[test]
    fn behind_a_symbolic_link_the_paths_are_followed_each_time() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().canonicalize().unwrap();
        for name in ["a", "b"] {
            fs::create_dir(folder.join(name)).unwrap();
            fs::write(folder.join(name).join("x"), name).unwrap();
        }
        let turn = |to: &str| {
            std::os::unix::fs::symlink(folder.join(to), folder.join("new")).unwrap();
            fs::rename(folder.join("new"), folder.join("link")).unwrap();
        };
        turn("a");
        let place = Place::new(&folder.join("link/x"));
        let watch = Watch::new(&place, place.identity(), None);
        assert!(!watch.is_quiet() && watch.is_unchanged(&place));
        turn("b");
        assert!(!watch.is_quiet() && !watch.is_unchanged(&place));
    }
}
