//! What a terminal shows while an import goes on, and the lines told meanwhile.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the figures change: often enough to look alive, seldom enough to be read.
const INTERVAL: Duration = Duration::from_millis(200);

/// A bar on standard error, where that is a terminal.
pub(super) struct Bar {
    bar: Option<ProgressBar>,
    started: Instant,
    drawn: Instant,
}

impl Bar {
    /// None to be seen.
    pub(super) fn hidden() -> Self {
        let now = Instant::now();
        Self {
            bar: None,
            started: now,
            drawn: now,
        }
    }

    /// For an input of `size` bytes, where that is known.
    pub(super) fn new(size: Option<u64>) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let target = ProgressDrawTarget::stderr();
            let bar = ProgressBar::with_draw_target(size, target);
            let template = match size {
                Some(_) => "{bar:30} {percent:>3}%  {msg}, {eta} left",
                None => "{spinner} {msg}, {elapsed}",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        Self {
            bar,
            ..Self::hidden()
        }
    }

    /// Shows how far it has come.
    pub(super) fn show(&mut self, bytes: u64, sessions: u64) {
        let Some(bar) = &self.bar else { return };
        if self.drawn.elapsed() < INTERVAL {
            return;
        }
        self.drawn = Instant::now();
        let rate = sessions as f64 / self.started.elapsed().as_secs_f64();
        bar.set_message(format!(
            "{} sessions, {}/s",
            HumanCount(sessions),
            HumanCount(rate as u64)
        ));
        bar.set_position(bytes);
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Tells a line on standard error.
    pub(super) fn tell(&self, line: &str) {
        let tell = || {
            let _ = writeln!(stderr(), "{line}");
        };
        match &self.bar {
            Some(bar) => bar.suspend(tell),
            None => tell(),
        }
    }

    pub(super) fn warn(&self, text: &str) {
        self.tell(&format!("sessile: warning: {text}"));
    }
}
