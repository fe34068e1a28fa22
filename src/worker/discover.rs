//! Where workers are found: beside the program, in the folders the user names, on `PATH`; the first of a name wins.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::error::WorkerError;

/// What every worker's file name begins with.
pub const PREFIX: &str = "nimctl-backend-";

/// Where a worker was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Beside the running program.
    BesideProgram,
    /// In a folder of `NIMCTL_BACKENDS`.
    Backends,
    /// On `PATH`.
    Path,
}

/// The folders to search, in their order. Only binaries read the environment: they fill this in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchPath {
    /// The folder of the running program.
    pub program_folder: Option<PathBuf>,
    /// The folders of `NIMCTL_BACKENDS`.
    pub backends: Vec<PathBuf>,
    /// The folders of `PATH`.
    pub path: Vec<PathBuf>,
}

/// A worker's executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundBackend {
    /// The backend's name.
    pub name: String,
    /// The executable.
    pub path: PathBuf,
    /// Where it was found.
    pub source: Source,
}

impl SearchPath {
    /// Builds the search path from the running program and the values of `NIMCTL_BACKENDS` and `PATH` (folders separated as `PATH`
    /// separates them; empty ones are left out).
    pub fn new(program: Option<&Path>, backends: Option<&OsStr>, path: Option<&OsStr>) -> Self {
        let split = |value: Option<&OsStr>| {
            value
                .map(|value| std::env::split_paths(value).filter(|p| !p.as_os_str().is_empty()).collect())
                .unwrap_or_default()
        };
        Self {
            program_folder: program.and_then(Path::parent).map(Path::to_path_buf),
            backends: split(backends),
            path: split(path),
        }
    }

    fn folders(&self) -> impl Iterator<Item = (&Path, Source)> {
        let Self { program_folder, backends, path } = self;
        program_folder
            .iter()
            .map(|folder| (folder, Source::BesideProgram))
            .chain(backends.iter().map(|folder| (folder, Source::Backends)))
            .chain(path.iter().map(|folder| (folder, Source::Path)))
            .map(|(folder, source)| (folder.as_path(), source))
    }
}

/// Returns the executable of a backend.
///
/// # Errors
/// [`WorkerError::NotFound`], with the folders searched.
pub fn find(name: &str, search_path: &SearchPath) -> Result<PathBuf, WorkerError> {
    let file_name = format!("{PREFIX}{name}");
    search_path
        .folders()
        .map(|(folder, _)| folder.join(&file_name))
        // A name with a slash in it would leave the folders.
        .find(|path| is_backend_name(name) && is_executable(path))
        .ok_or_else(|| {
            let mut searched: Vec<PathBuf> = Vec::new();
            for (folder, _) in search_path.folders() {
                if !searched.iter().any(|known| known == folder) {
                    searched.push(folder.to_path_buf());
                }
            }
            WorkerError::NotFound { name: name.into(), searched }
        })
}

/// Returns every worker that [`find`] would find, sorted by name: ours and those that others wrote.
pub fn list(search_path: &SearchPath) -> Vec<FoundBackend> {
    let mut found: BTreeMap<String, FoundBackend> = BTreeMap::new();
    for (folder, source) in search_path.folders() {
        // A folder of `PATH` that doesn't exist or can't be read is an everyday thing.
        let Ok(entries) = fs_err::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            let file_name = entry.file_name();
            let Some(name) = file_name.to_str().and_then(|file_name| file_name.strip_prefix(PREFIX)) else {
                continue;
            };
            let path = entry.path();
            if is_backend_name(name) && !found.contains_key(name) && is_executable(&path) {
                found.insert(name.into(), FoundBackend { name: name.into(), path, source });
            }
        }
    }
    found.into_values().collect()
}

/// Returns the backend's name that an executable's file name carries, or the whole file name.
pub(crate) fn backend_name(path: &Path) -> String {
    let file_name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    file_name.strip_prefix(PREFIX).unwrap_or(&file_name).to_owned()
}

fn is_backend_name(name: &str) -> bool {
    // No dots: `nimctl-backend-x.d` lies beside `nimctl-backend-x` in every cargo target folder.
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs_err::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_first_of_a_name_wins_and_only_executables_count() {
        let root = tempfile::tempdir().unwrap();
        let add = |folder: &str, file: &str, mode: u32| {
            let folder = root.path().join(folder);
            fs_err::create_dir_all(&folder).unwrap();
            fs_err::write(folder.join(file), "").unwrap();
            fs_err::set_permissions(folder.join(file), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        add("beside", "nimctl-backend-one", 0o644);
        add("a", "nimctl-backend-one", 0o755);
        add("a", "nimctl-backend-one.d", 0o755);
        add("b", "nimctl-backend-one", 0o755);
        add("b", "nimctl-backend-two", 0o755);
        let backends = std::env::join_paths([root.path().join("a"), root.path().join("absent")]).unwrap();
        let search_path = SearchPath::new(
            Some(&root.path().join("beside/nimctl")),
            Some(&backends),
            Some(root.path().join("b").as_os_str()),
        );
        assert_eq!(find("one", &search_path).unwrap(), root.path().join("a/nimctl-backend-one"));
        let listed: Vec<(String, Source)> =
            list(&search_path).into_iter().map(|found| (found.name, found.source)).collect();
        assert_eq!(listed, [("one".into(), Source::Backends), ("two".into(), Source::Path)]);
        for absent in ["three", "", "../a/x", "one.d"] {
            assert!(matches!(find(absent, &search_path), Err(WorkerError::NotFound { .. })), "{absent}");
        }
    }
}
