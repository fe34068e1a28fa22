//! `nimctl pull` of a manifest, which NIM's commands are too.

use std::path::{Path, PathBuf};

use nimctl::digest::Sha256;
use nimctl::error_kind::ErrorKind;
use nimctl::manifest::{MANIFEST_FILE, Manifest};
use nimctl::oci::PlaceError;
use nimctl::ops::pull::{FromManifest, Outcome, PullOptions, Pulled};
use nimctl::ops::select::{SelectOptions, select};
use nimctl::profile::TagSelector;
use nimctl::registry::{Watch, WebFile, web_address};
use nimctl::selection::{Lora, find_pinned};
use nimctl::store::Store;
use nimctl::uri::shown;
use nimctl::worker::host::Cancel;

use super::admission::Admission;
use super::places::{Reach, client, tell};
use crate::cli::{DeviceArguments, Global, MirrorArgument, RegistryArguments};
use crate::exit::Failure;
use crate::output::Output;
use crate::progress::Bytes;
use crate::{devices, environment};

/// A manifest of a web server is at most this long, as one on the disk is.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;
/// At most so many files are named in a warning.
const NAMED_FILES: usize = 10;

/// What to pull.
pub(super) struct Request<'a> {
    /// A file, or the address of one.
    pub(super) manifest: &'a str,
    pub(super) profiles: Profiles<'a>,
    pub(super) devices: &'a DeviceArguments,
    pub(super) destination: Destination<'a>,
    pub(super) parallel: u8,
    pub(super) registries: &'a RegistryArguments,
    /// What judges the profiles before they are fetched.
    pub(super) admission: Option<&'a Admission>,
}

/// Which profiles.
pub(super) enum Profiles<'a> {
    All,
    Named(&'a [String]),
    /// The one that is chosen for each of these GPUs; with `single`, one for all of them.
    Chosen {
        lora: bool,
        single: bool,
    },
}

/// Where to.
pub(super) enum Destination<'a> {
    /// The store, and a folder if one is named.
    Folder(Option<&'a Path>),
    /// A folder of a cache, named after the model.
    Cache(&'a Path),
}

/// What came of it.
pub(super) struct Done {
    pub(super) digest: Sha256,
    pub(super) folder: Option<PathBuf>,
    pub(super) profiles: Vec<One>,
    /// `PROFILE/PATH` of files without a checksum.
    pub(super) unverified: Vec<String>,
    pub(super) manifest: Manifest,
}

/// A profile.
pub(super) struct One {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) pulled: Pulled,
}

/// Whether a user means a manifest: a file, or one of a web server.
pub(super) fn is_manifest(text: &str) -> bool {
    let path = if is_address(text) { text.split(['?', '#']).next().unwrap_or_default() } else { text };
    let extension = Path::new(path).extension().unwrap_or_default();
    ["yaml", "yml"].iter().any(|known| extension.eq_ignore_ascii_case(known))
        && (is_address(text) || Path::new(text).is_file())
}

