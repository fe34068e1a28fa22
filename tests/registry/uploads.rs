//! Uploads: found, mounted, in one piece, in several, cut.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nimctl::error_kind::ErrorKind;
use nimctl::registry::{Blob, Client, Limits, Options, RegistryError, Repository, Uploaded};

use crate::server::{Answer, Login, Server};
use crate::support::{blob, bytes, check_error, limits, options, repository, with_client};

const CHUNK: u64 = 10_000;

fn chunked() -> Options {
    Options { limits: Limits { chunk_bytes: CHUNK, ..limits() }, ..options() }
}

fn put(client: &Client<'_>, repository: &Repository, data: &[u8]) -> Result<Uploaded, RegistryError> {
    client.put_blob(repository, blob(data), &mut Cursor::new(data), None)
}

#[track_caller]
fn assert_arrived(server: &Server, data: &[u8]) {
    let digest = blob(data).digest.to_string();
    let state = server.state();
    assert!(state.blobs.get(&("a/b".into(), digest)).is_some_and(|got| got == data));
}

fn count(server: &Server, method: &str) -> usize {
    server.state().log.iter().filter(|request| request.method == method).count()
}

#[test]
fn a_blob_is_sent_once_and_in_one_request() {
    let (server, data) = (Server::start(), bytes(5000));
    with_client(chunked(), |client| {
        let repository = repository(&server);
        assert_eq!(put(client, &repository, &data).unwrap(), Uploaded::Sent { bytes: 5000 });
        assert_arrived(&server, &data);
        assert_eq!(put(client, &repository, &data).unwrap(), Uploaded::Existed);
        assert_eq!(put(client, &repository, b"").unwrap(), Uploaded::Sent { bytes: 0 });
        assert_arrived(&server, b"");
    });
    let expected = ["HEAD", "POST", "PUT", "HEAD", "HEAD", "POST", "PUT"];
    assert!(server.state().log.iter().map(|request| request.method.as_str()).eq(expected));
}

#[test]
fn a_large_blob_is_sent_in_chunks() {
    for size in [CHUNK as usize + 1, 3 * CHUNK as usize, 35_001] {
        let (server, data) = (Server::start(), bytes(size));
        with_client(chunked(), |client| {
            let sent = put(client, &repository(&server), &data).unwrap();
            assert_eq!(sent, Uploaded::Sent { bytes: size as u64 });
        });
        assert_arrived(&server, &data);
        assert_eq!(count(&server, "PATCH"), size.div_ceil(CHUNK as usize));
    }
}

#[test]
fn a_registry_says_how_small_a_chunk_may_be() {
    let (server, data) = (Server::start(), bytes(40_000));
    server.after(|request, answer| {
        if request.method == "POST" {
            answer.set("OCI-Chunk-Min-Length", 15_000);
        }
    });
    with_client(chunked(), |client| put(client, &repository(&server), &data)).0.unwrap();
    assert_arrived(&server, &data);
    assert_eq!(count(&server, "PATCH"), 3);
}

#[test]
fn a_blob_of_another_repository_is_mounted() {
    let (server, data) = (Server::start(), bytes(5000));
    server.add_blob(&data);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let text = format!("{{\"auths\": {{\"{}\": {{\"auth\": \"bWU6aHVudGVyMjp4\"}}}}}}", server.address());
    fs_err::write(&file, text).unwrap();
    for login in [Login::Anonymous, Login::Token { needs_password: true }] {
        let name = if login == Login::Anonymous { "c/d" } else { "e/f" };
        server.state().login = login;
        let mut options = chunked();
        options.credentials.files = vec![file.clone()];
        with_client(options, |client| {
            let target = Repository::new(server.address(), name).unwrap();
            let from = repository(&server);
            let mounted = client.put_blob(&target, blob(&data), &mut Cursor::new(&data), Some(&from));
            assert_eq!(mounted.unwrap(), Uploaded::Mounted);
            // What isn't there either is sent.
            let other = bytes(100);
            let sent = client.put_blob(&target, blob(&other), &mut Cursor::new(&other), Some(&from));
            assert_eq!(sent.unwrap(), Uploaded::Sent { bytes: 100 });
        });
    }
    assert!(server.state().tokens.values().any(|scope| scope.contains("repository:a/b:pull")));
}

