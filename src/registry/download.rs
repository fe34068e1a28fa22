//! Bytes as they come down: all or a range, resumed after a break, each given to the sink once and in order.

use std::io::Write;

use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, LAST_MODIFIED};
use sha2::Digest as _;

use super::RegistryError;
use super::client::{Client, host_of};
use super::exchange::Answer;
use super::retry::Attempts;

/// How a blob, or a range of it, arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// How many bytes came over the network, those included that nobody wanted.
    pub received_bytes: u64,
    /// Whether a range was asked for and the whole blob came. Asking for several ranges of it is then no use.
    pub range_ignored: bool,
}

/// A download, which goes on where it broke off.
pub(super) struct Download<'d> {
    /// The size of the whole. If it is not known, the first answer says it, or its end shows it.
    pub(super) size_bytes: Option<u64>,
    /// The next byte that the sink gets.
    pub(super) at: u64,
    /// Before which byte it ends; `None` for the end of a file whose size is not known.
    pub(super) end: Option<u64>,
    pub(super) sink: &'d mut dyn Write,
    pub(super) hasher: Option<sha2::Sha256>,
    /// What the server calls the version that it sends, where no digest tells versions apart.
    pub(super) version: Option<Version>,
    /// Gets the size if only the first answer says it.
    pub(super) on_size: Option<&'d mut dyn FnMut(u64)>,
    pub(super) fetched: Fetched,
}

/// The version that a server sends, once that is known.
#[derive(Debug, Default)]
pub(super) struct Version(Option<String>);

/// Sends one request of a download, with the value of its `Range` header if it is for a part.
pub(super) type Send<'s, 'c> = dyn Fn(Option<&str>) -> Result<Answer<'c>, RegistryError> + 's;

