//! What the path of the file leads to, and whether it still does.
//!
//! SQLite can't see that the file under its path is no longer the one it opened. Its device and inode tell, and
//! those of its -wal and -shm. Asking the kernel for all three takes longer than a count, so a worker asks only
//! after something has happened in their folder, which one read of an inotify queue tells: the kernel puts an
//! event there before the call that replaces a file returns.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::{ioctl_fionread, read};

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
            std::fs::metadata(path)
                .ok()
                .map(|file| (file.dev(), file.ino()))
        }))
    }
}

impl Identity {
    /// Whether both are of the same file, whatever became of its -wal and -shm.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        self.0[0].is_some() && self.0[0] == other.0[0]
    }
}

/// One worker's eye on a [`Place`].
pub(super) struct Watch {
    /// What the paths must lead to.
    identity: Identity,
    /// The events of the folder; `None` where it can't be watched, or where a symbolic link on the way to it could
    /// be turned without an event in it.
    events: Option<OwnedFd>,
}

impl Watch {
    /// Whatever happened before the queue was there is in no event: the paths are to be followed once.
    pub(super) fn new(place: &Place, identity: Identity) -> Self {
        let events = watch_folder(place.path()).ok();
        Self { identity, events }
    }

    /// Whether the paths lead where they did.
    pub(super) fn is_unchanged(&self, place: &Place) -> bool {
        self.identity == place.identity()
    }

    /// Whether nothing has happened in the folder since the last call; takes the events off the queue.
    pub(super) fn is_quiet(&self) -> bool {
        let Some(events) = &self.events else {
            return false;
        };
        // Most of the time nothing has: that is asked without a buffer for what would have.
        if ioctl_fionread(events) == Ok(0) {
            return true;
        }
        let mut buffer = [0; 4096];
        while read(events, &mut buffer).is_ok_and(|length| length > 0) {}
        false
    }
}

/// A queue of what happens to names in the folder of `path`, and to the folder itself.
fn watch_folder(path: &Path) -> std::io::Result<OwnedFd> {
    let absolute = std::path::absolute(path)?;
    if absolute != path.canonicalize()? {
        return Err(std::io::ErrorKind::Unsupported.into());
    }
    let folder = absolute.parent().unwrap_or(&absolute);
    let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    let what = WatchFlags::MOVE
        | WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF;
    inotify::add_watch(&events, folder, what)?;
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A watched file `x` in a folder of its own, and the queue emptied of what led there.
    fn watched(folder: &Path) -> (Place, Watch) {
        for name in ["x", "x-wal", "x-shm"] {
            fs::write(folder.join(name), name).unwrap();
        }
        let place = Place::new(&folder.join("x"));
        let watch = Watch::new(&place, place.identity());
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
            let (place, watch) = watched(&folder);
            assert!(watch.events.is_some(), "the folder is watched");
            change(&folder);
            assert!(!watch.is_quiet(), "{what}");
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
        fs::write(folder.join("x"), "written").unwrap();
        assert!(watch.is_quiet());
        fs::write(folder.join("other"), "").unwrap();
        fs::remove_file(folder.join("other")).unwrap();
        assert!(!watch.is_quiet() && watch.is_unchanged(&place));
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
        let watch = Watch::new(&place, place.identity());
        assert!(!watch.is_quiet() && watch.is_unchanged(&place));
        turn("b");
        assert!(!watch.is_quiet() && !watch.is_unchanged(&place));
    }
}
