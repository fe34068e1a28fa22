//! What can go wrong between us and a registry.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::reference::InvalidReference;
use crate::digest::Sha256;
use crate::error_kind::ErrorKind;

/// A request to a registry that failed. No message has credentials, tokens or the query of an address.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its fields are")]
#[non_exhaustive]
pub enum RegistryError {
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    #[error("{what} was not found{words}")]
    NotFound { what: String, words: Words },
    #[error("{host} refused {request} ({status}){words}; {login}")]
    Login { host: String, request: String, status: u16, words: Words, login: String },
    #[error("{host} refused {request} ({status}){words}; {}", sent(origin.as_deref()))]
    Forbidden { host: String, request: String, status: u16, words: Words, origin: Option<String> },
    #[error("{request} was answered with {status}{words}")]
    Status { request: String, status: u16, words: Words, retry_after: Option<Duration> },
    #[error("cannot reach {host}")]
    Unreachable { host: String, source: reqwest::Error },
    #[error("the certificate of {host} is not trusted")]
    Certificate { host: String, source: reqwest::Error },
    #[error("{host} does not speak TLS")]
    NotTls { host: String, source: reqwest::Error },
    #[error("{request}: the connection closed after {got_bytes} bytes")]
    BrokeOff { request: String, got_bytes: u64, source: Option<io::Error> },
    #[error("{request}: no data for {} s, after {got_bytes} bytes", limit.as_secs_f64())]
    Stalled { request: String, got_bytes: u64, limit: Duration },
    #[error("{what} has the wrong digest: expected {expected}, got {got}")]
    WrongDigest { what: String, expected: Sha256, got: String },
    #[error("{what} has the wrong size: expected {expected} bytes, got {got}")]
    WrongSize { what: String, expected: u64, got: u64 },
    #[error("{what} is larger than {limit_bytes} bytes, which is the most that nimctl reads")]
    TooLarge { what: String, limit_bytes: u64 },
    #[error("{request}: {problem}")]
    BadAnswer { request: String, problem: String },
    #[error("{request} redirects to `{target}`, {problem}")]
    Redirect { request: String, target: String, problem: String },
    #[error("{request} was redirected more than {limit} times")]
    TooManyRedirects { request: String, limit: usize },
    #[error("{host} is reached by https only")]
    NotHttps { host: String },
    #[error("cannot use the credentials in {}: {problem}", file.display())]
    Credentials { file: PathBuf, problem: String },
    #[error("range {start}..{end} is outside of {what}, which has {size_bytes} bytes")]
    Range { what: String, start: u64, end: u64, size_bytes: u64 },
    #[error("cannot write what arrived of {what}")]
    Write { what: String, source: io::Error },
    #[error("cannot read {what} to upload it")]
    Read { what: String, source: io::Error },
    #[error("{what} changed while it was uploaded: it is not what its digest says any more")]
    Changed { what: String },
    #[error("{doing}: not done in {} s", limit.as_secs_f64())]
    Deadline { doing: String, limit: Duration },
    #[error("cancelled while talking to {host}")]
    Cancelled { host: String },
    #[error("cannot set up the connection to registries")]
    SetUp { source: reqwest::Error },
}

/// Says as whom a server was asked.
fn sent(origin: Option<&str>) -> String {
    origin.map_or_else(|| "no credentials were sent".into(), |origin| format!("sent was what {origin} says"))
}

/// What a registry says about a failure: `errors[].code` and `message`, without control characters, cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words(String);

/// How much of a registry's words is shown.
const MAX_WORDS: usize = 300;

impl std::fmt::Display for Words {
    /// Writes nothing where the registry said nothing.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

impl Words {
    /// Reads the body of an error: the specification's JSON, or else its first words, unless it is a page.
    pub(super) fn of(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let words = match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(json) => {
                let errors = json["errors"].as_array().cloned().unwrap_or_default();
                let said: Vec<String> =
                    errors.iter().map(one_error).filter(|said| !said.is_empty()).collect();
                if said.is_empty() {
                    // Token servers say it without a list.
                    let fields = ["details", "error_description", "message", "error"];
                    fields.iter().find_map(|field| json[field].as_str()).unwrap_or_default().to_owned()
                } else {
                    said.join("; ")
                }
            }
            Err(_) if text.trim_start().starts_with('<') => of_object_store(&text),
            Err(_) => text.into_owned(),
        };
        Self(tame(&words))
    }
}

/// Object stores say it in XML: `<Error><Code>…</Code><Message>…</Message>…`.
fn of_object_store(text: &str) -> String {
    let field = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(value, _)| value.trim())
    };
    let said = if text.contains("<Error>") { [field("Code"), field("Message")] } else { [None, None] };
    said.into_iter().flatten().collect::<Vec<_>>().join(": ")
}

fn one_error(error: &serde_json::Value) -> String {
    let field = |name: &str| error[name].as_str().unwrap_or_default().trim().to_owned();
    match (field("code"), field("message")) {
        (code, message) if code.is_empty() => message,
        (code, message) if message.is_empty() => code,
        (code, message) => format!("{code}: {message}"),
    }
}

/// Returns words of a stranger as one line that a terminal shows as it is.
pub(super) fn tame(words: &str) -> String {
    // Characters that reorder a line are as bad as control characters.
    let is_bad = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let words: String = words.chars().map(|c| if is_bad(c) { ' ' } else { c }).take(4 * MAX_WORDS).collect();
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.chars().count() <= MAX_WORDS {
        return words;
    }
    words.chars().take(MAX_WORDS).chain(['…']).collect()
}

