//! Files of web servers.

use std::fmt;
use std::io::Write;
use std::ops::Range;

use base64::Engine as _;
use reqwest::header::{HeaderValue, RANGE};
use reqwest::{Method, Url};

use super::RegistryError;
use super::client::{Client, host_of, without_secrets};
use super::download::{Download, Fetched, Version, content_length, is_page};
use super::exchange::Body;
use super::request::Ask;
use crate::percent;

/// What a server gets as `Authorization`. It is in no message, and goes to no other server.
#[derive(Clone)]
pub struct Secret {
    /// `None` if the address itself is signed.
    pub(super) header: Option<HeaderValue>,
    pub(super) origin: String,
}

impl Secret {
    /// Makes one of a token; `origin` says where that is from, for messages. `None` if no header can hold it.
    pub fn bearer(token: &str, origin: &str) -> Option<Self> {
        Self::new(&format!("Bearer {token}"), origin)
    }

    /// Makes one for an address whose query has a signature.
    pub fn of_address(origin: &str) -> Self {
        Self { header: None, origin: origin.into() }
    }

    fn new(value: &str, origin: &str) -> Option<Self> {
        let mut header = HeaderValue::from_str(value).ok()?;
        header.set_sensitive(true);
        Some(Self { header: Some(header), origin: origin.into() })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret of {}", self.origin)
    }
}

/// A file of a web server.
#[derive(Clone, Debug)]
pub struct WebFile {
    url: Url,
    secret: Option<Secret>,
    /// Its size, where that is known before it is asked for.
    size_bytes: Option<u64>,
    /// Whether the caller compares it with a digest, which tells one version from another.
    has_digest: bool,
}

/// An address that is none of a web server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{address}` is no address of a web server: {problem}")]
pub struct InvalidAddress {
    address: String,
    problem: String,
}

/// Reads an `https://` or `http://` address, without its fragment.
///
/// # Errors
/// Another scheme, or no address.
pub fn web_address(address: &str) -> Result<Url, InvalidAddress> {
    let invalid = |problem: String| InvalidAddress { address: shown_address(address), problem };
    let mut url: Url = address.parse().map_err(|error| invalid(format!("{error}")))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(invalid("expected https://HOST/PATH".into()));
    }
    url.set_fragment(None);
    Ok(url)
}

/// Returns an address or uri as messages show it: on one line, and without what may be a password or a signature.
pub fn shown_address(text: &str) -> String {
    let is_web = text.starts_with("http");
    let plain = if is_web { text.split('?').next().unwrap_or_default() } else { text };
    let is_scheme =
        |at: &usize| plain[..*at].bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+');
    let (scheme, rest) = plain.split_at(plain.find("://").filter(is_scheme).map_or(0, |at| at + 3));
    let authority = &rest[..rest.find('/').unwrap_or(rest.len())];
    let secret = authority.rfind('@').filter(|at| is_web || authority[..*at].contains(':'));
    let rest = secret.map_or(rest, |at| &rest[at + 1..]);
    format!("{scheme}{rest}").escape_debug().to_string()
}

impl WebFile {
    /// Makes one of an address. A user and password in it are sent to its server, and to no other.
    pub fn new(mut url: Url, secret: Option<Secret>) -> Self {
        let mut secret = secret;
        if !url.username().is_empty() || url.password().is_some() {
            let decoded = |text: &str| percent::decode(text).unwrap_or_else(|| text.into());
            let plain =
                format!("{}:{}", decoded(url.username()), decoded(url.password().unwrap_or_default()));
            let value = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(plain));
            secret = secret.or_else(|| Secret::new(&value, "the address"));
            let _ = url.set_username("");
            let _ = url.set_password(None);
        }
        Self { url, secret, size_bytes: None, has_digest: false }
    }

    /// Returns the same with its size.
    pub fn of_size(self, size_bytes: u64) -> Self {
        Self { size_bytes: Some(size_bytes), ..self }
    }

    /// Returns the same, whose bytes the caller compares with a digest.
    pub fn with_digest(self) -> Self {
        Self { has_digest: true, ..self }
    }

    /// Returns its address without secrets.
    pub fn name(&self) -> String {
        without_secrets(&self.url)
    }

    /// Returns the folder that the file is in.
    pub fn folder(&self) -> Self {
        let mut url = self.url.clone();
        let (folder, _) = url.path().rsplit_once('/').unwrap_or_default();
        let folder = format!("{folder}/");
        url.set_path(&folder);
        Self { url, secret: self.secret.clone(), size_bytes: None, has_digest: false }
    }

    /// Returns the file at a percent-encoded path below this one, whose address is that of a folder.
    pub fn below(&self, path: &str) -> Self {
        let mut url = self.url.clone();
        let folder = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{folder}/{path}"));
        Self { url, secret: self.secret.clone(), size_bytes: None, has_digest: false }
    }

    fn ask(&self, method: Method) -> Ask<'_> {
        Ask::of_web(method, self.url.clone(), self.secret.as_ref(), self.name())
    }
}

