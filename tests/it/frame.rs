//! The frame of a request, byte for byte: what is taken, what is answered with a Problem, and what the HTTP library
//! refuses with an empty answer before our code sees it (RFC 9112).

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::support::{KEY, PATIENCE, Sandbox, Server};

const TARGET: &str = "/internal/session/sessions/u/active";

/// What came back: each answer's status with `!` where it is a Problem, and `.` where the connection was closed then.
fn said(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    // The server reads what was sent, and then finds that no more is to come.
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).unwrap();
    let answers = String::from_utf8(answers).unwrap();
    let statuses = answers.split("HTTP/1.").skip(1).map(|answer| {
        let status = answer.split(' ').nth(1).unwrap();
        let problem = if answer.contains("\"type\":\"/problems/") {
            "!"
        } else {
            ""
        };
        let closes = if answer.contains("connection: close") {
            "."
        } else {
            ""
        };
        format!("{status}{problem}{closes}")
    });
    statuses.collect::<Vec<_>>().join(" ")
}

/// A request in pieces: what goes before the two fields that every good one has, and what follows them.
fn framed(line: &str, fields: &str) -> Vec<u8> {
    format!("{line}\r\n{fields}X-API-Key: {KEY}\r\nX-Tenant-ID: t\r\n\r\n").into_bytes()
}

#[test]
fn each_frame_has_its_answer() {
    let sandbox = Sandbox::with_file();
    let server = sandbox.serve(&[]);
    let get = format!("GET {TARGET} HTTP/1.1");
    let get_10 = format!("GET {TARGET} HTTP/1.0");
    let absolute = |authority: &str| format!("GET http://{authority}{TARGET} HTTP/1.1");
    for (line, fields, wanted) in [
        (get.as_str(), "Host: a\r\n", "200"),
        // Lines (RFC 9112 sections 2.2 and 5): a bare LF may be taken for an end, a fold or a bare CR may not.
        (&get, "Host: a\nX: y\n", "200"),
        (&get, "Host: a\r\nX: y\r\n z\r\n", "400."),
        (&get, "Host: a\r\nX: y\r\n\tz\r\n", "400."),
        (&get, " Host: a\r\n", "400."),
        (&get, "Host: a\r\nX: y\rz\r\n", "400."),
        (&get, "Host : a\r\n", "400."),
        (&get, "Host: a\r\nX : y\r\n", "400."),
        (&get, "Host: a\r\n: y\r\n", "400."),
        (&get, "Host: a\r\nX\r\n", "400."),
        (&get, "Host: a\r\nX\0: y\r\n", "400."),
        (&get, "Host: a\r\nX: y\0z\r\n", "400."),
        (&get, "Host: a\r\nX: y\x7fz\r\n", "400."),
        (&get, "Host: a\r\nXé: y\r\n", "400."),
        (&get, "Host: a\r\nX: é\r\n", "200"),
        // The request line (section 3).
        (&format!("\r\n{get}"), "Host: a\r\n", "200"),
        (&format!(" {get}"), "Host: a\r\n", "400."),
        (&format!("{get} "), "Host: a\r\n", "400."),
        (&get.replace(" /", "  /"), "Host: a\r\n", "400."),
        (&get.replace(" /", "\t/"), "Host: a\r\n", "400."),
        (&get.replace("HTTP", "http"), "Host: a\r\n", "400."),
        (&get.replace("1.1", "1.2"), "Host: a\r\n", "400."),
        (&get.replace("1.1", "2.0"), "Host: a\r\n", "400."),
        (&format!("GET {TARGET}"), "Host: a\r\n", "400."),
        (&get.replace("/u/", "/u u/"), "Host: a\r\n", "400."),
        (&get.replace("/u/", "/u\0/"), "Host: a\r\n", "400."),
        (&get.replace("/u/", "/u\x7f/"), "Host: a\r\n", "400."),
        (&get.replace("/u/", "/<u>/"), "Host: a\r\n", "400."),
        (&get.replace("GET", "G(T"), "Host: a\r\n", "400."),
        (&get.replace("GET", "get"), "Host: a\r\n", "405!"),
        (
            &get.replace("/u/", &format!("/{}/", "u".repeat(5_000))),
            "Host: a\r\n",
            "400!",
        ),
        (
            &get.replace("/u/", &format!("/{}/", "u".repeat(6_200))),
            "Host: a\r\n",
            "414!",
        ),
        (
            &get.replace("/u/", &format!("/{}/", "u".repeat(70_000))),
            "Host: a\r\n",
            "431.",
        ),
        // Targets in other forms (section 3.2).
        (&absolute("x"), "Host: y\r\n", "200"),
        (&absolute("x"), "", "200"),
        (&absolute("x"), "Host: a b\r\n", "400!"),
        (&absolute("user@x"), "Host: a\r\n", "400!"),
        (&absolute(""), "Host: a\r\n", "400."),
        // A legal name that the HTTP library does not take in a target.
        (&absolute("%61"), "Host: a\r\n", "400."),
        ("GET x:80 HTTP/1.1", "Host: a\r\n", "404!"),
        ("GET * HTTP/1.1", "Host: a\r\n", "404!"),
        ("OPTIONS * HTTP/1.1", "Host: a\r\n", "405!"),
        ("CONNECT x:80 HTTP/1.1", "Host: x:80\r\n", "405!"),
        // Host.
        (&get, "", "400!"),
        (&get, "Host: a\r\nHost: a\r\n", "400!"),
        (&get, "Host:\r\nHost:\r\n", "400!"),
        (&get, "Host: a, b\r\n", "400!"),
        (&get, "Host: :80\r\n", "400!"),
        (&get, "Host: a%4\r\n", "400!"),
        (&get, "Host: a%41:80\r\n", "200"),
        (&get_10, "", "200"),
        (&get_10, "Host: a\r\n", "200"),
        (&get_10, "Host: a\r\nHost: b\r\n", "400!"),
        // Bodies (section 6): one length or none, no coding.
        (&get, "Host: a\r\nContent-Length: 0\r\n", "200"),
        (&get, "Host: a\r\nContent-Length: 5\r\n", "200."),
        (
            &get,
            "Host: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n",
            "200.",
        ),
        (
            &get,
            "Host: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
            "400.",
        ),
        (&get, "Host: a\r\nContent-Length: 5, 5\r\n", "400."),
        (&get, "Host: a\r\nContent-Length: +5\r\n", "400."),
        (&get, "Host: a\r\nContent-Length: -5\r\n", "400."),
        (&get, "Host: a\r\nContent-Length:\r\n", "400."),
        (
            &get,
            "Host: a\r\nContent-Length: 99999999999999999999\r\n",
            "400.",
        ),
        (&get, "Host: a\r\nTransfer-Encoding: chunked\r\n", "400!."),
        (
            &get,
            "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "400!.",
        ),
        (
            &get,
            "Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "400!.",
        ),
        (
            &get,
            "Host: a\r\nTransfer-Encoding: gzip, chunked\r\n",
            "400!.",
        ),
        // Where it does not end in chunked, a request's body has no end that can be found.
        (
            &get,
            "Host: a\r\nTransfer-Encoding: chunked, gzip\r\n",
            "400.",
        ),
        (&get, "Host: a\r\nTransfer-Encoding: identity\r\n", "400."),
        (&get, "Host: a\r\nTransfer-Encoding:\r\n", "400."),
        (&get_10, "Host: a\r\nTransfer-Encoding: chunked\r\n", "400."),
        // Offers that are not taken up (RFC 9110 sections 7.8 and 10.1.1).
        (&get, "Host: a\r\nExpect: 100-continue\r\n", "200"),
        (
            &get,
            "Host: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n",
            "200.",
        ),
        (
            &get,
            "Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
            "200",
        ),
        (
            &get,
            "Host: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
            "200",
        ),
    ] {
        assert_eq!(
            said(&server, &framed(line, fields)),
            wanted,
            "{line:?} {fields:?}"
        );
    }
}

