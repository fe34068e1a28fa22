//! `host[:port]/name/space[:tag][@sha256:…]`, by the grammar of the distribution specification.

use std::fmt;
use std::str::FromStr;

use crate::digest::Sha256;

/// The maximum length of host and name together, as registries and clients have it.
const MAX_NAME_BYTES: usize = 255;
const MAX_TAG_BYTES: usize = 128;
/// The tag of a reference that names neither tag nor digest, as all clients have it.
const DEFAULT_TAG: &str = "latest";

/// A repository of a registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repository {
    host: String,
    name: String,
}

/// A repository with what is meant in it: a tag, a digest, both, or neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Where it is.
    pub repository: Repository,
    /// Its tag.
    pub tag: Option<String>,
    /// Its digest, which counts where there is a tag too.
    pub digest: Option<Sha256>,
}

/// A string that should be a reference and isn't.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a reference to a registry: {problem}")]
pub struct InvalidReference {
    text: String,
    problem: String,
}

impl InvalidReference {
    pub(super) fn new(text: &str, problem: &str) -> Self {
        Self { text: text.into(), problem: problem.into() }
    }

    /// Returns the same problem of the whole that a text was a part of.
    pub(super) fn with_text(self, text: &str) -> Self {
        Self { text: text.into(), problem: self.problem }
    }
}

impl Repository {
    /// Returns the repository `name` on `host`, which may have a port.
    ///
    /// # Errors
    /// One of them breaks the grammar; the message says which, and what to write.
    pub fn new(host: &str, name: &str) -> Result<Self, InvalidReference> {
        let text = format!("{host}/{name}");
        let invalid = |problem| InvalidReference { text: text.clone(), problem };
        check_host(host).map_err(invalid)?;
        check_name(name).map_err(invalid)?;
        if text.len() > MAX_NAME_BYTES {
            return Err(invalid(format!("host and name have more than {MAX_NAME_BYTES} characters")));
        }
        Ok(Self { host: host.into(), name: name.into() })
    }

    /// Returns the host, with its port if it has one.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the name on the host, such as `models/vit`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the reference to a manifest by its digest.
    pub fn with_digest(&self, digest: Sha256) -> Reference {
        Reference { repository: self.clone(), tag: None, digest: Some(digest) }
    }

    /// Returns the reference to a tag.
    ///
    /// # Errors
    /// The tag breaks the grammar.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, InvalidReference> {
        check_tag(tag).map_err(|problem| InvalidReference { text: format!("{self}:{tag}"), problem })?;
        Ok(Reference { repository: self.clone(), tag: Some(tag.into()), digest: None })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.name)
    }
}

impl FromStr for Repository {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let reference: Reference = text.parse()?;
        if reference.tag.is_some() || reference.digest.is_some() {
            let problem = "expected a repository, without tag and digest".into();
            return Err(InvalidReference { text: text.into(), problem });
        }
        Ok(reference.repository)
    }
}

impl Reference {
    /// Returns what the registry is asked for: the digest, else the tag, else `latest`.
    pub fn tag_or_digest(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.into(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    /// Reads a reference; `oci://` may stand before it, as in the uris of manifests.
    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let invalid = |problem| InvalidReference { text: text.into(), problem };
        let rest = text.strip_prefix("oci://").unwrap_or(text);
        if let Some((scheme, _)) = rest.split_once("://") {
            return Err(invalid(format!("write it without `{scheme}://`: host/name:tag")));
        }
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(parse_digest(digest).map_err(invalid)?)),
            None => (rest, None),
        };
        let Some((host, path)) = rest.split_once('/') else {
            let problem = if looks_like_a_host(rest.split(':').next().unwrap_or(rest)) {
                "the name on the host is missing: expected host/name:tag".into()
            } else {
                without_host(rest)
            };
            return Err(invalid(problem));
        };
        if !looks_like_a_host(host) {
            return Err(invalid(without_host(rest)));
        }
        let (name, tag) = match path.split_once(':') {
            Some((name, tag)) => (name, Some(tag)),
            None => (path, None),
        };
        let repository = Repository::new(host, name).map_err(|error| error.with_text(text))?;
        if let Some(tag) = tag {
            check_tag(tag).map_err(invalid)?;
        }
        Ok(Self { repository, tag: tag.map(Into::into), digest })
    }
}

/// No registry is implied, so that the same reference means the same everywhere.
fn without_host(rest: &str) -> String {
    format!(
        "it has no host: write the registry first, such as `registry.example.org/{rest}` or `localhost:5000/{rest}`"
    )
}

/// Whether the first part of a reference is a host, by the rule that all clients have.
pub(crate) fn looks_like_a_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':', '[']) || part.contains(|c: char| c.is_ascii_uppercase())
}

