//! Manifests, tags, referrers.

use nimctl::digest::Sha256;
use nimctl::error_kind::ErrorKind;
use nimctl::registry::MAX_MANIFEST_BYTES;
use serde_json::json;

use crate::server::{Answer, Server};
use crate::support::{check_error, options, repository, with_client};

const TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

#[test]
fn a_manifest_by_tag_and_by_digest() {
    let server = Server::start();
    let digest = server.add_manifest("v1", b"{\"schemaVersion\":2}");
    with_client(options(), |client| {
        let repository = repository(&server);
        for reference in [repository.with_tag("v1").unwrap(), repository.with_digest(digest)] {
            let manifest = client.get_manifest(&reference).unwrap();
            assert_eq!((manifest.digest, manifest.bytes.as_slice()), (digest, &b"{\"schemaVersion\":2}"[..]));
            assert_eq!(manifest.media_type, TYPE);
        }
        let gone = client.get_manifest(&repository.with_tag("v2").unwrap());
        check_error(
            gone,
            &format!("manifest {repository}:v2 was not found: MANIFEST_UNKNOWN"),
            ErrorKind::Input,
        );
        // What a manifest says of itself has its digest; what a server says has none.
        server.add_manifest("own", b"{\"mediaType\":\"application/vnd.example.own\"}");
        let own = client.get_manifest(&repository.with_tag("own").unwrap()).unwrap();
        assert_eq!(own.media_type, "application/vnd.example.own");
    });
    let accept = server.state().log[0].header("accept").unwrap().to_owned();
    assert!(accept.contains("oci.image.index.v1+json") && accept.contains("manifest.list.v2+json"));
}

#[test]
fn a_manifest_is_what_its_digest_says() {
    let server = Server::start();
    let digest = server.add_manifest("v1", b"{\"a\":1}");
    with_client(options(), |client| {
        let by_digest = repository(&server).with_digest(digest);
        let by_tag = repository(&server).with_tag("v1").unwrap();
        server.after(|_, answer| answer.set("Docker-Content-Digest", Sha256::of(b"{\"a\":2}")));
        check_error(client.get_manifest(&by_tag), "has the wrong digest", ErrorKind::Refused);
        check_error(client.get_manifest(&by_digest), "has the wrong digest", ErrorKind::Refused);
        server.after(|_, answer| {
            answer.body = b"{\"a\":2}".into();
            answer.set("Docker-Content-Digest", Sha256::of(&answer.body));
        });
        check_error(client.get_manifest(&by_digest), "has the wrong digest", ErrorKind::Refused);
        assert_eq!(client.get_manifest(&by_tag).unwrap().digest, Sha256::of(b"{\"a\":2}"));
        server.after(|_, answer| {
            answer.headers.clear();
            answer.body.truncate(3);
        });
        check_error(client.get_manifest(&by_digest), "has the wrong digest", ErrorKind::Refused);
    });
}

#[test]
fn a_tag_that_moves_between_two_requests_gives_what_it_meant_at_the_first() {
    let server = Server::start();
    let old = server.add_manifest("v1", b"{\"a\":1}");
    with_client(options(), |client| {
        let repository = repository(&server);
        let first = client.get_manifest(&repository.with_tag("v1").unwrap()).unwrap();
        let new = server.add_manifest("v1", b"{\"a\":2}");
        assert_eq!(client.get_manifest(&repository.with_digest(first.digest)).unwrap(), first);
        let second = client.get_manifest(&repository.with_tag("v1").unwrap()).unwrap();
        assert_eq!((first.digest, second.digest), (old, new));
        // A registry that answers a digest with what the tag means now is caught.
        server.after(|_, answer| answer.body = b"{\"a\":2}".into());
        check_error(
            client.get_manifest(&repository.with_digest(old)),
            "has the wrong digest",
            ErrorKind::Refused,
        );
    });
}

#[test]
fn a_manifest_of_100_megabytes_is_not_read() {
    let server = Server::start();
    let digest = server.add_manifest("v1", b"{}");
    with_client(options(), |client| {
        for reference in
            [repository(&server).with_tag("v1").unwrap(), repository(&server).with_digest(digest)]
        {
            server.after(|_, answer| answer.set("Content-Length", 100_000_000));
            let refused = client.get_manifest(&reference);
            check_error(refused, "is larger than 4194304 bytes", ErrorKind::Refused);
            // One that doesn't say its size is read until it is too large.
            server.after(|_, answer| {
                answer.set("Transfer-Encoding", "chunked");
                let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
                answer.body = chunk.repeat(20).into_bytes();
            });
            let refused = client.get_manifest(&reference);
            check_error(refused, "is larger than 4194304 bytes", ErrorKind::Refused);
        }
    });
}

