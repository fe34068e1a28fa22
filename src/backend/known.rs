//! The table of known backends, and that of the libraries that they load. Every fact of a backend that depends on its name
//! is here, and nowhere else.

use super::tool::{Library, Licence, Tool, ToolFacts};
use super::words::{self, Words};
use crate::compute_capability::ComputeCapability;
use crate::onnx::lower::Fp32Inside;

/// What is known of a backend by its name.
#[derive(Debug, PartialEq, Eq)]
pub struct Facts {
    name: &'static str,
    /// The value of the tag `backend`; its name if absent. NIM's word for ONNX Runtime profiles is `onnx`.
    pub tag: Option<&'static str>,
    /// The value of the tag `model_type`; its name if absent. Readers of NIM manifests know both TensorRT flavours as
    /// `tensorrt`.
    pub model_type: Option<&'static str>,
    /// Further values of the tags `llm_engine`, `backend` and `model_type` in manifests of others.
    synonyms: &'static [&'static str],
    /// Whether the tag `trt_version` holds the version of its library.
    pub has_trt_version: bool,
    /// What it builds, and where.
    pub builds: Builds,
    /// The library that it loads. A stranger's worker finds its own.
    pub tool: Option<Tool>,
    /// The revision of what its worker does to make plans beside calling its library, as the worker says it too; 0 if it does
    /// nothing, or is a stranger's. Part of build keys: a plan of another revision is not what would be built today.
    pub build_revision: u32,
    /// What it computes in FP32 inside, so that it can be lowered without loss.
    ///
    /// * ONNX Runtime: all of it; its CPU kernels for these compute in FP32, its CUDA kernels accumulate in FP32.
    /// * TensorRT and TensorRT for RTX: normalizations, whose layer has a compute precision of its own that is FP32 unless
    ///   told otherwise (`INormalizationLayer`). RMS normalization is put together from plain layers (onnx-tensorrt pull
    ///   request 1045), and of softmax the documentation says nothing: both stay in FP32.
    /// * Others: nothing is known, so nothing is assumed.
    pub fp32_inside: &'static [Fp32Inside],
    /// The compute capabilities for which it multiplies matrices neither in FP32 nor in BF16 (measured; docs/quantization.md).
    pub without_wide_products: &'static [ComputeCapability],
    /// Whether its plans have a header that says what they are for and which version built them ([`crate::plan`]), so that
    /// each plan is checked against what was asked for.
    pub has_plan_header: bool,
    /// Whether its library compiles kernels when a plan is loaded, and can keep them.
    pub compiles_when_loaded: bool,
    /// The first compute capability whose plans also run on later ones, if there is one (NVIDIA's documentation of
    /// TensorRT-RTX, "CPU-Only AOT": 8.0, 8.6, 8.9, 12.0 "and later").
    pub runs_on_later_from: Option<ComputeCapability>,
    /// Which CUDA the driver must support.
    pub cuda_major: CudaMajor,
    /// What its library's messages mean, where they don't say it plainly.
    pub words: &'static [Words],
    /// Where its profiles stand among those that name a GPU equally closely: smaller is first.
    pub preference: u8,
}

/// What a backend builds, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builds {
    /// Nothing: its profiles are the ONNX graphs themselves.
    Nothing,
    /// Plans ahead of time, on any machine with its library, for these compute capabilities; one plan can be for several.
    AheadOfTime(&'static [ComputeCapability]),
    /// Plans tuned on the GPU itself, one for each product: a plan for an H100 PCIe is no plan for an H100 SXM.
    OnTheDevice,
    /// What its worker says.
    AsItsWorkerSays,
}

/// The major version of CUDA that a library needs. Drivers run any minor version of a major one (NVIDIA's "CUDA
/// compatibility").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CudaMajor {
    /// This one.
    Always(u32),
    /// By the major version of the library, newest first: at least the first number needs the second.
    ByLibrary(&'static [(u32, u32)]),
    /// Not known, or none.
    Unknown,
}

impl CudaMajor {
    /// Returns the minimum major version for a library's major version, if that is known.
    pub fn for_library(self, library_major: Option<u32>) -> Option<u32> {
        match self {
            Self::Always(major) => Some(major),
            Self::ByLibrary(releases) => {
                let library_major = library_major?;
                releases.iter().find(|(from, _)| library_major >= *from).map(|(_, major)| *major)
            }
            Self::Unknown => None,
        }
    }
}

