//! Where connections come in: TCP addresses and unix sockets.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream, lookup_host};

/// How many connections the kernel holds for us before we accept them.
const BACKLOG: u32 = 1024;

/// An address to listen on: `host:port`, `[ipv6]:port` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// The text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("\"host:port\" or \"unix:/path\"")]
pub struct NotAnAddress;

/// An address could not be listened on.
#[derive(Debug, Error)]
#[error("can't listen on {address}: {advice}")]
pub struct BindError {
    address: Address,
    advice: String,
    error: io::Error,
}

impl Address {
    /// Whether only this machine can reach it, as far as the text tells: a unix socket, a loopback address or
    /// the name `localhost`.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => match host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .parse::<IpAddr>()
            {
                Ok(address) => address.to_canonical().is_loopback(),
                Err(_) => host.eq_ignore_ascii_case("localhost"),
            },
        }
    }

    /// Starts to listen. A socket file that nobody listens on any more is replaced.
    pub async fn bind(&self) -> Result<Listener, BindError> {
        let bound = match self {
            Self::Tcp { host, port } => {
                bind_tcp(&format!("{host}:{port}")).await.map(Listener::Tcp)
            }
            Self::Unix(path) => bind_unix(path).await,
        };
        bound.map_err(|error| {
            let advice = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "another process listens there; stop it, or set server.listen to another address".to_owned()
                }
                io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
                io::ErrorKind::PermissionDenied => {
                    format!("{error}; ports under 1024 and foreign directories take a privilege")
                }
                _ => error.to_string(),
            };
            BindError { address: self.clone(), advice, error }
        })
    }
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err(NotAnAddress)
            };
        }
        let (host, port) = text.rsplit_once(':').ok_or(NotAnAddress)?;
        let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| is_port).ok_or(NotAnAddress)?;
        let is_ipv6 = || {
            format!("{host}:0")
                .parse::<SocketAddr>()
                .is_ok_and(|address| address.is_ipv6())
        };
        let is_name = |host: &str| {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        };
        if is_name(host) || is_ipv6() {
            Ok(Self::Tcp {
                host: host.to_owned(),
                port,
            })
        } else {
            Err(NotAnAddress)
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl BindError {
    pub fn is_in_use(&self) -> bool {
        self.error.kind() == io::ErrorKind::AddrInUse
    }
}

/// The first of the host's addresses that can be bound.
async fn bind_tcp(target: &str) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host(target).await? {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn bind_unix(path: &Path) -> io::Result<Listener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let is_socket = std::fs::symlink_metadata(path)?.file_type().is_socket();
            // Only a refusal means that nobody listens: a listener may be too busy to take one more, or not ours to ask.
            let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
            if !is_socket
                || !UnixStream::connect(path)
                    .await
                    .is_err_and(|error| refused(&error))
            {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }?;
    let file = SocketFile {
        path: path.to_owned(),
        inode: Some(std::fs::symlink_metadata(path)?.ino()),
    };
    Ok(Listener::Unix { listener, file })
}

/// A socket that listens already, made by another program and handed to this one.
#[derive(Debug)]
pub enum Inherited {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// A bound address.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        file: SocketFile,
    },
}

/// A socket file, which goes when its listener goes if it is ours.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// `None` where another program made it, which goes on to listen there.
    inode: Option<u64>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = self.inode.is_some_and(|inode| {
            std::fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == inode)
        });
        if is_ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    /// Takes over a socket that listens already; call it within a runtime.
    pub fn adopt(socket: Inherited) -> io::Result<Self> {
        match socket {
            Inherited::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                Ok(Self::Tcp(TcpListener::from_std(socket)?))
            }
            Inherited::Unix(socket) => {
                socket.set_nonblocking(true)?;
                let address = socket.local_addr()?;
                let name = |name| PathBuf::from(format!("@{}", String::from_utf8_lossy(name)));
                let path = address.as_pathname().map(Path::to_owned);
                let file = SocketFile {
                    path: path
                        .or_else(|| address.as_abstract_name().map(name))
                        .unwrap_or_default(),
                    inode: None,
                };
                let listener = UnixListener::from_std(socket)?;
                Ok(Self::Unix { listener, file })
            }
        }
    }

    /// The address, where others than this machine can reach it.
    pub fn abroad(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener
                .local_addr()
                .ok()
                .filter(|address| !address.ip().to_canonical().is_loopback()),
            Self::Unix { .. } => None,
        }
    }

    /// Where it can be reached: `http://127.0.0.1:11004` or `unix:/run/sessile.sock`.
    pub fn url(&self) -> String {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => format!("http://{address}"),
                Err(error) => error.to_string(),
            },
            Self::Unix { file, .. } => format!("unix:{}", file.path.display()),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // An answer is one small write: waiting to fill a segment would only delay it.
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream.into_std()?))
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok(Stream::Unix(stream.into_std()?))
            }
        }
    }
}

/// A connection of either kind, not yet known to the runtime that will serve it.
pub(super) enum Stream {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_strictly() {
        for text in [
            "127.0.0.1:0",
            "localhost:11004",
            "[::1]:80",
            "0.0.0.0:65535",
            "unix:/run/a b.sock",
        ] {
            assert_eq!(
                text.parse::<Address>()
                    .map(|address| address.to_string())
                    .as_deref(),
                Ok(text)
            );
        }
        for text in [
            "",
            ":80",
            "localhost",
            "a:65536",
            "a:-1",
            "a:+1",
            "a:",
            "::1:80",
            "[::1]",
            "a b:1",
            "unix:",
            "unix:x",
        ] {
            assert_eq!(text.parse::<Address>(), Err(NotAnAddress), "{text}");
        }
    }

    #[test]
    fn local_is_loopback_or_a_socket_file() {
        for (text, local) in [
            ("127.0.0.1:0", true),
            ("127.8.9.1:0", true),
            ("[::1]:0", true),
            ("[::ffff:127.0.0.1]:0", true),
            ("localhost:0", true),
            ("unix:/x", true),
            ("0.0.0.0:0", false),
            ("[::]:0", false),
            ("192.168.1.1:0", false),
            ("example.com:0", false),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().is_local(), local, "{text}");
        }
    }
}
