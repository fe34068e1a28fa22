//! Signatures of releases in a registry: attached by `publish`, and asked for by `pull`.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;

use nimctl::digest::Sha256;
use nimctl::oci::{INDEX_TYPE, MANIFEST_TYPE, SIGNATURE_TYPE};
use nimctl::signing::{Bundle, Certificate, PrivateKey, PublicKey};
use serde_json::json;

use crate::docker::DockerRegistry;
use crate::releases::{RECIPE, nimctl};
use crate::support::{blob, options, with_client};

/// Two signed releases of one model: the folders `r1` and `r2`, and keys.
struct Releases {
    folder: tempfile::TempDir,
    registry: DockerRegistry,
}

impl Releases {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let releases = Self { folder, registry: DockerRegistry::start() };
        let first = releases.set_up("1.0.0", "r1");
        assert_ne!(first, releases.set_up("2.0.0", "r2"));
        releases.policy("");
        releases
    }

    /// Makes a release folder, and signs it; returns the text of the signature.
    fn set_up(&self, release: &str, folder: &str) -> String {
        let recipe = RECIPE.replace("release: 1.0.0", &format!("release: {release}"));
        fs_err::write(self.path("r.yaml"), recipe).unwrap();
        let layout = format!("oci:layout-{folder}");
        self.run(&["build", "r.yaml"]);
        self.run(&["publish", "r.yaml", "--to", &layout]);
        self.run(&["pull", &layout, "--all", "-o", folder]);
        self.run(&["sign", folder, "--key", &key("p256.key"), "--signature", &format!("{folder}.signature")]);
        fs_err::read_to_string(self.path(&format!("{folder}.signature"))).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn place(&self, tag: &str) -> String {
        format!("{}/models/m:{tag}", self.registry.address())
    }

    fn run(&self, arguments: &[&str]) {
        nimctl(self.folder.path(), arguments);
    }

    /// Writes a policy with one rule for the model.
    fn policy(&self, more: &str) {
        let key = key("p256.pub");
        let text = format!("schema: nimctl.trust/1\nrules:\n- models: [m]\n  keys: ['{key}']\n{more}");
        fs_err::write(self.path("trust.yaml"), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nimctl"));
        command.args(arguments).current_dir(self.folder.path()).env_clear().env("PATH", "/usr/bin:/bin");
        command.env("NIMCTL_DATA_DIR", self.path("data"));
        command
    }

    /// Pulls, and returns what is said of it.
    #[track_caller]
    fn accepted(&self, tag: &str, more: &[&str], expected: &str) {
        let place = self.place(tag);
        let _ = fs_err::remove_dir_all(self.path("out"));
        let pull = [&["pull", &place, "--all", "--store", "accepted", "-o", "out"], more].concat();
        let output = self.command(&pull).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains(expected), "{said}");
        assert!(self.path("out/model_manifest.yaml").is_file());
    }

    /// Pulls, and checks that it is refused, that it says so, and that nothing of it is kept.
    #[track_caller]
    fn refused(&self, tag: &str, more: &[&str], expected: &str) {
        let place = self.place(tag);
        let pull = [&["pull", &place, "--all", "--store", "refused", "-o", "no"], more].concat();
        self.refused_command(&mut self.command(&pull), expected);
    }

    #[track_caller]
    fn refused_command(&self, command: &mut Command, expected: &str) {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains(expected), "{said}");
        assert!(!self.path("no").exists() && is_empty(&self.path("refused/blobs/sha256")), "{said}");
    }
}

