//! Finding a tool: named, installed, on the loader path.

use std::os::unix::fs::symlink;
use std::path::Path;

use nimctl::digest::Sha256;
use nimctl::error_kind::ErrorKind;
use nimctl::toolchain::{Located, Origin, Tool, ToolState, ToolchainError, list, locate};

use crate::fixture::{Fixture, put};

fn names(located: &Located) -> Vec<&str> {
    located.files.iter().map(|file| file.name.as_str()).collect()
}

fn locate_in(fixture: &mut Fixture, tool: Tool, named: &Path) -> Result<Located, ToolchainError> {
    fixture.places.overrides.insert(tool, named.into());
    locate(tool, &fixture.places)
}

#[test]
fn the_installed_one() {
    let fixture = Fixture::new();
    let error = locate(Tool::OnnxRuntime, &fixture.places).unwrap_err();
    assert_eq!(error.to_string(), "onnxruntime is not installed");
    assert!(error.hint().unwrap().starts_with("run `nimctl toolchain install onnxruntime`"));
    let installed = fixture.install().unwrap();
    let located = locate(Tool::OnnxRuntime, &fixture.places).unwrap();
    assert_eq!((located.origin, located.version.as_deref()), (Origin::Installed, Some("1.0")));
    assert_eq!((located.folder, located.files), (installed.folder, installed.files));
}

#[test]
fn the_named_one_wins() {
    let mut fixture = Fixture::new();
    fixture.install().unwrap();
    let own = fixture.folder.path().join("own");
    put(&own.join("libonnxruntime.so.2.3.4"), b"own");
    put(&own.join("libonnxruntime_providers_cuda.so"), b"cuda");
    put(&own.join("README"), b"");
    symlink("libonnxruntime.so.2.3.4", own.join("libonnxruntime.so")).unwrap();
    for named in [own.clone(), own.join("libonnxruntime.so"), own.join("libonnxruntime.so.2.3.4")] {
        let located = locate_in(&mut fixture, Tool::OnnxRuntime, &named).unwrap();
        assert_eq!((located.origin, located.version.as_deref()), (Origin::Override, Some("2.3.4")));
        assert_eq!(names(&located), ["libonnxruntime.so.2.3.4", "libonnxruntime_providers_cuda.so"]);
        assert_eq!(located.files[0].sha256, Sha256::of(b"own"));
        assert_eq!(located.files[0].size_bytes, 3);
    }
}

#[test]
fn a_named_one_that_is_not_it() {
    let mut fixture = Fixture::new();
    let own = fixture.folder.path().join("own");
    let mut check = |named: &Path, expected: &str| {
        let error = locate_in(&mut fixture, Tool::TensorrtRtx, named).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
        assert_eq!(error.kind(), ErrorKind::Input);
    };
    check(&own, &format!("{}, which was given for tensorrt-rtx, does not exist", own.display()));
    put(&own.join("libtensorrt_rtx.so.1"), b"1");
    check(&own, "libtensorrt_onnxparser_rtx.so was not found in ");
    check(&own.join("libtensorrt_rtx.so.1"), "libtensorrt_onnxparser_rtx.so was not found in ");
    put(&own.join("libtensorrt_rtx.so.2"), b"2");
    check(&own, &format!("{} contains more than one libtensorrt_rtx.so of tensorrt-rtx: ", own.display()));
}

#[test]
fn the_parser_of_the_same_major_version() {
    let mut fixture = Fixture::new();
    let own = fixture.folder.path().join("own");
    for name in
        ["libnvinfer.so.10.9.0", "libnvinfer.so.11.4.0", "libnvonnxparser.so.10", "libnvonnxparser.so.11"]
    {
        put(&own.join(name), name.as_bytes());
    }
    for part in ["sm90", "ptx"] {
        put(&own.join(format!("libnvinfer_builder_resource_{part}.so.11.4.0")), part.as_bytes());
    }
    let located = locate_in(&mut fixture, Tool::Tensorrt, &own.join("libnvinfer.so.11.4.0")).unwrap();
    assert_eq!(
        names(&located),
        [
            "libnvinfer.so.11.4.0",
            "libnvonnxparser.so.11",
            "libnvinfer_builder_resource_ptx.so.11.4.0",
            "libnvinfer_builder_resource_sm90.so.11.4.0"
        ]
    );
}

#[test]
fn the_full_builder_is_only_found() {
    let mut fixture = Fixture::new();
    let error = locate(Tool::Tensorrt, &fixture.places).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.hint().unwrap().contains("NIMCTL_TENSORRT_LIB"));
    let (empty, system) = (fixture.folder.path().join("empty"), fixture.folder.path().join("system"));
    fs_err::create_dir(&empty).unwrap();
    put(&system.join("libnvinfer.so.11"), b"a");
    put(&system.join("libnvonnxparser.so.11"), b"b");
    fixture.places.loader_folders = vec!["/nonexistent".into(), empty, system.clone()];
    let located = locate(Tool::Tensorrt, &fixture.places).unwrap();
    assert_eq!((located.origin, located.folder), (Origin::LoaderPath, fs_err::canonicalize(system).unwrap()));
}

#[test]
fn the_list() {
    let fixture = Fixture::new();
    let state = |fixture: &Fixture| list(&fixture.places).remove(0).state;
    assert_eq!(state(&fixture), ToolState::NotInstalled);
    let installed = fixture.install().unwrap();
    assert_eq!(state(&fixture), ToolState::Installed { folder: installed.folder, size_bytes: 19 });
    let lines = list(&fixture.places);
    assert_eq!(lines.iter().map(|line| line.tool).collect::<Vec<_>>(), Tool::ALL);
    assert!(matches!(lines[2].state, ToolState::Unusable { .. }));
}
