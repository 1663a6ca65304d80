//! An input that has no end: a named pipe whose writers come and go, or a file that grows, is emptied or is put in
//! another's place.
//!
//! It is read in stretches, each of them an input of its own with a first line that tells its shape: what one writer
//! of a pipe writes, or a file from its beginning until another takes its place.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

/// How often a file is looked at for what was added to it, and anything else for a wish to stop.
const INTERVAL: Duration = Duration::from_millis(50);

/// The input being followed.
pub struct Followed {
    source: Source,
    stop: Arc<AtomicBool>,
}

enum Source {
    /// Standard input, or what else has one writer: its end is the end.
    Once { input: File, is_over: bool },
    /// A named pipe.
    Pipe {
        path: PathBuf,
        pipe: File,
        /// Whether a writer has written since the stretch began.
        was_written: bool,
    },
    /// A regular file.
    Growing {
        path: PathBuf,
        file: File,
        /// How much of it was read.
        offset: u64,
        next: Next,
    },
}

/// Where the stretch behind that of a growing file begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Not known to be anywhere.
    None,
    /// In the file that has taken its place.
    Replaced,
    /// At the beginning of the same file, which was emptied.
    Emptied,
}

impl Followed {
    /// Follows the file or named pipe at `path` until `stop` is set.
    pub fn open(path: &Path, stop: Arc<AtomicBool>) -> io::Result<Self> {
        let kind = std::fs::metadata(path)?.file_type();
        let path = path.to_owned();
        let source = if kind.is_fifo() {
            Source::Pipe {
                pipe: open_pipe(&path)?,
                path,
                was_written: false,
            }
        } else if kind.is_file() {
            Source::Growing {
                file: File::open(&path)?,
                path,
                offset: 0,
                next: Next::None,
            }
        } else {
            Source::Once {
                input: File::open(&path)?,
                is_over: false,
            }
        };
        Ok(Self { source, stop })
    }

    /// Follows standard input to its end, or until `stop` is set.
    pub fn stdin(stop: Arc<AtomicBool>) -> io::Result<Self> {
        let input = io::stdin().as_fd().try_clone_to_owned()?.into();
        let source = Source::Once {
            input,
            is_over: false,
        };
        Ok(Self { source, stop })
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Goes on to the next stretch; whether there is one.
    pub fn advance(&mut self) -> io::Result<bool> {
        if self.is_stopped() {
            return Ok(false);
        }
        match &mut self.source {
            Source::Once { is_over, .. } => return Ok(!*is_over),
            Source::Pipe { was_written, .. } => *was_written = false,
            Source::Growing {
                path,
                file,
                offset,
                next,
            } => {
                match next {
                    Next::None => {}
                    Next::Emptied => file.rewind()?,
                    Next::Replaced => *file = File::open(path)?,
                }
                (*offset, *next) = (0, Next::None);
            }
        }
        Ok(true)
    }
}

/// Ends where the stretch does, or where it is told to stop.
impl Read for Followed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.is_stopped() {
            match &mut self.source {
                Source::Once { input, is_over } => {
                    if wait_for(input)? {
                        let read = input.read(buffer)?;
                        *is_over = read == 0;
                        return Ok(read);
                    }
                }
                Source::Pipe {
                    path,
                    pipe,
                    was_written,
                } => match pipe.read(buffer) {
                    Ok(0) if *was_written => return Ok(0),
                    Ok(0) => {
                        // Nobody has it open for writing.
                        thread::sleep(INTERVAL);
                        if is_replaced(path, pipe)? {
                            *pipe = open_pipe(path)?;
                        }
                    }
                    Ok(read) => {
                        *was_written = true;
                        return Ok(read);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        wait_for(pipe)?;
                    }
                    Err(error) => return Err(error),
                },
                Source::Growing {
                    path,
                    file,
                    offset,
                    next,
                } => {
                    let read = file.read(buffer)?;
                    *offset += read as u64;
                    if read > 0 || *next != Next::None {
                        return Ok(read);
                    }
                    if file.metadata()?.len() < *offset {
                        *next = Next::Emptied;
                        return Ok(0);
                    }
                    if is_replaced(path, file)? {
                        // What was written to it since, it is asked for once more.
                        *next = Next::Replaced;
                    } else {
                        thread::sleep(INTERVAL);
                    }
                }
            }
        }
        Ok(0)
    }
}

/// Opens a named pipe without waiting for a writer.
fn open_pipe(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
}

/// Waits a while for something to read; whether there is.
fn wait_for(input: &File) -> io::Result<bool> {
    let interval = Timespec {
        tv_sec: 0,
        tv_nsec: INTERVAL.as_nanos() as i64,
    };
    let mut inputs = [PollFd::new(input, PollFlags::IN)];
    match poll(&mut inputs, Some(&interval)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the path leads to another file now. One that leads nowhere will lead somewhere again.
fn is_replaced(path: &Path, open: &File) -> io::Result<bool> {
    let identity = |file: Metadata| (file.dev(), file.ino());
    match std::fs::metadata(path) {
        Ok(there) => Ok(identity(there) != identity(open.metadata()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
