//! Models that are not as they should be.

use super::*;
use crate::error_kind::ErrorKind;

#[test]
fn damaged_models_are_refused_or_lowered_but_never_a_panic() {
    let nodes = vec![cast("n", "f", FLOAT), node("Mul", &["x", "w"], "m"), node("Add", &["m", "f"], "y")];
    let mut graph = graph(nodes, vec![weight("w", &[1.0, 1e9])]);
    graph.input.push(value("n", INT64));
    let model = ModelProto {
        ir_version: Some(9),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(19) }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("in.onnx"), folder.path().join("out.onnx"));
    let whole = model.encode_to_vec();
    for index in 0..whole.len() {
        for damage in [0x01, 0xff] {
            let mut bytes = whole.clone();
            bytes[index] ^= damage;
            fs_err::File::create(&from).and_then(|mut file| io::Write::write_all(&mut file, &bytes)).unwrap();
            // Either is right; what counts is that both answer, and that no damage is taken for a bug of ours.
            for write in [lower, emulate] {
                let lowered = OnnxFile::open(&from).and_then(|file| write(&file, &options(), &to));
                let bug = lowered.err().filter(|error| error.kind() == ErrorKind::Bug);
                assert!(bug.is_none(), "byte {index} ^ {damage:#x}: {bug:?}");
            }
        }
    }
}
