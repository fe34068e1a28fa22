//! Everything that loads a profile asks the trust policy: what was pulled under it, what was built here, and roll-backs.

use nimctl::digest::Sha256;
use serde_json::{Value, json};

use crate::distribution::RECIPE;
use crate::home::{Home, Printed};
use crate::signing::fixtures;
use crate::trust::{release_home, validated};

const RULE: &str = "- models: [m]\n  keys: [p256.pub]\n";

/// A home with these releases of the model `m`: `oci:layout-1.0.0`, and its signature `1.0.0.sig` beside the folder `1.0.0`. The
/// store of the builds is `data/store`, that of the folders `s`.
pub(crate) fn home(releases: &[&str]) -> Home {
    let home = Home::new();
    for name in ["p256.key", "p256.pub", "other.key", "other.pub"] {
        home.write(&format!("keys/{name}"), fs_err::read(fixtures().join(name)).unwrap());
    }
    policy(&home, RULE);
    for release in releases {
        release_of(&home, "m", release);
    }
    home
}

fn release_of(home: &Home, model: &str, release: &str) {
    let recipe = RECIPE.replace("name: m, release: 1.0.0", &format!("name: {model}, release: {release}"));
    home.write("r.yaml", recipe);
    // Of another model.
    if model != "m" {
        fs_err::remove_dir_all(home.path("manifests")).unwrap();
    }
    let layout = format!("oci:layout-{release}");
    home.set_up(&["build", "r.yaml"]).exits(0);
    home.set_up(&["publish", "r.yaml", "--to", &layout]).exits(0);
    home.set_up(&["pull", &layout, "--all", "--store", "s", "-o", release]).exits(0);
    home.set_up(&["sign", release, "--key", "keys/p256.key"]).exits(0);
}

/// Writes a policy with these rules to `keys/trust.yaml`.
fn policy(home: &Home, rules: &str) {
    home.write("keys/trust.yaml", format!("schema: nimctl.trust/1\nrules:\n{rules}"));
}

/// Pulls a release into the store `t` under the policy.
pub(crate) fn pull(home: &Home, release: &str, more: &[&str]) -> Printed {
    let (layout, signature) = (format!("oci:layout-{release}"), format!("{release}.sig"));
    let pull = ["pull", &layout, "--all", "--store", "t", "--signature", &signature];
    home.set_up(&[&pull[..], &["--trust", "keys/trust.yaml"], more].concat())
}

/// Pulls a release into a store without a policy, also to the folder `out`, which has no signature.
fn pull_freely(home: &Home, release: &str, more: &[&str]) {
    let _ = fs_err::remove_dir_all(home.path("out"));
    let layout = format!("oci:layout-{release}");
    home.set_up(&[&["pull", &layout, "--all", "--store", "t", "-o", "out"], more].concat()).exits(0);
}

/// Runs a command on the profiles of `out` that are in the store `t`, under the policy.
pub(crate) fn of(home: &Home, command: &[&str]) -> Printed {
    home.set_up(&[command, &["--store", "t", "--trust", "keys/trust.yaml"]].concat())
}

pub(crate) const SELECT: &[&str] = &["select", "-m", "out/model_manifest.yaml", "--device", "none"];
const VALIDATE: &[&str] = &["validate", "out"];
const DOWNLOAD: &[&str] =
    &["download-to-cache", "-m", "out/model_manifest.yaml", "--all", "--cache", "cache"];
const CREATE: &[&str] = &[
    "create-model-store",
    "--manifest-file",
    "out/model_manifest.yaml",
    "-p",
    "onnx-fp16",
    "-m",
    "model-store",
    "--cache",
    "cache",
];

/// Checks that all commands are refused with exit code 3 and this reason, and leave nothing.
#[track_caller]
pub(crate) fn all_refused(home: &Home, reasons: &[&str]) {
    for command in [SELECT, VALIDATE, DOWNLOAD, CREATE] {
        let said = of(home, command);
        said.exits(3).has(reasons);
        assert!(said.stdout.is_empty(), "{said}");
    }
    assert!(!home.path("cache").exists() && !home.path("model-store").exists());
}

