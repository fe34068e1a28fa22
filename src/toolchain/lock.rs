//! `toolchain.lock.yaml` (`nimctl.toolchain-lock/1`): which wheel holds each tool, and what its bytes are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::record::RECORD_NAME;
use super::{Tool, ToolchainError};
use crate::digest::Sha256;
use crate::stored_format;
use crate::yaml::words;

const SCHEMA: &str = "nimctl.toolchain-lock/1";
const EMBEDDED: &str = include_str!("../../toolchain.lock.yaml");

/// The pins of all tools, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    schema: String,
    /// The tools that a wheel holds.
    pub tools: BTreeMap<Tool, LockedTool>,
}

/// The pin of one tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedTool {
    /// The Python package, as pip knows it.
    pub package: String,
    /// Its version.
    pub version: String,
    /// What to fetch on each kind of machine: `x86_64-linux`.
    pub hosts: BTreeMap<String, LockedHost>,
}

/// What to fetch and keep on one kind of machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedHost {
    /// The one wheel.
    pub wheel: LockedWheel,
    /// The files to keep of it; the first is the library that a worker opens.
    pub files: Vec<LockedFile>,
}

/// A wheel: pip's tags that choose it, and its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedWheel {
    /// `3.11`, or `3` for a wheel without code for one version.
    pub python_version: String,
    /// `cp`, or `py`.
    pub implementation: String,
    /// `cp311`, or `none`.
    pub abi: String,
    /// `manylinux_2_28_x86_64`, as in the wheel's file name.
    pub platform: String,
    /// The digest of the wheel itself.
    pub sha256: Sha256,
    /// Its size.
    pub size_bytes: u64,
}

/// A file to keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedFile {
    /// Its path in the wheel.
    pub from: String,
    /// Its name in the install folder.
    pub name: String,
    /// The digest of the unpacked file.
    pub sha256: Sha256,
    /// Its size, unpacked.
    pub size_bytes: u64,
}

impl Lock {
    /// Returns the pins that this program was built with.
    pub fn embedded() -> Self {
        Self::parse(EMBEDDED, "the built-in toolchain lock").expect("a test parses the embedded lock")
    }

    /// Reads pins from a file.
    ///
    /// # Errors
    /// The file can't be read, isn't a lock file, or is one of a newer nimctl.
    pub fn read(path: &Path) -> Result<Self, ToolchainError> {
        let name = path.display().to_string();
        let text = crate::files::text::read(path)
            .map_err(|source| ToolchainError::ReadLock { path: path.into(), source })?;
        Self::parse(&text, &name)
    }

    /// Parses pins; `name` is what errors call the text.
    ///
    /// # Errors
    /// The text isn't a lock file, or is one of a newer nimctl.
    pub fn parse(text: &str, name: &str) -> Result<Self, ToolchainError> {
        let invalid = |reason: String| ToolchainError::InvalidLock { name: name.into(), reason };
        stored_format::refuse_newer_yaml(text, SCHEMA, name)?;
        let lock: Self =
            serde_saphyr::from_str(text).map_err(|error| invalid(words::explain(&error, text).1))?;
        if lock.schema != SCHEMA {
            return Err(invalid(format!(
                "its schema is `{}`, but this nimctl reads `{SCHEMA}`",
                lock.schema
            )));
        }
        lock.check().map_err(invalid)?;
        Ok(lock)
    }

