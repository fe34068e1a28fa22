//! Tensors as `.npy` files: NumPy's format, versions 1.0 and 2.0, little-endian and in C order.
//!
//! NumPy has no bfloat16. What the `ml_dtypes` package makes of it is `<V2`, two opaque bytes, and so do we: a file of
//! that type is read as `bfloat16`. Big-endian and Fortran-ordered arrays are refused; `numpy.ascontiguousarray` and
//! `astype` make them readable.

mod file;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

pub use self::file::NpyFile;
use crate::atomic_file;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// The whole header is padded to a multiple of this, so that the data is aligned when mapped.
const ALIGNMENT_BYTES: usize = 64;

/// The types of element that a tensor can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ElementType {
    /// IEEE half precision.
    Float16,
    /// The upper half of a `float32`.
    Bfloat16,
    /// IEEE single precision.
    Float32,
    /// IEEE double precision.
    Float64,
    /// Signed, 8 bits.
    Int8,
    /// Signed, 16 bits.
    Int16,
    /// Signed, 32 bits.
    Int32,
    /// Signed, 64 bits.
    Int64,
    /// Unsigned, 8 bits.
    Uint8,
    /// Unsigned, 16 bits.
    Uint16,
    /// Unsigned, 32 bits.
    Uint32,
    /// Unsigned, 64 bits.
    Uint64,
    /// One byte, 0 or 1.
    Bool,
}

/// Type, name in the protocol, size in bytes, and NumPy's spellings, the one we write first.
const TYPES: [(ElementType, &str, usize, &[&str]); 13] = [
    (ElementType::Float16, "float16", 2, &["<f2"]),
    (ElementType::Bfloat16, "bfloat16", 2, &["<V2", "|V2"]),
    (ElementType::Float32, "float32", 4, &["<f4"]),
    (ElementType::Float64, "float64", 8, &["<f8"]),
    (ElementType::Int8, "int8", 1, &["|i1", "<i1"]),
    (ElementType::Int16, "int16", 2, &["<i2"]),
    (ElementType::Int32, "int32", 4, &["<i4"]),
    (ElementType::Int64, "int64", 8, &["<i8"]),
    (ElementType::Uint8, "uint8", 1, &["|u1", "<u1"]),
    (ElementType::Uint16, "uint16", 2, &["<u2"]),
    (ElementType::Uint32, "uint32", 4, &["<u4"]),
    (ElementType::Uint64, "uint64", 8, &["<u8"]),
    (ElementType::Bool, "bool", 1, &["|b1"]),
];

impl ElementType {
    fn row(self) -> (&'static str, usize, &'static [&'static str]) {
        let (_, name, size_bytes, spellings) = TYPES[self as usize];
        (name, size_bytes, spellings)
    }

    /// Returns the name that the protocol uses, `float32` say.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// Returns the size of one element.
    pub fn size_bytes(self) -> usize {
        self.row().1
    }

    /// Returns the type of a protocol name.
    pub fn from_name(name: &str) -> Option<Self> {
        TYPES.iter().find(|row| row.1 == name).map(|row| row.0)
    }
}

/// A tensor: its elements are little-endian, in C order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    element_type: ElementType,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Why a tensor file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum NpyError {
    /// The file can't be read or written.
    #[error("cannot read or write a tensor file")]
    Io(#[source] io::Error),
    /// The file is not in the format.
    #[error("{} is not a readable tensor file: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Shape and elements don't fit together.
    #[error("a tensor of shape {shape:?} cannot have {element_count} elements")]
    Shape {
        /// The shape.
        shape: Vec<usize>,
        /// How many elements there are.
        element_count: usize,
    },
}

/// A Rust type that is the element of a tensor.
pub trait Element: Copy {
    /// The tensor's type for it.
    const TYPE: ElementType;

    /// Reads one element from as many bytes as it has.
    fn read(bytes: &[u8]) -> Self;

    /// Writes one element.
    fn write(self, bytes: &mut Vec<u8>);
}

macro_rules! elements {
    ($($rust:ty => $variant:ident),*) => {
        $(impl Element for $rust {
            const TYPE: ElementType = ElementType::$variant;

            fn read(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<$rust>()];
                array.copy_from_slice(bytes);
                Self::from_le_bytes(array)
            }

            fn write(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
        })*
    };
}

elements!(
    half::f16 => Float16, half::bf16 => Bfloat16, f32 => Float32, f64 => Float64,
    i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64,
    u8 => Uint8, u16 => Uint16, u32 => Uint32, u64 => Uint64
);

impl Element for bool {
    const TYPE: ElementType = ElementType::Bool;

    fn read(bytes: &[u8]) -> Self {
        bytes != [0]
    }

    fn write(self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(self));
    }
}

