//! `select` and `list-model-profiles`.

use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::support::{FAKE, GENERIC, User, user_with_graph};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/nvclip-demo/model_manifest.yaml");

/// The GPUs of NV-CLIP 2.0.0, then others.
const DEVICES: [&str; 20] = [
    "h100-sxm",
    "h100-pcie",
    "h100-nvl",
    "gh200",
    "a100-sxm",
    "a100-pcie",
    "a10g",
    "l40s",
    "l4",
    "rtx-6000-ada",
    "rtx-4090",
    "rtx-5080",
    "rtx-5090",
    "t4",
    "h200",
    "b200",
    "gtx-1080",
    "a100-sxm/1g.10gb",
    "none",
    "l4,h100-sxm:2",
];

#[test]
fn the_demo_on_every_gpu() {
    let user = User::new();
    let mut text = String::new();
    for device in DEVICES {
        let said = user.run(&["select", "-m", DEMO, "--device", device, "--explain"]);
        let _ = writeln!(text, "# {device}\n{}", said.text);
    }
    insta::assert_snapshot!(text);
}

#[test]
fn lists_as_nim_does_and_as_json() {
    let user = User::new();
    insta::assert_snapshot!(
        "list_text",
        user.run(&["list-model-profiles", "-m", DEMO, "--device", "l4,t4"]).text
    );
    let explained = user.run(&["list-model-profiles", "-m", DEMO, "--device", "h200", "--explain"]);
    insta::assert_snapshot!("list_explained", explained.text);
    let said = user.run(&["list-model-profiles", "-m", DEMO, "--device", "l4", "--output", "json"]);
    let view: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(view["schema"], "nimctl.model-profiles/1");
    assert_eq!(view["compatible"][0]["tags"]["gpu"], "l4");
    assert_eq!(view["compatible"][0]["id_kind"], "content");
    assert_eq!(view["compatible"].as_array().unwrap().len(), 2);
    assert_eq!(view["incompatible"].as_array().unwrap().len(), 8);
    assert_eq!(view["incompatible"][0]["reasons"][0], "built for a100-sxm, and this is l4");
    insta::assert_snapshot!(
        "select_json",
        user.run(&["select", "-m", DEMO, "--device", "l4", "--output", "json"]).text
    );
}

/// Ids, names, beginnings and what lists show; each with its outcome and exit code.
#[test]
fn pins() {
    let user = User::new();
    let l4 = "937d4aa1516ac373ece5e9009793cc0fd621239a5cc7b6518d1a33db33965e3c";
    let mut text = String::new();
    let mut pin = |label: &str, pin: &str, device: &str, more: &[&str]| {
        let mut arguments = vec!["select", "-m", DEMO, "--device", device, "--profile", pin];
        arguments.extend(more);
        let _ = writeln!(text, "# {label}\n{}", user.run(&arguments).text);
    };
    pin("a readable name", "tensorrt-rtx-l4-fp16", "l4", &[]);
    pin("an id", l4, "l4", &["--id"]);
    pin("the beginning of an id", &l4[..6], "l4", &["--id"]);
    pin("an id with its display suffix", &format!("{l4} (tensorrt-rtx-l4-fp16)"), "l4", &["--id"]);
    pin("a wrong beginning: the nearest are offered", "937d4ab", "l4", &[]);
    pin("a wrong name: the nearest are offered", "tensorrt-rtx-l5-fp16", "l4", &[]);
    pin("one that can't run here", l4, "t4", &[]);
    pin("one that can't run here, as JSON", l4, "none", &["--output", "json"]);
    pin("one that can't run here, taken all the same", l4, "t4", &["--allow-unsafe"]);
    pin("one that runs on one of two kinds", l4, "t4,l4", &[]);
    insta::assert_snapshot!(text);
}

#[test]
fn an_ambiguous_beginning_lists_its_candidates() {
    let user = User::new();
    let profiles = ["abcd1", "abcd2"].map(|id| format!("- {{id: {id}, tags: {{backend: onnx, n: {id}}}}}\n"));
    user.write("m.yaml", &format!("schema_version: '2.0'\nprofiles:\n{}", profiles.concat()));
    let select =
        |pin: &str| user.run(&["select", "-m", "m.yaml", "--device", "none", "--id", "--profile", pin]);
    insta::assert_snapshot!("ambiguous_prefix", select("abcd").text);
    insta::assert_snapshot!("ambiguous_name", select("onnx").text);
    select("abcd2").expect(0, &["abcd2"]);
}

