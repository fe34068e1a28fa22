//! Arguments of `sign`, `attest`, `verify` and `trust`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

/// Arguments of `sign`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("private-key").args(["key", "key_fd", "key_env"]).required(true), after_help = "\
Signs the name and SHA-256 of every file, in the format of OpenSSF model signing (a Sigstore bundle), which `model_signing verify`
reads too. The same key and files give the same signature.

The key is ECDSA on P-256, P-384 or P-521, in PEM: PKCS#8, which may be encrypted, or SEC1. Its text is never an argument: others
can read those.

.git, .gitattributes, .github, .gitignore and the signature itself are left out.

Exit codes: 1 the model, the key or a certificate is wrong.

Examples:
  nimctl sign dist/nvclip --key release.key
  nimctl sign dist/nvclip.tar --key release.key --password-env RELEASE_KEY_PASSWORD
  nimctl sign dist/nvclip --key-env RELEASE_KEY --signature nvclip.sig --ignore dist/nvclip/notes
  nimctl sign dist/nvclip --key-fd 3 3< <(pass show release.key)
  nimctl sign dist/nvclip --key release.key --certificate release.pem --chain authority.pem")]
pub(crate) struct Sign {
    /// The model: a folder, or one file.
    #[arg(value_name = "PATH")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) private_key: PrivateKey,
    /// Where to write the signature [default: PATH.sig].
    #[arg(long, value_name = "FILE")]
    pub(crate) signature: Option<PathBuf>,
    /// A file or folder in the model to leave out, as a path from here; may be repeated.
    #[arg(long, value_name = "PATH")]
    pub(crate) ignore: Vec<PathBuf>,
    /// Sign the bytes that symbolic links to files lead to.
    #[arg(long)]
    pub(crate) allow_symlinks: bool,
}

/// The key that signs.
#[derive(Debug, Args)]
pub(crate) struct PrivateKey {
    /// The file with the private key.
    #[arg(long, value_name = "FILE", allow_hyphen_values = true, help_heading = "Signature")]
    pub(crate) key: Option<PathBuf>,
    /// The open file descriptor to read the private key from.
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = "Signature")]
    pub(crate) key_fd: Option<String>,
    /// The environment variable that has the private key.
    #[arg(long, value_name = "NAME", allow_hyphen_values = true, help_heading = "Signature")]
    pub(crate) key_env: Option<String>,
    /// The environment variable that has the password of the key.
    #[arg(
        long,
        value_name = "NAME",
        allow_hyphen_values = true,
        requires = "private-key",
        help_heading = "Signature"
    )]
    pub(crate) password_env: Option<String>,
    /// The file with the certificate of the key.
    #[arg(long, value_name = "FILE", requires = "private-key", help_heading = "Signature")]
    pub(crate) certificate: Option<PathBuf>,
    /// A file with certificates between that of the key and the root; may be repeated.
    #[arg(long, value_name = "FILE", requires = "certificate", help_heading = "Signature")]
    pub(crate) chain: Vec<PathBuf>,
}

impl PrivateKey {
    /// Returns whether there is one.
    pub(crate) fn is_given(&self) -> bool {
        self.key.is_some() || self.key_fd.is_some() || self.key_env.is_some()
    }
}

/// Who is named as the builder if nobody says otherwise.
pub(crate) const BUILDER: &str = "https://nimctl.org/builder/local";

/// Arguments of `attest`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("private-key").args(["key", "key_fd", "key_env"]).required(true), after_help = "\
Writes what the passports of a release say as signed in-toto statements, one Sigstore bundle a line: of each profile its provenance (SLSA
provenance v1: graphs, toolchain by digest, every field of each build key), the result of its validation, and its benchmark. `nimctl publish`
attaches them to the profiles in a registry; `nimctl verify` compares them with the release.

The same key and release give the same bytes. The key is one as for `nimctl sign`.

Exit codes: 1 the release, the key or a certificate is wrong.

Examples:
  nimctl attest dist/nvclip --key release.key
  nimctl attest dist/nvclip --key-env RELEASE_KEY --builder-id https://ci.example.com/nightly")]
