//! `select` and `list-model-profiles`.

use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::home::Home;
use crate::recipes::{FAKE, GENERIC, home_with_graph};

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
    let home = Home::new();
    let mut text = String::new();
    for device in DEVICES {
        let printed = home.run(&["select", "-m", DEMO, "--device", device, "--explain"]);
        let _ = writeln!(text, "# {device}\n{printed}");
    }
    insta::assert_snapshot!(text);
}

#[test]
fn lists_as_nim_does_and_as_json() {
    let home = Home::new();
    insta::assert_snapshot!("list_text", home.run(&["list-model-profiles", "-m", DEMO, "--device", "l4,t4"]));
    let explained = home.run(&["list-model-profiles", "-m", DEMO, "--device", "h200", "--explain"]);
    insta::assert_snapshot!("list_explained", explained);
    let view = home.run(&["list-model-profiles", "-m", DEMO, "--device", "l4", "--output", "json"]).json();
    assert_eq!(view["schema"], "nimctl.model-profiles/1");
    assert_eq!(view["compatible"][0]["tags"]["gpu"], "l4");
    assert_eq!(view["compatible"][0]["id_kind"], "content");
    assert_eq!(view["compatible"].as_array().unwrap().len(), 2);
    assert_eq!(view["incompatible"].as_array().unwrap().len(), 8);
    assert_eq!(view["incompatible"][0]["reasons"][0], "built for a100-sxm, but this GPU is l4");
    insta::assert_snapshot!(
        "select_json",
        home.run(&["select", "-m", DEMO, "--device", "l4", "--output", "json"])
    );
}

