//! Arguments of `validate`.

use std::path::PathBuf;

use clap::Args;
use nimctl::ops::validate::Place;
use nimctl::recipe::Only;

/// Arguments of `validate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Inputs are the recipe's `samples`, bounds its `validation`. Profiles that run here are run: `executed`. In place of plans that
can't run here, the lowered graph is run on the CPU with its precision emulated: `static`. Results go into the profiles'
passports. A manifest, or the ids of profiles, lead to the recipe that they were built from on this machine.

Exit codes: 1 the recipe, the manifest, or the samples; 3 a profile failed, or none was built; 5 the onnxruntime worker is
missing or broke, or the provider that was asked for is not there.

Examples:
  nimctl validate recipes/nvclip-demo.yaml
  nimctl validate manifests/nvclip-demo/model_manifest.yaml --gates
  nimctl validate recipes/nvclip-demo.yaml --only 'onnx-*'
  nimctl validate recipes/nvclip-demo.yaml --only onnx-fp16 --replay vision/opt/3
  nimctl validate recipes/minilm.yaml --output json")]
pub(crate) struct Validate {
    /// A recipe whose profiles were built, a manifest, or ids of profiles.
    #[arg(required = true, value_name = "RECIPE|MANIFEST|PROFILE_ID")]
    pub(crate) subjects: Vec<String>,
    /// Only these profiles: tags (gpu=l4,precision=fp16), or a name in which * stands for anything.
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) only: Option<Only>,
    #[command(flatten)]
    pub(crate) execution: super::execution::Execution,
    /// Print every gate's value beside its threshold, not only those that don't hold.
    #[arg(long)]
    pub(crate) gates: bool,
    /// Run one row of one profile again, alone: its inputs and outputs are kept as .npy files.
    #[arg(long, value_name = "GRAPH/SHAPES/ROW", conflicts_with = "gates")]
    pub(crate) replay: Option<Place>,
    /// Where the files of a replay go [default: replay-GRAPH-SHAPES-ROW].
    #[arg(long, value_name = "FOLDER", requires = "replay")]
    pub(crate) replay_folder: Option<PathBuf>,
    /// Most time for one run of a graph, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) timeout: u64,
}
