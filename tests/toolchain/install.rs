//! Installing: whole or absent, once, repaired.

use nimctl::digest::Sha256;
use nimctl::error_kind::ErrorKind;
use nimctl::toolchain::{InstallOutcome, Stage, Tool, ToolchainError};

use crate::fixture::{Fixture, LIBRARY, LIBRARY_NAME, lock, put, stages};

#[test]
fn a_tool_is_installed_once() {
    let fixture = Fixture::new();
    let mut told = Vec::new();
    let first = fixture.install_watched(&mut |progress| told.push(progress), &|| false).unwrap();
    assert_eq!(first.outcome, InstallOutcome::Installed);
    assert_eq!(stages(&told), [Stage::Downloading, Stage::Verifying, Stage::Unpacking]);
    assert_eq!(told.last().map(|last| last.done_bytes), Some(LIBRARY.len() as u64));
    assert_eq!(fs_err::read(&first.files[0].path).unwrap(), LIBRARY);
    let folder = format!("toolchains/onnxruntime/1.0-{}", &fixture.wheel_sha256.to_hex()[..12]);
    assert_eq!(first.folder, fixture.places.data_folder.join(folder));
    let record = fs_err::read_to_string(first.folder.join("installed.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!(
        record,
        serde_json::json!({
            "schema": "nimctl.installed-tool/1",
            "name": "onnxruntime",
            "version": "1.0",
            "wheel_sha256": fixture.wheel_sha256,
            "files": [{ "name": LIBRARY_NAME, "sha256": Sha256::of(LIBRARY), "size_bytes": LIBRARY.len() }],
        })
    );
    // Only what is listed was unpacked, and the work folders are gone.
    assert_eq!(fs_err::read_dir(&first.folder).unwrap().count(), 2);
    assert_eq!(fs_err::read_dir(first.folder.parent().unwrap()).unwrap().count(), 1);

    let again = Fixture { pip: no_python(), ..fixture }.install().unwrap();
    assert_eq!(again.outcome, InstallOutcome::AlreadyInstalled);
    assert_eq!(again.files, first.files);
}

#[test]
fn damage_is_repaired() {
    let fixture = Fixture::new();
    let library = fixture.install().unwrap().files.remove(0).path;
    let folder = library.parent().unwrap();
    let check = |damage: &dyn Fn(), expected: &str| {
        damage();
        let error = nimctl::toolchain::locate(Tool::OnnxRuntime, &fixture.places).unwrap_err();
        assert!(error.to_string().ends_with(expected), "{error}");
        let outcome = fixture.install().unwrap().outcome;
        assert_eq!(outcome, InstallOutcome::Repaired { reason: expected.into() });
        assert_eq!(fs_err::read(&library).unwrap(), LIBRARY);
        assert_eq!(fixture.install().unwrap().outcome, InstallOutcome::AlreadyInstalled);
    };
    check(&|| put(&library, b"short"), "libonnxruntime.so.1.0.0 has 5 bytes, not 19");
    check(&|| fs_err::remove_file(&library).unwrap(), "libonnxruntime.so.1.0.0 is missing");
    check(
        &|| {
            let record = fs_err::read_to_string(folder.join("installed.json")).unwrap();
            put(&folder.join("installed.json"), record.replace("\"1.0\"", "\"1.1\"").as_bytes());
        },
        "installed.json does not match the lock",
    );
}

#[test]
fn leftovers_of_a_kill_are_removed() {
    let fixture = Fixture::new();
    let left = fixture.places.data_folder.join("toolchains/onnxruntime/.tmp-onnxruntime-abc");
    put(&left.join("half"), b"half");
    fixture.install().unwrap();
    assert!(!left.exists());
}

#[test]
fn two_at_once_fetch_once() {
    let fixture = Fixture::new();
    let outcomes = std::thread::scope(|scope| {
        let runs = [(); 2].map(|()| scope.spawn(|| fixture.install().unwrap().outcome));
        runs.map(|run| run.join().unwrap())
    });
    assert!(outcomes.contains(&InstallOutcome::Installed), "{outcomes:?}");
    assert!(outcomes.contains(&InstallOutcome::AlreadyInstalled), "{outcomes:?}");
}

#[test]
fn a_wheel_that_is_not_the_pinned_one_is_refused() {
    let mut fixture = Fixture::new();
    let pinned = Sha256::of(b"another wheel");
    fixture.places.lock = lock(pinned, Sha256::of(LIBRARY), LIBRARY.len(), 1);
    let error = fixture.install().unwrap_err();
    let got = fixture.wheel_sha256;
    assert_eq!(
        error.to_string(),
        format!("the wheel of nimctl-fake 1.0 is not the pinned one: expected {pinned}, got {got}")
    );
    assert_eq!(error.kind(), ErrorKind::Refused);
    fixture.assert_nothing_left();
}

#[test]
fn a_file_that_is_not_the_pinned_one_is_refused() {
    for (sha256, size_bytes) in [(Sha256::of(b"other"), LIBRARY.len()), (Sha256::of(LIBRARY), 3)] {
        let mut fixture = Fixture::new();
        fixture.places.lock = lock(fixture.wheel_sha256, sha256, size_bytes, 1);
        let error = fixture.install().unwrap_err();
        assert!(matches!(error, ToolchainError::WrongFile { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Refused);
        fixture.assert_nothing_left();
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let mut fixture = Fixture::new();
    put(&fixture.folder.path().join("file"), b"");
    fixture.places.data_folder = fixture.folder.path().join("file");
    let error = fixture.install().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input, "{error}");
}

#[test]
fn what_cannot_be_installed_says_so() {
    let mut fixture = Fixture::new();
    fixture.places.host = "riscv64-linux".into();
    let error = fixture.install().unwrap_err();
    assert_eq!(
        error.to_string(),
        "no wheel of onnxruntime is pinned for riscv64-linux, only for x86_64-linux"
    );
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

/// A pip that fails the test when it is used.
fn no_python() -> nimctl::toolchain::Pip {
    nimctl::toolchain::Pip { python: Some("/nonexistent/python3".into()), ..Default::default() }
}
