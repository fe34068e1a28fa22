//! The tools by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::known;

/// A library that we install or look for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Tool {
    /// ONNX Runtime: runs the generic profile, and is the reference for all numbers.
    #[serde(rename = "onnxruntime")]
    OnnxRuntime,
    /// TensorRT for RTX and its ONNX parser: builds plans without a GPU.
    TensorrtRtx,
    /// TensorRT, the full builder. No wheel holds it: users bring it.
    Tensorrt,
    /// libclang, which the Rust bindings of TensorRT are generated with; no part of what we build for users.
    Libclang,
}

impl Tool {
    /// Every tool, in the order in which they are listed.
    pub const ALL: [Self; 4] = [Self::OnnxRuntime, Self::TensorrtRtx, Self::Tensorrt, Self::Libclang];

    /// Returns the name that the lock file, the command line and the install folder use.
    pub const fn name(self) -> &'static str {
        known::of_tool(self).name
    }

    /// Returns the environment variable that names the user's own copy; the binary reads it, this library doesn't.
    pub const fn override_variable(self) -> &'static str {
        known::of_tool(self).override_variable
    }

    /// Returns what its supplier calls it, which is also what workers call it.
    pub const fn title(self) -> &'static str {
        known::of_tool(self).title
    }

    /// Returns who supplies it.
    pub const fn supplier(self) -> &'static str {
        known::of_tool(self).supplier
    }

    /// Returns its terms.
    pub const fn licence(self) -> Licence {
        known::of_tool(self).licence
    }

    /// Returns the libraries that make up the tool, the one that a worker opens first.
    pub(crate) const fn libraries(self) -> &'static [Library] {
        known::of_tool(self).libraries
    }
}

/// What is known of a tool.
pub(super) struct ToolFacts {
    pub name: &'static str,
    pub title: &'static str,
    pub supplier: &'static str,
    pub licence: Licence,
    pub override_variable: &'static str,
    pub libraries: &'static [Library],
}

/// The terms of a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Licence {
    /// An SPDX expression.
    Spdx(&'static str),
    /// The name of terms that have no SPDX identifier.
    Named(&'static str),
}

/// One shared library of a tool: files named `<stem>.so` or `<stem>.so.<version>`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Library {
    pub(super) stem: &'static str,
    /// Whether the tool is useless without it.
    pub(crate) required: bool,
}

impl Library {
    /// Returns whether a file name is one of this library's.
    pub(crate) fn matches(self, file_name: &str) -> bool {
        let (stem, any_suffix) = match self.stem.strip_suffix('*') {
            Some(stem) => (stem, true),
            None => (self.stem, false),
        };
        let Some(rest) = file_name.strip_prefix(stem) else { return false };
        let Some((suffix, version)) = rest.split_once(".so") else { return false };
        (any_suffix || suffix.is_empty()) && (version.is_empty() || version.starts_with('.'))
    }

    /// Returns whether several files may stand for it, each with its own content.
    pub(crate) fn is_family(self) -> bool {
        self.stem.ends_with('*')
    }
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.so", self.stem)
    }
}

/// A name that is no tool's.
#[derive(Debug, thiserror::Error)]
#[error("`{name}` is not a tool: expected {}", Tool::ALL.map(Tool::name).join(", "))]
pub struct UnknownTool {
    name: String,
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Tool {
    type Err = UnknownTool;

    fn from_str(text: &str) -> Result<Self, UnknownTool> {
        Self::ALL
            .into_iter()
            .find(|tool| tool.name() == text)
            .ok_or_else(|| UnknownTool { name: text.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_serde() {
        for tool in Tool::ALL {
            assert_eq!(serde_json::to_value(tool).unwrap(), tool.name());
            assert_eq!(tool.name().parse::<Tool>().unwrap(), tool);
        }
        assert_eq!(
            "tensor".parse::<Tool>().unwrap_err().to_string(),
            "`tensor` is not a tool: expected onnxruntime, tensorrt-rtx, tensorrt, libclang"
        );
    }

    #[test]
    fn libraries_match_their_own_names_only() {
        let [infer, _, plugin, resource] = Tool::Tensorrt.libraries() else { panic!("four libraries") };
        for (library, name, expected) in [
            (infer, "libnvinfer.so", true),
            (infer, "libnvinfer.so.11.4.0", true),
            (infer, "libnvinfer_plugin.so.11", false),
            (infer, "libnvinfer.sox", false),
            (infer, "libnvinfer.a", false),
            (plugin, "libnvinfer_plugin.so.11", true),
            (resource, "libnvinfer_builder_resource.so.11.4.0", true),
            (resource, "libnvinfer_builder_resource_sm90.so.11.4.0", true),
        ] {
            assert_eq!(library.matches(name), expected, "{library} {name}");
        }
    }
}
