//! What pip may do instead of fetching a wheel.

use std::time::{Duration, Instant};

use nimctl::error_kind::ErrorKind;
use nimctl::toolchain::ToolchainError;

use crate::fixture::Fixture;

#[test]
fn no_python() {
    let mut fixture = Fixture::new();
    fixture.pip.environment.push(("PATH".into(), fixture.folder.path().into()));
    let error = fixture.install().unwrap_err();
    assert_eq!(
        error.to_string(),
        "no Python was found (tried python3, python); nimctl needs its pip to fetch nimctl-fake 1.0"
    );
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[test]
fn no_pip() {
    let fixture = Fixture::with_python("echo \"$0: No module named pip\" >&2; exit 1");
    let error = fixture.install().unwrap_err();
    assert!(matches!(error, ToolchainError::NoPip { .. }), "{error}");
    assert!(error.hint().unwrap().contains("ensurepip"));
}

#[test]
fn no_such_wheel() {
    let mut fixture = Fixture::new();
    fixture.pip.environment.push(("PIP_FIND_LINKS".into(), fixture.folder.path().join("empty").into()));
    let error = fixture.install().unwrap_err();
    assert!(error.to_string().contains("No matching distribution found for nimctl-fake==1.0"), "{error}");
    assert!(error.hint().unwrap().contains("PIP_FIND_LINKS"));
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    fixture.assert_nothing_left();
}

#[test]
fn talk_is_cut_and_keeps_no_password() {
    let script = "i=0; while [ $i -lt 5000 ]; do echo \"line $i https://me:pw@mirror/simple\" >&2; i=$((i+1)); done; exit 3";
    let error = Fixture::with_python(script).install().unwrap_err().to_string();
    assert!(error.contains("exit status: 3"), "{error}");
    assert!(error.contains("line 4999 https://****@mirror/simple"), "{error}");
    assert!(!error.contains("line 4000 ") && !error.contains("pw"), "{error}");
}

#[test]
fn success_without_a_wheel() {
    let error = Fixture::with_python("exit 0").install().unwrap_err();
    assert!(matches!(error, ToolchainError::PipLeftNoWheel { found: 0, .. }), "{error}");
}

#[test]
fn a_wheel_that_pip_did_not_check_is_checked() {
    let script = "for last; do :; done; echo not a wheel > \"$last/x-1.0-py3-none-any.whl\"";
    let fixture = Fixture::with_python(script);
    let error = fixture.install().unwrap_err();
    assert!(matches!(error, ToolchainError::WrongWheel { got: Some(_), .. }), "{error}");
    fixture.assert_nothing_left();
}

#[test]
fn a_hang_ends_with_all_its_processes() {
    // The child of the script holds the folder's name; it must die with the script.
    let mut fixture = Fixture::with_python("sleep 600 & echo $! > \"$(dirname \"$0\")/pid\"; wait");
    fixture.pip.time_limit = Duration::from_millis(500);
    let start = Instant::now();
    let error = fixture.install().unwrap_err();
    assert!(matches!(error, ToolchainError::TimedOut { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(20));
    let pid = fs_err::read_to_string(fixture.folder.path().join("pid")).unwrap();
    assert!(ends_soon(pid.trim()), "process {pid} is still there");
    fixture.assert_nothing_left();
}

#[test]
fn a_cancelled_install_leaves_nothing() {
    let fixture = Fixture::with_python("sleep 600");
    let start = Instant::now();
    let error =
        fixture.install_watched(&mut |_| {}, &|| start.elapsed() > Duration::from_millis(200)).unwrap_err();
    assert_eq!(error.to_string(), "cancelled while fetching nimctl-fake 1.0");
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(start.elapsed() < Duration::from_secs(20));
    fixture.assert_nothing_left();
}

#[test]
fn a_pip_that_lies_in_the_current_folder_is_not_run() {
    // The interpreter is started in a folder with a `pip.py`, as if nimctl had been.
    let fixture = Fixture::with_python(
        "cd \"$(dirname \"$0\")\" && echo 'open(\"ran\", \"w\")' > pip.py && exec python3 \"$@\"",
    );
    fixture.install().unwrap();
    assert!(!fixture.folder.path().join("ran").exists());
}

fn ends_soon(pid: &str) -> bool {
    let stat = std::path::PathBuf::from(format!("/proc/{pid}/stat"));
    (0..100).any(|_| {
        // A dead process whose parent hasn't asked for it yet is in state Z.
        let ended = fs_err::read_to_string(&stat).map_or(true, |text| text.contains(") Z "));
        if !ended {
            std::thread::sleep(Duration::from_millis(50));
        }
        ended
    })
}
