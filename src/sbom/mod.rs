//! Bills of materials: what a release consists of, what it was built from and what was measured, in CycloneDX 1.6
//! (`docs/sbom.md`).
//!
//! * [`cyclonedx`]: the format.
//! * [`of_release`]: the bill of a release, from its passports alone.
//!
//! A bill has no time and no random number: the same passports give the same bytes.

pub mod cyclonedx;
mod datasets;
mod model_card;
mod release;
mod tools;

pub use release::{ReleaseToList, of_release};
pub use tools::PinnedTool;
