//! TLS: who gets a handshake, what is said at a close, new certificates under open connections, and files that can't
//! serve.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, date_time_ymd,
};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};

use crate::support::{
    Connection, Ended, KEY, PATIENCE, Sandbox, Server, question, request, skipped,
};

const FIELDS: [(&str, &str); 2] = [("X-API-Key", KEY), ("X-Tenant-ID", "t")];

/// What callers have 30 s for must not take them when it has failed at once.
const AT_ONCE: Duration = Duration::from_secs(10);

/// A certificate and its key, in PEM.
struct Pair {
    cert: String,
    key: String,
}

/// Somebody who signs certificates.
struct Authority {
    cert: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self {
            cert: params.self_signed(&key).unwrap(),
            issuer: Issuer::new(params, key),
        }
    }

    fn sign(&self, purpose: ExtendedKeyUsagePurpose, last_year: i32) -> Pair {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 12, 31);
        let key = KeyPair::generate().unwrap();
        Pair {
            cert: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn server(&self) -> Pair {
        self.sign(ExtendedKeyUsagePurpose::ServerAuth, 2100)
    }

    fn client(&self) -> Pair {
        self.sign(ExtendedKeyUsagePurpose::ClientAuth, 2100)
    }

    /// What a caller who trusts this authority brings along.
    fn trusted_by(
        &self,
        own: Option<&Pair>,
        version: &'static SupportedProtocolVersion,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.cert.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let cert = CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![cert], key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A connection whose handshake this side holds for done.
fn handshake(address: &str, config: &Arc<ClientConfig>) -> Result<TlsStream, String> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut stream)
            .map_err(|error| error.to_string())?;
    }
    Ok(StreamOwned::new(tls, stream))
}

fn connect(server: &Server, config: &Arc<ClientConfig>) -> Connection<TlsStream> {
    Connection::over(handshake(&server.address, config).unwrap())
}

