//! Arguments of NIM's commands that fetch.

use std::path::PathBuf;

use clap::Args;

use super::{DeviceArguments, RegistryArguments};

/// Arguments of `download-to-cache`.
#[derive(Debug, Args)]
#[command(after_help = "\
The profile is that of --profiles, else of NIM_MANIFEST_PROFILE or NIM_MODEL_PROFILE, else the one that `nimctl select` chooses for
this host's GPUs. It is fetched as `nimctl pull MANIFEST -o FOLDER` does, into the folder nimctl/<model>-<release> of the cache.
Installed or linked as `download-to-cache`, nimctl runs this command. Variables, as in NIM:
  NIM_CACHE_PATH           the cache [default: /opt/nim/.cache]
  NIM_MANIFEST_PATH        the manifest
  NIM_REPOSITORY_OVERRIDE  where the files of ngc:// uris are: s3://BUCKET/ or https://HOST/PATH
  NIM_TAGS_SELECTOR        the profile must have these tags
With a trust policy, it must accept every profile before anything is fetched: as `nimctl pull` took it under a signature before.

Exit codes: 1 the manifest or a uri is wrong; 3 other bytes came than expected, or the trust policy refuses a profile; 4 no profile fits.

Examples:
  nimctl download-to-cache
  nimctl download-to-cache --profiles tensorrt-rtx-l4-fp16 onnx-fp16 --manifest-file model_manifest.yaml
  NIM_CACHE_PATH=cache NIM_REPOSITORY_OVERRIDE=s3://models/ nimctl download-to-cache --all")]
pub(crate) struct DownloadToCache {
    /// The profiles, each by its id, the beginning of it, or its readable name.
    #[arg(short, long, visible_alias = "profile", value_name = "PROFILE", num_args = 0.., conflicts_with = "all")]
    pub(crate) profiles: Vec<String>,
    /// Fetch every profile.
    #[arg(long)]
    pub(crate) all: bool,
    /// Choose a profile that serves LoRA adapters.
    #[arg(long, conflicts_with_all = ["profiles", "all"])]
    pub(crate) lora: bool,
    #[command(flatten)]
    pub(crate) nim: NimArguments,
    /// The manifest [default: that of NIM_MANIFEST_PATH, else the container's].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) manifest_file: Option<PathBuf>,
}

/// Arguments of `create-model-store`.
#[derive(Debug, Args)]
#[command(after_help = "\
The profile is fetched into the cache if it is not there, as `nimctl download-to-cache` does, and its files are copied to the folder.
Installed or linked as `create-model-store`, nimctl runs this command. With a trust policy, it must accept the profile.

Examples:
  nimctl create-model-store --profile tensorrt-rtx-l4-fp16 --model-store models
  nimctl create-model-store --model-store models --manifest-file model_manifest.yaml")]
pub(crate) struct CreateModelStore {
    /// The profile, by its id, the beginning of it, or its readable name [default: as for `download-to-cache`].
    #[arg(short, long, value_name = "PROFILE")]
    pub(crate) profile: Option<String>,
    /// The folder for the profile's files: an absent or empty one.
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) model_store: PathBuf,
    #[command(flatten)]
    pub(crate) nim: NimArguments,
    /// The manifest [default: that of NIM_MANIFEST_PATH, else the container's].
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest_file: Option<PathBuf>,
}

/// Arguments of both.
#[derive(Debug, Args)]
pub(crate) struct NimArguments {
    /// The folder of the cache [default: that of NIM_CACHE_PATH, else /opt/nim/.cache].
    #[arg(long, value_name = "FOLDER")]
    pub(crate) cache: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) devices: DeviceArguments,
    /// Files that are fetched at the same time.
    #[arg(long, value_name = "COUNT", default_value = "4", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) parallel: u8,
    #[command(flatten)]
    pub(crate) trust: super::TrustArgument,
    #[command(flatten)]
    pub(crate) registries: RegistryArguments,
}