/// Checks that all commands accept the profiles. There is no ONNX Runtime here: to go on to look for it is not to be refused.
#[track_caller]
pub(crate) fn all_accepted(home: &Home, by: &str) {
    of(home, VALIDATE).exits(5).has(&[by, "onnxruntime"]);
    for command in [SELECT, DOWNLOAD, CREATE] {
        of(home, command).exits(0).has(&[by]);
    }
    assert!(home.path("model-store/contents.json").is_file());
    for folder in ["cache", "model-store"] {
        fs_err::remove_dir_all(home.path(folder)).unwrap();
    }
}

/// The ids of the profiles in `out`.
fn ids(home: &Home) -> Vec<String> {
    let entries = fs_err::read_dir(home.path("out/profiles")).unwrap();
    let mut ids: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    ids.sort();
    assert_eq!(ids.len(), 2);
    ids
}

#[test]
fn what_was_pulled_under_a_policy_is_judged_by_the_policy_of_now() {
    let home = home(&["1.0.0"]);
    pull(&home, "1.0.0", &["-o", "out"]).exits(0).has(&["accepted by the rule in line 3"]);
    all_accepted(&home, ": accepted by the rule in line 3 of keys/trust.yaml (--trust)");
    for (rules, reason) in [
        ("- models: [m]\n  keys: [other.pub]\n", "the signature that it was pulled with is not accepted"),
        ("- models: ['n*']\n  keys: [p256.pub]\n", "no rule is for this model, rules are for `n*`"),
        ("- models: [m]\n  keys: [p256.pub]\n  min_release: 1.0.1\n", "older than `min_release` 1.0.1"),
        ("- models: [m]\n  keys: [p256.pub]\n  until: 2001-01-01\n", "the rule held until 2001-01-01"),
        ("- models: [m]\n  keys: [p256.pub]\n  from: 2999-01-01\n", "the rule holds from 2999-01-01"),
        (
            "- models: [m]\n  keys: [p256.pub]\n  require: { executed_on: any }\n",
            "was validated as `skipped`, and the rule requires `executed_on` any",
        ),
    ] {
        policy(&home, rules);
        // Where no rule is for the model, there is none to name.
        let line = if reason.starts_with("no rule") { reason } else { "rule in line 3: " };
        all_refused(&home, &["keys/trust.yaml", line, reason]);
    }
    policy(&home, RULE);
    all_accepted(&home, "line 3");
}

#[test]
fn a_policy_that_cannot_be_read_accepts_nothing() {
    let home = home(&["1.0.0"]);
    pull(&home, "1.0.0", &["-o", "out"]).exits(0);
    let others: [&[&str]; 3] = [
        &["bench", "r.yaml"],
        &["release", "r.yaml", "-o", "dist"],
        &["pull", "oci:layout-1.0.0", "--all", "-o", "new", "--signature", "1.0.0.sig"],
    ];
    for (text, reason) in [
        ("schema: nimctl.trust/1\nrules: []\n", "`rules` has no rule"),
        ("schema: nimctl.trust/1\nbuilt_here: maybe\nrules:\n- models: [m]\n  keys: [p256.pub]\n", "`maybe`"),
        (
            "schema: nimctl.trust/1\nbuilt_here:\nrules:\n- models: [m]\n  keys: [p256.pub]\n",
            "`built_here` has no value",
        ),
        ("schema: nimctl.trust/2\nrules: []\n", "written by a newer nimctl"),
        ("{", "keys/trust.yaml:"),
    ] {
        home.write("keys/trust.yaml", text);
        all_refused(&home, &[reason]);
        for command in others {
            of(&home, command).exits(3).has(&[reason]);
        }
    }
    fs_err::remove_file(home.path("keys/trust.yaml")).unwrap();
    all_refused(&home, &["cannot read the trust policy keys/trust.yaml"]);
    assert!(!home.path("dist").exists() && !home.path("new").exists());
    // The one in place by a variable is asked too; without one, nothing is.
    for command in [SELECT, VALIDATE, DOWNLOAD, CREATE] {
        let command = [command, &["--store", "t"]].concat();
        let absent = home.path("absent.yaml");
        home.run_with(&[("NIMCTL_TRUST", absent.to_str().unwrap())], &command).exits(3);
        assert_ne!(home.set_up(&command).code, Some(3));
    }
}

