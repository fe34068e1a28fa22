//! `hash-profile`: ids from tags, manifests, recipes and folders.

use crate::home::Home;
use crate::recipes::{FAKE, GENERIC, home_with_graph};

/// The public pairs of NVIDIA's manifests.
#[test]
fn public_pairs() {
    let home = Home::new();
    for (tags, id) in [
        ("gpu=a6000", "425dcb3ef646e497d5a50bbd1eb1169c9f33f4253f36669bb428ef250e2447cd"),
        ("llm_engine=vllm", "e2f00b2cbfb168f907c8d6d4d40406f7261111fbab8b3417a485dcd19d10cc98"),
        (
            "model_type=onnx,precision=fp16",
            "e28f17c9c13a99055d065f88d725bf93c23b3aab14acd68f16323de1353fc528",
        ),
        (
            "backend=tensorrt,gpu=l4,model_type=tensorrt,precision=fp8",
            "737a0c2191e21c442c4b041bddbd7099681cc5b8aeb42c8f992311b807f8d5d3",
        ),
        (
            "gpu=RTX4090,gpu_device=2684:10de,model_type=tensorrt,precision=fp16",
            "c761e52b62df2a2a46047aed74dd6e1da8826f3596bec3c197372c7592478f6b",
        ),
    ] {
        let mut arguments = vec!["hash-profile", "--scheme", "nim-tags"];
        for tag in tags.split(',') {
            arguments.extend(["--tag", tag]);
        }
        let printed = home.run(&arguments);
        printed.exits(0);
        assert_eq!(printed.stdout.trim(), id);
    }
}

#[test]
fn recipe_manifest_and_folder_agree() {
    let home = home_with_graph(&format!("{FAKE}{GENERIC}"));
    home.run(&["hash-profile", "r.yaml"]).exits(1);
    home.run(&["build", "r.yaml"]).exits(0);
    let of_recipe = home.run(&["hash-profile", "r.yaml"]).stdout;
    let manifest = "manifests/r/model_manifest.yaml";
    assert_eq!(home.run(&["hash-profile", manifest]).stdout, of_recipe);
    home.run(&["hash-profile", manifest, "--explain"]).exits(0);

    // A profile's folder, laid out by hand from the manifest.
    let text = fs_err::read_to_string(home.path(manifest)).unwrap();
    let manifest = nimctl::manifest::Manifest::parse(&text, "m").unwrap();
    let profile = &manifest.profiles[0];
    for (path, file) in &profile.workspace.files {
        let sha256 = nimctl::manifest::store_digest(file.uri.as_deref().unwrap()).unwrap();
        let destination = home.path("profile").join(path);
        fs_err::create_dir_all(destination.parent().unwrap()).unwrap();
        fs_err::copy(home.path("data/store/blobs/sha256").join(sha256.to_hex()), destination).unwrap();
    }
    assert_eq!(home.run(&["hash-profile", "profile"]).stdout.trim(), profile.id);
    home.write("profile/main/model.plan", "plot");
    home.run(&["hash-profile", "profile"]).exits(3);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn a_wrong_id_is_found() {
    let home = home_with_graph(GENERIC);
    home.run(&["build", "r.yaml"]).exits(0);
    let path = home.path("manifests/r/model_manifest.yaml");
    let text = fs_err::read_to_string(&path).unwrap().replace("precision: fp32", "precision: fp16");
    fs_err::write(&path, text).unwrap();
    home.run(&["hash-profile", "manifests/r/model_manifest.yaml"]).exits(3);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn manifests_of_others_need_the_other_scheme() {
    let home = Home::new();
    let id = "425dcb3ef646e497d5a50bbd1eb1169c9f33f4253f36669bb428ef250e2447cd";
    let text = format!(
        "schema_version: '2.0'\nprofile_selection_criteria: auto\nprofiles:\n- id: {id}\n  tags:\n    gpu: a6000\n"
    );
    home.write("model_manifest.yaml", text);
    home.run(&["hash-profile", "model_manifest.yaml"]).exits(1);
    let printed = home.run(&["hash-profile", "model_manifest.yaml", "--scheme", "nim-tags"]);
    printed.exits(0);
    assert_eq!(printed.stdout.trim(), id);
    insta::assert_snapshot!(home.transcript_with_digests());
}

/// Ids of 2024 follow a rule that was not published: they are opaque, not wrong.
#[test]
fn ids_of_2024_are_opaque() {
    let home = Home::new();
    let id = "2ad8fe56fc5c2cd108b4d177286fbd6c6ea5dcd3de3995cb9aeb83f80ddd5c9e";
    home.write("old.yaml", format!("{id}:\n  tags: {{backend: onnx, precision: fp16}}\n"));
    home.run(&["hash-profile", "old.yaml", "--scheme", "nim-tags"]).exits(0);
    home.run(&["hash-profile", "old.yaml", "--scheme", "nim-tags", "--output", "json"]).exits(0);
    insta::assert_snapshot!(home.transcript_with_digests());
}
