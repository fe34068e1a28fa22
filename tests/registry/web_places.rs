//! Folders in the OCI image layout on web servers.

use std::path::Path;

use nimctl::digest::Sha256;
use nimctl::error_kind::ErrorKind;
use nimctl::oci::{
    Blob, Descriptor, ImageManifest, Layout, MANIFEST_TYPE, Place, PlaceError, WebPlace, Which,
};
use nimctl::registry::{Client, Notice, Options, Watch, WebFile, web_address};

use crate::folder_server::{Nginx, content, file, serve};
use crate::releases::{RECIPE, nimctl};
use crate::server::{Answer, Server};
use crate::support::{bytes, options};

/// Writes a layout with one manifest under two tags, and a blob.
fn layout(root: &Path, blob: &[u8]) -> Vec<u8> {
    let layout = Layout::open_or_make(root).unwrap();
    layout.put_blob(&Sha256::of(blob), blob).unwrap();
    layout.put_blob(&Sha256::of(b"{}"), b"{}").unwrap();
    let layers = vec![Descriptor::of("a/b", blob)];
    let manifest = ImageManifest::new("x/y", Descriptor::of("c", b"{}"), layers).to_json();
    for tag in ["1.0", "latest"] {
        layout.put_manifest(Some(tag), MANIFEST_TYPE, &manifest).unwrap();
    }
    manifest
}