fn is_empty(folder: &Path) -> bool {
    fs_err::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

fn key(name: &str) -> String {
    format!("{}/tests/fixtures/signing/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn signed_releases_are_pulled_and_others_refused_with_docker_registry() {
    let releases = Releases::new();
    let (own, other) = (key("p256.pub"), key("other.pub"));
    let (with_key, with_other, with_policy) = (["--key", &own], ["--key", &other], ["--trust", "trust.yaml"]);
    releases.run(&["publish", "r1", "--to", &releases.place("1.0.0")]);
    releases.refused("1.0.0", &with_key, "has no signature of the release sha256:");
    releases.refused("1.0.0", &with_policy, "has no signature of the release sha256:");
    let place = releases.place("1.0.0");
    let mut by_environment = releases.command(&["pull", &place, "--all", "--store", "refused", "-o", "no"]);
    releases.refused_command(by_environment.env("NIMCTL_TRUST", "trust.yaml"), "has no signature");
    // Without a policy, as before.
    releases.accepted("1.0.0", &[], "laid out in out");
    // Beside the folder, the signature is found.
    fs_err::copy(releases.path("r1.signature"), releases.path("r1.sig")).unwrap();
    releases.run(&["publish", "r1", "--to", &place]);
    releases.accepted("1.0.0", &with_key, "signed by the P-256 key");
    releases.accepted("1.0.0", &with_policy, "accepted by the rule in line 3 of trust.yaml (--trust)");
    releases.refused("1.0.0", &with_other, "it was made with another key");
    releases.policy("  min_release: 2.0.0\n");
    releases.refused("1.0.0", &with_policy, "rule in line 3: the release is older than `min_release` 2.0.0");
    releases.policy("  require: { executed_on: any }\n");
    releases.refused("1.0.0", &with_policy, "was validated as `skipped`");
    let mut strange = releases.command(&["pull", &place, "--all", "--store", "refused", "-o", "no"]);
    releases.refused_command(
        strange.env("NIMCTL_TRUST", "absent.yaml"),
        "cannot read the trust policy absent.yaml",
    );
}

#[test]
fn a_signature_of_another_release_is_refused_with_docker_registry() {
    let releases = Releases::new();
    let own = key("p256.pub");
    let with_key = ["--key", own.as_str()];
    let second = releases.place("2.0.0");
    // The first release's signature on the second is not published, but others may attach it.
    let publish =
        |signature: &str| releases.command(&["publish", "r2", "--to", &second, "--signature", signature]);
    releases.refused_command(
        &mut publish("r1.signature"),
        "r1.signature is not the signature of r2 as it is now: the signature is of other files: model_manifest.yaml is sha256:",
    );
    let published = nimctl(releases.folder.path(), &["publish", "r2", "--to", &second]);
    assert_eq!((&published["signature"], &published["attestations"]), (&json!("none"), &json!(0)));
    let index = published["digest"].as_str().unwrap();
    let attach_file =
        |name: &str| attach(&releases, index, SIGNATURE_TYPE, &fs_err::read(releases.path(name)).unwrap());
    attach_file("r1.signature");
    releases.refused("2.0.0", &with_key, "the signature is of other files: model_manifest.yaml is sha256:");
    releases.refused("2.0.0", &["--trust", "trust.yaml"], "the signature is of other files");
    // A signature that leaves a file out.
    let name = fs_err::read_dir(releases.path("r2/profiles")).unwrap().next().unwrap().unwrap().path();
    let left_out = name.join("passport.json").display().to_string();
    releases.run(&[
        "sign",
        "r2",
        "--key",
        &key("p256.key"),
        "--ignore",
        &left_out,
        "--signature",
        "part.signature",
    ]);
    releases.refused_command(&mut publish("part.signature"), "/passport.json, which the release has");
    attach_file("part.signature");
    releases.refused("2.0.0", &with_key, "/passport.json, which the release has");
    // One that fits is enough. What was attached is said.
    releases.run(&["attest", "r2", "--key", &key("p256.key")]);
    let output = publish("r2.signature").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("signature attached, 2 attestations attached"),
        "{said}"
    );
    let again = ["publish", "r2", "--to", &second, "--signature", "r2.signature"];
    let again = nimctl(releases.folder.path(), &again);
    assert_eq!((&again["signature"], &again["attestations"]), (&json!("attached"), &json!(2)));
    releases.accepted("2.0.0", &with_key, "signed by the P-256 key");
}

#[test]
fn places_without_signatures_take_a_file_with_docker_registry() {
    let releases = Releases::new();
    let pull = ["pull", "oci:layout-r1", "--all", "--store", "refused", "-o", "no", "--trust", "trust.yaml"];
    releases
        .refused_command(&mut releases.command(&pull), "oci:layout-r1 keeps no signatures: registries do");
    let with = |signature| [&pull[..], &["--signature", signature]].concat();
    releases.refused_command(&mut releases.command(&with("r2.signature")), "the signature is of other files");
    let output = releases.command(&with("r1.signature")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut publish = releases.command(&["publish", "r1", "--to", "oci:new", "--signature", "r1.signature"]);
    let output = publish.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("oci:new keeps no signatures"));
}

/// Signs a release folder with a certificate that `nimctl sign` would refuse, as somebody with another program can.
fn sign_with(releases: &Releases, leaf: &str) {
    let read = |name: &str| fs_err::read_to_string(key(name)).unwrap();
    let own = PublicKey::from_pem(&read("p256.pub")).unwrap();
    let signed = Bundle::parse(&fs_err::read(releases.path("r1.signature")).unwrap()).unwrap();
    let (statement, _) = signed.verify_with_key::<nimctl::signing::Statement>(&own).unwrap();
    let certificates =
        [leaf, "middle.pem"].map(|name| Certificate::all_from_pem(&read(name)).unwrap()).concat();
    let private_key = PrivateKey::from_pem(&read("leaf.key"), None).unwrap();
    let bundle = Bundle::sign(&statement, &private_key, Some(certificates));
    fs_err::write(releases.path("certificate.signature"), bundle.to_json()).unwrap();
}

#[test]
fn certificates_must_be_valid_now_with_docker_registry() {
    let releases = Releases::new();
    let (root, other) = (key("root.pem"), key("other-root.pem"));
    let with_root = ["--certificate-chain", root.as_str()];
    let text = format!(
        "schema: nimctl.trust/1\nrules:\n- models: [m]\n  certificates: {{ roots: ['{root}'], subjects: ['CN=Test signer*'] }}\n"
    );
    fs_err::write(releases.path("trust.yaml"), text).unwrap();
    // Each has a place of its own: one signature that is accepted is enough.
    for (tag, leaf, reason) in [
        ("expired", "leaf-expired.pem", "expired on 2021-01-01T00:00:00Z"),
        ("not-yet", "leaf-not-yet.pem", "is not valid before "),
        ("usage", "leaf-web-server.pem", "certificate"),
    ] {
        let place = format!("{}/models/{tag}:1.0.0", releases.registry.address());
        sign_with(&releases, leaf);
        releases.run(&["publish", "r1", "--to", &place, "--signature", "certificate.signature"]);
        for trusted in [with_root, ["--trust", "trust.yaml"]] {
            let pull = [&["pull", &place, "--all", "--store", "refused", "-o", "no"][..], &trusted].concat();
            releases.refused_command(&mut releases.command(&pull), reason);
        }
    }
    sign_with(&releases, "leaf.pem");
    releases.run(&[
        "publish",
        "r1",
        "--to",
        &releases.place("1.0.0"),
        "--signature",
        "certificate.signature",
    ]);
    releases.refused("1.0.0", &["--certificate-chain", &other], "no signature of the release is accepted");
    releases.accepted("1.0.0", &with_root, "signed by CN=Test signer");
    releases.accepted("1.0.0", &["--trust", "trust.yaml"], "accepted by the rule in line 3 of trust.yaml");
}

#[test]
fn releases_do_not_roll_back_with_docker_registry() {
    let releases = Releases::new();
    for (folder, tag) in [("r1", "1.0.0"), ("r2", "2.0.0")] {
        let signature = format!("{folder}.signature");
        releases.run(&["publish", folder, "--to", &releases.place(tag), "--signature", &signature]);
    }
    let with_policy = ["--trust", "trust.yaml"];
    releases.accepted("2.0.0", &with_policy, "accepted by the rule in line 3");
    let older = |tag: &str, expected: &str| {
        let place = releases.place(tag);
        let pull = [&["pull", &place, "--all", "--store", "accepted", "-o", "no"][..], &with_policy].concat();
        releases.refused_command(&mut releases.command(&pull), expected);
    };
    older("1.0.0", "m 1.0.0 is an older release than the one here: 2.0.0 was accepted");
    // Whoever moves a tag to an older release does not get further.
    releases.run(&["publish", "r1", "--to", &releases.place("latest"), "--signature", "r1.signature"]);
    older("latest", "m 1.0.0 is an older release");
    releases.accepted("1.0.0", &["--trust", "trust.yaml", "--allow-rollback"], "accepted by the rule");
    releases.accepted("1.0.0", &with_policy, "accepted by the rule");
}

/// Attaches an artifact with one layer to a manifest, as anyone may who can write to the registry.
fn attach(releases: &Releases, subject: &str, layer_type: &str, layer: &[u8]) {
    let repository = releases.registry.repository("models/m");
    let descriptor = |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "digest": Sha256::of(bytes), "size": bytes.len() });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": SIGNATURE_TYPE,
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [descriptor(layer_type, layer)],
        "subject": { "mediaType": INDEX_TYPE, "digest": subject, "size": 1 },
    });
    let manifest = manifest.to_string().into_bytes();
    with_client(options(), |client| {
        client.put_blob(&repository, blob(layer), &mut Cursor::new(layer), None).unwrap();
        let place = repository.with_digest(Sha256::of(&manifest));
        client.put_manifest(&place, MANIFEST_TYPE, &manifest).unwrap();
    });
}

#[test]
fn what_anyone_attached_breaks_nothing_with_docker_registry() {
    let releases = Releases::new();
    let (place, own) = (releases.place("1.0.0"), key("p256.pub"));
    let publish = ["publish", "r1", "--to", &place, "--signature", "r1.signature"];
    let published = nimctl(releases.folder.path(), &publish);
    let index = published["digest"].as_str().unwrap();
    attach(&releases, index, SIGNATURE_TYPE, b"no bundle");
    attach(&releases, index, "text/plain", b"neither");
    let with_key = ["--key", own.as_str()];
    releases.accepted("1.0.0", &with_key, "signed by the P-256 key");
    let copy = DockerRegistry::start();
    let there = format!("{}/models/m:1.0.0", copy.address());
    let output = releases.command(&["mirror", &place, &there]).output().unwrap();
    let (said, warned) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("2 signatures and attestations"), "{said}{warned}");
    assert!(warned.contains("not copied: 1 manifest attached to the release"), "{warned}");
    let pull = [&["pull", &there, "--all", "--store", "copied"][..], &with_key].concat();
    let output = releases.command(&pull).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Without the key, it is the signature that is missing, whatever else is attached.
    releases.refused("1.0.0", &["--key", &key("other.pub")], "it was made with another key");
}
