//! Whole runs of publish and pull against a registry that fails: each ends with the right release, or with an error that says what is
//! wrong; and what arrived before is not fetched again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nimctl::digest::Sha256;
use nimctl::error_kind::ErrorKind;
use nimctl::oci::{RegistryPlace, Which};
use nimctl::ops::publish::{FileLayout, PublishError, PublishOptions, Published, Shipment, publish};
use nimctl::ops::pull::{PullError, PullOptions, Pulled, RemoteRelease};
use nimctl::registry::{Client, Limits, Options, Watch};
use nimctl::store::Store;
use tempfile::TempDir;

use crate::login::{auth_of, with_file};
use crate::releases::{RECIPE, nimctl};
use crate::server::{Answer, Login, PASSWORD, Request, Server};
use crate::support::{limits, options, repository};

/// A release folder of two profiles.
struct Release(TempDir);

impl Release {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("r.yaml"), RECIPE).unwrap();
        for arguments in [
            &["build", "r.yaml"][..],
            &["publish", "r.yaml", "--to", "oci:layout"],
            &["pull", "oci:layout", "--all", "-o", "release"],
        ] {
            nimctl(folder.path(), arguments);
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn publish(&self, server: &Server, options: Options) -> Result<Published, PublishError> {
        let shipment = Shipment::of_release(&self.path("release"))?;
        let store = Store::open(&self.path("data/store"))?;
        let client = Client::new(options, Watch { cancelled: &|| false, notice: &|_| () });
        let place = RegistryPlace::new(client, repository(server));
        let options = PublishOptions {
            tag: "v1",
            from: None,
            layout: FileLayout::Packs,
            cancelled: &|| false,
            on_sent: &|_, _| (),
        };
        publish(&shipment, &store, &place, &options)
    }

    /// Pulls all profiles into a store of this name.
    fn pull(&self, server: &Server, options: Options, store: &str) -> Result<Vec<Pulled>, PullError> {
        let client = Client::new(options, Watch { cancelled: &|| false, notice: &|_| () });
        let place = RegistryPlace::new(client, repository(server));
        let release = RemoteRelease::open(&place, &Which::Tag("v1".into()))?;
        let store = Store::open(&self.path(store))?;
        let options = PullOptions { parallel: 2, cancelled: &|| false, on_bytes: &|_, _| () };
        let profiles = release.manifest.profiles.iter();
        profiles.map(|profile| release.pull(&profile.id, &store, &options)).collect()
    }

    /// Checks that a store has the files of the release, and nothing that is another than its name says.
    fn assert_pulled(&self, store: &str) {
        let blobs = |store: &str| {
            let folder = fs_err::read_dir(self.path(store).join("blobs/sha256")).unwrap();
            let mut blobs: Vec<(String, u64)> = folder
                .map(|entry| entry.unwrap())
                .map(|entry| {
                    let name = entry.file_name().into_string().unwrap();
                    let (found, size) = Sha256::of_file(&entry.path()).unwrap();
                    assert_eq!(found.to_hex(), name);
                    (name, size)
                })
                .filter(|(_, size)| *size > 100_000)
                .collect();
            blobs.sort();
            blobs
        };
        assert_eq!(blobs(store), blobs("data/store"));
    }

    fn published() -> (Self, Server) {
        let (release, server) = (Self::new(), Server::start());
        release.publish(&server, options()).unwrap();
        (release, server)
    }
}

/// Limits for a registry that fails again and again.
fn patient() -> Options {
    let limits = Limits { retries: 60, backoff: Duration::ZERO, ..limits() };
    Options { limits, ..options() }
}

/// Says what an error and its causes say.
fn said(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said += &format!(": {error}");
        cause = error.source();
    }
    assert!(!said.contains(PASSWORD) && !said.contains("secret-token"), "{said}");
    said
}

