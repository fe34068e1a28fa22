//! Arguments of `sbom`.

use std::path::PathBuf;

use clap::Args;

use super::RegistryArguments;

/// Arguments of `sbom`.
#[derive(Debug, Args)]
#[command(after_help = "\
The bill is CycloneDX 1.6 in JSON. It lists each profile with the digests of its files, its inputs, and what was validated and
measured; the source graphs; the libraries that built and ran the profiles, with versions, digests and licences; and the data that
calibrated and judged them, as far as passports name it. Of a published release, only documents and passports are fetched.

The same release gives the same bytes. The passports are checked against the ids of their profiles; `nimctl verify` checks the files
too.

Exit codes: 1 there is no release, or it can't be read; 3 a passport is not that of its profile.

Examples:
  nimctl sbom dist/nvclip-2.0.0 -o nvclip-2.0.0.cdx.json
  nimctl sbom registry.example.com/models/nvclip:2.0.0
  nimctl sbom oci:/srv/models/nvclip:2.0.0 -o nvclip.cdx.json")]
pub(crate) struct Sbom {
    /// A release folder, or a place as in `nimctl pull`.
    #[arg(value_name = "RELEASE")]
    pub(crate) release: String,
    /// The file to write [default: standard output].
    #[arg(short = 'o', long = "output-file", value_name = "FILE")]
    pub(crate) destination: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) registries: RegistryArguments,
}
