//! Where connections come in: TCP addresses and unix sockets.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rustix::net::sockopt::{set_tcp_nodelay, set_tcp_user_timeout};
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket, UnixListener, lookup_host};
use tokio_rustls::rustls::ServerConfig;

use super::Limits;
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
            Self::Tcp { host, .. } => match ip(host) {
                Some(address) => address.is_loopback(),
                None => host.eq_ignore_ascii_case("localhost"),
            },
        }
    }

    /// Whether whoever listens at one is in the way of the other, as far as the text tells: the same port of the same
    /// host, or of all.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (Self::Tcp { host: a, port: one }, Self::Tcp { host: b, port: two }) = (self, other)
        else {
            return self == other;
        };
        one == two && *one != 0 && (is_any(a) || is_any(b) || same_host(a, b))
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
            Self::Tcp { host, port } => lookup_host(format!("{host}:{port}"))
                .await
                .and_then(bind_tcp)
                .map(|listener| Listener::Tcp {
                    listener,
                    tls: door.tls.clone(),
                }),
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

/// The address that a host is written as, if it is none that must be looked up.
fn ip(host: &str) -> Option<IpAddr> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse()
        .ok()
        .map(|address: IpAddr| address.to_canonical())
}

/// Whether it stands for all addresses of this machine. Linux takes `[::]` for those of IPv4, too.
fn is_any(host: &str) -> bool {
    ip(host).is_some_and(|address| address.is_unspecified())
}

fn same_host(a: &str, b: &str) -> bool {
    let is_localhost = |host: &str| host.eq_ignore_ascii_case("localhost");
    let is_first_loopback =
        |host| ip(host).is_some_and(|ip| ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST);
    match (ip(a), ip(b)) {
        (Some(a), Some(b)) => a == b,
        (Some(_), None) => is_localhost(b) && is_first_loopback(a),
        (None, Some(_)) => is_localhost(a) && is_first_loopback(b),
        (None, None) => a.eq_ignore_ascii_case(b),
    }
}

/// Listens at the first of the addresses that this machine has. One in use is not passed over: callers who are given
/// the host's name may try that one first, and would send their keys to whoever listens there.
fn bind_tcp(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
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

/// A socket that listens already, made by another program and handed to this one.
#[derive(Debug)]
pub enum Inherited {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
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
    /// Takes over a socket that listens already; call it within a runtime. The mode and the group of a socket file are
    /// those that its maker gave it.
    pub fn adopt(socket: Inherited, door: &Door) -> io::Result<Self> {
        match socket {
            Inherited::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                Ok(Self::Tcp {
                    listener: TcpListener::from_std(socket)?,
                    tls: door.tls.clone(),
                })
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
                Ok(Self::Unix {
                    listener,
                    file,
                    peers: door.unix.peers.clone(),
                })
            }
        }
    }

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

    /// Sets what each connection has from its listener.
    pub(super) fn prepare(&self, limits: &Limits) -> io::Result<()> {
        match self {
            Self::Tcp { listener, .. } => {
                // An answer is one small write: waiting to fill a segment would only delay it.
                set_tcp_nodelay(listener, true)?;
                // The kernel gives up on callers that acknowledge nothing, or let nothing be sent, for as long as they
                // may take nothing of an answer: on connections that we have closed, too.
                let millis = limits.write_timeout.as_millis().try_into();
                set_tcp_user_timeout(listener, millis.unwrap_or(u32::MAX))?;
                Ok(())
            }
            Self::Unix { .. } => Ok(()),
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
    use std::time::Duration;

    use rustix::net::sockopt::tcp_user_timeout;

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
    fn addresses_overlap_where_one_is_in_the_way_of_the_other() {
        for (one, other, overlap) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("localhost:80", "127.0.0.1:80", true),
            ("[::1]:80", "LocalHost:80", true),
            ("localhost:80", "127.0.0.2:80", false),
            ("a.example:80", "A.example:80", true),
            ("a.example:80", "b.example:80", false),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
            ("unix:/a", "unix:/a", true),
            ("unix:/a", "unix:/b", false),
            ("unix:/a", "127.0.0.1:80", false),
        ] {
            let (one, other): (Address, Address) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(one.overlaps(&other), overlap, "{one} {other}");
            assert_eq!(other.overlaps(&one), overlap, "{other} {one}");
        }
    }

    #[test]
    fn a_name_is_not_served_at_its_second_address_when_its_first_is_in_use() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _entered = runtime.enter();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap();
        let second = SocketAddr::from(([127, 0, 0, 2], taken.port()));
        let error = bind_tcp([taken, second].into_iter()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        // For documentation only (RFC 5737): no machine has it.
        let abroad = SocketAddr::from(([192, 0, 2, 1], taken.port()));
        let bound = bind_tcp([abroad, second].into_iter()).unwrap();
        assert_eq!(bound.local_addr().unwrap(), second);
    }

    #[test]
    fn a_connection_has_its_options_from_its_listener() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let limits = Limits {
            connections: 1,
            header_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
            write_timeout: Duration::from_millis(1_234),
            drain_timeout: Duration::from_secs(1),
            head_bytes: 8_192,
        };
        runtime.block_on(async {
            let listener = bind_tcp([SocketAddr::from(([127, 0, 0, 1], 0))].into_iter()).unwrap();
            let address = listener.local_addr().unwrap();
            let listener = Listener::Tcp {
                listener,
                tls: None,
            };
            listener.prepare(&limits).unwrap();
            let _caller = std::net::TcpStream::connect(address).unwrap();
            let Stream::Tcp(stream) = listener.accept().await.unwrap() else {
                unreachable!("it came by TCP")
            };
            assert!(stream.nodelay().unwrap());
            assert_eq!(tcp_user_timeout(&stream).unwrap(), 1_234);
        });
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
