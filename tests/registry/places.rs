//! Mirrors.

use nimctl::error_kind::ErrorKind;
use nimctl::registry::{Notice, Options};

use crate::server::{Answer, Server};
use crate::support::{bytes, check_error, fetch, options, repository, with_client};

fn mirrored(server: &Server, mirror: &Server) -> Options {
    let mirror = format!("{}/a={}/a", server.address(), mirror.address()).parse().unwrap();
    Options { mirrors: vec![mirror], ..options() }
}

#[test]
fn a_mirror_is_asked_first_and_what_it_lacks_comes_from_the_registry() {
    let (server, mirror) = (Server::start(), Server::start());
    let (both, one) = (bytes(1000), bytes(2000));
    mirror.add_blob(&both);
    server.add_blob(&one);
    let manifest = mirror.add_manifest("v1", b"{}");
    let (_, notices) = with_client(mirrored(&server, &mirror), |client| {
        let repository = repository(&server);
        assert!(fetch(client, &repository, &both, None).unwrap().0 == both);
        assert!(fetch(client, &repository, &one, None).unwrap().0 == one);
        assert_eq!(client.get_manifest(&repository.with_tag("v1").unwrap()).unwrap().digest, manifest);
        check_error(fetch(client, &repository, b"neither", None), "was not found", ErrorKind::Input);
    });
    assert!(matches!(&notices[0], Notice::MirrorFailed { reason } if reason.contains(mirror.address())));
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_blob_goes_on_at_the_registry_where_the_mirror_stopped() {
    let (server, mirror, data) = (Server::start(), Server::start(), bytes(100_000));
    server.add_blob(&data);
    mirror.add_blob(&data);
    let mut count = 0;
    mirror.after(move |_, answer| {
        count += 1;
        answer.cut_after = Some(30_000);
        if count > 2 {
            *answer = Answer::error(500, "UNKNOWN");
        }
    });
    with_client(mirrored(&server, &mirror), |client| {
        let (got, fetched) = fetch(client, &repository(&server), &data, None).unwrap();
        assert!(got == data);
        assert_eq!(fetched.received_bytes, 100_000);
    });
    let asked = server.state().log[0].header("range").map(str::to_owned);
    assert_eq!(asked.as_deref(), Some("bytes=60000-99999"));
}

#[test]
fn nothing_is_written_to_a_mirror() {
    let (server, mirror, data) = (Server::start(), Server::start(), bytes(1000));
    with_client(mirrored(&server, &mirror), |client| {
        let repository = repository(&server);
        let blob = crate::support::blob(&data);
        client.put_blob(&repository, blob, &mut std::io::Cursor::new(&data), None).unwrap();
        client.put_manifest(&repository.with_tag("v1").unwrap(), "application/json", b"{}").unwrap();
    });
    assert_eq!(mirror.requests(), Vec::<String>::new());
    assert_eq!(server.state().blobs.len(), 1);
}

#[test]
fn a_mirror_that_is_away_is_asked_once() {
    let server = Server::start();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mirror = format!("{}={address}", server.address()).parse().unwrap();
    let (_, notices) = with_client(Options { mirrors: vec![mirror], ..options() }, |client| {
        for size in 1000..1010 {
            server.add_blob(&bytes(size));
            assert!(fetch(client, &repository(&server), &bytes(size), None).unwrap().0 == bytes(size));
        }
    });
    let said = notices.iter().filter(|notice| matches!(notice, Notice::MirrorFailed { .. })).count();
    assert_eq!((said, notices.len()), (1, 2), "{notices:?}");
}
