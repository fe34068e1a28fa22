//! A data folder, a folder of wheels, and a pip that knows no other place.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nimctl::digest::Sha256;
use nimctl::toolchain::{
    Installed, Lock, Pip, Places, Progress, Stage, Tool, ToolchainError, Watch, install,
};

pub(crate) const LIBRARY: &[u8] = b"\x7fELF, or so it says";
pub(crate) const LIBRARY_NAME: &str = "libonnxruntime.so.1.0.0";

pub(crate) struct Fixture {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) places: Places,
    pub(crate) pip: Pip,
    pub(crate) wheel_sha256: Sha256,
}

impl Fixture {
    /// Makes a wheel of one library, and a lock that pins it.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let wheels = folder.path().join("wheels");
        fs_err::create_dir(&wheels).unwrap();
        let wheel = make_wheel();
        put(&wheels.join("nimctl_fake-1.0-py3-none-any.whl"), &wheel);
        let wheel_sha256 = Sha256::of(&wheel);
        let mut places = Places::new(folder.path().join("data"));
        places.host = "x86_64-linux".into();
        places.lock = lock(wheel_sha256, Sha256::of(LIBRARY), LIBRARY.len(), wheel.len());
        let environment = [
            ("PIP_NO_INDEX", "1".into()),
            ("PIP_FIND_LINKS", wheels.into_os_string()),
            ("PIP_CONFIG_FILE", "/dev/null".into()),
            ("PIP_NO_CACHE_DIR", "1".into()),
        ];
        let environment = environment.map(|(name, value)| (name.into(), value)).into();
        let pip = Pip { python: None, environment, time_limit: Duration::from_secs(60) };
        Self { folder, places, pip, wheel_sha256 }
    }

    /// Makes one whose interpreter is a shell script.
    pub(crate) fn with_python(script: &str) -> Self {
        let mut fixture = Self::new();
        let python = fixture.folder.path().join("python3");
        put(&python, format!("#!/bin/sh\n{script}\n").as_bytes());
        fs_err::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
        fixture.pip.python = Some(python);
        fixture
    }

    pub(crate) fn install(&self) -> Result<Installed, ToolchainError> {
        self.install_watched(&mut |_| {}, &|| false)
    }

    pub(crate) fn install_watched(
        &self,
        progress: &mut dyn FnMut(Progress),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Installed, ToolchainError> {
        install(Tool::OnnxRuntime, &self.places, &self.pip, &mut Watch { progress, cancelled })
    }

    /// Fails where anything but locks is left below the data folder.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        let left: Vec<PathBuf> = walkdir::WalkDir::new(&self.places.data_folder)
            .into_iter()
            .filter_map(|entry| Some(entry.ok()?.into_path()))
            .filter(|path| path.is_file() || file_name(path).starts_with(".tmp-"))
            .filter(|path| !file_name(path).starts_with(".lock-"))
            .collect();
        assert_eq!(left, Vec::<PathBuf>::new());
    }
}

/// Returns the stages in the order in which they were told, each once.
pub(crate) fn stages(told: &[Progress]) -> Vec<Stage> {
    let mut stages: Vec<Stage> = told.iter().map(|progress| progress.stage).collect();
    stages.dedup();
    stages
}

pub(crate) fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap()
}

pub(crate) fn put(path: &Path, bytes: &[u8]) {
    nimctl::files::atomic_file::write(path, bytes).unwrap();
}

pub(crate) fn lock(wheel: Sha256, library: Sha256, library_bytes: usize, wheel_bytes: usize) -> Lock {
    let text = format!(
        "schema: nimctl.toolchain-lock/1
tools:
  onnxruntime:
    package: nimctl-fake
    version: \"1.0\"
    hosts:
      x86_64-linux:
        wheel: {{python_version: \"3\", implementation: py, abi: none, platform: any, sha256: \"{wheel}\", size_bytes: {wheel_bytes}}}
        files:
          - {{from: fake/lib/{LIBRARY_NAME}, name: {LIBRARY_NAME}, sha256: \"{library}\", size_bytes: {library_bytes}}}
"
    );
    Lock::parse(&text, "the test's lock").unwrap()
}

fn make_wheel() -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let info = "nimctl_fake-1.0.dist-info";
    for (name, bytes) in [
        (format!("fake/lib/{LIBRARY_NAME}"), LIBRARY),
        ("fake/model.onnx".into(), b"a graph"),
        ("../../escaped".into(), b"must not be unpacked"),
        (format!("{info}/METADATA"), b"Metadata-Version: 2.1\nName: nimctl-fake\nVersion: 1.0\n"),
        (format!("{info}/WHEEL"), b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
        (format!("{info}/RECORD"), b""),
    ] {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}
