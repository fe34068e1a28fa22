//! Sends blobs and manifests to a place, several at a time, and counts them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::{PublishError, PublishOptions};
use crate::digest::Sha256;
use crate::oci::{Blob, Descriptor, Place};
use crate::registry::ReadSeek;

/// Small blobs and manifests that travel at the same time: a registry takes some milliseconds for each.
const SMALL_UPLOADS: usize = 4;

/// Sends blobs and manifests.
pub(super) struct Sender<'a> {
    pub(super) to: &'a dyn Place,
    pub(super) bytes: AtomicU64,
    pub(super) blobs: AtomicU64,
}

impl Sender<'_> {
    /// Sends a small blob, unless it is there.
    pub(super) fn blob(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, PublishError> {
        let descriptor = Descriptor::of(media_type, bytes);
        if !self.to.has_blob(&descriptor.digest)? {
            self.to.put_blob(&descriptor.digest, bytes)?;
            self.count(bytes.len() as u64);
        }
        Ok(descriptor)
    }

    /// Sends a blob that may be large, unless it is there.
    pub(super) fn large_blob(
        &self,
        digest: &Sha256,
        size_bytes: u64,
        source: &mut dyn ReadSeek,
    ) -> Result<(), PublishError> {
        if !self.to.has_blob(digest)? {
            self.to.put_large_blob(&Blob { digest: *digest, size_bytes }, source)?;
            self.count(size_bytes);
        }
        Ok(())
    }

    /// Sends a manifest whose blobs are there.
    pub(super) fn manifest(
        &self,
        tag: Option<&str>,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Descriptor, PublishError> {
        self.to.put_manifest(tag, media_type, bytes)?;
        self.count(bytes.len() as u64);
        Ok(Descriptor::of(media_type, bytes))
    }

    fn count(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.blobs.fetch_add(1, Ordering::Relaxed);
    }
}

/// Does something with each item, several at a time; returns the results in the order of the items.
pub(super) fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    options: &PublishOptions<'_>,
    work: impl Fn(&T) -> Result<R, PublishError> + Sync,
) -> Result<Vec<R>, PublishError> {
    let next = AtomicUsize::new(0);
    let some = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number) else { return Ok(done) };
            let result = if (options.cancelled)() { Err(PublishError::Cancelled) } else { work(item) };
            // The others stop, too.
            done.push((number, result.inspect_err(|_| next.store(items.len(), Ordering::Relaxed))?));
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SMALL_UPLOADS.min(items.len())).map(|_| scope.spawn(some)).collect();
        let mut all = Vec::with_capacity(items.len());
        for thread in threads {
            let ended_early = || Err(PublishError::Bug("a thread that sends blobs ended early"));
            all.extend(thread.join().unwrap_or_else(|_| ended_early())?);
        }
        all.sort_by_key(|(number, _)| *number);
        Ok(all.into_iter().map(|(_, result)| result).collect())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::in_parallel;
    use crate::ops::publish::{FileLayout, PublishError, PublishOptions};

    fn options(cancelled: &(dyn Fn() -> bool + Sync)) -> PublishOptions<'_> {
        PublishOptions { tag: "", from: None, layout: FileLayout::Packs, cancelled, on_sent: &|_, _| () }
    }

    #[test]
    fn results_come_in_order_and_the_first_failure_ends_it() {
        let items: Vec<usize> = (0..100).collect();
        let doubled = in_parallel(&items, &options(&|| false), |item| Ok(2 * item)).unwrap();
        assert_eq!(doubled, (0..100).map(|item| 2 * item).collect::<Vec<_>>());
        let tried = AtomicUsize::new(0);
        let failed = in_parallel(&items, &options(&|| false), |_| {
            tried.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(PublishError::Bug("x"))
        });
        assert!(failed.is_err() && tried.into_inner() <= 4);
        let cancelled = in_parallel(&items, &options(&|| true), |_| Ok(()));
        assert!(matches!(cancelled, Err(PublishError::Cancelled)));
    }
}
