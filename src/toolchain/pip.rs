//! Fetches one wheel with the user's own pip, so that mirrors, proxies, credentials and offline wheel folders work as
//! they are configured there.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::work_folder::largest_file_bytes;
use super::{LockedWheel, Stage, ToolchainError, Watch};
use crate::digest::Sha256;
use crate::files::atomic_file;
use crate::process::{self, Ended};

/// Starts pip without the current folder on Python's module path, where `-m pip` would put it: a `pip.py` that lies
/// where nimctl is run must not be what runs.
const START_PIP: &str = "import sys
if sys.path and sys.path[0] == '': del sys.path[0]
import runpy
sys.argv[0] = 'pip'
runpy.run_module('pip', run_name='__main__', alter_sys=True)";

/// How many lines of pip's output an error repeats.
const SAID_LINES: usize = 15;

/// Which Python runs pip, and how.
#[derive(Clone, Debug)]
pub struct Pip {
    /// The interpreter; without one, `python3`, then `python`.
    pub python: Option<PathBuf>,
    /// Environment variables set for it, over those that it inherits.
    pub environment: Vec<(OsString, OsString)>,
    /// How long one wheel may take.
    pub time_limit: Duration,
}

impl Default for Pip {
    fn default() -> Self {
        Self { python: None, environment: Vec::new(), time_limit: Duration::from_secs(3600) }
    }
}

/// A package in one version, whose wheel has one digest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Requirement<'a> {
    pub(crate) package: &'a str,
    pub(crate) version: &'a str,
    pub(crate) sha256: Sha256,
    /// The wheel's size, where known.
    pub(crate) size_bytes: Option<u64>,
    /// Which wheel; without, the one for the Python that runs pip.
    pub(crate) tags: Option<Tags<'a>>,
}

/// pip's tags that choose a wheel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tags<'a> {
    python_version: &'a str,
    implementation: &'a str,
    abi: &'a str,
    platform: &'a str,
}

impl<'a> From<&'a LockedWheel> for Tags<'a> {
    fn from(wheel: &'a LockedWheel) -> Self {
        Self {
            python_version: &wheel.python_version,
            implementation: &wheel.implementation,
            abi: &wheel.abi,
            platform: &wheel.platform,
        }
    }
}

impl Requirement<'_> {
    /// Returns what messages call it.
    pub(crate) fn what(&self) -> String {
        format!("{} {}", self.package, self.version)
    }
}

/// Fetches a wheel into `work_folder` and checks its digest, whatever pip reported.
pub(crate) fn download(
    requirement: &Requirement<'_>,
    work_folder: &Path,
    pip: &Pip,
    watch: &mut Watch<'_>,
) -> Result<PathBuf, ToolchainError> {
    let what = requirement.what();
    let wheels = work_folder.join("wheels");
    let temporary = work_folder.join("pip");
    let requirements = work_folder.join("requirements.txt");
    let line = format!(
        "{}=={} --hash=sha256:{}\n",
        requirement.package,
        requirement.version,
        requirement.sha256.to_hex()
    );
    (|| {
        fs_err::create_dir(&wheels)?;
        fs_err::create_dir(&temporary)?;
        atomic_file::write(&requirements, line.as_bytes())
    })()
    .map_err(|error| ToolchainError::writing(format!("prepare a folder for {what}"), work_folder, error))?;

    let arguments = arguments(requirement, &requirements, &wheels);
    watch.tell(Stage::Downloading, 0, requirement.size_bytes);
    let (python, ended) = run_python(pip, &what, &arguments, &temporary, || {
        watch.tell(Stage::Downloading, largest_file_bytes(work_folder), requirement.size_bytes);
        !watch.is_cancelled()
    })?;
    match ended {
        Ended::Exited { status, .. } if status.success() => {}
        Ended::Exited { status, stderr_tail } => {
            return Err(explain(requirement, &python, &status.to_string(), &stderr_tail, work_folder));
        }
        Ended::TimedOut => return Err(ToolchainError::TimedOut { what, limit: pip.time_limit }),
        Ended::Stopped => return Err(ToolchainError::Cancelled { doing: format!("fetching {what}") }),
    }
    let wheel = only_wheel(&wheels, &what)?;
    let size_bytes = largest_file_bytes(&wheels);
    watch.tell(Stage::Downloading, size_bytes, requirement.size_bytes);

    watch.tell(Stage::Verifying, 0, Some(size_bytes));
    let (got, _) = Sha256::of_file(&wheel)
        .map_err(|source| ToolchainError::Io { doing: format!("hash the wheel of {what}"), source })?;
    if got != requirement.sha256 {
        return Err(ToolchainError::WrongWheel { what, expected: requirement.sha256, got: Some(got) });
    }
    watch.tell(Stage::Verifying, size_bytes, Some(size_bytes));
    Ok(wheel)
}

fn arguments(requirement: &Requirement<'_>, requirements: &Path, wheels: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["-c", START_PIP, "download"].map(OsString::from).into();
    arguments.extend(
        [
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
            "--no-input",
            "--no-color",
            "--disable-pip-version-check",
            "--progress-bar=off",
        ]
        .map(OsString::from),
    );
    if let Some(Tags { python_version, implementation, abi, platform }) = requirement.tags {
        arguments.extend(
            [
                "--python-version",
                python_version,
                "--implementation",
                implementation,
                "--abi",
                abi,
                "--platform",
                platform,
            ]
            .map(OsString::from),
        );
    }
    arguments.extend(["-r".into(), requirements.into(), "-d".into(), wheels.into()]);
    arguments
}

