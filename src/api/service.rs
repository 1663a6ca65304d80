//! The way of a request, from top to bottom.
//!
//! [`Endpoint::respond`] goes around: it gives the request its ids, turns a Problem or a panic into a response, and
//! writes the log line. [`Endpoint::answer`] goes through: its order of checks is the contract's, and the first that
//! fails is the answer.

use std::cell::LazyCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Instant;

use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};

use super::auth::Keyring;
use super::gate::{Gate, Pass};
use super::handlers::{active::active, health};
use super::headers::X_REQUEST_ID;
use super::problem::{Context, Kind, Problem};
use super::router::{NoRoute, Route, Surface, route};
use super::trace::{TraceContext, request_id};
use super::{framing, router};
use crate::session::Policies;
use crate::store::integrity::Report;
use crate::store::{Lane, Reader};
use crate::time::Timestamp;

/// After how many seconds a request that met a full or stopping server may be sent again.
const RETRY_AFTER: u32 = 1;

/// What the API is told of itself.
#[derive(Debug)]
pub struct Settings {
    /// Whether a request may say what time it is, and violations show the offending value.
    pub development: bool,
    /// The header field that carries the key.
    pub key_header: HeaderName,
    /// The name of this service in Problems, and the realm of its keys: no quote and no backslash.
    pub service: String,
    /// What `type` begins with, before the slug.
    pub problems_base_url: String,
    /// How many requests may be under way at once.
    pub max_in_flight: usize,
    /// How many workers there are.
    pub workers: usize,
}

/// The API of this process.
pub struct Api(Arc<Shared>);

/// The API on one worker, for the listeners of one surface. Cheap to clone.
#[derive(Clone)]
pub struct Endpoint(Arc<Local>);

/// What a worker has to itself: nothing in here is written by two cores.
pub(super) struct Local {
    pub(super) shared: Arc<Shared>,
    pub(super) lane: Arc<Lane>,
    surface: Surface,
    /// Its number, by which its requests are counted.
    worker: usize,
}

/// What all workers read.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) keyring: Keyring,
    pub(super) policies: Policies,
    reader: Reader,
    challenge: HeaderValue,
    in_flight: Gate,
    /// Whether callers are to go elsewhere, and whether they are turned away.
    leaving: AtomicBool,
    draining: AtomicBool,
}

/// What the log line says of a request beside what stands in it.
#[derive(Default)]
pub(super) struct Seen<'a> {
    route: Option<&'static str>,
    /// The name of the key.
    pub(super) key: Option<&'a str>,
}

impl Api {
    /// Fails where the service's name can't stand in a header field.
    pub fn new(
        settings: Settings,
        keyring: Keyring,
        policies: Policies,
        reader: Reader,
    ) -> Result<Self, hyper::header::InvalidHeaderValue> {
        let challenge = HeaderValue::try_from(format!("ApiKey realm=\"{}\"", settings.service))?;
        let in_flight = Gate::new(settings.max_in_flight, settings.workers);
        Ok(Self(Arc::new(Shared {
            settings,
            keyring,
            policies,
            reader,
            challenge,
            in_flight,
            leaving: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        })))
    }

    /// For each worker an endpoint for each of `surfaces`.
    pub fn endpoints(&self, surfaces: &[Surface]) -> Vec<Vec<Endpoint>> {
        let of_worker = |worker| {
            let lane = Arc::new(self.0.reader.lane());
            let endpoint = |surface: &Surface| {
                Endpoint(Arc::new(Local {
                    shared: Arc::clone(&self.0),
                    lane: Arc::clone(&lane),
                    surface: *surface,
                    worker,
                }))
            };
            surfaces.iter().map(endpoint).collect()
        };
        (0..self.0.settings.workers).map(of_worker).collect()
    }

    /// From now on `/readyz` says that the server is about to stop; questions are answered as before.
    pub fn leave(&self) {
        self.0.leaving.store(true, Ordering::Relaxed);
    }

    /// From now on every question is answered 503: the server is about to stop.
    pub fn drain(&self) {
        self.leave();
        self.0.draining.store(true, Ordering::Relaxed);
    }
}

