//! One HTTP exchange, in a thread of its own: a blocked read can't be asked to stop, but can be left behind.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Method, Url, blocking};

use super::RegistryError;
use super::client::{Client, host_of, without_secrets};
use super::retry::{POLL, now};

/// Reads of an answer are at most this large.
const READ_BYTES: usize = 64 * 1024;
/// How much of an upload is handed over at a time.
const FEED_BYTES: u64 = 256 * 1024;
/// How much more time than for a byte a registry has to check an upload.
const CHECK_FACTOR: u32 = 5;

/// What an upload is read from, and read again after a break.
pub trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

/// The body of a request.
pub(super) enum Body<'b> {
    Empty,
    Bytes(Bytes),
    /// `length` bytes of a source from `offset`, too many to hold.
    Stream {
        source: &'b mut dyn ReadSeek,
        offset: u64,
        length: u64,
    },
}

/// The beginning of an answer, and what is still to come of it.
pub(super) struct Answer<'c> {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// Where it came from.
    pub(super) url: Url,
    pub(super) incoming: Incoming<'c>,
}

/// The body of an answer, as it arrives.
pub(super) struct Incoming<'c> {
    client: &'c Client<'c>,
    arrivals: Receiver<Arrival>,
    request: String,
    host: String,
    got_bytes: u64,
    limit: Duration,
}

enum Arrival {
    Head {
        status: u16,
        headers: HeaderMap,
    },
    Bytes(Vec<u8>),
    /// The request wants more of its body.
    Want,
    End,
    Failed(Failure),
}

enum Failure {
    Request(reqwest::Error),
    Body(io::Error),
}

impl Client<'_> {
    /// Sends a request and returns the beginning of its answer, whatever its status.
    pub(super) fn exchange(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: &mut Body<'_>,
    ) -> Result<Answer<'_>, RegistryError> {
        let limits = &self.options.limits;
        let host = host_of(&url);
        self.check(&host)?;
        if !self.allows(&url) {
            return Err(RegistryError::NotHttps { host });
        }
        let request = format!("{method} {}", without_secrets(&url));
        let length = match body {
            Body::Empty => 0,
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Stream { length, .. } => *length,
        };
        let mut builder = self.http(&url)?.request(method, url.clone()).headers(headers);
        let mut limit = limits.idle;
        if length > 0 {
            limit = limit * CHECK_FACTOR
                + Duration::from_secs_f64(length as f64 / limits.min_upload_rate.max(1) as f64);
            builder = builder.timeout(limit);
        }
        let (sender, arrivals) = mpsc::sync_channel(4);
        let (feed, food) = mpsc::channel();
        match body {
            Body::Empty => {}
            Body::Bytes(bytes) => builder = builder.body(blocking::Body::from(bytes.clone())),
            Body::Stream { .. } => {
                let fed = Fed { wants: sender.clone(), food, piece: Vec::new(), at: 0 };
                builder = builder.body(blocking::Body::sized(fed, length));
            }
        }
        std::thread::Builder::new().name("registry".into()).spawn(move || run(builder, &sender)).map_err(
            |source| RegistryError::BrokeOff { request: request.clone(), got_bytes: 0, source: Some(source) },
        )?;
        let mut incoming = Incoming { client: self, arrivals, request, host, got_bytes: 0, limit };
        let (status, headers) = incoming.head(body, &feed)?;
        incoming.limit = limits.idle;
        Ok(Answer { status, headers, url, incoming })
    }
}

