//! A file on a web server, hashed as it arrives.

#![expect(clippy::disallowed_methods, reason = "progress is reported a few times a second")]

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use reqwest::{Url, blocking::Client, redirect};
use sha2::Digest as _;

use super::{HttpsSource, SourceError};
use crate::digest::Sha256;
use crate::files::atomic_file;
use crate::files::digest_cache::digest_of_file;
use crate::toolchain::{Places, Stage, Watch, lock_place, remove_leftovers, work_folder};

const CHUNK_BYTES: usize = 256 * 1024;
const POLL: Duration = Duration::from_millis(100);

/// How long and how far a fetch may go.
#[derive(Clone, Copy, Debug)]
pub struct HttpsLimits {
    /// To make a connection.
    pub connect: Duration,
    /// Without a byte.
    pub idle: Duration,
    /// How often a server may redirect.
    pub redirects: usize,
}

impl Default for HttpsLimits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(20), idle: Duration::from_secs(60), redirects: 5 }
    }
}

/// Returns the local copy of a file on a web server, and fetches it if there is none or a damaged one.
///
/// A proxy is used as the environment says (`HTTPS_PROXY`), except for this machine itself.
///
/// # Errors
/// The URL is not https, the server can't be reached or fails, the file has another digest, or it can't be stored.
pub fn fetch_https(
    source: &HttpsSource,
    places: &Places,
    limits: &HttpsLimits,
    watch: &mut Watch<'_>,
) -> Result<PathBuf, SourceError> {
    let url: Url = source.url.parse().map_err(|error| SourceError::BadUrl {
        url: without_secrets(&source.url),
        reason: format!("{error}"),
    })?;
    let name = without_secrets(&source.url);
    if !is_allowed(&url) {
        return Err(SourceError::NotHttps { url: name });
    }
    let folder = places.sources("https");
    let path = folder.join(source.sha256.to_hex());
    let is_there = || {
        path.is_file()
            && digest_of_file(&path, &places.digest_cache()).is_ok_and(|(sha256, _)| sha256 == source.sha256)
    };
    if is_there() {
        return Ok(path);
    }
    let topic = source.sha256.to_hex();
    let _lock = lock_place(folder.join(format!(".lock-{topic}")), &name, watch)?;
    if is_there() {
        return Ok(path);
    }
    let keeping = |error| SourceError::keeping(&name, &folder, error);
    remove_leftovers(&folder, &topic).map_err(keeping)?;
    let work = work_folder(&folder, &topic).map_err(keeping)?;
    let mut file = atomic_file::temporary_in(work.path()).map_err(keeping)?;
    let mut hasher = sha2::Sha256::new();
    let arrivals = start(client(&url, limits)?, url);
    let (mut done_bytes, mut total_bytes, mut last) = (0, None, Instant::now());
    watch.tell(Stage::Downloading, 0, None);
    loop {
        if watch.is_cancelled() {
            return Err(SourceError::Cancelled { url: name });
        }
        let arrival = match arrivals.recv_timeout(POLL) {
            Ok(arrival) => arrival,
            Err(RecvTimeoutError::Timeout) if last.elapsed() < limits.connect.max(limits.idle) => continue,
            Err(_) => {
                return Err(SourceError::Stalled { url: name, got_bytes: done_bytes, limit: limits.idle });
            }
        };
        last = Instant::now();
        match arrival {
            Arrival::Head { size_bytes } => total_bytes = size_bytes,
            Arrival::Bytes(bytes) => {
                hasher.update(&bytes);
                file.write_all(&bytes).map_err(keeping)?;
                done_bytes += bytes.len() as u64;
                watch.tell(Stage::Downloading, done_bytes, total_bytes);
            }
            Arrival::End => break,
            Arrival::Failed(failure) => return Err(failure.into_error(name, done_bytes, limits)),
        }
    }
    let got = Sha256::from_bytes(hasher.finalize().into());
    if got != source.sha256 {
        return Err(SourceError::WrongDigest { url: name, expected: source.sha256, got });
    }
    atomic_file::persist(file, &path).map_err(keeping)?;
    Ok(path)
}

/// What the thread that reads from the network sends: a blocked read can't be asked to stop, but can be left behind.
enum Arrival {
    Head { size_bytes: Option<u64> },
    Bytes(Vec<u8>),
    End,
    Failed(Failure),
}

enum Failure {
    Request(reqwest::Error),
    Status(u16),
    Body(std::io::Error),
}

/// Why a redirect was refused; travels through reqwest's error.
#[derive(Debug, thiserror::Error)]
enum RefusedRedirect {
    #[error("redirects to {0}")]
    NotHttps(String),
    #[error("redirects too often")]
    TooMany,
}

