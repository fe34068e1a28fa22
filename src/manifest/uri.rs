//! Uris of files that nimctl writes: `store:sha256:<hex>` in a build's manifest, `file:<path>` in that of a release,
//! `oci://…` for what is in a registry.

use std::path::{Component, Path, PathBuf};

use crate::digest::Sha256;
use crate::percent;

/// Returns the uri of a file that is only in the store.
pub fn store_uri(sha256: &Sha256) -> String {
    format!("store:{sha256}")
}

/// Returns the digest in the uri of a file that is only in the store.
pub fn store_digest(uri: &str) -> Option<Sha256> {
    uri.strip_prefix("store:")?.parse().ok()
}

/// Returns the uri of a file at a path relative to the manifest's folder, with `/`: `file:profiles/<id>/contents.json`. What a uri
/// can't hold is percent-encoded.
pub fn file_uri(path: &str) -> String {
    format!("file:{}", percent::encode(path, "/+@,="))
}

/// Returns the uri of a file of a profile that is in a registry: the repository (`host/name`), the digest of the profile's manifest
/// and the path in the profile.
pub fn oci_uri(repository: &str, manifest: &Sha256, path: &str) -> String {
    let path = file_uri(path);
    format!("oci://{repository}@{manifest}?file={}", path.trim_start_matches("file:"))
}

/// Returns the path, relative to the manifest's folder, in the uri of a file there; `None` for any other uri, and for a path that
/// leads out of the folder.
pub fn file_path(uri: &str) -> Option<PathBuf> {
    let path = PathBuf::from(percent::decode(uri.strip_prefix("file:")?)?);
    let is_inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    (is_inside && path != Path::new("")).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_back() {
        for (path, uri) in [
            ("profiles/ab/contents.json", "file:profiles/ab/contents.json"),
            ("profiles/ab/text/weights 1%.bin", "file:profiles/ab/text/weights%201%25.bin"),
            ("profiles/ab/é?#.onnx", "file:profiles/ab/%C3%A9%3F%23.onnx"),
        ] {
            assert_eq!(file_uri(path), uri);
            assert_eq!(file_path(uri), Some(PathBuf::from(path)));
        }
    }

    #[test]
    fn other_uris_are_no_paths() {
        for uri in [
            "store:sha256:00",
            "ngc://org/model:1?file=a",
            "file:",
            "file:/etc/passwd",
            "file:///etc/passwd",
            "file:../a",
            "file:a/%2e%2e/%2E%2E/b",
            "file:a%2",
            "file:a%zz",
            "file:%ff",
        ] {
            assert_eq!(file_path(uri), None, "{uri}");
        }
    }
}
