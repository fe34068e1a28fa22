//! A release: the folder that ships, its policy and its notes.
//!
//! ```text
//! model_manifest.yaml
//! profiles/<id>/<path>             the files of a profile, as the manifest names them, contents.json among them
//! profiles/<id>/passport.json      its passport, without facts about the build machine
//! profiles/<id>/samples.npz        every sample of its benchmark, if there was one
//! report.html                      all of it as a page
//! release-notes.md
//! SHA256SUMS                       for `sha256sum -c`; every other file, sorted by path
//! ```

mod notes;
mod policy;
mod rebuilt;
mod sums;

pub use notes::{Notes, least_row_cosine, notes};
pub use policy::{Policy, PolicyError, RELEASE_POLICY_SCHEMA, Refusal};
pub use rebuilt::{ChangedField, changed_fields, why_rebuilt};
pub use sums::{SUMS_FILE, Sums};

use crate::profile::ProfileId;

/// The release notes.
pub const NOTES_FILE: &str = "release-notes.md";
/// A profile's passport.
pub const PASSPORT_FILE: &str = "passport.json";
/// Every sample of a profile's benchmark.
pub const SAMPLES_FILE: &str = "samples.npz";
/// The folder of profiles.
pub const PROFILES_FOLDER: &str = "profiles";

/// Returns the folder of a profile in a release.
pub fn profile_folder(id: &ProfileId) -> String {
    format!("{PROFILES_FOLDER}/{id}")
}
