//! The way of a request, from top to bottom.
//!
//! [`Endpoint::respond`] goes around: it gives the request its ids, turns a Problem or a panic into a response, and
//! writes the log line. [`Endpoint::answer`] goes through: its order of checks is the contract's, and the first that
//! fails is the answer.
//!
//! Nearly every answer is there at once, so both are plain functions: a future that never waits would cost what it
//! takes to build, move and poll it. What has to be waited for goes on as a future of its own, [`Step::Wait`].

use std::borrow::Cow;
use std::cell::LazyCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Instant;

use arc_swap::ArcSwap;
use futures_util::future::Either;
use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};

use super::auth::{Caller, Keyring};
use super::framing::FrameLimits;
use super::gate::{Gate, Pass};
use super::handlers::{active::active, health, metrics};
use super::headers::X_REQUEST_ID;
use super::live::Live;
use super::problem::{Context, Kind, Problem};
use super::router::{NoRoute, Route, Surface, route};
use super::trace::{TraceContext, request_id};
use super::{framing, router};
use crate::metrics::Metrics;
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
    /// How large a request may be.
    pub frame: FrameLimits,
    /// How many workers there are.
    pub workers: usize,
}

/// The API of this process.
pub struct Api(Arc<Shared>);

/// The API on one worker, for the listeners of one surface. Cheap to clone.
#[derive(Clone)]
pub struct Endpoint(pub(super) Arc<Local>);

/// What a worker has to itself: nothing in here is written by two cores.
pub(super) struct Local {
    pub(super) shared: Arc<Shared>,
    pub(super) lane: Arc<Lane>,
    surface: Surface,
    /// Its number, by which its requests are counted.
    pub(super) worker: usize,
}

/// What all workers read.
pub(super) struct Shared {
    pub(super) settings: Settings,
    /// Read without a lock and without a count of readers that cores would share.
    pub(super) live: ArcSwap<Live>,
    pub(super) metrics: Metrics,
    reader: Reader,
    challenge: HeaderValue,
    in_flight: Arc<Gate>,
    /// Whether callers are to go elsewhere, and whether they are turned away.
    leaving: AtomicBool,
    draining: AtomicBool,
}

/// What the log line says of a request beside what stands in it.
#[derive(Default)]
pub(super) struct Seen<'a> {
    route: Option<&'static str>,
    /// Whose key it carries.
    pub(super) caller: Option<Cow<'a, Arc<Caller>>>,
}

impl Seen<'_> {
    fn into_owned(self) -> Seen<'static> {
        Seen {
            route: self.route,
            caller: self.caller.map(|caller| Cow::Owned(caller.into_owned())),
        }
    }
}

/// How far a request has come without waiting.
pub(super) enum Step {
    Done(Response<Full<Bytes>>),
    Wait(Waiting),
}

type Waiting = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Problem>> + Send>>;

impl Step {
    pub(super) fn wait(
        work: impl Future<Output = Result<Response<Full<Bytes>>, Problem>> + Send + 'static,
    ) -> Self {
        Self::Wait(Box::pin(work))
    }
}

