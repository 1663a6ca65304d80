//! What a reload replaces: who may ask, and by what rules sessions count. A request takes one state when it begins
//! and keeps to it.

use super::auth::{Callers, Keyring};
use crate::session::Policies;

pub(super) struct Live {
    pub(super) callers: Callers,
    pub(super) policies: Policies,
}

impl Live {
    pub(super) fn new(keyring: Keyring, policies: Policies, workers: usize) -> Self {
        Self {
            callers: Callers::new(keyring, workers, &Callers::default()),
            policies,
        }
    }

    /// The state after this one: keys that stay go on from where they stand.
    pub(super) fn next(&self, keyring: Keyring, policies: Policies, workers: usize) -> Self {
        Self {
            callers: Callers::new(keyring, workers, &self.callers),
            policies,
        }
    }
}