#[test]
fn manifests_are_stored() {
    let server = Server::start();
    with_client(options(), |client| {
        let repository = repository(&server);
        let digest = client.put_manifest(&repository.with_tag("v1").unwrap(), TYPE, b"{}").unwrap();
        assert_eq!(digest, Sha256::of(b"{}"));
        client.put_manifest(&repository.with_digest(digest), TYPE, b"{}").unwrap();
        let wrong = client.put_manifest(&repository.with_digest(digest), TYPE, b"{ }");
        check_error(wrong, "has the wrong digest", ErrorKind::Refused);
        let large = vec![b' '; MAX_MANIFEST_BYTES as usize + 1];
        let large = client.put_manifest(&repository.with_tag("v1").unwrap(), TYPE, &large);
        check_error(large, "is larger than 4194304 bytes", ErrorKind::Refused);
        server.before(|request| request.answer = Some(Answer::error(400, "MANIFEST_BLOB_UNKNOWN")));
        let refused = client.put_manifest(&repository.with_tag("v2").unwrap(), TYPE, b"{}");
        check_error(refused, "with 400: MANIFEST_BLOB_UNKNOWN", ErrorKind::Unavailable);
        server.before(|_| {});
        server.after(|_, answer| answer.set("Docker-Content-Digest", Sha256::of(b"other")));
        let other = client.put_manifest(&repository.with_tag("v3").unwrap(), TYPE, b"{}");
        check_error(other, "has the wrong digest", ErrorKind::Refused);
    });
    let put = server.requests().into_iter().filter(|line| line.starts_with("PUT")).collect::<Vec<_>>();
    assert_eq!(put[0], "PUT /v2/a/b/manifests/v1");
    assert_eq!(put[1], format!("PUT /v2/a/b/manifests/{}", Sha256::of(b"{}")));
}

#[test]
fn tags_come_in_pages() {
    let server = Server::start();
    with_client(options(), |client| {
        let repository = repository(&server);
        assert_eq!(client.tags(&repository).unwrap(), Vec::<String>::new());
        for tag in ["v1", "v2", "v3", "v4", "v5"] {
            server.add_manifest(tag, b"{}");
        }
        assert_eq!(client.tags(&repository).unwrap(), ["v1", "v2", "v3", "v4", "v5"]);
        server.after(|_, answer| answer.body = b"{\"name\":\"a/b\",\"tags\":null}".into());
        assert_eq!(client.tags(&repository).unwrap(), Vec::<String>::new());
        server.after(|_, answer| answer.body = b"<html>".into());
        check_error(client.tags(&repository), "does not list the tags of", ErrorKind::Refused);
        // A registry that sends us elsewhere, or round and round.
        server.after(|_, answer| answer.set("Link", "<http://127.0.0.1:1/v2/a/b/tags/list>; rel=\"next\""));
        assert_eq!(client.tags(&repository).unwrap(), ["v1", "v2"]);
        server.after(|_, answer| answer.set("Link", "</v2/a/b/tags/list?n=1000>; rel=\"next\""));
        assert_eq!(client.tags(&repository).unwrap(), ["v1", "v2"]);
        server.after(|_, answer| *answer = Answer::error(404, "NAME_UNKNOWN"));
        assert_eq!(client.tags(&repository).unwrap(), Vec::<String>::new());
    });
}

fn referrer(subject: &Sha256, kind: &str, text: &str) -> Vec<u8> {
    json!({
        "schemaVersion": 2,
        "mediaType": TYPE,
        "artifactType": kind,
        "annotations": { "text": text },
        "subject": { "mediaType": TYPE, "digest": subject, "size": 2 },
    })
    .to_string()
    .into_bytes()
}

#[test]
fn referrers_are_listed_by_the_registry_or_under_a_tag() {
    for has_referrers in [true, false] {
        let server = Server::start();
        server.state().has_referrers = has_referrers;
        let subject = server.add_manifest("v1", b"{}");
        with_client(options(), |client| {
            let repository = repository(&server);
            assert_eq!(client.referrers(&repository, &subject, None).unwrap(), []);
            let mut digests = Vec::new();
            for (kind, text) in [("x/signature", "1"), ("x/sbom", "2"), ("x/signature", "3")] {
                let manifest = referrer(&subject, kind, text);
                let reference = repository.with_digest(Sha256::of(&manifest));
                // Twice is once.
                for _ in 0..2 {
                    client.put_manifest(&reference, TYPE, &manifest).unwrap();
                }
                digests.push(Sha256::of(&manifest));
            }
            let all = client.referrers(&repository, &subject, None).unwrap();
            assert_eq!(all.len(), 3);
            let of_kind = |kind| {
                let mut found: Vec<_> = client
                    .referrers(&repository, &subject, Some(kind))
                    .unwrap()
                    .iter()
                    .map(|found| found.digest)
                    .collect();
                found.sort();
                found
            };
            let mut expected = vec![digests[0], digests[2]];
            expected.sort();
            assert_eq!(of_kind("x/signature"), expected);
            assert_eq!(of_kind("x/other"), []);
            let has_tag = client.tags(&repository).unwrap().contains(&format!("sha256-{}", subject.to_hex()));
            assert_eq!(has_tag, !has_referrers);
        });
    }
}

#[test]
fn a_list_that_another_client_overwrote_is_written_again() {
    let server = Server::start();
    let subject = server.add_manifest("v1", b"{}");
    let mut overwritten = false;
    let tag = format!("sha256-{}", subject.to_hex());
    server.before(move |request| {
        if request.is("PUT", &tag) && !overwritten {
            overwritten = true;
            request.answer = Some(Answer::new(201));
        }
    });
    with_client(options(), |client| {
        let repository = repository(&server);
        let manifest = referrer(&subject, "x/sbom", "1");
        client.put_manifest(&repository.with_digest(Sha256::of(&manifest)), TYPE, &manifest).unwrap();
        assert_eq!(client.referrers(&repository, &subject, None).unwrap().len(), 1);
        // What stands under the tag and is no list is not overwritten.
        server.before(|_| {});
        server.add_manifest(&format!("sha256-{}", subject.to_hex()), b"{}");
        let manifest = referrer(&subject, "x/sbom", "2");
        let refused = client.put_manifest(&repository.with_digest(Sha256::of(&manifest)), TYPE, &manifest);
        check_error(refused, "is not an index of referrers", ErrorKind::Refused);
    });
}
