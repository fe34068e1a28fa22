//! Arguments of `explain`.

use std::path::PathBuf;

use clap::Args;
use nimctl::recipe::Only;

use super::RegistryArguments;

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
For each profile: what it was made from, by which toolchain, and where; why it is another one than in an earlier release, field by field;
what was found by running it; who signed what; and what the trust policy says. Nothing is pulled and nothing is run.

Signatures are verified with --key, --certificate-chain or the trust policy in place; without any, it only shows whose they say they are.

Exit codes: 1 no such profile or release. What is refused is part of the story: `nimctl verify` and `nimctl pull` refuse it.

Examples:
  nimctl explain dist/2.0.1 --baseline dist/2.0.0
  nimctl explain registry.example.com/models/nvclip:2.0.1 --only gpu=l4 --trust trust.yaml
  nimctl explain b890333f179c8b907ed7c246924373bc552f044ad7f8bbe2a4cc6763d415deab --output json")]
pub(crate) struct Explain {
    /// A release: its folder, or where it was published. Or the id of a profile in the store.
    #[arg(value_name = "PROFILE|RELEASE")]
    pub(crate) subject: String,
    /// Only these profiles: tags (gpu=l4,precision=fp16), or a name, where * matches anything.
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) only: Option<Only>,
    /// An earlier release to compare with: its folder, or where it was published.
    #[arg(long, value_name = "RELEASE")]
    pub(crate) baseline: Option<String>,
    /// The file with the public key whose signatures are verified.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["certificate_chain", "trust"], help_heading = "Signature")]
    pub(crate) key: Option<PathBuf>,
    /// A file with the root certificates that the signer's must lead to, and perhaps some between; may be repeated.
    #[arg(long, value_name = "FILE", conflicts_with = "trust", help_heading = "Signature")]
    pub(crate) certificate_chain: Vec<PathBuf>,
    /// The trust policy to ask.
    #[arg(long, value_name = "FILE", help_heading = "Signature")]
    pub(crate) trust: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) registries: RegistryArguments,
}
