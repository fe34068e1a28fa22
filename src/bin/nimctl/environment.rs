//! The environment variables, read in one place.

#![expect(clippy::disallowed_methods, reason = "the environment is read here only")]

use std::ffi::OsString;
use std::io::ErrorKind as ErrorKindOfIo;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nimctl::device::VisibleDevices;
use nimctl::error_kind::ErrorKind;
use nimctl::exchange::Claim;
use nimctl::manifest::MANIFEST_FILE;
use nimctl::ops::fleet::UsedFleet;
use nimctl::ops::read_manifest::ReadManifestError;
use nimctl::ops::workspace::Workspace;
use nimctl::registry::CredentialSource;
use nimctl::toolchain::{Lock, Pip, Places, STANDARD_LIBRARY_FOLDERS, Tool};
use nimctl::uri::Sources;
use nimctl::worker::discover::SearchPath;
use nimctl::worker::host::Cancel;
use zeroize::Zeroizing;

use crate::cli::{FleetArguments, Global};
use crate::exit::Failure;

/// Returns the user's data folder: `--data-dir`, `NIMCTL_DATA_DIR`, else the XDG data folder.
pub(crate) fn data_folder(global: &Global) -> Result<PathBuf, Failure> {
    let from_home = || {
        std::env::var_os("HOME")
            .filter(|home| !home.is_empty())
            .map(|home| PathBuf::from(home).join(".local/share"))
    };
    let absolute = |path: &PathBuf| path.is_absolute();
    match &global.data_dir {
        Some(folder) => Ok(folder.clone()),
        None => std::env::var_os("XDG_DATA_HOME")
            .map(PathBuf::from)
            .filter(absolute)
            .or_else(from_home)
            .map(|folder| folder.join("nimctl"))
            .ok_or_else(|| {
                Failure::new(
                    ErrorKind::Input,
                    anyhow::anyhow!("there is no home folder: set --data-dir or NIMCTL_DATA_DIR"),
                )
            }),
    }
}

/// Returns the folder of the store: `--store`, `NIMCTL_STORE`, else `store` in the data folder.
pub(crate) fn store_folder(global: &Global) -> Result<PathBuf, Failure> {
    match &global.store {
        Some(folder) => Ok(folder.clone()),
        None => Ok(data_folder(global)?.join("store")),
    }
}

/// Returns the places where toolchains are kept and searched for.
pub(crate) fn places(global: &Global) -> Result<Places, Failure> {
    let mut places = Places::new(data_folder(global)?);
    if let Some(lock) = &global.toolchain_lock {
        places.lock = Lock::read(lock)?;
    }
    for (tool, path) in [
        (Tool::OnnxRuntime, &global.onnxruntime_lib),
        (Tool::TensorrtRtx, &global.tensorrt_rtx_lib),
        (Tool::Tensorrt, &global.tensorrt_lib),
    ] {
        if let Some(path) = path {
            places.overrides.insert(tool, path.clone());
        }
    }
    if let Some(path) = std::env::var_os(Tool::Libclang.override_variable()) {
        places.overrides.insert(Tool::Libclang, path.into());
    }
    let loader_path = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    places.loader_folders = std::env::split_paths(&loader_path)
        .filter(|folder| !folder.as_os_str().is_empty())
        .chain(STANDARD_LIBRARY_FOLDERS.into_iter().map(PathBuf::from))
        .collect();
    Ok(places)
}

/// Returns the workspace that every operation needs.
pub(crate) fn workspace(global: &Global, job_timeout_s: u64, cancel: &Cancel) -> Result<Workspace, Failure> {
    Ok(Workspace {
        store: store_folder(global)?,
        places: places(global)?,
        pip: Pip::default(),
        search_path: search_path(),
        parallel_jobs: std::thread::available_parallelism().map_or(1, usize::from),
        job_timeout: Duration::from_secs(job_timeout_s),
        secrets: Vec::new(),
        fleet: None,
        cancel: cancel.clone(),
    })
}

/// Adds the fleet that the arguments name to a workspace.
pub(crate) fn use_fleet(workspace: &mut Workspace, arguments: &FleetArguments) -> Result<(), Failure> {
    let FleetArguments { fleet, refresh_fleet } = arguments;
    let Some(path) = fleet else { return Ok(()) };
    let failed = |error| Failure::new(ErrorKind::Unavailable, error);
    let program = std::env::current_exe().map_err(failed)?;
    // On a node, nothing is relative to this folder.
    workspace.store = std::path::absolute(&workspace.store).map_err(failed)?;
    // Of another cluster, or with an `sbatch` that waits for the job, nothing here would work.
    let is_harmful = |name: &str| ["SBATCH_WAIT", "SBATCH_CLUSTERS"].contains(&name);
    let is_for_jobs =
        |name: &str| FOR_JOBS.contains(&name) || (name.starts_with("SBATCH_") && !is_harmful(name));
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| is_for_jobs(name))
        .collect();
    let credentials = registry_credentials();
    workspace.fleet = Some(UsedFleet::read(path, *refresh_fleet, program, environment, credentials)?);
    Ok(())
}