#[test]
fn nothing_behind_a_bad_frame_is_taken_for_a_request() {
    let sandbox = Sandbox::with_file();
    let server = sandbox.serve(&[]);
    let get = format!("GET {TARGET} HTTP/1.1");
    let good = framed(&get, "Host: a\r\n");
    let with = |fields: &str| framed(&get, &format!("Host: a\r\n{fields}"));
    for (between, wanted) in [
        (good.clone(), "200 200 200"),
        // Its end is clear, whatever it says.
        (framed(&get, "Host: a\r\nHost: b\r\n"), "200 400! 200"),
        (b"nonsense\r\n\r\n".to_vec(), "200 400."),
        (with("X : y\r\n"), "200 400."),
        (
            with("Content-Length: 5\r\nContent-Length: 6\r\n"),
            "200 400.",
        ),
        (
            [
                with("Transfer-Encoding: chunked\r\n"),
                b"0\r\n\r\n".to_vec(),
            ]
            .concat(),
            "200 400!.",
        ),
        (
            [with("Content-Length: 5\r\n"), b"hello".to_vec()].concat(),
            "200 200.",
        ),
        // What follows is its body.
        (
            with(&format!("Content-Length: {}\r\n", good.len())),
            "200 200.",
        ),
        (with("Connection: close\r\n"), "200 200."),
    ] {
        let bytes = [good.as_slice(), &between, &good].concat();
        assert_eq!(
            said(&server, &bytes),
            wanted,
            "{}",
            String::from_utf8_lossy(&between)
        );
    }
}

/// HTTP/2 in the clear is not spoken, and no answer of HTTP/1 would be understood: the connection ends.
#[test]
fn a_preface_of_http_2_ends_the_connection() {
    let sandbox = Sandbox::with_file();
    let server = sandbox.serve(&[]);
    let mut connection = server.connect();
    connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let started = std::time::Instant::now();
    assert!(connection.is_closed());
    assert!(started.elapsed() < PATIENCE / 2);
}
