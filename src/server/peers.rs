//! Who may ask over a unix socket, by what the kernel says of the process at the other end.
//!
//! The kernel keeps the ids that a process had when it connected (unix(7), SO_PEERCRED and SO_PEERGROUPS): no word of
//! the caller's is taken for them.

#![allow(
    unsafe_code,
    reason = "the groups of a peer are asked by a call of the C library that has no safe name"
)]

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use tokio::net::UnixStream;

/// The users and groups that may connect, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    pub users: Vec<u32>,
    pub groups: Vec<u32>,
}

/// What is told of a peer that may not.
pub(super) struct Stranger {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Peers {
    /// Whether the peer is one of the users, or in one of the groups, supplementary ones included.
    pub(super) fn admit(&self, stream: &UnixStream) -> io::Result<Result<(), Stranger>> {
        let peer = stream.peer_cred()?;
        let (uid, gid) = (peer.uid(), peer.gid());
        let is_admitted = self.users.contains(&uid)
            || self.groups.contains(&gid)
            || !self.groups.is_empty()
                && groups(stream.as_raw_fd())?
                    .iter()
                    .any(|group| self.groups.contains(group));
        Ok(is_admitted.then_some(()).ok_or(Stranger { uid, gid }))
    }
}

/// The supplementary groups of the peer.
fn groups(socket: RawFd) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 32];
    loop {
        let room = size_of_val(groups.as_slice());
        let mut length = libc::socklen_t::try_from(room).map_err(io::Error::other)?;
        // SAFETY: the kernel writes at most `length` bytes to where `groups` has that many, which any bytes are valid
        // for, and the length that it has or wants to `length`; a socket that is none is an error.
        let code = unsafe {
            libc::getsockopt(
                socket,
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &mut length,
            )
        };
        let count = length as usize / size_of::<libc::gid_t>();
        if code == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The groups of this process, from another place than the one tested.
    fn own(field: &str) -> Vec<u32> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let numbers = line.unwrap().split_whitespace();
        numbers.map(|number| number.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn users_and_groups_are_those_of_the_process_at_the_other_end() {
        let (one, _other) = UnixStream::pair().unwrap();
        let (uid, gid) = (own("Uid:")[1], own("Gid:")[1]);
        assert_eq!(groups(one.as_raw_fd()).unwrap(), own("Groups:"));
        let is_admitted = |users: &[u32], groups: &[u32]| {
            let (users, groups) = (users.to_vec(), groups.to_vec());
            Peers { users, groups }.admit(&one).unwrap().is_ok()
        };
        assert!(is_admitted(&[uid], &[]));
        assert!(is_admitted(&[uid + 1, uid], &[gid + 1]));
        assert!(is_admitted(&[], &[gid]));
        assert!(!is_admitted(&[uid + 1], &[]));
        assert!(!is_admitted(&[], &[]));
        for group in own("Groups:") {
            assert!(is_admitted(&[], &[group]));
        }
        let foreign = (70_000..).find(|group| *group != gid && !own("Groups:").contains(group));
        assert!(!is_admitted(&[uid + 1], &[foreign.unwrap()]));
    }

    #[test]
    fn what_is_no_socket_is_an_error() {
        let file = std::fs::File::open("/proc/self/status").unwrap();
        assert!(groups(file.as_raw_fd()).is_err());
    }
}
