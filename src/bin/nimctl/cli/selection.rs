//! Arguments of `select` and `list-model-profiles`.

use std::path::PathBuf;

use clap::Args;

use super::DeviceArguments;

/// Arguments of both commands.
#[derive(Debug, Args)]
pub(crate) struct SelectionArguments {
    /// The manifest [default: model_manifest.yaml in /opt/nim/etc/config/default, else in /opt/nim/etc/default].
    #[arg(short, long, value_name = "FILE", env = "NIMCTL_MANIFEST")]
    pub(crate) manifest: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) devices: DeviceArguments,
}

/// Arguments of `list-model-profiles`.
#[derive(Debug, Args)]
#[command(after_help = "\
The text has the layout of NIM's own list-model-profiles; --output json adds the reasons.
Installed or linked as `list-model-profiles`, nimctl runs this command.

Examples:
  nimctl list-model-profiles
  nimctl list-model-profiles -m manifests/nvclip-demo/model_manifest.yaml --device l4
  nimctl list-model-profiles --explain
  nimctl list-model-profiles --output json | jq -r '.compatible[].profile_id'")]
pub(crate) struct ListModelProfiles {
    #[command(flatten)]
    pub(crate) selection: SelectionArguments,
    /// Say why each profile that doesn't run is unsuitable.
    #[arg(long)]
    pub(crate) explain: bool,
}

/// Arguments of `select`.
#[derive(Debug, Args)]
#[command(after_help = "\
Name a profile by its id, by the first four or more characters of its id, by its readable name, or by a line of
list-model-profiles. These variables work as in NIM:
  NIM_MANIFEST_PROFILE, NIM_MODEL_PROFILE  the profile to use; the first overrides the second, both override --profile
  NIM_TAGS_SELECTOR                        like --tags, and overrides it
  NIM_PEFT_SOURCE                          if it is set, profiles with LoRA rank first; otherwise they are not chosen
  NIM_MANIFEST_ALLOW_UNSAFE                like --allow-unsafe, if it is 1 or true

With a trust policy, it must accept the profile that is chosen: nothing else is chosen in its place.

Exit codes: 1 no such profile, or the manifest can't be read; 3 the trust policy refuses the profile; 4 no profile fits, or the
named one doesn't.

Examples:
  nimctl select -m manifests/nvclip-demo/model_manifest.yaml
  nimctl select -m model_manifest.yaml --device h100-sxm,l4
  nimctl select -m model_manifest.yaml --profile tensorrt-rtx-l4-fp16
  nimctl select -m model_manifest.yaml --tags precision=fp16 --explain
  nimctl doctor --output json > host.json; nimctl select -m model_manifest.yaml --device-file host.json --id")]
pub(crate) struct Select {
    #[command(flatten)]
    pub(crate) selection: SelectionArguments,
    /// Use this profile, or fail if it doesn't fit.
    #[arg(short, long, value_name = "PROFILE")]
    pub(crate) profile: Option<String>,
    /// Choose only among profiles with these tags: precision=fp16,batch_size=64.
    #[arg(short, long, value_name = "TAGS")]
    pub(crate) tags: Option<String>,
    /// Use the named profile even if it doesn't fit.
    #[arg(long)]
    pub(crate) allow_unsafe: bool,
    #[command(flatten)]
    pub(crate) trust: super::TrustArgument,
    /// Say why each of the other profiles was not chosen.
    #[arg(long)]
    pub(crate) explain: bool,
    /// Print only the id of the chosen profile, one line for each kind of GPU.
    #[arg(long, conflicts_with = "explain")]
    pub(crate) id: bool,
}
