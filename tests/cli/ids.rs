//! `hash-profile`: ids from tags, manifests, recipes and folders.

use crate::support::{FAKE, GENERIC, user_with_graph};

/// The public pairs of NVIDIA's manifests.
#[test]
fn public_pairs() {
    let user = crate::support::User::new();
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
        let said = user.run(&arguments);
        said.expect(0, &[]);
        assert_eq!(said.stdout.trim(), id);
    }
}

#[test]
fn recipe_manifest_and_folder_agree() {
    let user = user_with_graph(&format!("{FAKE}{GENERIC}"));
    user.run(&["hash-profile", "r.yaml"]).expect(1, &["is not built", "run `nimctl build r.yaml` first"]);
    user.run(&["build", "r.yaml"]).expect(0, &[]);
    let of_recipe = user.run(&["hash-profile", "r.yaml"]).stdout;
    let manifest = "manifests/r/model_manifest.yaml";
    assert_eq!(user.run(&["hash-profile", manifest]).stdout, of_recipe);
    user.run(&["hash-profile", manifest, "--explain"])
        .expect(0, &["BLAKE3 of: backend:fake|", "nimctl.contents/1"]);

    // A profile's folder, laid out by hand from the manifest.
    let text = fs_err::read_to_string(user.path(manifest)).unwrap();
    let manifest = nimctl::manifest::Manifest::parse(&text, "m").unwrap();
    let profile = &manifest.profiles[0];
    for (path, file) in &profile.workspace.files {
        let sha256 = nimctl::manifest::store_digest(file.uri.as_deref().unwrap()).unwrap();
        let destination = user.path("profile").join(path);
        fs_err::create_dir_all(destination.parent().unwrap()).unwrap();
        fs_err::copy(user.path("data/store/blobs/sha256").join(sha256.to_hex()), destination).unwrap();
    }
    assert_eq!(user.run(&["hash-profile", "profile"]).stdout.trim(), profile.id);
    user.write("profile/main/model.plan", "plot");
    user.run(&["hash-profile", "profile"])
        .expect(3, &["profile/main/model.plan is not the file that contents.json lists"]);
}

#[test]
fn a_wrong_id_is_found() {
    let user = user_with_graph(GENERIC);
    user.run(&["build", "r.yaml"]).expect(0, &[]);
    let path = user.path("manifests/r/model_manifest.yaml");
    let text = fs_err::read_to_string(&path).unwrap().replace("precision: fp32", "precision: fp16");
    fs_err::write(&path, text).unwrap();
    user.run(&["hash-profile", "manifests/r/model_manifest.yaml"])
        .expect(3, &["(written: ", "a written id is not the one"]);
}

#[test]
fn manifests_of_others_need_the_other_scheme() {
    let user = crate::support::User::new();
    let id = "425dcb3ef646e497d5a50bbd1eb1169c9f33f4253f36669bb428ef250e2447cd";
    let text = format!(
        "schema_version: '2.0'\nprofile_selection_criteria: auto\nprofiles:\n- id: {id}\n  tags:\n    gpu: a6000\n"
    );
    user.write("model_manifest.yaml", &text);
    user.run(&["hash-profile", "model_manifest.yaml"])
        .expect(1, &["has no tag `content`", "--scheme nim-tags"]);
    let said = user.run(&["hash-profile", "model_manifest.yaml", "--scheme", "nim-tags"]);
    said.expect(0, &[]);
    assert_eq!(said.stdout.trim(), id);
}

/// Ids of 2024 follow a rule that was not published: they are opaque, not wrong.
#[test]
fn ids_of_2024_are_opaque() {
    let user = crate::support::User::new();
    let id = "2ad8fe56fc5c2cd108b4d177286fbd6c6ea5dcd3de3995cb9aeb83f80ddd5c9e";
    user.write("old.yaml", &format!("{id}:\n  tags: {{backend: onnx, precision: fp16}}\n"));
    let said = user.run(&["hash-profile", "old.yaml", "--scheme", "nim-tags"]);
    said.expect(0, &[&format!("(written: {id}, opaque: by a rule that isn't public)")]);
    user.run(&["hash-profile", "old.yaml", "--scheme", "nim-tags", "--output", "json"])
        .expect(0, &["\"is_opaque\": true"]);
}