fn run_python(
    pip: &Pip,
    what: &str,
    arguments: &[OsString],
    temporary: &Path,
    mut keep_going: impl FnMut() -> bool,
) -> Result<(String, Ended), ToolchainError> {
    let candidates: Vec<PathBuf> = match &pip.python {
        Some(python) => vec![python.clone()],
        None => vec!["python3".into(), "python".into()],
    };
    for python in &candidates {
        #[expect(clippy::disallowed_methods, reason = "process::run runs it")]
        let mut command = Command::new(python);
        // pip downloads to TMPDIR: beside the destination there is space, and it is ours to watch and to remove.
        command.args(arguments).envs(pip.environment.iter().cloned()).env("TMPDIR", temporary);
        match process::run(command, pip.time_limit, &mut keep_going) {
            Ok(ended) => return Ok((python.display().to_string(), ended)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(ToolchainError::StartPython { python: python.display().to_string(), source });
            }
        }
    }
    let tried = candidates.iter().map(|python| python.display().to_string()).collect::<Vec<_>>().join(", ");
    Err(ToolchainError::NoPython { tried, what: what.into() })
}

fn only_wheel(folder: &Path, what: &str) -> Result<PathBuf, ToolchainError> {
    let read = || -> io::Result<Vec<PathBuf>> {
        fs_err::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect()
    };
    let mut wheels = read()
        .map_err(|source| ToolchainError::Io { doing: format!("look for the wheel of {what}"), source })?;
    wheels.retain(|path| path.extension().is_some_and(|extension| extension == "whl"));
    match <[PathBuf; 1]>::try_from(wheels) {
        Ok([wheel]) => Ok(wheel),
        Err(wheels) => Err(ToolchainError::PipLeftNoWheel { what: what.into(), found: wheels.len() }),
    }
}

/// Returns what pip's failure means, from its output.
fn explain(
    requirement: &Requirement<'_>,
    python: &str,
    status: &str,
    stderr: &str,
    folder: &Path,
) -> ToolchainError {
    let what = requirement.what();
    if stderr.contains("No module named pip") {
        return ToolchainError::NoPip { python: python.into(), what };
    }
    if stderr.contains("DO NOT MATCH THE HASHES") {
        return ToolchainError::WrongWheel { what, expected: requirement.sha256, got: got_digest(stderr) };
    }
    if stderr.contains("No space left on device") || stderr.contains("Disk quota exceeded") {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        return ToolchainError::writing(format!("fetch {what}"), folder, full);
    }
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    let said = lines[lines.len().saturating_sub(SAID_LINES)..]
        .iter()
        .map(|line| format!("  {}", without_credentials(line.trim_end())))
        .collect::<Vec<_>>()
        .join("\n");
    let said = if said.is_empty() { "  (no output)".into() } else { said };
    ToolchainError::PipFailed { what, status: status.into(), said }
}

/// Finds pip's line `Got <64 hex>`.
fn got_digest(stderr: &str) -> Option<Sha256> {
    stderr
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Got "))
        .find_map(|hex| Sha256::from_hex(hex.trim()).ok())
}

/// Masks `user:password@` in addresses: an error ends up in logs, and a mirror's password must not be there.
fn without_credentials(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        out.push_str(before);
        let authority = after.find(|end: char| end == '/' || end.is_whitespace()).unwrap_or(after.len());
        rest = match after[..authority].rfind('@') {
            Some(at) => {
                out.push_str("****");
                &after[at..]
            }
            None => after,
        };
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_masked() {
        for (line, expected) in [
            (
                "Looking at https://me:s3cret@mirror/simple, http://b/x@y",
                "Looking at https://****@mirror/simple, http://b/x@y",
            ),
            ("no address", "no address"),
            ("a://b://c@d", "a://b://****@d"),
        ] {
            assert_eq!(without_credentials(line), expected);
        }
    }

    #[test]
    fn pips_words_become_errors() {
        let requirement = Requirement {
            package: "thing",
            version: "1.0",
            sha256: Sha256::of(b"a"),
            size_bytes: None,
            tags: None,
        };
        let explain = |said: &str| {
            explain(&requirement, "python3", "exit status: 1", said, Path::new("/data/.tmp-x-1"))
        };
        let got = Sha256::of(b"b");
        let said =
            format!("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM\n   Got        {}\n", got.to_hex());
        assert!(
            matches!(explain(&said), ToolchainError::WrongWheel { got: Some(found), .. } if found == got)
        );
        assert!(matches!(explain("/x/python3: No module named pip\n"), ToolchainError::NoPip { .. }));
        let error = explain("ERROR: OSError: [Errno 28] No space left on device");
        assert_eq!(error.to_string(), "cannot fetch thing 1.0: no space left in /data");
        let error = explain("ERROR: No matching distribution found for thing==1.0");
        assert!(error.hint().is_some_and(|hint| hint.contains("PIP_FIND_LINKS")), "{error}");
    }
}