/// What becomes of one question: how the answer begins, or why there is none.
fn attempt(server: &Server, config: &Arc<ClientConfig>) -> Result<String, String> {
    let mut stream = handshake(&server.address, config)?;
    let mut answer = [0; 15];
    stream
        .write_all(&question("u", &FIELDS))
        .and_then(|()| stream.read_exact(&mut answer))
        .map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

const OK: &str = "HTTP/1.1 200 OK";

fn put(sandbox: &Sandbox, pair: &Pair) {
    sandbox.write("cert.pem", &pair.cert);
    let key = sandbox.write("key.pem", &pair.key);
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A data file, and the files of TLS as a configuration names them; `more` follows the two paths.
fn prepared(pair: &Pair, more: &str) -> Sandbox {
    let sandbox = Sandbox::with_file();
    put(&sandbox, pair);
    sandbox.write(
        "sessile.toml",
        &format!("[server.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n{more}"),
    );
    sandbox
}

/// Every TCP address has TLS, the one for operators too; a unix socket has none.
#[test]
fn answers_are_the_same_over_it() {
    let authority = Authority::new("authority");
    let sandbox = prepared(&authority.server(), "");
    let socket = sandbox.path("s.sock");
    let unix = format!("unix:{}", socket.display());
    let mut command = sandbox.command(&["serve", "--listen", "127.0.0.1:0", "--listen", &unix]);
    command
        .env("INTERNAL_API_KEY", KEY)
        .env("SESSILE_SERVER__ADMIN_LISTEN", "127.0.0.1:0");
    let mut server = Server::start(command);
    assert!(
        server.urls.starts_with("https://127.0.0.1:"),
        "{}",
        server.urls
    );
    for (version, negotiated) in [
        (&TLS13, ProtocolVersion::TLSv1_3),
        (&TLS12, ProtocolVersion::TLSv1_2),
    ] {
        let config = authority.trusted_by(None, version);
        let stream = handshake(&server.address, &config).unwrap();
        assert_eq!(stream.conn.protocol_version(), Some(negotiated));
        assert_eq!(stream.conn.alpn_protocol(), Some(b"http/1.1".as_slice()));
        let mut connection = Connection::over(stream);
        for _ in 0..3 {
            let response = connection.ask(&question("u", &FIELDS));
            assert_eq!(response.body, r#"{"active":false,"session_count":0}"#);
        }
        // Several requests in one record, and one in several.
        let whole = question("u", &FIELDS);
        connection.send(&[whole.as_slice(), &whole, &whole[..30]].concat());
        connection.send(&whole[30..60]);
        connection.send(&whole[60..]);
        for _ in 0..3 {
            assert_eq!(connection.receive(false).status, 200);
        }
    }
    let admin = server.read_line();
    let admin = admin.strip_prefix("admin listening on https://").unwrap();
    let config = authority.trusted_by(None, &TLS13);
    let mut connection = Connection::over(handshake(admin, &config).unwrap());
    assert_eq!(connection.ask(&request("GET", "/readyz", &[])).status, 200);
    let mut plain = Connection::over(UnixStream::connect(socket).unwrap());
    assert_eq!(plain.ask(&question("u", &FIELDS)).status, 200);
}

/// hyper and its buffers are gone by the second request; what rustls knows of the connection is not.
#[test]
fn a_connection_that_rested_goes_on() {
    let authority = Authority::new("authority");
    let sandbox = prepared(&authority.server(), "");
    let server = sandbox.serve(&[]);
    let mut connection = connect(&server, &authority.trusted_by(None, &TLS13));
    let whole = question("u", &FIELDS);
    for _ in 0..2 {
        assert_eq!(connection.ask(&whole).status, 200);
        thread::sleep(Duration::from_millis(1_300));
    }
    connection.send(&whole[..10]);
    thread::sleep(Duration::from_millis(1_300));
    connection.send(&whole[10..]);
    assert_eq!(connection.receive(false).status, 200);
}

/// What a bare ClientHello of version 3.`minor` gets in one read: ECDHE, ECDSA on P-256, AES-128-GCM.
fn first_answer(server: &Server, minor: u8) -> Vec<u8> {
    let extensions = [
        [0, 13, 0, 4, 0, 2, 4, 3].as_slice(), // signature_algorithms
        &[0, 10, 0, 4, 0, 2, 0, 23],          // supported_groups
        &[0, 11, 0, 2, 1, 0],                 // ec_point_formats
    ]
    .concat();
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0, 0]);
    body.push(extensions.len() as u8);
    body.extend(extensions);
    let mut record = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    record.extend(body);
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&record).unwrap();
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).unwrap();
    answer.truncate(length);
    answer
}

#[test]
fn callers_who_do_not_trust_it_or_speak_something_else_get_nothing() {
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    let sandbox = prepared(&authority.server(), "");
    let server = sandbox.serve(&[]);
    let refused = attempt(&server, &other.trusted_by(None, &TLS13)).unwrap_err();
    assert!(refused.contains("invalid peer certificate"), "{refused}");

    let mut http2 = ClientConfig::clone(&authority.trusted_by(None, &TLS13));
    http2.alpn_protocols = vec![b"h2".to_vec()];
    let refused = attempt(&server, &Arc::new(http2)).unwrap_err();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");

    // The same ClientHello begins a handshake as one of TLS 1.2, and is answered by protocol_version (70) as one of 1.1.
    assert!(first_answer(&server, 3).starts_with(&[22, 3, 3]));
    let alert = first_answer(&server, 2);
    assert!(matches!(alert[..], [21, 3, _, 0, 2, 2, 70]), "{alert:?}");
    assert_eq!(
        attempt(&server, &authority.trusted_by(None, &TLS13)).as_deref(),
        Ok(OK)
    );
    server.signal("-TERM");
    let ended = server.ended();
    assert!(
        ended.stderr.matches("a TLS handshake failed").count() == 1,
        "one line in a while: {}",
        ended.stderr
    );
}

