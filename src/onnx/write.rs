//! Writes a model whose weights are produced on demand, so that it never has to be in memory as a whole.
//!
//! The bytes depend on the arguments alone. Every length is known before the first byte is written, because
//! protobuf puts lengths first; so every payload has its place, and several are written at once. When the model file would grow past a threshold, large payloads go to one file
//! beside it, `<file name>.data`, each at a multiple of 4096 bytes so that it can be mapped.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::OnnxError;
use super::external_data;
use super::parallel;
use super::proto::{GraphProto, ModelProto, TensorProto};
use crate::files::atomic_file;

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

/// Writes a payload, piece by piece. Several payloads are produced at once, each on one thread.
pub type Produce<'a> = Box<dyn Fn(&mut dyn Write) -> io::Result<()> + Send + Sync + 'a>;

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WrittenFile {
    /// The path, relative to the folder of the destination.
    pub path: String,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// An initializer whose payload is produced when it is written.
pub struct Initializer<'a> {
    /// Name, dimensions and type; no payload of any kind.
    pub header: TensorProto,
    /// The size of the payload in bytes.
    pub size_bytes: u64,
    /// Writes exactly `size_bytes` of little-endian payload; called once.
    pub produce: Produce<'a>,
}

/// Writes `model` with `initializers` after those it has, atomically, and returns what was written: the model file
/// first.
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
) -> Result<Vec<WrittenFile>, OnnxError> {
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

    let mut data_file = None;
    if !external.is_empty() {
        let mut layout = Layout::new(folder.join(&data_name));
        for one in &external {
            layout.pad_to_alignment();
            layout.payload(one);
        }
        data_file = Some(layout.write()?);
    }
    let mut files =
        vec![Skeleton::new(model, &graph, &initializers).lay_out(destination, &initializers).write()?];
    files.extend(data_file);
    Ok(files)
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

    fn lay_out<'a>(&self, path: &Path, initializers: &'a [Initializer<'a>]) -> Layout<'a> {
        let mut layout = Layout::new(path.into());
        layout.bytes(&self.model);
        layout.bytes(&field_head(MODEL_GRAPH, self.graph_bytes));
        layout.bytes(&self.graph);
        for (header, one) in self.headers.iter().zip(initializers) {
            layout.bytes(&field_head(GRAPH_INITIALIZER, tensor_bytes(header, one.size_bytes)));
            layout.bytes(header);
            layout.bytes(&field_head(TENSOR_RAW_DATA, one.size_bytes));
            layout.payload(one);
        }
        layout
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

/// What is where in a file that is going to be written.
struct Layout<'a> {
    path: PathBuf,
    /// Bytes that are known, with their offsets; neighbours are one piece.
    known: Vec<(u64, Vec<u8>)>,
    payloads: Vec<(u64, &'a Initializer<'a>)>,
    size_bytes: u64,
}

impl<'a> Layout<'a> {
    fn new(path: PathBuf) -> Self {
        Self { path, known: Vec::new(), payloads: Vec::new(), size_bytes: 0 }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        match self.known.last_mut() {
            Some((offset, last)) if *offset + last.len() as u64 == self.size_bytes => {
                last.extend_from_slice(bytes);
            }
            _ => self.known.push((self.size_bytes, bytes.to_vec())),
        }
        self.size_bytes += bytes.len() as u64;
    }

    /// Leaves a hole of zeros.
    fn pad_to_alignment(&mut self) {
        self.size_bytes = self.size_bytes.next_multiple_of(ALIGNMENT_BYTES);
    }

    fn payload(&mut self, one: &'a Initializer<'a>) {
        self.payloads.push((self.size_bytes, one));
        self.size_bytes += one.size_bytes;
    }

    /// Writes all of it to a temporary file, and gives that its name.
    fn write(self) -> Result<WrittenFile, OnnxError> {
        let Self { path, known, payloads, size_bytes } = self;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let temporary = atomic_file::temporary_in(parent.unwrap_or(Path::new(".")));
        let temporary = temporary.map_err(OnnxError::io("write", &path))?;
        let file = temporary.as_file();
        file.set_len(size_bytes).map_err(OnnxError::io("write", &path))?;
        for (offset, bytes) in &known {
            file.write_all_at(bytes, *offset).map_err(OnnxError::io("write", &path))?;
        }
        parallel::for_each(&payloads, |(offset, one)| write_payload(file, &path, *offset, one))?;
        atomic_file::persist(temporary, &path).map_err(OnnxError::io("write", &path))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(WrittenFile { path: name, size_bytes })
    }
}

fn write_payload(file: &File, path: &Path, offset: u64, one: &Initializer<'_>) -> Result<(), OnnxError> {
    let place = Place { file, offset, end: offset + one.size_bytes };
    let mut writer = BufWriter::with_capacity(BUFFER_BYTES.min(one.size_bytes as usize), place);
    let produced = (one.produce)(&mut writer).and_then(|()| writer.flush());
    let found_bytes = writer.get_ref().offset - offset;
    produced.map_err(OnnxError::io("write", path))?;
    if found_bytes != one.size_bytes {
        let (tensor, needed_bytes) = (one.header.name().to_string(), one.size_bytes);
        return Err(OnnxError::PayloadSize { tensor, needed_bytes, found_bytes });
    }
    Ok(())
}

/// A part of a file, written from its start; nothing goes beyond its end.
struct Place<'a> {
    file: &'a File,
    offset: u64,
    end: u64,
}

impl Write for Place<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // What is too much is counted for the error, and not written over the next payload.
        let room = usize::try_from(self.end.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        self.file.write_all_at(&bytes[..bytes.len().min(room)], self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
