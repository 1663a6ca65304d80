//! The data file: whether it is fit to answer from, how it is read, how large it is, and what is in it.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::{Scrape, counter, escaped, gauge, seconds};
use crate::api::handlers::health::Seen;
use crate::store::integrity::Verdict;

impl Scrape {
    pub(super) fn ready(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "ready",
            "Whether the check of this name in /readyz is well",
            None,
            MetricType::Gauge,
        )?;
        for check in &self.checks {
            family
                .encode_family(&[("check", check.name)])?
                .encode_gauge(&u32::from(check.ok))?;
        }
        Ok(())
    }

    pub(super) fn pool(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let usage = self.shared.reader.usage();
        gauge(
            encoder,
            "database_connections",
            "Connections to the data file that are in use, one for each worker among them",
            usage.in_use,
        )?;
        gauge(
            encoder,
            "database_connections_limit",
            "How many connections to the data file there may be: database.pool_size",
            usage.connections,
        )?;
        gauge(
            encoder,
            "database_connections_waiting",
            "Counts that wait for a connection to the data file",
            usage.waiting,
        )?;
        counter(
            encoder,
            "snapshots_opened",
            "Views of the data file that workers opened, since somebody had committed or the last one was old",
            usage.snapshots,
        )?;
        counter(
            encoder,
            "database_reopened",
            "How often the data file was opened anew, since it was replaced or its schema had changed",
            usage.reopened,
        )
    }

    pub(super) fn file(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(stale_after) = self.shared.settings.stale_after {
            gauge(
                encoder,
                "database_stale_after_seconds",
                "How old the data may grow before the file is stale: database.stale_after",
                stale_after.as_secs_f64(),
            )?;
        }
        let Ok(Seen { extent, heartbeat }) = self.look else {
            return Ok(());
        };
        gauge(encoder, "database_file_bytes", "The data file", extent.file)?;
        gauge(
            encoder,
            "database_wal_bytes",
            "The WAL of the data file",
            extent.wal,
        )?;
        gauge(
            encoder,
            "database_last_write_timestamp_seconds",
            "When anybody committed to the data file last, as its file system tells",
            seconds(extent.written_at),
        )?;
        let Some(heartbeat) = heartbeat else {
            return Ok(());
        };
        gauge(
            encoder,
            "database_heartbeat_timestamp_seconds",
            "Up to when everything that was committed is in the data file, as its heartbeat says",
            seconds(heartbeat),
        )
    }

    pub(super) fn integrity(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let report = self.shared.reader.integrity();
        if report.verdict != Verdict::Unchecked {
            gauge(
                encoder,
                "integrity_sound",
                "Whether no damage of the data file is known, once it was checked",
                u32::from(report.verdict == Verdict::Sound),
            )?;
        }
        if let Some(at) = report.at {
            gauge(
                encoder,
                "integrity_check_timestamp_seconds",
                "When the last check of the data file ended that came to its end",
                seconds(at),
            )?;
            gauge(
                encoder,
                "integrity_check_duration_seconds",
                "How long that check took",
                report.took.as_secs_f64(),
            )?;
        }
        gauge(
            encoder,
            "integrity_checks_given_up",
            "How many checks were given up since that one",
            report.given_up,
        )
    }

    pub(super) fn sessions(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(census) = self.shared.reader.census() else {
            return Ok(());
        };
        gauge(
            encoder,
            "active_sessions",
            "Sessions that count, of all tenants, when they were counted last",
            census.active,
        )?;
        gauge(
            encoder,
            "active_sessions_timestamp_seconds",
            "As of when they were counted last",
            seconds(census.at),
        )?;
        if let Some(newest) = census.newest_event_at {
            gauge(
                encoder,
                "newest_event_timestamp_seconds",
                "The newest creation, authentication or activity in the sessions that are not revoked, when they were counted",
                seconds(newest),
            )?;
        }
        if census.tenants.is_empty() {
            return Ok(());
        }
        let mut family = encoder.encode_descriptor(
            "tenant_active_sessions",
            "The same for the tenants with the most: metrics.tenants says how many",
            None,
            MetricType::Gauge,
        )?;
        for (tenant, active) in &census.tenants {
            family
                .encode_family(&[("tenant", escaped(tenant).as_str())])?
                .encode_gauge(active)?;
        }
        Ok(())
    }
}
