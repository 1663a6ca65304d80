//! One import, from its first item to its last commit.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::bar::Bar;
use super::feed::{Event, Feed};
use super::parts::Parts;
use super::skipped::Skipped;
use super::tally::Tally;
use crate::commands::sessions;
use crate::exchange::{Fault, Item, Notes, Place, quote};
use crate::session::{Session, TenantId};
use crate::store::StoreError;
use crate::store::import::{Import, Put, Scope};
use crate::time::Timestamp;

/// How many faults of an input are told in full; the rest is counted.
const TOLD: u64 = 100;

/// The most sessions of an input being followed in one transaction, and the longest that one stays open: other
/// writers wait for it.
const FOLLOWED_SESSIONS: u64 = 1_000;
const FOLLOWED_AGE: Duration = Duration::from_millis(200);

/// Why a session of a tenant that was replaced has ended, in its `revoke_reason`.
const NOT_IN_SNAPSHOT: &str = "not in snapshot";

/// How long the input is waited for before signals and clocks are looked at.
const PATIENCE: Duration = Duration::from_millis(50);

/// When what was put is committed.
pub(super) enum How {
    /// At the end of the input, where nothing is at fault.
    Whole,
    /// Each so many records.
    Parts(u64),
    /// When many have come, or some a while ago.
    Followed,
}

/// What is asked for beside the sessions themselves.
pub(super) struct Plan {
    pub(super) how: How,
    pub(super) now: Timestamp,
    pub(super) dry_run: bool,
    /// Whether a wrong total, and a snapshot without a session, are taken.
    pub(super) force: bool,
    /// The tenant of which the input is all.
    pub(super) snapshot: Option<TenantId<'static>>,
    /// The tenant of all sessions.
    pub(super) tenant: Option<TenantId<'static>>,
}

pub(super) struct Job<'w> {
    plan: Plan,
    import: Import<'w>,
    parts: Parts,
    pub(super) skipped: Option<Skipped>,
    pub(super) bar: Bar,
    tally: Tally,
    /// The unknown fields of an input being followed that were told.
    ignored: BTreeSet<String>,
    /// The number of records since the last commit, and when the first of them came.
    pending: u64,
    begun: Option<Instant>,
}

impl<'w> Job<'w> {
    pub(super) fn new(plan: Plan, import: Import<'w>, parts: Parts) -> Self {
        Self {
            plan,
            import,
            parts,
            skipped: None,
            bar: Bar::hidden(),
            tally: Tally::default(),
            ignored: BTreeSet::new(),
            pending: 0,
            begun: None,
        }
    }

    /// Takes all of the input, unless something is at fault or `is_stopped` says so.
    pub(super) fn run(
        mut self,
        feed: &Feed,
        is_stopped: &dyn Fn() -> bool,
    ) -> anyhow::Result<Tally> {
        let outcome = self.take_all(feed, is_stopped);
        self.bar.clear();
        match outcome {
            Ok(()) => Ok(self.tally),
            Err(error) if self.parts.is_enabled() => Err(error.context(self.parts.so_far())),
            Err(error) => Err(error),
        }
    }

    fn take_all(&mut self, feed: &Feed, is_stopped: &dyn Fn() -> bool) -> anyhow::Result<()> {
        let is_followed = matches!(self.plan.how, How::Followed);
        loop {
            // An input being followed is told by itself, and ends with what was read of it.
            if is_stopped() && !is_followed {
                return self.stop();
            }
            match feed.next(PATIENCE) {
                Event::Items(items) => {
                    for item in items {
                        if let ControlFlow::Break(place) = self.take(item)? {
                            return self.halt(place);
                        }
                    }
                }
                Event::Quiet => {}
                Event::End(notes) => return self.finish(&notes.context("can't read the input")?),
            }
            self.bar.show(feed.bytes(), self.tally.records);
            if is_followed
                && self
                    .begun
                    .is_some_and(|begun| begun.elapsed() >= FOLLOWED_AGE)
            {
                self.commit()?;
            }
        }
    }

