//! Refuses files that would take far more memory than they have bytes, before anything is decoded.
//!
//! A message without fields takes two bytes in a file and hundreds in memory, so a megabyte of them would take 700. No
//! exporter writes such: a node has names. Only lengths and tags are read, so weights are not.

use std::path::Path;

use super::error::OnnxError;
use super::proto;

/// Most bytes of memory for one byte of the file.
const MAX_TIMES: u64 = 32;
/// A file may take this much in any case.
const FREE_BYTES: u64 = 4 << 20;
/// `prost` gives up below this many messages.
const MAX_DEPTH: usize = 100;

/// The messages that have parts of changing number, or that hold such ones.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    Value,
    Type,
    TensorType,
    SequenceType,
    MapType,
    Shape,
    Function,
    Training,
    Annotation,
    Devices,
    Placement,
    Sharding,
    ShardedAxis,
    /// One that holds numbers and names only; how large it is in memory.
    Leaf(usize),
}

use Message as M;

const TEXT: M = M::Leaf(size_of::<String>());
const BLOB: M = M::Leaf(size_of::<bytes::Bytes>());
const ENTRY: M = M::Leaf(size_of::<proto::StringStringEntryProto>());
const OPSET: M = M::Leaf(size_of::<proto::OperatorSetIdProto>());
const DIMENSION: M = M::Leaf(size_of::<proto::Dimension>());

impl Message {
    /// Returns what a field of the message holds, if it has a length and counts here.
    fn part(self, field: u64) -> Option<Self> {
        Some(match (self, field) {
            (M::Model, 7) | (M::Attribute, 6 | 11) | (M::Training, 1 | 2) => M::Graph,
            (M::Model, 8) | (M::Function, 9) => OPSET,
            (M::Model, 14) | (M::Graph, 16) | (M::Node, 9) | (M::Tensor, 13 | 16) | (M::Value, 4) => ENTRY,
            (M::Function, 14) | (M::Annotation, 2) | (M::Training, 3 | 4) => ENTRY,
            (M::Model, 20) => M::Training,
            (M::Model, 25) => M::Function,
            (M::Model, 26) => M::Devices,
            (M::Graph, 1) | (M::Function, 7) => M::Node,
            (M::Graph, 5) | (M::Attribute, 5 | 10) | (M::Sparse, 1 | 2) => M::Tensor,
            (M::Graph, 11..=13) | (M::Function, 12) => M::Value,
            (M::Graph, 14) => M::Annotation,
            (M::Graph, 15) | (M::Attribute, 22 | 23) => M::Sparse,
            (M::Node, 5) | (M::Function, 11) => M::Attribute,
            (M::Node, 10) => M::Placement,
            (M::Node, 1 | 2) | (M::Function, 4..=6) | (M::Devices, 3) => TEXT,
            (M::Attribute, 9) | (M::Tensor, 6) => BLOB,
            (M::Attribute, 14 | 15) | (M::Value, 2) => M::Type,
            (M::Type, 1 | 8) => M::TensorType,
            (M::Type, 4 | 9) => M::SequenceType,
            (M::Type, 5) => M::MapType,
            (M::SequenceType, 1) | (M::MapType, 2) => M::Type,
            (M::TensorType, 2) => M::Shape,
            (M::Shape, 1) => DIMENSION,
            (M::Placement, 2) => M::Sharding,
            (M::Sharding, 3) => M::Leaf(size_of::<proto::IntIntListEntryProto>()),
            (M::Sharding, 4) => M::ShardedAxis,
            (M::ShardedAxis, 2) => M::Leaf(size_of::<proto::SimpleShardedDimProto>()),
            _ => return None,
        })
    }

    /// Returns its size in memory, without its parts.
    fn size_bytes(self) -> usize {
        match self {
            M::Model => size_of::<proto::ModelProto>(),
            M::Graph => size_of::<proto::GraphProto>(),
            M::Node => size_of::<proto::NodeProto>(),
            M::Attribute => size_of::<proto::AttributeProto>(),
            M::Tensor => size_of::<proto::TensorProto>(),
            M::Sparse => size_of::<proto::SparseTensorProto>(),
            M::Value => size_of::<proto::ValueInfoProto>(),
            M::Type => size_of::<proto::TypeProto>(),
            M::TensorType => size_of::<proto::type_proto::Tensor>(),
            M::SequenceType => size_of::<proto::type_proto::Sequence>(),
            M::MapType => size_of::<proto::type_proto::Map>(),
            M::Shape => size_of::<proto::TensorShapeProto>(),
            M::Function => size_of::<proto::FunctionProto>(),
            M::Training => size_of::<proto::TrainingInfoProto>(),
            M::Annotation => size_of::<proto::TensorAnnotation>(),
            M::Devices => size_of::<proto::DeviceConfigurationProto>(),
            M::Placement => size_of::<proto::NodeDeviceConfigurationProto>(),
            M::Sharding => size_of::<proto::ShardingSpecProto>(),
            M::ShardedAxis => size_of::<proto::ShardedDimProto>(),
            M::Leaf(size_bytes) => size_bytes,
        }
    }
}

/// Refuses a file that would take more than [`MAX_TIMES`] its size in memory. What is not an ONNX model passes: the
/// decoder reports what is wrong with it.
///
/// # Errors
/// [`OnnxError::TooDense`].
pub(super) fn check(path: &Path, bytes: &[u8]) -> Result<(), OnnxError> {
    let file_bytes = bytes.len() as u64;
    let most_bytes = file_bytes.saturating_mul(MAX_TIMES).saturating_add(FREE_BYTES);
    let mut needed_bytes = 0;
    let _ = count(M::Model, bytes, MAX_DEPTH, &mut needed_bytes);
    if needed_bytes > most_bytes {
        return Err(OnnxError::TooDense { path: path.into(), needed_bytes, file_bytes });
    }
    Ok(())
}

/// Adds what the parts of a message take in memory, as far as it can be read.
fn count(message: Message, mut bytes: &[u8], depth: usize, total: &mut u64) -> Option<()> {
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let skipped = match tag & 7 {
            0 => {
                varint(&mut bytes)?;
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (inside, rest) = bytes.split_at_checked(skipped)?;
        bytes = rest;
        if let Some(part) = message.part(tag >> 3).filter(|_| tag & 7 == 2) {
            *total = total.saturating_add(part.size_bytes() as u64);
            if !matches!(part, M::Leaf(_)) {
                count(part, inside, depth.checked_sub(1)?, total)?;
            }
        }
    }
    Some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    prost::encoding::decode_varint(bytes).ok()
}
