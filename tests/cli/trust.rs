//! Trust policies: `trust init`, `trust check`, and `verify` of a release folder with one.

use nimctl::digest::Sha256;
use nimctl::release::Sums;
use serde_json::json;

use crate::distribution::published;
use crate::home::Home;
use crate::signing::fixtures;

/// A home with a release folder of the model `m` 1.0.0, unsigned, and keys.
pub(crate) fn release_home() -> Home {
    let home = published();
    home.set_up(&["pull", "oci:layout", "--all", "--store", "s", "-o", "release"]).exits(0);
    for name in
        ["p256.key", "p256.pub", "other.key", "other.pub", "leaf.key", "leaf.pem", "middle.pem", "root.pem"]
    {
        home.write(&format!("keys/{name}"), fs_err::read(fixtures().join(name)).unwrap());
    }
    home
}

/// The same, signed with `p256.key`.
fn signed_home() -> Home {
    let home = release_home();
    home.set_up(&["sign", "release", "--key", "keys/p256.key"]).exits(0);
    home
}

/// Writes a policy with these rules to `keys/trust.yaml`.
pub(crate) fn policy(home: &Home, rules: &str) {
    home.write("keys/trust.yaml", format!("schema: nimctl.trust/1\nrules:\n{rules}"));
}

const RULE: &str = "- models: [m]\n  keys: [p256.pub]\n";
const VERIFY: &[&str] = &["verify", "release", "--trust", "keys/trust.yaml"];

/// Rewrites what a file of the release says, in `SHA256SUMS` too.
fn rewrite(home: &Home, name: &str, change: impl Fn(String) -> String) {
    let changed = change(home.read(&format!("release/{name}")));
    let Sums(mut sums) = Sums::parse(&home.read("release/SHA256SUMS")).unwrap();
    sums.insert(name.into(), Sha256::of(changed.as_bytes())).expect("it is listed");
    home.write(&format!("release/{name}"), changed);
    home.write("release/SHA256SUMS", Sums(sums).to_text());
}

/// The passports of the release, by path in it.
fn passports(home: &Home) -> Vec<String> {
    let Sums(sums) = Sums::parse(&home.read("release/SHA256SUMS")).unwrap();
    let passports = sums.into_keys().filter(|name| name.ends_with("/passport.json"));
    passports.collect()
}

/// Makes every passport say that its profile was validated in this way, on a GPU, with this cosine.
pub(crate) fn validated(home: &Home, way: &str, cosine: f64) {
    for name in passports(home) {
        rewrite(home, &name, |text| {
            let mut passport: serde_json::Value = serde_json::from_str(&text).unwrap();
            let gate = json!({
                "gate": "row_cosine", "subject": "vision/y", "shapes": "opt", "value": cosine, "threshold": 0.9,
                "passed": true, "worst_row": 0,
            });
            passport["validation"] = json!({ way: {
                "passed": true, "ran_on": "TensorRT 11.4.0.1 on NVIDIA L4 (8.9)", "not_executed_because": null,
                "failure": null, "gates": [gate],
            } });
            passport.to_string()
        });
    }
}

