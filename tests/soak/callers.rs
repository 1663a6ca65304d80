//! Those who ask: mostly good questions, some bad ones, and clients that stall.

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rand::random_range;

use crate::client::{Client, Response};
use crate::clock::{now, wall};
use crate::model::Answer;
use crate::shared::{Shared, count, name, once_in, tenant};

/// How long after an answer it is judged: by then every commit before it has been heard of.
const DELAY: u64 = 1_000_000_000;

/// What has to be judged.
pub(crate) enum Seen {
    Answer(Answer),
    /// An error, with its time and what was said.
    Error(u64, u64, String),
}

/// Asks until the end, with a pause of `pause` on average.
pub(crate) fn ask(shared: &Shared, judge: &Sender<Seen>, pause: Duration) {
    let mut client = Client::new(&shared.address);
    while !shared.is_over() {
        if once_in(12) {
            ask_badly(shared, judge, &mut client);
        } else {
            ask_well(shared, judge, &mut client);
        }
        if once_in(500) {
            client.close();
        }
        std::thread::sleep(pause.mul_f64(random_range(0.0..2.0)));
    }
    shared
        .counts
        .reconnected
        .fetch_add(client.reconnected, std::sync::atomic::Ordering::Relaxed);
}

fn ask_well(shared: &Shared, judge: &Sender<Seen>, client: &mut Client) {
    let user = random_range(0..shared.model.users());
    let request = question(
        user,
        &format!(
            "X-API-Key: {}\r\nX-Tenant-ID: {}\r\n",
            shared.key.read().unwrap(),
            tenant(user)
        ),
    );
    let sent = (now(), wall());
    let Some(response) = send(shared, judge, client, &request) else {
        return;
    };
    let received = (now(), wall());
    match response.status {
        200 => match counted(&response.body) {
            Some(count) => judge
                .send(Seen::Answer(Answer {
                    user,
                    count,
                    sent,
                    received,
                }))
                .unwrap(),
            None => shared.fault(format!("200 with the body {:?}", response.body)),
        },
        500..=599 => judge
            .send(Seen::Error(sent.0, received.0, response.body))
            .unwrap(),
        status => shared.fault(format!("{status} to a good question: {}", response.body)),
    }
}

/// The count, if both members say the same.
fn counted(body: &str) -> Option<u64> {
    let (active, count) = body
        .strip_prefix("{\"active\":")?
        .strip_suffix('}')?
        .split_once(",\"session_count\":")?;
    let count: u64 = count.parse().ok()?;
    (active == (count > 0).to_string()).then_some(count)
}

fn question(user: usize, fields: &str) -> Vec<u8> {
    let name = name(user);
    let name = utf8_percent_encode(&name, NON_ALPHANUMERIC);
    format!(
        "GET /internal/session/sessions/{name}/active HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"
    )
    .into_bytes()
}

fn send(
    shared: &Shared,
    judge: &Sender<Seen>,
    client: &mut Client,
    request: &[u8],
) -> Option<Response> {
    let sent = now();
    match client.ask(request) {
        Ok(response) => {
            shared.seen(&response.status.to_string());
            Some(response)
        }
        Err(error) => {
            shared.seen("no answer");
            // The end of the soak is no fault of the server.
            if !shared.is_over() {
                judge
                    .send(Seen::Error(sent, now(), format!("no answer: {error}")))
                    .unwrap();
            }
            None
        }
    }
}

