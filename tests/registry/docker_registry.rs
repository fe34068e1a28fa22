//! What a real registry does: Debian's `docker-registry` (2.8).

use std::io::{Cursor, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nimctl::digest::Sha256;
use nimctl::error_kind::ErrorKind;
use nimctl::registry::{Limits, Options, Repository, Uploaded};
use serde_json::json;

use crate::docker::DockerRegistry;
use crate::support::{blob, bytes, check_error, fetch, limits, options, with_client};

/// Passes connections on, and cuts the first `cuts` of them after a random count of bytes in either direction. Returns its
/// address.
fn cutting_proxy(target: String, cuts: Arc<AtomicUsize>, max_bytes: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut random = fastrand::Rng::with_seed(3);
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(&target).unwrap());
            let is_cut =
                cuts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
            let limit = if is_cut { random.usize(500..max_bytes) } else { usize::MAX };
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                std::thread::spawn(move || pass_on(from, to, limit));
            }
        }
    });
    address
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, mut limit: usize) {
    let mut buffer = [0; 16 * 1024];
    while limit > 0 {
        let Ok(count) = from.read(&mut buffer) else { break };
        let count = count.min(limit);
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
        limit -= count;
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn blobs_go_up_and_down_with_docker_registry() {
    let registry = DockerRegistry::start();
    let data = bytes(3_500_000);
    let limits = Limits { chunk_bytes: 1_000_000, ..limits() };
    let (_, notices) = with_client(Options { limits, ..options() }, |client| {
        let repository = registry.repository("a/b");
        let small = bytes(1000);
        for data in [&data[..], &small, b""] {
            let put = || client.put_blob(&repository, blob(data), &mut Cursor::new(data), None).unwrap();
            // It has the empty one from the beginning.
            let sent = put();
            assert!(sent == Uploaded::Sent { bytes: data.len() as u64 } || data.is_empty(), "{sent:?}");
            assert_eq!(put(), Uploaded::Existed);
            assert_eq!(client.has_blob(&repository, &blob(data).digest).unwrap(), Some(data.len() as u64));
            assert!(fetch(client, &repository, data, None).unwrap().0 == data);
        }
        let (got, fetched) = fetch(client, &repository, &data, Some(1_234_567..2_345_678)).unwrap();
        assert!(got == data[1_234_567..2_345_678]);
        assert!(!fetched.range_ignored);
        let other = registry.repository("c/d");
        let mounted =
            client.put_blob(&other, blob(&data), &mut Cursor::new(&data), Some(&repository)).unwrap();
        assert_eq!(mounted, Uploaded::Mounted);
        let gone = fetch(client, &other, b"gone", None);
        check_error(gone, "was not found: BLOB_UNKNOWN: blob unknown to registry", ErrorKind::Input);
    });
    assert_eq!(notices, []);
}

#[test]
fn manifests_and_referrers_with_docker_registry() {
    let registry = DockerRegistry::start();
    let oci = "application/vnd.oci.image.manifest.v1+json";
    with_client(options(), |client| {
        let repository = registry.repository("a/b");
        let empty = b"{}";
        client.put_blob(&repository, blob(empty), &mut Cursor::new(empty), None).unwrap();
        let manifest = |subject: Option<Sha256>, text: &str| {
            let config = json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": Sha256::of(empty), "size": 2 });
            let mut manifest = json!({
                "schemaVersion": 2,
                "mediaType": oci,
                "artifactType": "application/vnd.example.test",
                "config": config,
                "layers": [config],
                "annotations": { "text": text },
            });
            if let Some(subject) = subject {
                manifest["subject"] = json!({ "mediaType": oci, "digest": subject, "size": 2 });
            }
            manifest.to_string().into_bytes()
        };
        let first = manifest(None, "first");
        assert_eq!(client.tags(&repository).unwrap(), Vec::<String>::new());
        let by_tag = repository.with_tag("v1").unwrap();
        let digest = client.put_manifest(&by_tag, oci, &first).unwrap();
        let got = client.get_manifest(&by_tag).unwrap();
        assert_eq!((got.bytes, got.digest, got.media_type.as_str()), (first, digest, oci));
        assert_eq!(client.get_manifest(&repository.with_digest(digest)).unwrap().digest, digest);
        assert_eq!(client.tags(&repository).unwrap(), ["v1"]);
        let gone = client.get_manifest(&repository.with_tag("v2").unwrap());
        check_error(gone, "was not found: MANIFEST_UNKNOWN: manifest unknown", ErrorKind::Input);
        assert_eq!(client.referrers(&repository, &digest, None).unwrap(), []);
        for text in ["second", "third"] {
            let hanging = manifest(Some(digest), text);
            client.put_manifest(&repository.with_digest(Sha256::of(&hanging)), oci, &hanging).unwrap();
        }
        let found = client.referrers(&repository, &digest, Some("application/vnd.example.test")).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].annotations["text"], "second");
    });
}

#[test]
fn uploads_and_downloads_are_cut_and_go_on_with_docker_registry() {
    let registry = DockerRegistry::start();
    let data = bytes(4_000_000);
    let limits = Limits { chunk_bytes: 1_000_000, retries: 10, ..limits() };
    let options = || Options { limits, ..options() };
    // It forgets an upload of which a request broke off, so few cuts are enough.
    for (cuts, is_upload) in [(5, true), (30, false)] {
        let cuts = Arc::new(AtomicUsize::new(cuts));
        let proxy = cutting_proxy(registry.address().to_owned(), Arc::clone(&cuts), 500_000);
        let repository = Repository::new(&proxy, "a/b").unwrap();
        with_client(options(), |client| {
            if is_upload {
                client.put_blob(&repository, blob(&data), &mut Cursor::new(&data), None).unwrap();
            } else {
                let (got, fetched) = fetch(client, &repository, &data, None).unwrap();
                assert!(got == data);
                assert_eq!(fetched.received_bytes, 4_000_000);
            }
        });
        assert!(cuts.load(Ordering::Relaxed) < 20);
    }
}

#[test]
fn a_login_with_docker_registry() {
    let registry = DockerRegistry::start_with(true, false);
    let data = bytes(1000);
    let repository = registry.repository("a/b");
    with_client(options(), |client| {
        let put = client.put_blob(&repository, blob(&data), &mut Cursor::new(&data), None);
        let expected = format!("log in with `docker login {}`", registry.address());
        check_error(put, &expected, ErrorKind::Unavailable);
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("auth.json");
    let text = format!("{{\"auths\": {{\"{}\": {{\"auth\": \"bWU6aHVudGVyMjp4\"}}}}}}", registry.address());
    fs_err::write(&file, text).unwrap();
    let mut options = options();
    options.credentials.files = vec![file];
    with_client(options, |client| {
        client.put_blob(&repository, blob(&data), &mut Cursor::new(&data), None).unwrap();
        assert!(fetch(client, &repository, &data, None).unwrap().0 == data);
    });
}
