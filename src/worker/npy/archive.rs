//! Tensors as `.npz`: a zip of `.npy` files, which NumPy opens.
//!
//! What is read is checked as NumPy does: every array against its checksum, and its name in the directory of the archive
//! against the name beside its bytes.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write as _};
use std::path::Path;

use zip::read::ZipArchive;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::{NpyError, Tensor};

/// The most bytes that one array may take: 32 GiB, so that a small archive can't fill the memory.
const MAX_ARRAY_BYTES: u64 = 32 << 30;
/// Where the length of a name, and the name, are in the header before the bytes of a file.
const NAME_LENGTH_AT: u64 = 26;
const NAME_AT: u64 = 30;

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
/// A file that is not an archive, is damaged, or lacks the array; an array that is not a tensor.
pub fn read_array(path: &Path, name: &str) -> Result<Tensor, NpyError> {
    let open = || fs_err::File::open(path).map(io::BufReader::new).map_err(NpyError::Io);
    let bad = |reason: String| NpyError::Format { path: path.into(), reason };
    let mut archive = ZipArchive::new(open()?).map_err(|error| bad(error.to_string()))?;
    if archive.index_for_name(&format!("{name}.npy")).is_none() {
        let names = array_names(&archive).map_err(bad)?;
        return Err(bad(format!("it has no array `{name}`, only {}", names.join(", "))));
    }
    member(&mut archive, &mut open()?, name).map_err(bad)
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
/// In words: bytes that are no archive of tensors, or are damaged.
pub fn read_all(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| error.to_string())?;
    let mut raw = Cursor::new(bytes);
    check_complete(&mut archive)?;
    let names = array_names(&archive)?;
    if names.len() != archive.len() {
        return Err("it has files that are no arrays".into());
    }
    names.into_iter().map(|name| member(&mut archive, &mut raw, &name).map(|tensor| (name, tensor))).collect()
}

fn array_names<R: Read + Seek>(archive: &ZipArchive<R>) -> Result<Vec<String>, String> {
    let array = |name: &str| name.strip_suffix(".npy").map(str::to_owned);
    let names: Result<Vec<_>, _> =
        archive.file_names().map(|name| name.map(|name| array(name.as_ref()))).collect();
    Ok(names.map_err(|error| error.to_string())?.into_iter().flatten().collect())
}

/// Fails unless the files of the directory fill the archive, one behind the other: an array that is not in it is missed.
fn check_complete<R: Read + Seek>(archive: &mut ZipArchive<R>) -> Result<(), String> {
    let mut places = Vec::new();
    for index in 0..archive.len() {
        let file = archive.by_index_raw(index).map_err(|error| error.to_string())?;
        let end = file.data_start().and_then(|start| start.checked_add(file.compressed_size()));
        places.push((file.header_start(), end.ok_or("its directory is damaged")?));
    }
    places.sort_unstable();
    let mut next = 0;
    for (start, end) in places {
        if start != next {
            return Err("its directory is damaged: it does not list every array".into());
        }
        next = end;
    }
    if next != archive.central_directory_start() {
        return Err("its directory is damaged: it does not list every array".into());
    }
    Ok(())
}

/// Reads one array; `raw` has the same bytes as the archive. Memory is taken for what is in the archive, never for what it
/// claims.
fn member<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    raw: &mut (impl Read + Seek),
    name: &str,
) -> Result<Tensor, String> {
    let damaged = |what: String| format!("its array `{name}` is damaged: {what}");
    let name_in_zip = format!("{name}.npy");
    let file = archive.by_name(&name_in_zip).map_err(|error| match error {
        ZipError::Io(error) => damaged(error.to_string()),
        error => error.to_string(),
    })?;
    let size_bytes = file.size();
    if size_bytes > MAX_ARRAY_BYTES {
        return Err(format!("its array `{name}` has {size_bytes} bytes: at most {MAX_ARRAY_BYTES} are read"));
    }
    let header = name_in_header(raw, file.header_start()).map_err(|error| damaged(error.to_string()))?;
    if header != name_in_zip.as_bytes() {
        let header = String::from_utf8_lossy(&header);
        return Err(damaged(format!("the name beside it is `{header}`")));
    }
    let mut bytes = Vec::new();
    // One byte more than it has: only who reads to the end is told of a wrong checksum.
    file.take(size_bytes + 1).read_to_end(&mut bytes).map_err(|error| damaged(error.to_string()))?;
    if bytes.len() as u64 != size_bytes {
        return Err(damaged(format!("it has {} bytes, not the {size_bytes} it claims", bytes.len())));
    }
    Tensor::from_npy(bytes)
}

/// Reads the name in the header before the bytes of a file.
fn name_in_header(raw: &mut (impl Read + Seek), header_at: u64) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    raw.seek(SeekFrom::Start(header_at.saturating_add(NAME_LENGTH_AT)))?;
    raw.read_exact(&mut length)?;
    raw.seek(SeekFrom::Start(header_at.saturating_add(NAME_AT)))?;
    let mut name = vec![0; usize::from(u16::from_le_bytes(length))];
    raw.read_exact(&mut name)?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let numbers: Vec<f32> = (0..160).map(|number| number as f32 * 0.37).collect();
        let tensors = [("min/x", &numbers[..60]), ("opt/x", &numbers[60..])];
        write(&tensors.map(|(name, all)| (name.to_owned(), Tensor::new(&[all.len()], all).unwrap())).into())
            .unwrap()
    }

    /// A bit that is changed is noticed wherever it decides a name or a number.
    #[test]
    fn damage_is_noticed() {
        let whole = archive();
        let expected = read_all(&whole).unwrap();
        assert_eq!(expected.len(), 2);
        for index in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[index] ^= 1 << bit;
                if let Ok(found) = read_all(&damaged) {
                    assert_eq!(found, expected, "bit {bit} of byte {index}");
                }
            }
        }
        for length in 0..whole.len() {
            assert!(read_all(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn damage_of_one_array_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npz");
        let mut bytes = archive();
        bytes[120] ^= 4;
        fs_err::write(&path, &bytes).unwrap();
        let error = read_array(&path, "min/x").unwrap_err().to_string();
        assert!(error.contains("x.npz") && error.contains("`min/x` is damaged"), "{error}");
        assert!(read_array(&path, "opt/x").is_ok());
        let error = read_array(&path, "x").unwrap_err().to_string();
        assert!(error.contains("no array `x`, only min/x, opt/x"), "{error}");
    }
}
