//! `/metrics`: what was counted, as OpenMetrics text, which Prometheus reads.
//!
//! Labels have few values, all of them the configuration's: an API key's name, a reason, a class of status. No tenant
//! and no user is in them.

use std::fmt;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::api::auth::Caller;
use crate::api::headers::respond;
use crate::api::live::Live;
use crate::api::service::{Local, Shared};
use crate::metrics::{Counter, KeyUses, Refused};
use crate::time::Timestamp;

/// OpenMetrics 1.0.0, section "Protocol Negotiation".
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(in crate::api) fn metrics(api: &Local, live: &Arc<Live>) -> Response<Full<Bytes>> {
    let mut registry = Registry::with_prefix("sessile");
    registry.register_collector(Box::new(Scrape {
        shared: Arc::clone(&api.shared),
        live: Arc::clone(live),
    }));
    let mut text = String::new();
    let _ = encode(&mut text, &registry); // a string takes all that is written
    respond(StatusCode::OK, OPEN_METRICS, text)
}

/// One reading: everything is added up while it is written.
struct Scrape {
    shared: Arc<Shared>,
    live: Arc<Live>,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        build(&mut encoder)?;
        self.refused(&mut encoder)?;
        self.keys(&mut encoder)?;
        self.reload(&mut encoder)
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
    fn a_label_can_not_be_left_early() {
        assert_eq!(escaped(r#"a"} 1\"#), r#"a\"} 1\\"#);
    }
}
