//! Writes a model whose weights are produced on demand, so that it never has to be in memory as a whole.
//!
//! The bytes depend on the arguments alone. Every length is known before the first byte is written, because
//! protobuf puts lengths first. When the model file would grow past a threshold, large payloads go to one file
//! beside it, `<file name>.data`, each at a multiple of 4096 bytes so that it can be mapped.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use sha2::Digest as _;

use super::error::OnnxError;
use super::external_data;
use super::graph_digest::{FileDigest, WrittenFiles};
use super::proto::{GraphProto, ModelProto, TensorProto};
use crate::atomic_file;
use crate::digest::Sha256;

/// A model file stays below this size unless asked otherwise; protobuf's own limit is 2 GiB.
pub const DEFAULT_INLINE_LIMIT_BYTES: u64 = 1_800_000_000;

/// Tensors smaller than this stay in the model file, so that runtimes see shapes without reading another file.
const SMALL_TENSOR_BYTES: u64 = 1024;
const ALIGNMENT_BYTES: u64 = 4096;
const PROTOBUF_LIMIT_BYTES: u64 = (1 << 31) - 1;
const BUFFER_BYTES: usize = 1024 * 1024;

// Field numbers of the ONNX specification.
const MODEL_GRAPH: u32 = 7;
const GRAPH_INITIALIZER: u32 = 5;
const TENSOR_RAW_DATA: u32 = 9;

/// Writes a payload, piece by piece.
pub type Produce<'a> = Box<dyn FnMut(&mut dyn Write) -> io::Result<()> + 'a>;

/// An initializer whose payload is produced when it is written.
pub struct Initializer<'a> {
    /// Name, dimensions and type; no payload of any kind.
    pub header: TensorProto,
    /// The size of the payload in bytes.
    pub size_bytes: u64,
    /// Writes exactly `size_bytes` of little-endian payload; called once.
    pub produce: Produce<'a>,
}

/// Writes `model` with `initializers` after those it has, atomically, and returns the digests of what was written.
///
/// Payloads of 1 KiB and more go to the file `<file name>.data` beside `destination` if the model file would
/// otherwise be larger than `inline_limit_bytes`. That file is in place before the model file is.
///
/// # Errors
/// I/O errors; a model too large for protobuf even without weights; a producer that breaks its promise.
pub fn write_model(
    model: &ModelProto,
    mut initializers: Vec<Initializer<'_>>,
    destination: &Path,
    inline_limit_bytes: u64,
) -> Result<WrittenFiles, OnnxError> {
    let no_name = || OnnxError::NoFileName { path: destination.into() };
    let name = destination.file_name().and_then(|name| name.to_str()).ok_or_else(no_name)?;
    let parent = destination.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = parent.unwrap_or(Path::new("."));
    fs_err::create_dir_all(folder).map_err(OnnxError::io("create", folder))?;

    let mut graph = model.graph.clone().unwrap_or_default();
    let mut external = Vec::new();
    let mut size_bytes = Skeleton::new(model, &graph, &initializers).size_bytes();
    let data_name = format!("{name}.data");
    if size_bytes > inline_limit_bytes {
        (initializers, external) =
            initializers.into_iter().partition(|one| one.size_bytes < SMALL_TENSOR_BYTES);
        let mut offset_bytes = 0u64;
        for one in &mut external {
            offset_bytes = offset_bytes.next_multiple_of(ALIGNMENT_BYTES);
            one.header.data_location = Some(1);
            one.header.external_data = external_data::entries(&data_name, offset_bytes, one.size_bytes);
            graph.initializer.push(one.header.clone());
            offset_bytes += one.size_bytes;
        }
        size_bytes = Skeleton::new(model, &graph, &initializers).size_bytes();
    }
    if size_bytes > PROTOBUF_LIMIT_BYTES {
        return Err(OnnxError::TooLarge { path: destination.into(), size_bytes });
    }

    let mut data_digest = None;
    if !external.is_empty() {
        let path = folder.join(&data_name);
        let mut file = HashedFile::create(&path)?;
        for one in &mut external {
            file.pad_to_alignment()?;
            file.payload(one)?;
        }
        data_digest = Some(file.finish()?);
    }
    let mut file = HashedFile::create(destination)?;
    Skeleton::new(model, &graph, &initializers).write(&mut file, &mut initializers)?;
    let mut files = vec![file.finish()?];
    files.extend(data_digest);
    Ok(WrittenFiles { files })
}

/// The encoded model without the payloads, and the lengths that must be known before them.
struct Skeleton {
    model: Vec<u8>,
    graph: Vec<u8>,
    headers: Vec<Vec<u8>>,
    graph_bytes: u64,
}

