//! The callers: a process of their own, so that their processor time is not the server's.
//!
//! `closed` asks as fast as the answers come. `open` asks at a fixed rate, whatever the answers do, and counts
//! each latency from the moment the request was due, so that a stall of the server is in the figures of all that
//! it held up.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::data::TENANT;
use crate::process::KEY;

/// What the callers saw.
pub(crate) struct Seen {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    /// In microseconds; 0 of a closed load.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

pub(crate) fn closed(address: &str, users: u64, connections: usize, duration: Duration) -> Seen {
    spawn(&[
        "closed",
        address,
        &users.to_string(),
        &connections.to_string(),
        &duration.as_secs_f64().to_string(),
        "0",
    ])
}

pub(crate) fn open(
    address: &str,
    users: u64,
    connections: usize,
    rate: u64,
    duration: Duration,
) -> Seen {
    let (users, connections, rate) = (users.to_string(), connections.to_string(), rate.to_string());
    spawn(&[
        "open",
        address,
        &users,
        &connections,
        &duration.as_secs_f64().to_string(),
        &rate,
    ])
}

fn spawn(args: &[&str]) -> Seen {
    let output = Command::new(std::env::current_exe().unwrap())
        .arg("load")
        .args(args)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let figures: Vec<f64> = text
        .split_whitespace()
        .map(|figure| figure.parse().unwrap())
        .collect();
    let [requests, seconds, p50, p99] = figures[..] else {
        panic!("{text:?}")
    };
    Seen {
        requests: requests as u64,
        seconds,
        p50,
        p99,
    }
}

/// The process of the callers.
pub(crate) fn run(args: &[String]) {
    let [kind, address, users, connections, seconds, rate] = args else {
        panic!("{args:?}")
    };
    let (users, connections): (u64, usize) = (users.parse().unwrap(), connections.parse().unwrap());
    let duration = Duration::from_secs_f64(seconds.parse().unwrap());
    let seen = match kind.as_str() {
        "closed" => run_closed(address, users, connections, duration),
        _ => run_open(address, users, connections, rate.parse().unwrap(), duration),
    };
    println!(
        "{} {} {} {}",
        seen.requests, seen.seconds, seen.p50, seen.p99
    );
}

fn run_closed(address: &str, users: u64, connections: usize, duration: Duration) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let started = Instant::now();
        let callers: Vec<_> = (0..connections)
            .map(|_| {
                let address = address.to_owned();
                tokio::spawn(async move {
                    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    let mut request = Request::new(users);
                    let mut buffer = vec![0; 4096];
                    let mut requests = 0;
                    while started.elapsed() < duration {
                        stream.write_all(request.next()).await.unwrap();
                        let mut filled = 0;
                        while !is_whole(&buffer[..filled]) {
                            let count = stream.read(&mut buffer[filled..]).await.unwrap();
                            assert!(count > 0, "the server closed the connection");
                            filled += count;
                        }
                        requests += 1;
                    }
                    requests
                })
            })
            .collect();
        let mut requests: u64 = 0;
        for caller in callers {
            requests += caller.await.unwrap();
        }
        Seen {
            requests,
            seconds: started.elapsed().as_secs_f64(),
            p50: 0.0,
            p99: 0.0,
        }
    })
}

fn run_open(address: &str, users: u64, connections: usize, rate: u64, duration: Duration) -> Seen {
    let interval = Duration::from_secs_f64(connections as f64 / rate as f64);
    let started = Instant::now() + Duration::from_millis(50);
    let callers: Vec<_> = (0..connections)
        .map(|number| {
            let address = address.to_owned();
            let first = started + interval.mul_f64(number as f64 / connections as f64);
            thread::spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                let mut request = Request::new(users);
                let mut buffer = vec![0; 4096];
                let mut latencies = Vec::new();
                let mut due = first;
                while due < started + duration {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    stream.write_all(request.next()).unwrap();
                    let mut filled = 0;
                    while !is_whole(&buffer[..filled]) {
                        let count = stream.read(&mut buffer[filled..]).unwrap();
                        assert!(count > 0, "the server closed the connection");
                        filled += count;
                    }
                    latencies.push(due.elapsed());
                    due += interval;
                }
                latencies
            })
        })
        .collect();
    let mut latencies: Vec<Duration> = callers
        .into_iter()
        .flat_map(|caller| caller.join().unwrap())
        .collect();
    latencies.sort_unstable();
    let at =
        |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    Seen {
        requests: latencies.len() as u64,
        seconds: duration.as_secs_f64(),
        p50: at(0.5),
        p99: at(0.99),
    }
}

/// The question about a random user, in one buffer of which only the user changes.
pub(crate) struct Request {
    bytes: Vec<u8>,
    user_at: usize,
    users: u64,
}

impl Request {
    pub(crate) fn new(users: u64) -> Self {
        let head = "GET /internal/session/sessions/usr_";
        let bytes = format!(
            "{head}00000000/active HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\nX-Tenant-ID: {TENANT}\r\n\r\n"
        );
        Self {
            bytes: bytes.into_bytes(),
            user_at: head.len(),
            users,
        }
    }

    pub(crate) fn next(&mut self) -> &[u8] {
        let mut user = rand::random_range(0..self.users);
        for digit in self.bytes[self.user_at..self.user_at + 8].iter_mut().rev() {
            *digit = b'0' + u8::try_from(user % 10).unwrap();
            user /= 10;
        }
        &self.bytes
    }
}

/// Whether a whole response has come, which must be the one that every user of the load has.
pub(crate) fn is_whole(response: &[u8]) -> bool {
    const BODY: &[u8] = br#"{"active":true,"session_count":3}"#;
    let begins = response.len() < 12 || response.starts_with(b"HTTP/1.1 200");
    let is_whole = response.ends_with(b"}");
    assert!(
        begins && (!is_whole || response.ends_with(BODY)),
        "{}",
        String::from_utf8_lossy(response)
    );
    is_whole
}