impl Download<'_> {
    /// Fetches what is still to come from one host.
    pub(super) fn run(
        &mut self,
        client: &Client<'_>,
        host: &str,
        what: &str,
        send: &Send<'_, '_>,
    ) -> Result<(), RegistryError> {
        let mut attempts = Attempts::new(client, host);
        loop {
            let before = self.at;
            let error = match self.once(client, what, send) {
                Ok(()) if Some(self.at) == self.end => return Ok(()),
                // A server may send less at a time than it was asked for.
                Ok(()) => continue,
                Err(error) => error,
            };
            if self.at > before {
                attempts.progressed();
            }
            attempts.again(error)?;
        }
    }

    fn once(&mut self, client: &Client<'_>, what: &str, send: &Send<'_, '_>) -> Result<(), RegistryError> {
        let range = match (self.at, self.end) {
            (0, None) => None,
            (0, Some(end)) if Some(end) == self.size_bytes => None,
            (at, None) => Some(format!("bytes={at}-")),
            (at, Some(end)) => Some(format!("bytes={at}-{}", end.saturating_sub(1))),
        };
        let answer = match send(range.as_deref()) {
            Err(error) if error.status() == Some(416) => {
                return Err(RegistryError::BadAnswer {
                    request: what.into(),
                    problem: format!("the server has no bytes from {} on", self.at),
                });
            }
            answer => answer?,
        };
        self.check_version(&answer)?;
        match answer.status {
            200 => {
                if range.is_some() {
                    self.fetched.range_ignored = true;
                    client.range_was_ignored(&host_of(&answer.url));
                }
                self.check_size(what, &answer, content_length(&answer.headers))?;
                self.take(what, answer, 0, self.size_bytes)
            }
            206 => {
                let (first, last, size_bytes) = answer
                    .headers
                    .get(CONTENT_RANGE)
                    .and_then(|value| content_range(value.to_str().ok()?))
                    .ok_or_else(|| bad(&answer, "the answer does not say which range it has".into()))?;
                self.check_size(what, &answer, size_bytes)?;
                if first != self.at || last < first || self.end.is_none_or(|end| last >= end) {
                    let asked = range.unwrap_or_default();
                    let asked = asked.trim_start_matches("bytes=");
                    return Err(bad(&answer, format!("asked for bytes {asked}, got {first}-{last}")));
                }
                let length = content_length(&answer.headers);
                if length.is_some_and(|length| length != last - first + 1) {
                    return Err(bad(
                        &answer,
                        format!("the answer's size is not that of bytes {first}-{last}"),
                    ));
                }
                self.take(what, answer, first, Some(last + 1))
            }
            status => Err(bad(&answer, format!("it was answered with {status}"))),
        }
    }

    /// Compares the size with what a server says, or learns it.
    fn check_size(&mut self, what: &str, answer: &Answer<'_>, got: Option<u64>) -> Result<(), RegistryError> {
        match (self.size_bytes, got) {
            (Some(expected), Some(got)) if got != expected => {
                if is_page(&answer.headers) {
                    return Err(bad(answer, "it was answered with an HTML page".into()));
                }
                return Err(RegistryError::WrongSize { what: what.into(), expected, got });
            }
            (None, Some(got)) => {
                self.size_bytes = Some(got);
                self.end = self.end.or(Some(got));
                if let Some(on_size) = &mut self.on_size {
                    on_size(got);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Parts of two versions make no file.
    fn check_version(&mut self, answer: &Answer<'_>) -> Result<(), RegistryError> {
        let Some(Version(known)) = &mut self.version else { return Ok(()) };
        let header = |name| answer.headers.get(name)?.to_str().ok().map(str::to_owned);
        let found = header(ETAG).or_else(|| header(LAST_MODIFIED));
        match (known.as_ref(), found) {
            (Some(known), Some(found)) if *known != found => {
                Err(bad(answer, "it changed while it was fetched: fetch it again".into()))
            }
            (None, found) => {
                *known = found;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Takes what is wanted of an answer, which has the bytes from `first` to before `end`.
    fn take(
        &mut self,
        what: &str,
        mut answer: Answer<'_>,
        first: u64,
        end: Option<u64>,
    ) -> Result<(), RegistryError> {
        let mut position = first;
        // The last read of a whole is of its end, which shows that no more comes.
        let until_its_end = self.end == end;
        while until_its_end || self.end.is_none_or(|end| self.at < end) {
            let Some(bytes) = answer.incoming.next()? else { break };
            let count = bytes.len() as u64;
            self.fetched.received_bytes += count;
            if let Some(expected) = end.filter(|end| count > end - position) {
                return Err(RegistryError::WrongSize { what: what.into(), expected, got: position + count });
            }
            let last = self.end.unwrap_or(u64::MAX).clamp(position, position + count);
            let wanted = self.at.clamp(position, last) - position..last - position;
            let wanted = &bytes[wanted.start as usize..wanted.end as usize];
            self.sink
                .write_all(wanted)
                .map_err(|source| RegistryError::Write { what: what.into(), source })?;
            if let Some(hasher) = &mut self.hasher {
                hasher.update(wanted);
            }
            self.at += wanted.len() as u64;
            position += count;
        }
        // Nothing said how long it is: the end of the answer is its end.
        if end.is_none() && self.end.is_none() && position >= self.at {
            (self.size_bytes, self.end) = (Some(position), Some(position));
        }
        let expected = match (self.end, end) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b).unwrap_or(u64::MAX),
        };
        if self.at < expected {
            let (request, got_bytes) = (answer.incoming.request().into(), position - first);
            return Err(RegistryError::BrokeOff { request, got_bytes, source: None });
        }
        Ok(())
    }
}

fn bad(answer: &Answer<'_>, problem: String) -> RegistryError {
    RegistryError::BadAnswer { request: answer.incoming.request().into(), problem }
}

/// Whether an answer says of itself that it is a page for people.
pub(super) fn is_page(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media_type.trim_start().to_ascii_lowercase().starts_with("text/html")
}

pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// Reads `bytes 0-99/1234`: the first and last byte, and the whole size if it is known.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, size) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let size = if size == "*" { None } else { Some(size.parse().ok()?) };
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?, size))
}

#[cfg(test)]
mod tests {
    use super::content_range;

    #[test]
    fn ranges_are_read() {
        assert_eq!(content_range("bytes 0-99/1234"), Some((0, 99, Some(1234))));
        assert_eq!(content_range("bytes 5-5/*"), Some((5, 5, None)));
        for wrong in ["", "bytes */1234", "bytes 0-99", "items 0-1/2", "bytes -1-2/3", "bytes 1-/3"] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }
}
