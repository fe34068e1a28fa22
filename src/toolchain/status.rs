//! The state of each tool, for a table.

use std::path::PathBuf;

use serde::Serialize;

use super::locate::{Whereabouts, whereabouts};
use super::{Origin, Places, Tool, ToolchainError};

/// One line of the list of tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ToolStatus {
    /// Which.
    pub tool: Tool,
    /// The Python package that holds it, where one does.
    pub package: Option<String>,
    /// The version that is pinned, where one is.
    pub pinned_version: Option<String>,
    /// What is there.
    pub state: ToolState,
}

/// The state of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ToolState {
    /// The pinned version, whole.
    Installed {
        /// Where.
        folder: PathBuf,
        /// The size of its files.
        size_bytes: u64,
    },
    /// The user's own files.
    Own {
        /// Why these.
        origin: Origin,
        /// The library that a worker opens.
        library: PathBuf,
    },
    /// It can be installed.
    NotInstalled,
    /// It can't be used.
    Unusable {
        /// Why.
        reason: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

/// Returns the state of every tool, without hashing anything.
pub fn list(places: &Places) -> Vec<ToolStatus> {
    Tool::ALL.into_iter().map(|tool| status(tool, places)).collect()
}

fn status(tool: Tool, places: &Places) -> ToolStatus {
    let state = match whereabouts(tool, places) {
        Ok(Whereabouts::Installed { folder, files, version: _ }) => {
            ToolState::Installed { folder, size_bytes: files.iter().map(|file| file.size_bytes).sum() }
        }
        Ok(Whereabouts::Own { origin, paths }) => {
            ToolState::Own { origin, library: paths.into_iter().next().unwrap_or_default() }
        }
        Err(ToolchainError::NotInstalled { .. }) => ToolState::NotInstalled,
        Err(error) => ToolState::Unusable { reason: error.to_string(), hint: error.hint() },
    };
    let locked = places.lock.tools.get(&tool);
    ToolStatus {
        tool,
        package: locked.map(|locked| locked.package.clone()),
        pinned_version: locked.map(|locked| locked.version.clone()),
        state,
    }
}
