//! What is tried again, when, and how often.

use std::time::{Duration, Instant};

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use super::client::{Client, Notice};
use super::{RegistryError, http_date};

/// How often cancellation is looked for.
pub(super) const POLL: Duration = Duration::from_millis(50);
/// How often a host is tried that was never reached: it is more often wrong than away.
const RETRIES_OF_UNKNOWN_HOST: u32 = 1;

/// The attempts at one thing. Progress makes them new.
pub(super) struct Attempts<'c> {
    client: &'c Client<'c>,
    host: String,
    failed: u32,
}

impl<'c> Attempts<'c> {
    pub(super) fn new(client: &'c Client<'_>, host: &str) -> Self {
        Self { client, host: host.into(), failed: 0 }
    }

    /// Something arrived that does not have to come again.
    pub(super) fn progressed(&mut self) {
        self.failed = 0;
    }

    /// Waits until it is time for another attempt.
    ///
    /// # Errors
    /// The error itself if another attempt is no use, or none is left; cancelled; out of time.
    pub(super) fn again(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        let limits = &self.client.options.limits;
        let is_unknown =
            matches!(error, RegistryError::Unreachable { .. }) && !self.client.was_reached(&self.host);
        let most = if is_unknown { limits.retries.min(RETRIES_OF_UNKNOWN_HOST) } else { limits.retries };
        if !error.is_transient() || self.failed >= most {
            return Err(error);
        }
        let asked = match &error {
            RegistryError::Status { retry_after, .. } => *retry_after,
            _ => None,
        };
        let wait = match asked {
            // Longer than anyone wants to look at a terminal: the message says it, and the caller decides.
            Some(asked) if asked > limits.max_wait => return Err(error),
            Some(asked) => asked,
            None => {
                let whole = limits.backoff.saturating_mul(1 << self.failed.min(16)).min(limits.max_wait);
                whole.mul_f64(1.0 - fastrand::f64() / 2.0)
            }
        };
        // What went wrong says more than that the time is over.
        if wait >= self.client.time_left() {
            return Err(error);
        }
        self.failed += 1;
        if asked.is_some() || error.status() == Some(429) {
            self.client.is_busy(&self.host, wait);
        }
        (self.client.watch.notice)(Notice::Retrying { reason: error.to_string(), wait });
        self.client.sleep(wait, &self.host)
    }
}

impl Client<'_> {
    /// Tries something until it works or is no use.
    pub(super) fn retrying<T>(
        &self,
        host: &str,
        mut once: impl FnMut() -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut attempts = Attempts::new(self, host);
        loop {
            match once() {
                Ok(done) => return Ok(done),
                Err(error) => attempts.again(error)?,
            }
        }
    }

    pub(super) fn sleep(&self, wait: Duration, host: &str) -> Result<(), RegistryError> {
        let end = now() + wait;
        loop {
            self.check(host)?;
            let left = end.saturating_duration_since(now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(POLL));
        }
    }
}

/// Returns how long a server asks to wait: a number of seconds, or a date, which is compared with the server's own clock.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let header = |name| headers.get(name)?.to_str().ok();
    let asked = header(RETRY_AFTER)?.trim();
    if let Ok(seconds) = asked.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = http_date::parse(asked)?;
    let server_time = header(DATE).and_then(http_date::parse).or_else(|| {
        #[expect(clippy::disallowed_methods, reason = "a server names the time of a retry")]
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()
    })?;
    Some(date.saturating_sub(server_time))
}

#[expect(clippy::disallowed_methods, reason = "requests have time limits")]
pub(super) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_names_seconds_or_a_date() {
        let check = |headers: &[(reqwest::header::HeaderName, &str)], expected: Option<u64>| {
            let headers =
                headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
            assert_eq!(retry_after(&headers), expected.map(Duration::from_secs));
        };
        let date = |time: &str| format!("Sun, 06 Nov 1994 {time} GMT");
        check(&[(RETRY_AFTER, "7")], Some(7));
        check(&[(RETRY_AFTER, &date("08:49:37")), (DATE, &date("08:49:07"))], Some(30));
        check(&[(RETRY_AFTER, &date("08:49:07")), (DATE, &date("08:49:37"))], Some(0));
        check(&[(RETRY_AFTER, &date("08:49:07"))], Some(0));
        check(&[(RETRY_AFTER, "soon")], None);
        check(&[(RETRY_AFTER, "-1")], None);
        check(&[], None);
    }
}