#[test]
fn an_upload_that_is_cut_goes_on_with_what_is_missing() {
    let (server, data) = (Server::start(), bytes(200_000));
    let cuts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&cuts);
    let mut random = fastrand::Rng::with_seed(2);
    server.before(move |request| {
        if ["PATCH", "PUT"].contains(&request.method.as_str()) && counted.load(Ordering::Relaxed) < 40 {
            counted.fetch_add(1, Ordering::Relaxed);
            request.cut_after = Some(random.usize(..CHUNK as usize));
        }
    });
    let limits = Limits { chunk_bytes: CHUNK, retries: 20, ..limits() };
    with_client(Options { limits, ..options() }, |client| {
        put(client, &repository(&server), &data).unwrap();
    });
    assert_arrived(&server, &data);
    assert_eq!(cuts.load(Ordering::Relaxed), 40);
    // No session was begun again.
    assert_eq!(count(&server, "POST"), 1);
}

#[test]
fn a_small_upload_that_is_cut_goes_on_too() {
    let (server, data) = (Server::start(), bytes(9000));
    let mut cuts = 0;
    server.before(move |request| {
        if request.method == "PUT" && cuts < 2 {
            cuts += 1;
            request.cut_after = Some(3000);
        }
    });
    let (sent, _) = with_client(chunked(), |client| put(client, &repository(&server), &data));
    sent.unwrap();
    assert_arrived(&server, &data);
    assert_eq!(count(&server, "POST"), 1);
}

#[test]
fn a_session_that_is_lost_is_begun_again() {
    let (server, data) = (Server::start(), bytes(35_000));
    let mut patches = 0;
    server.before(move |request| {
        patches += usize::from(request.method == "PATCH");
        if request.method == "PATCH" && patches == 3 {
            request.answer = Some(Answer::error(404, "BLOB_UPLOAD_UNKNOWN"));
        }
    });
    with_client(chunked(), |client| put(client, &repository(&server), &data)).0.unwrap();
    assert_arrived(&server, &data);
    assert_eq!(count(&server, "POST"), 2);
    // One that is lost again and again has an end.
    server.before(|request| {
        let is_end = request.method == "PUT";
        request.answer = is_end.then(|| Answer::error(404, "BLOB_UPLOAD_UNKNOWN"));
    });
    let (lost, _) = with_client(chunked(), |client| put(client, &repository(&server), b"x"));
    check_error(lost, "forgot the upload again and again", ErrorKind::Refused);
}

#[test]
fn an_answer_that_is_lost_does_not_send_the_blob_again() {
    let (server, data) = (Server::start(), bytes(5000));
    let mut cut = false;
    server.after(move |request, answer| {
        if request.method == "PUT" && !cut {
            cut = true;
            answer.hang = Some(Duration::ZERO);
        }
    });
    let (sent, _) = with_client(chunked(), |client| put(client, &repository(&server), &data));
    assert_eq!(sent.unwrap(), Uploaded::Sent { bytes: 5000 });
    assert_eq!(count(&server, "PUT"), 1);
}

#[test]
fn a_registry_without_chunks_gets_blobs_whole() {
    for status in [404, 405, 501] {
        let (server, data) = (Server::start(), bytes(35_000));
        server.before(move |request| {
            request.answer = (request.method == "PATCH").then(|| Answer::error(status, "UNSUPPORTED"));
        });
        with_client(chunked(), |client| {
            put(client, &repository(&server), &data).unwrap();
            put(client, &repository(&server), &bytes(36_000)).unwrap();
        });
        assert_arrived(&server, &data);
        // It is learnt once.
        assert_eq!(count(&server, "PATCH"), 1);
    }
}

