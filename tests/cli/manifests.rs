//! `manifest lint`, `diff`, `merge`, `convert` and `import`, and manifests that mean harm.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::home::{Home, Printed};

/// A manifest of schema 2.0 with the given profiles, written as YAML flow mappings.
fn manifest(profiles: &[&str]) -> String {
    let profiles: String = profiles.iter().map(|profile| format!("- {{{profile}}}\n")).collect();
    format!("schema_version: '2.0'\nmodel: m\nrelease: 1.0.0\nprofiles:\n{profiles}")
}

const L4: &str = "id: a, tags: {gpu: l4}, workspace: {files: {m.plan: {uri: u, checksum: 'blake3:3ae7d805f6789a6402acb70ad4096a85a56bf6804eaf25c0493ac697548d30b5'}}}";
const T4: &str = "id: b, tags: {gpu: t4}, workspace: {files: {m.plan: {uri: v}}}";

#[test]
fn lint_names_file_line_and_rule() {
    let home = Home::new();
    home.write("m.yaml", manifest(&[L4, T4, "id: c, tags: {gpu: t4}"]));
    insta::assert_snapshot!(home.run(&["manifest", "lint", "m.yaml"]));
    let json = home.run(&["manifest", "lint", "m.yaml", "--output", "json"]);
    insta::assert_snapshot!("lint_json", json.exits(3));
}