/// A request as it came, and what it was given on the way in.
pub(super) struct Asked {
    pub(super) head: Parts,
    has_body: bool,
    id: HeaderValue,
    pub(super) at: Instant,
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
        let in_flight = Arc::new(Gate::new(settings.max_in_flight, settings.workers));
        let live = Live::new(keyring, policies, settings.workers);
        let metrics = Metrics::new(settings.workers, Timestamp::now());
        Ok(Self(Arc::new(Shared {
            settings,
            live: ArcSwap::from_pointee(live),
            metrics,
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

    /// Answers the requests that come from now on by these keys and policies; those under way go on by what they began
    /// with.
    pub fn replace(&self, keyring: Keyring, policies: Policies) {
        let shared = &self.0;
        let next = shared
            .live
            .load()
            .next(keyring, policies, shared.settings.workers);
        shared.live.store(Arc::new(next));
    }

    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
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
        &self,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send + use<B> {
        let has_body = !request.body().is_end_stream();
        let (head, _) = request.into_parts();
        let asked = Asked {
            id: request_id(&head.headers),
            head,
            has_body,
            at: Instant::now(),
        };
        // One state for the whole request, whatever is reloaded meanwhile.
        let live = self.0.shared.live.load();
        let mut seen = Seen::default();
        let outcome = match no_panic(|| self.answer(&asked, &live, &mut seen)) {
            Ok(Step::Done(response)) => Ok(response),
            Err(problem) => Err(problem),
            Ok(Step::Wait(work)) => {
                let (endpoint, seen) = (self.clone(), seen.into_owned());
                return Either::Right(Box::pin(async move {
                    let outcome = no_panic_later(work).await;
                    Ok(endpoint.finish(asked, &seen, outcome))
                }));
            }
        };
        Either::Left(ready(Ok(self.finish(asked, &seen, outcome))))
    }

    /// The response to a request, logged and with what belongs to every response.
    fn finish(
        &self,
        asked: Asked,
        seen: &Seen<'_>,
        outcome: Result<Response<Full<Bytes>>, Problem>,
    ) -> Response<Full<Bytes>> {
        let request = &asked.head;
        let trace = LazyCell::new(|| TraceContext::of(&request.headers));
        let id = asked.id.to_str().unwrap_or_default();
        let mut response = outcome.unwrap_or_else(|problem| {
            if problem.status().is_server_error() {
                log_failure(&problem, id, &trace);
            }
            problem.render(&Context {
                request,
                request_id: id,
                trace: &trace,
                now: Timestamp::now(),
                base_url: &self.0.shared.settings.problems_base_url,
                service: &self.0.shared.settings.service,
                challenge: &self.0.shared.challenge,
                development: self.0.shared.settings.development,
            })
        });
        if let Some(caller) = &seen.caller {
            caller
                .uses
                .of(self.0.worker)
                .count(response.status().as_u16());
        }
        tracing::debug!(
            request.id = id,
            trace.id = trace.trace_id(),
            http.method = %request.method,
            http.route = seen.route,
            http.status = response.status().as_u16(),
            key.name = seen.caller.as_ref().map(|caller| caller.key.name.as_str()),
            duration.us = u64::try_from(asked.at.elapsed().as_micros()).unwrap_or(u64::MAX),
            "answered"
        );

        if request.method == Method::HEAD {
            let length = response.body().size_hint().lower();
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
            *response.body_mut() = Full::default();
        }
        // The connection ends where a body would begin.
        if asked.has_body {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.headers_mut().insert(X_REQUEST_ID, asked.id);
        response
    }

    /// The checks in the order of the contract, then the operation.
    fn answer<'a>(
        &self,
        asked: &Asked,
        live: &'a Arc<Live>,
        seen: &mut Seen<'a>,
    ) -> Result<Step, Problem> {
        let request = &asked.head;
        let route = self.route(request);
        seen.route = route.as_ref().ok().map(Route::pattern);
        // Whoever asks how the server is must learn it from a full or stopping server, too.
        let in_flight = if route.as_ref().is_ok_and(Route::is_beside) {
            None
        } else {
            Some(self.0.shared.enter(self.0.worker)?)
        };
        framing::check(request, &self.0.shared.settings.frame)?;
        let step = match route? {
            Route::Active { user_id } => active(&self.0, live, asked, user_id, seen)?,
            Route::Health => Step::Done(health::healthz()),
            Route::Ready => {
                let (api, live) = (Arc::clone(&self.0), Arc::clone(live));
                Step::wait(async move { Ok(health::readyz(&api, &live).await) })
            }
            Route::Metrics => Step::Done(metrics::metrics(&self.0, live)),
        };
        Ok(match (step, in_flight) {
            (Step::Wait(work), Some(pass)) => {
                let pass = pass.kept(Arc::clone(&self.0.shared.in_flight));
                Step::wait(async move {
                    let _in_flight = pass;
                    work.await
                })
            }
            (step, _) => step,
        })
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
    fn enter(&self, worker: usize) -> Result<Pass<&Gate>, Problem> {
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

/// What `work` returns; a panic in it is a bug of ours, and a 500 for this request alone.
///
/// The state that requests share is atomics, a pool that outlives a lost connection, and what nobody writes, so
/// nothing is left half done for the next request to see.
fn no_panic<T>(work: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Problem::internal("a bug: the handler panicked")))
}

/// The same of what has to be waited for.
async fn no_panic_later(mut work: Waiting) -> Result<Response<Full<Bytes>>, Problem> {
    poll_fn(|cx| match no_panic(|| Ok(work.as_mut().poll(cx))) {
        Ok(poll) => poll,
        Err(problem) => Poll::Ready(Err(problem)),
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
        let outcome = runtime.block_on(no_panic_later(Box::pin(async move {
            tokio::task::yield_now().await;
            panic!("{text}");
        })));
        assert_eq!(
            outcome.unwrap_err().status(),
            StatusCode::INTERNAL_SERVER_ERROR
        );
    }
}
