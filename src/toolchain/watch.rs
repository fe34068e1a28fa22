//! Reports progress, and asks whether to stop.

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Another process does the same; no bytes to count.
    Waiting,
    /// Bytes arrive.
    Downloading,
    /// What arrived is hashed.
    Verifying,
    /// Files are unpacked, and hashed on the way.
    Unpacking,
    /// Files are put into a tar, and hashed on the way.
    Packing,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Bytes done of this stage.
    pub done_bytes: u64,
    /// Bytes in all, where known.
    pub total_bytes: Option<u64>,
}

/// The caller's callbacks: one gets progress, one says whether to stop.
pub struct Watch<'a> {
    /// Called a few times a second, and at the end of each stage.
    pub progress: &'a mut dyn FnMut(Progress),
    /// Called a few times a second; `true` ends the work with an error and leaves nothing half done.
    pub cancelled: &'a dyn Fn() -> bool,
}

impl Watch<'_> {
    pub(crate) fn tell(&mut self, stage: Stage, done_bytes: u64, total_bytes: Option<u64>) {
        let done_bytes = total_bytes.map_or(done_bytes, |total| done_bytes.min(total));
        (self.progress)(Progress { stage, done_bytes, total_bytes });
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        (self.cancelled)()
    }
}
