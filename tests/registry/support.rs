//! Clients that don't wait long, and what they say.

use std::sync::Mutex;
use std::time::Duration;

use nimctl::error_kind::ErrorKind;
use nimctl::registry::{Blob, Client, Fetched, Limits, Notice, Options, RegistryError, Repository, Watch};

use crate::server::Server;

/// Limits by which a test that waits for a failure is still quick.
pub(crate) fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(2),
        idle: Duration::from_secs(10),
        total: Duration::from_secs(60),
        backoff: Duration::from_millis(1),
        max_wait: Duration::from_secs(3),
        retries: 3,
        ..Limits::default()
    }
}

pub(crate) fn options() -> Options {
    Options { limits: limits(), ..Options::default() }
}

/// Does something with a client, and returns it with what the client had to say.
pub(crate) fn with_client<T>(options: Options, work: impl FnOnce(&Client<'_>) -> T) -> (T, Vec<Notice>) {
    let notices = Mutex::new(Vec::new());
    let notice = |notice| notices.lock().unwrap().push(notice);
    let client = Client::new(options, Watch { cancelled: &|| false, notice: &notice });
    let done = work(&client);
    drop(client);
    (done, notices.into_inner().unwrap())
}

/// Repository `a/b` of a server.
pub(crate) fn repository(server: &Server) -> Repository {
    Repository::new(server.address(), "a/b").unwrap()
}

/// Bytes in which every place is different.
pub(crate) fn bytes(count: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(count as u64);
    (0..count).map(|_| random.u8(..)).collect()
}

pub(crate) fn blob(bytes: &[u8]) -> Blob {
    Blob { digest: nimctl::digest::Sha256::of(bytes), size_bytes: bytes.len() as u64 }
}

/// Fetches a blob that has these bytes, or a range of it.
pub(crate) fn fetch(
    client: &Client<'_>,
    repository: &Repository,
    bytes: &[u8],
    range: Option<std::ops::Range<u64>>,
) -> Result<(Vec<u8>, Fetched), RegistryError> {
    let mut sink = Vec::new();
    let fetched = client.get_blob(repository, blob(bytes), range, &mut sink)?;
    Ok((sink, fetched))
}

/// Checks what an error says, with all its causes, what it means, and that it has no secret.
#[track_caller]
pub(crate) fn check_error<T: std::fmt::Debug>(
    result: Result<T, RegistryError>,
    expected: &str,
    kind: ErrorKind,
) {
    let error = result.unwrap_err();
    let mut said = format!("{error}; hint: {}", error.hint().unwrap_or_default());
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        said += &format!(": {error}");
        cause = error.source();
    }
    assert!(said.contains(expected), "{said}");
    for secret in [crate::server::PASSWORD, "secret", "bWU6aHVudGVyMjp4"] {
        assert!(!said.contains(secret), "{said}");
    }
    assert_eq!(error.kind(), kind, "{said}");
}