#[test]
fn what_nobody_signed_is_refused() {
    let home = home(&["1.0.0"]);
    pull_freely(&home, "1.0.0", &[]);
    all_refused(
        &home,
        &["it was pulled without a signature", "pull it again under the policy: `nimctl pull oci:"],
    );
    // That anything else was built here does not make it so.
    let accept = format!("schema: nimctl.trust/1\nbuilt_here: accept\nrules:\n{RULE}");
    home.write("keys/trust.yaml", &accept);
    all_refused(&home, &["it was pulled without a signature"]);
    // One that is of another key.
    home.set_up(&["sign", "1.0.0", "--key", "keys/other.key"]).exits(0);
    pull_freely(&home, "1.0.0", &["--key", "keys/other.pub", "--signature", "1.0.0.sig"]);
    all_refused(&home, &["the signature that it was pulled with is not accepted", "another key"]);
    // A policy that accepts it puts its own in the place of that.
    home.set_up(&["sign", "1.0.0", "--key", "keys/p256.key"]).exits(0);
    pull(&home, "1.0.0", &[]).exits(0);
    all_accepted(&home, "line 4");
    // And a key on the command line does not replace it.
    home.set_up(&["sign", "1.0.0", "--key", "keys/other.key"]).exits(0);
    pull_freely(&home, "1.0.0", &["--key", "keys/other.pub", "--signature", "1.0.0.sig"]);
    all_accepted(&home, "line 4");
    // Profiles of others have no signature.
    home.write(
        "out/model_manifest.yaml",
        "schema_version: '2.0'\nprofiles:\n- id: aaaa1\n  tags: { llm_engine: onnx }\n  workspace: { files: {} }\n",
    );
    of(&home, SELECT).exits(3).has(&["refuses onnx aaaa1: its id does not stand for its files"]);
    of(&home, DOWNLOAD).exits(3).has(&["refuses onnx aaaa1: its id does not stand for its files"]);
}

#[test]
fn what_a_key_accepted_is_judged_too() {
    let home = home(&["1.0.0"]);
    pull_freely(&home, "1.0.0", &["--key", "keys/p256.pub", "--signature", "1.0.0.sig"]);
    all_accepted(&home, "line 3");
    // A manifest may list what it wants below the id of a profile that is signed.
    let manifest = home.read("out/model_manifest.yaml");
    let refused = "its id does not stand for its files";
    home.write("out/model_manifest.yaml", manifest.replace("precision: fp32", "precision: int8"));
    of(&home, DOWNLOAD).exits(3).has(&["onnx-int8", refused]);
    of(&home, &[SELECT, &["--profile", "onnx-int8"]].concat()).exits(3).has(&[refused]);
    of(&home, &[SELECT, &["--profile", "onnx-fp16"]].concat()).exits(0);
    home.write("out/model_manifest.yaml", manifest.replace("contents.json:", "model.onnx:"));
    for command in [SELECT, DOWNLOAD, CREATE] {
        of(&home, command).exits(3).has(&[refused]);
    }
    // It takes no more than ids from a manifest.
    of(&home, VALIDATE).exits(5);
    assert!(!home.path("cache").exists() && !home.path("model-store").exists());
}

