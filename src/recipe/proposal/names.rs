//! Names for a model and its graphs, from the names of its files.

use std::collections::BTreeSet;

use crate::recipe::{MAX_NAME_CHARS, NOT_FOR_GRAPHS};

/// File names that don't name the model: the folder's name is used instead.
const EMPTY: &[&str] =
    &["model", "model_fp16", "model_fp32", "model_int8", "model_quantized", "model_optimized", "graph"];
/// Folder names that say as little: the folder around them is asked.
const EMPTY_FOLDERS: &[&str] =
    &["models", "model", "onnx", "weights", "data", "resources", "assets", "checkpoints"];
/// The name of a model whose name is unknown.
const NAMELESS: &str = "model";

/// Returns the name that a recipe may use for a file or folder: letters, digits, `.`, `_` and `-`, the first a
/// letter or digit, and no more than a recipe allows. `None` if nothing is left.
pub fn plain(name: &str) -> Option<String> {
    let mut plain = String::new();
    for character in name.chars() {
        if character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-') {
            plain.push(character);
        } else if !plain.ends_with('-') {
            plain.push('-');
        }
    }
    let plain = plain.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    // Each character is one byte.
    let plain = plain[..plain.len().min(MAX_NAME_CHARS)].trim_end_matches(['-', '.']);
    (!plain.is_empty()).then(|| plain.to_owned())
}

/// Returns the model's name: that of its only file, without extension, or else of the innermost folder around its files
/// that says something.
pub fn of_model(stems: &[&str], folders: &[&str]) -> String {
    let own = match stems {
        [stem] if !EMPTY.contains(&stem.to_ascii_lowercase().as_str()) => plain(stem),
        _ => None,
    };
    let says_something = |folder: &&&str| !EMPTY_FOLDERS.contains(&folder.to_ascii_lowercase().as_str());
    let folder = || folders.iter().filter(says_something).find_map(|folder| plain(folder));
    let first = || stems.first().and_then(|stem| plain(stem));
    own.or_else(folder).or_else(first).unwrap_or_else(|| NAMELESS.into())
}

/// Returns a name for each graph, by the names of their files without extension; no name twice.
pub fn of_graphs(stems: &[&str]) -> Vec<String> {
    let mut taken: BTreeSet<String> = NOT_FOR_GRAPHS.map(str::to_owned).into();
    let mut names = Vec::new();
    for stem in stems {
        let base = plain(stem).unwrap_or_else(|| NAMELESS.into());
        let mut name = base.clone();
        let mut number = 2;
        while !taken.insert(name.clone()) {
            let suffix = format!("-{number}");
            let room = MAX_NAME_CHARS.saturating_sub(suffix.len()).min(base.len());
            name = format!("{}{suffix}", &base[..room]);
            number += 1;
        }
        names.push(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models() {
        assert_eq!(of_model(&["nudenet 320n"], &["models"]), "nudenet-320n");
        assert_eq!(of_model(&["model"], &["standard_v3_3"]), "standard_v3_3");
        assert_eq!(of_model(&["det", "rec"], &["models", "ocr"]), "ocr");
        assert_eq!(of_model(&["vision", "text"], &[]), "vision");
        assert_eq!(of_model(&["模型"], &[]), "model");
        assert_eq!(of_model(&["-x.v2."], &[]), "x.v2");
    }

    #[test]
    fn graphs() {
        assert_eq!(of_graphs(&["a", "b c", "a", "a", "é"]), ["a", "b-c", "a-2", "a-3", "model"]);
        assert_eq!(of_graphs(&["contents.json"]), ["contents.json-2"]);
        let long = "x".repeat(300);
        let names = of_graphs(&[&long, &long]);
        assert_eq!(names, [long[..128].to_owned(), format!("{}-2", &long[..126])]);
    }
}
