//! The first policy.

use std::path::{Path, PathBuf};

use super::PolicyError;
use crate::files::destination;
use crate::files::{atomic_file, text};
use crate::signing::PublicKey;
use crate::trust::{BuiltHere, RuleText, TRUST_SCHEMA, Trust, TrustText};

const HEADER: &str = "# Whose signatures nimctl accepts on this host. Check it with `nimctl trust check`.\n";

/// What a first policy says.
pub struct FirstPolicy<'a> {
    /// The file with the public key.
    pub key: &'a Path,
    /// Patterns for models.
    pub models: &'a [String],
    /// Where the policy goes.
    pub destination: &'a Path,
    /// Whether it may replace a file.
    pub force: bool,
}

/// Writes a policy that accepts the signatures of one key, and returns it with the path by which it names the key: from the policy's folder
/// if the key is in there.
///
/// # Errors
/// A key that can't be used, patterns that match nothing, a file that is there or can't be written.
pub fn write_first(first: &FirstPolicy<'_>) -> Result<(Trust, PathBuf), PolicyError> {
    let FirstPolicy { key, models, destination, force } = *first;
    let key_text = text::read(key).map_err(|source| PolicyError::ReadKey { source })?;
    PublicKey::from_pem(&key_text).map_err(|source| PolicyError::Key { path: key.into(), source })?;
    if !force && fs_err::symlink_metadata(destination).is_ok() {
        return Err(PolicyError::Exists { path: destination.into() });
    }
    destination::check(destination, [key])?;
    let place = key_from(destination, key)?;
    let keys = vec![place.to_str().ok_or_else(|| PolicyError::NotUtf8 { path: key.into() })?.to_owned()];
    let rule = RuleText {
        models: models.to_vec(),
        keys,
        certificates: None,
        min_release: None,
        from: None,
        until: None,
        require: None,
    };
    let document =
        TrustText { schema: TRUST_SCHEMA.into(), built_here: BuiltHere::default(), rules: vec![rule] };
    let write = |source| PolicyError::Write { path: destination.into(), source };
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    let yaml = serde_saphyr::to_string_with_options(&document, options)
        .map_err(|error| write(std::io::Error::other(error.to_string())))?;
    let policy = format!("{HEADER}{yaml}");
    let trust = Trust::parse(&policy, &destination.display().to_string(), &|_| Ok(key_text.clone()))?;
    atomic_file::write(destination, policy.as_bytes()).map_err(write)?;
    Ok((trust, place))
}

/// Returns the path of a key as its policy names it: from the folder of the policy if the key is in there, else from the root.
fn key_from(policy: &Path, key: &Path) -> Result<PathBuf, PolicyError> {
    let reading = |source| PolicyError::ReadKey { source };
    let key = std::path::absolute(key).map_err(reading)?;
    let policy = std::path::absolute(policy).map_err(reading)?;
    let inside = policy.parent().and_then(|folder| key.strip_prefix(folder).ok());
    Ok(inside.map_or_else(|| key.clone(), Path::to_path_buf))
}