impl Tensor {
    /// Makes a tensor of elements in C order.
    ///
    /// # Errors
    /// The shape has another number of elements.
    pub fn new<T: Element>(shape: &[usize], elements: &[T]) -> Result<Self, NpyError> {
        if element_count(shape) != Some(elements.len()) {
            return Err(NpyError::Shape { shape: shape.into(), element_count: elements.len() });
        }
        let mut bytes = Vec::with_capacity(size_of_val(elements));
        for element in elements {
            element.write(&mut bytes);
        }
        Ok(Self { element_type: T::TYPE, shape: shape.into(), bytes })
    }

    /// Makes a tensor of elements as they are in memory: little-endian, in C order.
    ///
    /// # Errors
    /// The shape has another number of elements.
    pub fn from_bytes(element_type: ElementType, shape: &[usize], bytes: &[u8]) -> Result<Self, NpyError> {
        let size_bytes = element_count(shape).and_then(|count| count.checked_mul(element_type.size_bytes()));
        if size_bytes != Some(bytes.len()) {
            let element_count = bytes.len() / element_type.size_bytes();
            return Err(NpyError::Shape { shape: shape.into(), element_count });
        }
        Ok(Self { element_type, shape: shape.into(), bytes: bytes.to_vec() })
    }

    /// Returns the type of its elements.
    pub fn element_type(&self) -> ElementType {
        self.element_type
    }

    /// Returns its dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns its elements as they are in memory: little-endian, in C order.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns its elements, if they are of this type.
    pub fn elements<T: Element>(&self) -> Option<Vec<T>> {
        (self.element_type == T::TYPE)
            .then(|| self.bytes.chunks_exact(self.element_type.size_bytes()).map(T::read).collect())
    }

    /// Returns its elements as `f64`; integers beyond 2^53 are rounded.
    pub fn to_f64(&self) -> Vec<f64> {
        fn convert<T: Element>(tensor: &Tensor, as_f64: impl Fn(T) -> f64) -> Vec<f64> {
            let size_bytes = tensor.element_type.size_bytes();
            tensor.bytes.chunks_exact(size_bytes).map(|bytes| as_f64(T::read(bytes))).collect()
        }
        match self.element_type {
            ElementType::Float16 => convert(self, half::f16::to_f64),
            ElementType::Bfloat16 => convert(self, half::bf16::to_f64),
            ElementType::Float32 => convert::<f32>(self, f64::from),
            ElementType::Float64 => convert::<f64>(self, |value| value),
            ElementType::Int8 => convert::<i8>(self, f64::from),
            ElementType::Int16 => convert::<i16>(self, f64::from),
            ElementType::Int32 => convert::<i32>(self, f64::from),
            ElementType::Int64 => convert::<i64>(self, |value| value as f64),
            ElementType::Uint8 => convert::<u8>(self, f64::from),
            ElementType::Uint16 => convert::<u16>(self, f64::from),
            ElementType::Uint32 => convert::<u32>(self, f64::from),
            ElementType::Uint64 => convert::<u64>(self, |value| value as f64),
            ElementType::Bool => convert::<bool>(self, |value| f64::from(u8::from(value))),
        }
    }

    /// Reads a file. Memory is taken for what the file holds, never for what its header claims.
    ///
    /// # Errors
    /// I/O errors; a file that is not in the format, or has another number of elements than its header says.
    pub fn read(path: &Path) -> Result<Self, NpyError> {
        NpyFile::open(path)?.whole()
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// In words: what is wrong with them.
    pub fn from_npy(mut bytes: Vec<u8>) -> Result<Self, String> {
        let header = Header::parse(&bytes)?;
        header.check_size(bytes.len() - header.size_bytes)?;
        let Header { element_type, shape, size_bytes } = header;
        bytes.drain(..size_bytes);
        Ok(Self { element_type, shape, bytes })
    }

    /// Returns `count` rows from `first` on, or as many as there are; a row is all that the first dimension doesn't count.
    #[must_use]
    pub fn rows(&self, first: usize, count: usize) -> Self {
        let Some((&rows, rest)) = self.shape.split_first() else { return self.clone() };
        let row_bytes = rest.iter().product::<usize>() * self.element_type.size_bytes();
        let first = first.min(rows);
        let count = count.min(rows - first);
        let shape = std::iter::once(count).chain(rest.iter().copied()).collect();
        let bytes = self.bytes[first * row_bytes..(first + count) * row_bytes].to_vec();
        Self { element_type: self.element_type, shape, bytes }
    }

    /// Writes a file, whole or not at all.
    ///
    /// # Errors
    /// I/O errors.
    pub fn write(&self, path: &Path) -> Result<(), NpyError> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = atomic_file::temporary_in(folder).map_err(NpyError::Io)?;
        file.write_all(&self.header()).and_then(|()| file.write_all(&self.bytes)).map_err(NpyError::Io)?;
        atomic_file::persist(file, path).map_err(NpyError::Io)
    }

    /// Returns the bytes of its file.
    pub fn to_npy(&self) -> Vec<u8> {
        let mut bytes = self.header();
        bytes.extend_from_slice(&self.bytes);
        bytes
    }

