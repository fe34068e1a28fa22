//! What the store keeps, and what it does not believe.

use super::*;
use crate::digest::Blake3;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    (folder, store)
}

#[test]
fn adopted_files_are_named_by_their_bytes() {
    let (_folder, store) = store();
    let work = store.work_folder().unwrap();
    for name in ["a", "b"] {
        fs_err::write(work.path().join(name), b"plan").unwrap();
        let output = store.adopt(&work.path().join(name), "model.plan").unwrap();
        assert_eq!(output.sha256, Sha256::of(b"plan"));
        assert_eq!(output.blake3, Blake3::of(b"plan"));
        assert!(store.has_blob(&output.sha256, 4) && !store.has_blob(&output.sha256, 5));
    }
    assert_eq!(
        fs_err::read_dir(store.root().join("blobs/sha256")).unwrap().count(),
        1,
        "equal plans share one file"
    );
}

#[test]
fn a_damaged_blob_is_refused() {
    let (_folder, store) = store();
    let sha256 = store.put(b"contents").unwrap();
    fs_err::write(store.blob_path(&sha256), b"c0ntents").unwrap();
    assert!(matches!(store.get(&sha256), Err(StoreError::Damaged { .. })));
}

#[test]
fn the_next_writer_removes_what_a_killed_one_left() {
    let (_folder, store) = store();
    fs_err::create_dir_all(store.root().join("tmp/work-x")).unwrap();
    fs_err::write(store.root().join("tmp/work-x/model.plan"), b"half").unwrap();
    let _lock = store.lock(|| panic!("nobody holds the lock"), &|| false).unwrap();
    assert_eq!(fs_err::read_dir(store.root().join("tmp")).unwrap().count(), 0);
}

#[test]
fn two_writers_take_turns() {
    let (_folder, store) = store();
    let lock = store.lock(|| (), &|| false).unwrap();
    let mut waited = false;
    let second = Store::open(store.root()).unwrap().lock(|| waited = true, &|| true);
    assert!(matches!(second, Err(StoreError::Cancelled)));
    assert!(waited);
    drop(lock);
    store.lock(|| panic!("the lock was given up"), &|| false).unwrap();
}

#[test]
fn a_store_that_cannot_be_written_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs_err::write(&file, b"").unwrap();
    let error = Store::open(&file.join("store")).unwrap_err();
    assert_eq!(error.kind(), crate::error_kind::ErrorKind::Input);
    assert!(error.to_string().contains("--store"));
}