    /// Returns the pin of a tool on a host.
    pub(crate) fn pin(&self, tool: Tool, host: &str) -> Result<Pin<'_>, ToolchainError> {
        let locked = self.tools.get(&tool).ok_or(ToolchainError::NoWheel { tool })?;
        let on_host = locked.hosts.get(host).ok_or_else(|| ToolchainError::UnsupportedHost {
            tool,
            host: host.into(),
            supported: locked.hosts.keys().cloned().collect::<Vec<_>>().join(", "),
        })?;
        Ok(Pin {
            package: &locked.package,
            version: &locked.version,
            wheel: &on_host.wheel,
            files: &on_host.files,
        })
    }

    /// Every text here ends up in a path, a requirements file or an argument: only plain ones pass.
    fn check(&self) -> Result<(), String> {
        for (tool, locked) in &self.tools {
            let plain = |what: &str, text: &str| {
                is_plain(text).then_some(()).ok_or_else(|| {
                    format!("{tool}: {what} `{text}` has characters other than letters, digits and . _ - + !")
                })
            };
            plain("package", &locked.package)?;
            plain("version", &locked.version)?;
            for (host, LockedHost { wheel, files }) in &locked.hosts {
                plain("host", host)?;
                plain("python_version", &wheel.python_version)?;
                plain("implementation", &wheel.implementation)?;
                plain("abi", &wheel.abi)?;
                plain("platform", &wheel.platform)?;
                if files.is_empty() {
                    return Err(format!("{tool}: {host} lists no files to keep"));
                }
                let mut names = BTreeSet::from([RECORD_NAME]);
                for file in files {
                    plain("file name", &file.name)?;
                    if !names.insert(&file.name) {
                        return Err(format!("{tool}: two files of {host} would be named `{}`", file.name));
                    }
                }
            }
        }
        Ok(())
    }
}

/// What to fetch and keep of one tool, on one host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pin<'a> {
    pub(crate) package: &'a str,
    pub(crate) version: &'a str,
    pub(crate) wheel: &'a LockedWheel,
    pub(crate) files: &'a [LockedFile],
}

impl Pin<'_> {
    /// Returns the name of the install folder.
    pub(crate) fn folder_name(&self) -> String {
        format!("{}-{}", self.version, &self.wheel.sha256.to_hex()[..12])
    }

    /// Returns the size of the files to keep.
    pub(crate) fn unpacked_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }
}

/// Returns whether a string is safe as a file name, as an argument and in a requirements file.
pub(crate) fn is_plain(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+!".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_lock_is_whole() {
        let lock = Lock::parse(EMBEDDED, "toolchain.lock.yaml").unwrap();
        assert_eq!(
            lock.tools.keys().copied().collect::<Vec<_>>(),
            [Tool::OnnxRuntime, Tool::TensorrtRtx, Tool::Libclang]
        );
        for tool in lock.tools.keys() {
            let pin = lock.pin(*tool, "x86_64-linux").unwrap();
            assert!(
                tool.libraries()[0].matches(&pin.files[0].name),
                "{tool}: the first file is the library to open"
            );
        }
    }

    /// Changes the embedded lock in one place, and expects a message.
    #[track_caller]
    fn check(old: &str, new: &str, expected: &str) {
        assert!(EMBEDDED.contains(old), "{old}");
        let error = Lock::parse(&EMBEDDED.replacen(old, new, 1), "my.yaml").unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.kind(), crate::error_kind::ErrorKind::Input);
    }

    #[test]
    fn bad_locks_are_refused() {
        check("lock/1", "lock/2", "my.yaml: written by a newer nimctl (schema nimctl.toolchain-lock/2");
        check("package: onnxruntime", "package: \"a\\n--index-url=x\"", "onnxruntime: package `a");
        check("package: onnxruntime", "package: -rx", "onnxruntime: package `-rx`");
        check("name: libclang.so", "name: ../libclang.so", "libclang: file name `../libclang.so`");
        check("name: libclang.so", "name: installed.json", "would be named `installed.json`");
        check("    package: onnxruntime", "    packages: onnxruntime", "packages");
        check("sha256: sha256:5a", "sha256: sha256:5", "is not a digest");
        check("  libclang:\n", "  libgcc:\n", "libgcc");
    }

    #[test]
    fn a_host_without_an_entry_is_named() {
        let error = Lock::embedded().pin(Tool::OnnxRuntime, "aarch64-linux").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no wheel of onnxruntime is pinned for aarch64-linux, only for x86_64-linux"
        );
    }
}
