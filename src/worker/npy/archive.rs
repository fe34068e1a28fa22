//! Tensors as `.npz`: a zip of `.npy` files, which NumPy opens.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read as _, Seek, Write as _};
use std::path::Path;

use zip::read::ZipArchive;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::{NpyError, Tensor};

/// Packs tensors under their names; equal tensors give equal bytes.
///
/// # Errors
/// More than an archive can hold.
pub fn write(tensors: &BTreeMap<String, Tensor>) -> io::Result<Vec<u8>> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default());
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, tensor) in tensors {
        archive.start_file(format!("{name}.npy"), options)?;
        archive.write_all(&tensor.to_npy())?;
    }
    Ok(archive.finish()?.into_inner())
}

/// Reads one array of an archive.
///
/// # Errors
/// A file that is not an archive or lacks the array; an array that is not a tensor.
pub fn read_array(path: &Path, name: &str) -> Result<Tensor, NpyError> {
    let file = fs_err::File::open(path).map_err(NpyError::Io)?;
    let bad = |reason: String| NpyError::Format { path: path.into(), reason };
    let mut archive = ZipArchive::new(file).map_err(|error| bad(error.to_string()))?;
    if archive.index_for_name(&format!("{name}.npy")).is_none() {
        let names = array_names(&archive).map_err(bad)?;
        return Err(bad(format!("it has no array `{name}`, only {}", names.join(", "))));
    }
    member(&mut archive, name).map_err(bad)
}

/// Returns the names of the arrays of an archive.
///
/// # Errors
/// A file that is not an archive.
pub fn names(path: &Path) -> Result<Vec<String>, NpyError> {
    let file = fs_err::File::open(path).map_err(NpyError::Io)?;
    let bad = |reason: String| NpyError::Format { path: path.into(), reason };
    let archive = ZipArchive::new(file).map_err(|error| bad(error.to_string()))?;
    array_names(&archive).map_err(bad)
}

/// Reads all arrays of an archive in memory.
///
/// # Errors
/// In words: bytes that are no archive of tensors.
pub fn read_all(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| error.to_string())?;
    let names = array_names(&archive)?;
    names.into_iter().map(|name| member(&mut archive, &name).map(|tensor| (name, tensor))).collect()
}

fn array_names<R: io::Read + Seek>(archive: &ZipArchive<R>) -> Result<Vec<String>, String> {
    let array = |name: &str| name.strip_suffix(".npy").map(str::to_owned);
    let names: Result<Vec<_>, _> =
        archive.file_names().map(|name| name.map(|name| array(name.as_ref()))).collect();
    Ok(names.map_err(|error| error.to_string())?.into_iter().flatten().collect())
}

/// Memory is taken for what is in the archive, never for what it claims.
fn member<R: io::Read + Seek>(archive: &mut ZipArchive<R>, name: &str) -> Result<Tensor, String> {
    let file = archive.by_name(&format!("{name}.npy")).map_err(|error| error.to_string())?;
    let size_bytes = file.size();
    let mut bytes = Vec::new();
    file.take(size_bytes).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Tensor::from_npy(bytes)
}
