//! Tensors as files: the kit's `.npy`, and archives of them.

pub mod archive;

pub use nimctl_backend_kit::npy::{Element, ElementType, NpyError, NpyFile, Tensor};

use crate::error_kind::ErrorKind;

impl From<&NpyError> for ErrorKind {
    fn from(error: &NpyError) -> Self {
        match error {
            NpyError::Io(_) | NpyError::Format { .. } => Self::Input,
            NpyError::Shape { .. } => Self::Bug,
        }
    }
}
