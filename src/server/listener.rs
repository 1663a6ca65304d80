//! Where connections come in: TCP addresses and unix sockets.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket, UnixListener, lookup_host};
use tokio_rustls::rustls::ServerConfig;

use super::peers::Peers;
use super::tls::Tls;
use super::unix::{self, SocketFile, UnixDoor};

/// How many connections the kernel holds for us before we accept them.
pub(super) const BACKLOG: u32 = 1024;

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

    /// Whether it is a name, which may stand for any address.
    pub fn is_name(&self) -> bool {
        match self {
            Self::Unix(_) => false,
            Self::Tcp { host, .. } => !host.starts_with('[') && host.parse::<IpAddr>().is_err(),
        }
    }

    /// Starts to listen. A socket file that nobody listens on any more is replaced.
    pub async fn bind(&self, door: &Door) -> Result<Listener, BindError> {
        let bound = match self {
            Self::Tcp { host, port } => {
                bind_tcp(&format!("{host}:{port}"))
                    .await
                    .map(|listener| Listener::Tcp {
                        listener,
                        tls: door.tls.clone(),
                    })
            }
            Self::Unix(path) => {
                unix::bind(path, &door.unix)
                    .await
                    .map(|(listener, file)| Listener::Unix {
                        listener,
                        file,
                        peers: door.unix.peers.clone(),
                    })
            }
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

/// How connections come in, by kind.
#[derive(Clone, Debug)]
pub struct Door {
    /// `None` where TCP is plain.
    pub tls: Option<Arc<Tls>>,
    pub unix: UnixDoor,
}

/// A bound address.
#[derive(Debug)]
pub enum Listener {
    Tcp {
        listener: TcpListener,
        tls: Option<Arc<Tls>>,
    },
    Unix {
        listener: UnixListener,
        file: SocketFile,
        peers: Option<Peers>,
    },
}

impl Listener {
    /// Where it can be reached: `http://127.0.0.1:11004` or `unix:/run/sessile.sock`.
    pub fn url(&self) -> String {
        match self {
            Self::Tcp { listener, tls } => match listener.local_addr() {
                Ok(address) if tls.is_some() => format!("https://{address}"),
                Ok(address) => format!("http://{address}"),
                Err(error) => error.to_string(),
            },
            Self::Unix { file, .. } => format!("unix:{}", file.path.display()),
        }
    }

    /// The address, where others than this machine can reach it: for a name, what it stood for when it was bound.
    pub fn abroad(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp { listener, .. } => listener
                .local_addr()
                .ok()
                .filter(|address| !address.ip().to_canonical().is_loopback()),
            Self::Unix { .. } => None,
        }
    }

    /// Whether what goes over it can be read on its way.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Tcp { tls: None, .. })
    }

    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp { listener, tls } => {
                let (stream, _) = listener.accept().await?;
                // An answer is one small write: waiting to fill a segment would only delay it.
                stream.set_nodelay(true)?;
                let stream = stream.into_std()?;
                Ok(match tls {
                    None => Stream::Tcp(stream),
                    Some(tls) => Stream::Tls(stream, tls.config()),
                })
            }
            Self::Unix {
                listener, peers, ..
            } => {
                let stream = unix::accept(listener, peers.as_ref()).await?;
                Ok(Stream::Unix(stream.into_std()?))
            }
        }
    }
}

/// A connection of either kind, not yet known to the runtime that will serve it.
pub(super) enum Stream {
    Tcp(std::net::TcpStream),
    Tls(std::net::TcpStream, Arc<ServerConfig>),
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
