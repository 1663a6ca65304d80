//! A client for which no answer is a failure of the soak itself: it is what the soak is there to count.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection that is opened when it is needed, and again when the server has closed it.
pub(crate) struct Client {
    address: String,
    stream: Option<TcpStream>,
    /// How often the server closed it between two requests.
    pub(crate) reconnected: u64,
}

pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Client {
    pub(crate) fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            stream: None,
            reconnected: 0,
        }
    }

    pub(crate) fn close(&mut self) {
        self.stream = None;
    }

    /// Sends a request, on a new connection where the old one was closed before an answer began: a server may do that
    /// between two requests (RFC 9112 section 9.5).
    pub(crate) fn ask(&mut self, request: &[u8]) -> io::Result<Response> {
        let was_open = self.stream.is_some();
        match self.try_ask(request) {
            Err(None) if was_open => {
                self.reconnected += 1;
                self.try_ask(request)
                    .map_err(|error| error.unwrap_or(ErrorKind::UnexpectedEof.into()))
            }
            outcome => outcome.map_err(|error| error.unwrap_or(ErrorKind::UnexpectedEof.into())),
        }
    }

    /// `None` as the error where the connection was closed before an answer began.
    fn try_ask(&mut self, request: &[u8]) -> Result<Response, Option<io::Error>> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(&self.address)?,
        };
        if stream.write_all(request).is_err() {
            return Err(None);
        }
        let mut bytes = Vec::new();
        let head = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            read(&mut stream, &mut bytes)?;
        };
        let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let length: usize = field("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        let length = if request.starts_with(b"HEAD ") {
            0
        } else {
            length
        };
        while bytes.len() < head + length {
            read(&mut stream, &mut bytes)?;
        }
        let response = Response {
            status: text
                .split(' ')
                .nth(1)
                .and_then(|status| status.parse().ok())
                .unwrap_or(0),
            body: String::from_utf8_lossy(&bytes[head..]).into_owned(),
        };
        if field("connection") != Some("close") {
            self.stream = Some(stream);
        }
        Ok(response)
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<(), Option<io::Error>> {
    let mut buffer = [0; 8192];
    match stream.read(&mut buffer) {
        Ok(0) if bytes.is_empty() => Err(None),
        Ok(0) => Err(Some(ErrorKind::UnexpectedEof.into())),
        Ok(count) => {
            bytes.extend_from_slice(&buffer[..count]);
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::ConnectionReset && bytes.is_empty() => Err(None),
        Err(error) => Err(Some(error)),
    }
}
