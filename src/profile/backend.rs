//! Backends by name: which one builds what.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::compute_capability::ComputeCapability;

/// The name of a backend: one of ours, or a third party's (any executable `nimctl-backend-<name>`).
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Backend(String);

/// A text that can't name a backend.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` cannot name a backend: use lower-case letters, digits and `-`")]
pub struct InvalidBackend(String);

impl Backend {
    /// TensorRT: plans tuned on the GPU itself.
    pub const TENSORRT: &'static str = "tensorrt";
    /// TensorRT for RTX: plans built ahead of time, without a GPU.
    pub const TENSORRT_RTX: &'static str = "tensorrt-rtx";
    /// ONNX Runtime: the generic profile.
    pub const ONNXRUNTIME: &'static str = "onnxruntime";

    /// What TensorRT for RTX 1.7 can build for (facts: measured; there is no 9.0 or 10.0).
    pub const TENSORRT_RTX_CAPABILITIES: [ComputeCapability; 6] = [
        ComputeCapability::new(7, 5),
        ComputeCapability::new(8, 0),
        ComputeCapability::new(8, 6),
        ComputeCapability::new(8, 9),
        ComputeCapability::new(12, 0),
        ComputeCapability::new(12, 1),
    ];

    /// Makes one from its name.
    ///
    /// # Errors
    /// A name that isn't lower-case letters, digits and `-`.
    pub fn new(name: &str) -> Result<Self, InvalidBackend> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.starts_with('-') || !name.chars().all(plain) {
            return Err(InvalidBackend(name.into()));
        }
        Ok(Self(name.into()))
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Returns whether its profiles are the ONNX graphs themselves, so that there is nothing to compile.
    pub fn ships_onnx(&self) -> bool {
        self.0 == Self::ONNXRUNTIME
    }

    /// Returns whether its library compiles kernels when a plan is loaded, and can keep them.
    pub fn compiles_when_loaded(&self) -> bool {
        self.0 == Self::TENSORRT_RTX
    }

    /// Returns what the tag `backend` says: NIM's word for ONNX Runtime profiles is `onnx`.
    pub fn tag(&self) -> &str {
        if self.ships_onnx() { "onnx" } else { &self.0 }
    }

    /// Returns what the tag `model_type` says; readers of NIM manifests know both TensorRT flavours as `tensorrt`.
    pub fn model_type(&self) -> &str {
        match self.0.as_str() {
            Self::TENSORRT | Self::TENSORRT_RTX => "tensorrt",
            Self::ONNXRUNTIME => "onnx",
            other => other,
        }
    }

    /// Returns what it can build for, where that is known without asking its worker.
    pub fn known_capabilities(&self) -> Option<&'static [ComputeCapability]> {
        (self.0 == Self::TENSORRT_RTX).then_some(Self::TENSORRT_RTX_CAPABILITIES.as_slice())
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