impl RegistryError {
    /// Returns the status that the registry answered with, if this is about one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::NotFound { .. } => Some(404),
            Self::Login { status, .. } | Self::Forbidden { status, .. } | Self::Status { status, .. } => {
                Some(*status)
            }
            _ => None,
        }
    }

    /// Whether the same may work a little later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            // 403 is one of these only where it says when to come back.
            Self::Status { status, .. } => matches!(status, 403 | 408 | 429 | 500 | 502 | 503 | 504),
            Self::Unreachable { .. } | Self::BrokeOff { .. } | Self::Stalled { .. } => true,
            _ => false,
        }
    }

    /// Whether another place with the same content may do better.
    pub(super) fn is_of_a_place(&self) -> bool {
        match self {
            Self::NotFound { .. }
            | Self::Login { .. }
            | Self::Forbidden { .. }
            | Self::Status { .. }
            | Self::Unreachable { .. }
            | Self::Certificate { .. }
            | Self::NotTls { .. }
            | Self::NotHttps { .. }
            | Self::BrokeOff { .. }
            | Self::Stalled { .. }
            | Self::WrongSize { .. }
            | Self::TooLarge { .. }
            | Self::BadAnswer { .. }
            | Self::Redirect { .. }
            | Self::TooManyRedirects { .. } => true,
            Self::Reference(_)
            | Self::WrongDigest { .. }
            | Self::Credentials { .. }
            | Self::Range { .. }
            | Self::Write { .. }
            | Self::Read { .. }
            | Self::Changed { .. }
            | Self::Deadline { .. }
            | Self::Cancelled { .. }
            | Self::SetUp { .. } => false,
        }
    }

    /// Returns what the failure means to the person who runs the program.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Reference(_)
            | Self::NotFound { .. }
            | Self::NotHttps { .. }
            | Self::Credentials { .. }
            | Self::Range { .. }
            | Self::Write { .. }
            | Self::Read { .. }
            | Self::Changed { .. } => ErrorKind::Input,
            Self::WrongDigest { .. }
            | Self::WrongSize { .. }
            | Self::TooLarge { .. }
            | Self::BadAnswer { .. }
            | Self::Redirect { .. }
            | Self::Certificate { .. } => ErrorKind::Refused,
            Self::Login { .. }
            | Self::Forbidden { .. }
            | Self::Status { .. }
            | Self::Unreachable { .. }
            | Self::NotTls { .. }
            | Self::BrokeOff { .. }
            | Self::Stalled { .. }
            | Self::TooManyRedirects { .. }
            | Self::Deadline { .. }
            | Self::SetUp { .. } => ErrorKind::Unavailable,
            Self::Cancelled { .. } => ErrorKind::Interrupted,
        }
    }

    /// Returns what to do about it, where we know.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotFound { .. } => {
                "check host, name and tag; some registries say this too if you may not see it".to_owned()
            }
            Self::Login { host, .. } => {
                format!(
                    "log in with `docker login {host}` or `skopeo login {host}`, with an account that may do this"
                )
            }
            Self::Status { retry_after: Some(wait), .. } => {
                format!("the server asks to wait {} s", wait.as_secs())
            }
            Self::Status { status: 429, .. } => {
                "the server limits requests: try again later, or log in".into()
            }
            Self::Status { status: 413, .. } => {
                "the server, or a proxy before it, limits the size of a request: raise its limit".into()
            }
            Self::Status { status: 500.., .. } | Self::BrokeOff { .. } | Self::Stalled { .. } => {
                "try again later".into()
            }
            Self::Unreachable { .. } => "check the host, the network and the proxy (HTTPS_PROXY)".into(),
            Self::SetUp { .. } => "this machine may trust no authority: install its certificates (Debian's ca-certificates), or name a \
                                   file of them in SSL_CERT_FILE"
                .into(),
            Self::Certificate { .. } => {
                "add its authority to those that this machine trusts, or name a file of it in SSL_CERT_FILE"
                    .into()
            }
            Self::Status { status: 400, request, words, .. }
                if request.contains(" http://") && (words.0.is_empty() || words.0.contains("HTTPS")) =>
            {
                "the server may speak TLS only: ask for it without plain http".into()
            }
            Self::NotTls { .. } => "allow plain http if the network is trusted".into(),
            Self::WrongDigest { .. } | Self::WrongSize { .. } => {
                "what the server or its mirror has is damaged, or was changed: nothing of it was used".into()
            }
            Self::NotHttps { .. } => {
                "http is for this machine, unless plain http is allowed (`--plain-http`)".into()
            }
            Self::Write { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space".into(),
                _ => return None,
            },
            Self::Changed { .. } => "publish it again when nothing writes to it".into(),
            _ => return None,
        };
        Some(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_words_are_one_short_line() {
        let check = |body: &str, expected: &str| assert_eq!(Words::of(body.as_bytes()).to_string(), expected);
        check(
            r#"{"errors":[{"code":"DENIED","message":"no\u001b[2J way\n here"}]}"#,
            ": DENIED: no [2J way here",
        );
        check(r#"{"errors":[{"code":"A"},{"message":"b"},{}]}"#, ": A; b");
        check(r#"{"details":"incorrect password"}"#, ": incorrect password");
        check(r#"{"error":"invalid_grant","error_description":"expired"}"#, ": expired");
        check(r#"{"errors":"none"}"#, "");
        check("<html>502</html>", "");
        check("<?xml?>\n<Error><Code>NoSuchKey</Code><Message> gone </Message></Error>", ": NoSuchKey: gone");
        check("", "");
        check("too many\r\nrequests", ": too many requests");
        check("\u{202e}txet", ": txet");
        let long = Words::of("x".repeat(5000).as_bytes()).to_string();
        assert_eq!(long.chars().count(), 2 + MAX_WORDS + 1);
        assert!(long.ends_with('…'));
    }
}
