//! A graph in a wheel.

use std::path::{Path, PathBuf};

use nimctl::digest::Sha256;
use nimctl::source::{PipSource, SourceError, fetch_pip};
use nimctl::toolchain::{ToolchainError, Watch};

use crate::fixture::{Fixture, LIBRARY, LIBRARY_NAME};

fn source(fixture: &Fixture, file: &str) -> PipSource {
    PipSource {
        package: "nimctl-fake".into(),
        version: "1.0".into(),
        sha256: fixture.wheel_sha256,
        file: file.into(),
    }
}

fn fetch(fixture: &Fixture, source: &PipSource) -> Result<std::path::PathBuf, SourceError> {
    let mut watch = Watch { progress: &mut |_| {}, cancelled: &|| false };
    fetch_pip(source, &fixture.places, &fixture.pip, &|_| Vec::new(), &mut watch)
}

#[test]
fn a_file_is_fetched_once() {
    let mut fixture = Fixture::new();
    let source = source(&fixture, "fake/model.onnx");
    let path = fetch(&fixture, &source).unwrap();
    assert_eq!(fs_err::read(&path).unwrap(), b"a graph");
    assert!(path.ends_with(format!("sources/pip/{}/fake/model.onnx", fixture.wheel_sha256.to_hex())));
    fixture.pip.python = Some("/nonexistent/python3".into());
    assert_eq!(fetch(&fixture, &source).unwrap(), path);
}

#[test]
fn a_file_that_is_damaged_is_fetched_again() {
    let mut fixture = Fixture::new();
    let source = source(&fixture, "fake/model.onnx");
    let path = fetch(&fixture, &source).unwrap();
    fs_err::write(&path, b"A graph").unwrap();
    assert_eq!(fetch(&fixture, &source).unwrap(), path);
    assert_eq!(fs_err::read(&path).unwrap(), b"a graph");
    fs_err::write(&path, b"A graph").unwrap();
    fixture.pip.python = Some("/nonexistent/python3".into());
    fetch(&fixture, &source).unwrap_err();
}

#[test]
fn what_a_file_needs_comes_with_it() {
    let mut fixture = Fixture::new();
    let source = source(&fixture, "fake/model.onnx");
    let path = fetch(&fixture, &source).unwrap();
    let data = path.with_file_name("lib").join(LIBRARY_NAME);
    assert!(!data.exists());
    let needs = |_: &Path| vec![Path::new("lib").join(LIBRARY_NAME), "../../escaped".into(), "absent".into()];
    let fetch = |fixture: &Fixture, beside: &dyn Fn(&Path) -> Vec<PathBuf>| {
        let mut watch = Watch { progress: &mut |_| {}, cancelled: &|| false };
        fetch_pip(&source, &fixture.places, &fixture.pip, beside, &mut watch)
    };
    assert_eq!(fetch(&fixture, &needs).unwrap(), path);
    assert_eq!(fs_err::read(&data).unwrap(), LIBRARY);
    assert!(!fixture.places.data_folder.join("sources/escaped").exists());
    fixture.pip.python = Some("/nonexistent/python3".into());
    assert_eq!(fetch(&fixture, &|_| vec![Path::new("lib").join(LIBRARY_NAME)]).unwrap(), path);
    // What is not in the wheel may be there the next time, for all that is known.
    fetch(&fixture, &needs).unwrap_err();
}

#[test]
fn what_is_not_there_leaves_nothing() {
    let fixture = Fixture::new();
    let error = fetch(&fixture, &source(&fixture, "fake/other.onnx")).unwrap_err();
    assert!(matches!(error, SourceError::Wheel(ToolchainError::NotInWheel { .. })), "{error}");
    let mut wrong = source(&fixture, "fake/model.onnx");
    wrong.sha256 = Sha256::of(b"another wheel");
    let error = fetch(&fixture, &wrong).unwrap_err();
    assert!(matches!(error, SourceError::Wheel(ToolchainError::WrongWheel { .. })), "{error}");
    fixture.assert_nothing_left();
}

#[test]
fn only_plain_names_and_paths() {
    let fixture = Fixture::new();
    for file in ["", "/etc/passwd", "../../escaped", "a/../../b"] {
        let error = fetch(&fixture, &source(&fixture, file)).unwrap_err();
        assert!(matches!(error, SourceError::BadPath { .. }), "{file}: {error}");
    }
    let mut odd = source(&fixture, "fake/model.onnx");
    odd.version = "1.0\n--index-url=x".into();
    let error = fetch(&fixture, &odd).unwrap_err();
    assert!(matches!(error, SourceError::Wheel(ToolchainError::BadRequirement { .. })), "{error}");
    fixture.assert_nothing_left();
}
