//! Arguments of `publish`, `bundle`, `pull` and `mirror`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use nimctl::recipe::Only;
use nimctl::registry::Mirror;
use nimctl::uri::UriMapping;

use super::{DeviceArguments, limits};

/// How registries are reached.
#[derive(Debug, Args)]
pub(crate) struct RegistryArguments {
    /// Speak plain http to any host; to this machine it is spoken anyway.
    #[arg(long, help_heading = "Registries")]
    pub(crate) plain_http: bool,
    /// Ask another place first for what is below a host or a part of a name there. In manifests, with uris: fetch what begins with
    /// one from below another (ngc://=https://models.example.com/ngc).
    #[arg(long = "mirror", value_name = "FROM=TO", help_heading = "Registries")]
    pub(crate) mirrors: Vec<MirrorArgument>,
    /// Give up on a registry after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value = "86400", value_parser = clap::value_parser!(u64).range(limits::SECONDS), help_heading = "Registries")]
    pub(crate) time_limit: u64,
}

/// What is asked in place of something else.
#[derive(Clone, Debug)]
pub(crate) enum MirrorArgument {
    /// Another registry.
    Registry(Mirror),
    /// Another uri.
    Uri(UriMapping),
}

impl FromStr for MirrorArgument {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text.contains("://") { Ok(Self::Uri(text.parse()?)) } else { Ok(Self::Registry(text.parse()?)) }
    }
}

/// Arguments of `publish`.
#[derive(Debug, Args)]
#[command(after_help = "\
A place is one of
  HOST/NAME:TAG            a repository in a registry
  oci:FOLDER[:TAG]         a folder in the OCI image layout, which any web server can serve
  oci-archive:FILE[:TAG]   a tar of one, as skopeo reads it
Without a tag, it is the model's release.

A registry's login is that of docker and podman: `docker login HOST`, `skopeo login HOST`, credential helpers too.
Chunks that the release with the same tag has there, or the one of --from, are not sent again.

Examples:
  nimctl publish dist/nvclip-2.0.0 --to registry.example.com/models/nvclip:2.0.0
  nimctl publish recipes/nvclip-demo.yaml --to oci:/srv/models/nvclip
  nimctl publish recipes/nvclip-demo.yaml --only gpu=l4 --to localhost:5000/nvclip:trial
  nimctl publish dist/nvclip-2.0.1 --to registry.example.com/models/nvclip:2.0.1 --from 2.0.0")]
pub(crate) struct Publish {
    /// A release folder, or a recipe whose profiles are built.
    pub(crate) source: PathBuf,
    /// Of a recipe, only these profiles: tags (gpu=l4,precision=fp16), or a name, where * matches anything.
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) only: Option<Only>,
    /// Where to.
    #[arg(long, value_name = "PLACE")]
    pub(crate) to: String,
    /// The tag or digest of a release at the same place whose packs are used again.
    #[arg(long, value_name = "TAG")]
    pub(crate) from: Option<String>,
    /// How files travel.
    #[arg(long, value_enum, default_value = "packs")]
    pub(crate) layout: LayoutArgument,
    /// The signature of the release folder, to keep beside the release in a registry [default: SOURCE.sig, if it is there].
    #[arg(long, value_name = "FILE")]
    pub(crate) signature: Option<PathBuf>,
    /// The attestations of the release's profiles, to attach to them in a registry [default: SOURCE.attestations.jsonl, if it is there].
    #[arg(long, value_name = "FILE")]
    pub(crate) attestations: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) registries: RegistryArguments,
}

/// How files travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LayoutArgument {
    /// As chunks, in packs that profiles and releases share.
    Packs,
    /// Each as a layer with its path as title, for `oras pull` and `skopeo copy`.
    Files,
}

/// Arguments of `bundle`.
#[derive(Debug, Args)]
#[command(after_help = "\
The file is an OCI archive: `nimctl pull` takes it like a registry, and skopeo copies it to one.

Examples:
  nimctl bundle dist/nvclip-2.0.0 -o nvclip-2.0.0.tar
  nimctl pull nvclip-2.0.0.tar --all")]
pub(crate) struct Bundle {
    /// A release folder, or a recipe whose profiles are built.
    pub(crate) source: PathBuf,
    /// Of a recipe, only these profiles: tags (gpu=l4,precision=fp16), or a name, where * matches anything.
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) only: Option<Only>,
    /// The file to write; an older archive is replaced, and no other file.
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) destination: PathBuf,
}

