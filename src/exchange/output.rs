//! Sessions on their way out, in the shapes that they come in by.
//!
//! A row is written as the file has it, whoever wrote it there: an id that the endpoint would refuse is no reason
//! to leave a session out. An absent field is left out, or, in CSV, an empty cell; an empty text is `""`.

use std::io::{self, Write};

use serde::Serialize;

use super::Format;
use crate::store::rows::Row;
use crate::time::Timestamp;

/// Writes sessions one at a time.
pub struct Output<W> {
    writer: W,
    format: Format,
    written: u64,
}

/// A session as upstream has it, with its members in upstream's order.
#[derive(Serialize)]
struct Object<'r> {
    id: &'r str,
    tenant_id: &'r str,
    user_id: &'r str,
    status: &'static str,
    created_at: Instant,
    #[serde(skip_serializing_if = "Option::is_none")]
    authenticated_at: Option<Instant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_active_at: Option<Instant>,
    expires_at: Instant,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_expires_at: Option<Instant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Instant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoke_reason: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    amr: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_type: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    geoip: Option<&'r str>,
}

/// An instant in RFC 3339; as a number of milliseconds beyond the year 9999, where that ends.
#[derive(Serialize)]
#[serde(untagged)]
enum Instant {
    Text(String),
    Millis(i64),
}

impl From<Timestamp> for Instant {
    fn from(instant: Timestamp) -> Self {
        if instant <= Timestamp::LAST {
            Self::Text(instant.to_string())
        } else {
            Self::Millis(instant.as_millis())
        }
    }
}

/// The header of a CSV, in the order of [`Object`].
const HEADER: &str = "id,tenant_id,user_id,status,created_at,authenticated_at,last_active_at,expires_at,\
                      idle_expires_at,revoked_at,revoke_reason,amr,device_id,device_type,ip,user_agent,geoip\n";

impl<W: Write> Output<W> {
    pub fn begin(mut writer: W, format: Format) -> io::Result<Self> {
        match format {
            Format::Upstream => writer.write_all(b"{\"sessions\":[")?,
            Format::Ndjson => {}
            Format::Csv => writer.write_all(HEADER.as_bytes())?,
        }
        Ok(Self {
            writer,
            format,
            written: 0,
        })
    }

    pub fn write(&mut self, row: &Row<'_>) -> io::Result<()> {
        match self.format {
            Format::Upstream => {
                let separator: &[u8] = if self.written == 0 { b"\n" } else { b",\n" };
                self.writer.write_all(separator)?;
                serde_json::to_writer(&mut self.writer, &object(row))?;
            }
            Format::Ndjson => {
                serde_json::to_writer(&mut self.writer, &object(row))?;
                self.writer.write_all(b"\n")?;
            }
            Format::Csv => self.write_cells(&object(row))?,
        }
        self.written += 1;
        Ok(())
    }

    /// Returns the number of sessions.
    pub fn end(mut self) -> io::Result<u64> {
        if self.format == Format::Upstream {
            writeln!(self.writer, "\n],\"total\":{}}}", self.written)?;
        }
        self.writer.flush()?;
        Ok(self.written)
    }

    fn write_cells(&mut self, row: &Object<'_>) -> io::Result<()> {
        let texts = [row.id, row.tenant_id, row.user_id, row.status];
        for text in texts {
            self.write_cell(Some(text))?;
            self.writer.write_all(b",")?;
        }
        let instants = [
            Some(&row.created_at),
            row.authenticated_at.as_ref(),
            row.last_active_at.as_ref(),
            Some(&row.expires_at),
            row.idle_expires_at.as_ref(),
            row.revoked_at.as_ref(),
        ];
        for instant in instants {
            match instant {
                None => {}
                Some(Instant::Text(text)) => self.writer.write_all(text.as_bytes())?,
                Some(Instant::Millis(millis)) => write!(self.writer, "{millis}")?,
            }
            self.writer.write_all(b",")?;
        }
        let texts = [
            row.revoke_reason,
            row.amr,
            row.device_id,
            row.device_type,
            row.ip,
            row.user_agent,
        ];
        for text in texts {
            self.write_cell(text)?;
            self.writer.write_all(b",")?;
        }
        self.write_cell(row.geoip)?;
        self.writer.write_all(b"\n")
    }

    fn write_cell(&mut self, text: Option<&str>) -> io::Result<()> {
        let Some(text) = text else { return Ok(()) };
        if text.is_empty() || text.contains(['"', ',', '\r', '\n']) {
            write!(self.writer, "\"{}\"", text.replace('"', "\"\""))
        } else {
            self.writer.write_all(text.as_bytes())
        }
    }
}

fn object<'r>(row: &Row<'r>) -> Object<'r> {
    let instant = |instant: Option<Timestamp>| instant.map(Instant::from);
    Object {
        id: row.id,
        tenant_id: row.tenant_id,
        user_id: row.user_id,
        status: if row.revoked_at.is_none() {
            "active"
        } else {
            "revoked"
        },
        created_at: row.created_at.into(),
        authenticated_at: instant(row.authenticated_at),
        last_active_at: instant(row.last_active_at),
        expires_at: row.expires_at.into(),
        idle_expires_at: instant(row.idle_expires_at),
        revoked_at: instant(row.revoked_at),
        revoke_reason: row.revoke_reason,
        amr: row.amr,
        device_id: row.device_id,
        device_type: row.device_type,
        ip: row.ip,
        user_agent: row.user_agent,
        geoip: row.geoip,
    }
}
