//! What systemd hands to a service, and wants to hear from it: sockets (sd_listen_fds(3)), readiness and reloads
//! (sd_notify(3)), and a sign of life (sd_watchdog_enabled(3)). Without systemd, all of it comes to nothing.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;
use sd_notify::NotifyState;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::server::Inherited;

/// The name (`FileDescriptorName=` of the socket unit) of the sockets that stand in for `server.admin_listen`.
const ADMIN: &str = "admin";

/// The sockets that systemd listens on for us, and goes on to when we are gone: nobody is refused meanwhile.
#[derive(Debug, Default)]
pub struct Sockets {
    /// They stand in for `server.listen`.
    pub operation: Vec<Inherited>,
    /// They stand in for `server.admin_listen`.
    pub admin: Vec<Inherited>,
}

/// A socket that was handed over is none to serve at.
#[derive(Debug, Error)]
#[error("can't serve at a socket that was handed over: {found}; allowed: {allowed}")]
pub struct SocketError {
    found: String,
    allowed: &'static str,
}

const ALLOWED: &str =
    "TCP and unix stream sockets that listen (ListenStream=, with Accept=no, of a socket unit)";

impl SocketError {
    /// One that other machines can reach, and may not.
    pub fn abroad(url: &str) -> Self {
        Self {
            found: format!("found {url}"),
            allowed: "loopback addresses and unix sockets; outside of development mode others with TLS \
                      (server.tls), or with server.allow_plain = true",
        }
    }
}

impl Sockets {
    /// Takes the sockets that were handed over. To be called once, while the process has one thread: it clears
    /// variables of the environment.
    pub fn take() -> Result<Self, SocketError> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut handed = ListenFd::from_env();
        let mut sockets = Self::default();
        for number in 0..handed.len() {
            let name = names.next().unwrap_or_default();
            let socket = take_one(&mut handed, number).map_err(|error| SocketError {
                found: format!("found {name:?}, number {number}: {error}"),
                allowed: ALLOWED,
            })?;
            match name {
                ADMIN => sockets.admin.push(socket),
                _ => sockets.operation.push(socket),
            }
        }
        Ok(sockets)
    }
}

fn take_one(handed: &mut ListenFd, number: usize) -> io::Result<Inherited> {
    let socket = match handed.take_tcp_listener(number) {
        Ok(socket) => socket.map(Inherited::Tcp),
        Err(_) => handed.take_unix_listener(number)?.map(Inherited::Unix),
    };
    let socket = socket.ok_or(io::ErrorKind::NotFound)?;
    let listens = match &socket {
        Inherited::Tcp(socket) => socket_acceptconn(socket.as_fd()),
        Inherited::Unix(socket) => socket_acceptconn(socket.as_fd()),
    };
    match listens? {
        true => Ok(socket),
        false => Err(io::Error::other("it does not listen")),
    }
}

/// Says that requests are answered now, and how.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says that the configuration is being read anew; [`reloaded`] must follow.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "systemd can't be told of a reload"),
    }
}

/// Says that what was read anew is in force, or what was in force before.
pub fn reloaded() {
    notify(&[NotifyState::Ready]);
}

/// Says that no more requests are taken.
pub fn stopping(status: &str) {
    notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd can't be told how this service does");
    }
}

/// Asks all workers, time and again, whether they still answer, and tells systemd only when all of them have: a timer
/// alone would go on beside workers that hang.
pub struct Watchdog {
    /// The number of the question that is being asked.
    question: watch::Sender<u64>,
    /// The number of the last question that each worker has answered.
    answers: Vec<watch::Receiver<u64>>,
}

/// A worker's part in it.
pub struct Pulse {
    question: watch::Receiver<u64>,
    answer: watch::Sender<u64>,
}

impl Watchdog {
    /// For so many workers, each of which runs one of the pulses.
    pub fn new(workers: usize) -> (Self, Vec<Pulse>) {
        let (question, asked) = watch::channel(0);
        let (pulses, answers) = (0..workers)
            .map(|_| {
                let (answer, answers) = watch::channel(0);
                let question = asked.clone();
                (Pulse { question, answer }, answers)
            })
            .unzip();
        (Self { question, answers }, pulses)
    }

    /// Waits until every worker has answered once, says so with `status`, and then goes on asking for as long as
    /// systemd wants to hear of it.
    pub async fn run(mut self, status: &str) -> Infallible {
        self.ask(None).await;
        ready(status);
        let Some(limit) = sd_notify::watchdog_enabled() else {
            return std::future::pending().await;
        };
        // Often enough that one question late is not the end.
        let period = limit / 3;
        let mut next = Instant::now();
        loop {
            notify(&[NotifyState::Watchdog]);
            next = (next + period).max(Instant::now());
            sleep_until(next).await;
            self.ask(Some(period)).await;
        }
    }

    /// Asks once, and waits until all have answered. Says so in the log when that takes longer than `patience`.
    async fn ask(&mut self, patience: Option<Duration>) {
        self.question.send_modify(|number| *number += 1);
        let number = *self.question.borrow();
        for (worker, answers) in self.answers.iter_mut().enumerate() {
            let answered = |answer: &u64| *answer == number;
            if let Some(patience) = patience
                && timeout(patience, answers.wait_for(answered)).await.is_err()
            {
                tracing::error!(
                    worker.number = worker,
                    "a worker has not answered for {patience:?}; unless it does, systemd starts this service anew"
                );
            }
            // A worker that has ended answers no more: only a program that stops has such.
            if answers.wait_for(answered).await.is_err() {
                std::future::pending().await
            }
        }
    }
}

impl Pulse {
    /// Answers each question once `check` is through, for ever.
    pub async fn run<F: Future<Output = ()>>(mut self, check: impl Fn() -> F) {
        while self.question.changed().await.is_ok() {
            let number = *self.question.borrow_and_update();
            check().await;
            self.answer.send_replace(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn a_check_that_does_not_end_is_no_answer() {
        let bound = Duration::from_millis(50);
        for sound in [true, false] {
            let (mut watchdog, mut pulses) = Watchdog::new(2);
            tokio::spawn(pulses.remove(1).run(|| ready(())));
            let check = move || async move {
                if !sound {
                    pending::<()>().await;
                }
            };
            tokio::spawn(pulses.remove(0).run(check));
            for _ in 0..2 {
                let asked = timeout(bound, watchdog.ask(None)).await;
                assert_eq!(asked.is_ok(), sound);
            }
        }
    }
}
