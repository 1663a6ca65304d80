//! TLS by rustls: what the files must hold, the handshake, and new files under open connections.
//!
//! TLS 1.3 and 1.2 with the cipher suites that rustls chooses; of protocols over it only `http/1.1`. A handshake is a
//! connection without a request: it has the time of one, and a stop ends it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::io::AsyncBufRead;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::{
    NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier,
};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, CertificateError, InconsistentKeys, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use super::connection::{self, Readable};
use super::seldom::Seldom;
use super::waiting::Waiting;
use super::{Answers, Limits, stopping};
use crate::time::Timestamp;

/// The most bytes of a file: a bundle of every public authority has some 200,000.
const MAX_FILE: u64 = 1 << 20;

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, then those that lead from it to what callers trust.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Whose certificates callers must have; `None` where they need none.
    pub client_ca: Option<PathBuf>,
}

/// Which of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFile {
    Cert,
    Key,
    ClientCa,
}

/// A file that can't serve: what was found, and what is allowed.
#[derive(Debug, Error)]
#[error("{complaint}")]
pub struct TlsFault {
    pub file: TlsFile,
    complaint: String,
}

/// When a certificate holds, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub from: Timestamp,
    pub until: Timestamp,
}

/// TLS as new connections get it.
pub struct Tls {
    /// Read once for each connection that comes in, written when the files are read anew.
    loaded: RwLock<Loaded>,
}

struct Loaded {
    files: TlsFiles,
    config: Arc<ServerConfig>,
    cert: CertificateDer<'static>,
    validity: Option<Validity>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// Every file that can't serve, as far as the others can be judged without it.
    pub fn open(files: TlsFiles) -> Result<Self, Vec<TlsFault>> {
        Ok(Self {
            loaded: RwLock::new(load(files)?),
        })
    }

    /// Takes over what `fresh` has read. Connections from now on get that, those that are open keep what they have.
    pub fn replace(&self, fresh: Self) {
        let fresh = fresh.loaded.into_inner();
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) =
            fresh.unwrap_or_else(PoisonError::into_inner);
    }

    /// When the server's certificate holds, where it tells.
    pub fn validity(&self) -> Option<Validity> {
        self.loaded().validity
    }

    /// The server's certificate (DER).
    pub fn certificate(&self) -> Vec<u8> {
        self.loaded().cert.to_vec()
    }

    /// The file of the server's key.
    pub fn key_file(&self) -> PathBuf {
        self.loaded().files.key.clone()
    }

    /// What the next connection gets.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded().config)
    }

    fn loaded(&self) -> RwLockReadGuard<'_, Loaded> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tls {
    /// The files, and nothing of what they hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.loaded().files.fmt(f)
    }
}

fn load(files: TlsFiles) -> Result<Loaded, Vec<TlsFault>> {
    let provider = Arc::new(ring::default_provider());
    let mut faults = Vec::new();
    let mut take = |fault| faults.push(fault);
    let chain = certificates(&files.cert)
        .map_err(|complaint| take(fault(TlsFile::Cert, complaint)))
        .ok();
    let key = private_key(&files.key)
        .map_err(|complaint| take(fault(TlsFile::Key, complaint)))
        .ok();
    let pair = chain.zip(key).and_then(|(chain, key)| {
        pair(&files, chain, key, &provider)
            .map_err(|complaint| take(fault(TlsFile::Key, complaint)))
            .ok()
    });
    let clients = files.client_ca.as_deref().map(authorities);
    let clients = clients
        .transpose()
        .map_err(|complaint| take(fault(TlsFile::ClientCa, complaint)))
        .ok();
    let (Some(pair), Some(clients)) = (pair, clients) else {
        return Err(faults);
    };
    let cert = pair.cert[0].clone();
    let config = configure(pair, clients, provider)
        .map_err(|complaint| vec![fault(TlsFile::ClientCa, complaint)])?;
    Ok(Loaded {
        files,
        config: Arc::new(config),
        validity: validity(&cert),
        cert,
    })
}

