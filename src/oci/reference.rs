//! How people name a place and what is in it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::registry::looks_like_a_host;

/// A place, and the release or profile in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceReference {
    /// `oci:FOLDER[:TAG]`: a folder in the OCI image layout.
    Layout(PathBuf, String),
    /// `oci-archive:FILE[:TAG]`: a tar of one.
    Archive(PathBuf, String),
    /// `https://HOST/PATH[#TAG]`: a web server of one.
    Web(String, String),
    /// `HOST/NAME[:TAG][@DIGEST]`: a repository in a registry.
    Registry(String),
}

/// A text that names no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// The path of something that is not there.
    #[error("there is no folder or file {0}")]
    NothingThere(String),
    /// The path of something that is not there, or a registry without its host.
    #[error(
        "there is no folder or file {0}, and it names nothing in a registry: write HOST/NAME:TAG with a host such as \
         registry.example.org or localhost:5000, oci:FOLDER[:TAG], oci-archive:FILE[:TAG], or https://HOST/PATH[#TAG]"
    )]
    NoHost(String),
    /// Anything else.
    #[error(
        "`{0}` names no place: write HOST/NAME:TAG for a registry, oci:FOLDER[:TAG], oci-archive:FILE[:TAG], or \
         https://HOST/PATH[#TAG]"
    )]
    NoForm(String),
}

impl PlaceReference {
    /// Reads what a user wrote. What is on the disk counts as it is: a folder, or a tar.
    ///
    /// # Errors
    /// A text that is none of the forms.
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        let invalid = || InvalidReference::NoForm(text.into());
        let named = |rest: &str| {
            let (path, tag) = path_and_tag(rest);
            (!path.is_empty()).then(|| (PathBuf::from(path), tag.to_owned())).ok_or_else(invalid)
        };
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            return named(rest).map(|(path, tag)| Self::Archive(path, tag));
        }
        if let Some(rest) = text.strip_prefix("oci:") {
            return named(rest).map(|(path, tag)| Self::Layout(path, tag));
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            let (url, tag) = text.split_once('#').unwrap_or((text, ""));
            return Ok(Self::Web(url.trim_end_matches('/').into(), tag.into()));
        }
        let path = Path::new(text);
        if path.is_dir() {
            return Ok(Self::Layout(path.into(), String::new()));
        }
        if path.is_file() {
            return Ok(Self::Archive(path.into(), String::new()));
        }
        let name = text.strip_prefix("docker://").unwrap_or(text);
        if name.starts_with(['/', '.', '~']) {
            return Err(InvalidReference::NothingThere(text.into()));
        }
        let (host, rest) = name.split_once('/').unwrap_or((name, ""));
        let is_complete = !host.is_empty() && !rest.is_empty() && !name.contains(char::is_whitespace);
        let says_registry = name.len() < text.len();
        if text.is_empty() || (says_registry && !is_complete) {
            return Err(invalid());
        }
        // Most likely a path that was mistyped.
        if !(says_registry || is_complete && looks_like_a_host(host)) {
            return Err(InvalidReference::NoHost(text.into()));
        }
        Ok(Self::Registry(name.into()))
    }
}

/// Splits at the last colon, unless that belongs to the path.
fn path_and_tag(text: &str) -> (&str, &str) {
    match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (text, ""),
    }
}

impl fmt::Display for PlaceReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tagged = |f: &mut fmt::Formatter<'_>, kind: &str, path: &Path, tag: &str| {
            let colon = if tag.is_empty() { "" } else { ":" };
            write!(f, "{kind}:{}{colon}{tag}", path.display())
        };
        match self {
            Self::Layout(path, tag) => tagged(f, "oci", path, tag),
            Self::Archive(path, tag) => tagged(f, "oci-archive", path, tag),
            Self::Web(url, tag) if tag.is_empty() => f.write_str(url),
            Self::Web(url, tag) => write!(f, "{url}#{tag}"),
            Self::Registry(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let parse = |text: &str| PlaceReference::parse(text).map(|reference| format!("{reference:?}"));
        for (text, expected) in [
            ("oci:a/b:1.0", r#"Layout("a/b", "1.0")"#),
            ("oci:a/b", r#"Layout("a/b", "")"#),
            ("oci:a:b/c", r#"Layout("a:b/c", "")"#),
            ("oci-archive:/x/r.tar:v", r#"Archive("/x/r.tar", "v")"#),
            ("https://host/x/#v", r#"Web("https://host/x", "v")"#),
            ("host:5000/a/b:1", r#"Registry("host:5000/a/b:1")"#),
            ("docker://host/a", r#"Registry("host/a")"#),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        for text in ["", "oci:", "oci-archive::x", "docker://host", "docker://host/", "docker://a b/c"] {
            assert_eq!(PlaceReference::parse(text), Err(InvalidReference::NoForm(text.into())), "{text}");
        }
        for text in ["name", "name:1", "host/", "dist/nosuch", "my dist/nosuch", "dist/Nosuch:1"] {
            assert_eq!(PlaceReference::parse(text), Err(InvalidReference::NoHost(text.into())), "{text}");
        }
        for text in ["/not/there", "./not/there", "../not/there", "~/not/there"] {
            assert_eq!(
                PlaceReference::parse(text),
                Err(InvalidReference::NothingThere(text.into())),
                "{text}"
            );
        }
        for text in ["oci:a/b:1.0", "oci-archive:/x/r.tar", "https://host/x#v", "host:5000/a/b:1"] {
            assert_eq!(PlaceReference::parse(text).unwrap().to_string(), text);
        }
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().to_str().unwrap();
        assert_eq!(
            PlaceReference::parse(there).unwrap(),
            PlaceReference::Layout(folder.path().into(), String::new())
        );
    }
}
