//! `manifest lint`, `diff`, `merge`, `convert` and `import`, and manifests that mean harm.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::support::{Said, User};

/// A manifest of schema 2.0 with the given profiles, written as YAML flow mappings.
fn manifest(profiles: &[&str]) -> String {
    let profiles: String = profiles.iter().map(|profile| format!("- {{{profile}}}\n")).collect();
    format!("schema_version: '2.0'\nmodel: m\nrelease: 1.0.0\nprofiles:\n{profiles}")
}

const L4: &str = "id: a, tags: {gpu: l4}, workspace: {files: {m.plan: {uri: u, checksum: 'blake3:3ae7d805f6789a6402acb70ad4096a85a56bf6804eaf25c0493ac697548d30b5'}}}";
const T4: &str = "id: b, tags: {gpu: t4}, workspace: {files: {m.plan: {uri: v}}}";

#[test]
fn lint_names_file_line_and_rule() {
    let user = User::new();
    user.write("m.yaml", &manifest(&[L4, T4, "id: c, tags: {gpu: t4}"]));
    let said = user.run(&["manifest", "lint", "m.yaml"]);
    insta::assert_snapshot!(said.text);
    let json = user.run(&["manifest", "lint", "m.yaml", "--output", "json"]);
    json.expect(3, &["\"schema\": \"nimctl.manifest-lint/1\"", "\"rule\": \"equal-tags\"", "\"line\": 7"]);
}

#[test]
fn our_own_manifests_are_clean_and_come_back_byte_for_byte() {
    let user = User::new();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/nvclip-demo/model_manifest.yaml");
    user.run(&["manifest", "lint", path]).expect(0, &["10 profiles: 0 errors, 0 warnings, 0 notes"]);
    let text = fs_err::read_to_string(path).unwrap();
    for to in ["same", "2.0"] {
        let said = user.run(&["manifest", "convert", path, "--to", to]);
        said.expect(0, &[]);
        assert_eq!(said.stdout, text);
    }
    user.run(&["manifest", "diff", path, path, "--exit-code"]).expect(0, &["0 changed, 10 the same"]);
}

#[test]
fn diff_says_per_profile_what_changed() {
    let user = User::new();
    user.write("old.yaml", &manifest(&[L4, T4]));
    let rebuilt =
        L4.replace("id: a", "id: a2").replace("{gpu: l4}", "{gpu: l4, content: x}").replace("3ae7", "4ae7");
    user.write("new.yaml", &manifest(&[&rebuilt, "id: c, tags: {gpu: l40s}"]));
    insta::assert_snapshot!(user.run(&["manifest", "diff", "old.yaml", "new.yaml"]).text);
    user.run(&["manifest", "diff", "old.yaml", "new.yaml", "--exit-code"]).expect(3, &[]);
    user.run(&["manifest", "diff", "old.yaml", "new.yaml", "--output", "json"])
        .expect(0, &["\"schema\": \"nimctl.manifest-diff/1\"", "\"m.plan\": \"bytes\""]);
}

#[test]
fn merge_and_convert_write_whole_files_or_none() {
    let user = User::new();
    user.write("a.yaml", &manifest(&[L4]));
    user.write("b.yaml", &manifest(&[T4]));
    user.run(&["manifest", "merge", "a.yaml", "b.yaml", "-o", "both.yaml"]).expect(0, &["wrote both.yaml"]);
    user.run(&["list-model-profiles", "-m", "both.yaml", "--device", "t4"])
        .expect(0, &["runnable:\n  - b (t4)"]);
    user.write("other.yaml", &manifest(&[&T4.replace("t4", "l4")]));
    user.run(&["manifest", "merge", "a.yaml", "other.yaml", "-o", "both.yaml"])
        .expect(1, &["profiles a and b have equal tags"]);
    user.run(&["list-model-profiles", "-m", "both.yaml", "--device", "t4"])
        .expect(0, &["runnable:\n  - b (t4)"]);
    user.write("old.yaml", "a: {model: m, tags: {gpu: l4}, workspace: !workspace {components: [{dst: e, src: {files: [!name f]}}]}}\n");
    user.run(&["manifest", "convert", "old.yaml"]).expect(0, &["schema_version: \"2.0\"", "e/f: {}"]);
    user.run(&["manifest", "convert", "old.yaml", "--to", "same"])
        .expect(0, &["workspace: !workspace", "- !name f"]);
}

