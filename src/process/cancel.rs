//! A flag that ends what is running.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A flag that ends what is running, shared by all its clones.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_set: AtomicBool,
    /// How many are cleaning up what is not on this machine.
    cleaning: AtomicUsize,
}

/// Somebody who cleans up, until it is dropped.
#[derive(Debug)]
pub struct CleaningUp(Cancel);

impl Drop for CleaningUp {
    fn drop(&mut self) {
        self.0.0.cleaning.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Cancel {
    /// Makes a flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the flag, for good.
    pub fn cancel(&self) {
        self.0.is_set.store(true, Ordering::Relaxed);
    }

    /// Whether the flag is set.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_set.load(Ordering::Relaxed)
    }

    /// Asks for more time than what is cancelled usually gets: jobs on other machines are being ended.
    #[must_use]
    pub fn clean_up(&self) -> CleaningUp {
        self.0.cleaning.fetch_add(1, Ordering::Relaxed);
        CleaningUp(self.clone())
    }

    /// Whether somebody needs more time.
    pub fn is_cleaning_up(&self) -> bool {
        self.0.cleaning.load(Ordering::Relaxed) > 0
    }
}