fn ask_badly(shared: &Shared, judge: &Sender<Seen>, client: &mut Client) {
    let key = shared.key.read().unwrap().clone();
    let good = format!("Host: localhost\r\nX-API-Key: {key}\r\nX-Tenant-ID: t\r\n");
    let path = "/internal/session/sessions/u/active";
    let cases: [(String, u16); 15] = [
        (
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Tenant-ID: t\r\n\r\n"),
            401,
        ),
        (
            format!("GET {path} HTTP/1.1\r\n{good}X-API-Key: {key}\r\n\r\n"),
            401,
        ),
        (
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\n\r\n"),
            400,
        ),
        (
            format!("GET {path} HTTP/1.1\r\nX-API-Key: {key}\r\nX-Tenant-ID: t\r\n\r\n"),
            400,
        ),
        (
            format!("GET {path} HTTP/1.1\r\n{good}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
        ),
        (
            format!("GET {path} HTTP/1.1\r\n{good}X-Sessile-Now: 2026-11-23T12:00:00Z\r\n\r\n"),
            400,
        ),
        (
            format!("GET /internal/session/sessions/%zz/active HTTP/1.1\r\n{good}\r\n"),
            400,
        ),
        (
            format!(
                "GET /internal/session/sessions/{}/active HTTP/1.1\r\n{good}\r\n",
                "x".repeat(300)
            ),
            400,
        ),
        (
            format!("GET /x{} HTTP/1.1\r\n{good}\r\n", "x".repeat(6_200)),
            414,
        ),
        (
            format!("GET {path} HTTP/1.1\r\n{good}{}\r\n", "a: b\r\n".repeat(70)),
            431,
        ),
        (format!("GET {path}/ HTTP/1.1\r\n{good}\r\n"), 404),
        (
            format!("POST {path} HTTP/1.1\r\n{good}Content-Length: 2\r\n\r\n{{}}"),
            405,
        ),
        (format!("HEAD {path} HTTP/1.1\r\n{good}\r\n"), 200),
        (
            "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
            200,
        ),
        (
            "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
            200,
        ),
    ];
    let (request, wanted) = &cases[random_range(0..cases.len())];
    let sent = now();
    let Some(response) = send(shared, judge, client, request.as_bytes()) else {
        return;
    };
    if response.status >= 500 {
        judge.send(Seen::Error(sent, now(), response.body)).unwrap();
    } else if response.status != *wanted {
        shared.fault(format!(
            "{} instead of {wanted} to {request:?}: {}",
            response.status, response.body
        ));
    }
}

/// Judges what was seen, each some time after it was.
pub(crate) fn judge(shared: &Shared, seen: &Receiver<Seen>) {
    for seen in seen {
        let (Seen::Answer(Answer {
            received: (at, _), ..
        })
        | Seen::Error(_, at, _)) = seen;
        let wait = (at + DELAY).saturating_sub(now());
        std::thread::sleep(Duration::from_nanos(wait));
        match seen {
            Seen::Answer(answer) => {
                count(&shared.counts.judged);
                if let Err(why) = shared.model.judge(&answer) {
                    let is_replacing = shared.is_replacing(answer.sent.0, answer.received.0);
                    let when = if is_replacing {
                        ", while the file was replaced"
                    } else {
                        ""
                    };
                    shared.fault(format!("a wrong answer: {why}{when}; {answer:?}"));
                }
            }
            Seen::Error(sent, received, what) => {
                if shared.is_replacing(sent, received) {
                    count(&shared.counts.excused);
                } else {
                    shared.fault(format!("an error for no reason: {what}"));
                }
            }
        }
    }
}

/// A client that stalls, again and again until the end: with half a head, or without reading what it asked for.
pub(crate) fn stall(shared: &Shared) {
    while !shared.is_over() {
        let Ok(mut stream) = TcpStream::connect(&shared.address) else {
            shared.sleep(Duration::from_millis(200));
            continue;
        };
        count(&shared.counts.stalled);
        let _ = stream.set_nonblocking(true);
        match random_range(0..4) {
            0 => {} // says nothing
            1 => drop(stream.write(b"G")),
            2 => drop(stream.write(b"GET /healthz HTTP/1.1\r\nHost: local")),
            _ => {
                // Until its own buffers are full, and those of the server.
                let request = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
                for _ in 0..200 {
                    if stream.write(&request).is_err() {
                        break;
                    }
                }
            }
        }
        shared.sleep(Duration::from_secs(random_range(1..20)));
    }
}
