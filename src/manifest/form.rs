//! The forms of a manifest.

/// The form of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Form {
    /// Schema 2.0: a list of profiles.
    #[serde(rename = "2.0")]
    Schema2,
    /// A mapping by profile id, without a version.
    #[serde(rename = "2024")]
    Map2024,
}
