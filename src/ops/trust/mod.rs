//! Trust policies on the side that loads models: reading one, writing the first, what a signed release says of itself, and which
//! profiles of a store may be used.

mod error;
mod gate;
mod init;
mod not_admitted;
mod release;

use std::path::Path;

pub use error::{NotTrusted, PolicyError};
pub(super) use gate::has_files_of;
pub use gate::{Admitted, Gate};
pub use init::{FirstPolicy, write_first};
pub use not_admitted::{NotAdmitted, Unsigned};
pub use release::{ReleaseVerdict, VerifyReleaseOptions, verify_release};
pub(super) use release::{SignedDocuments, signed_passports};

use crate::files::text;
use crate::trust::Trust;

/// Reads a policy, with the keys and certificates that it names.
///
/// # Errors
/// A file that can't be read, or is no whole policy.
pub fn load(path: &Path) -> Result<Trust, PolicyError> {
    let policy = text::read(path).map_err(|source| PolicyError::Read { path: path.into(), source })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    Ok(Trust::parse(&policy, &path.display().to_string(), &|file| text::read(&folder.join(file)))?)
}
