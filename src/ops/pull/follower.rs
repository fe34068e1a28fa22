//! What is done with a file while it is put together: its digests, by a thread that reads what is there from the beginning on and waits
//! at the first gap; and writing it to the disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::digest::{Blake3, Sha256, both_of_chunks};

/// The file is read in pieces of at most this size.
const PIECE_BYTES: u64 = 1 << 20;
/// As much is synced at a time.
const SYNC_BYTES: u64 = 64 << 20;

/// Which parts of a file are there.
pub(super) struct Follower {
    size_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Up to here everything is there.
    end: u64,
    /// Parts behind the first gap: where each begins and ends.
    parts: BTreeMap<u64, u64>,
    is_given_up: bool,
}

impl Follower {
    pub(super) fn new(size_bytes: u64) -> Self {
        Self { size_bytes, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Notes that a part is there, for good.
    pub(super) fn add(&self, offset: u64, length: u64) {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        state.parts.insert(offset, offset + length);
        let before = state.end;
        while let Some(part) = state.parts.first_entry()
            && *part.key() <= state.end
        {
            state.end = state.end.max(part.remove());
        }
        if state.end > before {
            self.changed.notify_all();
        }
    }

    /// Says that nothing more comes: if the file is not whole, [`Self::digests`] and [`Self::sync`] end.
    pub(super) fn end(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_given_up = state.end < self.size_bytes;
        drop(state);
        self.changed.notify_all();
    }

    /// Returns both digests of the file once all of it is there.
    ///
    /// # Errors
    /// A file that can't be read; given up.
    pub(super) fn digests(&self, file: &File) -> io::Result<(Sha256, Blake3)> {
        let mut at = 0;
        let (sha256, blake3, _) = both_of_chunks(|| -> io::Result<Option<Vec<u8>>> {
            let end = self.wait_for(at + PIECE_BYTES)?;
            let length = usize::try_from(PIECE_BYTES.min(end - at)).unwrap_or_default();
            if length == 0 {
                return Ok(None);
            }
            let mut piece = vec![0; length];
            file.read_exact_at(&mut piece, at)?;
            at += length as u64;
            Ok(Some(piece))
        })?;
        Ok((sha256, blake3))
    }

    /// Syncs the file as it grows, so that there is little left to write once it is whole.
    ///
    /// # Errors
    /// A file that can't be written; given up.
    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        let mut at = 0;
        while at < self.size_bytes {
            at = self.wait_for(at + SYNC_BYTES)?;
            file.sync_data()?;
        }
        Ok(())
    }

    /// Waits until the file is there up to here, or as a whole; returns up to where it is there.
    fn wait_for(&self, enough: u64) -> io::Result<u64> {
        let enough = enough.min(self.size_bytes);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.end < enough && !state.is_given_up {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_given_up { Err(io::Error::other("given up")) } else { Ok(state.end) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::{Follower, PIECE_BYTES};
    use crate::digest::{Blake3, Sha256};

    #[test]
    fn parts_in_any_order_give_the_digests_of_the_whole() {
        let bytes: Vec<u8> = (0..3 * PIECE_BYTES + 5).map(|n| (n % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let size = bytes.len() as u64;
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
            let follower = Follower::new(size);
            std::thread::scope(|scope| {
                let digests = scope.spawn(|| follower.digests(&file));
                let synced = scope.spawn(|| follower.sync(&file));
                for part in order {
                    let start = part * PIECE_BYTES;
                    follower.add(start, PIECE_BYTES.min(size - start));
                }
                follower.end();
                synced.join().unwrap().unwrap();
                let found = digests.join().unwrap().unwrap();
                assert_eq!(found, (Sha256::of(&bytes), Blake3::of(&bytes)));
            });
        }
        let empty = Follower::new(0);
        assert_eq!(empty.digests(&file).unwrap().0, Sha256::of(b""));
    }

    #[test]
    fn who_waits_is_freed() {
        let file = tempfile::tempfile().unwrap();
        let follower = Follower::new(10);
        std::thread::scope(|scope| {
            let digests = scope.spawn(|| follower.digests(&file));
            follower.end();
            assert!(digests.join().unwrap().is_err());
        });
    }
}