/// Ids, names, beginnings and what lists show; each with its outcome and exit code.
#[test]
fn pins() {
    let home = Home::new();
    let l4 = "b890333f179c8b907ed7c246924373bc552f044ad7f8bbe2a4cc6763d415deab";
    let mut text = String::new();
    let mut pin = |label: &str, pin: &str, device: &str, more: &[&str]| {
        let mut arguments = vec!["select", "-m", DEMO, "--device", device, "--profile", pin];
        arguments.extend(more);
        let _ = writeln!(text, "# {label}\n{}", home.run(&arguments));
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
    let home = Home::new();
    let profiles = ["abcd1", "abcd2"].map(|id| format!("- {{id: {id}, tags: {{backend: onnx, n: {id}}}}}\n"));
    home.write("m.yaml", format!("schema_version: '2.0'\nprofiles:\n{}", profiles.concat()));
    let select =
        |pin: &str| home.run(&["select", "-m", "m.yaml", "--device", "none", "--id", "--profile", pin]);
    insta::assert_snapshot!("ambiguous_prefix", select("abcd"));
    insta::assert_snapshot!("ambiguous_name", select("onnx"));
    select("abcd2").exits(0).has(&["abcd2"]);
}

/// The variables of NIM mean what they mean there, and go before the flags.
#[test]
fn variables() {
    let home = Home::new();
    let select = |variables: &[(&str, &str)], arguments: &[&str]| {
        let arguments = [&["select", "-m", DEMO, "--device", "l4", "--id"], arguments].concat();
        home.run_with(variables, &arguments)
    };
    select(&[("NIM_MANIFEST_PROFILE", "onnx-fp16")], &[]).exits(0);
    select(&[("NIM_MANIFEST_PROFILE", "onnx-fp16"), ("NIM_MODEL_PROFILE", "b890333f")], &[]).exits(0);
    select(&[("NIM_MODEL_PROFILE", "onnx-fp16")], &["--profile", "tensorrt-rtx-l4-fp16"]).exits(0);
    select(&[("NIM_MANIFEST_PROFILE", "tensorrt-rtx-t4-fp16")], &[]).exits(1);
    let a10g = [("NIM_MODEL_PROFILE", "tensorrt-rtx-a10g-fp16")];
    select(&a10g, &[]).exits(4);
    select(&[a10g[0], ("NIM_MANIFEST_ALLOW_UNSAFE", "1")], &[]).exits(0);
    select(&[("NIM_TAGS_SELECTOR", "backend=onnx")], &[]).exits(0);
    select(&[("NIM_TAGS_SELECTOR", "backend=onnx")], &["--tags", "backend=x"]).exits(0);
    select(&[("NIM_TAGS_SELECTOR", "onnx")], &[]).exits(1);
    select(&[("NIM_TAGS_SELECTOR", "precision=fp8")], &[]).exits(4);
    insta::assert_snapshot!(home.transcript_with_digests());
}

/// NIM's headings, and its rule for LoRA.
#[test]
fn lora_and_buildable_profiles() {
    let home = Home::new();
    home.write(
        "m.yaml",
        "schema_version: '2.0'\nprofiles:\n\
         - {id: lora, tags: {llm_engine: vllm, precision: bf16, feat_lora: 'true'}}\n\
         - {id: plain, tags: {llm_engine: vllm, precision: bf16, feat_lora: 'false'}}\n\
         - {id: hf, tags: {llm_engine: tensorrt_llm, precision: bf16, trtllm_buildable: 'true'}}\n\
         - {id: hf-lora, tags: {llm_engine: tensorrt_llm, trtllm_buildable: 'true', feat_lora: 'true'}}\n",
    );
    let list = home.run(&["list-model-profiles", "-m", "m.yaml", "--device", "l4"]);
    list.exits(0).has(&["- Compatible with system and runnable:
  - plain (vllm-bf16)
  - With LoRA support:
    - lora (vllm-bf16-lora)
- Compilable to TRT-LLM using just-in-time compilation of HF models to TRTLLM engines:
  - hf (tensorrt_llm-trtllm_buildable-bf16)
  - With LoRA support:
    - hf-lora (tensorrt_llm-trtllm_buildable-lora)
"]);
    let select = |variables: &[(&str, &str)], more: &[&str]| {
        home.run_with(variables, &[&["select", "-m", "m.yaml", "--device", "l4"], more].concat())
    };
    select(&[], &[]).exits(0).has(&["profile  plain"]);
    select(&[], &["--tags", "feat_lora=true"]).exits(0).has(&["profile  lora"]);
    select(&[], &["--profile", "lora"]).exits(0).has(&["profile  lora"]);
    let adapters = [("NIM_PEFT_SOURCE", "/adapters")];
    let silent = select(&adapters, &[]);
    silent.exits(0).has(&["profile  lora"]);
    assert!(!silent.stderr.contains("NIM_PEFT_SOURCE"), "{}", silent.stderr);
    let demo = home.run_with(&adapters, &["select", "-m", DEMO, "--device", "l4"]);
    demo.exits(0).has(&[
        "no profile that serves LoRA adapters",
        "NVIDIA L4",
        "tensorrt-rtx-l4-fp16 serves none",
    ]);
}

/// Compose and `docker --env-file` keep quotes; `default` leaves the choice to nimctl.
#[test]
fn variables_with_quotes_or_defaults() {
    let home = Home::new();
    let chosen = "b890333f179c8b907ed7c246924373bc552f044ad7f8bbe2a4cc6763d415deab";
    for variable in [
        ("NIM_MODEL_PROFILE", "\"\""),
        ("NIM_MODEL_PROFILE", "''"),
        ("NIM_MODEL_PROFILE", "default"),
        ("NIM_MANIFEST_PROFILE", "'Default'"),
        ("NIM_MODEL_PROFILE", "'tensorrt-rtx-l4-fp16'"),
        ("NIM_TAGS_SELECTOR", "\"gpu=l4,precision=fp16\""),
        ("NIM_TAGS_SELECTOR", "\"\""),
    ] {
        home.run_with(&[variable], &["select", "-m", DEMO, "--device", "l4", "--id"]).exits(0).has(&[chosen]);
    }
}

#[test]
fn a_manifest_is_found_or_asked_for() {
    let home = Home::new();
    home.run(&["select", "--device", "l4"]).exits(1);
    home.run_with(&[("NIMCTL_MANIFEST", DEMO)], &["select", "--device", "l4", "--id"]).exits(0);
    home.run(&["select", "-m", "absent.yaml", "--device", "l4"]).exits(1);
    home.run(&["select", "-m", DEMO, "--device", "l44"]).exits(1);
    insta::assert_snapshot!(home.transcript_with_digests());
}

/// Sizes in the store decide what doesn't fit, and what a plan's contents name is known from there too.
#[test]
fn what_was_built_here_is_known_better() {
    let home = home_with_graph(&format!("{FAKE}{GENERIC}"));
    home.run(&["build", "r.yaml"]).exits(0);
    let manifest = "manifests/r/model_manifest.yaml";
    home.run(&["select", "-m", manifest, "--device", "l4"]).exits(0);
    home.run(&["select", "-m", manifest, "--device", "t4"]).exits(0);
    insta::assert_snapshot!(home.transcript());
}

/// The program under the name of NIM's command is that command.
#[test]
fn called_by_nims_name() {
    let home = Home::new();
    symlink(env!("CARGO_BIN_EXE_nimctl"), home.path("list-model-profiles")).unwrap();
    let mut command = Command::new(home.path("list-model-profiles"));
    command.args(["-m", DEMO, "--device", "l4"]).env_clear().env("NIMCTL_DATA_DIR", home.path("data"));
    home.output(&mut command).exits(0);
    insta::assert_snapshot!(home.transcript_with_digests());
}

#[test]
fn man_pages_are_written() {
    let home = Home::new();
    home.run(&["man-pages", "man"]).exits(0).has(&["man pages to man"]);
    let page = fs_err::read_to_string(home.path("man/nimctl-manifest-lint.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("equal tags"), "{page}");
    assert!(home.path("man/nimctl.1").exists() && home.path("man/nimctl-select.1").exists());
}
