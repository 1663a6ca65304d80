//! Callers that hold connections and time, and give nothing for it: some send half a head, some nothing at all, and
//! some take no answers.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use rustix::net::{AddressFamily, SocketType};

use crate::load::Request;

/// One in this many takes no answers: each must be sent some hundreds before it holds anything up.
const DEAF: usize = 50;

/// Opens `connections` of the three kinds.
pub(crate) fn open(address: &str, users: u64, connections: usize) -> Vec<TcpStream> {
    let connect = || {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    };
    let mut streams: Vec<TcpStream> = (0..connections / DEAF).map(|_| deaf(address)).collect();
    fill(&mut streams, users);
    while streams.len() < connections {
        let mut stream = connect();
        if streams.len().is_multiple_of(2) {
            stream
                .write_all(b"GET /internal/session/sessions/u/active HTTP/1.1\r\nHost: a\r\nX-")
                .unwrap();
        }
        streams.push(stream);
    }
    streams
}

/// A connection with little room for answers, and said so from its beginning: else each takes megabytes of them.
fn deaf(address: &str) -> TcpStream {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    set_socket_recv_buffer_size(&socket, 4_096).unwrap();
    set_socket_send_buffer_size(&socket, 4_096).unwrap();
    let address: SocketAddr = address.parse().unwrap();
    rustix::net::connect(&socket, &address).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(true).unwrap();
    stream
}

/// How many of them the server has not closed, as far as those that take no answers can tell.
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
fn fill(streams: &mut [TcpStream], users: u64) {
    let requests = Request::new(users).next().repeat(8);
    let mut sent = vec![0; streams.len()];
    let mut is_taken = true;
    while is_taken {
        thread::sleep(Duration::from_millis(50));
        is_taken = false;
        for (stream, sent) in streams.iter_mut().zip(&mut sent) {
            while let Ok(taken) = stream.write(&requests[*sent..]) {
                *sent = (*sent + taken) % requests.len();
                is_taken = true;
            }
        }
    }
}
