//! The end of what a process writes to standard error.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The last bytes of a log, kept by a thread that reads it to its end.
#[derive(Debug)]
pub(crate) struct LogTail(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    ended: Condvar,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    bytes: VecDeque<u8>,
    ended: bool,
}

impl LogTail {
    /// Starts to read a log, of which at most `max_bytes` are kept.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn of(log: impl Read + Send + 'static, max_bytes: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), ended: Condvar::new(), max_bytes });
        let filled = Arc::clone(&shared);
        // Never joined: a process that left the group could hold the pipe open for ever.
        std::thread::Builder::new().name("child-stderr".into()).spawn(move || filled.fill(log))?;
        Ok(Self(shared))
    }

    /// Returns the kept bytes; waits at most this long for the log's end.
    pub(crate) fn text(&self, wait: Duration) -> String {
        let Shared { state, ended, max_bytes: _ } = &*self.0;
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, _) = ended
            .wait_timeout_while(state, wait, |state| !state.ended)
            .unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = state.bytes.iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Shared {
    fn fill(&self, mut log: impl Read) {
        let lock = || self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = [0; 4096];
        loop {
            let count = match log.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let mut state = lock();
            state.bytes.extend(&buffer[..count]);
            let excess = state.bytes.len().saturating_sub(self.max_bytes);
            state.bytes.drain(..excess);
        }
        lock().ended = true;
        self.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::LogTail;

    #[test]
    fn the_last_bytes_are_kept() {
        let log: Vec<u8> = (0..10_000).flat_map(|line| format!("{line}\n").into_bytes()).collect();
        let tail = LogTail::of(std::io::Cursor::new(log), 10).unwrap();
        assert_eq!(tail.text(Duration::from_secs(60)), "9998\n9999\n");
    }
}
