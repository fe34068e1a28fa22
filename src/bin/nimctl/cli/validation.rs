//! Arguments of `validate`.

use std::path::PathBuf;

use clap::Args;
use nimctl::ops::validate::Place;
use nimctl::recipe::Only;

use super::limits;

/// Arguments of `validate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Inputs come from the recipe's `samples`, bounds from its `validation`. A profile that runs on this machine is run (status
`executed`). For a plan that can't run here, the lowered graph is run on the CPU with its precision emulated (`static`).
Results are saved in the profiles' passports. For a manifest or profile ids, nimctl uses the recipe from which this machine
built them. Profiles that were pulled have none here: they are compared with the FP32 profile of their release if that was pulled
too, and otherwise only run and checked by themselves; the output says which. Their passports keep what the release found.

With a trust policy, it accepts every profile first, or nothing is loaded (docs/trust.md).

Exit codes: 1 the recipe, the manifest or the samples are wrong; 3 a profile failed, none was built, a file of the store is
damaged, or the trust policy refuses a profile; 5 a worker or its library is missing or was killed, memory ran out, or the requested provider is not available; 130
interrupted. With 1, 5 and 130, and for a damaged file, profiles keep the results that they had.

Examples:
  nimctl validate recipes/nvclip-demo.yaml
  nimctl validate manifests/nvclip-demo/model_manifest.yaml --gates
  nimctl validate recipes/nvclip-demo.yaml --only 'onnx-*'
  nimctl validate recipes/nvclip-demo.yaml --only onnx-fp16 --replay vision/opt/3
  nimctl pull registry.example.com/models/nvclip:2.0.0 -o nvclip && nimctl validate nvclip
  nimctl validate recipes/nvclip-demo.yaml --fleet fleet.yaml --store /scratch/nimctl/store
  nimctl validate recipes/minilm.yaml --output json")]
pub(crate) struct Validate {
    /// A recipe whose profiles were built, a manifest, the folder of a release, or profile ids.
    #[arg(required = true, value_name = "RECIPE|MANIFEST|FOLDER|PROFILE_ID")]
    pub(crate) subjects: Vec<String>,
    /// Only these profiles: tags (gpu=l4,precision=fp16), or a name, where * matches anything.
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) only: Option<Only>,
    #[command(flatten)]
    pub(crate) execution: super::execution::Execution,
    #[command(flatten)]
    pub(crate) fleet: super::FleetArguments,
    #[command(flatten)]
    pub(crate) trust: super::TrustArgument,
    /// Print the value and threshold of every gate, not only of failed ones.
    #[arg(long)]
    pub(crate) gates: bool,
    /// Run a single row of one profile again, and save its inputs and outputs as .npy files.
    #[arg(long, value_name = "GRAPH/SHAPES/ROW", conflicts_with = "gates")]
    pub(crate) replay: Option<Place>,
    /// The folder for the files of a replay [default: replay-GRAPH-SHAPES-ROW].
    #[arg(long, value_name = "FOLDER", requires = "replay")]
    pub(crate) replay_folder: Option<PathBuf>,
    /// The maximum time for one run of a graph, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = clap::value_parser!(u64).range(limits::SECONDS))]
    pub(crate) timeout: u64,
}