    /// Takes one item; breaks where the rest can't be taken.
    fn take(&mut self, item: Item) -> anyhow::Result<ControlFlow<Place>> {
        match item {
            Item::Heading(raw) => {
                if let Some(skipped) = &mut self.skipped {
                    skipped.set_heading(raw);
                }
                Ok(ControlFlow::Continue(()))
            }
            Item::Broken(place, faults) => {
                self.tell(place, &faults);
                self.tally.fatal += faults.len() as u64;
                Ok(match self.plan.how {
                    How::Parts(_) => ControlFlow::Break(place),
                    How::Whole | How::Followed => ControlFlow::Continue(()),
                })
            }
            Item::Unknown(names) => {
                for name in names {
                    if !self.ignored.contains(&name) {
                        let quoted = quote(&name);
                        self.bar
                            .warn(&format!("the field {quoted} is not known and is ignored"));
                        self.ignored.insert(name);
                    }
                }
                Ok(ControlFlow::Continue(()))
            }
            Item::Record {
                place,
                raw,
                session,
            } => self.take_record(place, &raw, session),
        }
    }

    fn take_record(
        &mut self,
        place: Place,
        raw: &[u8],
        session: Result<Session, Vec<Fault>>,
    ) -> anyhow::Result<ControlFlow<Place>> {
        let was_done = self.parts.is_done();
        let (session, faults) = match session {
            Ok(session) => {
                let fault = self.put(&session, was_done)?;
                (Some(session), Vec::from_iter(fault))
            }
            Err(faults) => (None, faults),
        };
        if !faults.is_empty() {
            if !was_done {
                self.tell(place, &faults);
            }
            match (&mut self.skipped, &self.plan.how) {
                (Some(skipped), _) => skipped.write(raw)?,
                (None, How::Parts(_)) => return Ok(ControlFlow::Break(place)),
                (None, How::Whole) => self.tally.fatal += faults.len() as u64,
                (None, How::Followed) => {}
            }
        }
        self.tally.records += 1;
        self.parts.note(session.as_ref())?;
        if !was_done {
            self.pending += 1;
            self.begun.get_or_insert_with(Instant::now);
            match &session {
                Some(session) if faults.is_empty() => {
                    self.tally.ended += u64::from(session.revoked_at.is_some());
                }
                _ => self.tally.skipped += 1,
            }
        }
        let is_due = match self.plan.how {
            How::Whole => false,
            How::Parts(size) => self.pending >= size,
            How::Followed => self.pending >= FOLLOWED_SESSIONS,
        };
        if is_due {
            self.commit()?;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Puts a session, or notes that an earlier run has; returns what is wrong with it.
    fn put(&mut self, session: &Session, was_done: bool) -> Result<Option<Fault>, StoreError> {
        if was_done {
            return Ok(fault_of(&self.import.put_before(session)?, session));
        }
        if matches!(self.plan.how, How::Followed) {
            // What is followed tells of a session again and again; the last word holds.
            self.import.forget_ids();
        }
        let put = self.import.put(session)?;
        match put {
            Put::New => self.tally.new += 1,
            Put::Replaced => self.tally.replaced += 1,
            Put::Twice | Put::OtherUser(_) => {}
        }
        Ok(fault_of(&put, session))
    }

    /// Commits what was put, and how far it has come.
    fn commit(&mut self) -> anyhow::Result<()> {
        if matches!(self.plan.how, How::Parts(_)) {
            self.parts.store(&mut self.import, self.plan.now)?;
        }
        if self.import.is_open() {
            self.commit_as_it_is()
        } else {
            self.flush()
        }
    }

    /// What was put aside is in its file before the rest is committed.
    fn flush(&mut self) -> anyhow::Result<()> {
        (self.begun, self.pending) = (None, 0);
        self.skipped.as_mut().map_or(Ok(()), Skipped::flush)
    }

    fn commit_as_it_is(&mut self) -> anyhow::Result<()> {
        self.flush()?;
        let words = match (&self.plan.how, &self.plan.snapshot) {
            (_, Some(_)) => "a tenant's sessions, by a snapshot",
            (How::Whole, None) => "sessions of an input",
            (How::Parts(_), None) => "sessions of an input, in parts",
            (How::Followed, None) => "sessions of an input that is followed",
        };
        self.import.commit(Scope {
            words,
            tenant: self.plan.tenant.as_ref(),
        })?;
        self.parts.set_stored();
        Ok(())
    }

    /// The input has come to its end.
    fn finish(&mut self, notes: &Notes) -> anyhow::Result<()> {
        if matches!(self.plan.how, How::Followed) {
            return self.commit();
        }
        for (name, count) in &notes.unknown {
            let name = quote(name);
            self.bar.warn(&format!(
                "the field {name} is not known and was ignored, {count}×"
            ));
        }
        let more = self.tally.faults.saturating_sub(TOLD);
        if more > 0 {
            self.bar.tell(&format!("… and {more} more"));
        }
        if self.tally.fatal > 0 {
            let plural = if self.tally.fatal == 1 { "" } else { "s" };
            bail!(
                "{} fault{plural} in {}; nothing{} was written",
                self.tally.fatal,
                sessions(notes.rows),
                self.parts.more()
            );
        }
        self.parts.verify_end()?;
        self.verify_total(notes)?;
        if let Some(tenant) = &self.plan.snapshot {
            if self.tally.taken() == 0 && !self.plan.force {
                bail!(
                    "the input has no session of tenant {tenant}: all of those in the file would be ended; \
                     --force does so. Nothing was written"
                );
            }
            self.tally.absent = self
                .import
                .end_others(tenant, self.plan.now, NOT_IN_SNAPSHOT)?;
        }
        if self.plan.dry_run {
            return Ok(());
        }
        self.parts.finish(&mut self.import)?;
        self.commit_as_it_is()
    }

    /// An export that was cut short has a total that is not its number of sessions.
    fn verify_total(&mut self, notes: &Notes) -> anyhow::Result<()> {
        let Some(total) = notes.total.filter(|total| *total != notes.rows) else {
            return Ok(());
        };
        let rows = sessions(notes.rows);
        if !self.plan.force {
            bail!(
                "total: found {total} beside {rows}; allowed: their number, or --force for an export that is \
                 not whole. {}",
                match self.plan.how {
                    How::Parts(_) => "The last part was not written".to_owned(),
                    _ => format!("Nothing{} was written", self.parts.more()),
                }
            );
        }
        self.bar.warn(&format!("total is {total}, beside {rows}"));
        Ok(())
    }

    /// Something is at fault in an input that is taken in parts.
    fn halt(&mut self, place: Place) -> anyhow::Result<()> {
        if self.import.is_open() {
            self.commit()?;
        }
        bail!(
            "{place} is at fault; put it right, or leave it out with --skip-bad, and go on with --resume"
        )
    }

    /// A signal asks for an end.
    fn stop(&mut self) -> anyhow::Result<()> {
        match self.plan.how {
            How::Parts(_) => {
                if self.import.is_open() {
                    self.commit()?;
                }
                bail!("stopped by a signal; go on with --resume")
            }
            How::Whole | How::Followed => {
                bail!(
                    "stopped by a signal; nothing{} was written",
                    self.parts.more()
                )
            }
        }
    }

    fn tell(&mut self, place: Place, faults: &[Fault]) {
        for fault in faults {
            self.tally.faults += 1;
            if self.tally.faults <= TOLD || matches!(self.plan.how, How::Followed) {
                self.bar.tell(&format!("{place}: {fault}"));
            }
        }
    }
}

/// What is wrong with a session beside what is in the file.
fn fault_of(put: &Put, session: &Session) -> Option<Fault> {
    let id = quote(session.id.as_str());
    match put {
        Put::New | Put::Replaced => None,
        Put::Twice => Some(Fault::of_field(
            "id",
            format_args!("{id} of tenant {} for the second time", session.tenant_id),
            "each session once in an input",
        )),
        Put::OtherUser(user) => Some(Fault::of_field(
            "user_id",
            quote(session.user_id.as_str()),
            format_args!("{}, whose session {id} is in the file", quote(user)),
        )),
    }
}
