//! Blobs as they go up: found, mounted, in one piece, or in several that go on where they broke off.

use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, RANGE};
use reqwest::{Method, Url};

use super::auth::Scope;
use super::blobs::{Blob, what};
use super::client::Client;
use super::exchange::{Answer, Body, ReadSeek, read_piece};
use super::manifests::header;
use super::request::Ask;
use super::retry::Attempts;
use super::{RegistryError, Repository};
use crate::digest::Sha256;

/// A larger body is streamed instead of held.
const MAX_HELD_BYTES: u64 = 64 << 20;
const BYTES_TYPE: &str = "application/octet-stream";
const MIN_CHUNK: &str = "oci-chunk-min-length";

/// How a blob came to be in a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uploaded {
    /// It was there.
    Existed,
    /// It was in another repository of the registry, and is here now without having been sent.
    Mounted,
    /// It was sent, in this many bytes of bodies.
    Sent {
        /// With what had to be sent again.
        bytes: u64,
    },
}

/// An upload under way.
struct Upload<'u> {
    repository: &'u Repository,
    blob: Blob,
    source: &'u mut dyn ReadSeek,
    session: Option<Session>,
    /// Whether the registry may have bytes of an interrupted request.
    is_resumed: bool,
    sent_bytes: u64,
}

/// What a registry knows of an upload.
struct Session {
    url: Url,
    /// How many bytes it has.
    at: u64,
    min_chunk_bytes: u64,
}

