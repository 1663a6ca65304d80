//! `/metrics`: what was counted, as text that Prometheus reads: OpenMetrics for those who prefer it, else its older
//! format.
//!
//! Labels have few values, all of them the configuration's or this program's: an API key's name, a reason, a route, a
//! status. No user is in them, and tenants only where the configuration says how many.

mod file;
mod plain;
mod process;
mod requests;

use std::fmt;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, HeaderValue, VARY};
use hyper::{HeaderMap, Response, StatusCode};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use tokio::task::spawn_blocking;

use super::health::{self, Check, Look};
use crate::api::auth::Caller;
use crate::api::headers::respond;
use crate::api::live::Live;
use crate::api::negotiate::quality_with;
use crate::api::problem::Problem;
use crate::api::service::{Local, Shared};
use crate::metrics::{Counter, KeyUses, Refused};
use crate::time::Timestamp;
use plain::plain;
use process::Process;

/// In which of two formats metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Format {
    Plain,
    OpenMetrics,
}

impl Format {
    /// OpenMetrics where the caller prefers it strictly.
    pub(in crate::api) fn of(headers: &HeaderMap) -> Self {
        let quality = |format: Self| {
            let lines = headers.get_all(ACCEPT).iter();
            let lines = lines.filter_map(|line| line.to_str().ok());
            let (media_type, version) = format.media_type();
            // Prometheus 3 also says how names are escaped that have other characters than ours.
            let parameters = [
                ("version", version),
                ("escaping", "allow-utf-8"),
                ("escaping", "underscores"),
            ];
            quality_with(lines, media_type, &parameters)
        };
        if quality(Self::OpenMetrics) > quality(Self::Plain) {
            Self::OpenMetrics
        } else {
            Self::Plain
        }
    }

