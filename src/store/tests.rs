//! What the store keeps, and what it does not believe.

use super::*;
use crate::digest::Blake3;
use crate::passport::Passport;

/// Golden files of the store that no other module reads.
const ORIGIN: &[u8] = include_bytes!("../../tests/fixtures/formats/origin.json");
const FIRST_ORIGIN: &[u8] = include_bytes!("../../tests/fixtures/formats/origin-first.json");
const PRECISION_CHECK: &[u8] = include_bytes!("../../tests/fixtures/formats/precision-check.json");
const PIN: &[u8] = include_bytes!("../../tests/fixtures/formats/pin.json");
const SIGNED_PROFILE: &[u8] = include_bytes!("../../tests/fixtures/formats/signed-profile.json");
const NEWEST_RELEASE: &[u8] = include_bytes!("../../tests/fixtures/formats/newest-release.json");
const PULL: &[u8] = include_bytes!("../../tests/fixtures/formats/pull.json");
const QUANTIZED_GRAPH: &[u8] = include_bytes!("../../tests/fixtures/formats/quantized-graph.json");
const MIXED_PRECISION: &[u8] = include_bytes!("../../tests/fixtures/formats/mixed-precision.json");

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
fn the_next_process_removes_what_a_killed_one_left_and_nothing_of_the_living() {
    let (_folder, store) = store();
    let at = |name: &str| store.root().join(name);
    let work = store.work_folder().unwrap();
    fs_err::write(work.path().join("model.plan"), b"half").unwrap();
    for (folder, lock) in [("tmp/work-x", Some("tmp/work-x.lock")), ("tmp/of-an-older-nimctl", None)] {
        fs_err::create_dir_all(at(folder)).unwrap();
        fs_err::write(at(folder).join("model.plan"), b"half").unwrap();
        lock.map_or(Ok(()), |lock| fs_err::write(at(lock), b"")).unwrap();
    }
    fs_err::create_dir_all(at("nimctl/last/model/graph")).unwrap();
    let half =
        ["blobs/sha256", "nimctl/last/model/graph", "."].map(|folder| at(folder).join(".tmp-nimctl-x"));
    half.iter().for_each(|path| fs_err::write(path, b"half").unwrap());
    let again = Store::open(store.root()).unwrap();
    let _lock = again.lock(|| panic!("nobody holds the lock"), &|| false).unwrap();
    assert!(work.path().join("model.plan").exists());
    assert_eq!(fs_err::read_dir(at("tmp")).unwrap().count(), 2);
    drop(work);
    assert_eq!(fs_err::read_dir(at("tmp")).unwrap().count(), 0);
    assert!(half.iter().all(|path| !path.exists()));
}

