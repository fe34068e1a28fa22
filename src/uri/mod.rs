//! Uris of files in manifests: what each means, and where its bytes are for this user.
//!
//! | uri | where it leads |
//! | --- | --- |
//! | `file:PATH` | a file below the manifest's folder |
//! | `https://HOST/PATH` | a web server; `http://` on this machine |
//! | `oci://HOST/NAME:TAG?file=PATH`, `…@DIGEST?file=PATH` | a registry |
//! | `s3://BUCKET/KEY` | an object store ([`S3`]) |
//! | `hf://OWNER/NAME[@REVISION]/PATH`, `hf://OWNER/NAME[:REVISION]?file=PATH` | Hugging Face ([`HuggingFace`]) |
//! | `ngc://ORG/TEAM/MODEL:VERSION?file=PATH` | where a mapping says: [`UriMapping`], or what NIM's own variable names |
//! | `store:sha256:HEX` | the store of the machine that built it |
//!
//! The environment is read by the caller: [`Sources::from_environment`].

mod hugging_face;
mod mapping;
mod s3;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use hugging_face::HuggingFace;
pub use mapping::{InvalidMapping, UriMapping};
pub use s3::S3;

pub use crate::registry::shown_address as shown;

use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::manifest::{file_path, store_digest};
use crate::percent;
use crate::registry::{Reference, WebFile, web_address};

/// The variable by which NIM finds the files of `ngc://` uris somewhere else.
pub const REPOSITORY_OVERRIDE: &str = "NIM_REPOSITORY_OVERRIDE";

/// Where uris lead from here.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The manifest's folder, to which `file:` uris are relative.
    pub folder: PathBuf,
    /// That folder, if the manifest came from a web server.
    pub web_folder: Option<WebFile>,
    /// What replaces the beginning of a uri; the longest beginning that fits counts.
    pub mappings: Vec<UriMapping>,
    /// What stands in for NGC.
    pub repository_override: Option<String>,
    /// Object stores.
    pub s3: S3,
    /// Hugging Face.
    pub hugging_face: HuggingFace,
}

/// Where the bytes of a file are.
#[derive(Clone, Debug)]
pub enum Location {
    /// A file on this machine.
    File(PathBuf),
    /// A file of a web server.
    Web(Box<WebFile>),
    /// A file of an artifact in a registry: which artifact, and the file's path in it.
    Registry(Box<Reference>, String),
    /// A blob of the store.
    Store(Sha256),
}

/// A uri that leads nowhere.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its fields are")]
pub enum UriError {
    #[error("`{uri}`: {problem}")]
    Invalid { uri: String, problem: String },
    #[error("`{uri}` is at NVIDIA NGC, from which nimctl does not fetch")]
    Ngc { uri: String },
    #[error("`{uri}` leads out of the manifest's folder, {}", folder.display())]
    OutOfFolder { uri: String, folder: PathBuf },
    #[error("cannot use the credentials for `{uri}` in {}: {problem}", file.display())]
    Credentials { uri: String, file: PathBuf, problem: String },
}

impl UriError {
    fn invalid(uri: &str, problem: impl Into<String>) -> Self {
        Self::Invalid { uri: shown(uri), problem: problem.into() }
    }

    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } | Self::Ngc { .. } | Self::Credentials { .. } => ErrorKind::Input,
            Self::OutOfFolder { .. } => ErrorKind::Refused,
        }
    }

    /// Returns what the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Ngc { .. } => Some(format!(
                "copy the files to a place of yours, and set {REPOSITORY_OVERRIDE}=s3://BUCKET/ or give --mirror ngc://=URI"
            )),
            Self::Invalid { .. } | Self::OutOfFolder { .. } | Self::Credentials { .. } => None,
        }
    }
}

impl Sources {
    /// Returns what an environment says: `NIM_REPOSITORY_OVERRIDE`, the variables of AWS and of Hugging Face.
    pub fn from_environment(folder: &Path, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let text = |name: &str| {
            let value = variable(name)?.to_str()?.trim().to_owned();
            (!value.is_empty()).then_some(value)
        };
        Self {
            folder: folder.into(),
            web_folder: None,
            mappings: Vec::new(),
            repository_override: text(REPOSITORY_OVERRIDE),
            s3: S3::from_environment(&text),
            hugging_face: HuggingFace::from_environment(&text),
        }
    }

