//! Whether a peer answers what ours answers: speed counts only where the answers are the same.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::data::{ODD_USERS, SESSIONS_A_USER, TENANT};
use crate::process::KEY;

/// How many of the users of the load are asked about.
const SAMPLE: usize = 1_000;

/// Asks both about random users of the load, about all others, and with a wrong key or none, or no tenant. The error
/// tells the first answer that differs.
pub(crate) fn compare(ours: &str, theirs: &str, rows: u64) -> Result<(), String> {
    let key = format!("X-API-Key: {KEY}\r\n");
    let tenant = format!("X-Tenant-ID: {TENANT}\r\n");
    let headers = format!("{key}{tenant}");
    let of_the_load = (0..SAMPLE).map(|_| {
        let user = rand::random_range(0..rows / SESSIONS_A_USER);
        (format!("usr_{user:08}"), headers.clone())
    });
    let odd = (0..ODD_USERS).map(|user| (format!("odd_{user}"), headers.clone()));
    let others = [
        ("nobody".to_owned(), headers.clone()),
        // The same user in another case, and by another spelling.
        ("ODD_3".to_owned(), headers.clone()),
        ("odd%5F3".to_owned(), headers.clone()),
        (
            "odd_3".to_owned(),
            format!("{key}X-Tenant-ID: tnt_other\r\n"),
        ),
        ("odd_3".to_owned(), key.clone()),
        ("odd_3".to_owned(), tenant.clone()),
        ("odd_3".to_owned(), format!("X-API-Key: {KEY}.\r\n{tenant}")),
        (
            "odd_3".to_owned(),
            format!("X-API-Key: {}\r\n{tenant}", KEY.replace('a', "b")),
        ),
    ];
    for (user, headers) in of_the_load.chain(odd).chain(others) {
        let (expected, found) = (ask(ours, &user, &headers)?, ask(theirs, &user, &headers)?);
        if found != expected {
            return Err(format!(
                "about {user:?} with {headers:?} it answers {found:?}, ours {expected:?}"
            ));
        }
    }
    Ok(())
}

/// The status of an answer, and of a good one the body.
fn ask(address: &str, user: &str, headers: &str) -> Result<(String, String), String> {
    let fault = |error: std::io::Error| format!("{address}: {error}");
    let mut stream = TcpStream::connect(address).map_err(fault)?;
    let request = format!(
        "GET /internal/session/sessions/{user}/active HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(fault)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(fault)?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    let body = answer
        .split_once("\r\n\r\n")
        .map_or("", |(_, body)| body)
        .to_owned();
    Ok(match status {
        "200" => (status.to_owned(), body),
        _ => (status.to_owned(), String::new()),
    })
}