/// Does something with a place, and returns it with what the client had to say.
fn with_place<T>(
    address: &str,
    options: Options,
    work: impl FnOnce(Result<&WebPlace<'_>, &PlaceError>) -> T,
) -> (T, Vec<Notice>) {
    let notices = std::sync::Mutex::new(Vec::new());
    let notice = |notice| notices.lock().unwrap().push(notice);
    let watch = Watch { cancelled: &|| false, notice: &notice };
    let client = Client::new(options, watch);
    let place = WebPlace::open(client, WebFile::new(web_address(address).unwrap(), None));
    let done = work(place.as_ref());
    drop(place);
    (done, notices.into_inner().unwrap())
}

fn read(place: &dyn Place, blob: &[u8], range: std::ops::Range<u64>) -> Result<Vec<u8>, PlaceError> {
    let mut got = Vec::new();
    let blob = Blob { digest: Sha256::of(blob), size_bytes: blob.len() as u64 };
    place.read_blob(&blob, range, &mut |piece| {
        got.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(got)
}

#[track_caller]
fn check<T: std::fmt::Debug>(result: Result<T, &PlaceError>, expected: &str, kind: ErrorKind) {
    let error = result.unwrap_err();
    let mut said = format!("{error}; hint: {}", error.hint().unwrap_or_default());
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        said += &format!(": {error}");
        cause = error.source();
    }
    assert!(said.contains(expected), "{said}");
    assert_eq!(error.kind(), kind, "{said}");
}

/// Reads everything of a place, in parts too.
fn read_all(address: &str, data: &[u8], manifest: &[u8]) -> Vec<Notice> {
    let ((), notices) = with_place(address, options(), |place| {
        let place = place.unwrap();
        for which in [Which::Tag("1.0".into()), Which::Digest(Sha256::of(manifest))] {
            assert_eq!(place.manifest(&which).unwrap().unwrap(), (manifest.to_vec(), MANIFEST_TYPE.into()));
        }
        assert_eq!(place.manifest(&Which::Tag("2.0".into())).unwrap(), None);
        assert_eq!(place.manifest(&Which::Digest(Sha256::of(b"gone"))).unwrap(), None);
        check(place.manifest(&Which::Tag(String::new())).as_ref(), "1.0, latest", ErrorKind::Input);
        assert!(place.has_blob(&Sha256::of(data)).unwrap());
        assert!(!place.has_blob(&Sha256::of(b"gone")).unwrap());
        let size = data.len() as u64;
        for range in [0..size, 0..1, 1000..50_000, size - 1..size, 7..7] {
            let expected = &data[range.start as usize..range.end as usize];
            assert!(read(place, data, range.clone()).unwrap() == expected, "{range:?}");
        }
        check(read(place, b"gone", 0..4).as_ref(), "has no blob sha256:", ErrorKind::Input);
        let refused = place.put_blob(&Sha256::of(b"x"), b"x");
        check(refused.as_ref(), "publish to oci:FOLDER", ErrorKind::Input);
    });
    notices
}

#[test]
fn a_layout_is_read_from_a_web_server() {
    let (server, folder, data) = (Server::start(), tempfile::tempdir().unwrap(), bytes(100_000));
    let manifest = layout(&folder.path().join("a b/c"), &data);
    let root = folder.path().to_path_buf();
    server.before(move |request| {
        request.path = request.path.replace("%20", " ");
        request.answer = Some(file(&root, request));
    });
    for address in ["a%20b/c", "a b/c/"] {
        let address = format!("http://{}/{address}", server.address());
        assert_eq!(read_all(&address, &data, &manifest), []);
    }
    assert!(server.state().log.iter().all(|request| request.header("accept-encoding") == Some("identity")));
}

#[test]
fn a_layout_is_read_with_nginx() {
    let (folder, data) = (tempfile::tempdir().unwrap(), bytes(300_000));
    let manifest = layout(&folder.path().join("models"), &data);
    let nginx = Nginx::start(folder.path(), "");
    assert_eq!(read_all(&format!("http://{}/models", nginx.address()), &data, &manifest), []);
    // It has something to compress with, and doesn't, since it is asked not to.
    let more = "gzip on; gzip_min_length 1; gzip_types *;";
    let nginx = Nginx::start(folder.path(), more);
    assert_eq!(read_all(&format!("http://{}/models/", nginx.address()), &data, &manifest), []);
    // Ranges can be switched off.
    let nginx = Nginx::start(folder.path(), "max_ranges 0;");
    let notices = read_all(&format!("http://{}/models", nginx.address()), &data, &manifest);
    assert_eq!(notices, [Notice::RangeIgnored { host: nginx.address().into() }]);
    // A page for everything.
    fs_err::write(folder.path().join("index.html"), "<html></html>").unwrap();
    let nginx = Nginx::start(folder.path(), "try_files $uri /index.html;");
    with_place(&format!("http://{}/other", nginx.address()), options(), |place| {
        check(place.map(|_| ()), "HTML page", ErrorKind::Input);
    });
}

#[test]
fn a_server_without_ranges_is_said_once() {
    let (server, folder, data) = (Server::start(), tempfile::tempdir().unwrap(), bytes(100_000));
    let manifest = layout(folder.path(), &data);
    serve(&server, folder.path());
    let root = folder.path().to_path_buf();
    server.before(move |request| {
        request.headers.remove("range");
        request.answer = Some(file(&root, request));
    });
    let notices = read_all(&format!("http://{}", server.address()), &data, &manifest);
    assert_eq!(notices, [Notice::RangeIgnored { host: server.address().into() }]);
}

#[test]
fn a_blob_goes_on_where_it_broke_off() {
    let (server, folder, data) = (Server::start(), tempfile::tempdir().unwrap(), bytes(100_000));
    layout(folder.path(), &data);
    serve(&server, folder.path());
    let mut count = 0;
    server.after(move |request, answer| {
        if request.path.contains("blobs/") {
            count += 1;
            match count {
                1 => *answer = Answer::new(503).header("Retry-After", 0),
                2 => *answer = Answer::new(500),
                3..6 => answer.cut_after = Some(20_000),
                _ => {}
            }
        }
    });
    let (_, notices) = with_place(&format!("http://{}", server.address()), options(), |place| {
        assert!(read(place.unwrap(), &data, 0..100_000).unwrap() == data);
    });
    assert_eq!(notices.len(), 5, "{notices:?}");
    let last = server.state().log.last().unwrap().header("range").map(str::to_owned);
    assert_eq!(last.as_deref(), Some("bytes=60000-99999"));
}

#[test]
fn what_is_no_layout_is_said() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    serve(&server, folder.path());
    let address = format!("http://{}/models", server.address());
    let refused = |expected: &str, kind| {
        with_place(&address, options(), |place| check(place.map(|_| ()), expected, kind));
    };
    refused("it is no OCI image layout: it has no file `oci-layout`", ErrorKind::Input);
    let answer = |answer: Answer| server.before(move |request| request.answer = Some(answer.clone()));
    answer(Answer::new(200).header("Content-Type", "text/html; charset=utf-8").body(b"<html>Welcome</html>"));
    refused("answered with an HTML page", ErrorKind::Input);
    answer(Answer::new(200).body(b"hello"));
    refused("its file `oci-layout` is something else", ErrorKind::Input);
    answer(Answer::new(200).body(&bytes(100_000)));
    refused("is larger than 4096 bytes", ErrorKind::Input);
    answer(Answer::new(200).header("Content-Encoding", "gzip").body(b"\x1f\x8b"));
    refused("sends it compressed (gzip)", ErrorKind::Input);
    answer(Answer::new(403).body(b"<html>no</html>"));
    refused("(403); no credentials were sent", ErrorKind::Unavailable);
    answer(Answer::new(302).header("Location", "file:///etc/passwd"));
    refused("redirects to `file:///etc/passwd`, which is not https", ErrorKind::Refused);
    answer(Answer::new(302).header("Location", "/models/oci-layout"));
    refused("was redirected more than 5 times", ErrorKind::Unavailable);
    with_place("http://registry.example.com/models", options(), |place| {
        check(
            place.map(|_| ()),
            "is reached by https only; hint: http is for this machine",
            ErrorKind::Input,
        );
    });
}

#[test]
fn other_bytes_are_refused() {
    let (server, folder, data) = (Server::start(), tempfile::tempdir().unwrap(), bytes(100_000));
    let manifest = layout(folder.path(), &data);
    let address = format!("http://{}", server.address());
    let blob = Sha256::of(&data).to_hex();
    let index = Sha256::of(&manifest).to_hex();
    let root = folder.path().to_path_buf();
    let instead = |of: &str, bytes: &[u8]| {
        let (root, of, bytes) = (root.clone(), of.to_owned(), bytes.to_vec());
        server.before(move |request| {
            let is_it = request.path.ends_with(&of);
            request.answer = Some(if is_it { content(&bytes, request) } else { file(&root, request) });
        });
    };
    let refused = |which: Option<&Which>, expected: &str, kind| {
        with_place(&address, options(), |place| {
            let place = place.unwrap();
            match which {
                Some(which) => check(place.manifest(which).as_ref(), expected, kind),
                None => check(read(place, &data, 0..100_000).as_ref(), expected, kind),
            }
        });
    };
    let tag = Which::Tag("1.0".into());
    instead(&index, b"{}");
    refused(Some(&tag), "gave other bytes for sha256:", ErrorKind::Refused);
    instead("index.json", b"{ broken");
    refused(Some(&tag), "index.json", ErrorKind::Refused);
    instead("index.json", &bytes(5 << 20));
    refused(Some(&tag), "is larger than 4194304 bytes", ErrorKind::Refused);
    instead(&blob, &data[..99_999]);
    refused(None, "has the wrong size: expected 100000 bytes, got 99999", ErrorKind::Refused);
    instead(&blob, &bytes(100_001));
    refused(None, "expected 100000 bytes, got 100001", ErrorKind::Refused);
    // A server that has a page for what it does not have.
    server.before(move |request| {
        let page = Answer::new(200).header("Content-Type", "text/html").body(b"<html>Not here</html>");
        request.answer = Some(if request.path.contains("blobs/") { page } else { file(&root, request) });
    });
    refused(None, "answered with an HTML page", ErrorKind::Refused);
}

#[test]
fn a_redirect_is_followed_without_the_password() {
    let (server, other) = (Server::start(), Server::start());
    let (folder, data) = (tempfile::tempdir().unwrap(), bytes(1000));
    layout(folder.path(), &data);
    serve(&other, folder.path());
    let (root, target) = (folder.path().to_path_buf(), other.address().to_owned());
    server.before(move |request| {
        let elsewhere = Answer::new(302).header("Location", format!("http://{target}{}", request.path));
        request.answer = Some(if request.path.contains("blobs/") { elsewhere } else { file(&root, request) });
    });
    with_place(&format!("http://me:hunter2@{}", server.address()), options(), |place| {
        let place = place.unwrap();
        assert!(!place.name().contains("hunter2"));
        assert!(read(place, &data, 0..1000).unwrap() == data);
    });
    assert!(server.state().log.iter().all(|request| request.header("authorization").is_some()));
    assert!(other.state().log.iter().all(|request| request.header("authorization").is_none()));
    assert_eq!(other.state().log.len(), 1);
}

/// Publishes to a folder, and pulls and mirrors what a server makes of it.
fn a_release_comes_from(start: impl FnOnce(&Path) -> (String, Box<dyn std::any::Any>)) {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| nimctl(folder.path(), arguments);
    fs_err::write(folder.path().join("r.yaml"), RECIPE).unwrap();
    run(&["build", "r.yaml"]);
    let published = run(&["publish", "r.yaml", "--to", "oci:www/models"]);
    let (address, _server) = start(&folder.path().join("www"));
    let place = format!("http://{address}/models");
    let pulled = run(&["pull", &format!("{place}#1.0.0"), "--all", "--store", "s", "-o", "release"]);
    assert_eq!(pulled["digest"], published["digest"]);
    assert_eq!(pulled["profiles"].as_array().unwrap().len(), 2);
    assert_eq!(run(&["verify", "release"])["findings"].as_array().unwrap().len(), 0);
    let digest = published["digest"].as_str().unwrap();
    let one = run(&["pull", &format!("{place}#{digest}"), "--profile", "onnx-fp16", "--store", "t"]);
    assert_eq!(one["profiles"].as_array().unwrap().len(), 1);
    run(&["mirror", &place, "oci-archive:copy.tar:1.0.0"]);
    run(&["pull", "copy.tar", "--all", "--store", "u"]);
}

#[test]
fn a_release_is_pulled_from_a_web_server() {
    a_release_comes_from(|root| {
        let server = Server::start();
        serve(&server, root);
        (server.address().into(), Box::new(server))
    });
}

#[test]
fn a_release_is_pulled_with_nginx() {
    a_release_comes_from(|root| {
        let nginx = Nginx::start(root, "");
        (nginx.address().into(), Box::new(nginx))
    });
}
