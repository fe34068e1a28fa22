//! Arguments of `manifest`.

use std::path::PathBuf;

use clap::Subcommand;

/// The commands of `manifest`.
#[derive(Debug, Subcommand)]
pub(crate) enum Manifest {
    /// Find problems: equal tags, wrong ids, missing checksums, unknown GPUs, selectors that no GPU satisfies.
    #[command(after_help = "\
Exit codes: 0 no errors (there may be warnings); 1 not a manifest; 3 errors found.

Example:
  nimctl manifest lint manifests/nvclip-demo/model_manifest.yaml")]
    Lint {
        /// The manifests.
        #[arg(required = true)]
        manifests: Vec<PathBuf>,
    },
    /// Show what changed in each profile: added, removed, different files, different tags.
    #[command(
        after_help = "Example:\n  nimctl manifest diff old/model_manifest.yaml new/model_manifest.yaml"
    )]
    Diff {
        /// The old manifest.
        old: PathBuf,
        /// The new manifest.
        new: PathBuf,
        /// Exit with code 3 if the manifests differ.
        #[arg(long)]
        exit_code: bool,
    },
    /// Merge manifests of the same release into one.
    #[command(after_help = "Example:\n  nimctl manifest merge hopper.yaml ada.yaml -o model_manifest.yaml")]
    Merge {
        /// The manifests.
        #[arg(required = true)]
        manifests: Vec<PathBuf>,
        /// The file to write [default: standard output].
        #[arg(short = 'o', long = "output-file", value_name = "FILE")]
        destination: Option<PathBuf>,
    },
    /// Convert a manifest of any form to schema 2.0.
    #[command(after_help = "Example:\n  nimctl manifest convert old.yaml --to 2.0 -o model_manifest.yaml")]
    Convert {
        /// The manifest.
        manifest: PathBuf,
        /// The form to write; `same` keeps the form and drops comments.
        #[arg(long, value_parser = ["2.0", "same"], default_value = "2.0")]
        to: String,
        /// The file to write [default: standard output].
        #[arg(short = 'o', long = "output-file", value_name = "FILE")]
        destination: Option<PathBuf>,
    },
    /// Make a manifest from a profiles file (schema version 1.0), the input of NVIDIA's manifest generator.
    #[command(after_help = "\
Example:
  nimctl manifest import profile.yaml --files downloads -o model_manifest.yaml")]
    Import {
        /// The profiles file.
        profiles: PathBuf,
        /// The folder with the profiles' files, one subfolder for each model version; without it the profiles have no files.
        #[arg(long, value_name = "FOLDER")]
        files: Option<PathBuf>,
        /// The file to write [default: standard output].
        #[arg(short = 'o', long = "output-file", value_name = "FILE")]
        destination: Option<PathBuf>,
    },
}