impl Failure {
    fn into_error(self, url: String, got_bytes: u64, limits: &HttpsLimits) -> SourceError {
        match self {
            Self::Status(status) => SourceError::Status { url, status },
            Self::Request(error) => {
                let mut cause: Option<&dyn std::error::Error> = Some(&error);
                while let Some(current) = cause {
                    match current.downcast_ref::<RefusedRedirect>() {
                        Some(RefusedRedirect::NotHttps(target)) => {
                            return SourceError::RedirectNotHttps { url, target: target.clone() };
                        }
                        Some(RefusedRedirect::TooMany) => {
                            return SourceError::TooManyRedirects { url, limit: limits.redirects };
                        }
                        None => cause = current.source(),
                    }
                }
                if error.is_timeout() && !error.is_connect() {
                    return SourceError::Stalled { url, got_bytes, limit: limits.idle };
                }
                SourceError::Unreachable { url, source: error.without_url() }
            }
            Self::Body(error) if is_timeout(&error) => {
                SourceError::Stalled { url, got_bytes, limit: limits.idle }
            }
            Self::Body(source) => SourceError::BrokeOff { url, got_bytes, source },
        }
    }
}

/// reqwest wraps its own error in the I/O error of a body.
fn is_timeout(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<reqwest::Error>());
    error.kind() == std::io::ErrorKind::TimedOut || inner.is_some_and(reqwest::Error::is_timeout)
}

fn client(url: &Url, limits: &HttpsLimits) -> Result<Client, SourceError> {
    // reqwest takes the process's provider; that one is there already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (limit, http_from_here) = (limits.redirects, url.scheme() == "http");
    let policy = redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > limit {
            return attempt.error(RefusedRedirect::TooMany);
        }
        let target = attempt.url();
        // Nor may the network redirect to a server on this machine.
        if target.scheme() == "https" || (http_from_here && is_allowed(target)) {
            return attempt.follow();
        }
        let target = without_secrets(target.as_str());
        attempt.error(RefusedRedirect::NotHttps(target))
    });
    let mut builder = Client::builder()
        .user_agent(concat!("nimctl/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(limits.connect)
        // Of a blocking client this is the time to the answer, then that of each read: not of the whole.
        .timeout(limits.idle)
        .referer(false)
        .redirect(policy);
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|source| SourceError::SetUp { source })
}

fn start(client: Client, url: Url) -> mpsc::Receiver<Arrival> {
    // A few chunks ahead: a slow disk holds the network back instead of filling the memory.
    let (sender, receiver) = mpsc::sync_channel(4);
    std::thread::spawn(move || {
        let last = match read(&client, url, &sender) {
            Ok(()) => Arrival::End,
            Err(failure) => Arrival::Failed(failure),
        };
        let _ = sender.send(last);
    });
    receiver
}

fn read(client: &Client, url: Url, sender: &mpsc::SyncSender<Arrival>) -> Result<(), Failure> {
    let mut response = client.get(url).send().map_err(Failure::Request)?;
    if !response.status().is_success() {
        return Err(Failure::Status(response.status().as_u16()));
    }
    let mut receiver_listens = sender.send(Arrival::Head { size_bytes: response.content_length() }).is_ok();
    while receiver_listens {
        let mut chunk = vec![0; CHUNK_BYTES];
        let count = response.read(&mut chunk).map_err(Failure::Body)?;
        if count == 0 {
            break;
        }
        chunk.truncate(count);
        receiver_listens = sender.send(Arrival::Bytes(chunk)).is_ok();
    }
    Ok(())
}

fn is_allowed(url: &Url) -> bool {
    match url.scheme() {
        "https" => true,
        "http" => is_loopback(url),
        _ => false,
    }
}

fn is_loopback(url: &Url) -> bool {
    matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"))
}

/// Returns a URL without its secrets: user, password, query (signed addresses), fragment.
fn without_secrets(address: &str) -> String {
    let Ok(mut url) = address.parse::<Url>() else {
        return address.split(['?', '#']).next().unwrap_or_default().into();
    };
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_this_machine() {
        for (address, expected) in [
            ("https://host/a", true),
            ("http://127.0.0.1:80/a", true),
            ("http://localhost/a", true),
            ("http://[::1]:1/a", true),
            ("http://localhost.example.org/a", false),
            ("http://127.0.0.1@host/a", false),
            ("http://host/a", false),
            ("file:///etc/passwd", false),
        ] {
            assert_eq!(is_allowed(&address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn messages_keep_no_secrets() {
        assert_eq!(without_secrets("https://me:pw@host/a.onnx?sig=1#x"), "https://host/a.onnx");
    }
}
