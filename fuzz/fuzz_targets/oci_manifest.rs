//! Any bytes as the manifest of a profile that a registry gives: read, written again, and pulled by. The store has the profile as a
//! whole afterwards, or nothing of it.
//!
//! Errors are fine. Panics and overflows are not.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nimctl::oci::{ImageManifest, PACK_TYPE, Which};
use nimctl::ops::pull::{PullOptions, RemoteRelease};
use nimctl::store::Store;
use nimctl_fuzz::{Hostile, Replaced, SmallRelease};
use tempfile::TempDir;

static RELEASE: LazyLock<SmallRelease> = LazyLock::new(SmallRelease::new);
/// The folder is never removed.
static FOLDER: LazyLock<TempDir> =
    LazyLock::new(|| tempfile::Builder::new().prefix("nimctl-fuzz-").tempdir().expect("a folder"));
static STORE: LazyLock<Store> = LazyLock::new(|| Store::open(FOLDER.path()).expect("a store"));

fuzz_target!(|data: &[u8]| {
    match ImageManifest::parse(data, "manifest") {
        Ok(manifest) => {
            let text = manifest.to_json();
            let again = ImageManifest::parse(&text, "again").expect("what we write we read");
            assert_eq!(again, manifest);
            assert_eq!(again.to_json(), text);
            let packs = manifest.layers.iter().filter(|layer| layer.media_type == PACK_TYPE).count();
            assert_eq!(manifest.layer(PACK_TYPE).is_some(), packs == 1);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let place = Hostile { release: &RELEASE, replaced: Replaced::Manifest, bytes: data };
    let release = RemoteRelease::open(&place, &Which::Tag("1".into())).expect("the index is its own");
    let options = PullOptions { parallel: 1, cancelled: &|| false, on_bytes: &|_, _| () };
    let id = RELEASE.id.to_string();
    match release.pull(&id, &STORE, &options) {
        Ok(pulled) => {
            let passport = pulled.passport.expect("what was pulled has a passport");
            assert_eq!(passport.id, RELEASE.id);
            for file in &passport.contents.files {
                STORE.check_blob(&file.sha256).expect("what was pulled is whole");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
