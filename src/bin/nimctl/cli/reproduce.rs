//! Arguments of `reproduce`.

use std::path::PathBuf;

use clap::Args;
use nimctl::recipe::Only;

use super::{RegistryArguments, TrustArgument, limits};

/// Arguments of `reproduce`.
#[derive(Debug, Args)]
#[command(after_help = "\
Builds every profile again from what the release says it was made from: the documents in its passports and contents.json decide, with
the installed toolchain, in a temporary store that is removed at the end. The source graphs are found by their digests in --graphs, or
are those of --recipe. Then each file is compared, and each profile's id.

A profile is
  identical       every file has the same bytes, and the id is the same
  equivalent      a plan has other bytes, and says the same as far as it was compared; the output lists what was compared
  different       a file, or what the profile was made from, differs; the first difference is named
  not_reproduced  it could not be built again: a graph, tool, backend or GPU is missing, or is another one than recorded

With --recipe, fields in which the recipe differs from what was recorded make a profile different, even if the rebuild is identical.

Exit codes: 1 the release, the recipe or --graphs cannot be read; 3 a profile is different, or the release is damaged; 5 nothing is
different, but a profile could not be built again.

Examples:
  nimctl reproduce dist/nvclip-demo --recipe recipes/nvclip-demo.yaml
  nimctl reproduce registry.example.com/models/nvclip:2.0.0 --graphs models
  nimctl reproduce oci:/srv/models/nvclip --graphs models --only 'onnx-*' --output json")]
pub(crate) struct Reproduce {
    /// The release: its folder, or a place as for `nimctl pull`.
    #[arg(value_name = "RELEASE")]
    pub(crate) release: String,
    /// A file or folder with source graphs, which are found by their digests whatever their names; may be repeated.
    #[arg(long, value_name = "PATH")]
    pub(crate) graphs: Vec<PathBuf>,
    /// A recipe with the source graphs, and to compare with; may be repeated, for a release of several recipes.
    #[arg(long = "recipe", value_name = "RECIPE")]
    pub(crate) recipes: Vec<PathBuf>,
    /// Only these profiles: tags (gpu=l4,precision=fp16), or a name, where * matches anything.
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) only: Option<Only>,
    /// Run plans that differ, released and rebuilt, if their compiler may give other plans of the same request: TensorRT (not for RTX) and
    /// backends of others. They are equivalent if both pass the default gates beside the FP32 graph. Released plans are native code:
    /// verify the release's signature first, or have a trust policy in place, which is asked then.
    #[arg(long)]
    pub(crate) run: bool,
    #[command(flatten)]
    pub(crate) trust: TrustArgument,
    /// The folder for the temporary store [default: the system's folder for temporary files].
    #[arg(long, value_name = "FOLDER")]
    pub(crate) work_dir: Option<PathBuf>,
    /// The maximum number of concurrent jobs [default: the number of cores].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(limits::JOBS))]
    pub(crate) jobs: Option<u16>,
    /// The maximum time for one compilation, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "7200", value_parser = clap::value_parser!(u64).range(limits::SECONDS))]
    pub(crate) job_timeout: u64,
    #[command(flatten)]
    pub(crate) registries: RegistryArguments,
}
