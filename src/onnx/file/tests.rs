//! Tests of opening: what is refused, and with which words.

use super::*;
use crate::error_kind::ErrorKind;
use crate::onnx::proto::StringStringEntryProto;
use crate::onnx::{DEFAULT_INLINE_LIMIT_BYTES, Initializer, test_graphs, write_model};

fn tensor(name: &str, elements: i64) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        data_type: Some(1),
        dims: vec![elements],
        ..TensorProto::default()
    }
}

fn external(entries: &[(&str, &str)], elements: i64) -> TensorProto {
    let entry = |&(key, value): &(&str, &str)| StringStringEntryProto {
        key: Some(key.into()),
        value: Some(value.into()),
    };
    TensorProto {
        data_location: Some(1),
        external_data: entries.iter().map(entry).collect(),
        ..tensor("w", elements)
    }
}

fn model(tensor: TensorProto) -> ModelProto {
    test_graphs::model(GraphProto { initializer: vec![tensor], ..GraphProto::default() })
}

/// Checks the message of the error that opening these bytes gives; `{folder}` stands for the folder.
#[track_caller]
fn check_bytes(bytes: &[u8], expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::NamedTempFile::new().unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).unwrap();
    crate::files::atomic_file::write(&folder.path().join("w.bin"), &[0; 10]).unwrap();
    let path = folder.path().join("m.onnx");
    crate::files::atomic_file::write(&path, bytes).unwrap();
    let error = OnnxFile::open(&path).unwrap_err();
    assert_eq!(error.to_string().replace(folder.path().to_str().unwrap(), "{folder}"), expected);
    assert_eq!(error.kind(), ErrorKind::Input);
}

#[track_caller]
fn check(model: &ModelProto, expected: &str) {
    check_bytes(&model.encode_to_vec(), expected);
}

#[test]
fn what_is_no_model() {
    check_bytes(b"", "{folder}/m.onnx is empty: expected an ONNX model");
    check_bytes(b"hello, world, hello\n", "{folder}/m.onnx is not an ONNX model: it is a text file");
    check_bytes(
        b"<!DOCTYPE html><html>",
        "{folder}/m.onnx is not an ONNX model: it is an HTML page, perhaps a login page; download it \
         again",
    );
    check_bytes(
        b"version https://git-lfs.github.com/spec/v1\n",
        "{folder}/m.onnx is not an ONNX model: it is a Git LFS pointer; run `git lfs pull` to get the file itself",
    );
    let whole = model(TensorProto { float_data: vec![0.5; 100], ..tensor("w", 100) }).encode_to_vec();
    let cut = &whole[..whole.len() - 50];
    let opened = OnnxFile::open(Path::new("/nonexistent/m.onnx")).unwrap_err();
    assert_eq!(opened.to_string(), "cannot read /nonexistent/m.onnx");
    check_bytes(
        cut,
        &format!(
            "{{folder}}/m.onnx is truncated: it needs at least {} bytes, but has {}; copy or download it again",
            418,
            cut.len()
        ),
    );
}

#[test]
fn what_a_model_must_have() {
    let whole = model(tensor("w", 0));
    check(
        &ModelProto { graph: None, ..whole.clone() },
        "{folder}/m.onnx has no graph: expected an ONNX model, not another protobuf file",
    );
    check(
        &ModelProto { ir_version: None, ..whole.clone() },
        "{folder}/m.onnx has no ir_version: export the model again with a current exporter",
    );
    check(
        &ModelProto { opset_import: vec![], ..whole },
        "{folder}/m.onnx has no opset_import: export the model again with a current exporter",
    );
}

#[test]
fn where_external_data_may_be() {
    let leaves = |location: &str| {
        format!(
            "tensor `w` names the external file `{location}`: expected a relative path without `..`, inside {{folder}}"
        )
    };
    check(&model(external(&[("location", "../w.bin")], 1)), &leaves("../w.bin"));
    check(&model(external(&[("location", "a/../../w.bin")], 1)), &leaves("a/../../w.bin"));
    check(&model(external(&[("location", "/w.bin")], 1)), &leaves("/w.bin"));
    check(
        &model(external(&[("location", "link")], 1)),
        "tensor `w` names the external file `link`, a link that points outside {folder}: replace the link with a copy of the file",
    );
    check(
        &model(external(&[("location", "gone.bin")], 1)),
        "tensor `w` needs the external file `gone.bin`, which is not in {folder}: copy it beside the model",
    );
    check(
        &model(external(&[], 1)),
        "tensor `w` of {folder}/m.onnx is external but names no location: export the model again",
    );
}

/// As in Hugging Face's cache: the snapshot's files are links to blobs that lie side by side.
#[test]
fn links_may_lead_to_where_the_model_really_lies() {
    use std::os::unix::fs::symlink;
    let home = tempfile::tempdir().unwrap();
    let place = |name: &str| home.path().join(name);
    let needs = model(external(&[("location", "w.bin")], 1)).encode_to_vec();
    crate::files::atomic_file::write(&place("blobs/1"), &needs).unwrap();
    crate::files::atomic_file::write(&place("blobs/2"), &[0; 4]).unwrap();
    crate::files::atomic_file::write(&place("elsewhere"), &[0; 4]).unwrap();
    fs_err::create_dir_all(place("snapshots/a")).unwrap();
    let path = place("snapshots/a/m.onnx");
    symlink("../../blobs/1", &path).unwrap();
    symlink("../../blobs/2", place("snapshots/a/w.bin")).unwrap();
    let file = OnnxFile::open(&path).unwrap();
    assert_eq!(file.external_files(), [PathBuf::from("w.bin")]);
    assert_eq!(super::super::external_locations(&path), [PathBuf::from("w.bin")]);
    fs_err::remove_file(place("snapshots/a/w.bin")).unwrap();
    symlink("../../elsewhere", place("snapshots/a/w.bin")).unwrap();
    let error = OnnxFile::open(&path).unwrap_err().to_string();
    assert!(error.contains("a link that points outside"), "{error}");
}