impl Incoming<'_> {
    pub(super) fn request(&self) -> &str {
        &self.request
    }

    /// Returns the next bytes; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, RegistryError> {
        match self.arrival()? {
            Arrival::Bytes(bytes) => {
                self.got_bytes += bytes.len() as u64;
                Ok(Some(bytes))
            }
            _ => Ok(None),
        }
    }

    /// Returns all bytes, if there are at most `limit_bytes`; `None` if there are more.
    pub(super) fn all(&mut self, limit_bytes: u64) -> Result<Option<Vec<u8>>, RegistryError> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next()? {
            all.extend(bytes);
            if all.len() as u64 > limit_bytes {
                return Ok(None);
            }
        }
        Ok(Some(all))
    }

    fn head(
        &mut self,
        body: &mut Body<'_>,
        feed: &Sender<Vec<u8>>,
    ) -> Result<(u16, HeaderMap), RegistryError> {
        let mut fed_bytes = 0;
        loop {
            match self.arrival()? {
                Arrival::Head { status, headers } => return Ok((status, headers)),
                Arrival::Want => {
                    let piece = piece(body, fed_bytes)
                        .map_err(|source| RegistryError::Read { what: self.request.clone(), source })?;
                    fed_bytes += piece.len() as u64;
                    // No single piece takes as long as the whole.
                    self.limit = self.client.options.limits.idle * CHECK_FACTOR;
                    // If it isn't wanted any more, the answer says why.
                    let _ = feed.send(piece);
                }
                Arrival::Bytes(_) | Arrival::End | Arrival::Failed(_) => {
                    return Err(RegistryError::BrokeOff {
                        request: self.request.clone(),
                        got_bytes: 0,
                        source: None,
                    });
                }
            }
        }
    }

    /// Waits for what comes next.
    fn arrival(&mut self) -> Result<Arrival, RegistryError> {
        // The thread has limits of its own; this one is for what they don't cover, such as a name that is not resolved.
        let limit = self.limit + self.client.options.limits.connect;
        let begin: Instant = now();
        loop {
            self.client.check(&self.host)?;
            match self.arrivals.recv_timeout(POLL.min(self.client.time_left())) {
                Ok(Arrival::Failed(failure)) => return Err(self.failed(failure)),
                Ok(arrival) => {
                    if matches!(arrival, Arrival::Head { .. }) {
                        self.client.reached(&self.host);
                    }
                    return Ok(arrival);
                }
                Err(RecvTimeoutError::Timeout) if now() - begin < limit => {}
                Err(_) => return Err(self.stalled()),
            }
        }
    }

    fn stalled(&self) -> RegistryError {
        RegistryError::Stalled { request: self.request.clone(), got_bytes: self.got_bytes, limit: self.limit }
    }

    fn failed(&self, failure: Failure) -> RegistryError {
        let broke_off = |source| RegistryError::BrokeOff {
            request: self.request.clone(),
            got_bytes: self.got_bytes,
            source,
        };
        match failure {
            Failure::Request(error) if error.is_connect() => {
                let source = error.without_url();
                let host = self.host.clone();
                match tls_error(&source) {
                    Some(rustls::Error::InvalidCertificate(_)) => RegistryError::Certificate { host, source },
                    // It answered our greeting with something else.
                    Some(rustls::Error::InvalidMessage(_)) => RegistryError::NotTls { host, source },
                    _ => RegistryError::Unreachable { host, source },
                }
            }
            Failure::Request(error) if error.is_timeout() => self.stalled(),
            Failure::Request(error) => broke_off(Some(io::Error::other(error.without_url()))),
            Failure::Body(error) if is_timeout(&error) => self.stalled(),
            // What reqwest wraps names the whole address.
            Failure::Body(error) => broke_off(Some(without_url(error))),
        }
    }
}

/// Returns what TLS complained of, if it did.
fn tls_error<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    // The source of an I/O error is that of what it wraps, and not what it wraps.
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    wrapped.and_then(|wrapped| tls_error(wrapped)).or_else(|| tls_error(error.source()?))
}

fn without_url(error: io::Error) -> io::Error {
    let kind = error.kind();
    match error.into_inner().map(|inner| inner.downcast::<reqwest::Error>()) {
        Some(Ok(inner)) => io::Error::new(kind, inner.without_url()),
        Some(Err(inner)) => io::Error::new(kind, inner),
        None => kind.into(),
    }
}

/// reqwest wraps its own error in the I/O error of a body.
fn is_timeout(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<reqwest::Error>());
    error.kind() == io::ErrorKind::TimedOut || inner.is_some_and(reqwest::Error::is_timeout)
}

/// Returns the next piece of a streamed body.
fn piece(body: &mut Body<'_>, fed_bytes: u64) -> io::Result<Vec<u8>> {
    let Body::Stream { source, offset, length } = body else { return Ok(Vec::new()) };
    read_piece(*source, *offset + fed_bytes, FEED_BYTES.min(length.saturating_sub(fed_bytes)))
}

/// Returns `length` bytes of a source from `offset`.
pub(super) fn read_piece(source: &mut dyn ReadSeek, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    source.seek(SeekFrom::Start(offset))?;
    let mut piece = Vec::with_capacity(length as usize);
    source.take(length).read_to_end(&mut piece)?;
    if (piece.len() as u64) < length {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than it was"));
    }
    Ok(piece)
}

/// A body that asks for its bytes as it is sent.
struct Fed {
    wants: SyncSender<Arrival>,
    food: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Fed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            let is_left = |_| io::Error::other("the request was given up");
            self.wants.send(Arrival::Want).map_err(|_| io::Error::other("the request was given up"))?;
            self.piece = self.food.recv().map_err(is_left)?;
            self.at = 0;
        }
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

fn run(request: blocking::RequestBuilder, sender: &SyncSender<Arrival>) {
    let last = match answer(request, sender) {
        Ok(()) => Arrival::End,
        Err(failure) => Arrival::Failed(failure),
    };
    let _ = sender.send(last);
}

fn answer(request: blocking::RequestBuilder, sender: &SyncSender<Arrival>) -> Result<(), Failure> {
    let mut response = request.send().map_err(Failure::Request)?;
    let head = Arrival::Head { status: response.status().as_u16(), headers: response.headers().clone() };
    let mut receiver_listens = sender.send(head).is_ok();
    while receiver_listens {
        let mut piece = vec![0; READ_BYTES];
        let count = response.read(&mut piece).map_err(Failure::Body)?;
        if count == 0 {
            break;
        }
        piece.truncate(count);
        receiver_listens = sender.send(Arrival::Bytes(piece)).is_ok();
    }
    Ok(())
}