/// What Slurm's commands need of the environment. Jobs get it, too, and others may read it there.
const FOR_JOBS: [&str; 7] = ["HOME", "LANG", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "SLURM_CONF", "USER"];

/// Returns which request of a batch a pod of an Indexed Job answers.
pub(crate) fn job_index() -> Result<Option<usize>, Failure> {
    const VARIABLE: &str = "JOB_COMPLETION_INDEX";
    let Some(text) = text_of(VARIABLE) else { return Ok(None) };
    let wrong = |_| {
        Failure::new(
            ErrorKind::Input,
            anyhow::anyhow!("{VARIABLE} is `{text}`: expected the index of a pod, which Kubernetes sets"),
        )
    };
    text.parse().map(Some).map_err(wrong)
}

/// Returns the folder for files of a while.
pub(crate) fn temporary_folder() -> PathBuf {
    std::env::temp_dir()
}

/// Returns what the engine calls this task and this node; outside of a job, the process and the machine.
pub(crate) fn claim() -> Claim {
    let of = |names: &[&str]| names.iter().find_map(|name| text_of(name));
    let job = of(&["SLURM_ARRAY_JOB_ID", "SLURM_JOB_ID"]);
    let task = match (job, text_of("SLURM_ARRAY_TASK_ID")) {
        (Some(job), Some(task)) => format!("{job}_{task}"),
        (Some(job), None) => job,
        (None, _) => format!("process {}", std::process::id()),
    };
    let host_name = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    Claim { task, node: of(&["NIMCTL_NODE", "SLURMD_NODENAME"]).unwrap_or_else(host_name) }
}

/// Returns the search path for workers.
pub(crate) fn search_path() -> SearchPath {
    let program = std::env::current_exe().ok();
    SearchPath::new(
        program.as_deref(),
        std::env::var_os("NIMCTL_BACKENDS").as_deref(),
        std::env::var_os("PATH").as_deref(),
    )
}

/// Returns the NVML library that `NIMCTL_NVML_LIB` names: the file, or its folder.
pub(crate) fn nvml_library() -> Option<PathBuf> {
    let path = std::env::var_os("NIMCTL_NVML_LIB").filter(|path| !path.is_empty()).map(PathBuf::from)?;
    Some(if path.is_dir() { path.join(nimctl::nvml::LIBRARY) } else { path })
}

/// Returns where credentials for registries are.
pub(crate) fn registry_credentials() -> CredentialSource {
    CredentialSource::from_environment(|name| std::env::var_os(name))
}

/// Returns where the uris of a manifest in this folder lead.
pub(crate) fn uri_sources(folder: &Path) -> Sources {
    Sources::from_environment(folder, |name| text_of(name).map(OsString::from))
}

/// Returns the manifest of NIM's commands: the named one, that of `NIM_MANIFEST_PATH` (a file or its folder), else as for others.
pub(crate) fn nim_manifest(named: Option<&Path>) -> Result<PathBuf, Failure> {
    let named = named.map(Path::to_path_buf).or_else(|| text_of("NIM_MANIFEST_PATH").map(PathBuf::from));
    let named = named.map(|path| if path.is_dir() { path.join(MANIFEST_FILE) } else { path });
    manifest(named.as_deref()).map_err(|failure| {
        let has_hint = failure.hint.is_some();
        failure.hint(has_hint.then(|| "set its path with --manifest-file or NIM_MANIFEST_PATH".to_owned()))
    })
}

/// Returns the folder of NIM's cache: the named one, `NIM_CACHE_PATH`, else where containers have it.
pub(crate) fn nim_cache(named: Option<&Path>) -> PathBuf {
    let of_environment = || text_of("NIM_CACHE_PATH").map(PathBuf::from);
    named.map(Path::to_path_buf).or_else(of_environment).unwrap_or_else(|| CONTAINER_CACHE.into())
}

