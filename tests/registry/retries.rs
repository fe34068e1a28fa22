//! What is tried again, how often, and after which wait.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nimctl::error_kind::ErrorKind;
use nimctl::registry::{Limits, Notice, Options, Repository};

use crate::server::{Answer, Server};
use crate::support::{bytes, check_error, fetch, limits, options, repository, with_client};

/// Fetches a blob whose first answers are this one; returns how long it took, and the notices.
fn fetch_after(answer: Answer, times: usize) -> (Duration, Vec<Notice>) {
    let (server, data) = (Server::start(), bytes(1000));
    server.add_blob(&data);
    let mut count = 0;
    server.before(move |request| {
        count += 1;
        request.answer = (count <= times).then(|| answer.clone());
    });
    let begin = Instant::now();
    let (_, notices) = with_client(options(), |client| {
        assert!(fetch(client, &repository(&server), &data, None).unwrap().0 == data);
    });
    (begin.elapsed(), notices)
}

#[test]
fn failures_that_pass() {
    for status in [429, 500, 502, 503, 504] {
        let (_, notices) = fetch_after(Answer::error(status, "TOOMANYREQUESTS"), 3);
        assert_eq!(notices.len(), 3, "{status}");
        let Notice::Retrying { reason, wait } = &notices[2] else { panic!("{notices:?}") };
        assert!(reason.contains(&format!("with {status}: TOOMANYREQUESTS: the message")), "{reason}");
        assert!((Duration::from_millis(2)..=Duration::from_millis(4)).contains(wait), "{wait:?}");
    }
    // A connection that is closed without an answer.
    let (_, notices) = fetch_after(Answer { hang: Some(Duration::ZERO), ..Answer::new(200) }, 2);
    assert_eq!(notices.len(), 2);
}

#[test]
fn a_registry_says_how_long_to_wait() {
    let date = "Sun, 06 Nov 1994 08:49:38 GMT";
    let server_time = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (status, headers) in [
        (429, vec![("Retry-After", "1")]),
        (503, vec![("Retry-After", date), ("Date", server_time)]),
        // A burst may also be answered with this.
        (403, vec![("Retry-After", "1")]),
    ] {
        let mut answer = Answer::error(status, "TOOMANYREQUESTS");
        headers.iter().for_each(|(name, value)| answer.set(name, value));
        let (time, notices) = fetch_after(answer, 1);
        assert!(time >= Duration::from_secs(1), "{time:?}");
        assert!(
            matches!(&notices[..], [Notice::Retrying { wait, .. }] if *wait == Duration::from_secs(1)),
            "{notices:?}"
        );
    }
}

#[test]
fn a_registry_that_asks_to_wait_is_left_alone_by_all_threads() {
    let (server, data) = (Server::start(), bytes(1000));
    server.add_blob(&data);
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    server.before(move |request| {
        let mut times = seen.lock().unwrap();
        if times.is_empty() {
            request.answer = Some(Answer::error(429, "TOOMANYREQUESTS").header("Retry-After", 1));
        }
        times.push(Instant::now());
    });
    let (_, notices) = with_client(options(), |client| {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (repository, data) = (repository(&server), &data);
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_millis(thread * 150));
                    assert!(fetch(client, &repository, data, None).unwrap().0 == *data);
                });
            }
        });
    });
    assert_eq!(notices.len(), 1);
    let times = times.lock().unwrap();
    assert_eq!(times.len(), 5);
    assert!(times[1] - times[0] > Duration::from_millis(900), "{:?}", times[1] - times[0]);
}

/// Fetches a blob that is answered with this, and returns how often it was asked for.
#[track_caller]
fn refused(answer: Answer, expected: &str, kind: ErrorKind) -> usize {
    let (server, data) = (Server::start(), bytes(1000));
    server.before(move |request| request.answer = Some(answer.clone()));
    with_client(options(), |client| {
        check_error(fetch(client, &repository(&server), &data, None), expected, kind);
    });
    server.requests().len()
}

#[test]
fn failures_that_stay() {
    let unavailable = ErrorKind::Unavailable;
    assert_eq!(refused(Answer::error(500, "UNKNOWN"), "with 500: UNKNOWN: the message", unavailable), 4);
    assert_eq!(
        refused(Answer::error(404, "BLOB_UNKNOWN"), "was not found: BLOB_UNKNOWN", ErrorKind::Input),
        1
    );
    assert_eq!(
        refused(Answer::error(403, "DENIED"), "DENIED: the message of DENIED; it did", unavailable),
        1
    );
    assert_eq!(refused(Answer::error(400, "NAME_INVALID"), "with 400: NAME_INVALID", unavailable), 1);
    let hour = Answer::error(429, "TOOMANYREQUESTS").header("Retry-After", 3600);
    assert_eq!(refused(hour, "TOOMANYREQUESTS", unavailable), 1);
    let hour = Answer::error(429, "TOOMANYREQUESTS").header("Retry-After", 3600);
    assert_eq!(refused(hour, "asks to wait 3600 s", unavailable), 1);
    let page = Answer::new(502).body(b"<html>\x1b[2J</html>");
    assert_eq!(refused(page, "with 502; hint", unavailable), 4);
    let large = Answer::new(400).body(&vec![b'x'; 1 << 20]);
    assert_eq!(refused(large, "with 400; hint", unavailable), 1);
}

#[test]
fn an_upload_is_not_tried_more_often_than_a_download() {
    let server = Server::start();
    server.before(|request| request.answer = Some(Answer::error(503, "UNAVAILABLE")));
    with_client(options(), |client| {
        let data = bytes(1000);
        let put = client.put_blob(
            &repository(&server),
            crate::support::blob(&data),
            &mut std::io::Cursor::new(&data),
            None,
        );
        check_error(put, "was answered with 503", ErrorKind::Unavailable);
    });
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn a_registry_that_is_not_there() {
    // Bound and closed again: nobody listens there.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let repository = Repository::new(&address.to_string(), "a/b").unwrap();
    let (_, notices) = with_client(options(), |client| {
        let expected = format!("cannot reach {address}");
        check_error(fetch(client, &repository, b"x", None), &expected, ErrorKind::Unavailable);
    });
    assert_eq!(notices.len(), 1, "{notices:?}");
}

#[test]
fn a_registry_without_tls() {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // The greeting of TLS is no request.
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request");
        }
    });
    let mut options = options();
    options.plain_http = nimctl::registry::PlainHttp::Never;
    let (_, notices) = with_client(options, |client| {
        let repository = Repository::new(&address, "a/b").unwrap();
        let expected = format!("{address} does not speak TLS; hint: allow plain http");
        check_error(fetch(client, &repository, b"x", None), &expected, ErrorKind::Unavailable);
    });
    assert_eq!(notices, []);
}

#[test]
fn the_time_of_all_is_limited() {
    let (server, data) = (Server::start(), bytes(1000));
    server
        .before(|request| request.answer = Some(Answer::error(503, "UNAVAILABLE").header("Retry-After", 1)));
    let limits = Limits { total: Duration::from_millis(300), ..limits() };
    let begin = Instant::now();
    with_client(Options { limits, ..options() }, |client| {
        let late = fetch(client, &repository(&server), &data, None);
        check_error(late, "UNAVAILABLE", ErrorKind::Unavailable);
    });
    assert!(begin.elapsed() < Duration::from_secs(1));
}
