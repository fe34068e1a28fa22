//! A profile of one run: what ran each node.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nimctl_backend_kit::protocol::{ErrorCode, Problem, Provider};
use ort::session::Session;

use super::nodes::nodes_by_provider;

/// Where ONNX Runtime writes a profile; gone when dropped.
pub(crate) struct Profile {
    folder: tempfile::TempDir,
}

impl Profile {
    pub(crate) fn new() -> Result<Self, Problem> {
        let folder = tempfile::tempdir()
            .map_err(|error| Problem::new(ErrorCode::Io, format!("no folder for a profile: {error}")))?;
        Ok(Self { folder })
    }

    /// Returns what the name of the file begins with; the library adds the time.
    pub(crate) fn prefix(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// Ends recording, and returns how many nodes each provider ran. A node that fell back from the requested one is a
    /// problem.
    pub(crate) fn nodes(
        self,
        session: &mut Session,
        provider: Provider,
    ) -> Result<BTreeMap<String, u64>, Problem> {
        let failed = |reason: String| Problem::new(ErrorCode::RunFailed, reason);
        let path = session.end_profiling().map_err(|error| failed(error.message().into()))?;
        let profile = fs_err::read(path).map_err(|error| failed(error.to_string()))?;
        nodes_by_provider(&profile, provider).map_err(failed)
    }
}