/// Returns which GPUs programs may see.
pub(crate) fn visible_devices() -> VisibleDevices {
    let value = |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    VisibleDevices { container: value("NVIDIA_VISIBLE_DEVICES"), cuda: value("CUDA_VISIBLE_DEVICES") }
}

/// Where a host has its trust policy.
const HOST_TRUST: &str = "/etc/nimctl/trust.yaml";

/// Returns the trust policy in place, and what says so: `--trust`, `NIMCTL_TRUST`, the host's, the user's. One that is there and can't
/// be read is in place too.
pub(crate) fn trust_policy(flag: Option<&Path>) -> Option<(PathBuf, &'static str)> {
    if let Some(path) = flag {
        return Some((path.into(), "--trust"));
    }
    if let Some(path) = std::env::var_os("NIMCTL_TRUST").filter(|path| !path.is_empty()) {
        return Some((path.into(), "NIMCTL_TRUST"));
    }
    let absolute = |path: &PathBuf| path.is_absolute();
    let configuration = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(absolute);
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(absolute);
    let users = configuration.or_else(|| Some(home?.join(".config")));
    let users = users.map(|folder| (folder.join("nimctl/trust.yaml"), "of the user"));
    let is_there = |(path, _): &(PathBuf, &str)| match fs_err::symlink_metadata(path) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ErrorKindOfIo::NotFound | ErrorKindOfIo::NotADirectory),
    };
    [Some((PathBuf::from(HOST_TRUST), "of the host")), users].into_iter().flatten().find(is_there)
}

/// Where NIM containers keep their manifest.
const CONTAINER_MANIFESTS: [&str; 2] =
    ["/opt/nim/etc/config/default/model_manifest.yaml", "/opt/nim/etc/default/model_manifest.yaml"];

/// Where NIM containers keep what they fetched.
const CONTAINER_CACHE: &str = "/opt/nim/.cache";

/// Returns the manifest to read: the named one, else the container's.
pub(crate) fn manifest(named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = named {
        return Ok(path.to_path_buf());
    }
    let tried: Vec<PathBuf> = CONTAINER_MANIFESTS.iter().map(PathBuf::from).collect();
    if let Some(path) = tried.iter().find(|path| path.is_file()) {
        return Ok(path.clone());
    }
    let hint = "set its path with --manifest or NIMCTL_MANIFEST".to_owned();
    Err(Failure::from(ReadManifestError::NotFound { tried }).hint(Some(hint)))
}

/// Returns the requested profile, and the variable or option that requests it; `flag` is the value of `--profile`.
pub(crate) fn pinned_profile(flag: Option<&str>) -> Option<(String, &'static str)> {
    ["NIM_MANIFEST_PROFILE", "NIM_MODEL_PROFILE"]
        .into_iter()
        .find_map(|name| Some((text_of(name).filter(|text| !means_any_profile(text))?, name)))
        .or_else(|| Some((flag?.to_owned(), "--profile")))
}

/// Returns the tag selector of `NIM_TAGS_SELECTOR`, else that of `--tags`, and which of the two it is.
pub(crate) fn tag_selector(flag: Option<&str>) -> Option<(String, &'static str)> {
    text_of("NIM_TAGS_SELECTOR")
        .map(|text| (text, "NIM_TAGS_SELECTOR"))
        .or_else(|| Some((flag?.to_owned(), "--tags")))
}

/// Returns whether `NIM_MANIFEST_ALLOW_UNSAFE` is set to 1 or true.
pub(crate) fn allows_unsafe() -> bool {
    text_of("NIM_MANIFEST_ALLOW_UNSAFE")
        .is_some_and(|text| matches!(text.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on"))
}

/// Returns whether `NIM_PEFT_SOURCE` is set: then NIM serves LoRA adapters.
pub(crate) fn requests_lora() -> bool {
    text_of("NIM_PEFT_SOURCE").is_some()
}

/// Returns whether a requested profile is the word for "choose one".
fn means_any_profile(text: &str) -> bool {
    ["default", "auto"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Returns a secret that a variable holds; its memory is overwritten when it is dropped.
pub(crate) fn secret(name: &str) -> Option<Zeroizing<String>> {
    std::env::var_os(name)?.into_string().ok().map(Zeroizing::new)
}

/// Returns a variable if it is set and not empty. Quotes around the value are no part of it: `docker --env-file` and compose
/// files keep them.
fn text_of(name: &str) -> Option<String> {
    let value = std::env::var_os(name)?;
    let text = unquoted(&value.to_string_lossy()).to_owned();
    (!text.is_empty()).then_some(text)
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let inside = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inside('"').or_else(|| inside('\'')).map_or(text, str::trim)
}
