//! A proxy between a client and a registry on this machine: it counts bytes, and lets only so many through in a second.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

/// What is read at a time: at 100 Mbit/s a millisecond's worth.
const PIECE_BYTES: usize = 16 << 10;

/// A proxy, which runs until the program ends.
pub(super) struct Proxy {
    address: String,
    counts: Arc<Counts>,
}

/// One way through the proxy.
#[derive(Default)]
struct Way {
    bytes: AtomicU64,
    /// When the next byte may pass.
    next: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Counts {
    up: Way,
    down: Way,
}

impl Proxy {
    pub(super) fn start(to: String, bytes_per_second: Option<u64>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&to) else { continue };
                let ways = [(client.try_clone(), server.try_clone(), true), (Ok(server), Ok(client), false)];
                for (from, to, is_up) in ways {
                    let (Ok(from), Ok(to)) = (from, to) else { continue };
                    let counts = Arc::clone(&shared);
                    std::thread::spawn(move || {
                        let way = if is_up { &counts.up } else { &counts.down };
                        pass(from, to, way, bytes_per_second);
                    });
                }
            }
        });
        Ok(Self { address, counts })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Returns the bytes that went to the registry so far: bodies and all that HTTP adds.
    pub(super) fn up_bytes(&self) -> u64 {
        self.counts.up.bytes.load(Ordering::Relaxed)
    }

    /// Returns the bytes that came from the registry so far.
    pub(super) fn down_bytes(&self) -> u64 {
        self.counts.down.bytes.load(Ordering::Relaxed)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, way: &Way, bytes_per_second: Option<u64>) {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = match from.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        way.bytes.fetch_add(count as u64, Ordering::Relaxed);
        if let Some(rate) = bytes_per_second {
            std::thread::sleep(way.wait(count, rate));
        }
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

impl Way {
    /// Returns how long some bytes have to wait. Connections share the way.
    fn wait(&self, bytes: usize, rate: u64) -> Duration {
        #[expect(clippy::disallowed_methods, reason = "bytes are let through by the clock")]
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = next.unwrap_or(now).max(now);
        *next = Some(begin + Duration::from_secs_f64(bytes as f64 / rate as f64));
        begin - now
    }
}

/// Returns an address on this machine on which nobody listened a moment ago.
pub(super) fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::Proxy;

    #[test]
    fn bytes_pass_are_counted_and_slowed_down() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            client.write_all(&all[..10]).unwrap();
        });
        let proxy = Proxy::start(address, Some(1_000_000)).unwrap();
        #[expect(clippy::disallowed_methods, reason = "the proxy goes by the clock")]
        let start = Instant::now();
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        client.write_all(&[7; 200_000]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, [7; 10]);
        assert_eq!((proxy.up_bytes(), proxy.down_bytes()), (200_000, 10));
        // The last piece does not wait for the next.
        assert!(start.elapsed() >= Duration::from_millis(170), "{:?}", start.elapsed());
    }
}
