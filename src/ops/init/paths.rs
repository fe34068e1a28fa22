//! Paths of models as a recipe names them: relative to its own folder.

use std::path::{Component, Path, PathBuf};

use super::InitError;

/// Returns each model's path relative to a folder; a model that shares nothing with it but the root keeps its absolute path.
pub(super) fn sources(models: &[PathBuf], folder: &Path) -> Result<Vec<String>, InitError> {
    let folder = resolved(folder)?;
    let mut seen: Vec<PathBuf> = Vec::new();
    let mut sources = Vec::new();
    for model in models {
        // Only the folder is resolved: external data lies beside a link, not beside what it points to.
        let parent = resolved(model.parent().unwrap_or(Path::new("")))?;
        let path = parent.join(model.file_name().unwrap_or_default());
        if seen.contains(&path) {
            return Err(InitError::Twice { path: model.clone() });
        }
        let relative = relative(&path, &folder);
        sources.push(relative.to_str().ok_or_else(|| InitError::NotUtf8 { path: model.clone() })?.to_owned());
        seen.push(path);
    }
    Ok(sources)
}

/// Returns a file's name without its extension.
pub(super) fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns the names of the folders around a file, the innermost first.
pub(super) fn folder_names(path: &Path) -> Vec<String> {
    let Ok(folder) = resolved(path.parent().unwrap_or(Path::new(""))) else { return Vec::new() };
    let names = folder.ancestors().filter_map(Path::file_name);
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

fn resolved(folder: &Path) -> Result<PathBuf, InitError> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    fs_err::canonicalize(folder).map_err(|source| InitError::Resolve { path: folder.into(), source })
}

/// Returns a path relative to a folder; both are absolute and resolved.
fn relative(path: &Path, folder: &Path) -> PathBuf {
    let is_shared = |(a, b): &(Component<'_>, Component<'_>)| a == b;
    let shared = path.components().zip(folder.components()).take_while(is_shared).count();
    if shared <= 1 && path.parent() != Some(Path::new("/")) && folder != Path::new("/") {
        return path.to_path_buf();
    }
    let up = folder.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(path.components().skip(shared)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths() {
        for (path, folder, expected) in [
            ("/a/b/m.onnx", "/a/b", "m.onnx"),
            ("/a/b/c/m.onnx", "/a/b", "c/m.onnx"),
            ("/a/m.onnx", "/a/b/c", "../../m.onnx"),
            ("/x/m.onnx", "/a/b", "/x/m.onnx"),
        ] {
            assert_eq!(relative(Path::new(path), Path::new(folder)), Path::new(expected));
        }
    }
}