#[test]
fn a_hundred_cuts_at_random_bytes() {
    let release = Release::new();
    let server = Server::start();
    let cuts = Arc::new(AtomicUsize::new(0));
    let (of_requests, of_answers) = (Arc::clone(&cuts), Arc::clone(&cuts));
    let mut random = fastrand::Rng::with_seed(5);
    let mut random_of_answers = random.fork();
    server.before(move |request| {
        if ["PATCH", "PUT"].contains(&request.method.as_str()) && random.u8(..3) > 0 {
            request.cut_after = Some(random.usize(..1_000_000));
            of_requests.fetch_add(1, Ordering::Relaxed);
        }
    });
    server.after(move |_, answer| {
        if random_of_answers.u8(..3) > 0 && !answer.body.is_empty() {
            answer.cut_after = Some(random_of_answers.usize(..answer.body.len()));
            of_answers.fetch_add(1, Ordering::Relaxed);
        }
    });
    release.publish(&server, patient()).unwrap_or_else(|error| panic!("{}", said(&error)));
    let while_published = cuts.load(Ordering::Relaxed);
    assert!(while_published > 10, "{while_published}");
    for round in 0.. {
        let store = format!("store-{round}");
        release.pull(&server, patient(), &store).unwrap_or_else(|error| panic!("{}", said(&error)));
        release.assert_pulled(&store);
        if cuts.load(Ordering::Relaxed) - while_published >= 100 {
            break;
        }
    }
}

#[test]
fn a_login_that_ends_in_the_middle() {
    let release = Release::new();
    let server = Server::start();
    server.state().login = Login::Token { needs_password: false };
    let mut count = 0;
    let mut refused: Vec<String> = Vec::new();
    server.before(move |request| {
        if request.header("authorization").is_some() && request.path != "/token" {
            count += 1;
            // As if the token had just run out. Requests come several at a time: the new token of one that was refused counts.
            let name = format!("{} {}", request.method, request.path);
            if count % 5 == 0 && !refused.contains(&name) {
                request.headers.remove("authorization");
                refused.push(name);
            }
        }
    });
    release.publish(&server, patient()).unwrap_or_else(|error| panic!("{}", said(&error)));
    release.pull(&server, patient(), "s").unwrap_or_else(|error| panic!("{}", said(&error)));
    release.assert_pulled("s");
}

#[test]
fn every_request_fails_at_first() {
    let release = Release::new();
    let server = Server::start();
    let mut seen: Vec<String> = Vec::new();
    server.before(move |request| {
        let name = format!("{} {}", request.method, request.path);
        if seen.contains(&name) {
            return;
        }
        request.answer = Some(match seen.len() % 3 {
            0 => Answer::error(429, "TOOMANYREQUESTS").header("Retry-After", 0),
            1 => Answer::error(429, "TOOMANYREQUESTS"),
            _ => Answer::error(500, "UNKNOWN"),
        });
        seen.push(name);
    });
    release.publish(&server, patient()).unwrap_or_else(|error| panic!("{}", said(&error)));
    release.pull(&server, patient(), "s").unwrap_or_else(|error| panic!("{}", said(&error)));
    release.assert_pulled("s");
}

/// Changes the answers for packs, which are the large blobs.
fn packs(server: &Server, change: impl Fn(&Request, &mut Answer) + Send + 'static) {
    server.after(move |request, answer| {
        if request.is("GET", "/blobs/") && answer.body.len() > 100_000 {
            change(request, answer);
        }
    });
}

#[test]
fn a_wrong_pack_is_refused_and_the_rest_is_not_fetched_again() {
    let (release, server) = Release::published();
    let flip = |_: &Request, answer: &mut Answer| *answer.body.last_mut().unwrap() ^= 1;
    packs(&server, flip);
    let error = release.pull(&server, options(), "s").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(said(&error).contains("has other bytes at"), "{}", said(&error));
    // Some of it was right, and is kept.
    server.after(|_, _| ());
    let pulled = release.pull(&server, options(), "s").unwrap();
    release.assert_pulled("s");
    let whole = release.pull(&server, options(), "t").unwrap();
    let fetched = |pulled: &[Pulled]| pulled.iter().map(|one| one.fetched_bytes).sum::<u64>();
    assert!(fetched(&pulled) < fetched(&whole), "{} of {}", fetched(&pulled), fetched(&whole));
}