#[test]
fn a_whole_blob_may_be_larger_than_what_is_held() {
    let (server, data) = (Server::start(), vec![7; 65 << 20]);
    server.before(|request| {
        request.answer = (request.method == "PATCH").then(|| Answer::error(405, "UNSUPPORTED"));
    });
    with_client(chunked(), |client| put(client, &repository(&server), &data)).0.unwrap();
    assert_arrived(&server, &data);
}

#[test]
fn a_login_that_ends_between_chunks_is_renewed() {
    let (server, data) = (Server::start(), bytes(35_000));
    server.state().login = Login::Token { needs_password: false };
    let mut patches = 0;
    server.before(move |request| {
        if request.method == "PATCH" {
            patches += 1;
            if patches % 2 == 1 {
                request.headers.remove("authorization");
            }
        }
    });
    with_client(chunked(), |client| put(client, &repository(&server), &data)).0.unwrap();
    assert_arrived(&server, &data);
}

#[test]
fn a_chunk_out_of_order_is_asked_about() {
    let (server, data) = (Server::start(), bytes(35_000));
    let mut patches = 0;
    server.after(move |request, answer| {
        if request.method == "PATCH" {
            patches += 1;
            if patches == 2 {
                *answer = Answer::new(416);
            }
        }
    });
    with_client(chunked(), |client| put(client, &repository(&server), &data)).0.unwrap();
    assert_arrived(&server, &data);
}

#[test]
fn what_is_wrong_with_an_upload_is_said() {
    let (server, data) = (Server::start(), bytes(5000));
    let repository = repository(&server);
    with_client(chunked(), |client| {
        let other = Blob { digest: blob(b"other").digest, size_bytes: 5000 };
        let changed = client.put_blob(&repository, other, &mut Cursor::new(&data), None);
        check_error(changed, "changed while it was uploaded", ErrorKind::Input);
        let shorter = Blob { size_bytes: 5001, ..blob(&data) };
        let shorter = client.put_blob(&repository, shorter, &mut Cursor::new(&data), None);
        check_error(shorter, "it is shorter than it was", ErrorKind::Input);
        server.before(|request| {
            request.answer = (request.method == "PUT").then(|| Answer::error(400, "DIGEST_INVALID"));
        });
        let disagrees = put(client, &repository, &data);
        check_error(disagrees, "with 400: DIGEST_INVALID", ErrorKind::Unavailable);
        server.before(|request| {
            request.answer = (request.method == "PUT").then(|| Answer::new(413));
        });
        check_error(put(client, &repository, &data), "limits the size of a request", ErrorKind::Unavailable);
        server.before(|request| {
            request.answer = (request.method == "POST").then(|| Answer::error(403, "DENIED"));
        });
        check_error(put(client, &repository, &data), "DENIED: the message of DENIED", ErrorKind::Unavailable);
        server.before(|_| {});
        server.after(|request, answer| {
            if request.method == "PUT" {
                answer.set("Docker-Content-Digest", blob(b"other").digest);
            }
        });
        check_error(put(client, &repository, &data), "has the wrong digest", ErrorKind::Refused);
    });
    let small = bytes(10);
    server.after(|_, _| {});
    server.state().blobs.insert(("a/b".into(), blob(&small).digest.to_string()), b"cut".into());
    with_client(chunked(), |client| {
        let damaged = put(client, &repository, &small);
        check_error(damaged, "has the wrong size: expected 10 bytes, got 3", ErrorKind::Refused);
    });
}

#[test]
fn an_upload_elsewhere_gets_no_credentials() {
    let (server, other, data) = (Server::start(), Server::start(), bytes(35_000));
    server.state().login = Login::Token { needs_password: false };
    let address = other.address().to_owned();
    server.after(move |request, answer| {
        if request.method == "POST" && answer.status == 202 {
            answer.set("Location", format!("http://{address}/v2/a/b/blobs/uploads/session-0?token=secret"));
        }
    });
    with_client(chunked(), |client| {
        // Opens the session there.
        put(client, &repository(&other), b"").unwrap();
        other.state().log.clear();
        let _ = put(client, &repository(&server), &data);
    });
    let log = &other.state().log;
    assert!(!log.is_empty());
    assert!(log.iter().all(|request| request.header("authorization").is_none()));
}
