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
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::api::auth::Caller;
use crate::api::headers::respond;
use crate::api::live::Live;
use crate::api::service::{Local, Shared};
use crate::metrics::{KeyUses, Refused};
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

fn build(encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    encoder
        .encode_descriptor("build", "This program", None, MetricType::Info)?
        .encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
}

impl Scrape {
    fn refused(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "authentication_failures",
            "Requests without a valid API key, by reason",
            None,
            MetricType::Counter,
        )?;
        let reasons: [(&str, fn(&Refused) -> &_); 4] = [
            ("missing", |refused| &refused.missing),
            ("repeated", |refused| &refused.repeated),
            ("unknown", |refused| &refused.unknown),
            ("expired", |refused| &refused.expired),
        ];
        for (reason, counter) in reasons {
            let count = self
                .shared
                .metrics
                .workers
                .sum(|worker| counter(&worker.refused));
            ConstCounter::new(count).encode(family.encode_family(&[("reason", reason)])?)?;
        }
        Ok(())
    }

    fn keys(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut callers: Vec<(String, &Caller)> = self
            .live
            .callers
            .iter()
            .map(|caller| (escaped(&caller.key.name), caller))
            .collect();
        callers.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));

        let mut family = encoder.encode_descriptor(
            "api_key_requests",
            "Requests with a valid API key, by key and class of status",
            None,
            MetricType::Counter,
        )?;
        let classes: [(&str, fn(&KeyUses) -> &_); 3] = [
            ("2xx", |uses| &uses.succeeded),
            ("4xx", |uses| &uses.at_fault),
            ("5xx", |uses| &uses.failed),
        ];
        for (name, caller) in &callers {
            for (class, counter) in classes {
                let labels = [("key", name.as_str()), ("status", class)];
                ConstCounter::new(caller.uses.sum(counter))
                    .encode(family.encode_family(&labels)?)?;
            }
        }

        let mut family = encoder.encode_descriptor(
            "api_key_rate_limited",
            "Requests over the max_rate of their API key",
            None,
            MetricType::Counter,
        )?;
        for (name, caller) in &callers {
            if caller.key.max_rate.is_some() {
                let count = caller.uses.sum(|uses| &uses.limited);
                ConstCounter::new(count)
                    .encode(family.encode_family(&[("key", name.as_str())])?)?;
            }
        }

        let mut family = encoder.encode_descriptor(
            "api_key_expiry_timestamp_seconds",
            "When the API key expires",
            None,
            MetricType::Gauge,
        )?;
        for (name, caller) in &callers {
            if let Some(end) = caller.key.not_after {
                ConstGauge::new(seconds(end))
                    .encode(family.encode_family(&[("key", name.as_str())])?)?;
            }
        }
        Ok(())
    }

    fn reload(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let reload = &self.shared.metrics.reload;
        let is_successful = encoder.encode_descriptor(
            "config_last_reload_successful",
            "Whether the configuration could be read the last time",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(u32::from(reload.is_successful())).encode(is_successful)?;
        let succeeded_at = encoder.encode_descriptor(
            "config_last_reload_success_timestamp_seconds",
            "When the configuration in force was read",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(seconds(reload.succeeded_at())).encode(succeeded_at)
    }
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
