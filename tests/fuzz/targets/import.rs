//! The shapes that sessions come in by.
//!
//! The first line is how to read: the name of a format or none, `tenant=acme`, `follow`, and pairs as `--map` takes
//! them. The rest is the input. What is accepted must go out in every shape and come back the same, and an input that
//! comes a few bytes at a time must be read as one that comes whole.

use std::convert::Infallible;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sessile::exchange::{Fault, Format, Item, Names, Output, Rename, Settings, read};
use sessile::session::{Session, TenantId};
use sessile::store::rows::Row;
use sessile::time::Timestamp;

/// 2026-11-23T12:00:00Z
const NOW: Timestamp = Timestamp::from_millis(1_795_435_200_000);

/// What came out of an input.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    records: Vec<(String, Result<Session, Vec<Fault>>)>,
    broken: Vec<(String, Vec<Fault>)>,
    unknown: Vec<(String, u64)>,
    total: Option<u64>,
}

pub(crate) fn run(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n');
    let Some((how, input)) = end.map(|end| (&data[..end], &data[end + 1..])) else {
        return;
    };
    let Some(settings) = settings(&String::from_utf8_lossy(how)) else {
        return;
    };
    let outcome = take(input, &settings);
    assert_eq!(
        take(Dripping(input, 7), &settings),
        outcome,
        "it depends on how the input comes"
    );
    let sessions: Vec<Session> = outcome
        .records
        .into_iter()
        .filter_map(|(_, session)| session.ok())
        .collect();
    for session in &sessions {
        assert!(
            settings
                .tenant
                .as_ref()
                .is_none_or(|tenant| *tenant == session.tenant_id)
        );
        assert!(session.created_at <= session.expires_at);
    }
    for format in [Format::Upstream, Format::Ndjson, Format::Csv] {
        check_return(&sessions, format);
    }
}

fn settings(how: &str) -> Option<Settings> {
    let mut settings = Settings::at(NOW);
    let mut renames = Vec::new();
    for word in how.split_whitespace() {
        match word {
            "upstream" => settings.format = Some(Format::Upstream),
            "ndjson" => settings.format = Some(Format::Ndjson),
            "csv" => settings.format = Some(Format::Csv),
            "follow" => settings.following = Some(Arc::new(AtomicBool::new(false))),
            "raw" => settings.keep_raw = true,
            _ => match word.strip_prefix("tenant=") {
                Some(tenant) => settings.tenant = Some(TenantId::new(tenant.to_owned()).ok()?),
                None => renames.push(Rename::parse(word).ok()?),
            },
        }
    }
    settings.names = Names::with(&renames).ok()?;
    Some(settings)
}

fn take(input: impl Read, settings: &Settings) -> Outcome {
    let mut outcome = Outcome::default();
    let mut records = 0;
    let sink = &mut |item: Item| -> Result<(), Infallible> {
        match item {
            Item::Record {
                place,
                raw,
                session,
            } => {
                records += 1;
                assert!(settings.keep_raw || raw.is_empty());
                assert!(
                    session
                        .as_ref()
                        .err()
                        .is_none_or(|faults| !faults.is_empty())
                );
                outcome.records.push((place.to_string(), session));
            }
            Item::Broken(place, faults) => {
                assert!(!faults.is_empty());
                outcome.broken.push((place.to_string(), faults));
            }
            Item::Heading(_) | Item::Unknown(_) => {}
        }
        Ok(())
    };
    let notes = read(input, settings, sink).expect("nothing here fails to be read");
    assert_eq!(notes.rows, records);
    outcome.unknown = notes.unknown.into_iter().collect();
    outcome.total = notes.total;
    outcome
}

/// Sessions that go out in a shape, which is not told to the reader, come back as they were.
fn check_return(sessions: &[Session], format: Format) {
    let mut written = Vec::new();
    let mut output = Output::begin(&mut written, format).unwrap();
    for session in sessions {
        output.write(&row(session)).unwrap();
    }
    assert_eq!(output.end().unwrap(), sessions.len() as u64);

    let back = take(&*written, &Settings::at(NOW));
    let text = || String::from_utf8_lossy(&written);
    assert!(back.broken.is_empty(), "{back:?} of {}", text());
    assert!(back.unknown.is_empty(), "{back:?} of {}", text());
    let came: Vec<_> = back
        .records
        .into_iter()
        .map(|(_, session)| session)
        .collect();
    let went: Vec<_> = sessions.iter().cloned().map(Ok).collect();
    assert_eq!(came, went, "{}", text());
    if format == Format::Upstream {
        assert_eq!(back.total, Some(sessions.len() as u64));
    }
}

fn row(session: &Session) -> Row<'_> {
    Row {
        tenant_id: session.tenant_id.as_str(),
        id: session.id.as_str(),
        user_id: session.user_id.as_str(),
        created_at: session.created_at,
        authenticated_at: session.authenticated_at,
        last_active_at: session.last_active_at,
        expires_at: session.expires_at,
        idle_expires_at: session.idle_expires_at,
        revoked_at: session.revoked_at,
        revoke_reason: session.revoke_reason.as_deref(),
        amr: session.amr.as_deref(),
        device_id: session.device_id.as_deref(),
        device_type: session.device_type.as_deref(),
        ip: session.ip.as_deref(),
        user_agent: session.user_agent.as_deref(),
        geoip: session.geoip.as_deref(),
    }
}

/// An input that comes a few bytes at a time.
struct Dripping<'d>(&'d [u8], usize);

impl Read for Dripping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = buffer.len().min(self.1);
        self.0.read(&mut buffer[..end])
    }
}
