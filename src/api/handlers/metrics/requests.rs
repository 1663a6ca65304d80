//! Requests, the counts that answer them, and the connections that they come by.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::{Scrape, counter, counters, gauge};
use crate::api::router::{NAMES, OPERATION};
use crate::metrics::{Distribution, STATUSES, Worker};

impl Scrape {
    pub(super) fn requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let workers = &self.shared.metrics.workers;
        let statuses: Vec<String> = STATUSES.iter().map(u16::to_string).collect();
        let mut counts = Vec::new();
        for (route, name) in NAMES.into_iter().enumerate() {
            for place in 0..=STATUSES.len() {
                let count = workers.sum(|worker| worker.requests[route].by_place(place));
                // What never was is left out, but for the answers that nobody should miss in a sum.
                if count > 0
                    || (route == OPERATION && matches!(STATUSES.get(place), Some(200 | 500 | 503)))
                {
                    let status = statuses.get(place).map_or("other", String::as_str);
                    counts.push(([("route", name), ("status", status)], count));
                }
            }
        }
        counters(
            encoder,
            "http_requests",
            "Requests that were answered, by route and status",
            counts,
        )?;
        let durations = NAMES.into_iter().enumerate().map(|(route, name)| {
            let distribution =
                Distribution::of(workers, |worker: &Worker| &worker.requests[route].times);
            (name, distribution)
        });
        histogram(
            encoder,
            "http_request_duration_seconds",
            "From the head of a request to its answer",
            "route",
            durations
                .filter(|(name, durations)| *name == NAMES[OPERATION] || durations.count() > 0),
        )?;
        gauge(
            encoder,
            "http_requests_in_flight",
            "Questions that are under way",
            self.shared.in_flight.under_way(),
        )?;
        gauge(
            encoder,
            "http_requests_in_flight_limit",
            "How many questions may be under way: server.max_in_flight",
            self.shared.in_flight.most(),
        )
    }

    pub(super) fn queries(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let workers = &self.shared.metrics.workers;
        histogram(
            encoder,
            "query_duration_seconds",
            "How long counts took: those of a worker itself, and those in the pool, with the wait for a connection",
            "lane",
            [
                (
                    "worker",
                    Distribution::of(workers, |worker| &worker.counted_at_once),
                ),
                (
                    "pool",
                    Distribution::of(workers, |worker| &worker.counted_later),
                ),
            ],
        )
    }

    pub(super) fn connections(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let connections = &self.shared.metrics.connections;
        let number = |count: &AtomicU64| count.load(Ordering::Relaxed);
        gauge(
            encoder,
            "connections",
            "Open connections",
            connections.open(),
        )?;
        gauge(
            encoder,
            "connections_limit",
            "How many connections may be open: server.max_connections, or what the limit of open files has room for",
            number(&connections.limit),
        )?;
        counter(
            encoder,
            "connections_accepted",
            "Connections that came in",
            number(&connections.accepted),
        )?;
        counter(
            encoder,
            "connections_evicted",
            "Connections that waited for their caller and were closed for a new one",
            number(&connections.evicted),
        )?;
        counter(
            encoder,
            "connections_refused",
            "New connections that were closed because no other could be",
            number(&connections.refused),
        )
    }
}

fn histogram<'l>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    distributions: impl IntoIterator<Item = (&'l str, Distribution)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (value, distribution) in distributions {
        family
            .encode_family(&[(label, value)])?
            .encode_histogram::<NoLabelSet>(
                distribution.seconds,
                distribution.count(),
                &distribution.classes,
                None,
            )?;
    }
    Ok(())
}