pub(crate) struct Attest {
    /// The folder of the release.
    #[arg(value_name = "RELEASE")]
    pub(crate) release: PathBuf,
    #[command(flatten)]
    pub(crate) private_key: PrivateKey,
    /// The URI of what ran the build, as the provenance names it.
    #[arg(long, value_name = "URI", default_value = BUILDER)]
    pub(crate) builder_id: String,
    /// Where to write the attestations [default: RELEASE.attestations.jsonl].
    #[arg(long, value_name = "FILE")]
    pub(crate) attestations: Option<PathBuf>,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("trusted").args(["key", "certificate_chain", "trust"]), after_help = "\
Without a key or certificates, it recomputes every digest and id of a release, and compares SHA256SUMS, the manifest, each
contents.json and each passport with them.

With a key or certificates, it verifies the signature of a model (any folder or file), then every file against it: one that was
changed, added, removed, renamed, swapped or replaced by a symbolic link is listed. `nimctl sign` and `model_signing sign` make
such signatures, with a key or a certificate.

Attestations beside a release must be signed by the same, be about its profiles, and say what their passports say.

With a trust policy, it verifies the signature of a release folder, every file, and that a rule of the policy accepts its signer, model,
release and passports. The policy is that of --trust, else of NIMCTL_TRUST, else /etc/nimctl/trust.yaml, else nimctl/trust.yaml in the
user's configuration folder (~/.config). --key and --certificate-chain are used in its place.

Exit codes: 1 neither a folder nor a tar archive, or the key can't be read; 3 a file does not match (every such file is listed), or
the signature is missing or not accepted, or the trust policy refuses the release or can't be read.

Examples:
  nimctl verify dist/nvclip-demo
  nimctl verify dist/nvclip-demo.tar --output json
  nimctl verify dist/nvclip --key release.pub
  nimctl verify dist/nvclip --key release.pub --signature nvclip.sig --ignore-unsigned-files
  nimctl verify dist/nvclip --certificate-chain root.pem
  nimctl verify dist/nvclip --trust trust.yaml")]
pub(crate) struct Verify {
    /// The release: its folder, or its tar archive. With a key or certificates: any folder or file.
    #[arg(value_name = "PATH")]
    pub(crate) release: PathBuf,
    /// The file with the public key that must have signed it.
    #[arg(long, value_name = "FILE", help_heading = "Signature")]
    pub(crate) key: Option<PathBuf>,
    /// A file with the root certificates that the signer's must lead to, and perhaps some between; may be repeated.
    #[arg(long, value_name = "FILE", help_heading = "Signature")]
    pub(crate) certificate_chain: Vec<PathBuf>,
    /// The trust policy that must accept it.
    #[arg(long, value_name = "FILE", help_heading = "Signature")]
    pub(crate) trust: Option<PathBuf>,
    /// The signature [default: PATH.sig].
    #[arg(long, value_name = "FILE", help_heading = "Signature")]
    pub(crate) signature: Option<PathBuf>,
    /// The attestations of the release's profiles [default: PATH.attestations.jsonl, if it is there].
    #[arg(long, value_name = "FILE", help_heading = "Signature")]
    pub(crate) attestations: Option<PathBuf>,
    /// A file or folder in the model that need not be signed, as a path from here; may be repeated.
    #[arg(
        long,
        value_name = "PATH",
        requires = "trusted",
        conflicts_with = "trust",
        help_heading = "Signature"
    )]
    pub(crate) ignore: Vec<PathBuf>,
    /// Accept files that are not signed.
    #[arg(long, requires = "trusted", conflicts_with = "trust", help_heading = "Signature")]
    pub(crate) ignore_unsigned_files: bool,
    /// Follow symbolic links to files, if the signature was made so.
    #[arg(long, help_heading = "Signature")]
    pub(crate) allow_symlinks: bool,
}

/// Which policy judges the profiles that a command uses.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct TrustArgument {
    /// The trust policy that must accept the profiles [default: that of NIMCTL_TRUST, the host or the user, if there is one].
    #[arg(long, value_name = "FILE", help_heading = "Signature")]
    pub(crate) trust: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Trust {
    /// Write a first trust policy: the signatures of one key, for some models.
    #[command(after_help = "\
Put it where hosts find it: /etc/nimctl/trust.yaml, or nimctl/trust.yaml in the user's configuration folder (~/.config), with the key
beside it.

Examples:
  nimctl trust init release.pub --model 'nvclip-*'
  nimctl trust init release.pub --model nvclip-demo --model minilm -o trust/trust.yaml")]
    Init {
        /// The file with the public key.
        #[arg(value_name = "KEY")]
        key: PathBuf,
        /// A name of models, in which * matches anything; may be repeated.
        #[arg(long = "model", value_name = "PATTERN", required = true)]
        models: Vec<String>,
        /// The file to write.
        #[arg(short = 'o', long, value_name = "FILE", default_value = "trust.yaml")]
        destination: PathBuf,
        /// Overwrite the file if it is there.
        #[arg(long)]
        force: bool,
    },
    /// Check a trust policy, with its keys and certificates, and show its rules.
    #[command(after_help = "\
Exit codes: 1 the policy, a key or a certificate is wrong.

Example:
  nimctl trust check /etc/nimctl/trust.yaml")]
    Check {
        /// The policy.
        #[arg(value_name = "FILE")]
        policy: PathBuf,
    },
}
