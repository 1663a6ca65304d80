//! The limit: hyper on one current-thread runtime a core, with a constant answer of the same size and headers.

use std::convert::Infallible;
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

pub(crate) fn run() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    println!("listening on http://{}", listener.local_addr().unwrap());
    let workers: Vec<_> = (0..thread::available_parallelism().unwrap().get())
        .map(|_| {
            let (sender, receiver) = mpsc::unbounded_channel();
            thread::spawn(|| work(receiver));
            sender
        })
        .collect();
    for (number, stream) in listener.incoming().enumerate() {
        workers[number % workers.len()]
            .send(stream.unwrap())
            .unwrap();
    }
}

fn work(mut connections: mpsc::UnboundedReceiver<std::net::TcpStream>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        while let Some(stream) = connections.recv().await {
            stream.set_nonblocking(true).unwrap();
            stream.set_nodelay(true).unwrap();
            let stream = TokioIo::new(TcpStream::from_std(stream).unwrap());
            tokio::spawn(http1::Builder::new().serve_connection(stream, service_fn(answer)));
        }
    });
}

async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(Bytes::from_static(
        br#"{"active":true,"session_count":3}"#,
    )));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let id = HeaderValue::from_static("req_550e8400-e29b-41d4-a716-446655440000");
    headers.insert(HeaderName::from_static("x-request-id"), id);
    Ok(response)
}
