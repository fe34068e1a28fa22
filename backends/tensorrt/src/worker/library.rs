//! Finds TensorRT's shared libraries and asks for their version.

#![expect(clippy::disallowed_methods, reason = "a worker is told its library by a variable")]

use std::ffi::c_int;
use std::path::{Path, PathBuf};

use libloading::Library;
use nimctl_backend_kit::protocol::{ErrorCode, Problem};

use super::flavour::{
    HOW_TO_GET, LIBRARY_FILES, LIBRARY_NAME, LIBRARY_VARIABLE, NEEDS_GPU_TO_BUILD, PARSER_FILES,
};

/// The paths to load, or bare names for the loader to find.
pub(crate) struct LibraryFiles {
    pub(crate) library: PathBuf,
    pub(crate) parser: PathBuf,
}

/// Returns the library's files: those that the environment names, else those on the loader's path.
pub(crate) fn find() -> Result<LibraryFiles, Problem> {
    let Some(named) = std::env::var_os(LIBRARY_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from)
    else {
        let first_loadable = |files: &[&str]| {
            files.iter().copied().find(|file| open(Path::new(file)).is_ok()).unwrap_or(files[0]).into()
        };
        return Ok(LibraryFiles {
            library: first_loadable(&LIBRARY_FILES),
            parser: first_loadable(&PARSER_FILES),
        });
    };
    let (folder, library) = if named.is_dir() {
        (named.clone(), first_existing(&named, &LIBRARY_FILES)?)
    } else {
        let folder = named.parent().unwrap_or(Path::new(".")).to_path_buf();
        (folder, named)
    };
    Ok(LibraryFiles { library, parser: first_existing(&folder, &PARSER_FILES)? })
}

/// Returns the version of a library, all four numbers of it.
#[expect(unsafe_code, reason = "the library is a C library")]
pub(crate) fn version(path: &Path) -> Result<String, Problem> {
    let library = open(path).map_err(|error| missing(&error.to_string()))?;
    let mut numbers = Vec::new();
    for name in [
        "getInferLibMajorVersion",
        "getInferLibMinorVersion",
        "getInferLibPatchVersion",
        "getInferLibBuildVersion",
    ] {
        // SAFETY: NvInferRuntime.h declares these as functions that take nothing and return an int.
        let function = unsafe { library.get::<unsafe extern "C" fn() -> c_int>(name) }
            .map_err(|_| missing(&format!("{} has no {name}", path.display())))?;
        // SAFETY: as above; they return constants.
        numbers.push(unsafe { function() }.to_string());
    }
    // It stays loaded until the process ends, as it would with everything else that uses it.
    std::mem::forget(library);
    Ok(numbers.join("."))
}

/// The problem of a missing library.
pub(crate) fn missing(reason: &str) -> Problem {
    let need =
        if NEEDS_GPU_TO_BUILD { HOW_TO_GET.to_owned() } else { format!("{LIBRARY_NAME}: {HOW_TO_GET}") };
    Problem::new(ErrorCode::LibraryMissing, format!("cannot load {LIBRARY_NAME}: {reason}")).needing(need)
}

fn first_existing(folder: &Path, files: &[&str]) -> Result<PathBuf, Problem> {
    files.iter().map(|file| folder.join(file)).find(|path| path.exists()).ok_or_else(|| {
        missing(&format!("{LIBRARY_VARIABLE} is set, but {} has no {}", folder.display(), files[0]))
    })
}

#[expect(unsafe_code, reason = "loading a library runs its constructors")]
fn open(path: &Path) -> Result<Library, libloading::Error> {
    // SAFETY: TensorRT's constructors have no preconditions. That the file is TensorRT is the user's word, or that of
    // the toolchain lock.
    unsafe { Library::new(path) }
}