    /// Returns where a uri leads.
    ///
    /// # Errors
    /// No uri that is known; one that needs a mapping and has none; a path that leaves its folder.
    pub fn locate(&self, uri: &str) -> Result<Location, UriError> {
        let mapping = self.mappings.iter().filter(|mapping| mapping.fits(uri));
        if let Some(mapping) = mapping.max_by_key(|mapping| mapping.length()) {
            return self.follow(&mapping.apply(uri));
        }
        match (uri.strip_prefix("ngc://"), &self.repository_override) {
            (Some(rest), Some(place)) => self.overridden(uri, rest, place),
            _ => self.follow(uri),
        }
    }

    /// Returns where NIM looks for a file of NGC in place of NGC: below another uri, under its own as one encoded name.
    fn overridden(&self, uri: &str, rest: &str, place: &str) -> Result<Location, UriError> {
        let name = percent::encode(rest, "");
        let place = place.trim_end_matches('/');
        if place.starts_with("s3://") {
            return self.follow(&format!("{place}/{name}"));
        }
        if place.starts_with("https://") || place.starts_with("http://") {
            // The name has its percent signs on the server's disk.
            return self.follow(&format!("{place}/{}", name.replace('%', "%25")));
        }
        let problem = format!(
            "{REPOSITORY_OVERRIDE} is `{}`: expected s3://BUCKET/ or https://HOST/PATH",
            shown(place)
        );
        Err(UriError::invalid(uri, problem))
    }

    fn follow(&self, uri: &str) -> Result<Location, UriError> {
        if uri.chars().any(|character| character.is_control()) {
            return Err(UriError::invalid(uri, "a uri has no control characters"));
        }
        if let Some(digest) = store_digest(uri) {
            return Ok(Location::Store(digest));
        }
        let Some((scheme, rest)) = uri.split_once(':') else {
            return Err(UriError::invalid(uri, "it has no scheme such as https:"));
        };
        match scheme {
            "file" => self.file(uri),
            "https" | "http" => {
                let url = web_address(uri).map_err(|error| UriError::invalid(uri, error.to_string()))?;
                Ok(Location::Web(Box::new(WebFile::new(url, None))))
            }
            "oci" => registry(uri, rest),
            "s3" => self.s3.locate(uri).map(|file| Location::Web(Box::new(file))),
            "hf" => self.hugging_face.locate(uri).map(|file| Location::Web(Box::new(file))),
            "ngc" => Err(UriError::Ngc { uri: shown(uri) }),
            _ => Err(UriError::invalid(
                uri,
                format!(
                    "the scheme `{}` is not known: expected file, https, oci, s3, hf or ngc",
                    scheme.escape_debug()
                ),
            )),
        }
    }

    /// Returns a file of the manifest's folder; a link may not lead out of it either.
    fn file(&self, uri: &str) -> Result<Location, UriError> {
        let Some(path) = file_path(uri) else {
            return Err(UriError::invalid(
                uri,
                "expected file:PATH with a path below the manifest's folder, and no `..`",
            ));
        };
        if let Some(folder) = &self.web_folder {
            let path = percent::encode(&path.to_string_lossy(), "/");
            return Ok(Location::Web(Box::new(folder.below(&path))));
        }
        let folder = if self.folder.as_os_str().is_empty() { Path::new(".") } else { &self.folder };
        let path = folder.join(path);
        // What is not there is for the reader to say.
        let (Ok(real), Ok(root)) = (fs_err::canonicalize(&path), fs_err::canonicalize(folder)) else {
            return Ok(Location::File(path));
        };
        if !real.starts_with(&root) {
            return Err(UriError::OutOfFolder { uri: shown(uri), folder: folder.into() });
        }
        Ok(Location::File(real))
    }
}

/// Reads `//HOST/NAME:TAG?file=PATH`.
fn registry(uri: &str, rest: &str) -> Result<Location, UriError> {
    let invalid = || {
        UriError::invalid(uri, "expected oci://HOST/NAME:TAG?file=PATH or oci://HOST/NAME@DIGEST?file=PATH")
    };
    let (name, path) =
        rest.strip_prefix("//").and_then(|rest| rest.split_once("?file=")).ok_or_else(invalid)?;
    let reference: Reference = name.parse().map_err(|_| invalid())?;
    let path = percent::decode(path).filter(|path| !path.is_empty()).ok_or_else(invalid)?;
    Ok(Location::Registry(Box::new(reference), path))
}

#[cfg(test)]
mod tests;