fn is_address(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

/// Pulls profiles of a manifest.
pub(super) fn pull(
    request: &Request<'_>,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<Done, Failure> {
    let Request { manifest, profiles, devices, destination, parallel, registries, admission } = request;
    let (cancelled, notice) = (|| cancel.is_cancelled(), |notice| tell(output, notice));
    let reach = Reach { arguments: registries, watch: Watch { cancelled: &cancelled, notice: &notice } };
    let connect = || client(reach);
    // A manifest of a web server is kept here while it is read.
    let kept = tempfile::tempdir().map_err(|error| Failure::new(ErrorKind::Input, error))?;
    let mut web_folder = None;
    let path = if is_address(manifest) {
        let url = web_address(manifest).map_err(|error| Failure::new(ErrorKind::Input, error))?;
        let file = WebFile::new(url, None);
        let text = connect().get_small_file(&file, MAX_MANIFEST_BYTES).map_err(PlaceError::from)?;
        let path = kept.path().join(MANIFEST_FILE);
        fs_err::write(&path, text).map_err(|error| Failure::new(ErrorKind::Input, error))?;
        web_folder = Some(file.folder());
        path
    } else {
        PathBuf::from(manifest)
    };
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut sources = environment::uri_sources(folder);
    sources.web_folder = web_folder;
    sources.mappings = registries
        .mirrors
        .iter()
        .filter_map(|mirror| match mirror {
            MirrorArgument::Uri(mapping) => Some(mapping.clone()),
            MirrorArgument::Registry(_) => None,
        })
        .collect();
    let source = FromManifest::open(&path, &shown(manifest), &sources, &connect)?;
    let known = source.manifest();
    let ids = match profiles {
        Profiles::All => known.profiles.iter().map(|profile| profile.id.clone()).collect(),
        Profiles::Named(names) => {
            let id = |name: &String| {
                let place = find_pinned(&known.profiles, name);
                let place = place.map_err(|error| Failure::new(ErrorKind::Input, error))?;
                Ok(known.profiles[place].id.clone())
            };
            names.iter().map(id).collect::<Result<Vec<_>, Failure>>()?
        }
        Profiles::Chosen { lora, single } => {
            let store = environment::store_folder(global).ok();
            let ids = chosen(&path, *lora, devices, store.as_deref(), output)?;
            if *single && ids.len() > 1 {
                let message = "this host's GPUs need different profiles: name one of them with --profile";
                return Err(Failure::new(ErrorKind::Input, anyhow::Error::msg(message)));
            }
            ids
        }
    };
    if let Some(admission) = admission {
        let gate = admission.gate([path.as_path()], cancel)?;
        admission.check_listed(&gate, source.document(), &ids, output)?;
    }
    let folder = match destination {
        Destination::Folder(folder) => folder.map(Path::to_path_buf),
        Destination::Cache(cache) => Some(cache.join("nimctl").join(name_of(known, &source.digest))),
    };
    source.check(&ids, folder.as_deref())?;
    let open = || Ok::<_, Failure>(Store::open(&environment::store_folder(global)?)?);
    let store = source.needs_store(&ids).then(open).transpose()?;
    let name = |id: &str| {
        let profile = known.profiles.iter().find(|profile| profile.id == id);
        profile.map(nimctl::manifest::ManifestProfile::readable_name).unwrap_or_default()
    };
    let names: Vec<String> = ids.iter().map(|id| name(id)).collect();
    let bytes = Bytes::new(output, &names.join(", "));
    let options = PullOptions {
        parallel: usize::from(*parallel),
        cancelled: &cancelled,
        on_bytes: &|done, total| bytes.show(done, total),
    };
    let Outcome { profiles, unverified } = source.pull(&ids, store.as_ref(), folder.as_deref(), &options)?;
    bytes.finish();
    if !unverified.is_empty() {
        let named: Vec<&str> = unverified.iter().take(NAMED_FILES).map(String::as_str).collect();
        let more = unverified.len() - named.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        output.warning(&format!(
            "the manifest has no checksum for these files, which are not verified: {}{more}",
            named.join(", ")
        ));
    }
    let profiles = profiles.into_iter().map(|(id, pulled)| One { name: name(&id), id, pulled }).collect();
    Ok(Done { digest: source.digest, folder, profiles, unverified, manifest: known.clone() })
}

/// Returns the name of a model's folder in a cache.
fn name_of(manifest: &Manifest, digest: &Sha256) -> String {
    let name = match (&manifest.model, &manifest.release) {
        (Some(model), Some(release)) => format!("{model}-{release}"),
        (Some(model), None) => model.clone(),
        (None, _) => format!("manifest-{}", &digest.to_hex()[..12]),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = name.chars().map(|c| if is_plain(c) { c } else { '-' }).take(200).collect();
    name.trim_start_matches('.').to_owned()
}

/// Returns the ids of the profiles that selection chooses for these GPUs, by the manifest, what is beside it, and the store.
pub(super) fn chosen(
    manifest: &Path,
    lora: bool,
    arguments: &DeviceArguments,
    store: Option<&Path>,
    output: &Output,
) -> Result<Vec<String>, Failure> {
    let host = devices::host(arguments)?;
    super::select::warn_of_problems(&host, output);
    let selector = match environment::tag_selector(None) {
        Some((text, by)) => text
            .parse::<TagSelector>()
            .map_err(|error| Failure::new(ErrorKind::Input, anyhow::Error::new(error).context(by)))?,
        None => TagSelector::default(),
    };
    let options = SelectOptions {
        manifest,
        store,
        selector,
        pin: environment::pinned_profile(None),
        allow_unsafe: environment::allows_unsafe(),
        lora: if lora || environment::requests_lora() { Lora::Preferred } else { Lora::Excluded },
    };
    let report = select(&options, &host)?;
    report.check()?;
    let mut ids: Vec<String> = Vec::new();
    for answer in &report.answers {
        if let Some(place) = report.chosen(answer) {
            let profile = &report.profiles()[place];
            output.talk(&format!("{}: {}", answer.group.name(), profile.readable_name()));
            if !ids.contains(&profile.id) {
                ids.push(profile.id.clone());
            }
        }
    }
    Ok(ids)
}