#[test]
fn our_own_manifests_are_clean_and_come_back_byte_for_byte() {
    let home = Home::new();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/nvclip-demo/model_manifest.yaml");
    home.run(&["manifest", "lint", path]).exits(0);
    let text = fs_err::read_to_string(path).unwrap();
    for to in ["same", "2.0"] {
        let printed = home.set_up(&["manifest", "convert", path, "--to", to]);
        printed.exits(0);
        assert_eq!(printed.stdout, text);
    }
    home.run(&["manifest", "diff", path, path, "--exit-code"]).exits(0);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn diff_says_per_profile_what_changed() {
    let home = Home::new();
    home.write("old.yaml", manifest(&[L4, T4]));
    let rebuilt =
        L4.replace("id: a", "id: a2").replace("{gpu: l4}", "{gpu: l4, content: x}").replace("3ae7", "4ae7");
    home.write("new.yaml", manifest(&[&rebuilt, "id: c, tags: {gpu: l40s}"]));
    insta::assert_snapshot!(home.run(&["manifest", "diff", "old.yaml", "new.yaml"]));
    home.run(&["manifest", "diff", "old.yaml", "new.yaml", "--exit-code"]).exits(3);
    let json = home.run(&["manifest", "diff", "old.yaml", "new.yaml", "--output", "json"]);
    insta::assert_snapshot!("diff_json", json.exits(0));
}

#[test]
fn merge_and_convert_write_whole_files_or_none() {
    let home = Home::new();
    home.write("a.yaml", manifest(&[L4]));
    home.write("b.yaml", manifest(&[T4]));
    home.run(&["manifest", "merge", "a.yaml", "b.yaml", "-o", "both.yaml"]).exits(0);
    home.run(&["list-model-profiles", "-m", "both.yaml", "--device", "t4"]).exits(0);
    home.write("other.yaml", manifest(&[&T4.replace("t4", "l4")]));
    home.run(&["manifest", "merge", "a.yaml", "other.yaml", "-o", "both.yaml"]).exits(1);
    home.run(&["list-model-profiles", "-m", "both.yaml", "--device", "t4"]).exits(0);
    home.write("old.yaml", "a: {model: m, tags: {gpu: l4}, workspace: !workspace {components: [{dst: e, src: {files: [!name f]}}]}}\n");
    home.run(&["manifest", "convert", "old.yaml"]).exits(0);
    home.run(&["manifest", "convert", "old.yaml", "--to", "same"]).exits(0);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn import_takes_files_from_a_folder() {
    let home = Home::new();
    home.write(
        "p.yaml",
        "schema_version: '1.0'\nmodel: acme/cv\nrelease: rc1\nsimple:\n  profiles:\n  - {model_version: v1, tags: {gpu: a6000}}\n",
    );
    home.write("files/v1/sub/m.engine", "x");
    home.write("files/v1/.hidden", "x");
    home.run(&["manifest", "import", "p.yaml"]).exits(0);
    home.run(&["manifest", "import", "p.yaml", "--files", "files"]).exits(0);
    home.run(&["list-model-profiles", "-m", "p.yaml"]).exits(1);
    insta::assert_snapshot!(home.transcript_with_digests());
}

/// Runs in 1 GB of memory and 10 seconds of processor time: beyond that the system ends it with a signal.
fn confined(home: &Home, arguments: &[&str]) -> Printed {
    let mut command = Command::new("sh");
    let inner = home.command(arguments);
    command
        .args(["-c", "ulimit -v 1000000; ulimit -t 10; exec \"$@\"", "sh"])
        .arg(inner.get_program())
        .args(inner.get_args())
        .current_dir(home.folder())
        .env_clear()
        .env("NIMCTL_DATA_DIR", home.path("data"));
    home.printed(&command.output().unwrap())
}

#[test]
fn manifests_that_mean_harm() {
    let home = Home::new();
    let levels: String = (1..30)
        .map(|level| format!("l{level}: &l{level} [{}]\n", vec![format!("*l{}", level - 1); 10].join(", ")))
        .collect();
    home.write("alias-bomb.yaml", format!("schema_version: '2.0'\nl0: &l0 [x, x, x, x]\n{levels}"));
    home.write("circle.yaml", "schema_version: '2.0'\nprofiles: &p\n- id: a\n  tags: *p\n");
    home.write("deep.yaml", "[".repeat(1_000_000));
    home.write("deep-block.yaml", "- ".repeat(100_000));
    home.write("twice.yaml", manifest(&[L4, &L4.replace("l4", "t4")]));
    home.write("id-with-path.yaml", manifest(&["id: ../../etc/cron.d/x, tags: {gpu: l4}"]));
    home.write(
        "file-outside.yaml",
        manifest(&["id: a, workspace: {files: {../../.ssh/authorized_keys: {uri: u}}}"]),
    );
    home.write("escapes.yaml", manifest(&["id: \"a\\e[2Jb\", tags: {gpu: l4}"]));
    fs_err::write(home.path("latin1.yaml"), b"schema_version: '2.0'\nmodel: caf\xe9\n").unwrap();
    fs_err::write(home.path("zeros.yaml"), vec![0; 1 << 20]).unwrap();
    // 100 MB, most of which is never read: a list that goes on.
    let big = fs_err::File::create(home.path("big.yaml")).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(b'x'), 100 << 20), &mut big.into_file()).unwrap();
    home.write("many-nodes.yaml", format!("schema_version: '2.0'\nx: [{}]\n", "a,".repeat(9_000_000)));
    symlink("/dev/zero", home.path("endless.yaml")).unwrap();
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
        let list = ["list-model-profiles", "-m", &format!("{name}.yaml"), "--device", "l4"];
        let printed = confined(&home, &list).to_string().replace("\n--- stdout\n--- stderr\n", ": ");
        text.push_str(&format!("{name}: {printed}\n"));
    }
    insta::assert_snapshot!(text);
}

/// A pattern that would try forever is no reason to wait, and no reason to fail.
#[test]
fn patterns_without_end() {
    let home = Home::new();
    let profiles = [
        "id: endless, tags: {product_name_regex: '^(?=((.*)*)*)((.*)*)*\\1z$'}",
        "id: nested, tags: {product_name_regex: '^((((.+)+)+)+)+(?!x)$y'}",
        "id: large, tags: {product_name_regex: '(?!x)((a{1,900}){1,900}){1,900}'}",
        "id: broken, tags: {product_name_regex: '(['}",
        "id: generic, tags: {backend: onnx}",
    ];
    home.write("m.yaml", manifest(&profiles));
    let list = ["list-model-profiles", "-m", "m.yaml", "--device", "l4", "--explain"];
    insta::assert_snapshot!(confined(&home, &list));
    insta::assert_snapshot!("lint_without_end", confined(&home, &["manifest", "lint", "m.yaml"]).exits(3));
}
