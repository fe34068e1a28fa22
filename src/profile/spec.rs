//! A profile as a recipe asks for it, before anything is built.

use std::collections::BTreeMap;

use super::id::Tags;
use super::precision::ProfilePrecision;
use super::target::{Target, capability_tag};
use crate::backend::{Backend, Builds};
use crate::gpu;
use crate::mixed_precision::MixedPrecision;
use crate::onnx::LoweringOptions;
use crate::quantization::QuantizationDemands;
use crate::shape_range::ShapeRange;

/// One profile that a recipe asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileSpec {
    /// The backend that builds and runs it.
    pub backend: Backend,
    /// What it is for.
    pub target: Target,
    /// How its graphs are quantized and lowered; holds the precision.
    pub lowering: LoweringOptions,
    /// Which more nodes may stay in FP32, found by running the graphs.
    pub mixed_precision: MixedPrecision,
    /// What is demanded of its quantization, if it is quantized.
    pub quantization: Option<QuantizationDemands>,
    /// Max memory that the compiler may use for one layer, in MiB.
    pub workspace_mib: Option<u64>,
    /// Line of the recipe that asks for it.
    pub line: u64,
}

impl ProfileSpec {
    /// Returns the precision.
    pub fn precision(&self) -> ProfilePrecision {
        self.lowering.profile_precision()
    }

    /// Returns the readable name, unique in a recipe: `tensorrt-rtx-l40s-fp16`.
    pub fn name(&self) -> String {
        match &self.target {
            Target::Generic => format!("{}-{}", self.backend.tag(), self.precision()),
            target => format!("{}-{}-{}", self.backend.tag(), target, self.precision()),
        }
    }

    /// Returns the tags that are known before the build: all but `trt_version` and `content`.
    pub fn tags(&self, batch_size: Option<i64>) -> Tags {
        let Self {
            backend,
            target,
            lowering,
            mixed_precision: _,
            quantization: _,
            workspace_mib: _,
            line: _,
        } = self;
        tags_before_build(
            backend,
            lowering.profile_precision(),
            target,
            &gpu_tags(backend, target),
            batch_size,
        )
    }
}

/// Returns the tags by which NVIDIA's Kubernetes operator finds the nodes with a GPU; empty for other targets.
///
/// They are `product_name_regex` for the labels of nodes and, for a product with one PCI id, `gpu_device`. A plan that was tuned
/// on a whole GPU isn't for its MIG instances.
pub fn gpu_tags(backend: &Backend, target: &Target) -> Tags {
    let Target::Gpu { name, compute_capability: _ } = target else { return Tags::new() };
    let Some(gpu) = gpu::by_name(name) else { return Tags::new() };
    let mig = backend.facts().builds != Builds::OnTheDevice;
    let mut tags = Tags::from([("product_name_regex".to_owned(), gpu.node_label_pattern(mig))]);
    tags.extend(gpu.only_pci_id().map(|id| ("gpu_device".to_owned(), id.to_owned())));
    tags
}

/// Returns the tags that follow from the recipe.
pub(super) fn tags_before_build(
    backend: &Backend,
    precision: ProfilePrecision,
    target: &Target,
    gpu_tags: &Tags,
    batch_size: Option<i64>,
) -> Tags {
    let mut tags = gpu_tags.clone();
    tags.extend([
        ("backend".to_owned(), backend.tag().to_owned()),
        ("model_type".to_owned(), backend.model_type().to_owned()),
        ("precision".to_owned(), precision.to_string()),
    ]);
    match target {
        Target::Gpu { name, compute_capability: _ } => {
            tags.insert("gpu".to_owned(), name.clone());
        }
        Target::ComputeCapabilities(capabilities) => {
            tags.insert("compute_capability".to_owned(), capability_tag(capabilities));
        }
        Target::Generic => {}
    }
    if let Some(batch_size) = batch_size {
        tags.insert("batch_size".to_owned(), batch_size.to_string());
    }
    tags
}

/// Returns the max batch size of some shape ranges: the largest first dimension of any input of any graph.
pub fn largest_batch(ranges: &BTreeMap<String, BTreeMap<String, ShapeRange>>) -> Option<i64> {
    ranges.values().flat_map(BTreeMap::values).filter_map(|range| range.max.first().copied()).max()
}
