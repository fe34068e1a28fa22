//! Which quantized precisions a backend takes, and on which GPUs.

use super::known::{AHEAD_OF_TIME, ON_THE_DEVICE};
use crate::compute_capability::ComputeCapability;
use crate::onnx::quantize::QuantizedPrecision;

/// The first compute capability with FP8 units.
const FP8_FROM: ComputeCapability = ComputeCapability::new(8, 9);
/// The first one for which TensorRT for RTX has 4-bit integers.
const INT4_FROM: ComputeCapability = ComputeCapability::new(8, 0);
/// The first one for which TensorRT for RTX has E2M1.
const NVFP4_RTX_FROM: ComputeCapability = ComputeCapability::new(12, 0);
/// The first one with E2M1 units, of those that TensorRT builds for.
const NVFP4_FROM: ComputeCapability = ComputeCapability::new(10, 0);
/// The first one for which TensorRT for RTX has 8-bit convolutions.
const CONVOLUTIONS_FROM: ComputeCapability = ComputeCapability::new(8, 0);

/// Why a backend can't take a quantized precision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantizedRefusal {
    /// The GPU has no units for it.
    #[error(
        "compute capability {capability} has no {precision} with {backend}, which needs {from} or later: {instead}"
    )]
    Hardware {
        /// What was asked for.
        precision: QuantizedPrecision,
        /// The backend.
        backend: &'static str,
        /// The first compute capability that has it.
        from: ComputeCapability,
        /// That of the GPU.
        capability: ComputeCapability,
        /// What can be asked for instead.
        instead: &'static str,
    },
    /// The graph needs operators that the backend doesn't have.
    #[error(
        "{precision} graphs have operators that only tensorrt-rtx and tensorrt have, not `{backend}`: use int4 there"
    )]
    Operators {
        /// What was asked for.
        precision: QuantizedPrecision,
        /// The backend.
        backend: String,
    },
}

/// Returns whether a backend takes a quantized precision: on GPUs of one compute capability, or, without one, on any machine.
/// Of backends that others wrote nothing is known, and nothing is refused but graphs with operators of TensorRT's own.
///
/// For TensorRT for RTX this is what `tests/workers/real/quantized_forms.rs` builds, for ONNX Runtime what its CPU runs, for
/// TensorRT what its documentation says.
///
/// # Errors
/// The precision can't be had there; the error says why in one sentence.
pub fn takes_quantized(
    backend: &str,
    precision: QuantizedPrecision,
    capability: Option<ComputeCapability>,
) -> Result<(), QuantizedRefusal> {
    use QuantizedPrecision as P;
    let from = |backend: &'static str, from: ComputeCapability, instead: &'static str| match capability {
        Some(capability) if capability < from => {
            Err(QuantizedRefusal::Hardware { precision, backend, from, capability, instead })
        }
        _ => Ok(()),
    };
    match (backend, precision) {
        (AHEAD_OF_TIME, P::Fp8) => from(AHEAD_OF_TIME, FP8_FROM, "use int8"),
        (ON_THE_DEVICE, P::Fp8) => from(ON_THE_DEVICE, FP8_FROM, "use int8"),
        (AHEAD_OF_TIME, P::Nvfp4) => from(AHEAD_OF_TIME, NVFP4_RTX_FROM, "use fp8, int8 or int4"),
        (ON_THE_DEVICE, P::Nvfp4) => from(ON_THE_DEVICE, NVFP4_FROM, "use fp8, int8 or int4"),
        (_, P::Nvfp4) => Err(QuantizedRefusal::Operators { precision, backend: backend.into() }),
        (AHEAD_OF_TIME, P::Int4) => from(AHEAD_OF_TIME, INT4_FROM, "use int8 or int8-weights"),
        _ => Ok(()),
    }
}

/// Returns whether a backend computes quantized convolutions in 8 bits on GPUs of one compute capability. Where it doesn't, it
/// dequantizes their weights at every inference, and they are better kept in the base precision.
pub fn computes_quantized_convolutions(backend: &str, capability: Option<ComputeCapability>) -> bool {
    backend != AHEAD_OF_TIME || capability.is_none_or(|capability| capability >= CONVOLUTIONS_FROM)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The capabilities that `precision` is refused on.
    fn refused(backend: &str, precision: QuantizedPrecision) -> Vec<String> {
        let all = [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0), (12, 1)];
        let all = all.map(|(major, minor)| ComputeCapability::new(major, minor));
        let is_refused =
            |capability: &ComputeCapability| takes_quantized(backend, precision, Some(*capability)).is_err();
        all.iter().filter(|capability| is_refused(capability)).map(ToString::to_string).collect()
    }

    #[test]
    fn what_each_capability_lacks() {
        use QuantizedPrecision as P;
        for backend in ["tensorrt", "tensorrt-rtx", "onnxruntime"] {
            assert_eq!(refused(backend, P::Int8), [""; 0]);
            assert_eq!(refused(backend, P::Int8Weights), [""; 0]);
        }
        assert_eq!(refused("tensorrt-rtx", P::Fp8), ["7.5", "8.0", "8.6"]);
        assert_eq!(refused("tensorrt", P::Fp8), ["7.5", "8.0", "8.6"]);
        assert_eq!(refused("onnxruntime", P::Fp8), [""; 0]);
        assert_eq!(refused("tensorrt-rtx", P::Int4), ["7.5"]);
        assert_eq!(refused("somebody-elses", P::Fp8), [""; 0]);
        assert_eq!(refused("tensorrt-rtx", P::Nvfp4), ["7.5", "8.0", "8.6", "8.9", "9.0", "10.0"]);
        assert_eq!(refused("tensorrt", P::Nvfp4), ["7.5", "8.0", "8.6", "8.9", "9.0"]);
        for precision in P::ALL {
            let is_taken = takes_quantized("onnxruntime", precision, None).is_ok();
            assert_eq!(is_taken, precision != P::Nvfp4, "{precision}");
        }
    }

    #[test]
    fn convolutions_on_the_oldest_gpus_are_dequantized() {
        let on = |major, minor| Some(ComputeCapability::new(major, minor));
        assert!(!computes_quantized_convolutions("tensorrt-rtx", on(7, 5)));
        assert!(computes_quantized_convolutions("tensorrt-rtx", on(8, 0)));
        assert!(computes_quantized_convolutions("onnxruntime", None));
    }

    #[test]
    fn the_reason_is_a_sentence() {
        let refused =
            takes_quantized("tensorrt-rtx", QuantizedPrecision::Fp8, Some(ComputeCapability::new(8, 6)));
        assert_eq!(
            refused.unwrap_err().to_string(),
            "compute capability 8.6 has no fp8 with tensorrt-rtx, which needs 8.9 or later: use int8"
        );
    }
}
