//! `s3://` uris, at a server that checks signatures by its own computation.

use std::collections::BTreeMap;

use nimctl::digest::{Blake3, Sha256};
use sha2::{Digest as _, Sha256 as Hasher};

use crate::folder_server::content;
use crate::running::run;
use crate::server::{Answer, Request, Server};
use crate::support::bytes;
use crate::uris::manifest;

const ID: &str = "AKIDTEST";
const SECRET: &str = "secret/with+signs";
const REGION: &str = "eu-test-1";

/// RFC 2104, for keys of at most 64 bytes.
fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut block = [0_u8; 64];
    block[..key.len()].copy_from_slice(key);
    let inner: Vec<u8> = block.iter().map(|byte| byte ^ 0x36).chain(text.bytes()).collect();
    let inner = Hasher::digest(inner);
    let outer: Vec<u8> = block.iter().map(|byte| byte ^ 0x5c).chain(inner).collect();
    Hasher::digest(outer).to_vec()
}

fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).into() } else { format!("%{byte:02X}") })
        .collect()
}

/// Checks a signed address as Signature Version 4 is described.
fn is_signed(request: &Request) -> bool {
    let query: BTreeMap<&str, &str> =
        request.query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let get = |name: &str| query.get(name).copied().unwrap_or_default();
    let date = get("X-Amz-Date");
    let scope = format!("{}/{REGION}/s3/aws4_request", &date[..8.min(date.len())]);
    let canonical: Vec<String> = query
        .iter()
        .filter(|(name, _)| **name != "X-Amz-Signature")
        .map(|(name, value)| format!("{}={}", quoted(name), quoted(value)))
        .collect();
    let host = request.header("host").unwrap();
    let canonical =
        format!("GET\n{}\n{}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD", request.path, canonical.join("&"));
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", Sha256::of(canonical.as_bytes()).to_hex());
    let mut key = format!("AWS4{SECRET}").into_bytes();
    for part in scope.split('/') {
        key = hmac(&key, part);
    }
    let signature: String = hmac(&key, &text).iter().map(|byte| format!("{byte:02x}")).collect();
    get("X-Amz-Credential") == format!("{ID}/{scope}") && get("X-Amz-Signature") == signature
}

#[test]
fn objects_are_asked_for_with_a_signature() {
    let (server, folder, data) = (Server::start(), tempfile::tempdir().unwrap(), bytes(100_000));
    let whole = data.clone();
    server.before(move |request| {
        let refused =
            "<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>";
        request.answer = Some(match request.path.as_str() {
            _ if !is_signed(request) => Answer::new(403).body(refused.as_bytes()),
            "/bucket/a%20b/c%252F%2B%C3%A4.bin" => content(&whole, request),
            _ => Answer::new(404).body(b"<Error><Code>NoSuchKey</Code></Error>"),
        });
    });
    let mut count = 0;
    server.after(move |_, answer| {
        count += 1;
        answer.cut_after = (count == 1).then_some(40_000);
    });
    let write = |uri: &str| {
        let text = manifest(&[("a", uri, &Blake3::of(&data).to_string())]);
        fs_err::write(folder.path().join("m.yaml"), text).unwrap();
    };
    let endpoint = format!("http://{}", server.address());
    let pull = |more: &[(&str, &str)]| {
        let variables = [&[("AWS_ENDPOINT_URL", endpoint.as_str()), ("AWS_REGION", REGION)], more].concat();
        run(folder.path(), &variables, &["pull", "m.yaml", "--all", "-o", "out"])
    };
    let key = [("AWS_ACCESS_KEY_ID", ID), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    write("s3://bucket/a b/c%2F+ä.bin");
    pull(&key).json();
    assert!(fs_err::read(folder.path().join("out/profiles/p1/a")).unwrap() == data);
    fs_err::remove_dir_all(folder.path().join("out")).unwrap();
    // A session's token is signed too; the shared file serves as well.
    let session = [&key[..], &[("AWS_SESSION_TOKEN", "token/+=")]].concat();
    pull(&session).json();
    fs_err::remove_dir_all(folder.path().join("out")).unwrap();
    let text = format!("[default]\naws_access_key_id = {ID}\naws_secret_access_key = {SECRET}\n");
    fs_err::create_dir(folder.path().join(".aws")).unwrap();
    fs_err::write(folder.path().join(".aws/credentials"), text).unwrap();
    let home = folder.path().to_str().unwrap();
    pull(&[("HOME", home)]).json();
    fs_err::remove_dir_all(folder.path().join("out")).unwrap();

    pull(&[]).fails(5, &["(403): SignatureDoesNotMatch: no; no credentials were sent"]);
    let wrong = pull(&[("AWS_ACCESS_KEY_ID", ID), ("AWS_SECRET_ACCESS_KEY", "wrong-secret")]);
    wrong.fails(5, &["sent was what AWS_ACCESS_KEY_ID says"]);
    assert!(!wrong.stderr.contains("wrong-secret") && !wrong.stderr.contains("X-Amz"), "{}", wrong.stderr);
    pull(&[("HOME", home), ("AWS_PROFILE", "other")]).fails(1, &["for the profile `other`"]);
    write("s3://bucket/gone");
    pull(&key).fails(1, &["was not found: NoSuchKey"]);
}