#[test]
fn plain_http_is_closed_at_once() {
    let authority = Authority::new("authority");
    let sandbox = prepared(&authority.server(), "");
    let server = sandbox.serve(&[]);
    for bytes in [question("u", &FIELDS), vec![0; 64]] {
        let started = Instant::now();
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    assert_eq!(
        attempt(&server, &authority.trusted_by(None, &TLS13)).as_deref(),
        Ok(OK)
    );
}

#[test]
fn a_handshake_without_an_end_holds_up_neither_others_nor_the_end() {
    let authority = Authority::new("authority");
    let sandbox = prepared(&authority.server(), "");
    let server = sandbox.serve(&[]);
    let unfinished: Vec<_> = (0..64)
        .map(|number| {
            let mut stream = TcpStream::connect(&server.address).unwrap();
            // Some say nothing, some begin a record.
            stream
                .write_all(&[22, 3, 1, 2, 0, 1][..number % 7])
                .unwrap();
            stream
        })
        .collect();
    let config = authority.trusted_by(None, &TLS13);
    for _ in 0..8 {
        assert_eq!(attempt(&server, &config).as_deref(), Ok(OK));
    }
    let started = Instant::now();
    server.signal("-TERM");
    let ended = server.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    drop(unfinished);
}

#[test]
fn a_close_is_said() {
    let authority = Authority::new("authority");
    let sandbox = prepared(&authority.server(), "");
    let server = sandbox.serve(&[]);
    // An end without close_notify is an error to read.
    let says_so = |mut stream: TlsStream| {
        let mut rest = Vec::new();
        let read = stream.read_to_end(&mut rest);
        assert!(read.is_ok(), "{read:?}");
    };
    let config = authority.trusted_by(None, &TLS13);
    let mut stream = handshake(&server.address, &config).unwrap();
    let close = [FIELDS.as_slice(), &[("Connection", "close")]].concat();
    stream.write_all(&question("u", &close)).unwrap();
    says_so(stream);
    let mut malformed = handshake(&server.address, &config).unwrap();
    malformed.write_all(b"no request\r\n\r\n").unwrap();
    says_so(malformed);

    let fresh = handshake(&server.address, &config).unwrap();
    let mut rests = handshake(&server.address, &config).unwrap();
    rests.write_all(&question("u", &FIELDS)).unwrap();
    rests.read_exact(&mut [0; 15]).unwrap();
    server.signal("-TERM");
    says_so(fresh);
    says_so(rests);
    assert_eq!(server.ended().code, Some(0));
}

#[test]
fn callers_without_a_certificate_of_the_right_authority_are_refused() {
    let (authority, clients) = (Authority::new("authority"), Authority::new("clients"));
    let sandbox = prepared(&authority.server(), "client_ca = \"clients.pem\"\n");
    sandbox.write("clients.pem", &clients.cert.pem());
    let server = sandbox.serve(&[]);
    let expired = clients.sign(ExtendedKeyUsagePurpose::ClientAuth, 2021);
    let (good, foreign, no_client) = (clients.client(), authority.client(), clients.server());
    for version in [&TLS13, &TLS12] {
        let ask = |own| attempt(&server, &authority.trusted_by(own, version));
        assert_eq!(ask(Some(&good)).as_deref(), Ok(OK));
        for (own, alert) in [
            (
                None,
                if version.version == ProtocolVersion::TLSv1_3 {
                    "CertificateRequired"
                } else {
                    ""
                },
            ),
            (Some(&foreign), "UnknownCA"),
            (Some(&expired), "CertificateExpired"),
            (Some(&no_client), ""),
        ] {
            let refused = ask(own).unwrap_err();
            assert!(
                refused.contains("received fatal alert") && refused.contains(alert),
                "{alert}: {refused}"
            );
        }
    }
}

/// The state of a session spares a caller the signatures of the next handshake, but never the proof of who it is.
#[test]
fn sessions_are_resumed_where_callers_have_no_certificates() {
    let (authority, clients) = (Authority::new("authority"), Authority::new("clients"));
    for (more, own, expected) in [
        ("", None, HandshakeKind::Resumed),
        (
            "client_ca = \"clients.pem\"\n",
            Some(clients.client()),
            HandshakeKind::Full,
        ),
    ] {
        let sandbox = prepared(&authority.server(), more);
        sandbox.write("clients.pem", &clients.cert.pem());
        let server = sandbox.serve(&[]);
        for version in [&TLS13, &TLS12] {
            let config = authority.trusted_by(own.as_ref(), version);
            let kind = || {
                let mut stream = handshake(&server.address, &config).unwrap();
                stream.write_all(&question("u", &FIELDS)).unwrap();
                stream.read_exact(&mut [0; 15]).unwrap();
                stream.conn.handshake_kind()
            };
            assert_eq!(kind(), Some(HandshakeKind::Full));
            assert_eq!(kind(), Some(expected), "{:?}", version.version);
        }
    }
}

/// The certificate that a new connection is shown.
fn shown(server: &Server, config: &Arc<ClientConfig>) -> CertificateDer<'static> {
    let stream = handshake(&server.address, config).unwrap();
    stream.conn.peer_certificates().unwrap()[0].clone()
}

