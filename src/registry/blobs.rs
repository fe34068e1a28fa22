//! Blobs as they come down: whole or a range, resumed after a break, never a wrong byte.

use std::io::Write;
use std::ops::Range;

use reqwest::Method;
use reqwest::header::RANGE;
use sha2::Digest as _;

use super::auth::Scope;
use super::client::Client;
use super::download::{Download, Fetched, content_length};
use super::exchange::Body;
use super::request::Ask;
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
            Ok(answer) => content_length(&answer.headers).map(Some).ok_or_else(|| RegistryError::BadAnswer {
                request: answer.incoming.request().into(),
                problem: "the answer does not say how large the blob is".into(),
            }),
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
        let size_bytes = Some(blob.size_bytes);
        let mut download = Download {
            size_bytes,
            at: start,
            end: Some(end),
            sink,
            hasher,
            version: None,
            on_size: None,
            fetched,
        };
        // Nothing has to be asked for nothing, but for a blob that may not be there.
        if start < end || download.hasher.is_some() {
            self.in_places(repository, |place| self.download(place, &mut download, &blob.digest))?;
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

    fn download(
        &self,
        place: &Repository,
        download: &mut Download<'_>,
        digest: &Sha256,
    ) -> Result<(), RegistryError> {
        let url = self.url(place, &format!("blobs/{digest}"))?;
        let what = what(place, digest);
        download.run(self, place.host(), &what, &|range| {
            let mut ask = Ask::new(Method::GET, url.clone(), place, Scope::pull(place), what.clone());
            if let Some(range) = range {
                ask = ask.header(RANGE, range);
            }
            self.ask(&ask, &mut Body::Empty)
        })
    }
}

pub(super) fn what(repository: &Repository, digest: &Sha256) -> String {
    format!("blob {digest} of {repository}")
}