#[test]
fn what_was_built_here_needs_a_word_of_the_policy() {
    let home = home(&["1.0.0"]);
    let manifest = "manifests/r/model_manifest.yaml";
    let here: [&[&str]; 5] = [
        &["validate", "r.yaml"],
        &["validate", manifest],
        &["validate", "r.yaml", "--replay", "vision/opt/0", "--only", "onnx-fp16"],
        &["bench", "r.yaml"],
        &["select", "-m", manifest, "--device", "none"],
    ];
    let trust = ["--trust", "keys/trust.yaml"];
    let said = |command: &[&str]| home.set_up(&[command, &trust].concat());
    for command in here {
        said(command).exits(3).has(&["keys/trust.yaml refuses ", "built here", "`built_here: accept`"]);
    }
    let release: &[&str] = &["release", "r.yaml", "-o", "dist", "--no-bench"];
    said(release).exits(3).has(&["keys/trust.yaml refuses r.yaml: nobody has signed what is built here"]);
    assert!(!home.path("dist").exists() && !home.path("replay-vision-opt-0").exists());
    home.write("keys/trust.yaml", format!("schema: nimctl.trust/1\nbuilt_here: accept\nrules:\n{RULE}"));
    for command in here.into_iter().chain([release]) {
        assert_ne!(said(command).code, Some(3), "{command:?}");
    }
    said(here[4]).exits(0).has(&["accepted by `built_here` of keys/trust.yaml (--trust)"]);
    home.set_up(&["trust", "check", "keys/trust.yaml"])
        .exits(0)
        .has(&["what is built on this host is accepted"]);
    // What is here under a signature too needs no word.
    policy(&home, RULE);
    let pull = ["pull", "oci:layout-1.0.0", "--all", "--signature", "1.0.0.sig"];
    home.set_up(&[&pull[..], &trust].concat()).exits(0);
    for command in here {
        assert_ne!(said(command).code, Some(3), "{command:?}");
    }
}

#[test]
fn a_signature_is_of_one_profile() {
    let home = home(&["1.0.0"]);
    pull(&home, "1.0.0", &["-o", "out"]).exits(0);
    let ids = ids(&home);
    let kept = |id: &str| format!("t/nimctl/signed/{id}.json");
    let [first, second] = [0, 1].map(|place| home.read(&kept(&ids[place])));
    let select = |id: &str| of(&home, &[SELECT, &["--profile", id]].concat());
    // Moved to another profile.
    home.write(&kept(&ids[0]), &second);
    select(&ids[0]).exits(3).has(&["it does not cover profiles/", "as it was kept"]);
    // With another passport in it.
    let swapped = |with: &str| {
        let (mut kept, other): (Value, Value) =
            (serde_json::from_str(&first).unwrap(), serde_json::from_str(&second).unwrap());
        kept[with] = other[with].clone();
        kept.to_string()
    };
    home.write(&kept(&ids[0]), swapped("passport"));
    select(&ids[0]).exits(3).has(&["it does not cover profiles/"]);
    // Of the same release: the same signature.
    home.write(&kept(&ids[0]), swapped("signature"));
    select(&ids[0]).exits(0);
    let better = first.replace("built, not run", "executed, perhaps");
    assert_ne!(better, first);
    home.write(&kept(&ids[0]), better);
    select(&ids[0]).exits(3).has(&["it does not cover profiles/"]);
    // Not there, or damaged: not signed.
    home.write(&kept(&ids[0]), &first[..first.len() / 2]);
    select(&ids[0]).exits(3).has(&["it was pulled without a signature"]);
    let fsck = home.set_up(&["store", "fsck", "--store", "t"]);
    fsck.exits(3).has(&[&format!("nimctl/signed/{}.json", ids[0])]);
    assert!(!home.path(&kept(&ids[0])).exists());
    select(&ids[0]).exits(3).has(&["it was pulled without a signature"]);
    home.write(&kept(&ids[0]), "{\"schema\": \"nimctl.signed-profile/2\", \"what\": []}");
    select(&ids[0]).exits(1).has(&["written by a newer nimctl"]);
    home.write(&kept(&ids[0]), &first);
    // The passport in the store says what is loaded.
    let passport = format!("t/nimctl/passports/{}.json", ids[0]);
    let mut changed: Value = serde_json::from_str(&home.read(&passport)).unwrap();
    changed["graphs"]["vision"]["lowering"]["outputs"][0]["sha256"] = json!(Sha256::of(b"x"));
    home.write(&passport, changed.to_string());
    of(&home, &["validate", &ids[0]])
        .exits(3)
        .has(&["its passport here names other files than the signed one"]);
    of(&home, &["validate", &ids[1]]).exits(5);
}