#[test]
fn import_takes_files_from_a_folder() {
    let user = User::new();
    user.write(
        "p.yaml",
        "schema_version: '1.0'\nmodel: acme/cv\nrelease: rc1\nsimple:\n  profiles:\n  - {model_version: v1, tags: {gpu: a6000}}\n",
    );
    user.write("files/v1/sub/m.engine", "x");
    user.write("files/v1/.hidden", "x");
    user.run(&["manifest", "import", "p.yaml"]).expect(0, &["has no files; --files names the folder"]);
    user.run(&["manifest", "import", "p.yaml", "--files", "files"]).expect(
        0,
        &[
            "425dcb3ef646e497d5a50bbd1eb1169c9f33f4253f36669bb428ef250e2447cd",
            "uri: ngc://acme/cv:v1?file=sub/m.engine\n        checksum: blake3:3ae7d805f6789a6402acb70ad4096a85a56bf6804eaf25c0493ac697548d30b5\n",
        ],
    );
    user.run(&["list-model-profiles", "-m", "p.yaml"])
        .expect(1, &["is a profiles file", "nimctl manifest import"]);
}

/// Runs in 1 GB of memory and 10 seconds of processor time: beyond that the system ends it with a signal.
fn confined(user: &User, arguments: &[&str]) -> Said {
    let mut command = Command::new("sh");
    let inner = user.command(arguments);
    command
        .args(["-c", "ulimit -v 1000000; ulimit -t 10; exec \"$@\"", "sh"])
        .arg(inner.get_program())
        .args(inner.get_args())
        .current_dir(user.home.path())
        .env_clear()
        .env("NIMCTL_DATA_DIR", user.path("data"));
    user.said(&command.output().unwrap())
}

#[test]
fn manifests_that_mean_harm() {
    let user = User::new();
    let levels: String = (1..30)
        .map(|level| format!("l{level}: &l{level} [{}]\n", vec![format!("*l{}", level - 1); 10].join(", ")))
        .collect();
    user.write("alias-bomb.yaml", &format!("schema_version: '2.0'\nl0: &l0 [x, x, x, x]\n{levels}"));
    user.write("circle.yaml", "schema_version: '2.0'\nprofiles: &p\n- id: a\n  tags: *p\n");
    user.write("deep.yaml", &"[".repeat(1_000_000));
    user.write("deep-block.yaml", &"- ".repeat(100_000));
    user.write("twice.yaml", &manifest(&[L4, &L4.replace("l4", "t4")]));
    user.write("id-with-path.yaml", &manifest(&["id: ../../etc/cron.d/x, tags: {gpu: l4}"]));
    user.write(
        "file-outside.yaml",
        &manifest(&["id: a, workspace: {files: {../../.ssh/authorized_keys: {uri: u}}}"]),
    );
    user.write("escapes.yaml", &manifest(&["id: \"a\\e[2Jb\", tags: {gpu: l4}"]));
    fs_err::write(user.path("latin1.yaml"), b"schema_version: '2.0'\nmodel: caf\xe9\n").unwrap();
    fs_err::write(user.path("zeros.yaml"), vec![0; 1 << 20]).unwrap();
    // 100 MB, most of which is never read: a list that goes on.
    let big = fs_err::File::create(user.path("big.yaml")).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(b'x'), 100 << 20), &mut big.into_file()).unwrap();
    user.write("many-nodes.yaml", &format!("schema_version: '2.0'\nx: [{}]\n", "a,".repeat(9_000_000)));
    symlink("/dev/zero", user.path("endless.yaml")).unwrap();
    let mut text = String::new();
    for name in [
        "alias-bomb",
        "circle",
        "deep",
        "deep-block",
        "twice",
        "id-with-path",
        "file-outside",
        "escapes",
        "latin1",
        "zeros",
        "big",
        "many-nodes",
        "endless",
    ] {
        let said = confined(&user, &["list-model-profiles", "-m", &format!("{name}.yaml"), "--device", "l4"]);
        text.push_str(&format!("{name}: {}\n", said.text.replace("\n--- stdout\n--- stderr\n", ": ")));
    }
    insta::assert_snapshot!(text);
}

/// A pattern that would try forever is no reason to wait, and no reason to fail.
#[test]
fn patterns_without_end() {
    let user = User::new();
    let profiles = [
        "id: endless, tags: {product_name_regex: '^(?=((.*)*)*)((.*)*)*\\1z$'}",
        "id: nested, tags: {product_name_regex: '^((((.+)+)+)+)+(?!x)$y'}",
        "id: large, tags: {product_name_regex: '(?!x)((a{1,900}){1,900}){1,900}'}",
        "id: broken, tags: {product_name_regex: '(['}",
        "id: generic, tags: {backend: onnx}",
    ];
    user.write("m.yaml", &manifest(&profiles));
    let said = confined(&user, &["list-model-profiles", "-m", "m.yaml", "--device", "l4", "--explain"]);
    insta::assert_snapshot!(said.text);
    confined(&user, &["manifest", "lint", "m.yaml"]).expect(3, &["error[unreachable-selector]: endless"]);
}