#[test]
fn new_files_serve_new_connections_and_open_ones_go_on() {
    let authority = Authority::new("authority");
    let sandbox = prepared(&authority.server(), "");
    let server = sandbox.serve(&[]);
    let config = authority.trusted_by(None, &TLS13);
    let mut open = connect(&server, &config);
    let (done, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for keeps in [true, true, false, false] {
            let (server, config, done, answers) = (&server, &config, &done, &answers);
            scope.spawn(move || {
                let mut connection = connect(server, config);
                while !done.load(Ordering::Relaxed) {
                    if !keeps {
                        connection = connect(server, config);
                    }
                    assert_eq!(connection.ask(&question("u", &FIELDS)).status, 200);
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // The callers stop even if this panics.
        struct Stop<'d>(&'d AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _stop = Stop(&done);
        for _ in 0..5 {
            let new = authority.server();
            put(&sandbox, &new);
            let new = CertificateDer::from_pem_slice(new.cert.as_bytes()).unwrap();
            server.signal("-HUP");
            let deadline = Instant::now() + PATIENCE;
            while shown(&server, &config) != new {
                assert!(
                    Instant::now() < deadline,
                    "the new certificate is not shown"
                );
            }
            let before = answers.load(Ordering::Relaxed);
            while answers.load(Ordering::Relaxed) < before + 20 {
                thread::yield_now();
            }
            assert_eq!(open.ask(&question("u", &FIELDS)).status, 200);
        }
    });
}

#[test]
fn faulty_new_files_leave_the_old_ones_in_force() {
    let authority = Authority::new("authority");
    let sandbox = prepared(&authority.server(), "");
    let server = sandbox.serve(&[]);
    let config = authority.trusted_by(None, &TLS13);
    let before = shown(&server, &config);
    sandbox.write("key.pem", &authority.server().key);
    server.signal("-HUP");
    for _ in 0..20 {
        assert_eq!(shown(&server, &config), before);
    }
    server.signal("-TERM");
    let ended = server.ended();
    assert!(
        ended
            .stderr
            .contains("another key than that of the first certificate")
            && ended.stderr.contains("what was in force stays so"),
        "{}",
        ended.stderr
    );
}

#[test]
fn files_that_can_not_serve_are_faults() {
    let authority = Authority::new("authority");
    let (server, other) = (authority.server(), authority.server());
    let broken = server.cert.replace("-----END", "-----AND");
    let not_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let not_a_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let long = "x".repeat(2_000_000);
    for (file, text, complaint) in [
        (
            "cert",
            None,
            "server.tls.cert: can't read cert.pem: No such file",
        ),
        (
            "cert",
            Some(""),
            "server.tls.cert: found no certificate in cert.pem; allowed: ",
        ),
        (
            "cert",
            Some(&server.key),
            "server.tls.cert: found no certificate in cert.pem",
        ),
        (
            "cert",
            Some(&broken),
            "found a part without its end in cert.pem",
        ),
        (
            "cert",
            Some(not_der),
            "can't read certificate 1 of cert.pem",
        ),
        (
            "cert",
            Some(&long),
            "found more than 1048576 bytes in cert.pem",
        ),
        (
            "key",
            None,
            "server.tls.key: can't read key.pem: No such file",
        ),
        (
            "key",
            Some(&server.cert),
            "found no private key in key.pem; allowed: ",
        ),
        (
            "key",
            Some(encrypted),
            "found a key with a password in key.pem",
        ),
        (
            "key",
            Some(not_a_key),
            "found a key of another kind, or a damaged one, in key.pem",
        ),
        (
            "key",
            Some(&other.key),
            "another key than that of the first certificate of cert.pem",
        ),
        (
            "clients",
            None,
            "server.tls.client_ca: can't read clients.pem",
        ),
        (
            "clients",
            Some(&server.key),
            "server.tls.client_ca: found no certificate in clients.pem",
        ),
    ] {
        let sandbox = prepared(&server, "client_ca = \"clients.pem\"\n");
        sandbox.write("clients.pem", &authority.cert.pem());
        let name = format!("{file}.pem");
        match text {
            Some(text) => drop(sandbox.write(&name, text)),
            None => fs::remove_file(sandbox.path(&name)).unwrap(),
        }
        let mut command = sandbox.command(&["serve", "--listen", "127.0.0.1:0"]);
        command.env("INTERNAL_API_KEY", KEY);
        let error = Ended::from(command.output().unwrap()).failed(3);
        assert!(error.contains(complaint), "{complaint}: {error}");
        assert!(error.contains("has a fault\n  sessile.toml: "), "{error}");
        let secret = server.key.lines().nth(1).unwrap();
        assert!(!error.contains(secret), "{error}");
    }
    let sandbox = prepared(&server, "client_ca = \"clients.pem\"\n");
    sandbox.write("cert.pem", "");
    sandbox.write("key.pem", "");
    let mut command = sandbox.command(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("INTERNAL_API_KEY", KEY);
    let error = Ended::from(command.output().unwrap()).failed(3);
    assert!(error.contains("has 3 faults"), "{error}");

    sandbox.write(
        "sessile.toml",
        "[server.tls]\nclient_ca = \"clients.pem\"\n",
    );
    let error = sandbox.run(&["config"]).failed(3);
    for key in ["cert", "key"] {
        let complaint = format!("server.tls.{key}: missing; allowed with server.tls: ");
        assert!(error.contains(&complaint), "{error}");
    }
}

#[test]
fn files_that_serve_but_should_not_are_warned_of() {
    let authority = Authority::new("authority");
    let sandbox = prepared(
        &authority.sign(ExtendedKeyUsagePurpose::ServerAuth, 2021),
        "",
    );
    fs::set_permissions(sandbox.path("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    let server = sandbox.serve(&[]);
    server.signal("-TERM");
    let ended = server.ended();
    for warning in [
        "the certificate expired at 2021-12-31T00:00:00.000Z",
        "everybody may read its file key.pem",
    ] {
        assert!(ended.stderr.contains(warning), "{}", ended.stderr);
    }
    put(&sandbox, &authority.server());
    let server = sandbox.serve(&[]);
    server.signal("-TERM");
    let ended = server.ended();
    assert!(!ended.stderr.contains("WARN"), "{}", ended.stderr);
}

/// PKCS#8 is what the other tests use.
#[test]
fn keys_in_the_older_forms_serve() {
    for arguments in [
        "genrsa -traditional -out key.pem 2048",
        "ecparam -name prime256v1 -genkey -noout -out key.pem",
        "ecparam -name secp384r1 -genkey -noout -out key.pem",
        "genpkey -algorithm ed25519 -out key.pem",
    ] {
        let sandbox = Sandbox::with_file();
        sandbox.write(
            "sessile.toml",
            "[server.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n",
        );
        let openssl = |arguments: &str| {
            let mut command = Command::new("openssl");
            command
                .args(arguments.split(' '))
                .current_dir(sandbox.path(""));
            command.output()
        };
        let Ok(made) = openssl(arguments) else {
            return skipped("there is no openssl here to make keys of other forms");
        };
        Ended::from(made).ok();
        let signed = openssl(
            "req -x509 -new -key key.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
             -addext basicConstraints=critical,CA:FALSE -out cert.pem",
        );
        Ended::from(signed.unwrap()).ok();
        let server = sandbox.serve(&[]);
        let mut roots = RootCertStore::empty();
        let cert = fs::read(sandbox.path("cert.pem")).unwrap();
        roots
            .add(CertificateDer::from_pem_slice(&cert).unwrap())
            .unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        assert_eq!(
            attempt(&server, &Arc::new(config)).as_deref(),
            Ok(OK),
            "{arguments}"
        );
    }
}

/// systemd hands files over in a folder of its own.
#[test]
fn files_may_be_credentials() {
    let authority = Authority::new("authority");
    let pair = authority.server();
    let sandbox = prepared(&authority.server(), "");
    let folder = sandbox.path("credentials");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("key.pem"), &pair.key).unwrap();
    fs::write(sandbox.path("cert.pem"), &pair.cert).unwrap();
    let mut command = sandbox.command(&["serve", "--listen", "127.0.0.1:0"]);
    command
        .env("INTERNAL_API_KEY", KEY)
        .env("CREDENTIALS_DIRECTORY", &folder);
    let server = Server::start(command);
    assert_eq!(
        attempt(&server, &authority.trusted_by(None, &TLS13)).as_deref(),
        Ok(OK)
    );
}

/// With or without mutual TLS: a listener shows its certificate before it asks for one.
#[test]
fn doctor_knows_the_server_by_its_certificate() {
    let authority = Authority::new("authority");
    for more in ["", "client_ca = \"clients.pem\"\n"] {
        let sandbox = prepared(&authority.server(), more);
        sandbox.write("clients.pem", &authority.cert.pem());
        let server = sandbox.serve(&[]);
        let findings = |address: &str| {
            let mut command = sandbox.command(&["doctor", "--quick"]);
            command
                .env("INTERNAL_API_KEY", KEY)
                .env("SESSILE_SERVER__LISTEN", address);
            Ended::from(command.output().unwrap()).stdout
        };
        let found = findings(&server.address);
        assert!(
            found.contains("a server with this certificate answers at"),
            "{found}"
        );
        assert!(
            found.contains("the certificate holds until 2100-12-31"),
            "{found}"
        );

        put(&sandbox, &authority.server());
        let found = findings(&server.address);
        assert!(
            found.contains("a server with another certificate answers there"),
            "{found}"
        );

        let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = plain.local_addr().unwrap().to_string();
        let found = thread::scope(|scope| {
            scope.spawn(|| drop(plain.accept().unwrap()));
            findings(&address)
        });
        assert!(found.contains("another program listens at"), "{found}");

        put(
            &sandbox,
            &authority.sign(ExtendedKeyUsagePurpose::ServerAuth, 2021),
        );
        fs::set_permissions(sandbox.path("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
        let found = findings(&server.address);
        assert!(
            found.contains("server.tls.cert: the certificate expired at")
                && found.contains("chmod o-rwx key.pem"),
            "{found}"
        );
        fs::remove_file(sandbox.path("key.pem")).unwrap();
        let found = findings(&server.address);
        assert!(
            found.contains("server.tls.key: can't read key.pem")
                && found.contains("a server with TLS answers at"),
            "{found}"
        );
    }
}
