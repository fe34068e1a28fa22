//! `download-to-cache` and `create-model-store`: NIM's commands, by NIM's names, with NIM's variables.

use std::os::unix::fs::symlink;
use std::process::Command;

use nimctl::digest::Blake3;

use crate::home::Home;

/// A home with a manifest of others: one profile for the L4, and one for any machine.
fn home() -> Home {
    let home = Home::new();
    let file = |id: &str, path: &str| {
        let content = format!("{id} {path}\n");
        home.write(&format!("nim/files/{id}-{path}"), &content);
        let checksum = Blake3::of(content.as_bytes());
        format!("      sub/{path}: {{uri: 'file:files/{id}-{path}', checksum: '{checksum}'}}\n")
    };
    let profile = |id: &str, tags: &str| {
        format!(
            "- id: {id}\n  tags: {{{tags}}}\n  workspace:\n    files:\n{}{}",
            file(id, "model.bin"),
            file(id, "config.json")
        )
    };
    let l4 =
        profile("aaaa1", "llm_engine: tensorrt, gpu: L4, gpu_device: '27b8:10de', precision: fp16, tp: '1'");
    let any = profile("bbbb2", "llm_engine: onnx, precision: fp32");
    home.write(
        "nim/model_manifest.yaml",
        format!("schema_version: '2.0'\nmodel: some/model\nrelease: 1.2\nprofiles:\n{l4}{any}"),
    );
    home
}

/// The names of the profiles in the cache.
fn cached(home: &Home, cache: &str) -> Vec<String> {
    let folder = home.path(cache).join("nimctl/some-model-1.2/profiles");
    let mut names: Vec<String> = fs_err::read_dir(folder)
        .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    names.sort();
    names
}

#[test]
fn profiles_go_to_the_cache() {
    let home = home();
    let variables = [("NIM_CACHE_PATH", "cache"), ("NIM_MANIFEST_PATH", "nim")];
    let run = |arguments: &[&str]| home.run_with(&variables, &[&["download-to-cache"], arguments].concat());
    // The one that selection chooses.
    run(&["--device", "l4"]).exits(0);
    assert_eq!(cached(&home, "cache"), ["aaaa1"]);
    run(&["--profiles", "bbbb2", "--quiet"]).exits(0);
    assert_eq!(cached(&home, "cache"), ["aaaa1", "bbbb2"]);
    run(&["--all", "--cache", "other", "--output", "json"]).exits(0);
    assert_eq!(cached(&home, "other"), ["aaaa1", "bbbb2"]);
    run(&["-p", "aaaa1", "bbbb2", "--cache", "third"]).exits(0);
    assert_eq!(cached(&home, "third").len(), 2);
    run(&["--profile", "tensorrt-l4-fp16-tp1", "--cache", "fourth"]).exits(0);
    run(&["--profile", "cccc"]).exits(1);
    run(&["--device", "t4", "--lora"]).exits(0);
    let none = [variables[0], variables[1], ("NIM_TAGS_SELECTOR", "precision=fp8")];
    home.run_with(&none, &["download-to-cache", "--device", "l4"]).exits(4);
    run(&["--all", "-p", "aaaa1"]).exits(2);
    run(&["--manifest-file", "absent.yaml"]).exits(1);
    insta::assert_snapshot!(home.transcript());
    // What is in the cache is a manifest to select from and to pull from.
    let manifest = "cache/nimctl/some-model-1.2/model_manifest.yaml";
    home.set_up(&["select", "-m", manifest, "--device", "l4"]).exits(0);
    home.set_up(&["pull", manifest, "--all", "-o", "copy"]).exits(0);
}

#[test]
fn the_variables_name_the_profile() {
    let home = home();
    for (number, (variable, value)) in [
        ("NIM_MODEL_PROFILE", "bbbb2"),
        ("NIM_MANIFEST_PROFILE", "bbbb2"),
        ("NIM_TAGS_SELECTOR", "precision=fp32"),
    ]
    .into_iter()
    .enumerate()
    {
        let cache = format!("cache-{number}");
        let arguments =
            ["download-to-cache", "--device", "l4", "--cache", &cache, "-m", "nim/model_manifest.yaml"];
        home.run_with(&[(variable, value)], &arguments).exits(0);
        assert_eq!(cached(&home, &cache), ["bbbb2"], "{variable}");
    }
}

#[test]
fn a_model_store_has_the_files_of_one_profile() {
    let home = home();
    let variables = [("NIM_CACHE_PATH", "cache"), ("NIM_MANIFEST_PATH", "nim/model_manifest.yaml")];
    let run = |arguments: &[&str]| home.run_with(&variables, &[&["create-model-store"], arguments].concat());
    run(&["--profile", "aaaa1", "--model-store", "store"]).exits(0);
    assert_eq!(home.read("store/sub/model.bin"), "aaaa1 model.bin\n");
    assert_eq!(fs_err::read_dir(home.path("store")).unwrap().count(), 1);
    fs_err::create_dir(home.path("mounted")).unwrap();
    run(&["-m", "mounted", "--device", "none", "--output", "json"]).exits(0);
    assert_eq!(home.read("mounted/sub/config.json"), "bbbb2 config.json\n");
    run(&["-p", "aaaa1", "-m", "store"]).exits(1).has(&["is not empty"]);
    run(&["-m", "several", "--device", "l4,t4"]).exits(1).has(&["name one of them with --profile"]);
    run(&["-p", "aaaa1"]).exits(2);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn nims_names_are_commands() {
    let home = home();
    let link = |name: &str| {
        symlink(env!("CARGO_BIN_EXE_nimctl"), home.path(name)).unwrap();
        let mut command = Command::new(home.path(name));
        command.env_clear().current_dir(home.folder());
        command.env("NIMCTL_DATA_DIR", home.path("data")).env("NIM_CACHE_PATH", "cache");
        command.env("NIM_MANIFEST_PATH", "nim");
        command
    };
    home.output(link("download-to-cache").args(["--profile", "aaaa1"])).exits(0);
    home.output(link("nim_download_to_cache").args(["--profile", "bbbb2"])).exits(0);
    assert_eq!(cached(&home, "cache"), ["aaaa1", "bbbb2"]);
    home.output(link("create-model-store").args(["--profile", "aaaa1", "--model-store", "store"])).exits(0);
    assert_eq!(home.read("store/sub/model.bin"), "aaaa1 model.bin\n");
}
