//! Arguments of `init`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nimctl init model.onnx --gpus l4,rtx-5090
  nimctl init vision.onnx text.onnx --name clip --release 2.1.0
  nimctl init model.onnx -o -
  nimctl init model.onnx && nimctl build recipe.yaml && nimctl validate recipe.yaml

Without --gpus, the recipe is for the NVIDIA GPUs of this host, and for the generic profile in any case. It asks nothing;
where a person must decide, the recipe says DECIDE. With an ONNX Runtime worker at hand, each graph is run in the proposed
shapes, and others are tried if that fails.

Exit codes:
  0  the recipe was written, and is valid
  1  a file is not an ONNX model, a GPU is unknown, or the recipe already exists
  2  usage")]
pub(crate) struct Init {
    /// The ONNX files of the model; each becomes a graph.
    #[arg(required = true, value_name = "MODEL.onnx")]
    pub(crate) models: Vec<PathBuf>,
    /// The GPUs to build for, by name, separated by commas: `l4,rtx-5090`.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) gpus: Vec<String>,
    /// The recipe to write; `-` prints it.
    #[arg(short = 'o', long = "output-file", value_name = "FILE", default_value = "recipe.yaml")]
    pub(crate) destination: PathBuf,
    /// The model's name [default: made from the files' names].
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The model's release.
    #[arg(long, default_value = "1.0.0")]
    pub(crate) release: String,
    /// Replace a recipe that already exists.
    #[arg(long)]
    pub(crate) force: bool,
    /// Run no graph: propose from the files alone.
    #[arg(long)]
    pub(crate) no_trial: bool,
}
