//! What a tar of installed tools is: the list of its files (`nimctl.exported-tools/1`), then the files in the list's order, and
//! nothing else. The names in the tar follow from the list; none becomes a path on disk.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::record::Record;
use super::{Tool, ToolchainError};
use crate::stored_format::{self, Unreadable};

/// The name of the list, which comes first.
pub(super) const LIST_NAME: &str = "toolchain.json";
/// The maximum size of a list.
pub(super) const MAX_LIST_BYTES: u64 = 1 << 20;
const SCHEMA: &str = "nimctl.exported-tools/1";

/// The list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TarContents {
    schema: String,
    /// The kind of machine that the libraries are for: `x86_64-linux`.
    pub(super) host: String,
    /// The tools, each once, in their order.
    pub(super) tools: Vec<Record>,
}

impl TarContents {
    pub(super) fn new(host: &str, tools: Vec<Record>) -> Self {
        Self { schema: SCHEMA.into(), host: host.into(), tools }
    }

    /// Reads a list; `path` is the tar that it is from.
    pub(super) fn parse(text: &[u8], path: &Path) -> Result<Self, ToolchainError> {
        let wrong = |reason| ToolchainError::NotAnExport { path: path.into(), reason };
        let contents: Self =
            stored_format::from_json(text, SCHEMA, path.display()).map_err(|error| match error {
                Unreadable::Newer(newer) => newer.into(),
                Unreadable::Damaged { path: _, problem } => wrong(format!("{LIST_NAME}: {problem}")),
            })?;
        let tools: Vec<Tool> = contents.tools.iter().map(|tool| tool.name).collect();
        if tools.is_empty() {
            return Err(wrong(format!("{LIST_NAME} lists no tools")));
        }
        if !tools.is_sorted_by(|one, next| one < next) {
            return Err(wrong(format!("{LIST_NAME} lists a tool twice, or not in the usual order")));
        }
        Ok(contents)
    }
}

/// Returns the name of a tool's file in the tar.
pub(super) fn name_in_tar(tool: Tool, file: &str) -> String {
    format!("{tool}/{file}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of an earlier nimctl, which must stay readable.
    #[test]
    fn the_golden_list_is_read() {
        let golden = include_bytes!("../../tests/fixtures/formats/exported-tools.json");
        let contents = TarContents::parse(golden, Path::new("golden.tar")).unwrap();
        assert_eq!(contents.host, "x86_64-linux");
        assert_eq!(contents.tools[0].name, Tool::OnnxRuntime);
        assert_eq!(
            name_in_tar(Tool::OnnxRuntime, &contents.tools[0].files[0].name),
            "onnxruntime/libonnxruntime.so.1.2.3"
        );
    }

    #[test]
    fn a_list_names_each_tool_once() {
        let golden = include_str!("../../tests/fixtures/formats/exported-tools.json");
        let check = |edit: &dyn Fn(&mut serde_json::Value), expected: &str| {
            let mut list: serde_json::Value = serde_json::from_str(golden).unwrap();
            edit(&mut list);
            let error = TarContents::parse(list.to_string().as_bytes(), Path::new("x.tar")).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(
            &|list| list["tools"] = serde_json::json!([]),
            "x.tar was not written by `nimctl toolchain export`",
        );
        check(&|list| list["tools"] = serde_json::json!([]), "lists no tools");
        check(
            &|list| list["tools"] = serde_json::json!([list["tools"][0], list["tools"][0]]),
            "lists a tool twice",
        );
        check(&|list| list["tools"][0]["name"] = "gcc".into(), "unknown variant `gcc`");
        check(&|list| list["schema"] = "nimctl.exported-tools/2".into(), "written by a newer nimctl");
        check(&|list| list["more"] = 1.into(), "unknown field `more`");
    }
}