impl Client<'_> {
    /// Makes sure that a registry has a blob: looks for it, asks for it from another repository of the same registry
    /// (`mount_from`), or sends it. Larger blobs than [`super::Limits::chunk_bytes`] are sent in several requests, which go on
    /// after a break with what the registry doesn't have, unless it takes no such uploads.
    ///
    /// # Errors
    /// The registry refuses it, in its own words; it can't be reached; the source fails, or isn't what the digest says.
    pub fn put_blob(
        &self,
        repository: &Repository,
        blob: Blob,
        source: &mut dyn ReadSeek,
        mount_from: Option<&Repository>,
    ) -> Result<Uploaded, RegistryError> {
        let mut upload = Upload { repository, blob, source, session: None, is_resumed: false, sent_bytes: 0 };
        let mut attempts = Attempts::new(self, repository.host());
        let mut best = 0;
        loop {
            let error = match self.upload(&mut upload, mount_from) {
                Ok(uploaded) => return Ok(uploaded),
                Err(error) => error,
            };
            let at = upload.session.as_ref().map_or(0, |session| session.at);
            if at > best {
                best = at;
                attempts.progressed();
            }
            attempts.again(error)?;
            upload.is_resumed = true;
        }
    }

    /// Goes on with an upload, or begins it.
    fn upload(
        &self,
        upload: &mut Upload<'_>,
        mount_from: Option<&Repository>,
    ) -> Result<Uploaded, RegistryError> {
        let host = upload.repository.host();
        self.ask_what_arrived(upload)?;
        // Sessions are lost, and begun anew, when a registry starts again, and where it forgets an upload of which a request
        // broke off: Docker's registry 2.8 does.
        for _ in 0..=self.options.limits.retries {
            if upload.session.is_none()
                && let Some(done) = self.begin_upload(upload, mount_from)?
            {
                return Ok(done);
            }
            let is_whole =
                upload.blob.size_bytes <= self.options.limits.chunk_bytes || self.is_without_chunks(host);
            if !is_whole || upload.session.as_ref().is_some_and(|session| session.at > 0) {
                match self.send_chunks(upload) {
                    Ok(()) => {}
                    Err(error) => {
                        let at = upload.session.as_ref().map_or(0, |session| session.at);
                        match error.status() {
                            Some(400 | 404 | 405 | 411 | 415 | 501) if at == 0 => {
                                self.chunks_were_refused(host);
                                upload.session = None;
                            }
                            Some(404) => upload.session = None,
                            Some(416) => self.ask_what_arrived(upload)?,
                            _ => return Err(error),
                        }
                        continue;
                    }
                }
            }
            match self.end_upload(upload) {
                Ok(()) => return Ok(Uploaded::Sent { bytes: upload.sent_bytes }),
                Err(error) if error.status() == Some(404) => upload.session = None,
                Err(error) if is_digest_error(&error) => self.judge_digest_error(upload, error)?,
                Err(error) => return Err(error),
            }
        }
        Err(RegistryError::BadAnswer {
            request: what(upload.repository, &upload.blob.digest),
            problem: "the registry forgot the upload again and again".into(),
        })
    }

    /// Looks for the blob, mounts it, or opens a session.
    fn begin_upload(
        &self,
        upload: &mut Upload<'_>,
        mount_from: Option<&Repository>,
    ) -> Result<Option<Uploaded>, RegistryError> {
        let Upload { repository, blob, .. } = *upload;
        let digest = blob.digest;
        match self.has_blob_once(repository, &digest, Scope::push(repository))? {
            Some(size_bytes) if size_bytes == blob.size_bytes => {
                let was_sent = upload.sent_bytes > 0;
                let sent = Uploaded::Sent { bytes: upload.sent_bytes };
                return Ok(Some(if was_sent { sent } else { Uploaded::Existed }));
            }
            Some(got) => {
                return Err(RegistryError::WrongSize {
                    what: what(repository, &digest),
                    expected: blob.size_bytes,
                    got,
                });
            }
            None => {}
        }
        let mut url = self.url(repository, "blobs/uploads/")?;
        let mut scope = Scope::push(repository);
        if let Some(from) = mount_from.filter(|from| from.host() == repository.host() && *from != repository)
        {
            scope = scope.and(Scope::pull(from));
            url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from.name());
        }
        let ask = Ask::new(Method::POST, url, repository, scope, what(repository, &digest));
        let answer = self.ask(&ask, &mut Body::Empty)?;
        if answer.status == 201 {
            return Ok(Some(Uploaded::Mounted));
        }
        let min = header(&answer.headers, MIN_CHUNK).and_then(|text| text.trim().parse().ok());
        let min_chunk_bytes = min.unwrap_or(0);
        upload.session = Some(Session { url: self.location(&answer)?, at: 0, min_chunk_bytes });
        Ok(None)
    }

    /// Asks how much of an interrupted upload arrived. A session that is gone is forgotten.
    fn ask_what_arrived(&self, upload: &mut Upload<'_>) -> Result<(), RegistryError> {
        let Some(session) = &mut upload.session else { return Ok(()) };
        let what = what(upload.repository, &upload.blob.digest);
        let scope = Scope::push(upload.repository);
        let ask = Ask::new(Method::GET, session.url.clone(), upload.repository, scope, what);
        match self.ask(&ask, &mut Body::Empty) {
            Ok(answer) => match arrived(&answer.headers) {
                Some(at) if at <= upload.blob.size_bytes => {
                    session.at = at;
                    if answer.headers.contains_key("location") {
                        session.url = self.location(&answer)?;
                    }
                }
                _ => upload.session = None,
            },
            Err(error) if matches!(error.status(), Some(400 | 404 | 405 | 501)) => upload.session = None,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn send_chunks(&self, upload: &mut Upload<'_>) -> Result<(), RegistryError> {
        let Upload { repository, blob, source, session, sent_bytes, .. } = upload;
        let Some(session) = session else { return Ok(()) };
        let chunk_bytes = self.options.limits.chunk_bytes.max(session.min_chunk_bytes).max(1);
        while session.at < blob.size_bytes {
            let length = chunk_bytes.min(blob.size_bytes - session.at);
            let end = session.at + length;
            let scope = Scope::push(repository);
            let what = what(repository, &blob.digest);
            let ask = Ask::new(Method::PATCH, session.url.clone(), repository, scope, what)
                .header(CONTENT_TYPE, BYTES_TYPE)
                .header(CONTENT_RANGE, &format!("{}-{}", session.at, end - 1));
            let mut body = body(*source, session.at, length, &ask.what)?;
            *sent_bytes += length;
            let answer = self.ask(&ask, &mut body)?;
            let at = arrived(&answer.headers).unwrap_or(end);
            if at <= session.at || at > end {
                return Err(RegistryError::BadAnswer {
                    request: answer.incoming.request().into(),
                    problem: format!("after bytes {}-{} the registry has {at}", session.at, end - 1),
                });
            }
            session.url = self.location(&answer)?;
            session.at = at;
        }
        Ok(())
    }

    /// Closes the session with the digest, and with the bytes if none were sent yet.
    fn end_upload(&self, upload: &mut Upload<'_>) -> Result<(), RegistryError> {
        let Upload { repository, blob, source, session, sent_bytes, .. } = upload;
        let Some(session) = session else { return Ok(()) };
        let mut url = session.url.clone();
        url.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
        let scope = Scope::push(repository);
        let ask = Ask::new(Method::PUT, url, repository, scope, what(repository, &blob.digest))
            .header(CONTENT_TYPE, BYTES_TYPE);
        let rest = blob.size_bytes - session.at;
        let mut body = body(*source, session.at, rest, &ask.what)?;
        *sent_bytes += rest;
        let answer = self.ask(&ask, &mut body)?;
        check_digest(&answer, &ask.what, blob.digest)
    }

    /// A registry says that the bytes are not the digest's. Interrupted uploads are sent anew, once; else it is found out whose
    /// fault it is.
    fn judge_digest_error(&self, upload: &mut Upload<'_>, error: RegistryError) -> Result<(), RegistryError> {
        upload.session = None;
        if std::mem::take(&mut upload.is_resumed) {
            return Ok(());
        }
        let what = what(upload.repository, &upload.blob.digest);
        let read = |source| RegistryError::Read { what: what.clone(), source };
        upload.source.seek(std::io::SeekFrom::Start(0)).map_err(read)?;
        let (digest, size_bytes) = Sha256::of_reader(&mut upload.source).map_err(read)?;
        if (Blob { digest, size_bytes }) == upload.blob {
            Err(error)
        } else {
            Err(RegistryError::Changed { what })
        }
    }
}

fn body<'b>(
    source: &'b mut dyn ReadSeek,
    offset: u64,
    length: u64,
    what: &str,
) -> Result<Body<'b>, RegistryError> {
    if length == 0 {
        return Ok(Body::Empty);
    }
    if length > MAX_HELD_BYTES {
        return Ok(Body::Stream { source, offset, length });
    }
    let piece = read_piece(source, offset, length)
        .map_err(|source| RegistryError::Read { what: what.into(), source })?;
    Ok(Body::Bytes(piece.into()))
}

/// Whether a registry refuses the bytes; one whose words broke off may mean that, too.
fn is_digest_error(error: &RegistryError) -> bool {
    let RegistryError::Status { status: 400, words, .. } = error else { return false };
    let words = words.to_string();
    words.is_empty() || words.contains("DIGEST_INVALID")
}

fn check_digest(answer: &Answer<'_>, what: &str, expected: Sha256) -> Result<(), RegistryError> {
    let named = header(&answer.headers, "docker-content-digest").map(str::trim).unwrap_or_default();
    if named.starts_with("sha256:") && named != expected.to_string() {
        let got = super::error::tame(named);
        return Err(RegistryError::WrongDigest { what: what.into(), expected, got });
    }
    Ok(())
}

/// Reads how many bytes a registry has: `0-99` are a hundred; `0-0` is how it writes none.
fn arrived(headers: &HeaderMap) -> Option<u64> {
    let range = header(headers, RANGE.as_str())?.trim();
    let (first, last) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    if first.trim() != "0" {
        return None;
    }
    match last.trim().parse::<u64>().ok()? {
        0 => Some(0),
        last => last.checked_add(1),
    }
}
