//! ONNX Runtime's CUDA provider beside its CPU provider.

use std::collections::BTreeMap;

use nimctl::worker::host::Cancel;
use nimctl::worker::npy::Tensor;
use nimctl::worker::protocol::{Execution, Provider, RunRequest};

use crate::graph::{self, Precision, X, Y};
use crate::nvidia::{first_gpu, is_without};
use crate::support::{real, start};

#[test]
fn the_cuda_provider_gives_the_numbers_of_the_cpu_and_says_what_it_ran() {
    let gpu = first_gpu();
    if is_without("CUDA_PROVIDER") {
        return;
    }
    let library = std::env::var_os("NIMCTL_ONNXRUNTIME_CUDA_LIB")
        .expect("NIMCTL_ONNXRUNTIME_CUDA_LIB names no ONNX Runtime for CUDA");
    let mut command = real("onnxruntime");
    command.environment.insert("NIMCTL_ONNXRUNTIME_LIB".into(), library);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("graph.onnx");
    graph::write(&path, Precision::Float32);
    let x = folder.path().join("x.npy");
    Tensor::new(&[2, 4], &X).unwrap().write(&x).unwrap();
    let request = RunRequest {
        digests: BTreeMap::new(),
        path,
        inputs: BTreeMap::from([("x".into(), x)]),
        output_folder: folder.path().into(),
        execution: Execution { provider: Some(Provider::Cuda), ..Execution::default() },
    };
    let mut worker = start(&command);
    let result =
        worker.run(request, &Cancel::new(), &mut |_| {}).unwrap_or_else(|error| panic!("{error}")).result;
    let y = Tensor::read(&result.outputs["y"]).unwrap();
    // TF32 would be off by more than this.
    for (found, expected) in y.to_f64().into_iter().zip(Y) {
        assert!((found - f64::from(expected)).abs() <= 1e-5, "{found} in place of {expected}");
    }
    assert!(result.ran_on.nodes["CUDAExecutionProvider"] > 0, "{:?}", result.ran_on);
    assert_eq!(result.ran_on.device.unwrap().name, gpu.name);
}
