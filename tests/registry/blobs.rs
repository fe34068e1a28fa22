//! Downloads: whole, in ranges, cut, wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nimctl::error_kind::ErrorKind;
use nimctl::registry::{Limits, Notice, Options};

use crate::server::{Answer, Server};
use crate::support::{blob, bytes, check_error, fetch, limits, options, repository, with_client};

#[test]
fn a_blob_and_ranges_of_it() {
    let (server, data) = (Server::start(), bytes(300_000));
    let digest = server.add_blob(&data);
    let repository = repository(&server);
    let (_, notices) = with_client(options(), |client| {
        assert_eq!(client.has_blob(&repository, &digest).unwrap(), Some(300_000));
        let other = nimctl::digest::Sha256::of(b"other");
        assert_eq!(client.has_blob(&repository, &other).unwrap(), None);
        let (got, fetched) = fetch(client, &repository, &data, None).unwrap();
        assert!(got == data);
        assert_eq!((fetched.received_bytes, fetched.range_ignored), (300_000, false));
        for range in [0..300_000, 0..1, 299_999..300_000, 5..5, 1000..200_000] {
            let (got, fetched) = fetch(client, &repository, &data, Some(range.clone())).unwrap();
            assert!(got == data[range.start as usize..range.end as usize]);
            assert_eq!((fetched.received_bytes, fetched.range_ignored), (range.end - range.start, false));
        }
        let backwards = std::ops::Range { start: 9, end: 8 };
        for range in [0..300_001, 300_001..300_001, backwards, 0..u64::MAX] {
            let outside = fetch(client, &repository, &data, Some(range));
            check_error(outside, "is outside of blob sha256:", ErrorKind::Input);
        }
        server.add_blob(b"");
        assert_eq!(fetch(client, &repository, b"", None).unwrap().0, b"");
        check_error(fetch(client, &repository, b"gone", None), "was not found", ErrorKind::Input);
    });
    assert_eq!(notices, []);
}

#[test]
fn a_hundred_cuts_and_every_byte_comes_once() {
    let (server, data) = (Server::start(), bytes(2_000_000));
    server.add_blob(&data);
    let cuts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&cuts);
    let mut random = fastrand::Rng::with_seed(1);
    server.after(move |_, answer| {
        if counted.load(Ordering::Relaxed) < 100 {
            counted.fetch_add(1, Ordering::Relaxed);
            answer.cut_after = Some(random.usize(..=answer.body.len().min(40_000)));
        }
    });
    let limits = Limits { retries: 20, ..limits() };
    let (_, notices) = with_client(Options { limits, ..options() }, |client| {
        let (got, fetched) = fetch(client, &repository(&server), &data, None).unwrap();
        assert!(got == data);
        assert_eq!(fetched.received_bytes, 2_000_000);
    });
    assert_eq!(cuts.load(Ordering::Relaxed), 100);
    assert_eq!(notices.len(), 100);
    assert!(matches!(&notices[0], Notice::Retrying { reason, .. } if reason.contains("closed after")));
}

#[test]
fn a_registry_without_ranges_is_said_once_and_skipped_through() {
    let (server, data) = (Server::start(), bytes(200_000));
    server.add_blob(&data);
    server.before(|request| {
        request.headers.remove("range");
    });
    let mut cuts = 0;
    server.after(move |_, answer| {
        cuts += 1;
        answer.cut_after = (cuts < 3).then_some(50_000 * cuts);
    });
    let (_, notices) = with_client(options(), |client| {
        let (got, _) = fetch(client, &repository(&server), &data, None).unwrap();
        assert!(got == data);
        for range in [10..20, 150_000..199_999] {
            let (got, fetched) = fetch(client, &repository(&server), &data, Some(range.clone())).unwrap();
            assert!(got == data[range.start as usize..range.end as usize]);
            assert!(fetched.range_ignored);
        }
    });
    let said = notices.iter().filter(|notice| matches!(notice, Notice::RangeIgnored { .. })).count();
    assert_eq!(said, 1, "{notices:?}");
}

/// Fetches a blob, whole or from byte 100 on, whose answer was changed, and expects an error.
#[track_caller]
fn check(from: Option<u64>, change: impl Fn(&mut Answer) + Send + 'static, expected: &str, kind: ErrorKind) {
    let (server, data) = (Server::start(), bytes(1000));
    server.add_blob(&data);
    server.after(move |_, answer| change(answer));
    let limits = Limits { idle: Duration::from_millis(300), retries: 1, ..limits() };
    with_client(Options { limits, ..options() }, |client| {
        let range = from.map(|from| from..900);
        check_error(fetch(client, &repository(&server), &data, range), expected, kind);
    });
}

#[test]
fn wrong_blobs_are_refused() {
    let wrong = |answer: &mut Answer| answer.body[500] ^= 1;
    check(None, wrong, "has the wrong digest: expected sha256:", ErrorKind::Refused);
    let truncated = |answer: &mut Answer| answer.body.truncate(999);
    check(None, truncated, "has the wrong size: expected 1000 bytes, got 999", ErrorKind::Refused);
    let longer = |answer: &mut Answer| answer.body.push(0);
    check(None, longer, "has the wrong size: expected 1000 bytes, got 1001", ErrorKind::Refused);
    let endless = |answer: &mut Answer| {
        answer.set("Transfer-Encoding", "chunked");
        answer.body = "400\r\n".bytes().chain(vec![7; 1024]).chain("\r\n".bytes()).collect();
    };
    check(None, endless, "has the wrong size: expected 1000 bytes, got 1024", ErrorKind::Refused);
    let ends_early = |answer: &mut Answer| {
        answer.set("Transfer-Encoding", "chunked");
        let first = if answer.status == 200 { "4\r\nabcd\r\n" } else { "" };
        answer.body = format!("{first}0\r\n\r\n").into_bytes();
    };
    check(None, ends_early, "the connection closed after 0 bytes", ErrorKind::Unavailable);
}