/// A build that began before a validation ended must not write over it, nor a benchmark that began before it.
#[test]
fn each_process_changes_its_own_part_of_a_passport() {
    let (_folder, store) = store();
    let passport = include_bytes!("../../tests/fixtures/formats/passport.json");
    let old = Passport::parse(passport, "p").unwrap();
    store.put_profile(&old, "{}", &[]).unwrap();
    let validated = crate::passport::Status::Skipped("validated meanwhile".into());
    store.change_passport(&old, None, |passport| passport.validation = validated.clone()).unwrap();
    let measured = crate::benchmark::BenchStatus::Skipped("measured meanwhile".into());
    store.change_passport(&old, Some(b"npz"), |passport| passport.bench = measured.clone()).unwrap();
    store.put_profile(&old, "{}", &[]).unwrap();
    let now = store.passport(&old.id).unwrap().unwrap();
    assert_eq!((now.validation, now.bench), (validated, measured));
    assert_eq!(fs_err::read(store.samples_path(&old.id)).unwrap(), b"npz");
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

/// Files of an earlier nimctl, which have to be read for ever; those of the first one have no schema.
#[test]
fn golden_files_are_read() {
    let (_folder, store) = store();
    let id = ProfileId::from_hex(&"a".repeat(64)).unwrap();
    for golden in [ORIGIN, FIRST_ORIGIN] {
        atomic_file::write(&store.origin_path(&id), golden).unwrap();
        assert_eq!(store.origin(&id).unwrap().as_deref(), Some(Path::new("/models/r.yaml")));
    }
    atomic_file::write(&store.pin_path(&id), PIN).unwrap();
    atomic_file::write(&store.pull_path(&id), PULL).unwrap();
    let survey = store.survey().unwrap();
    assert_eq!(survey.pins[&id], Pin::new(Some("in production".into())));
    let pull = &survey.pulls[&id];
    assert_eq!((pull.place.as_str(), pull.is_complete), ("registry.example.com/models/clip:2.0.0", false));
    assert_eq!(pull.files[0].size_bytes, 4);
    store.end_pull(&id).unwrap();
    assert!(store.pull_record(&id).unwrap().unwrap().is_complete);
    let key = Sha256::of(b"key");
    atomic_file::write(&store.mixed_precision_path(&key), MIXED_PRECISION).unwrap();
    let report = store.mixed_precision(&key).unwrap().unwrap();
    assert_eq!(report.min_row_cosine, Some(0.999));
    store.put_mixed_precision(&key, &report).unwrap();
    assert_eq!(store.mixed_precision(&key).unwrap(), Some(report));
    atomic_file::write(&store.quantized_graph_path(&key), QUANTIZED_GRAPH).unwrap();
    // Without its blobs, it is none.
    assert_eq!(store.quantized_graph(&key).unwrap(), None);
    store.put(b"test").unwrap();
    let found = store.quantized_graph(&key).unwrap().unwrap();
    assert_eq!(found.record.choice.kept, ["/layer.0/output/dense"]);
    store.put_quantized_graph(&key, &found).unwrap();
    assert_eq!(store.quantized_graph(&key).unwrap(), Some(found));
    atomic_file::write(&store.precision_check_path(&key), PRECISION_CHECK).unwrap();
    let check = store.precision_check(&key).unwrap().unwrap();
    assert_eq!(check.failed().count(), 1);
    store.put_precision_check(&key, &check).unwrap();
    assert_eq!(store.precision_check(&key).unwrap(), Some(check));
    atomic_file::write(&store.signed_path(&id), SIGNED_PROFILE).unwrap();
    let signed = store.signed(&id).unwrap().unwrap();
    assert_eq!(signed.release, Sha256::of(b"foo"));
    store.put_signed(&id, &signed).unwrap();
    assert_eq!(store.signed(&id).unwrap(), Some(signed));
    atomic_file::write(&store.newest_release_path("nvclip-demo"), NEWEST_RELEASE).unwrap();
    assert_eq!(store.newest_release("nvclip-demo").unwrap().as_deref(), Some("2.0.0"));
    store.put_newest_release("nvclip-demo", "2.0.0").unwrap();
    assert_eq!(fs_err::read(store.newest_release_path("nvclip-demo")).unwrap(), NEWEST_RELEASE.trim_ascii());
    assert_eq!(store.newest_release("nvclip").unwrap(), None);
}

#[test]
fn what_is_damaged_counts_as_absent_and_is_written_again() {
    let (_folder, store) = store();
    let id = ProfileId::from_hex(&"a".repeat(64)).unwrap();
    for damaged in ["", "{ not json", "[]", "{\"schema\": \"nimctl.origin/1\"}", "{\"schema\": 1}"] {
        atomic_file::write(&store.origin_path(&id), damaged.as_bytes()).unwrap();
        assert_eq!(store.origin(&id).unwrap(), None, "{damaged}");
        store.put_origins(&[id], Path::new("r.yaml")).unwrap();
        assert_eq!(store.origin(&id).unwrap().as_deref(), Some(Path::new("r.yaml")));
    }
}

#[test]
fn what_a_newer_nimctl_wrote_is_refused_and_stays() {
    let (_folder, store) = store();
    let id = ProfileId::from_hex(&"a".repeat(64)).unwrap();
    let key = Sha256::of(b"key");
    let newer = |result: Result<(), StoreError>| {
        let error = result.unwrap_err();
        assert!(error.to_string().contains(": written by a newer nimctl (schema nimctl."), "{error}");
        assert_eq!(error.kind(), crate::error_kind::ErrorKind::Input);
    };
    let report = serde_json::from_slice::<Found>(MIXED_PRECISION).unwrap().report;
    let check =
        |path: &Path, schema: &str, read: &dyn Fn() -> Result<(), StoreError>, write: &dyn Fn() -> _| {
            let text = format!("{{\"schema\": \"{schema}/2\", \"else\": [1]}}");
            atomic_file::write(path, text.as_bytes()).unwrap();
            newer(read());
            newer(write());
            assert_eq!(fs_err::read(path).unwrap(), text.as_bytes());
        };
    check(&store.origin_path(&id), "nimctl.origin", &|| store.origin(&id).map(drop), &|| {
        store.put_origins(&[id], Path::new("r.yaml"))
    });
    check(&store.pin_path(&id), "nimctl.pin", &|| store.survey()?.refuse_unreadable(), &|| {
        store.write_pin(&id, &Pin::new(None))
    });
    store.remove_file(&store.pin_path(&id)).unwrap();
    check(&store.pull_path(&id), "nimctl.pull", &|| store.pull_record(&id).map(drop), &|| {
        store.begin_pull(&id, "place", &[]).map(drop)
    });
    let signed: SignedProfile = serde_json::from_slice(SIGNED_PROFILE).unwrap();
    check(&store.signed_path(&id), "nimctl.signed-profile", &|| store.signed(&id).map(drop), &|| {
        store.put_signed(&id, &signed)
    });
    check(
        &store.newest_release_path("m"),
        "nimctl.newest-release",
        &|| store.newest_release("m").map(drop),
        &|| store.put_newest_release("m", "1.0.0"),
    );
    check(
        &store.mixed_precision_path(&key),
        "nimctl.mixed-precision",
        &|| store.mixed_precision(&key).map(drop),
        &|| store.put_mixed_precision(&key, &report),
    );
    let quantized: QuantizedGraph = serde_json::from_slice(QUANTIZED_GRAPH).unwrap();
    check(
        &store.quantized_graph_path(&key),
        "nimctl.quantized-graph",
        &|| store.quantized_graph(&key).map(drop),
        &|| store.put_quantized_graph(&key, &quantized),
    );
    let found = serde_json::from_slice::<FoundByCheck>(PRECISION_CHECK).unwrap().check;
    check(
        &store.precision_check_path(&key),
        "nimctl.precision-check",
        &|| store.precision_check(&key).map(drop),
        &|| store.put_precision_check(&key, &found),
    );
    let passport = include_bytes!("../../tests/fixtures/formats/passport.json");
    let passport = Passport::parse(passport, "p").unwrap();
    let id = passport.id;
    check(&store.passport_path(&id), "nimctl.passport", &|| store.passport(&id).map(drop), &|| {
        store.change_passport(&passport, None, |_| ())?;
        store.put_profile(&passport, "{}", &[]).map(drop)
    });
    let index = store.root().join("index.json");
    atomic_file::write(&index, b"{\"schemaVersion\": 3}").unwrap();
    fs_err::remove_file(store.passport_path(&id)).unwrap();
    let error = store.put_profile(&passport, "{}", &[]).unwrap_err().to_string();
    assert!(error.contains("index.json: written by a newer nimctl (schema OCI index 3"), "{error}");
    assert_eq!(fs_err::read(&index).unwrap(), b"{\"schemaVersion\": 3}");
}