/// A link to the model alone: its data is beside what it leads to, and others are given that path.
#[test]
fn external_data_may_be_beside_the_target_of_a_link() {
    use std::os::unix::fs::symlink;
    let home = tempfile::tempdir().unwrap();
    let place = |name: &str| home.path().join(name);
    let needs = model(external(&[("location", "w.bin")], 1)).encode_to_vec();
    crate::files::atomic_file::write(&place("real/m.onnx"), &needs).unwrap();
    crate::files::atomic_file::write(&place("real/w.bin"), &[0; 4]).unwrap();
    symlink("real/m.onnx", place("m.onnx")).unwrap();
    let real = fs_err::canonicalize(place("real/m.onnx")).unwrap();
    assert_eq!(OnnxFile::open(&place("m.onnx")).unwrap().path_for_others(), real);
    // What is beside the link comes first.
    crate::files::atomic_file::write(&place("w.bin"), &[0; 4]).unwrap();
    assert_eq!(OnnxFile::open(&place("m.onnx")).unwrap().path_for_others(), place("m.onnx"));
    fs_err::remove_file(place("w.bin")).unwrap();
    fs_err::remove_file(place("real/w.bin")).unwrap();
    let error = OnnxFile::open(&place("m.onnx")).unwrap_err().to_string();
    assert!(error.contains("w.bin"), "{error}");
}

/// A profile calls the model itself so.
#[test]
fn external_data_has_another_name_than_the_model() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("net.onnx");
    let needs = model(external(&[("location", "./model.onnx")], 1)).encode_to_vec();
    crate::files::atomic_file::write(&path, &needs).unwrap();
    crate::files::atomic_file::write(&home.path().join("model.onnx"), &[0; 4]).unwrap();
    let error = OnnxFile::open(&path).unwrap_err();
    assert!(error.to_string().ends_with("another name for the data, such as model.onnx.data"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Input);
}

#[test]
fn how_long_external_data_must_be() {
    check(
        &model(external(&[("location", "w.bin"), ("offset", "4")], 2)),
        "tensor `w` needs 12 bytes of the external file `w.bin` in {folder}, which has 10: copy or download it again",
    );
    check(
        &model(external(&[("location", "w.bin"), ("offset", "18446744073709551615")], 1)),
        "tensor `w` needs 18446744073709551615 bytes of the external file `w.bin` in {folder}, which has 10: \
         copy or download it again",
    );
    check(
        &model(external(&[("location", "w.bin"), ("length", "4611686018427387904")], 1 << 60)),
        "tensor `w` needs 4611686018427387904 bytes of the external file `w.bin` in {folder}, which has 10: \
         copy or download it again",
    );
    check(
        &model(external(&[("location", "w.bin"), ("length", "8")], 1)),
        "tensor `w` of {folder}/m.onnx has 8 bytes, but its shape and type need 4: export the model again",
    );
    check(
        &model(external(&[("location", "w.bin"), ("offset", "-1")], 1)),
        "tensor `w` gives `-1` as offset in the external file `w.bin` of {folder}: expected a number of bytes",
    );
}

#[test]
fn a_folder_is_no_model() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(OnnxFile::open(folder.path()), Err(OnnxError::Io { .. })));
}

#[test]
fn large_payloads_go_beside_the_model_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model with a name.onnx");
    let write = |limit_bytes| {
        let payloads = [(1u8, 4u64), (2, 4000), (3, 8000)].map(|(fill, size_bytes)| Initializer {
            header: tensor(&format!("w{fill}"), (size_bytes / 4) as i64),
            size_bytes,
            produce: Box::new(move |writer| writer.write_all(&vec![fill; size_bytes as usize])),
        });
        let skeleton = ModelProto { doc_string: Some("kept".into()), ..model(tensor("empty", 0)) };
        let written = write_model(&skeleton, payloads.into(), &path, limit_bytes).unwrap();
        let file = OnnxFile::open(&path).unwrap();
        let digests = graph_digest(&file).unwrap();
        let sizes = |sizes: &mut dyn Iterator<Item = u64>| sizes.collect::<Vec<_>>();
        assert_eq!(
            sizes(&mut written.iter().map(|file| file.size_bytes)),
            sizes(&mut digests.files.iter().map(|file| file.size_bytes))
        );
        assert_eq!(file.model().doc_string(), "kept");
        for (fill, length) in [(1, 4), (2, 4000), (3, 8000)] {
            let wanted = format!("w{fill}");
            let tensor = file.graph().initializer.iter().find(|tensor| tensor.name() == wanted).unwrap();
            assert_eq!(file.tensor_bytes(tensor).unwrap(), vec![fill; length]);
        }
        (digests, file.external_files().to_vec())
    };
    let (inline, external_files) = write(DEFAULT_INLINE_LIMIT_BYTES);
    assert_eq!((inline.files.len(), external_files.len()), (1, 0));
    let (split, external_files) = write(1000);
    assert_eq!(external_files, [PathBuf::from("model with a name.onnx.data")]);
    assert_eq!(split.files[1].size_bytes, 4096 + 8000);
    assert_eq!(write(1000).0, split);
}

#[test]
fn a_broken_promise_of_a_producer_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    let short = Initializer {
        header: tensor("w", 1),
        size_bytes: 4,
        produce: Box::new(|writer| writer.write_all(&[0; 3])),
    };
    let error = write_model(&model(tensor("empty", 0)), vec![short], &path, 1000).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Bug);
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
}