fn configure(
    pair: CertifiedKey,
    clients: Option<RootCertStore>,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, String> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| error.to_string())?;
    let are_known = clients.is_some();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| error.to_string())?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if are_known {
        // A resumed session is not asked for its certificate: it would outlive one that has expired, or whose
        // authority was taken away. Such callers prove themselves at each connection.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        // The caller keeps the state of a session, under a key that this process makes and changes by itself.
        config.ticketer = ring::Ticketer::new().map_err(|error| error.to_string())?;
    }
    Ok(config)
}

fn fault(file: TlsFile, complaint: String) -> TlsFault {
    TlsFault { file, complaint }
}

const CERTIFICATES: &str =
    "allowed: certificates in PEM, as \"-----BEGIN CERTIFICATE-----\" begins one";

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| {
            format!(
                "found {} in {}; {CERTIFICATES}",
                pem_fault(&error),
                path.display()
            )
        })?;
    if found.is_empty() {
        return Err(format!(
            "found no certificate in {}; {CERTIFICATES}",
            path.display()
        ));
    }
    for (index, certificate) in found.iter().enumerate() {
        ParsedCertificate::try_from(certificate).map_err(|error| {
            format!(
                "can't read certificate {} of {}: {error}",
                index + 1,
                path.display()
            )
        })?;
    }
    Ok(found)
}

const KEYS: &str = "allowed: a private key in PEM without a password, as PKCS#8, PKCS#1 or SEC1, RSA, ECDSA (P-256, P-384) or Ed25519";

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = read(path)?;
    let mut found = PrivateKeyDer::pem_slice_iter(&text);
    let what = match found.next() {
        Some(Ok(key)) => return Ok(key),
        Some(Err(error)) => pem_fault(&error),
        None if text.windows(9).any(|part| part == b"ENCRYPTED") => "a key with a password",
        None => "no private key",
    };
    Err(format!("found {what} in {}; {KEYS}", path.display()))
}

fn pair(
    files: &TlsFiles,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => format!(
            "found in {} another key than that of the first certificate of {}; allowed: the two that belong together",
            files.key.display(),
            files.cert.display()
        ),
        _ => format!("found a key of another kind, or a damaged one, in {}; {KEYS}", files.key.display()),
    })
}

fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| {
            format!(
                "found no authority's certificate in {}: {error}",
                path.display()
            )
        })?;
    }
    Ok(roots)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        File::open(path)?
            .take(MAX_FILE + 1)
            .read_to_end(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|error| format!("can't read {}: {error}", path.display()))?;
    if text.len() as u64 > MAX_FILE {
        return Err(format!(
            "found more than {MAX_FILE} bytes in {}; allowed: a PEM file",
            path.display()
        ));
    }
    Ok(text)
}

/// What is wrong with a file's PEM, without the line at fault: it may be one of the key.
fn pem_fault(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a part without its end",
        _ => "a part that is no PEM",
    }
}

/// When a certificate holds. rustls has no accessor for it, but checks it before anything else and says what it
/// found: once at the beginning of time and once at its end.
fn validity(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let certificate = ParsedCertificate::try_from(certificate).ok()?;
    let verified_at = |seconds| {
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &RootCertStore::empty(),
            &[],
            UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            ring::default_provider()
                .signature_verification_algorithms
                .all,
        )
    };
    let told = |time: UnixTime| {
        let millis = i64::try_from(time.as_secs()).ok()?.checked_mul(1_000)?;
        Some(Timestamp::from_millis(millis))
    };
    use rustls::Error::InvalidCertificate;
    let from = match verified_at(0) {
        Err(InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
            told(not_before)?
        }
        _ => Timestamp::from_millis(0),
    };
    match verified_at(u64::MAX) {
        Err(InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Some(Validity {
                from,
                until: told(not_after)?,
            })
        }
        _ => None,
    }
}

