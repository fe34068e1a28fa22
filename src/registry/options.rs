//! How a client reaches its registries.

use std::str::FromStr;
use std::time::Duration;

use super::credentials::CredentialSource;
use super::reference::{InvalidReference, Repository};

/// Where a client may go, how, and for how long.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which registries are spoken to without TLS.
    pub plain_http: PlainHttp,
    /// Time-outs, sizes and retries.
    pub limits: Limits,
    /// Where else to read what is in a repository, tried in this order before the repository itself.
    pub mirrors: Vec<Mirror>,
    /// Where credentials come from.
    pub credentials: CredentialSource,
}

/// Which registries are spoken to without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlainHttp {
    /// Those on this machine: `localhost`, `127.0.0.0/8`, `[::1]`.
    #[default]
    Loopback,
    /// All. Credentials then travel unencrypted.
    All,
    /// None, not even on this machine.
    Never,
}

/// How long, how often, how much.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// To make a connection.
    pub connect: Duration,
    /// Without a byte. A registry may take five times this to check an upload that it has all bytes of.
    pub idle: Duration,
    /// From the client's making: no request begins, goes on or is tried again after it.
    pub total: Duration,
    /// How often in a row something is tried again that made no progress.
    pub retries: u32,
    /// The wait before the first retry, doubled for each further one, and shortened by a random part of at most a half.
    pub backoff: Duration,
    /// The longest wait. A registry that asks for a longer one (`Retry-After`) is not waited for: its error is returned.
    pub max_wait: Duration,
    /// How often a request may be redirected.
    pub redirects: usize,
    /// The most bytes that are sent in one request, held in memory: a larger blob is uploaded in several.
    pub chunk_bytes: u64,
    /// An upload may be no slower, in bytes a second.
    pub min_upload_rate: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(24 * 3600),
            retries: 6,
            backoff: Duration::from_millis(500),
            max_wait: Duration::from_secs(120),
            redirects: 5,
            chunk_bytes: 16 << 20,
            min_upload_rate: 16 << 10,
        }
    }
}

/// A place with the same content: what is asked of repositories below `from` is asked of `to` first. Nothing is written
/// there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    from: String,
    to: String,
}

impl FromStr for Mirror {
    type Err = InvalidReference;

    /// Reads `FROM=TO`, each a host or a host and the first parts of a name.
    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let Some((from, to)) = text.split_once('=') else {
            return Err(InvalidReference::new(text, "expected FROM=TO, each a host or host/name"));
        };
        for side in [from, to] {
            let (host, name) = side.split_once('/').unwrap_or((side, "any"));
            Repository::new(host, name).map_err(|error| error.with_text(text))?;
        }
        Ok(Self { from: from.into(), to: to.into() })
    }
}

impl Mirror {
    /// Returns where the repository is mirrored, if it is below `from`.
    pub(super) fn of(&self, repository: &Repository) -> Option<Repository> {
        let name = repository.to_string();
        let rest = name.strip_prefix(&self.from)?;
        if !(rest.is_empty() || rest.starts_with('/')) {
            return None;
        }
        let (host, name) = self.to.split_once('/').unwrap_or((&self.to, ""));
        let name = format!("{name}{rest}");
        Repository::new(host, name.trim_start_matches('/')).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_replaces_whole_parts_of_a_name() {
        let check = |mirror: &str, of: &str, expected: Option<&str>| {
            let mirror: Mirror = mirror.parse().unwrap();
            let found = mirror.of(&of.parse().unwrap()).map(|repository| repository.to_string());
            assert_eq!(found.as_deref(), expected);
        };
        check("nvcr.io=local:5000", "nvcr.io/nim/a", Some("local:5000/nim/a"));
        check("nvcr.io=local:5000/cache", "nvcr.io/nim/a", Some("local:5000/cache/nim/a"));
        check("nvcr.io/nim=local:5000", "nvcr.io/nim/a", Some("local:5000/a"));
        check("nvcr.io/nim=local:5000/x", "nvcr.io/nim", Some("local:5000/x"));
        check("nvcr.io/nim=local:5000/x", "nvcr.io/nimble/a", None);
        check("nvcr.io=local:5000", "nvcr.io.example.org/a", None);
        for wrong in ["a", "a.b=", "=a.b", "a.b=c d", "https://a.b=c.d"] {
            assert!(wrong.parse::<Mirror>().is_err(), "{wrong}");
        }
    }
}
