//! The guard: how many instructions a request takes, counted by valgrind's callgrind.
//!
//! Time is noisy on machines that others use; instructions repeat. Each server is counted for two numbers of requests
//! on one connection, and what the second run took more than the first belongs to the requests alone. The kernel's
//! part is not in it. valgrind shows programs a processor without SHA instructions, so a key's digest costs some 3,400
//! here that it does not cost elsewhere.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use crate::load::Request;
use crate::process::Server;
use crate::{data, say};

/// How many times the instructions of the bare server ours may take. Raise it only for what is worth it.
const MOST: f64 = 2.9;

/// The two numbers of requests.
const FEW: u64 = 500;
const MANY: u64 = 2_500;

const ROWS: u64 = 100_000;

/// Counts both servers, prints what was found, and panics where ours takes more than [`MOST`] allows.
pub(crate) fn check() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("bench.db");
    data::fill(&database, ROWS);
    let counts = folder.path().join("counts");
    let bare = a_request(&counts, Server::bare_under);
    let ours = a_request(&counts, |valgrind| {
        Server::sessile_under(valgrind, &database)
    });
    let ratio = ours / bare;
    say(&format!(
        "instructions a request: bare hyper {bare:.0}, sessile {ours:.0}, {ratio:.2} times as many; at most {MOST} are allowed"
    ));
    assert!(
        ratio <= MOST,
        "the way of a request has grown: look for what was added to it"
    );
}

fn a_request(counts: &Path, start: impl Fn(&[String]) -> Server) -> f64 {
    let valgrind = [
        "valgrind".to_owned(),
        "--tool=callgrind".to_owned(),
        format!("--callgrind-out-file={}", counts.display()),
    ];
    let count = |requests| {
        let server = start(&valgrind);
        ask(&server.address, requests);
        server.terminate();
        total(&std::fs::read_to_string(counts).unwrap())
    };
    let (few, many) = (count(FEW), count(MANY));
    (many - few) as f64 / (MANY - FEW) as f64
}

fn ask(address: &str, requests: u64) {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut request = Request::new(ROWS / data::SESSIONS_A_USER);
    let mut buffer = [0; 4096];
    for _ in 0..requests {
        stream.write_all(request.next()).unwrap();
        let mut filled = 0;
        while !crate::load::is_whole(&buffer[..filled]) {
            let count = stream.read(&mut buffer[filled..]).unwrap();
            assert!(count > 0, "the server closed the connection");
            filled += count;
        }
    }
}

/// The sum in callgrind's output.
fn total(output: &str) -> u64 {
    output
        .lines()
        .find_map(|line| {
            line.strip_prefix("summary: ")
                .or_else(|| line.strip_prefix("totals: "))
        })
        .and_then(|number| number.trim().parse().ok())
        .unwrap()
}