impl Skeleton {
    fn new(model: &ModelProto, graph: &GraphProto, initializers: &[Initializer<'_>]) -> Self {
        let model = ModelProto { graph: None, ..model.clone() };
        let headers: Vec<Vec<u8>> = initializers.iter().map(|one| one.header.encode_to_vec()).collect();
        let graph = graph.encode_to_vec();
        let sizes = headers.iter().zip(initializers);
        let tensors_bytes: u64 = sizes
            .map(|(header, one)| field_bytes(GRAPH_INITIALIZER, tensor_bytes(header, one.size_bytes)))
            .sum();
        let graph_bytes = graph.len() as u64 + tensors_bytes;
        Self { model: model.encode_to_vec(), graph, headers, graph_bytes }
    }

    fn size_bytes(&self) -> u64 {
        self.model.len() as u64 + field_bytes(MODEL_GRAPH, self.graph_bytes)
    }

    fn write(&self, file: &mut HashedFile, initializers: &mut [Initializer<'_>]) -> Result<(), OnnxError> {
        file.bytes(&self.model)?;
        file.bytes(&field_head(MODEL_GRAPH, self.graph_bytes))?;
        file.bytes(&self.graph)?;
        for (header, one) in self.headers.iter().zip(initializers) {
            file.bytes(&field_head(GRAPH_INITIALIZER, tensor_bytes(header, one.size_bytes)))?;
            file.bytes(header)?;
            file.bytes(&field_head(TENSOR_RAW_DATA, one.size_bytes))?;
            file.payload(one)?;
        }
        Ok(())
    }
}

fn tensor_bytes(header: &[u8], payload_bytes: u64) -> u64 {
    header.len() as u64 + field_bytes(TENSOR_RAW_DATA, payload_bytes)
}

fn field_bytes(number: u32, length_bytes: u64) -> u64 {
    (key_len(number) + encoded_len_varint(length_bytes)) as u64 + length_bytes
}

fn field_head(number: u32, length_bytes: u64) -> Vec<u8> {
    let mut head = Vec::new();
    encode_key(number, WireType::LengthDelimited, &mut head);
    encode_varint(length_bytes, &mut head);
    head
}

/// A temporary file that is hashed while it is written.
struct HashedFile {
    path: PathBuf,
    writer: BufWriter<HashingWriter>,
    written_bytes: u64,
}

struct HashingWriter {
    file: tempfile::NamedTempFile,
    hasher: sha2::Sha256,
}

impl Write for HashingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl HashedFile {
    fn create(path: &Path) -> Result<Self, OnnxError> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let file = atomic_file::temporary_in(parent.unwrap_or(Path::new(".")));
        let file = file.map_err(OnnxError::io("write", path))?;
        let writer =
            BufWriter::with_capacity(BUFFER_BYTES, HashingWriter { file, hasher: sha2::Sha256::new() });
        Ok(Self { path: path.into(), writer, written_bytes: 0 })
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), OnnxError> {
        self.write_all(bytes).map_err(OnnxError::io("write", &self.path))
    }

    fn pad_to_alignment(&mut self) -> Result<(), OnnxError> {
        let padding_bytes = self.written_bytes.next_multiple_of(ALIGNMENT_BYTES) - self.written_bytes;
        // Less than one alignment, so it fits in usize.
        self.bytes(&vec![0; padding_bytes as usize])
    }

    fn payload(&mut self, one: &mut Initializer<'_>) -> Result<(), OnnxError> {
        let start_bytes = self.written_bytes;
        let path = self.path.clone();
        (one.produce)(self).map_err(OnnxError::io("write", &path))?;
        let found_bytes = self.written_bytes - start_bytes;
        if found_bytes != one.size_bytes {
            let (tensor, needed_bytes) = (one.header.name().to_string(), one.size_bytes);
            return Err(OnnxError::PayloadSize { tensor, needed_bytes, found_bytes });
        }
        Ok(())
    }

    fn finish(self) -> Result<FileDigest, OnnxError> {
        let Self { path, writer, written_bytes } = self;
        let writer =
            writer.into_inner().map_err(|failed| OnnxError::io("write", &path)(failed.into_error()))?;
        atomic_file::persist(writer.file, &path).map_err(OnnxError::io("write", &path))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let sha256 = Sha256::from_bytes(writer.hasher.finalize().into());
        Ok(FileDigest { path: name, sha256, size_bytes: written_bytes })
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.writer.write(bytes)?;
        self.written_bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