    fn header(&self) -> Vec<u8> {
        let dimensions: String = self.shape.iter().map(|dimension| format!("{dimension},")).collect();
        let descr = self.element_type.row().2[0];
        let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dimensions}), }}");
        // Version 1.0 has 16 bits for the length, which a shape of 5000 dimensions would fill.
        let prefix_bytes = if text.len() + ALIGNMENT_BYTES < usize::from(u16::MAX) { 10 } else { 12 };
        let unaligned = prefix_bytes + text.len() + 1;
        text.extend(std::iter::repeat_n(' ', unaligned.next_multiple_of(ALIGNMENT_BYTES) - unaligned));
        text.push('\n');
        let mut header = MAGIC.to_vec();
        match u16::try_from(text.len()) {
            Ok(length) if prefix_bytes == 10 => {
                header.extend([1, 0]);
                header.extend(length.to_le_bytes());
            }
            _ => {
                header.extend([2, 0]);
                header.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            }
        }
        header.extend(text.as_bytes());
        header
    }
}

fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |count, &dimension| count.checked_mul(dimension))
}

#[derive(Debug)]
struct Header {
    element_type: ElementType,
    shape: Vec<usize>,
    /// With magic, version and length.
    size_bytes: usize,
}

impl Header {
    /// Returns where the text of the header begins, and how long it is, if the bytes say so.
    fn start_and_length(bytes: &[u8]) -> Option<(usize, usize)> {
        match bytes.strip_prefix(MAGIC)? {
            [1, 0, a, b, ..] => Some((10, usize::from(u16::from_le_bytes([*a, *b])))),
            [2, 0, a, b, c, d, ..] => Some((12, u32::from_le_bytes([*a, *b, *c, *d]) as usize)),
            _ => None,
        }
    }

    /// Checks the number of bytes behind the header.
    fn check_size(&self, found: usize) -> Result<(), String> {
        let Self { element_type, shape, size_bytes: _ } = self;
        let expected = element_count(shape).and_then(|count| count.checked_mul(element_type.size_bytes()));
        if expected == Some(found) {
            return Ok(());
        }
        Err(format!("{found} bytes of data for {} of shape {shape:?}", element_type.name()))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let rest = bytes.strip_prefix(MAGIC).ok_or("it does not begin with the magic bytes of NPY")?;
        let (start, length) = match (Self::start_and_length(bytes), rest) {
            (Some(known), _) => known,
            (None, [1 | 2, 0, ..] | [] | [_]) => return Err("it ends inside its header".into()),
            (None, [major, minor, ..]) => {
                return Err(format!("format version {major}.{minor} instead of 1.0 or 2.0"));
            }
        };
        let size_bytes = start + length;
        let text = bytes.get(start..size_bytes).ok_or("it ends inside its header")?;
        let text = std::str::from_utf8(text).map_err(|_| "its header is not text")?;
        let [mut descr, mut fortran_order, mut shape] = [None; 3];
        let mut rest =
            text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}')).ok_or("bad header")?.trim();
        while !rest.is_empty() {
            let (key, value) = rest.split_once(':').ok_or("bad header")?;
            let value = value.trim_start();
            // A shape has commas inside its parentheses.
            let end = if value.starts_with('(') {
                value.find(')').ok_or("bad header")? + 1
            } else {
                value.find(',').unwrap_or(value.len())
            };
            let slot = match unquote(key) {
                Some("descr") => &mut descr,
                Some("fortran_order") => &mut fortran_order,
                Some("shape") => &mut shape,
                _ => return Err("bad header".into()),
            };
            *slot = Some(value[..end].trim());
            rest = value[end..].trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        let (Some(descr), Some(fortran_order), Some(shape)) = (descr, fortran_order, shape) else {
            return Err("its header lacks `descr`, `fortran_order` or `shape`".into());
        };
        if fortran_order != "False" {
            return Err("it is in Fortran order (use numpy.ascontiguousarray)".into());
        }
        let element_type = unquote(descr)
            .and_then(|descr| TYPES.iter().find(|row| row.3.contains(&descr)))
            .map(|row| row.0)
            .ok_or_else(|| format!("the element type {descr} is not supported"))?;
        let shape = shape
            .strip_prefix('(')
            .and_then(|shape| shape.strip_suffix(')'))
            .ok_or("bad shape")?
            .split(',')
            .map(str::trim)
            .filter(|dimension| !dimension.is_empty())
            .map(|dimension| dimension.parse().map_err(|_| "bad shape".to_owned()))
            .collect::<Result<Vec<usize>, String>>()?;
        Ok(Self { element_type, shape, size_bytes })
    }
}

fn unquote(text: &str) -> Option<&str> {
    let text = text.trim();
    ['\'', '"'].iter().find_map(|&quote| text.strip_prefix(quote)?.strip_suffix(quote))
}

#[cfg(test)]
mod tests;