/// Arguments of `pull`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --profile and --all, the profile that `nimctl select` chooses for this host's GPUs is pulled. Files go to the store; what
other files there share is not fetched, and everything is verified before it counts. A place is as in `nimctl publish --help`, or
  https://HOST/PATH[#TAG]  a web server of a folder in the OCI image layout
  MANIFEST.yaml            a manifest, or the https:// address of one, whose uris say where the files are: file:, https://, oci://,
                           s3://, hf://, and ngc:// with --mirror or NIM_REPOSITORY_OVERRIDE

Of a manifest, profiles that nimctl did not make go to the folder of -o alone, verified by the manifest's checksums.

With --key, --certificate-chain or a trust policy, the release must have a signature that is accepted and covers every file of it:
one that `nimctl publish` keeps in the registry, or the file of --signature. Nothing large is fetched before. The policy is that of
--trust, else of NIMCTL_TRUST, else /etc/nimctl/trust.yaml, else nimctl/trust.yaml in the user's configuration folder (~/.config).

With a policy, a release is refused that is older than the newest one of the model that was accepted in the store; --allow-rollback
takes it, and makes it the newest.

Exit codes: 3 the place gave other bytes than it should, no signature is accepted, or the release is a roll-back; 4 no profile fits.

Examples:
  nimctl pull registry.example.com/models/nvclip:2.0.0
  nimctl pull registry.example.com/models/nvclip:2.0.0 --device l4 -o nvclip
  nimctl pull registry.example.com/models/nvclip:2.0.0 --key release.pub
  nimctl pull nvclip-2.0.0.tar --profile onnx-fp16
  nimctl pull model_manifest.yaml --all -o model --mirror ngc://=https://models.example.com/ngc")]
pub(crate) struct Pull {
    /// Where the release is.
    #[arg(value_name = "PLACE")]
    pub(crate) from: String,
    /// The profiles to pull, each by its id, the beginning of it, or its readable name.
    #[arg(short, long = "profile", value_name = "PROFILE", conflicts_with = "all")]
    pub(crate) profiles: Vec<String>,
    /// Pull every profile.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) devices: DeviceArguments,
    /// Also lay the release out in this folder: the manifest, and the files of the pulled profiles.
    #[arg(short = 'o', long, value_name = "FOLDER")]
    pub(crate) destination: Option<PathBuf>,
    /// Parts that are fetched at the same time.
    #[arg(long, value_name = "COUNT", default_value = "4", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) parallel: u8,
    #[command(flatten)]
    pub(crate) accepted: AcceptedArguments,
    #[command(flatten)]
    pub(crate) registries: RegistryArguments,
}

/// Whose signatures are accepted.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct AcceptedArguments {
    /// The file with the public key that must have signed the release.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["certificate_chain", "trust"], help_heading = "Signature")]
    pub(crate) key: Option<PathBuf>,
    /// A file with the root certificates that the signer's must lead to, and perhaps some between; may be repeated.
    #[arg(long, value_name = "FILE", conflicts_with = "trust", help_heading = "Signature")]
    pub(crate) certificate_chain: Vec<PathBuf>,
    /// The trust policy that must accept the release.
    #[arg(long, value_name = "FILE", help_heading = "Signature")]
    pub(crate) trust: Option<PathBuf>,
    /// The signature, if it is not in the registry.
    #[arg(long, value_name = "FILE", help_heading = "Signature")]
    pub(crate) signature: Option<PathBuf>,
    /// The attestations of the profiles, if they are not in the registry.
    #[arg(long, value_name = "FILE", help_heading = "Signature")]
    pub(crate) attestations: Option<PathBuf>,
    /// Accept an older release than the newest one that a trust policy accepted here; it is the newest from now on.
    #[arg(long, conflicts_with_all = ["key", "certificate_chain"], help_heading = "Signature")]
    pub(crate) allow_rollback: bool,
}

/// Arguments of `mirror`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nimctl mirror registry.example.com/models/nvclip:2.0.0 oci:/srv/models/nvclip
  nimctl mirror nvclip-2.0.0.tar registry.local:5000/nvclip:2.0.0")]
pub(crate) struct MirrorRelease {
    /// Where the release is.
    #[arg(value_name = "FROM")]
    pub(crate) from: String,
    /// Where to copy it.
    #[arg(value_name = "TO")]
    pub(crate) to: String,
    #[command(flatten)]
    pub(crate) registries: RegistryArguments,
}
