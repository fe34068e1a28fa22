//! A web server on the loopback that misbehaves as told.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nimctl::digest::Sha256;
use nimctl::error_kind::ErrorKind;
use nimctl::source::{HttpsLimits, HttpsSource, SourceError, fetch_https};
use nimctl::toolchain::Watch;

use crate::fixture::Fixture;

const BODY: &str = "the graph";

/// Answers every request with the same bytes, then keeps the connection open for a while or closes it.
fn serve(answer: String, keep_open: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let request = BufReader::new(stream.try_clone().unwrap());
            let _ = request.lines().map_while(Result::ok).find(String::is_empty);
            let _ = stream.write_all(answer.as_bytes());
            std::thread::sleep(keep_open);
        }
    });
    format!("http://{address}/graph.onnx?signature=secret")
}

fn answer(status: &str, length: usize, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

fn fetch(fixture: &Fixture, url: &str, cancelled: &dyn Fn() -> bool) -> Result<PathBuf, SourceError> {
    let source = HttpsSource { url: url.into(), sha256: Sha256::of(BODY.as_bytes()) };
    let limits =
        HttpsLimits { connect: Duration::from_millis(400), idle: Duration::from_millis(400), redirects: 3 };
    fetch_https(&source, &fixture.places, &limits, &mut Watch { progress: &mut |_| {}, cancelled })
}

/// Fetches what a server answers, and expects an error that leaves nothing behind.
#[track_caller]
fn check(answer: String, keep_open: Duration, expected: &str, kind: ErrorKind) {
    let fixture = Fixture::new();
    let error = fetch(&fixture, &serve(answer, keep_open), &|| false).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        said += &format!(": {error}");
        cause = error.source();
    }
    assert!(!said.contains("secret"), "{said}");
    assert_eq!(error.kind(), kind, "{error}");
    fixture.assert_nothing_left();
}

#[test]
fn a_file_is_fetched_once_and_again_when_damaged() {
    let fixture = Fixture::new();
    let url = serve(answer("200 OK", BODY.len(), BODY), Duration::ZERO);
    let path = fetch(&fixture, &url, &|| false).unwrap();
    assert_eq!(fs_err::read_to_string(&path).unwrap(), BODY);
    assert!(path.ends_with(format!("sources/https/{}", Sha256::of(BODY.as_bytes()).to_hex())));
    let closed = "http://127.0.0.1:1/graph.onnx";
    assert_eq!(fetch(&fixture, closed, &|| false).unwrap(), path);
    crate::fixture::put(&path, b"the grapf");
    let error = fetch(&fixture, closed, &|| false).unwrap_err();
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error}");
    assert_eq!(fetch(&fixture, &url, &|| false).unwrap(), path);
    assert_eq!(fs_err::read_to_string(&path).unwrap(), BODY);
}

#[test]
fn another_file() {
    let expected = format!("got {}", Sha256::of(b"the grapf"));
    check(answer("200 OK", 9, "the grapf"), Duration::ZERO, &expected, ErrorKind::Refused);
}

#[test]
fn not_found() {
    check(answer("404 Not Found", 0, ""), Duration::ZERO, "answered 404", ErrorKind::Unavailable);
}

#[test]
fn a_body_that_ends_early() {
    check(answer("200 OK", 100, BODY), Duration::ZERO, " closed after 9 bytes", ErrorKind::Unavailable);
}

#[test]
fn a_body_that_hangs() {
    let expected = "sent no data for 0.4 s, after 9 bytes";
    check(answer("200 OK", 100, BODY), Duration::from_secs(30), expected, ErrorKind::Unavailable);
}

#[test]
fn a_server_that_hangs() {
    let expected = "sent no data for 0.4 s, after 0 bytes";
    check(String::new(), Duration::from_secs(30), expected, ErrorKind::Unavailable);
}

#[test]
fn a_redirect_to_http_elsewhere() {
    let answer =
        "HTTP/1.1 302 Found\r\nLocation: http://example.invalid/x?token=secret\r\nContent-Length: 0\r\n\r\n";
    let expected = "redirects to `http://example.invalid/x`, which is not https";
    check(answer.into(), Duration::ZERO, expected, ErrorKind::Refused);
}

#[test]
fn redirects_have_an_end_and_are_followed() {
    let to = |url: &str| {
        format!("HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    };
    check(to("/again"), Duration::ZERO, "redirected more than 3 times", ErrorKind::Unavailable);
    let file = serve(answer("200 OK", BODY.len(), BODY), Duration::ZERO);
    let fixture = Fixture::new();
    let path = fetch(&fixture, &serve(to(&file), Duration::ZERO), &|| false).unwrap();
    assert_eq!(fs_err::read_to_string(path).unwrap(), BODY);
}

#[test]
fn a_cancelled_fetch_does_not_wait_for_the_server() {
    let fixture = Fixture::new();
    let start = Instant::now();
    let cancelled = || start.elapsed() > Duration::from_millis(150);
    let url = serve(String::new(), Duration::from_secs(30));
    let error = fetch(&fixture, &url, &cancelled).unwrap_err();
    assert!(matches!(error, SourceError::Cancelled { .. }), "{error}");
    fixture.assert_nothing_left();
}

#[test]
fn http_elsewhere_and_other_schemes_are_refused() {
    for url in ["http://example.invalid/a.onnx", "ftp://127.0.0.1/a", "file:///a"] {
        let error = fetch(&Fixture::new(), url, &|| false).unwrap_err();
        assert!(matches!(error, SourceError::NotHttps { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Input);
    }
}