fn check_host(host: &str) -> Result<(), String> {
    let (name, port) = match host.strip_prefix('[') {
        Some(inner) => {
            let (address, after) = inner.split_once(']').ok_or("its IPv6 address has no `]`")?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(format!("`{address}` is not an IPv6 address"));
            }
            match after.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None if after.is_empty() => (None, None),
                None => return Err("expected `:` and a port after `]`".into()),
            }
        }
        None => match host.split_once(':') {
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(host), None),
        },
    };
    if let Some(port) = port {
        let is_number = !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit());
        if !is_number || port.parse::<u16>().is_ok_and(|port| port == 0) || port.parse::<u16>().is_err() {
            return Err(format!("`{port}` is not a port: expected a number from 1 to 65535"));
        }
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with(['-', '_'])
            && !label.ends_with(['-', '_'])
    };
    match name {
        Some(name) if !name.split('.').all(is_label) => {
            Err(format!("`{name}` is not a host: expected letters, digits, `-` and `.`"))
        }
        _ => Ok(()),
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the name on the host is missing: expected host/name:tag".into());
    }
    for part in name.split('/') {
        if part.is_empty() {
            return Err("two `/` in a row, or one at the end: expected host/name:tag".into());
        }
        if !is_path_part(part) {
            return Err(format!(
                "`{part}` in its name: expected lower-case letters and digits, with `.`, `_`, `__` or `-` between them"
            ));
        }
    }
    Ok(())
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_part(part: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut separators = part.split(is_plain).filter(|separator| !separator.is_empty());
    part.starts_with(is_plain)
        && part.ends_with(is_plain)
        && separators.all(|separator| {
            matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
        })
}

fn check_tag(tag: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let first = tag.bytes().next().ok_or("the tag after `:` is empty")?;
    if tag.len() > MAX_TAG_BYTES {
        return Err(format!("its tag has more than {MAX_TAG_BYTES} characters"));
    }
    if !is_plain(first) || !tag.bytes().all(|byte| is_plain(byte) || matches!(byte, b'.' | b'-')) {
        return Err(format!(
            "`{tag}` is not a tag: expected letters, digits, `_`, `.` and `-`, and neither `.` nor `-` first"
        ));
    }
    Ok(())
}

fn parse_digest(digest: &str) -> Result<Sha256, String> {
    digest.parse().map_err(|_| {
        format!("`{digest}` is not a digest that nimctl reads: expected sha256:<64 lower-case hex digits>")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, host: &str, name: &str, tag: Option<&str>, has_digest: bool) {
        let reference: Reference = text.parse().unwrap();
        assert_eq!((reference.repository.host(), reference.repository.name()), (host, name));
        assert_eq!((reference.tag.as_deref(), reference.digest.is_some()), (tag, has_digest));
        assert_eq!(reference.to_string(), text);
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let digest = Sha256::of(b"x");
        check("localhost/a", "localhost", "a", None, false);
        check("localhost:5000/a/b-c/d__e:v1.0", "localhost:5000", "a/b-c/d__e", Some("v1.0"), false);
        check("ghcr.io/a.b/c---d:_x", "ghcr.io", "a.b/c---d", Some("_x"), false);
        check(&format!("127.0.0.1:5000/a@{digest}"), "127.0.0.1:5000", "a", None, true);
        check(&format!("[::1]:5000/a:t@{digest}"), "[::1]:5000", "a", Some("t"), true);
        check("[fe80::1]/a", "[fe80::1]", "a", None, false);
        check("HOST/a", "HOST", "a", None, false);
        let of_a_manifest: Reference = format!("oci://host.example/a@{digest}").parse().unwrap();
        assert_eq!(of_a_manifest.to_string(), format!("host.example/a@{digest}"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            ("models/vit:1", "such as `registry.example.org/models/vit:1`"),
            ("vit", "it has no host"),
            ("vit:1", "it has no host"),
            ("localhost:5000", "the name on the host is missing"),
            ("ghcr.io/", "the name on the host is missing"),
            ("https://ghcr.io/a", "without `https://`"),
            ("ghcr.io/Models/vit", "`Models` in its name: expected lower-case"),
            ("ghcr.io/a//b", "two `/` in a row"),
            ("ghcr.io/a/", "two `/` in a row, or one at the end"),
            ("ghcr.io/a___b", "`a___b` in its name"),
            ("ghcr.io/a._b", "`a._b` in its name"),
            ("ghcr.io/../b", "`..` in its name"),
            ("ghcr.io/a:", "tag after `:` is empty"),
            ("ghcr.io/a:-b", "`-b` is not a tag"),
            ("ghcr.io/a:b c", "`b c` is not a tag"),
            ("ghcr.io/a:b:c", "`b:c` is not a tag"),
            ("ghcr.io/a@sha512:00", "expected sha256:"),
            ("ghcr.io/a@", "expected sha256:"),
            ("ghcr.io:0/a", "`0` is not a port"),
            ("ghcr.io:99999/a", "`99999` is not a port"),
            ("ghcr.io:+1/a", "`+1` is not a port"),
            ("[::1/a", "no `]`"),
            ("[::1]5/a", "after `]`"),
            ("-a.b/c", "`-a.b` is not a host"),
            ("user:pw@host.example/a", "not a digest"),
            ("a..b/c", "`a..b` is not a host"),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(error.contains(text), "{text}: {error}");
        }
        let long = format!("ghcr.io/{}", "a".repeat(260));
        assert!(long.parse::<Reference>().unwrap_err().to_string().contains("more than 255"));
        let long = format!("ghcr.io/a:{}", "a".repeat(129));
        assert!(long.parse::<Reference>().unwrap_err().to_string().contains("more than 128"));
        assert!("ghcr.io/a:b".parse::<Repository>().unwrap_err().to_string().contains("without tag"));
    }
}