impl Client<'_> {
    /// Writes a file, or the bytes of it in a range, to a sink: each byte once, in order. What was written is not asked for again
    /// after a break. Nothing of it is verified but its size, where that is known.
    ///
    /// # Errors
    /// There is no such file; the server can't be reached, fails, or refuses; the file has another size; it changes while it is
    /// fetched; it breaks off too often; the sink fails.
    pub fn get_file(
        &self,
        file: &WebFile,
        range: Option<Range<u64>>,
        sink: &mut dyn Write,
    ) -> Result<Fetched, RegistryError> {
        let (at, end) = range.map_or((0, file.size_bytes), |Range { start, end }| (start, Some(end)));
        if let (Some(end), Some(size_bytes)) = (end, file.size_bytes)
            && (at > end || end > size_bytes)
        {
            return Err(RegistryError::Range { what: file.name(), start: at, end, size_bytes });
        }
        self.download_file(file, at, end, sink, None)
    }

    /// Writes a file to a sink from a byte to its end, as [`Client::get_file`] does. Its size is told as soon as the server says it,
    /// if it was not known.
    ///
    /// # Errors
    /// As [`Client::get_file`].
    pub fn get_file_from(
        &self,
        file: &WebFile,
        at: u64,
        sink: &mut dyn Write,
        on_size: &mut dyn FnMut(u64),
    ) -> Result<Fetched, RegistryError> {
        self.download_file(file, at, file.size_bytes, sink, Some(on_size))
    }

    fn download_file<'d>(
        &self,
        file: &WebFile,
        at: u64,
        end: Option<u64>,
        sink: &'d mut dyn Write,
        on_size: Option<&'d mut (dyn FnMut(u64) + 'd)>,
    ) -> Result<Fetched, RegistryError> {
        let fetched = Fetched { received_bytes: 0, range_ignored: false };
        let version = (!file.has_digest).then(Version::default);
        let mut download =
            Download { size_bytes: file.size_bytes, at, end, sink, hasher: None, version, on_size, fetched };
        if end.is_none_or(|end| at < end) || file.size_bytes == Some(0) {
            download.run(self, &host_of(&file.url), &file.name(), &|range| {
                let mut ask = file.ask(Method::GET);
                if let Some(range) = range {
                    ask = ask.header(RANGE, range);
                }
                self.ask(&ask, &mut Body::Empty)
            })?;
        }
        Ok(download.fetched)
    }

    /// Returns a file that fits into memory.
    ///
    /// # Errors
    /// As [`Client::get_file`]; a file that is longer than `limit_bytes`; a page for people in its place.
    pub fn get_small_file(&self, file: &WebFile, limit_bytes: u64) -> Result<Vec<u8>, RegistryError> {
        self.retrying(&host_of(&file.url), || {
            let mut answer = self.ask(&file.ask(Method::GET), &mut Body::Empty)?;
            let request = answer.incoming.request().to_owned();
            if is_page(&answer.headers) {
                let problem = "it was answered with an HTML page".into();
                return Err(RegistryError::BadAnswer { request, problem });
            }
            let is_long = content_length(&answer.headers).is_some_and(|length| length > limit_bytes);
            let bytes = if is_long { None } else { answer.incoming.all(limit_bytes)? };
            bytes.ok_or_else(|| RegistryError::TooLarge { what: file.name(), limit_bytes })
        })
    }

    /// Returns whether a server has a file.
    ///
    /// # Errors
    /// The server can't be reached, fails, or refuses.
    pub fn has_file(&self, file: &WebFile) -> Result<bool, RegistryError> {
        let once = || match self.ask(&file.ask(Method::HEAD), &mut Body::Empty) {
            Ok(answer) => Ok(!is_page(&answer.headers)),
            Err(RegistryError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        };
        self.retrying(&host_of(&file.url), once)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_secrets() {
        let url = web_address("https://me:p%40ss@host/a/b/?sig=s3cret#tag").unwrap();
        let file = WebFile::new(url, None);
        assert_eq!(file.name(), "https://host/a/b/");
        let below = file.below("blobs/x%20y");
        assert_eq!(below.url.as_str(), "https://host/a/b/blobs/x%20y?sig=s3cret");
        assert_eq!(below.folder().name(), "https://host/a/b/blobs/");
        let header = below.secret.as_ref().unwrap().header.clone();
        assert_eq!(header.unwrap(), "Basic bWU6cEBzcw==");
        assert!(!format!("{file:?}").contains("bWU6"));
        for wrong in
            ["ftp://host/x", "host/x", "https://", "https://me:secret@host:port/x?secret", "me:secret@host"]
        {
            let error = web_address(wrong).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