impl Endpoint {
    /// Answers a request. Its body is never read.
    pub fn respond<B: Body>(
        self,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<Full<Bytes>>, Infallible>> {
        let has_body = !request.body().is_end_stream();
        // Taken apart before the future is made, which would have room for the whole and for the parts.
        let (head, _) = request.into_parts();
        self.respond_to(head, has_body)
    }

    async fn respond_to(
        self,
        request: Parts,
        has_body: bool,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let started = Instant::now();
        let request_id = request_id(&request.headers);
        let mut seen = Seen::default();
        let outcome = catch_panic(pin!(self.answer(&request, &mut seen))).await;

        let trace = LazyCell::new(|| TraceContext::of(&request.headers));
        let id = request_id.to_str().unwrap_or_default();
        let mut response = outcome.unwrap_or_else(|problem| {
            if problem.status().is_server_error() {
                log_failure(&problem, id, &trace);
            }
            problem.render(&Context {
                request: &request,
                request_id: id,
                trace: &trace,
                now: Timestamp::now(),
                base_url: &self.0.shared.settings.problems_base_url,
                service: &self.0.shared.settings.service,
                challenge: &self.0.shared.challenge,
                development: self.0.shared.settings.development,
            })
        });
        tracing::debug!(
            request.id = id,
            trace.id = trace.trace_id(),
            http.method = %request.method,
            http.route = seen.route,
            http.status = response.status().as_u16(),
            key.name = seen.key,
            duration.us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            "answered"
        );

        if request.method == Method::HEAD {
            let length = response.body().size_hint().lower();
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
            *response.body_mut() = Full::default();
        }
        // The connection ends where a body would begin.
        if has_body {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.headers_mut().insert(X_REQUEST_ID, request_id);
        Ok(response)
    }

    /// The checks in the order of the contract, then the operation.
    async fn answer<'a>(
        &'a self,
        request: &Parts,
        seen: &mut Seen<'a>,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let route = self.route(request);
        seen.route = route.as_ref().ok().map(Route::pattern);
        // Whoever asks how the server is must learn it from a full or stopping server, too.
        let asks_for_health = matches!(route, Ok(Route::Health | Route::Ready));
        let _in_flight = if asks_for_health {
            None
        } else {
            Some(self.0.shared.enter(self.0.worker)?)
        };
        framing::check(request)?;
        match route? {
            Route::Active { user_id } => {
                active(&self.0, request, user_id, Timestamp::now(), seen).await
            }
            Route::Health => Ok(health::healthz()),
            Route::Ready => Ok(Box::pin(health::readyz(&self.0)).await),
        }
    }

    fn route<'t>(&self, request: &'t Parts) -> Result<Route<'t>, Problem> {
        let uri = &request.uri;
        let path = uri
            .path_and_query()
            .map(|_| uri.path())
            .filter(|path| *path != "*");
        route(self.0.surface, &request.method, path).map_err(|none| match none {
            NoRoute::NotFound => Problem::new(Kind::NotFound),
            NoRoute::MethodNotAllowed => Problem::new(Kind::MethodNotAllowed)
                .with_arg("method", request.method.as_str())
                .with_arg("allow", router::ALLOW),
        })
    }
}

impl Shared {
    /// Whether callers are to go elsewhere.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// What is known of the whole data file.
    pub(super) fn integrity(&self) -> Report {
        self.reader.integrity()
    }

    /// A place among the requests under way, or a 503.
    fn enter(&self, worker: usize) -> Result<Pass<'_>, Problem> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(Problem::unavailable(RETRY_AFTER, "the server is stopping"));
        }
        self.in_flight.enter(worker).ok_or_else(|| {
            Problem::unavailable(RETRY_AFTER, "server.max_in_flight requests are under way")
        })
    }
}

fn log_failure(problem: &Problem, request_id: &str, trace: &TraceContext) {
    let cause = problem.cause();
    let trace_id = trace.trace_id();
    if problem.status() == StatusCode::SERVICE_UNAVAILABLE {
        tracing::warn!(
            request.id = request_id,
            trace.id = trace_id,
            cause,
            "a request was turned away"
        );
    } else {
        tracing::error!(
            request.id = request_id,
            trace.id = trace_id,
            cause,
            "a request failed"
        );
    }
}

/// Runs `work` to its end; a panic in it is a bug of ours, and a 500 for this request alone.
///
/// The state that requests share is atomics, a pool that outlives a lost connection, and what nobody writes, so
/// nothing is left half done for the next request to see.
async fn catch_panic<T>(
    mut work: Pin<&mut impl Future<Output = Result<T, Problem>>>,
) -> Result<T, Problem> {
    poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)))
            .unwrap_or_else(|_| Poll::Ready(Err(Problem::internal("a bug: the handler panicked"))))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_500_and_not_an_outage() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let text = "boom".to_owned();
        let outcome = runtime.block_on(catch_panic::<()>(pin!(async {
            tokio::task::yield_now().await;
            panic!("{text}");
        })));
        assert_eq!(
            outcome.unwrap_err().status(),
            StatusCode::INTERNAL_SERVER_ERROR
        );
    }
}
