//! A graph in a wheel.

use nimctl::digest::Sha256;
use nimctl::source::{PipSource, SourceError, fetch_pip};
use nimctl::toolchain::{ToolchainError, Watch};

use crate::fixture::Fixture;

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
    fetch_pip(source, &fixture.places, &fixture.pip, &mut watch)
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
