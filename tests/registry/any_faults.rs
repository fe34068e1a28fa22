//! All faults in any order: what arrives is right, or there is an error; and it ends.

use std::io::Cursor;
use std::time::Duration;

use nimctl::registry::{Limits, Options, RegistryError, Uploaded};

use crate::server::{Answer, Login, Request, Server};
use crate::support::{blob, bytes, fetch, limits, options, repository, with_client};

const SIZE: usize = 50_000;

/// Does something to every other answer or so. Only faults that a client can recover from, unless `lies`.
fn play(random: &mut fastrand::Rng, lies: bool, request: &Request, answer: &mut Answer) {
    let length = answer.body.len();
    match random.u32(..if lies { 16 } else { 12 }) {
        0 => answer.cut_after = Some(random.usize(..=length)),
        1 => answer.hang = Some(Duration::ZERO),
        2 => *answer = Answer::error(500, "UNKNOWN"),
        3 => *answer = Answer::error(429, "TOOMANYREQUESTS").header("Retry-After", 0),
        4 if request.path != "/token" => {
            let challenge = format!("Bearer realm=\"http://{}/token\",service=\"test\"", host(request));
            *answer = Answer::error(401, "UNAUTHORIZED").header("WWW-Authenticate", challenge);
        }
        5 if length > 0 => answer.cut_after = Some(0),
        12 if length > 0 => answer.body[random.usize(..length)] ^= 1 << random.u32(..8),
        13 => answer.body.truncate(random.usize(..=length)),
        14 => answer.set("Content-Range", format!("bytes {}-{length}/{length}", random.usize(..=length))),
        15 => answer.set("Content-Length", random.usize(..2 * SIZE)),
        _ => {}
    }
}

fn host(request: &Request) -> &str {
    request.header("host").unwrap()
}

/// Plays with many seeds; `check` gets each error. Returns how often all went well.
fn with_faults(lies: bool, upload: bool, check: impl Fn(u64, RegistryError)) -> usize {
    let mut went_well = 0;
    let data = bytes(SIZE);
    let limits = Limits {
        idle: Duration::from_millis(200),
        backoff: Duration::ZERO,
        retries: 40,
        chunk_bytes: 9000,
        ..limits()
    };
    for seed in 0..60 {
        let server = Server::start();
        server.state().login = Login::Token { needs_password: false };
        let mut random = fastrand::Rng::with_seed(seed);
        let mut random_of_requests = random.fork();
        server.before(move |request| match random_of_requests.u32(..8) {
            0 => {
                request.headers.remove("range");
            }
            1 if upload && ["PATCH", "PUT"].contains(&request.method.as_str()) => {
                request.cut_after = Some(random_of_requests.usize(..9000));
            }
            _ => {}
        });
        server.after(move |request, answer| play(&mut random, lies, request, answer));
        if !upload {
            server.add_blob(&data);
        }
        with_client(Options { limits, ..options() }, |client| {
            let repository = repository(&server);
            let done = if upload {
                client.put_blob(&repository, blob(&data), &mut Cursor::new(&data), None).map(|uploaded| {
                    assert!(matches!(uploaded, Uploaded::Sent { .. } | Uploaded::Existed));
                    let key = ("a/b".to_owned(), blob(&data).digest.to_string());
                    assert!(server.state().blobs.get(&key).is_some_and(|got| *got == data), "{seed}");
                })
            } else {
                fetch(client, &repository, &data, None).map(|(got, _)| assert!(got == data, "{seed}"))
            };
            match done {
                Ok(()) => went_well += 1,
                Err(error) => check(seed, error),
            }
        });
    }
    went_well
}

/// Two 401 in a row are a refusal, and a token is asked for in between.
#[track_caller]
fn assert_is_401(seed: u64, error: RegistryError) {
    assert_eq!(error.status(), Some(401), "{seed}: {error}");
}

#[test]
fn a_download_recovers_from_faults_that_pass() {
    let went_well = with_faults(false, false, assert_is_401);
    assert!(went_well > 40, "{went_well} of 60");
}

#[test]
fn an_upload_recovers_from_faults_that_pass() {
    let went_well = with_faults(false, true, assert_is_401);
    assert!(went_well > 40, "{went_well} of 60");
}

#[test]
fn lies_are_found() {
    for upload in [false, true] {
        let went_well = with_faults(true, upload, |seed, error| {
            assert!(!error.to_string().contains("secret-token"), "{seed}: {error}");
        });
        assert!((10..60).contains(&went_well), "{went_well} of 60");
    }
}
