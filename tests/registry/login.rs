//! Who the client says it is, and to whom.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nimctl::error_kind::ErrorKind;
use nimctl::registry::{CredentialSource, Notice, Options};

use crate::server::{Answer, Login, PASSWORD, Server, USER};
use crate::support::{bytes, check_error, fetch, options, repository, with_client};

const AUTH: &str = "bWU6aHVudGVyMjp4";

/// Options with a credential file that has this text.
pub(crate) fn with_file(folder: &tempfile::TempDir, text: &str) -> Options {
    let path = folder.path().join("config.json");
    fs_err::write(&path, text).unwrap();
    let credentials = CredentialSource {
        files: vec![folder.path().join("absent.json"), path],
        helper_folders: vec![folder.path().into()],
        helper_limit: Duration::from_secs(5),
    };
    Options { credentials, ..options() }
}

pub(crate) fn auth_of(server: &Server) -> String {
    format!("{{\"auths\": {{\"{}\": {{\"auth\": \"{AUTH}\"}}}}}}", server.address())
}

fn helper(folder: &tempfile::TempDir, name: &str, script: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.path().join(format!("docker-credential-{name}"));
    fs_err::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Fetches a blob of a server with a login.
#[track_caller]
fn check_login(login: Login, text: impl Fn(&Server) -> String) -> (Server, Vec<Notice>) {
    let (server, data, folder) = (Server::start(), bytes(1000), tempfile::tempdir().unwrap());
    server.add_blob(&data);
    server.state().login = login;
    let (_, notices) = with_client(with_file(&folder, &text(&server)), |client| {
        assert!(fetch(client, &repository(&server), &data, None).unwrap().0 == data);
        assert!(fetch(client, &repository(&server), &data, Some(5..10)).unwrap().0 == data[5..10]);
    });
    (server, notices)
}

#[test]
fn a_password_and_a_token() {
    let (server, _) = check_login(Login::Basic, auth_of);
    // Once it is known, no request goes without it.
    assert_eq!(server.requests().len(), 3);
    let (server, _) = check_login(Login::Token { needs_password: true }, auth_of);
    assert_eq!(server.requests().iter().filter(|line| *line == "GET /token").count(), 1);
    assert_eq!(server.requests().len(), 4);
    check_login(Login::Token { needs_password: false }, |_| "{}".into());
    check_login(Login::Token { needs_password: false }, |_| " \n".into());
}

#[test]
fn files_are_read_as_docker_and_podman_write_them() {
    let in_entry = |key: &str, entry: &str| {
        let (key, entry) = (key.to_owned(), entry.to_owned());
        move |server: &Server| {
            format!(
                "{{\"auths\": {{\"other.example\": {{}}, \"{}\": {entry}}}, \"HttpHeaders\": {{\"A\": \"b\"}}}}",
                key.replace("HOST", server.address())
            )
        }
    };
    let auth = format!("{{\"auth\": \"{AUTH}\"}}");
    for key in ["HOST", "https://HOST", "https://HOST/v1/", "http://HOST/", "HOST/a", "HOST/a/b"] {
        check_login(Login::Basic, in_entry(key, &auth));
    }
    let pair = format!("{{\"username\": \"{USER}\", \"password\": \"{PASSWORD}\"}}");
    check_login(Login::Basic, in_entry("HOST", &pair));
}

#[test]
fn wrong_and_missing_credentials_say_what_to_do() {
    let check = |login: &Login, text: &str, expected: &str, kind| {
        let (server, data, folder) = (Server::start(), bytes(1000), tempfile::tempdir().unwrap());
        server.add_blob(&data);
        server.state().login = login.clone();
        let text = text.replace("HOST", server.address());
        with_client(with_file(&folder, &text), |client| {
            let expected = expected.replace("HOST", server.address());
            check_error(fetch(client, &repository(&server), &data, None), &expected, kind);
        });
    };
    let refused = ErrorKind::Unavailable;
    let token = Login::Token { needs_password: true };
    check(
        &Login::Basic,
        "{}",
        "UNAUTHORIZED: the message of UNAUTHORIZED; no credentials were found",
        refused,
    );
    check(&Login::Basic, "{}", "log in with `docker login HOST` or `skopeo login HOST`", refused);
    check(&token, "{}", "incorrect username or password; no credentials were found", refused);
    let wrong = "{\"auths\": {\"HOST\": {\"auth\": \"bWU6c2VjcmV0\"}}}";
    check(&Login::Basic, wrong, "sent were the credentials of ", refused);
    check(&token, wrong, "sent were the credentials of ", refused);
    check(&Login::Basic, "{\"auths\": \"secret\"}", "config.json: it is not what Docker", ErrorKind::Input);
    check(&Login::Basic, "{\n\"secret", "config.json: it is not JSON (line 2", ErrorKind::Input);
    let rubbish = "{\"auths\": {\"HOST\": {\"auth\": \"secret!\"}}}";
    check(&Login::Basic, rubbish, "an `auth` is not base64 of USER:PASSWORD", ErrorKind::Input);
}

#[test]
fn helpers_are_asked() {
    for config in
        ["{\"credsStore\": \"good\"}", "{\"credsStore\": \"bad\", \"credHelpers\": {\"HOST\": \"good\"}}"]
    {
        let (server, data, folder) = (Server::start(), bytes(1000), tempfile::tempdir().unwrap());
        server.add_blob(&data);
        server.state().login = Login::Basic;
        helper(
            &folder,
            "good",
            &format!(
                "test $1 = get && test \"$(cat)\" = {} && echo '{{\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'",
                server.address()
            ),
        );
        with_client(with_file(&folder, &config.replace("HOST", server.address())), |client| {
            assert!(fetch(client, &repository(&server), &data, None).unwrap().0 == data);
        });
    }
}

#[test]
fn a_helper_that_fails_is_told_and_does_without() {
    let check = |script: Option<&str>, expected: &str| {
        let (server, data, folder) = (Server::start(), bytes(1000), tempfile::tempdir().unwrap());
        server.add_blob(&data);
        server.state().login = Login::Token { needs_password: false };
        if let Some(script) = script {
            helper(&folder, "x", script);
        }
        let mut options = with_file(&folder, "{\"credsStore\": \"x\"}");
        options.credentials.helper_limit = Duration::from_millis(300);
        let (_, notices) = with_client(options, |client| {
            assert!(fetch(client, &repository(&server), &data, None).unwrap().0 == data);
        });
        match notices.as_slice() {
            [] => assert_eq!(expected, ""),
            [Notice::HelperFailed { problem }] => {
                assert!(problem.contains(expected) && !expected.is_empty(), "{problem}");
                assert!(!problem.contains("secret"), "{problem}");
            }
            other => panic!("{other:?}"),
        }
    };
    check(None, "there is no such program in PATH");
    check(Some("echo no luck; exit 1"), "it failed: no luck");
    check(Some("echo credentials not found in native keychain; exit 1"), "");
    check(Some("echo secret"), "its answer is not a helper's");
    check(Some("sleep 20"), "it did not answer in 0.3 s");
    check(Some("sleep 20 & exit 0"), "its output has no end");
}

#[test]
fn a_login_that_ends_in_the_middle_is_renewed() {
    let (server, data, folder) = (Server::start(), bytes(100_000), tempfile::tempdir().unwrap());
    server.add_blob(&data);
    server.state().login = Login::Token { needs_password: true };
    let options = with_file(&folder, &auth_of(&server));
    with_client(options, |client| {
        for start in (0..100_000).step_by(10_000) {
            let range = start as u64..start as u64 + 10_000;
            assert!(
                fetch(client, &repository(&server), &data, Some(range)).unwrap().0
                    == data[start..start + 10_000]
            );
            server.state().tokens.clear();
        }
    });
    assert_eq!(server.requests().iter().filter(|line| *line == "GET /token").count(), 10);
}

#[test]
fn credentials_stay_with_their_registry() {
    let (server, other, data) = (Server::start(), Server::start(), bytes(100_000));
    let folder = tempfile::tempdir().unwrap();
    let digest = server.add_blob(&data);
    other.add_blob(&data);
    for login in [Login::Basic, Login::Token { needs_password: true }] {
        server.state().login = login;
        let target = format!("http://{}/v2/a/b/blobs/{digest}?signature=secret", other.address());
        server.after(move |request, answer| {
            if request.path.contains("/blobs/") && answer.status < 300 {
                *answer = Answer::new(307).header("Location", &target);
            }
        });
        let mut cuts = 0;
        other.after(move |_, answer| {
            cuts += 1;
            answer.cut_after = (cuts < 3).then_some(30_000);
        });
        with_client(with_file(&folder, &auth_of(&server)), |client| {
            assert!(fetch(client, &repository(&server), &data, None).unwrap().0 == data);
        });
    }
    let log = &other.state().log;
    assert_eq!(log.len(), 6);
    assert!(log.iter().all(|request| request.header("authorization").is_none()));
    assert!(log.iter().any(|request| request.header("range").is_some()));
}

#[test]
fn a_stranger_that_asks_for_a_login_gets_none() {
    let (server, other, data) = (Server::start(), Server::start(), bytes(1000));
    let folder = tempfile::tempdir().unwrap();
    let digest = server.add_blob(&data);
    server.state().login = Login::Basic;
    other.state().login = Login::Basic;
    let target = format!("http://{}/v2/a/b/blobs/{digest}?token=secret", other.address());
    server.after(move |_, answer| {
        if answer.status < 300 {
            *answer = Answer::new(302).header("Location", &target);
        }
    });
    with_client(with_file(&folder, &auth_of(&server)), |client| {
        check_error(
            fetch(client, &repository(&server), &data, None),
            other.address(),
            ErrorKind::Unavailable,
        );
    });
    assert!(other.state().log.iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn redirects_and_token_servers_stay_encrypted_and_have_an_end() {
    let check = |answer: Answer, expected: &str, kind| {
        let (server, data) = (Server::start(), bytes(1000));
        server.add_blob(&data);
        server.after(move |_, natural| *natural = answer.clone());
        with_client(options(), |client| {
            check_error(fetch(client, &repository(&server), &data, None), expected, kind);
        });
    };
    let to = |target: &str| Answer::new(302).header("Location", target);
    let not_https = "redirects to `http://example.invalid/x`, which is not https";
    check(to("http://example.invalid/x?secret"), not_https, ErrorKind::Refused);
    check(to("file:///etc/passwd"), "which is not https", ErrorKind::Refused);
    check(to("/again"), "was redirected more than 5 times", ErrorKind::Unavailable);
    check(Answer::new(302), "names no location", ErrorKind::Refused);
    let realm = "Bearer realm=\"http://example.invalid/token\"";
    let challenge = Answer::new(401).header("WWW-Authenticate", realm);
    check(challenge, "its token server is not reached by https", ErrorKind::Refused);
}

#[test]
fn an_identity_token_is_exchanged() {
    let (server, data, folder) = (Server::start(), bytes(1000), tempfile::tempdir().unwrap());
    server.add_blob(&data);
    server.state().login = Login::Token { needs_password: false };
    let forms = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&forms);
    server.after(move |request, _| {
        if request.method == "POST" {
            seen.lock().unwrap().push(String::from_utf8(request.body.clone()).unwrap());
        }
    });
    // The server issues tokens for scopes in the query, so it is told them here.
    server.before(|request| {
        if request.path == "/token" {
            request.query.push(("scope".into(), "repository:a/b:pull".into()));
        }
    });
    let text = format!("{{\"auths\": {{\"{}\": {{\"identitytoken\": \"secret+x\"}}}}}}", server.address());
    with_client(with_file(&folder, &text), |client| {
        assert!(fetch(client, &repository(&server), &data, None).unwrap().0 == data);
    });
    let expected = "grant_type=refresh_token&service=test&client_id=nimctl&scope=repository%3Aa%2Fb%3Apull&refresh_token=secret%2Bx";
    assert_eq!(*forms.lock().unwrap(), [expected]);
}

#[test]
fn the_environment_names_the_files() {
    let source = CredentialSource::from_environment(|name| {
        let value = match name {
            "HOME" => "/h",
            "XDG_RUNTIME_DIR" => "/r",
            "PATH" => "/a:/b",
            _ => return None,
        };
        Some(value.into())
    });
    let files = ["/h/.docker/config.json", "/r/containers/auth.json", "/h/.config/containers/auth.json"];
    assert_eq!(source.files, files.map(PathBuf::from));
    assert_eq!(source.helper_folders, ["/a", "/b"].map(PathBuf::from));
    let source = CredentialSource::from_environment(|name| (name == "DOCKER_CONFIG").then(|| "/d".into()));
    assert_eq!(source.files, [PathBuf::from("/d/config.json")]);
}
