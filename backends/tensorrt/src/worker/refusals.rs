//! What the ONNX parser refuses, read from what it logs: its errors have the node, and the bindings don't hand them out.
//!
//! For every error `parseFromFile` logs, in this order:
//!
//! ```text
//! ModelImporter.cpp:140: While parsing node number 2 [StringNormalizer -> "c"]:
//! ModelImporter.cpp:142: --- Begin node ---
//! Node name: n3
//! ModelImporter.cpp:143: --- End node ---
//! ModelImporter.cpp:151: ERROR: onnxOpCheckers.cpp:1243 In function checkStringNormalizer:
//! [8] false
//! ```
//!
//! The first three are absent for an error that is about no node. The number in brackets is `nvonnxparser::ErrorCode`.

use nimctl_backend_kit::protocol::{Refusal, RefusalReason};

/// The most refusals that are reported: a message has to end.
const MAX_REFUSALS: usize = 1000;

/// A node that an error is about.
struct Node {
    op_type: String,
    first_output: String,
    name: String,
}

/// Reads refusals from the errors that were logged while a graph was parsed, in their order.
pub(crate) fn read(errors: &[String]) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut node: Option<Node> = None;
    for error in errors {
        if let Some((_, rest)) = error.split_once("While parsing node number ") {
            node = header(rest);
        } else if let Some((_, name)) = error.split_once("Node name:") {
            if let Some(node) = &mut node {
                node.name = name.trim_end().strip_prefix(' ').unwrap_or(name).trim_end().to_owned();
            }
        } else if let Some((_, rest)) = error.split_once("ERROR: ") {
            refusals.push(refusal(node.take(), rest));
        }
    }
    refusals.truncate(MAX_REFUSALS);
    refusals
}

/// Reads `2 [StringNormalizer -> "c"]:`.
fn header(text: &str) -> Option<Node> {
    let (op_type, rest) = text.split_once('[')?.1.split_once(" -> \"")?;
    let first_output = rest.trim_end().strip_suffix("\"]:").unwrap_or(rest);
    Some(Node { op_type: op_type.into(), first_output: first_output.into(), name: String::new() })
}

/// Reads `FILE:LINE In function FUNCTION:` and `[CODE] WORDS`.
fn refusal(node: Option<Node>, text: &str) -> Refusal {
    let (function, rest) = match text.split_once("In function ") {
        Some((_, rest)) => rest.split_once(':').unwrap_or((rest, "")),
        None => ("", text),
    };
    let (code, words) = match rest.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((code, words)) => (code.parse::<u32>().ok(), words),
        None => (None, rest),
    };
    let words: Vec<&str> =
        words.lines().filter(|line| !is_of_driver(line)).flat_map(str::split_whitespace).collect();
    let words = words.join(" ");
    // The check of an operator that is never taken says no more than `false`.
    let is_never_taken = matches!(words.as_str(), "" | "false");
    let reason = if is_never_taken { RefusalReason::Operator } else { reason(code, &words) };
    let message = if is_never_taken { format!("{function} refuses it") } else { sentence(&words) };
    let (node, op_type) = match node {
        Some(Node { op_type, first_output, name }) => {
            (Some(if name.is_empty() { first_output } else { name }), Some(op_type))
        }
        None => (None, None),
    };
    Refusal { node, op_type, reason, message }
}

/// Leaves out the code of a check that failed, where it goes with a sentence:
/// `Assertion failed: input.is_weights(): frame_step must be an initializer!`, `creator && "Plugin not found"`.
fn sentence(words: &str) -> String {
    let words = words.strip_prefix("Assertion failed: ").unwrap_or(words);
    let quoted = words.split_once("&& \"").map(|(_, rest)| rest.trim_end().trim_end_matches(['"', '.', '!']));
    let after = words.split_once("): ").map(|(_, rest)| rest);
    quoted.or(after).filter(|sentence| !sentence.is_empty()).unwrap_or(words).to_owned()
}

/// Returns whether a line says that this machine has no driver: the library needs none to parse.
fn is_of_driver(line: &str) -> bool {
    line.contains("catchCudaError") || line.contains("cudaError ")
}

fn reason(code: Option<u32>, words: &str) -> RefusalReason {
    let is_missing = words.contains("Plugin not found") || words.contains("not found in plugin registry");
    // `nvonnxparser::ErrorCode`.
    match code {
        _ if is_missing => RefusalReason::Operator,
        _ if words.contains("convertDtype") || words.contains("But type is ") => RefusalReason::ElementType,
        Some(9) => RefusalReason::Attribute,
        Some(11) => RefusalReason::ElementType,
        Some(12) => RefusalReason::DynamicShape,
        Some(13) => RefusalReason::Shape,
        _ => RefusalReason::Other,
    }
}
