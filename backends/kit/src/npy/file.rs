//! A tensor file of which some rows are read at a time.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{ElementType, Header, NpyError, Tensor, element_count};

/// Bytes before the text of a header: magic, version and length.
const PREFIX_BYTES: u64 = 12;

/// A tensor file that is open, and whose elements are read as they are needed.
#[derive(Debug)]
pub struct NpyFile {
    path: PathBuf,
    file: Mutex<fs_err::File>,
    header: Header,
}

impl NpyFile {
    /// Opens a file, and reads what it says of itself.
    ///
    /// # Errors
    /// As [`Tensor::read`].
    pub fn open(path: &Path) -> Result<Self, NpyError> {
        let mut file = fs_err::File::open(path).map_err(NpyError::Io)?;
        let data = file.metadata().map_err(NpyError::Io)?;
        let bad = |reason: String| NpyError::Format { path: path.into(), reason };
        if !data.is_file() {
            return Err(bad("it is not a regular file".into()));
        }
        let mut bytes = Vec::new();
        let mut more = |bytes: &mut Vec<u8>, count: u64| {
            (&mut file).take(count).read_to_end(bytes).map_err(NpyError::Io)
        };
        more(&mut bytes, PREFIX_BYTES)?;
        if let Some((start, length)) = Header::start_and_length(&bytes) {
            let missing = (start + length).saturating_sub(bytes.len());
            more(&mut bytes, missing as u64)?;
        }
        let header = Header::parse(&bytes).map_err(bad)?;
        let found = data.len().saturating_sub(header.size_bytes as u64);
        header.check_size(usize::try_from(found).unwrap_or(usize::MAX)).map_err(bad)?;
        Ok(Self { path: path.into(), file: Mutex::new(file), header })
    }

    /// Returns the type of its elements.
    pub fn element_type(&self) -> ElementType {
        self.header.element_type
    }

    /// Returns its dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.header.shape
    }

    /// Returns the size of a row; a row is all that the first dimension doesn't count.
    pub fn row_bytes(&self) -> usize {
        let row = self.shape().get(1..).and_then(element_count).unwrap_or_default();
        row.saturating_mul(self.element_type().size_bytes())
    }

    /// Reads `count` rows from `first` on, or as many as there are.
    ///
    /// # Errors
    /// I/O errors; a file that became shorter.
    pub fn rows(&self, first: usize, count: usize) -> Result<Tensor, NpyError> {
        let Some((&rows, rest)) = self.shape().split_first() else { return self.whole() };
        let first = first.min(rows);
        let count = count.min(rows - first);
        let shape: Vec<usize> = std::iter::once(count).chain(rest.iter().copied()).collect();
        self.read(first * self.row_bytes(), shape)
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// I/O errors; a file that became shorter.
    pub fn whole(&self) -> Result<Tensor, NpyError> {
        self.read(0, self.shape().to_vec())
    }

    fn read(&self, first_byte: usize, shape: Vec<usize>) -> Result<Tensor, NpyError> {
        let element_type = self.element_type();
        // No more than the file has: that was checked as it was opened.
        let mut bytes = vec![0; element_count(&shape).unwrap_or_default() * element_type.size_bytes()];
        let start = (self.header.size_bytes + first_byte) as u64;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let read = file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(&mut bytes));
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                NpyError::Format { path: self.path.clone(), reason: "it became shorter".into() }
            }
            _ => NpyError::Io(error),
        })?;
        Ok(Tensor { element_type, shape, bytes })
    }
}
