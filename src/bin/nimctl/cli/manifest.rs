//! Arguments of `manifest`.

use std::path::PathBuf;

use clap::Subcommand;

/// The commands of `manifest`.
#[derive(Debug, Subcommand)]
pub(crate) enum Manifest {
    /// Find what is suspect: equal tags, wrong ids, missing checksums, unknown GPUs, selectors that nothing can meet.
    #[command(after_help = "\
Exit codes: 0 no errors, though there may be warnings; 1 not a manifest; 3 errors were found.

Example:
  nimctl manifest lint manifests/nvclip-demo/model_manifest.yaml")]
    Lint {
        /// The manifests.
        #[arg(required = true)]
        manifests: Vec<PathBuf>,
    },
    /// Say per profile what changed: added, removed, other files, other tags.
    #[command(
        after_help = "Example:\n  nimctl manifest diff old/model_manifest.yaml new/model_manifest.yaml"
    )]
    Diff {
        /// The old manifest.
        old: PathBuf,
        /// The new manifest.
        new: PathBuf,
        /// End with exit code 3 if there is a difference.
        #[arg(long)]
        exit_code: bool,
    },
    /// Make one manifest of several of the same release.
    #[command(after_help = "Example:\n  nimctl manifest merge hopper.yaml ada.yaml -o model_manifest.yaml")]
    Merge {
        /// The manifests.
        #[arg(required = true)]
        manifests: Vec<PathBuf>,
        /// The file to write [default: standard output].
        #[arg(short = 'o', long = "output-file", value_name = "FILE")]
        destination: Option<PathBuf>,
    },
    /// Write a manifest in schema 2.0, whichever form it has.
    #[command(after_help = "Example:\n  nimctl manifest convert old.yaml --to 2.0 -o model_manifest.yaml")]
    Convert {
        /// The manifest.
        manifest: PathBuf,
        /// The form; `same` writes it again as it is, without comments.
        #[arg(long, value_parser = ["2.0", "same"], default_value = "2.0")]
        to: String,
        /// The file to write [default: standard output].
        #[arg(short = 'o', long = "output-file", value_name = "FILE")]
        destination: Option<PathBuf>,
    },
    /// Make a manifest of a profiles file, as NVIDIA's manifest generator takes it (schema version 1.0).
    #[command(after_help = "\
Example:
  nimctl manifest import profile.yaml --files downloads -o model_manifest.yaml")]
    Import {
        /// The profiles file.
        profiles: PathBuf,
        /// Where the files of the profiles are, in a folder for each model version; without it the profiles have none.
        #[arg(long, value_name = "FOLDER")]
        files: Option<PathBuf>,
        /// The file to write [default: standard output].
        #[arg(short = 'o', long = "output-file", value_name = "FILE")]
        destination: Option<PathBuf>,
    },
}