    /// The media type and its version (OpenMetrics 1.0.0, section "Protocol Negotiation").
    fn media_type(self) -> (&'static str, &'static str) {
        match self {
            Self::Plain => ("text/plain", "0.0.4"),
            Self::OpenMetrics => ("application/openmetrics-text", "1.0.0"),
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Everything there is to tell, gathered and written on another thread, because some of it waits for the kernel.
pub(in crate::api) async fn metrics(
    api: &Local,
    live: &Arc<Live>,
    format: Format,
) -> Result<Response<Full<Bytes>>, Problem> {
    let (checks, look) = health::checks(api, live).await;
    let scrape = Scrape {
        shared: Arc::clone(&api.shared),
        live: Arc::clone(live),
        look,
        checks,
    };
    let text = spawn_blocking(move || scrape.text(format)).await;
    let text = text.map_err(|_| Problem::internal("a bug: the metrics could not be written"))?;
    let mut response = respond(StatusCode::OK, format.content_type(), text);
    response
        .headers_mut()
        .insert(VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

/// One reading: everything else is added up while it is written.
struct Scrape {
    shared: Arc<Shared>,
    live: Arc<Live>,
    look: Look,
    checks: [Check; 4],
}

impl Scrape {
    fn text(self, format: Format) -> String {
        let process = Process::new(self.shared.metrics.started_at);
        let mut registry = Registry::default();
        registry
            .sub_registry_with_prefix("sessile")
            .register_collector(Box::new(self));
        registry.register_collector(Box::new(process));
        let mut text = String::new();
        let _ = encode(&mut text, &registry); // a string takes all that is written
        match format {
            Format::Plain => plain(&text),
            Format::OpenMetrics => text,
        }
    }
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        build(encoder)?;
        self.ready(encoder)?;
        self.requests(encoder)?;
        self.queries(encoder)?;
        self.connections(encoder)?;
        self.refused(encoder)?;
        self.keys(encoder)?;
        self.reload(encoder)?;
        self.pool(encoder)?;
        self.file(encoder)?;
        self.integrity(encoder)?;
        self.sessions(encoder)
    }
}

/// The value of a label, and the counter for it in a worker's block.
type Labelled<T> = (&'static str, fn(&T) -> &Counter);

const REASONS: [Labelled<Refused>; 4] = [
    ("missing", |refused| &refused.missing),
    ("repeated", |refused| &refused.repeated),
    ("unknown", |refused| &refused.unknown),
    ("expired", |refused| &refused.expired),
];

const CLASSES: [Labelled<KeyUses>; 3] = [
    ("2xx", |uses| &uses.succeeded),
    ("4xx", |uses| &uses.at_fault),
    ("5xx", |uses| &uses.failed),
];

fn build(encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    encoder
        .encode_descriptor("build", "This program", None, MetricType::Info)?
        .encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
}

impl Scrape {
    fn refused(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let workers = &self.shared.metrics.workers;
        let count = |(reason, counter): Labelled<Refused>| {
            let count = workers.sum(|worker| counter(&worker.refused));
            ([("reason", reason)], count)
        };
        counters(
            encoder,
            "authentication_failures",
            "Requests without a valid API key, by reason",
            REASONS.into_iter().map(count),
        )
    }

    fn keys(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let callers = self.live.callers.iter();
        let mut callers: Vec<(String, &Arc<Caller>)> = callers
            .map(|caller| (escaped(&caller.key.name), caller))
            .collect();
        callers.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let callers = || {
            callers
                .iter()
                .map(|(name, caller)| (name.as_str(), *caller))
        };

        let by_class = callers().flat_map(|(name, caller)| {
            CLASSES.map(|(class, counter)| {
                let labels = [("key", name), ("status", class)];
                (labels, caller.uses.sum(counter))
            })
        });
        counters(
            encoder,
            "api_key_requests",
            "Requests with a valid API key, by key and class of status",
            by_class,
        )?;
        let limited = callers().filter(|(_, caller)| caller.key.max_rate.is_some());
        counters(
            encoder,
            "api_key_rate_limited",
            "Requests over the max_rate of their API key",
            limited.map(|(name, caller)| ([("key", name)], caller.uses.sum(|uses| &uses.limited))),
        )?;
        let mut ends = encoder.encode_descriptor(
            "api_key_expiry_timestamp_seconds",
            "When the API key expires",
            None,
            MetricType::Gauge,
        )?;
        for (name, caller) in callers() {
            if let Some(end) = caller.key.not_after {
                ends.encode_family(&[("key", name)])?
                    .encode_gauge(&seconds(end))?;
            }
        }
        Ok(())
    }

    fn reload(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let reload = &self.shared.metrics.reload;
        gauge(
            encoder,
            "config_last_reload_successful",
            "Whether the configuration could be read the last time",
            u32::from(reload.is_successful()),
        )?;
        gauge(
            encoder,
            "config_last_reload_success_timestamp_seconds",
            "When the configuration in force was read",
            seconds(reload.succeeded_at()),
        )
    }
}

/// A counter for each set of labels.
fn counters<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counts: impl IntoIterator<Item = (L, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, count) in counts {
        family
            .encode_family(&labels)?
            .encode_counter::<NoLabelSet, _, f64>(&count, None)?;
    }
    Ok(())
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    count: impl EncodeCounterValue,
) -> fmt::Result {
    encoder
        .encode_descriptor(name, help, None, MetricType::Counter)?
        .encode_counter::<NoLabelSet, _, f64>(&count, None)
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: impl EncodeGaugeValue,
) -> fmt::Result {
    encoder
        .encode_descriptor(name, help, None, MetricType::Gauge)?
        .encode_gauge(&value)
}

/// Exact: every instant that can be written is below 2^53 ms.
fn seconds(instant: Timestamp) -> f64 {
    instant.as_millis() as f64 / 1e3
}

/// A label's value as OpenMetrics takes it. The crate writes it as it is.
fn escaped(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_format_is_for_those_who_prefer_it() {
        let of = |accept: &'static str| {
            Format::of(&HeaderMap::from_iter([(
                ACCEPT,
                HeaderValue::from_static(accept),
            )]))
        };
        for accept in [
            // Prometheus 2.42 and 3.0.
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
             application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
             text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            "application/openmetrics-text",
        ] {
            assert_eq!(of(accept), Format::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/plain;version=0.0.4;q=1,*/*;q=0.1",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;q=0.5, text/plain",
            "text/html",
        ] {
            assert_eq!(of(accept), Format::Plain, "{accept}");
        }
        assert_eq!(Format::of(&HeaderMap::new()), Format::Plain);
    }

    #[test]
    fn a_label_can_not_be_left_early() {
        assert_eq!(escaped(r#"a"} 1\"#), r#"a\"} 1\\"#);
    }
}
