//! Loads ONNX Runtime, once a process.

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use nimctl_backend_kit::protocol::{ErrorCode, Library, Problem};
use nimctl_backend_kit::serve::mapped_files;
use ort::environment::Environment;

pub(crate) const VARIABLE: &str = "NIMCTL_ONNXRUNTIME_LIB";
const DEFAULT_FILES: [&str; 2] = ["libonnxruntime.so.1", "libonnxruntime.so"];

/// ONNX Runtime, ready for sessions.
pub(crate) struct Loaded {
    pub(crate) environment: Environment,
    version: String,
}

impl Loaded {
    pub(crate) fn describe(&self) -> Library {
        Library {
            name: "ONNX Runtime".into(),
            version: self.version.clone(),
            files: mapped_files(&["libonnxruntime"]),
        }
    }
}

/// Loads the library that the environment names, else the loader's.
pub(crate) fn load() -> Result<Loaded, Problem> {
    #[expect(clippy::disallowed_methods, reason = "a worker is told its library by a variable")]
    let named = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    let candidates = match named {
        Some(folder) if folder.is_dir() => vec![in_folder(&folder)?],
        Some(file) => vec![file],
        None => DEFAULT_FILES.map(PathBuf::from).to_vec(),
    };
    let mut first_error = None;
    for path in &candidates {
        // `ort` panics if the library turns out unusable later, so it is opened here first.
        match version(path) {
            Ok(version) => {
                let builder = ort::init_from(path).map_err(|error| missing(&error.to_string()))?;
                let environment = builder
                    .with_name("nimctl")
                    .with_telemetry(false)
                    .build()
                    .map_err(|error| missing(error.message()))?;
                return Ok(Loaded { environment, version });
            }
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(missing(&first_error.unwrap_or_default()))
}

/// Returns the library in a folder as the wheel has it: `libonnxruntime.so.<version>`.
fn in_folder(folder: &Path) -> Result<PathBuf, Problem> {
    let mut files: Vec<PathBuf> = fs_err::read_dir(folder)
        .map_err(|error| missing(&error.to_string()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("libonnxruntime.so"))
        })
        .collect();
    files.sort();
    files.pop().ok_or_else(|| missing(&format!("{} has no libonnxruntime.so", folder.display())))
}

#[expect(unsafe_code, reason = "the library is a C library")]
fn version(path: &Path) -> Result<String, String> {
    // SAFETY: ONNX Runtime's constructors have no preconditions. That the file is ONNX Runtime is the user's word, or
    // that of the toolchain lock.
    let library = unsafe { libloading::Library::new(path) }.map_err(|error| error.to_string())?;
    // SAFETY: onnxruntime_c_api.h declares `OrtGetApiBase` so.
    let get_base =
        unsafe { library.get::<unsafe extern "system" fn() -> *const ort::sys::OrtApiBase>("OrtGetApiBase") }
            .map_err(|_| format!("{} has no OrtGetApiBase", path.display()))?;
    // SAFETY: it returns a constant, which is valid as long as the library is loaded: for ever, see below.
    let base = unsafe { get_base().as_ref() }.ok_or("OrtGetApiBase returned null")?;
    // SAFETY: the function takes nothing and returns a constant text that ends with a zero.
    let version = unsafe { CStr::from_ptr((base.GetVersionString)()) }.to_string_lossy().into_owned();
    // Its threads may not be unloaded under them.
    std::mem::forget(library);
    Ok(version)
}

fn missing(reason: &str) -> Problem {
    Problem::new(ErrorCode::LibraryMissing, format!("cannot load ONNX Runtime: {reason}")).needing(format!(
        "ONNX Runtime 1.24 or later: `nimctl toolchain install onnxruntime`, or {VARIABLE} set to its libonnxruntime.so"
    ))
}