/// Serves a connection: the handshake, then what comes over it.
pub(super) async fn serve<S: Answers>(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    service: S,
    waiting: Arc<Waiting>,
    limits: Arc<Limits>,
    mut shutdown: watch::Receiver<bool>,
) {
    let handshake = TlsAcceptor::from(config).accept(stream);
    let accepted = tokio::select! {
        biased;
        () = stopping(&mut shutdown) => return,
        accepted = timeout(limits.header_timeout, handshake) => accepted,
    };
    match accepted {
        Ok(Ok(stream)) => {
            waiting.expect(Instant::now());
            connection::serve(Box::new(stream), service, waiting, limits, shutdown).await;
        }
        Ok(Err(error)) => failed(&error),
        Err(_) => tracing::debug!("a TLS handshake was not ended in time"),
    }
}

/// Tells of a handshake that failed. Callers that came to no agreement with us are worth a warning, since somebody waits
/// for them to work; those that went away, or spoke no TLS, are not.
fn failed(error: &io::Error) {
    static FAILED: Seldom = Seldom::new();
    let by_rustls = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<rustls::Error>());
    match by_rustls {
        None | Some(rustls::Error::InvalidMessage(_)) => {
            tracing::debug!(%error, "a TLS handshake was not finished");
        }
        Some(error) => {
            if let Some(unsaid) = FAILED.is_due() {
                tracing::warn!(%error, unsaid, "a TLS handshake failed");
            }
        }
    }
}

impl Readable for Box<TlsStream<TcpStream>> {
    /// Ready once something of a request has come. A record that comes byte by byte is none yet, so its sender is
    /// still one who has sent nothing.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.as_mut())
            .poll_fill_buf(cx)
            .map_ok(|_something_or_the_end| ())
    }

    fn forget_unsent(&self) {
        let _ = self.get_ref().0.set_zero_linger();
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use tempfile::TempDir;

    use std::fs;

    use super::*;

    /// Writes a certificate that holds in these years, and its key; its DER.
    fn write(folder: &TempDir, from: i32, until: i32) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 12, 31);
        let cert = params.self_signed(&key).unwrap();
        fs::write(folder.path().join("cert"), cert.pem()).unwrap();
        fs::write(folder.path().join("key"), key.serialize_pem()).unwrap();
        cert.der().to_vec()
    }

    fn files(folder: &TempDir) -> TlsFiles {
        TlsFiles {
            cert: folder.path().join("cert"),
            key: folder.path().join("key"),
            client_ca: None,
        }
    }

    #[test]
    fn reloading_swaps_all_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let first = write(&folder, 2020, 2100);
        let tls = Tls::open(files(&folder)).unwrap();
        let before = tls.config();
        let second = write(&folder, 2020, 2100);
        assert_eq!(tls.certificate(), first);
        tls.replace(Tls::open(files(&folder)).unwrap());
        assert_eq!(tls.certificate(), second);
        assert!(
            !Arc::ptr_eq(&before, &tls.config()),
            "with new keys for the state of sessions"
        );

        let key = fs::read(folder.path().join("key")).unwrap();
        write(&folder, 2020, 2100);
        fs::write(folder.path().join("key"), key).unwrap();
        let before = tls.config();
        let faults = Tls::open(files(&folder)).unwrap_err();
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].file, TlsFile::Key);
        assert_eq!(tls.certificate(), second);
        assert!(Arc::ptr_eq(&before, &tls.config()));
    }

    /// This rests on the order of the checks in rustls: a new version of it may change that.
    #[test]
    fn a_certificate_tells_when_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let instant = |text: String| Timestamp::parse_rfc3339(&text).unwrap();
        for (from, until) in [(1970, 2020), (2001, 2049), (2049, 2050), (2090, 9999)] {
            write(&folder, from, until);
            let tls = Tls::open(files(&folder)).unwrap();
            assert_eq!(
                tls.validity(),
                Some(Validity {
                    from: instant(format!("{from}-01-01T00:00:00Z")),
                    until: instant(format!("{until}-12-31T00:00:00Z")),
                })
            );
        }
    }

    #[test]
    fn what_is_debugged_holds_no_key() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, 2020, 2100);
        let shown = format!("{:?}", Tls::open(files(&folder)).unwrap());
        assert!(
            shown.starts_with("TlsFiles {") && shown.len() < 400,
            "{shown}"
        );
    }
}
