//! The header of a TensorRT-RTX plan, read without TensorRT.
//!
//! Measured on plans of TensorRT for RTX 1.7.1.116, there is no public specification: `vtrt` at byte 0; the builder's
//! version as four bytes at 24; `vtrt` again at 28; a bit mask of targets at byte 32.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compute_capability::ComputeCapability;

const MAGIC: &[u8; 4] = b"vtrt";
/// Bytes that the header needs.
const HEADER_SIZE_BYTES: usize = 36;

/// Bits of the target mask, from plans built for one capability each.
const TARGET_BITS: [(u32, ComputeCapability); 6] = [
    (0x01, ComputeCapability::new(7, 5)),
    (0x02, ComputeCapability::new(8, 0)),
    (0x04, ComputeCapability::new(8, 6)),
    (0x08, ComputeCapability::new(8, 9)),
    (0x10, ComputeCapability::new(12, 0)),
    (0x20, ComputeCapability::new(12, 1)),
];

/// What a plan says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanHeader {
    /// The version that built it: `1.7.1.116`.
    pub builder_version: String,
    /// The compute capabilities that it has code for, ascending.
    pub compute_capabilities: Vec<ComputeCapability>,
    /// Bits of the target mask that we have no name for; 0 in every plan seen.
    pub unknown_target_bits: u32,
}

impl PlanHeader {
    /// Reads the header from a plan's first bytes; `None` if they are not such a plan.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..HEADER_SIZE_BYTES)?;
        if &header[..4] != MAGIC || &header[28..32] != MAGIC {
            return None;
        }
        let builder_version = header[24..28].iter().map(u8::to_string).collect::<Vec<_>>().join(".");
        let mask = u32::from_le_bytes(header[32..36].try_into().ok()?);
        let known = TARGET_BITS.iter().filter(|(bit, _)| mask & bit != 0);
        Some(Self {
            builder_version,
            compute_capabilities: known.clone().map(|(_, capability)| *capability).collect(),
            unknown_target_bits: known.fold(mask, |rest, (bit, _)| rest & !bit),
        })
    }

    /// Reads the header of a file; `None` if it is not such a plan.
    ///
    /// # Errors
    /// I/O errors.
    pub fn read(path: &Path) -> std::io::Result<Option<Self>> {
        use std::io::Read as _;
        let mut bytes = Vec::with_capacity(HEADER_SIZE_BYTES);
        fs_err::File::open(path)?.take(HEADER_SIZE_BYTES as u64).read_to_end(&mut bytes)?;
        Ok(Self::parse(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first bytes of plans built by TensorRT for RTX 1.7.1.116, less what is not read.
    fn header(mask: u32) -> Vec<u8> {
        let mut bytes = b"vtrt".to_vec();
        bytes.resize(24, 0);
        bytes.extend([1, 7, 1, 0x74]);
        bytes.extend(b"vtrt");
        bytes.extend(mask.to_le_bytes());
        bytes
    }

    #[track_caller]
    fn check(mask: u32, expected: &str, unknown: u32) {
        let found = PlanHeader::parse(&header(mask)).unwrap();
        assert_eq!(found.builder_version, "1.7.1.116");
        assert_eq!(crate::profile::capability_tag(&found.compute_capabilities), expected);
        assert_eq!(found.unknown_target_bits, unknown);
    }

    #[test]
    fn masks_that_were_seen() {
        check(0x01, "7.5", 0);
        check(0x02, "8.0", 0);
        check(0x04, "8.6", 0);
        check(0x08, "8.9", 0);
        check(0x10, "12.0", 0);
        check(0x20, "12.1", 0);
        check(0x2f, "7.5+8.0+8.6+8.9+12.1", 0);
        check(0x42, "8.0", 0x40);
    }

    #[test]
    fn other_files_have_no_header() {
        assert_eq!(PlanHeader::parse(b""), None);
        assert_eq!(PlanHeader::parse(&header(1)[..35]), None);
        assert_eq!(PlanHeader::parse(&[0; 64]), None);
    }
}