#[test]
fn the_signature_goes_with_its_profile() {
    let home = home(&["1.0.0"]);
    pull(&home, "1.0.0", &["-o", "out"]).exits(0);
    let signed = || fs_err::read_dir(home.path("t/nimctl/signed")).unwrap().count();
    home.set_up(&["store", "gc", "--store", "t"]).exits(0);
    home.set_up(&["store", "fsck", "--store", "t"]).exits(0);
    assert_eq!(signed(), 2);
    home.set_up(&["store", "gc", "--store", "t", "--max-size", "1B"]);
    assert_eq!(signed(), 0);
    // What was the newest stays so.
    assert_eq!(fs_err::read_dir(home.path("t/nimctl/newest-releases")).unwrap().count(), 1);
    home.write(&format!("t/nimctl/signed/{}.json", ids(&home)[0]), "{}");
    home.set_up(&["store", "gc", "--store", "t", "--dry-run"])
        .exits(0)
        .has(&["nimctl/signed/", "its profile is gone"]);
    home.set_up(&["store", "gc", "--store", "t"]).exits(0);
    assert_eq!(signed(), 0);
}

#[test]
fn a_signed_release_folder_speaks_for_its_profiles() {
    let home = home(&["1.0.0"]);
    let trust = ["--store", "s", "--trust", "keys/trust.yaml"];
    let said = |command: &[&str]| home.set_up(&[command, &trust].concat());
    let select: &[&str] = &["select", "-m", "1.0.0/model_manifest.yaml", "--device", "none"];
    // The store has no signature of it.
    said(select).exits(0).has(&["accepted by the rule in line 3"]);
    said(&["validate", "1.0.0"]).exits(5).has(&["accepted by the rule in line 3"]);
    said(&["validate", "1.0.0/model_manifest.yaml"]).exits(5);
    let create: &[&str] = &[
        "create-model-store",
        "--manifest-file",
        "1.0.0",
        "-p",
        "onnx-fp16",
        "-m",
        "models",
        "--cache",
        "cache",
    ];
    home.set_up(&["sign", "1.0.0", "--key", "keys/other.key"]).exits(0);
    for command in [select, &["validate", "1.0.0"], create] {
        said(command).exits(3).has(&["keys/trust.yaml does not accept the signature"]);
    }
    home.set_up(&["sign", "1.0.0", "--key", "keys/p256.key"]).exits(0);
    said(create).exits(0);
    fs_err::remove_dir_all(home.path("models")).unwrap();
    fs_err::remove_dir_all(home.path("cache")).unwrap();
    home.write("1.0.0/release-notes.md", "changed");
    for command in [select, &["validate", "1.0.0"], create] {
        said(command).exits(3).has(&["1.0.0 is not as it was signed: release-notes.md"]);
    }
    assert!(!home.path("cache").exists() && !home.path("models").exists());
    // Without a signature beside it, that of the store is asked for.
    fs_err::remove_file(home.path("1.0.0.sig")).unwrap();
    said(select).exits(3).has(&["it was pulled without a signature"]);
}

#[test]
fn a_signature_of_another_model_is_refused() {
    let home = home(&["1.0.0"]);
    fs_err::rename(home.path("1.0.0.sig"), home.path("m.sig")).unwrap();
    release_of(&home, "n", "1.0.0-n");
    let pull = |layout: &str, signature: &str| {
        let pull = ["pull", layout, "--all", "--store", "t", "-o", "out", "--signature", signature];
        home.set_up(&[&pull[..], &["--trust", "keys/trust.yaml"]].concat())
    };
    // Right, by the right key, and for a model that no rule is for.
    pull("oci:layout-1.0.0-n", "1.0.0-n.sig").exits(3).has(&["refuses n 1.0.0-n: no rule is for this model"]);
    pull("oci:layout-1.0.0-n", "m.sig").exits(3).has(&["the signature is of other files"]);
    pull("oci:layout-1.0.0", "1.0.0-n.sig").exits(3).has(&["the signature is of other files"]);
    assert!(!home.path("out").exists() && !home.path("t/nimctl/signed").exists());
    pull("oci:layout-1.0.0", "m.sig").exits(0);
}

