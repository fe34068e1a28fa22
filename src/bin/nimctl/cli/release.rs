//! Arguments of `release` and `verify`.

use std::path::PathBuf;

use clap::Args;
use nimctl::recipe::Only;

/// Arguments of `release`.
#[derive(Debug, Args)]
#[command(after_help = "\
Builds, validates, measures, checks the result against a policy, and writes a folder with everything in it, and a tar of
that. There is a whole release or none. Without a policy, every profile that was built has to pass validation.

A release that was refused or interrupted goes on where it was: what was built, validated or measured before, and of which
nothing has changed, is taken over. --fresh validates and measures anew.

The folder holds model_manifest.yaml, profiles/<id>/ with the files and passport of each, release-notes.md and SHA256SUMS
(for `sha256sum -c`). The tar of the same release is the same bytes: with --no-bench, on any machine that computes alike.

A policy:
  schema: nimctl.release-policy/1
  required: ['onnx-*', tensorrt-rtx-l4-fp16]
  accept: [executed, static]
  fail_if: ['p50 > +3%']

Exit codes: 1 the recipe, the policy or the destination; 3 the policy says no; 5 a worker or compiler is missing.

Examples:
  nimctl release recipes/nvclip-demo.yaml -o dist/nvclip-demo
  nimctl release recipes/nvclip-demo.yaml -o dist/2.0.1 --policy policy.yaml --baseline dist/2.0.0
  nimctl release recipes/nvclip-demo.yaml -o dist/quick --no-bench --only 'onnx-*'
  nimctl release recipes/hopper.yaml recipes/ada.yaml -o dist/2.0.0")]
pub(crate) struct Release {
    /// The recipes; several are all of one model and release.
    #[arg(required = true, value_name = "RECIPE")]
    pub(crate) recipes: Vec<PathBuf>,
    /// The folder to make; FOLDER.tar is made beside it.
    #[arg(short = 'o', long = "output-dir", value_name = "FOLDER")]
    pub(crate) destination: PathBuf,
    /// What must hold.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// The folder of an earlier release, to compare with.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) baseline: Option<PathBuf>,
    /// Only these profiles: tags (gpu=l4,precision=fp16), or a name in which * stands for anything.
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) only: Option<Only>,
    /// Don't measure.
    #[arg(long)]
    pub(crate) no_bench: bool,
    /// Validate and measure anew, also what was done before and has not changed since.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Processes that measure each case, one after the other.
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,
    /// Threads inside of one run on the CPU [default: the library's choice].
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<std::num::NonZeroU32>,
    /// The number of the GPU to run on, as the CUDA driver counts them [default: the first that fits each profile].
    #[arg(long, value_name = "N")]
    pub(crate) gpu: Option<u32>,
    /// Most time for the windows of a round, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "1000")]
    pub(crate) budget_ms: u64,
    /// Most time for one job of a worker, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "7200", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) job_timeout: u64,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Computes every digest and id anew, and holds SHA256SUMS, the manifest, each contents.json and each passport against them.

Exit codes: 1 no folder and no tar; 3 something is not as it says, and every such file is named.

Examples:
  nimctl verify dist/nvclip-demo
  nimctl verify dist/nvclip-demo.tar --output json")]
pub(crate) struct Verify {
    /// A release: its folder, or the tar.
    pub(crate) release: PathBuf,
}
