//! What identifies a worker and its library, as keys hold it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::digest::Sha256;
use crate::toolchain::Located;
use crate::worker::protocol::{Description, Library};

/// What identifies a worker and its library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct RuntimeIdentity {
    backend: String,
    /// What the worker says of itself; absent where the bytes of its library are known.
    worker_version: Option<String>,
    /// The library's name and version, as the worker reports them; absent where its bytes are known.
    library: Option<(String, String)>,
    /// The digests of the library's files, by file name.
    files: BTreeMap<String, Sha256>,
}

impl RuntimeIdentity {
    /// Identifies a worker by the bytes of the library that it loads.
    pub(super) fn of_library(backend: &str, located: &Located) -> Self {
        let files = located.files.iter().map(|file| (file.name.clone(), file.sha256)).collect();
        Self { backend: backend.into(), worker_version: None, library: None, files }
    }

    /// Identifies a worker by what it says of itself.
    pub(super) fn of_worker(description: &Description) -> Self {
        // What it can do here decides whether it runs something, not what comes out.
        let Description {
            protocol_version: _,
            backend,
            worker_version,
            library,
            build: _,
            run: _,
            compute_capabilities: _,
            portable_plans: _,
            needs_gpu_to_build: _,
            one_build_per_process: _,
            build_revision: _,
            devices: _,
        } = description;
        // Paths of files differ from machine to machine.
        let library =
            library.as_ref().map(|Library { name, version, files: _ }| (name.clone(), version.clone()));
        Self {
            backend: backend.clone(),
            worker_version: Some(worker_version.clone()),
            library,
            files: BTreeMap::new(),
        }
    }
}