/// The variables of NIM mean what they mean there, and go before the flags.
#[test]
fn variables() {
    let user = User::new();
    let select = |variables: &[(&str, &str)], arguments: &[&str]| {
        let arguments = [&["select", "-m", DEMO, "--device", "l4", "--id"], arguments].concat();
        user.said(&user.command(&arguments).envs(variables.iter().copied()).output().unwrap())
    };
    let generic = "f1fc1794b19e9b8353fbf01fbb5352bb2348f2c263487db07416dc5fd0fd0088";
    select(&[("NIM_MANIFEST_PROFILE", "onnx-fp16")], &[]).expect(0, &[generic]);
    select(&[("NIM_MANIFEST_PROFILE", "onnx-fp16"), ("NIM_MODEL_PROFILE", "937d4aa1")], &[])
        .expect(0, &[generic]);
    select(&[("NIM_MODEL_PROFILE", "onnx-fp16")], &["--profile", "tensorrt-rtx-l4-fp16"])
        .expect(0, &[generic, "NIM_MODEL_PROFILE is set, and goes before --profile"]);
    select(&[("NIM_MANIFEST_PROFILE", "tensorrt-rtx-t4-fp16")], &[])
        .expect(1, &["NIM_MANIFEST_PROFILE: no profile"]);
    let a10g = [("NIM_MODEL_PROFILE", "tensorrt-rtx-a10g-fp16")];
    select(&a10g, &[])
        .expect(4, &["asked for by NIM_MODEL_PROFILE, does not run here: NVIDIA L4: built for a10g"]);
    select(&[a10g[0], ("NIM_MANIFEST_ALLOW_UNSAFE", "1")], &[])
        .expect(0, &["98d98c2c", "though it doesn't fit"]);
    select(&[("NIM_TAGS_SELECTOR", "backend=onnx")], &[]).expect(0, &[generic]);
    select(&[("NIM_TAGS_SELECTOR", "backend=onnx")], &["--tags", "backend=x"]).expect(0, &[generic]);
    select(&[("NIM_TAGS_SELECTOR", "onnx")], &[]).expect(1, &["NIM_TAGS_SELECTOR", "write key=value"]);
    select(&[("NIM_TAGS_SELECTOR", "precision=fp8")], &[])
        .expect(4, &["no profile fits NVIDIA L4", "asked for precision=fp8, and it has precision=fp16"]);
}

#[test]
fn a_manifest_is_found_or_asked_for() {
    let user = User::new();
    user.run(&["select", "--device", "l4"]).expect(
        1,
        &["no manifest: there is none at /opt/nim/etc/config/default/model_manifest.yaml", "NIMCTL_MANIFEST"],
    );
    let said =
        user.command(&["select", "--device", "l4", "--id"]).env("NIMCTL_MANIFEST", DEMO).output().unwrap();
    user.said(&said).expect(0, &["937d4aa1"]);
    user.run(&["select", "-m", "absent.yaml", "--device", "l4"]).expect(1, &["absent.yaml"]);
    user.run(&["select", "-m", DEMO, "--device", "l44"])
        .expect(1, &["unknown GPU `l44`", "nearest known names are l4"]);
}

/// Sizes in the store decide what doesn't fit, and what a plan's contents name is known from there too.
#[test]
fn what_was_built_here_is_known_better() {
    let user = user_with_graph(&format!("{FAKE}{GENERIC}"));
    user.run(&["build", "r.yaml"]).expect(0, &[]);
    let manifest = "manifests/r/model_manifest.yaml";
    user.run(&["select", "-m", manifest, "--device", "l4"])
        .expect(0, &["made for this GPU's compute capability", "before onnx-fp32"]);
    user.run(&["select", "-m", manifest, "--device", "t4"])
        .expect(0, &["built for compute capability 8.9, and this GPU has 7.5", "gets a generic profile"]);
}

/// The program under the name of NIM's command is that command.
#[test]
fn called_by_nims_name() {
    let user = User::new();
    symlink(env!("CARGO_BIN_EXE_nimctl"), user.path("list-model-profiles")).unwrap();
    let output = Command::new(user.path("list-model-profiles"))
        .args(["-m", DEMO, "--device", "l4"])
        .env_clear()
        .env("NIMCTL_DATA_DIR", user.path("data"))
        .output()
        .unwrap();
    user.said(&output).expect(0, &["SYSTEM INFO", "(tensorrt-rtx-l4-fp16)"]);
}

#[test]
fn man_pages_are_written() {
    let user = User::new();
    user.run(&["man-pages", "man"]).expect(0, &["man pages in man"]);
    let page = fs_err::read_to_string(user.path("man/nimctl-manifest-lint.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("equal tags"), "{page}");
    assert!(user.path("man/nimctl.1").exists() && user.path("man/nimctl-select.1").exists());
}