/// Makes a folder in the OCI image layout that has the documents of one release and the profiles of another.
fn mixed(home: &Home, documents_of: &str, profiles_of: &str) {
    let index = |release: &str| -> Value {
        let layout: Value =
            serde_json::from_str(&home.read(&format!("layout-{release}/index.json"))).unwrap();
        let digest = layout["manifests"][0]["digest"].as_str().unwrap().replace("sha256:", "");
        serde_json::from_str(&home.read(&format!("layout-{release}/blobs/sha256/{digest}"))).unwrap()
    };
    let entries = |release: &str, profiles: bool| -> Vec<Value> {
        let is_profile = |entry: &Value| entry["artifactType"].as_str().unwrap().contains("profile");
        let entries = index(release)["manifests"].as_array().unwrap().clone();
        entries.into_iter().filter(|entry| is_profile(entry) == profiles).collect()
    };
    let mut mixed = index(documents_of);
    let manifests = [entries(documents_of, false), entries(profiles_of, true)].concat();
    assert!(
        manifests.len() == index(profiles_of)["manifests"].as_array().unwrap().len() && manifests.len() > 2
    );
    mixed["manifests"] = manifests.into();
    for release in [documents_of, profiles_of] {
        for entry in fs_err::read_dir(home.path(&format!("layout-{release}/blobs/sha256"))).unwrap() {
            let entry = entry.unwrap();
            let name = format!("mixed/blobs/sha256/{}", entry.file_name().to_str().unwrap());
            home.write(&name, fs_err::read(entry.path()).unwrap());
        }
    }
    let text = mixed.to_string();
    let digest = Sha256::of(text.as_bytes());
    home.write(&format!("mixed/blobs/sha256/{}", digest.to_hex()), &text);
    let mut layout: Value =
        serde_json::from_str(&home.read(&format!("layout-{documents_of}/index.json"))).unwrap();
    layout["manifests"][0]["digest"] = json!(digest);
    layout["manifests"][0]["size"] = json!(text.len());
    home.write("mixed/index.json", layout.to_string());
    home.write("mixed/oci-layout", home.read(&format!("layout-{documents_of}/oci-layout")));
}

#[test]
fn the_manifest_of_one_release_with_the_files_of_another_is_refused() {
    let home = home(&["1.0.0", "2.0.0"]);
    mixed(&home, "1.0.0", "2.0.0");
    let pull = |signature: &str, trusted: [&str; 2]| {
        let pull = ["pull", "oci:mixed", "--all", "--store", "t", "-o", "out", "--signature", signature];
        home.set_up(&[&pull[..], &trusted].concat())
    };
    for trusted in [["--trust", "keys/trust.yaml"], ["--key", "keys/p256.pub"]] {
        pull("1.0.0.sig", trusted).exits(3).has(&["the signature does not cover profiles/"]);
        pull("2.0.0.sig", trusted).exits(3).has(&["the signature is of other files: "]);
    }
    assert!(!home.path("out").exists() && !home.path("t/nimctl/signed").exists());
}

#[test]
fn what_was_not_executed_is_refused_where_a_rule_wants_it() {
    let home = release_home();
    validated(&home, "static", 0.9994);
    home.set_up(&["sign", "release", "--key", "keys/p256.key"]).exits(0);
    fs_err::rename(home.path("release.sig"), home.path("static.sig")).unwrap();
    home.set_up(&["publish", "release", "--to", "oci:layout-static"]).exits(0);
    let with = |require: &str| policy(&home, &format!("{RULE}  require: {{ {require} }}\n"));
    with("executed_on: any");
    let reason = "was validated as `static`, and the rule requires `executed_on` any";
    pull(&home, "static", &["-o", "out"]).exits(3).has(&["rule in line 3: ", reason]);
    assert!(!home.path("out").exists() && !home.path("t").exists());
    with("min_cosine: 0.999");
    pull(&home, "static", &["-o", "out"]).exits(0);
    all_accepted(&home, "line 3");
    with("executed_on: any");
    all_refused(&home, &["rule in line 3: ", reason]);
    with("min_cosine: 0.9995");
    all_refused(&home, &["is 0.9994, and the rule requires `min_cosine` 0.9995"]);
    // What this machine finds does not count: somebody else signed other numbers.
    with("executed_on: any");
    for id in ids(&home) {
        let passport = format!("t/nimctl/passports/{id}.json");
        let changed = home.read(&passport).replace("\"static\"", "\"executed\"");
        assert!(changed.contains("\"executed\""));
        home.write(&passport, changed);
    }
    all_refused(&home, &[reason]);
}
