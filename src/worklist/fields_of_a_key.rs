//! Each field of a build key's document changes the key, and is named as what changed.

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::compute_capability::ComputeCapability;
use crate::every_field::changes_the_digest;
use crate::onnx::quantize::{Embeddings, QuantizationOptions, QuantizedPrecision, Treatment};
use crate::onnx::{FileDigest, Fp32Inside, Io, Precision, Quantization};

fn sha256() -> impl Strategy<Value = Sha256> {
    any::<u64>().prop_map(|seed| Sha256::of(&seed.to_le_bytes()))
}

fn graph() -> impl Strategy<Value = GraphDigest> {
    let file = ("[a-z.]{1,9}", sha256(), 0..1_u64 << 53).prop_map(|(path, sha256, size_bytes)| FileDigest {
        path,
        sha256,
        size_bytes,
    });
    vec(file, 1..3).prop_map(|files| GraphDigest { files })
}

fn lowering() -> impl Strategy<Value = LoweringOptions> {
    let precision = prop_oneof![Just(Precision::Fp32), Just(Precision::Fp16), Just(Precision::Bf16)];
    let names = || vec("[A-Za-z]{1,9}", 0..3);
    let inside = prop_oneof![
        Just(Fp32Inside::Normalization),
        Just(Fp32Inside::RmsNormalization),
        Just(Fp32Inside::Softmax)
    ];
    let io = prop_oneof![Just(Io::Keep), Just(Io::Lower)];
    let quantization = option::of(quantization().prop_map(Box::new));
    (precision, names(), names(), names(), btree_set(inside, 0..3), io, quantization).prop_map(
        |(precision, keep_ops, keep_nodes, lower_ops, fp32_inside, io, quantization)| LoweringOptions {
            precision,
            keep_ops,
            keep_nodes,
            lower_ops,
            fp32_inside,
            io,
            quantization,
        },
    )
}

fn quantization() -> impl Strategy<Value = Quantization> {
    let precision = prop::sample::select(QuantizedPrecision::ALL.to_vec());
    let base = prop_oneof![Just(Precision::Fp32), Just(Precision::Fp16), Just(Precision::Bf16)];
    let embeddings = prop_oneof![Just(Embeddings::Keep), Just(Embeddings::Int8), Just(Embeddings::Int4)];
    let treatment = || prop_oneof![Just(Treatment::Keep), Just(Treatment::Quantize)];
    let names = vec("[A-Za-z]{1,9}", 0..3);
    (precision, base, any::<u32>(), embeddings, (treatment(), treatment()), names, option::of(graph()))
        .prop_map(|(precision, base, block, embeddings, (convolutions, attention), keep_nodes, graph)| {
            Quantization {
                options: QuantizationOptions {
                    precision,
                    base,
                    block,
                    embeddings,
                    convolutions,
                    attention,
                    keep_nodes,
                },
                graph,
            }
        })
}

fn document() -> impl Strategy<Value = BuildKeyDocument> {
    let action = prop_oneof![Just(Action::Lower), "[a-z-]{1,9}".prop_map(Action::Compile)];
    let tool = ("[0-9.]{1,9}", btree_map("X[a-c]", sha256(), 0..3))
        .prop_map(|(version, libraries)| ToolIdentity { version, libraries });
    let shape = || vec(1..1_000_000_i64, 1..4);
    let range = (shape(), shape(), shape()).prop_map(|(min, opt, max)| ShapeRange { min, opt, max });
    let capability = (7..13_u8, 0..10_u8).prop_map(|(major, minor)| ComputeCapability::new(major, minor));
    (
        "[a-z./0-9]{1,9}",
        action,
        graph(),
        lowering(),
        any::<u32>(),
        btree_map("X[a-c]", tool, 0..3),
        vec(capability, 0..3),
        option::of("[a-z0-9-]{1,9}"),
        btree_map("X[a-c]", range, 0..3),
        option::of(0..1_u64 << 53),
    )
        .prop_map(
            |(
                schema,
                action,
                graph,
                lowering,
                lowering_version,
                toolchain,
                compute_capabilities,
                tuned_on,
                shape_ranges,
                workspace_mib,
            )| BuildKeyDocument {
                schema,
                action,
                graph,
                lowering,
                lowering_version,
                toolchain,
                compute_capabilities,
                tuned_on,
                shape_ranges,
                workspace_mib,
            },
        )
}

#[test]
fn each_changes_the_key() {
    changes_the_digest(document(), |document| document.key().unwrap());
}

proptest! {
    /// A job that must run again is never without a reason.
    #[test]
    fn another_key_has_changes(old in document(), new in document()) {
        prop_assert_eq!(old.key().unwrap() == new.key().unwrap(), changes(&old, &new).is_empty());
    }
}