#[test]
fn a_first_policy_is_written_checked_and_used() {
    let home = signed_home();
    home.run(&["trust", "init", "keys/p256.pub", "--model", "m", "-o", "keys/trust.yaml"]).exits(0);
    assert!(
        home.read("keys/trust.yaml").contains("p256.pub") && !home.read("keys/trust.yaml").contains("keys/")
    );
    home.run(&["trust", "check", "keys/trust.yaml"]).exits(0);
    home.run(&["trust", "check", "keys/trust.yaml", "--output", "json"]).exits(0);
    home.run(VERIFY).exits(0).has(&["m 1.0.0: accepted by the rule in line 4 of keys/trust.yaml (--trust)"]);
    home.run(&["trust", "init", "keys/other.pub", "--model", "*", "-o", "keys/trust.yaml"]).exits(1);
    home.run(VERIFY).exits(0);
    home.run(&["trust", "init", "keys/other.pub", "--model", "*", "-o", "keys/trust.yaml", "--force"])
        .exits(0);
    home.run(VERIFY).exits(3);
    // Nobody's key is a policy, and no pattern of models either.
    home.run(&["trust", "init", "keys/p256.key", "--model", "m", "-o", "new.yaml"]).exits(1);
    home.run(&["trust", "init", "keys/p256.pub", "--model", "", "-o", "new.yaml"]).exits(1);
    home.run(&["trust", "init", "absent.pub", "--model", "m", "-o", "new.yaml"]).exits(1);
    home.run(&["trust", "check", "absent.yaml"]).exits(1);
    assert!(!home.path("new.yaml").exists());
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn the_policy_in_place_decides() {
    let mut home = signed_home();
    policy(&home, RULE);
    // As without policies.
    home.set_up(&["verify", "release"]).exits(0).has(&["all files match"]);
    let user = "configuration/nimctl/trust.yaml";
    home.write(user, "schema: nimctl.trust/1\nrules: [{ models: [m], keys: [../../keys/other.pub] }]\n");
    home.set("XDG_CONFIG_HOME", home.path("configuration"));
    home.set_up(&["verify", "release"]).exits(3).has(&["configuration/nimctl/trust.yaml does not accept"]);
    home.set("NIMCTL_TRUST", home.path("keys/trust.yaml"));
    home.set_up(&["verify", "release"]).exits(0).has(&["keys/trust.yaml (NIMCTL_TRUST)"]);
    home.set_up(&["verify", "release", "--trust", user]).exits(3);
    home.set_up(&["verify", "release", "--key", "keys/p256.pub"]).exits(0);
    // One that is not there, or can't be read, accepts nothing.
    home.set("NIMCTL_TRUST", home.path("absent.yaml"));
    home.set_up(&["verify", "release"]).exits(3).has(&["cannot read the trust policy", "absent.yaml"]);
    policy(&home, "- models: [m]\n  keys: [gone.pub]\n");
    home.set_up(VERIFY).exits(3).has(&["keys/trust.yaml:4:10: the key `gone.pub`: "]);
    policy(&home, "- models: [m]\n  key: [p256.pub]\n");
    home.set_up(VERIFY).exits(3).has(&["keys/trust.yaml:4:3: unknown field `key`"]);
    let mut home = signed_home();
    let folder = home.folder().to_path_buf();
    home.set("HOME", folder);
    home.write(".config/nimctl/trust.yaml", "");
    home.set_up(&["verify", "release"]).exits(3).has(&[".config/nimctl/trust.yaml"]);
}

#[test]
fn each_refusal_has_its_rule_and_fact() {
    let home = release_home();
    policy(&home, RULE);
    home.run(VERIFY).exits(3).has(&["release has no signature"]);
    home.set_up(&["sign", "release", "--key", "keys/other.key"]).exits(0);
    home.run(VERIFY).exits(3).has(&["keys/trust.yaml does not accept the signature"]);
    home.set_up(&["sign", "release", "--key", "keys/p256.key"]).exits(0);
    home.run(VERIFY).exits(0);
    for (rules, fact) in [
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
        home.run(VERIFY).exits(3).has(&[fact]);
    }
    // What the folder is called says nothing.
    fs_err::rename(home.path("release"), home.path("n")).unwrap();
    fs_err::rename(home.path("release.sig"), home.path("n.sig")).unwrap();
    policy(&home, "- models: [n]\n  keys: [p256.pub]\n");
    home.run(&["verify", "n", "--trust", "keys/trust.yaml"]).exits(3).has(&["refuses m 1.0.0"]);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn signed_passports_say_what_was_executed() {
    let home = release_home();
    validated(&home, "executed", 0.9994);
    home.set_up(&["sign", "release", "--key", "keys/p256.key"]).exits(0);
    let with = |require: &str| policy(&home, &format!("{RULE}  require: {{ {require} }}\n"));
    with("executed_on: [8.9], min_cosine: 0.999");
    home.set_up(VERIFY).exits(0);
    with("executed_on: [9.0]");
    home.set_up(VERIFY).exits(3).has(&["on NVIDIA L4 (8.9), and the rule requires `executed_on` 9.0"]);
    with("min_cosine: 0.9995");
    home.set_up(VERIFY).exits(3).has(&["is 0.9994, and the rule requires `min_cosine` 0.9995"]);
    // Better numbers that nobody signed are a changed file.
    validated(&home, "executed", 0.9999);
    home.set_up(VERIFY)
        .exits(3)
        .has(&["/passport.json: its bytes are not those that were signed", "3 differences"]);
}

#[test]
fn every_file_must_be_signed_and_fit() {
    let home = release_home();
    policy(&home, RULE);
    let passport = passports(&home).remove(0);
    let left_out = format!("release/{passport}");
    home.set_up(&["sign", "release", "--key", "keys/p256.key", "--ignore", &left_out]).exits(0);
    home.set_up(&["verify", "release", "--key", "keys/p256.pub"]).exits(0);
    home.set_up(VERIFY).exits(3).has(&[&format!("{passport}: was not signed")]);
    home.set_up(&[VERIFY, &["--ignore-unsigned-files"]].concat()).exits(2);
    home.set_up(&[VERIFY, &["--ignore", &left_out]].concat()).exits(2);
    home.set_up(&["verify", "release", "--allow-symlinks"]).exits(2).has(&["--trust"]);
    // Signed documents of two releases.
    let manifest = home.read("release/model_manifest.yaml");
    rewrite(&home, "model_manifest.yaml", |text| text.replacen("1.0.0", "2.0.0", 1));
    assert_ne!(home.read("release/model_manifest.yaml"), manifest);
    home.set_up(&["sign", "release", "--key", "keys/p256.key"]).exits(0);
    home.set_up(VERIFY).exits(3).has(&["is of m 1.0.0, and model_manifest.yaml is of m 2.0.0"]);
    // As signed, and no release.
    rewrite(&home, "model_manifest.yaml", |_| manifest.clone());
    home.write("release/stranger", "");
    home.set_up(&["sign", "release", "--key", "keys/p256.key"]).exits(0);
    home.set_up(VERIFY).exits(3).has(&["stranger: SHA256SUMS does not list it", "1 problem"]);
    home.write("release.tar", "");
    home.set_up(&["verify", "release.tar", "--trust", "keys/trust.yaml"])
        .exits(1)
        .has(&["not a release folder"]);
}

#[test]
fn an_authority_is_trusted_for_some_names() {
    let home = release_home();
    let certificates = ["--certificate", "keys/leaf.pem", "--chain", "keys/middle.pem"];
    home.set_up(&[&["sign", "release", "--key", "keys/leaf.key"], &certificates[..]].concat()).exits(0);
    let rule = |subject: &str| {
        policy(
            &home,
            &format!("- models: [m]\n  certificates: {{ roots: [root.pem], subjects: ['{subject}'] }}\n"),
        );
    };
    rule("CN=Test *");
    home.set_up(VERIFY).exits(0).has(&["signed by CN=Test signer"]);
    let view = home.set_up(&[VERIFY, &["--output", "json"]].concat()).exits(0).json();
    assert_eq!((&view["schema"], &view["rule_line"]), (&json!("nimctl.trust-verification/1"), &json!(3)));
    rule("CN=Somebody");
    home.set_up(VERIFY).exits(3).has(&["signed by CN=Test signer, and the rule accepts `CN=Somebody`"]);
}
