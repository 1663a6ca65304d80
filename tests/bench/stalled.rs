//! Callers that hold connections and time, and give nothing for it: some send half a head, some nothing at all, and
//! some take no answers.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::load::Request;

/// One in this many takes no answers: each must be sent some hundred before it holds anything up.
const DEAF: usize = 20;

/// Opens `connections` of the three kinds.
pub(crate) fn open(address: &str, users: u64, connections: usize) -> Vec<TcpStream> {
    (0..connections)
        .map(|number| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            match number {
                _ if number % DEAF == 0 => fill(&mut stream, users),
                _ if number % 2 == 0 => stream
                    .write_all(b"GET /internal/session/sessions/u/active HTTP/1.1\r\nHost: a\r\nX-")
                    .unwrap(),
                _ => {}
            }
            stream
        })
        .collect()
}

/// How many of them the server has not closed.
pub(crate) fn still_open(streams: &[TcpStream]) -> usize {
    let is_open = |stream: &&TcpStream| {
        stream.set_nonblocking(true).unwrap();
        match stream.peek(&mut [0; 1]) {
            Ok(read) => read > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    };
    streams.iter().filter(is_open).count()
}

/// Asks until no more requests are taken.
fn fill(stream: &mut TcpStream, users: u64) {
    let requests = Request::new(users).next().repeat(100);
    stream
        .set_write_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    while stream.write_all(&requests).is_ok() {}
}
