//! Blobs as they come down: whole or a range, resumed after a break, never a wrong byte.

use std::io::Write;
use std::ops::Range;

use reqwest::Method;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, RANGE};
use sha2::Digest as _;

use super::auth::Scope;
use super::client::{Client, host_of};
use super::exchange::{Answer, Body};
use super::request::Ask;
use super::retry::Attempts;
use super::{RegistryError, Repository};
use crate::digest::Sha256;

/// A blob, as the descriptors of manifests name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blob {
    /// Its digest.
    pub digest: Sha256,
    /// Its size.
    pub size_bytes: u64,
}

/// How a blob, or a range of it, arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// How many bytes came over the network, those included that nobody wanted.
    pub received_bytes: u64,
    /// Whether a range was asked for and the whole blob came. Asking for several ranges of it is then no use.
    pub range_ignored: bool,
}

/// A download, which goes on where it broke off.
struct Download<'d> {
    blob: Blob,
    /// The next byte that the sink gets.
    at: u64,
    end: u64,
    sink: &'d mut dyn Write,
    hasher: Option<sha2::Sha256>,
    fetched: Fetched,
}

impl Client<'_> {
    /// Returns the size in bytes of a blob that a registry has; `None` if it has none. Mirrors are not asked.
    ///
    /// # Errors
    /// The registry can't be reached, fails, or wants a login.
    pub fn has_blob(&self, repository: &Repository, digest: &Sha256) -> Result<Option<u64>, RegistryError> {
        let host = repository.host();
        self.retrying(host, || self.has_blob_once(repository, digest, Scope::pull(repository)))
    }

    /// Does so without a retry, with a scope: for an upload one token is enough, and a repository that is not there yet may
    /// only be seen by those who may make it.
    pub(super) fn has_blob_once(
        &self,
        repository: &Repository,
        digest: &Sha256,
        scope: Scope,
    ) -> Result<Option<u64>, RegistryError> {
        let url = self.url(repository, &format!("blobs/{digest}"))?;
        let what = what(repository, digest);
        let ask = Ask::new(Method::HEAD, url, repository, scope, what);
        match self.ask(&ask, &mut Body::Empty) {
            Ok(answer) => content_length(&answer.headers)
                .map(Some)
                .ok_or_else(|| bad(&answer, "the answer does not say how large the blob is".into())),
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a blob, or the bytes of it from `range.start` to before `range.end`, to a sink: each byte once, in order. What
    /// was written is not asked for again after a break, from whichever place.
    ///
    /// A blob without a range is compared with its digest at the end; nothing of it may be used before. Of a range only the
    /// size is checked: its bytes are the caller's to verify.
    ///
    /// # Errors
    /// No place has it; it is not what its digest and size say; it breaks off too often; the sink fails.
    pub fn get_blob(
        &self,
        repository: &Repository,
        blob: Blob,
        range: Option<Range<u64>>,
        sink: &mut dyn Write,
    ) -> Result<Fetched, RegistryError> {
        let hasher = range.is_none().then(sha2::Sha256::default);
        let Range { start, end } = range.unwrap_or(0..blob.size_bytes);
        if start > end || end > blob.size_bytes {
            let what = what(repository, &blob.digest);
            return Err(RegistryError::Range { what, start, end, size_bytes: blob.size_bytes });
        }
        let fetched = Fetched { received_bytes: 0, range_ignored: false };
        let mut download = Download { blob, at: start, end, sink, hasher, fetched };
        // Nothing has to be asked for nothing, but for a blob that may not be there.
        if start < end || download.hasher.is_some() {
            self.in_places(repository, |place| self.download(place, &mut download))?;
        }
        if let Some(hasher) = download.hasher {
            let got = Sha256::from_bytes(hasher.finalize().into());
            if got != blob.digest {
                let what = what(repository, &blob.digest);
                return Err(RegistryError::WrongDigest { what, expected: blob.digest, got: got.to_string() });
            }
        }
        Ok(download.fetched)
    }

    fn download(&self, place: &Repository, download: &mut Download<'_>) -> Result<(), RegistryError> {
        let mut attempts = Attempts::new(self, place.host());
        loop {
            let before = download.at;
            let error = match self.download_once(place, download) {
                Ok(()) if download.at == download.end => return Ok(()),
                // A registry may send less at a time than it was asked for.
                Ok(()) => continue,
                Err(error) => error,
            };
            if download.at > before {
                attempts.progressed();
            }
            attempts.again(error)?;
        }
    }

    fn download_once(&self, place: &Repository, download: &mut Download<'_>) -> Result<(), RegistryError> {
        let digest = download.blob.digest;
        let url = self.url(place, &format!("blobs/{digest}"))?;
        let mut ask = Ask::new(Method::GET, url, place, Scope::pull(place), what(place, &digest));
        let is_part = download.at > 0 || download.end < download.blob.size_bytes;
        if is_part {
            ask = ask.header(RANGE, &format!("bytes={}-{}", download.at, download.end.saturating_sub(1)));
        }
        let answer = match self.ask(&ask, &mut Body::Empty) {
            Err(error) if error.status() == Some(416) => {
                return Err(RegistryError::BadAnswer {
                    request: what(place, &digest),
                    problem: format!("the registry has no bytes from {} on", download.at),
                });
            }
            answer => answer?,
        };
        match answer.status {
            200 => {
                if is_part {
                    download.fetched.range_ignored = true;
                    self.range_was_ignored(&host_of(&answer.url));
                }
                download.check_size(place, content_length(&answer.headers))?;
                download.take(place, answer, 0, download.blob.size_bytes)
            }
            206 => {
                let (first, last, size_bytes) = answer
                    .headers
                    .get(CONTENT_RANGE)
                    .and_then(|value| content_range(value.to_str().ok()?))
                    .ok_or_else(|| bad(&answer, "the answer does not say which range it has".into()))?;
                download.check_size(place, size_bytes)?;
                if first != download.at || last < first || last >= download.end {
                    let asked = format!("{}-{}", download.at, download.end - 1);
                    return Err(bad(&answer, format!("asked for bytes {asked}, got {first}-{last}")));
                }
                let length = content_length(&answer.headers);
                if length.is_some_and(|length| length != last - first + 1) {
                    return Err(bad(
                        &answer,
                        format!("the answer's size is not that of bytes {first}-{last}"),
                    ));
                }
                download.take(place, answer, first, last + 1)
            }
            status => Err(bad(&answer, format!("it was answered with {status}"))),
        }
    }
}

impl Download<'_> {
    fn check_size(&self, place: &Repository, got: Option<u64>) -> Result<(), RegistryError> {
        let expected = self.blob.size_bytes;
        match got {
            Some(got) if got != expected => {
                Err(RegistryError::WrongSize { what: what(place, &self.blob.digest), expected, got })
            }
            _ => Ok(()),
        }
    }

    /// Takes what is wanted of an answer, which has the bytes from `first` to before `end`.
    fn take(
        &mut self,
        place: &Repository,
        mut answer: Answer<'_>,
        first: u64,
        end: u64,
    ) -> Result<(), RegistryError> {
        let mut position = first;
        // The last read of a whole blob is of its end, which shows that no more comes.
        let until_its_end = self.end == end;
        while until_its_end || self.at < self.end {
            let Some(bytes) = answer.incoming.next()? else { break };
            let count = bytes.len() as u64;
            self.fetched.received_bytes += count;
            if count > end - position {
                let got = position + count;
                return Err(RegistryError::WrongSize {
                    what: what(place, &self.blob.digest),
                    expected: end,
                    got,
                });
            }
            let wanted = self.at.clamp(position, position + count) - position
                ..self.end.clamp(position, position + count) - position;
            let wanted = &bytes[wanted.start as usize..wanted.end as usize];
            self.sink
                .write_all(wanted)
                .map_err(|source| RegistryError::Write { what: what(place, &self.blob.digest), source })?;
            if let Some(hasher) = &mut self.hasher {
                hasher.update(wanted);
            }
            self.at += wanted.len() as u64;
            position += count;
        }
        if self.at < self.end.min(end) {
            let (request, got_bytes) = (answer.incoming.request().into(), position - first);
            return Err(RegistryError::BrokeOff { request, got_bytes, source: None });
        }
        Ok(())
    }
}

pub(super) fn what(repository: &Repository, digest: &Sha256) -> String {
    format!("blob {digest} of {repository}")
}

fn bad(answer: &Answer<'_>, problem: String) -> RegistryError {
    RegistryError::BadAnswer { request: answer.incoming.request().into(), problem }
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
