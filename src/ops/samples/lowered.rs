//! Inputs for a graph whose own inputs were lowered (`io: lower`): FP32 becomes the precision that it takes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::SamplesError;
use crate::onnx::{Io, LoweringOptions, Precision};
use crate::worker::npy::{ElementType, Tensor};

/// Returns the files that a graph takes which was lowered in this way, written beside those of the FP32 graph.
pub(in crate::ops) fn lowered(
    files: &BTreeMap<String, PathBuf>,
    lowering: &LoweringOptions,
) -> Result<BTreeMap<String, PathBuf>, SamplesError> {
    if lowering.io == Io::Keep || lowering.precision == Precision::Fp32 {
        return Ok(files.clone());
    }
    let one = |(input, path): (&String, &PathBuf)| {
        let wrong = |source| SamplesError::Npy { input: input.clone(), source };
        let tensor = Tensor::read(path).map_err(wrong)?;
        if tensor.element_type() != ElementType::Float32 {
            return Ok((input.clone(), path.clone()));
        }
        let place = path.with_extension(format!("{}.npy", lowering.precision));
        let values = tensor.elements::<f32>().unwrap_or_default();
        let low = if lowering.precision == Precision::Bf16 {
            Tensor::new(tensor.shape(), &super::converted(&values, half::bf16::from_f32))
        } else {
            Tensor::new(tensor.shape(), &super::converted(&values, half::f16::from_f32))
        };
        low.and_then(|low| low.write(&place)).map_err(wrong)?;
        Ok((input.clone(), place))
    };
    files.iter().map(one).collect()
}