/// What TensorRT for RTX 1.7 can build for (measured; there is no 9.0 or 10.0).
const TENSORRT_RTX_CAPABILITIES: &[ComputeCapability] = &[
    ComputeCapability::new(7, 5),
    ComputeCapability::new(8, 0),
    ComputeCapability::new(8, 6),
    ComputeCapability::new(8, 9),
    ComputeCapability::new(12, 0),
    ComputeCapability::new(12, 1),
];

/// What NVIDIA's packages come with.
const NVIDIA_TERMS: Licence = Licence::Named("NVIDIA TensorRT Software License Agreement");

/// The backend that runs ONNX graphs.
pub(super) const REFERENCE: &str = "onnxruntime";
/// The backend that builds plans without a GPU.
pub(super) const AHEAD_OF_TIME: &str = "tensorrt-rtx";
/// The backend that tunes on the GPU.
pub(super) const ON_THE_DEVICE: &str = "tensorrt";

const KNOWN: &[Facts] = &[
    Facts {
        name: "tensorrt",
        tag: None,
        model_type: None,
        synonyms: &["tensorrt_llm", "trtllm", "trt"],
        has_trt_version: true,
        builds: Builds::OnTheDevice,
        tool: Some(Tool::Tensorrt),
        build_revision: 0,
        fp32_inside: &[Fp32Inside::Normalization],
        without_wide_products: &[],
        has_plan_header: false,
        compiles_when_loaded: false,
        runs_on_later_from: None,
        // TensorRT 8 and 10 exist for CUDA 11; TensorRT 11 needs CUDA 12.
        cuda_major: CudaMajor::ByLibrary(&[(11, 12), (0, 11)]),
        words: words::OF_TENSORRT,
        preference: 0,
    },
    Facts {
        name: "tensorrt-rtx",
        tag: None,
        model_type: Some("tensorrt"),
        synonyms: &[],
        has_trt_version: true,
        builds: Builds::AheadOfTime(TENSORRT_RTX_CAPABILITIES),
        tool: Some(Tool::TensorrtRtx),
        // 1: builds allocate with rising addresses, each in a process of its own. 2: the library's threads take turns. 3: and a
        // build begins at the same address. So equal requests give equal plans.
        build_revision: 3,
        fp32_inside: &[Fp32Inside::Normalization],
        without_wide_products: &[ComputeCapability::new(7, 5)],
        has_plan_header: true,
        compiles_when_loaded: true,
        runs_on_later_from: Some(ComputeCapability::new(12, 0)),
        cuda_major: CudaMajor::Always(12),
        words: words::OF_TENSORRT,
        preference: 1,
    },
    Facts {
        name: "onnxruntime",
        tag: Some("onnx"),
        model_type: Some("onnx"),
        synonyms: &[],
        has_trt_version: false,
        builds: Builds::Nothing,
        tool: Some(Tool::OnnxRuntime),
        build_revision: 0,
        fp32_inside: &[Fp32Inside::Normalization, Fp32Inside::RmsNormalization, Fp32Inside::Softmax],
        without_wide_products: &[],
        has_plan_header: false,
        compiles_when_loaded: false,
        runs_on_later_from: None,
        cuda_major: CudaMajor::Unknown,
        words: &[],
        preference: 3,
    },
];

/// A backend that somebody else wrote.
static STRANGER: Facts = Facts {
    name: "",
    tag: None,
    model_type: None,
    synonyms: &[],
    has_trt_version: false,
    builds: Builds::AsItsWorkerSays,
    tool: None,
    build_revision: 0,
    fp32_inside: &[],
    without_wide_products: &[],
    has_plan_header: false,
    compiles_when_loaded: false,
    runs_on_later_from: None,
    cuda_major: CudaMajor::Unknown,
    words: &[],
    preference: 2,
};

/// Returns what is known of a backend.
pub fn facts_of(name: &str) -> &'static Facts {
    KNOWN.iter().find(|facts| facts.name == name).unwrap_or(&STRANGER)
}

