//! An input that is read and parsed on a thread of its own, beside the one that writes.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use crate::exchange::{self, Followed, Item, Notes, Settings, Stop};

/// How many items are handed over at once: to wake a thread costs as much as to write several rows.
const CHUNK: usize = 256;

/// How many chunks may wait.
const WAITING: usize = 8;

/// What is read.
pub(super) enum Source {
    /// To its end.
    Whole(Box<dyn Read + Send>),
    /// Again and again.
    Followed(Followed),
}

/// The receiving end.
pub(super) struct Feed {
    events: Receiver<Event>,
    /// How many bytes were read.
    bytes: Arc<AtomicU64>,
}

/// What comes out of an input.
pub(super) enum Event {
    Items(Vec<Item>),
    /// Nothing, in the time that was given.
    Quiet,
    End(io::Result<Notes>),
}

impl Feed {
    /// Starts reading. The thread ends with the input, or when nobody receives any more.
    pub(super) fn start(source: Source, settings: Settings) -> io::Result<Self> {
        let (sender, events) = sync_channel(WAITING);
        let bytes = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&bytes);
        thread::Builder::new()
            .name("input".to_owned())
            .spawn(move || {
                let outcome = match source {
                    Source::Whole(input) => forward(
                        Counted {
                            input,
                            bytes: counter,
                        },
                        &settings,
                        CHUNK,
                        &sender,
                    ),
                    Source::Followed(input) => follow(input, &settings, &sender),
                };
                let end = match outcome {
                    Ok(notes) => Ok(notes),
                    Err(Stop::Io(error)) => Err(error),
                    Err(Stop::Sink(SendError(_))) => return,
                };
                let _ = sender.send(Event::End(end));
            })?;
        Ok(Self { events, bytes })
    }

    /// Waits for the next event, for so long at the most.
    pub(super) fn next(&self, patience: Duration) -> Event {
        match self.events.recv_timeout(patience) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => Event::Quiet,
            Err(RecvTimeoutError::Disconnected) => Event::End(Err(io::Error::other(
                "the thread that reads it stopped: a bug",
            ))),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

type Sent<T> = Result<T, Stop<SendError<Event>>>;

/// Reads `input` to its end, and hands its items over, so many at a time.
fn forward(
    input: impl Read,
    settings: &Settings,
    chunk: usize,
    sender: &SyncSender<Event>,
) -> Sent<Notes> {
    let mut items = Vec::with_capacity(chunk);
    let notes = exchange::read(input, settings, &mut |item| {
        items.push(item);
        if items.len() < chunk {
            return Ok(());
        }
        sender.send(Event::Items(std::mem::replace(
            &mut items,
            Vec::with_capacity(chunk),
        )))
    })?;
    sender.send(Event::Items(items)).map_err(Stop::Sink)?;
    Ok(notes)
}

/// Reads one stretch after the other. An item is handed over at once: the next may be hours away.
fn follow(mut input: Followed, settings: &Settings, sender: &SyncSender<Event>) -> Sent<Notes> {
    let mut notes = Notes::default();
    loop {
        let stretch = forward(&mut input, settings, 1, sender)?;
        notes.rows += stretch.rows;
        for (name, count) in stretch.unknown {
            *notes.unknown.entry(name).or_default() += count;
        }
        if !input.advance().map_err(Stop::Io)? {
            return Ok(notes);
        }
    }
}

/// Counts what is read.
struct Counted<R> {
    input: R,
    bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
