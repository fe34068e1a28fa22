//! Arguments of `select` and `list-model-profiles`.

use std::path::PathBuf;

use clap::Args;

use super::DeviceArguments;

/// What both commands take.
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
The text is laid out as NIM's own list-model-profiles does; --output json has the reasons too.
Installed or linked under the name `list-model-profiles`, nimctl is this command.

Examples:
  nimctl list-model-profiles
  nimctl list-model-profiles -m manifests/nvclip-demo/model_manifest.yaml --device l4
  nimctl list-model-profiles --explain
  nimctl list-model-profiles --output json | jq -r '.compatible[].profile_id'")]
pub(crate) struct ListModelProfiles {
    #[command(flatten)]
    pub(crate) selection: SelectionArguments,
    /// Say of each profile that doesn't run why not.
    #[arg(long)]
    pub(crate) explain: bool,
}

/// Arguments of `select`.
#[derive(Debug, Args)]
#[command(after_help = "\
A profile is named by its id, by four or more characters that its id begins with, by its readable name, or by a line of
list-model-profiles. The variables mean what they mean to NIM:
  NIM_MANIFEST_PROFILE, NIM_MODEL_PROFILE  the profile to use; the first goes before the second and before --profile
  NIM_TAGS_SELECTOR                        as --tags; goes before it
  NIM_MANIFEST_ALLOW_UNSAFE                as --allow-unsafe, if it is 1 or true

Exit codes: 1 no such profile, or a manifest that can't be read; 4 no profile fits, or the named one doesn't.

Examples:
  nimctl select -m manifests/nvclip-demo/model_manifest.yaml
  nimctl select -m model_manifest.yaml --device h100-sxm,l4
  nimctl select -m model_manifest.yaml --profile tensorrt-rtx-l4-fp16
  nimctl select -m model_manifest.yaml --tags precision=fp16 --explain
  nimctl doctor --output json > host.json; nimctl select -m model_manifest.yaml --device-file host.json --id")]
pub(crate) struct Select {
    #[command(flatten)]
    pub(crate) selection: SelectionArguments,
    /// This profile, or an error: never another one.
    #[arg(short, long, value_name = "PROFILE")]
    pub(crate) profile: Option<String>,
    /// Only profiles with these tags: precision=fp16,batch_size=64.
    #[arg(short, long, value_name = "TAGS")]
    pub(crate) tags: Option<String>,
    /// Take the named profile though it doesn't fit.
    #[arg(long)]
    pub(crate) allow_unsafe: bool,
    /// Say of every other profile why it was not chosen.
    #[arg(long)]
    pub(crate) explain: bool,
    /// Print the id of the chosen profile, and nothing else: a line for each kind of GPU.
    #[arg(long, conflicts_with = "explain")]
    pub(crate) id: bool,
}