/// Returns what is known of the backend that a tag's value means, in any manifest.
pub fn facts_of_tag(value: &str) -> &'static Facts {
    let means =
        |facts: &&Facts| facts.name == value || facts.tag == Some(value) || facts.synonyms.contains(&value);
    KNOWN.iter().find(means).unwrap_or(&STRANGER)
}

/// Returns whether a tag's value means a known backend.
pub fn is_known_tag(value: &str) -> bool {
    !std::ptr::eq(facts_of_tag(value), &raw const STRANGER)
}

/// Returns the tags that readable names of profiles may begin with, longer ones before their own beginnings.
pub fn tags_in_names() -> impl Iterator<Item = &'static str> {
    let mut tags: Vec<&str> = KNOWN.iter().map(|facts| facts.tag.unwrap_or(facts.name)).collect();
    tags.sort_unstable_by(|a, b| b.cmp(a));
    tags.into_iter()
}

/// Returns what is known of a library.
pub(super) const fn of_tool(tool: Tool) -> &'static ToolFacts {
    match tool {
        Tool::OnnxRuntime => &ToolFacts {
            name: "onnxruntime",
            title: "ONNX Runtime",
            supplier: "Microsoft",
            licence: Licence::Spdx("MIT"),
            override_variable: "NIMCTL_ONNXRUNTIME_LIB",
            libraries: &[
                Library { stem: "libonnxruntime", required: true },
                Library { stem: "libonnxruntime_providers_shared", required: false },
                Library { stem: "libonnxruntime_providers_cuda", required: false },
            ],
        },
        Tool::TensorrtRtx => &ToolFacts {
            name: "tensorrt-rtx",
            title: "TensorRT for RTX",
            supplier: "NVIDIA",
            licence: NVIDIA_TERMS,
            override_variable: "NIMCTL_TENSORRT_RTX_LIB",
            libraries: &[
                Library { stem: "libtensorrt_rtx", required: true },
                Library { stem: "libtensorrt_onnxparser_rtx", required: true },
            ],
        },
        // The builder resources hold the kernels that the builder chooses from, one file a GPU generation in newer
        // releases: they change the output as much as the library does.
        Tool::Tensorrt => &ToolFacts {
            name: "tensorrt",
            title: "TensorRT",
            supplier: "NVIDIA",
            licence: NVIDIA_TERMS,
            override_variable: "NIMCTL_TENSORRT_LIB",
            libraries: &[
                Library { stem: "libnvinfer", required: true },
                Library { stem: "libnvonnxparser", required: true },
                Library { stem: "libnvinfer_plugin", required: false },
                Library { stem: "libnvinfer_builder_resource*", required: false },
            ],
        },
        Tool::Libclang => &ToolFacts {
            name: "libclang",
            title: "libclang",
            supplier: "LLVM",
            licence: Licence::Spdx("Apache-2.0 WITH LLVM-exception"),
            override_variable: "NIMCTL_LIBCLANG_LIB",
            libraries: &[Library { stem: "libclang", required: true }],
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_others_mean_our_backends() {
        for (value, expected) in [
            ("tensorrt", "tensorrt"),
            ("trtllm", "tensorrt"),
            ("tensorrt-rtx", "tensorrt-rtx"),
            ("onnx", "onnxruntime"),
            ("onnxruntime", "onnxruntime"),
            ("vllm", ""),
            ("", ""),
        ] {
            assert_eq!(facts_of_tag(value).name, expected, "{value}");
        }
    }

    #[test]
    fn names_begin_with_the_longest_tag() {
        assert_eq!(tags_in_names().collect::<Vec<_>>(), ["tensorrt-rtx", "tensorrt", "onnx"]);
    }

    #[test]
    fn cuda_follows_the_librarys_release() {
        let needs = |name: &str, library| facts_of(name).cuda_major.for_library(library);
        assert_eq!(needs("tensorrt", Some(11)), Some(12));
        assert_eq!(needs("tensorrt", Some(10)), Some(11));
        assert_eq!(needs("tensorrt", None), None);
        assert_eq!(needs("tensorrt-rtx", None), Some(12));
        assert_eq!(needs("onnxruntime", Some(1)), None);
    }
}
