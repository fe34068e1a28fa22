//! Samples as `.npz`: a zip of `.npy` files, which NumPy opens.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Write as _};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::worker::npy::Tensor;

/// Packs tensors under their names; equal tensors give equal bytes.
pub(super) fn npz(tensors: &BTreeMap<String, Tensor>) -> io::Result<Vec<u8>> {
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