#[test]
fn wrong_ranges_are_refused() {
    let range = |value: &'static str| move |answer: &mut Answer| answer.set("Content-Range", value);
    check(Some(100), range("bytes 0-799/1000"), "asked for bytes 100-899, got 0-799", ErrorKind::Refused);
    check(Some(100), range("bytes 100-900/1000"), "got 100-900", ErrorKind::Refused);
    check(Some(100), range("bytes 100-99/1000"), "got 100-99", ErrorKind::Refused);
    check(Some(100), range("bytes 100-899/1001"), "expected 1000 bytes, got 1001", ErrorKind::Refused);
    check(Some(100), range("bytes 100-898/1000"), "size is not that of bytes 100-898", ErrorKind::Refused);
    check(Some(100), range("rubbish"), "does not say which range", ErrorKind::Refused);
    check(
        Some(100),
        |answer| answer.headers.retain(|(name, _)| name != "Content-Range"),
        "does not say which range",
        ErrorKind::Refused,
    );
    let none = |answer: &mut Answer| *answer = Answer::new(416).header("Content-Range", "bytes */50");
    check(Some(100), none, "has no bytes from 100 on", ErrorKind::Refused);
    check(Some(100), |answer| answer.status = 204, "answered with 204", ErrorKind::Refused);
}

#[test]
fn wrong_lengths_end() {
    let too_long = |answer: &mut Answer| answer.set("Content-Length", 1_000_000);
    check(None, too_long, "expected 1000 bytes, got 1000000", ErrorKind::Refused);
    let rubbish = |answer: &mut Answer| answer.set("Content-Length", "many");
    check(None, rubbish, "the connection closed after 0 bytes", ErrorKind::Unavailable);
    let hangs = |answer: &mut Answer| answer.hang = Some(Duration::from_secs(20));
    check(None, hangs, "no data for 0.3 s, after 0 bytes", ErrorKind::Unavailable);
}

#[test]
fn a_range_may_come_in_parts() {
    let (server, data) = (Server::start(), bytes(1000));
    server.add_blob(&data);
    server.before(|request| {
        let first =
            request.header("range").unwrap().strip_prefix("bytes=").unwrap().split('-').next().unwrap();
        let last = first.parse::<u64>().unwrap() + 99;
        request.headers.insert("range".into(), format!("bytes={first}-{last}"));
    });
    let (_, notices) = with_client(options(), |client| {
        let (got, _) = fetch(client, &repository(&server), &data, Some(50..1000)).unwrap();
        assert!(got == data[50..]);
    });
    assert_eq!((server.requests().len(), notices), (10, vec![]));
}

#[test]
fn a_slow_line_is_no_stall_and_can_be_cancelled() {
    let (server, data) = (Server::start(), bytes(60_000));
    server.add_blob(&data);
    server.after(|_, answer| answer.bytes_per_s = Some(100_000));
    let limits = Limits { idle: Duration::from_millis(300), ..limits() };
    with_client(Options { limits, ..options() }, |client| {
        assert!(fetch(client, &repository(&server), &data, None).unwrap().0 == data);
    });
    let limits = Limits { total: Duration::from_millis(200), ..limits };
    with_client(Options { limits, ..options() }, |client| {
        check_error(
            fetch(client, &repository(&server), &data, None),
            "not done in 0.2 s",
            ErrorKind::Unavailable,
        );
    });
    let begin = Instant::now();
    let cancelled = || begin.elapsed() > Duration::from_millis(100);
    let watch = nimctl::registry::Watch { cancelled: &cancelled, notice: &|_| {} };
    let client = nimctl::registry::Client::new(options(), watch);
    check_error(fetch(&client, &repository(&server), &data, None), "cancelled", ErrorKind::Interrupted);
    assert!(begin.elapsed() < Duration::from_millis(500));
}

#[test]
fn a_sink_that_fails_ends_it() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (server, data) = (Server::start(), bytes(1000));
    server.add_blob(&data);
    with_client(options(), |client| {
        let full = client.get_blob(&repository(&server), blob(&data), None, &mut Full);
        check_error(full, "cannot write what arrived of blob", ErrorKind::Input);
    });
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn many_threads_share_a_client() {
    let (server, data) = (Server::start(), bytes(400_000));
    server.add_blob(&data);
    with_client(options(), |client| {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (repository, data) = (repository(&server), &data);
                scope.spawn(move || {
                    for part in 0..10 {
                        let start = thread * 100_000 + part * 10_000;
                        let (got, _) = fetch(client, &repository, data, Some(start..start + 10_000)).unwrap();
                        assert!(got == data[start as usize..start as usize + 10_000]);
                    }
                });
            }
        });
    });
}

#[test]
fn requests_share_connections() {
    let (server, data) = (Server::start(), bytes(400_000));
    server.add_blob(&data);
    with_client(options(), |client| {
        for start in (0..400_000).step_by(20_000) {
            fetch(client, &repository(&server), &data, Some(start..start + 20_000)).unwrap();
            client.has_blob(&repository(&server), &blob(&data).digest).unwrap();
        }
    });
    // One that is not back in the pool yet when the next request begins is no fault.
    let connections = server.state().connections;
    assert!(connections <= 5, "{connections}");
}
