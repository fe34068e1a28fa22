//! `model synth`: models made up from an architecture and a seed, and where recipes keep theirs.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Sha256;
use crate::files::atomic_file;
use crate::files::kept::KeptFiles;
use crate::onnx::{FileDigest, GraphDigest, OnnxError};
use crate::source::{SynthModel, SynthSource};
use crate::synth::{NvclipSize, NvclipTower, SYNTH_VERSION, write_nvclip_tower};

/// Writes both towers of NV-CLIP as `vision.onnx` and `text.onnx` into a folder, which is made where absent.
///
/// # Errors
/// A folder that can't be written.
pub fn write_nvclip(size: NvclipSize, seed: u64, folder: &Path) -> Result<Vec<FileDigest>, OnnxError> {
    let mut files = Vec::new();
    for tower in [NvclipTower::Vision, NvclipTower::Text] {
        for written in write_nvclip_tower(size, tower, seed, &folder.join(format!("{tower}.onnx")))? {
            let path = folder.join(&written.path);
            let (sha256, size_bytes) = Sha256::of_file(&path).map_err(|source| OnnxError::Io {
                action: "read",
                path: path.clone(),
                source,
            })?;
            files.push(FileDigest { path: written.path, sha256, size_bytes });
        }
    }
    Ok(files)
}

/// Returns where a recipe's generated graph is kept. The generator's version is in the path, so that a new one never
/// finds an old one's file.
pub fn cached_path(source: &SynthSource, data_folder: &Path) -> PathBuf {
    let SynthSource { model: SynthModel::Nvclip, size, tower, seed } = source;
    data_folder
        .join(format!("sources/synth/v{SYNTH_VERSION}-nvclip-{size}-{tower}-{seed}"))
        .join(GraphDigest::MODEL_PATH)
}

/// Returns a recipe's generated graph. It is generated the first time, and again if it is no longer what it was; `generating` is
/// called before that, and `cache` remembers digests.
///
/// # Errors
/// A data folder that can't be written.
pub fn cached(
    source: &SynthSource,
    data_folder: &Path,
    cache: &Path,
    generating: &dyn Fn(),
) -> Result<PathBuf, OnnxError> {
    let path = cached_path(source, data_folder);
    let folder = path.parent().unwrap_or(data_folder);
    let list = folder.with_extension("json");
    // What killed processes left half written.
    [folder, list.parent().unwrap_or(folder)].into_iter().for_each(atomic_file::sweep);
    let mut kept =
        KeptFiles::read(&list).map_err(|newer| OnnxError::io("read", &list)(io::Error::other(newer)))?;
    if !kept.are_right(folder, cache) {
        generating();
        let SynthSource { model: SynthModel::Nvclip, size, tower, seed } = source;
        for written in write_nvclip_tower(*size, *tower, *seed, &path)? {
            let at = folder.join(&written.path);
            kept.add(&written.path, &at).map_err(OnnxError::io("read", &at))?;
        }
        kept.write(&list).map_err(OnnxError::io("write", &list))?;
    }
    Ok(path)
}
