//! How far an import in parts has come, and that an input is the one it has come so far in.

use std::path::Path;

use anyhow::bail;
use sha2::{Digest as _, Sha256};

use crate::session::Session;
use crate::store::import::Import;
use crate::store::progress::Progress;
use crate::time::Timestamp;

/// The state of one input.
pub(super) struct Parts {
    /// What the file knows the input by: its absolute path, or `-`.
    input: String,
    /// Whether anything of this is wanted.
    is_enabled: bool,
    /// What the file has, and what it will have after the commit.
    stored: Option<Progress>,
    next: Option<Progress>,
    /// Where an earlier run stopped.
    resumed: Option<Progress>,
    /// The records so far, and what they are known again by.
    records: u64,
    digest: Sha256,
}

/// What to do about an earlier run that stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Earlier {
    Resume,
    Restart,
    Refuse,
}

impl Parts {
    pub(super) fn new(
        import: &Import<'_>,
        input: &Path,
        in_parts: bool,
        earlier: Earlier,
    ) -> anyhow::Result<Self> {
        // The input is open: its path leads somewhere. Standard input is no path.
        let input = std::fs::canonicalize(input).unwrap_or_else(|_| input.to_owned());
        let input = input.to_string_lossy().into_owned();
        let stored = import.progress(&input)?;
        if let (Some(stored), Earlier::Refuse) = (&stored, earlier) {
            bail!(
                "an import of {input} stopped after {}; --resume goes on behind them, --restart begins anew",
                records(stored.records)
            );
        }
        let resumed = stored.clone().filter(|_| earlier == Earlier::Resume);
        Ok(Self {
            input,
            is_enabled: in_parts || resumed.is_some(),
            stored,
            next: None,
            resumed,
            records: 0,
            digest: Sha256::new(),
        })
    }

    /// An input of which nothing is kept.
    pub(super) fn none() -> Self {
        Self {
            input: String::new(),
            is_enabled: false,
            stored: None,
            next: None,
            resumed: None,
            records: 0,
            digest: Sha256::new(),
        }
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// The now of the run that this one goes on from.
    pub(super) fn started_at(&self) -> Option<Timestamp> {
        self.resumed.as_ref().map(|resumed| resumed.started_at)
    }

    /// How many records an earlier run was done with.
    pub(super) fn resumed_after(&self) -> Option<u64> {
        self.resumed.as_ref().map(|resumed| resumed.records)
    }

    /// Whether an earlier run was done with the next record.
    pub(super) fn is_done(&self) -> bool {
        self.resumed_after().is_some_and(|done| self.records < done)
    }

    /// Whether an earlier run stopped, which this one goes on from or begins anew.
    pub(super) fn had_begun(&self) -> bool {
        self.stored.is_some()
    }

    /// `nothing more was written`, where something was before.
    pub(super) fn more(&self) -> &'static str {
        if self.stored.is_some() { " more" } else { "" }
    }

    /// Counts a record; what is at fault has no session.
    pub(super) fn note(&mut self, session: Option<&Session>) -> anyhow::Result<()> {
        if !self.is_enabled {
            return Ok(());
        }
        // Ids have no control characters, so that these part them.
        if let Some(session) = session {
            self.digest.update(session.tenant_id.as_str());
            self.digest.update(b"\0");
            self.digest.update(session.id.as_str());
        }
        self.digest.update(b"\n");
        self.records += 1;
        match &self.resumed {
            Some(resumed) if self.records == resumed.records => self.verify(resumed),
            _ => Ok(()),
        }
    }

    fn verify(&self, resumed: &Progress) -> anyhow::Result<()> {
        if self.digest() != resumed.digest {
            bail!(
                "the first {} of the input are not those that were imported; --restart begins anew",
                records(resumed.records)
            );
        }
        Ok(())
    }

    /// That the input did not end before the place where an earlier run stopped.
    pub(super) fn verify_end(&self) -> anyhow::Result<()> {
        match &self.resumed {
            Some(resumed) if self.records < resumed.records => self.verify(resumed),
            _ => Ok(()),
        }
    }

    fn digest(&self) -> String {
        let digest = self.digest.clone().finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Writes how far it has come into the open transaction.
    pub(super) fn store(&mut self, import: &mut Import<'_>, now: Timestamp) -> anyhow::Result<()> {
        let next = Progress {
            started_at: now,
            records: self.records,
            digest: self.digest(),
        };
        self.replace(import, Some(next))
    }

    /// Writes into the open transaction that nothing is left to do.
    pub(super) fn finish(&mut self, import: &mut Import<'_>) -> anyhow::Result<()> {
        self.replace(import, None)
    }

    fn replace(&mut self, import: &mut Import<'_>, next: Option<Progress>) -> anyhow::Result<()> {
        if !import.move_progress(&self.input, self.stored.as_ref(), next.as_ref())? {
            bail!("another import of the same input is under way");
        }
        self.next = next;
        Ok(())
    }

    /// The transaction is committed.
    pub(super) fn set_stored(&mut self) {
        self.stored = self.next.take();
    }

    /// What an error may say of the records before it.
    pub(super) fn so_far(&self) -> String {
        match &self.stored {
            Some(stored) => format!(
                "{} of {} are done with",
                records(stored.records),
                self.input
            ),
            None => "nothing was written".to_owned(),
        }
    }
}

fn records(count: u64) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} record{plural}")
}
