//! Unix sockets: the file that stands for one, and who may connect to it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixSocket, UnixStream};

use super::listener::BACKLOG;
use super::peers::Peers;
use super::seldom::Seldom;

/// What a unix socket of ours lets in. To connect takes the right to write its file (unix(7)).
#[derive(Clone, Debug)]
pub struct UnixDoor {
    /// The file's mode, whatever the umask of the process.
    pub mode: u32,
    /// The file's group, where it is not the process's own.
    pub group: Option<u32>,
    /// Who may connect, of those that the mode lets; `None` for all of them.
    pub peers: Option<Peers>,
}

/// A socket file, which goes when its listener goes if it is ours.
#[derive(Debug)]
pub struct SocketFile {
    pub(super) path: PathBuf,
    /// `None` where another program made it, which goes on to listen there.
    pub(super) inode: Option<u64>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = self.inode.is_some_and(|inode| {
            fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == inode)
        });
        if is_ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the socket file and listens. One that nobody listens on any more is replaced.
///
/// The kernel makes the file with the process's umask, which is not touched: it belongs to all threads, and others
/// make files. Instead the file gets its group and mode before the socket listens; until then nobody can connect,
/// whatever they are.
pub(super) async fn bind(path: &Path, door: &UnixDoor) -> io::Result<(UnixListener, SocketFile)> {
    let socket = UnixSocket::new_stream()?;
    match socket.bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let is_socket = fs::symlink_metadata(path)?.file_type().is_socket();
            // Only a refusal means that nobody listens: a listener may be too busy to take one more, or not ours to ask.
            let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
            if !is_socket
                || !UnixStream::connect(path)
                    .await
                    .is_err_and(|error| refused(&error))
            {
                return Err(error);
            }
            fs::remove_file(path)?;
            socket.bind(path)?;
        }
        bound => bound?,
    }
    // Held open, it is this file that is changed, even where somebody puts another in its place meanwhile.
    let held = hold(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        inode: Some(held.metadata()?.ino()),
    };
    open_to(&held, door)?;
    Ok((socket.listen(BACKLOG)?, file))
}

fn hold(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
        .open(path)?;
    if file.metadata()?.file_type().is_socket() {
        Ok(file)
    } else {
        Err(io::Error::other("another file was put in its place"))
    }
}

fn open_to(file: &File, door: &UnixDoor) -> io::Result<()> {
    // A file that is held without the right to read or write it is changed by this name only.
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    if let Some(group) = door.group {
        chown(&name, None, Some(group)).map_err(|error| {
            io::Error::other(format!(
                "can't give it to the group {group} of server.unix_group: {error}; only root and members of the group may"
            ))
        })?;
    }
    fs::set_permissions(&name, Permissions::from_mode(door.mode)).map_err(|error| {
        io::Error::other(format!(
            "can't give it the mode {:04o} of server.unix_mode: {error}",
            door.mode
        ))
    })
}

/// The next connection of somebody who may connect; others are closed.
pub(super) async fn accept(
    listener: &UnixListener,
    peers: Option<&Peers>,
) -> io::Result<UnixStream> {
    static TURNED_AWAY: Seldom = Seldom::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let Some(peers) = peers else {
            return Ok(stream);
        };
        if let Err(stranger) = peers.admit(&stream)? {
            if let Some(unsaid) = TURNED_AWAY.is_due() {
                tracing::warn!(
                    peer.uid = stranger.uid,
                    peer.gid = stranger.gid,
                    unsaid,
                    "a connection to the unix socket was closed: server.unix_peers has not its user"
                );
            }
            continue;
        }
        return Ok(stream);
    }
}
