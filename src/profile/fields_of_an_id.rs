//! Each field of a profile's contents changes its id, and so does each tag.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::compute_capability::ComputeCapability;
use crate::digest::Sha256;
use crate::every_field::changes_the_digest;
use crate::onnx::{FileDigest, GraphDigest};
use crate::shape_range::ShapeRange;

fn sha256() -> impl Strategy<Value = Sha256> {
    any::<u64>().prop_map(|seed| Sha256::of(&seed.to_le_bytes()))
}

fn size() -> impl Strategy<Value = u64> {
    0..1_u64 << 53
}

fn target() -> impl Strategy<Value = Target> {
    let capability = || (7..13_u8, 0..10_u8).prop_map(|(major, minor)| ComputeCapability::new(major, minor));
    prop_oneof![
        ("[a-z0-9-]{1,9}", capability())
            .prop_map(|(name, compute_capability)| Target::Gpu { name, compute_capability }),
        vec(capability(), 1..3).prop_map(Target::ComputeCapabilities),
        Just(Target::Generic),
    ]
}

fn contents() -> impl Strategy<Value = Contents> {
    let model = ("[a-z]{1,9}", "[0-9.]{1,9}").prop_map(|(name, release)| ModelRelease { name, release });
    let file = ("[a-z.]{1,9}", sha256(), size()).prop_map(|(path, sha256, size_bytes)| FileDigest {
        path,
        sha256,
        size_bytes,
    });
    let graph = vec(file, 1..3).prop_map(|files| GraphDigest { files });
    let backend = prop_oneof![Just("tensorrt"), Just("tensorrt-rtx"), Just("onnxruntime"), Just("other")]
        .prop_map(|name| Backend::new(name).unwrap());
    let tool = ("[0-9.]{1,9}", btree_map("X[a-c]", sha256(), 0..3))
        .prop_map(|(version, libraries)| ToolIdentity { version, libraries });
    let precision = prop::sample::select(ProfilePrecision::all().collect::<Vec<_>>());
    let shape = || vec(1..1_000_000_i64, 1..4);
    let range = (shape(), shape(), shape()).prop_map(|(min, opt, max)| ShapeRange { min, opt, max });
    let shipped = ("[a-z./]{1,9}", sha256(), size()).prop_map(|(path, sha256, size_bytes)| ContentsFile {
        path,
        sha256,
        size_bytes,
    });
    (
        "[a-z./0-9]{1,9}",
        model,
        btree_map("X[a-c]", graph, 0..3),
        backend,
        btree_map("X[a-c]|tensorrt", tool, 0..3),
        (target(), prop::option::of(btree_map("[a-z_]{1,9}", "[a-z0-9.+]{0,9}", 0..3))),
        precision,
        btree_map("X[a-c]", btree_map("X[a-c]", range, 0..3), 0..3),
        vec(shipped, 0..3),
    )
        .prop_map(
            |(
                schema,
                model,
                graphs,
                backend,
                toolchain,
                (target, gpu_tags),
                precision,
                shape_ranges,
                files,
            )| Contents {
                schema,
                model,
                graphs,
                backend,
                toolchain,
                target,
                gpu_tags,
                precision,
                shape_ranges,
                files,
            },
        )
}

#[test]
fn each_of_the_contents_changes_the_id() {
    changes_the_digest(contents(), |contents| {
        let content = Sha256::of(contents.to_canonical_json().unwrap().as_bytes());
        ProfileId::of_tags(&contents.tags(&content)).unwrap()
    });
}

proptest! {
    #[test]
    fn each_tag_changes_the_id(
        tags in btree_map("[a-z_]{1,9}", "[a-z0-9.+]{0,9}", 1..6),
        key in "[a-z_]{1,9}",
        value in "[a-z0-9.+]{0,9}",
    ) {
        let id = ProfileId::of_tags(&tags).unwrap();
        let mut changed = tags.clone();
        changed.insert(key, value);
        prop_assert_eq!(ProfileId::of_tags(&changed).unwrap() == id, changed == tags);
        for key in tags.keys() {
            let mut fewer = tags.clone();
            fewer.remove(key);
            prop_assert_ne!(ProfileId::of_tags(&fewer).unwrap(), id);
        }
    }
}
