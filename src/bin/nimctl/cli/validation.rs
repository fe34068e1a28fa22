//! Arguments of `validate`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `validate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Inputs are the recipe's `samples`. Profiles that run here are run: `executed`. In place of plans that can't run here, the
lowered graph is run on the CPU with its precision emulated: `static`. Results go into the profiles' passports.

Exit codes: 1 the recipe, or its samples; 3 a profile failed, or none was built; 5 the onnxruntime worker is missing or broke.

Examples:
  nimctl validate recipes/nvclip-demo.yaml
  nimctl validate recipes/nvclip-demo.yaml --only 'onnx-*' --gates
  nimctl validate recipes/minilm.yaml --output json")]
pub(crate) struct Validate {
    /// The recipe whose profiles were built.
    pub(crate) recipe: PathBuf,
    /// Only these profiles: tags (gpu=l4,precision=fp16), or a name in which * stands for anything.
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) only: Option<String>,
    /// Print every gate's value beside its threshold, not only those that don't hold.
    #[arg(long)]
    pub(crate) gates: bool,
    /// Most time for one run of a graph, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) timeout: u64,
}
