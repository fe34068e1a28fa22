//! Arguments of `release`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use nimctl::recipe::Only;

use super::{RegistryArguments, limits};

/// Arguments of `release`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("private-key").args(["key", "key_fd", "key_env"]), after_help = "\
Builds, validates and measures the profiles, checks the results against a policy, and writes a folder and a tar archive of
it. A release is complete or absent. Without a policy, every built profile must pass validation.

After a refusal or an interruption, run the same command again: it reuses every build, validation and measurement whose
inputs have not changed. --fresh validates and measures again.

The folder holds model_manifest.yaml, profiles/<id>/ with the files and passport of each, release-notes.md and SHA256SUMS
(for `sha256sum -c`). With --no-bench, the tar of the same release has the same bytes on every machine that computes the
same results.

With a key, FOLDER.sig is the signature of the folder (as by `nimctl sign`), and FOLDER.attestations.jsonl says of each profile what it was made
from and what was found of it (as by `nimctl attest`). --publish-to publishes both with the release in a registry; folders and archives
keep neither.

A policy:
  schema: nimctl.release-policy/1
  required: ['onnx-*', tensorrt-rtx-l4-fp16]
  accept: [executed, static]
  fail_if: ['p50 > +3%']

Exit codes: 1 the recipe, the policy or the destination is wrong; 3 the policy is not met, or a trust
policy refuses what is built here (it needs `built_here: accept`); 5 a worker or compiler is missing.

Examples:
  nimctl release recipes/nvclip-demo.yaml -o dist/nvclip-demo
  nimctl release recipes/nvclip-demo.yaml -o dist/2.0.1 --policy policy.yaml --baseline dist/2.0.0
  nimctl release recipes/nvclip-demo.yaml -o dist/2.0.1 --publish-to registry.example.com/models/nvclip:2.0.1
  nimctl release recipes/nvclip-demo.yaml -o dist/2.0.1 --key release.key --publish-to registry.example.com/models/nvclip:2.0.1
  nimctl release recipes/nvclip-demo.yaml -o dist/quick --no-bench --only 'onnx-*'
  nimctl release recipes/hopper.yaml recipes/ada.yaml -o dist/2.0.0")]
pub(crate) struct Release {
    /// The recipes; all must be for the same model and release.
    #[arg(required = true, value_name = "RECIPE")]
    pub(crate) recipes: Vec<PathBuf>,
    /// The folder to write; FOLDER.tar is written beside it.
    #[arg(short = 'o', long = "output-dir", value_name = "FOLDER")]
    pub(crate) destination: PathBuf,
    /// Also publish it there: HOST/NAME:TAG, oci:FOLDER[:TAG] or oci-archive:FILE[:TAG].
    #[arg(long, value_name = "PLACE")]
    pub(crate) publish_to: Option<String>,
    /// The tag or digest of the release at that place that most of it is in already [default: the tag of --publish-to].
    #[arg(long, value_name = "TAG", requires = "publish_to")]
    pub(crate) publish_from: Option<String>,
    #[command(flatten)]
    pub(crate) fleet: super::FleetArguments,
    #[command(flatten)]
    pub(crate) trust: super::TrustArgument,
    /// The requirements that the release must meet.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// The folder of an earlier release to compare with.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) baseline: Option<PathBuf>,
    /// Only these profiles: tags (gpu=l4,precision=fp16), or a name, where * matches anything.
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) only: Option<Only>,
    /// Don't measure the speed.
    #[arg(long)]
    pub(crate) no_bench: bool,
    /// Validate and measure again, even if nothing has changed.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Rounds for each case, each in its own process.
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u16).range(limits::ROUNDS))]
    pub(crate) rounds: u16,
    /// Threads used by one run on the CPU [default: the library's choice].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(limits::THREADS))]
    pub(crate) threads: Option<u32>,
    /// The index of the GPU to run on, in the CUDA driver's order [default: the first GPU that fits each profile].
    #[arg(long, value_name = "N")]
    pub(crate) gpu: Option<u32>,
    /// The maximum time for all windows of a round, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "1000", value_parser = clap::value_parser!(u64).range(limits::MILLISECONDS))]
    pub(crate) budget_ms: u64,
    /// The maximum time for one worker job, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "7200", value_parser = clap::value_parser!(u64).range(limits::SECONDS))]
    pub(crate) job_timeout: u64,
    #[command(flatten)]
    pub(crate) private_key: super::PrivateKey,
    /// The URI of what runs the build, as the provenance names it.
    #[arg(long, value_name = "URI", default_value = super::BUILDER, requires = "private-key", help_heading = "Signature")]
    pub(crate) builder_id: String,
    #[command(flatten)]
    pub(crate) registries: RegistryArguments,
}