#[test]
fn a_truncated_pack_is_an_error_and_the_next_pull_goes_on() {
    let (release, server) = Release::published();
    packs(&server, |_, answer| answer.body.truncate(answer.body.len() / 2));
    let error = release.pull(&server, options(), "s").unwrap_err();
    assert!(!said(&error).is_empty());
    server.after(|_, _| ());
    release.pull(&server, options(), "s").unwrap();
    release.assert_pulled("s");
}

#[test]
fn a_manifest_that_changes_between_two_requests_is_refused() {
    let (release, server) = Release::published();
    server.after(|request, answer| {
        if request.is("GET", "/manifests/sha256:") {
            let text = String::from_utf8(answer.body.clone()).unwrap();
            answer.body = text.replace("\"size\":", "\"size\": ").into_bytes();
        }
    });
    let error = release.pull(&server, options(), "s").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{}", said(&error));
    // A tag that moves after it was read means what it meant.
    let mut count = 0;
    server.after(move |request, answer| {
        if request.is("GET", "/manifests/v1") {
            count += 1;
            if count > 1 {
                *answer = Answer::error(404, "MANIFEST_UNKNOWN");
            }
        }
    });
    release.pull(&server, options(), "t").unwrap();
    release.assert_pulled("t");
    assert_eq!(release.pull(&server, options(), "u").unwrap_err().kind(), ErrorKind::Input);
}

#[test]
fn a_registry_without_ranges() {
    let (release, server) = Release::published();
    server.before(|request| _ = request.headers.remove("range"));
    release.pull(&server, options(), "s").unwrap();
    release.assert_pulled("s");
}

#[test]
fn blobs_on_another_host_are_fetched_without_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let (release, server, other) = (Release::new(), Server::start(), Server::start());
    let login = |server: &Server| with_file(&folder, &auth_of(server));
    server.state().login = Login::Basic;
    release.publish(&server, login(&server)).unwrap_or_else(|error| panic!("{}", said(&error)));
    let blobs = server.state().blobs.clone();
    other.state().blobs = blobs;
    let address = other.address().to_owned();
    server.after(move |request, answer| {
        if request.is("GET", "/blobs/") {
            *answer = Answer::new(307).header("Location", format!("http://{address}{}", request.path));
        }
    });
    release.pull(&server, login(&server), "s").unwrap_or_else(|error| panic!("{}", said(&error)));
    release.assert_pulled("s");
    let log = &other.state().log;
    assert!(!log.is_empty() && log.iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn a_line_of_100_kb_a_second_is_slow_but_works() {
    let (release, server) = Release::published();
    let slow = AtomicUsize::new(0);
    packs(&server, move |_, answer| {
        // Some hundred kilobytes of it: the others would only take longer.
        if slow.fetch_add(1, Ordering::Relaxed) < 2 {
            answer.bytes_per_s = Some(100_000);
            answer.cut_after = Some(200_000);
        }
    });
    let limits = Limits { idle: Duration::from_millis(500), ..limits() };
    release.pull(&server, Options { limits, ..options() }, "s").unwrap();
    release.assert_pulled("s");
}

#[test]
fn an_index_of_100_megabytes_is_not_read() {
    let (release, server) = Release::published();
    server.after(|request, answer| {
        if request.is("GET", "/manifests/v1") {
            answer.body.resize(100 << 20, b' ');
        }
    });
    let error = release.pull(&server, options(), "s").unwrap_err();
    assert!(said(&error).contains("bytes"), "{}", said(&error));
    assert!(!Path::new(&release.path("s/blobs")).join("sha256").exists());
}
