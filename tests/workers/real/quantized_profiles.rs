//! Quantized profiles of a recipe, built by TensorRT for RTX and validated on ONNX Runtime.

use nimctl::onnx::quantize::QUANTIZATION_VERSION;

use super::quantize::{Samples, write_network};
use super::quantized_convolutions;
use crate::home::{Home, Printed};

const RECIPE: &str = "\
schema: nimctl.recipe/1
model: { name: small, release: \"1\" }
graphs:
  net:
    source: { path: network.onnx }
    shapes:
      x: { min: [1, 1, 64], opt: [8, 6, 64], max: [8, 6, 64] }
      attention_mask: { min: [1, 1], opt: [8, 6], max: [8, 6] }
    samples: { x: { npy: judged/x.npy }, attention_mask: { npy: judged/attention_mask.npy } }
    calibration: { x: { npy: x.npy }, attention_mask: { npy: attention_mask.npy } }
profiles:
  - backend: tensorrt-rtx
    precisions: [fp16, int8]
    targets: { gpus: [l4] }
  - backend: onnxruntime
    precisions: [fp32, int8]
    targets: generic
";

fn home() -> Home {
    let home = super::home();
    write_network(&home);
    fs_err::create_dir(home.path("judged")).unwrap();
    Samples::new("calibration").write(&home, "x.npy", "attention_mask.npy");
    Samples::without_padding("judged").write(&home, "judged/x.npy", "judged/attention_mask.npy");
    home.write("recipe.yaml", RECIPE);
    home
}

fn build(home: &Home) -> Printed {
    home.run(&["build", "recipe.yaml", "--manifest", "m.yaml", "--output", "json"])
}

#[test]
fn from_a_recipe_to_what_validation_found() {
    let home = home();
    let built = build(&home);
    built.exits(0).has(&["net: how to quantize to int8: "]);
    let manifest = home.read("m.yaml");
    for tag in ["precision: int8", "precision: fp16", "precision: fp32"] {
        assert!(manifest.contains(tag), "{manifest}");
    }
    // Both products are as they were quantized, and the passport says how.
    let passport = built.json()["profiles"][1]["passport"].as_str().unwrap().to_owned();
    let passport = fs_err::read(home.path(passport.trim_start_matches("~/"))).unwrap();
    let passport: serde_json::Value = serde_json::from_slice(&passport).unwrap();
    let graph = &passport["graphs"]["net"];
    let quantization = &graph["lowering"]["quantization"];
    assert_eq!(quantization["report"]["quantized"].as_array().unwrap().len(), 2, "{quantization}");
    assert!(quantization["choice"]["result"]["min_row_cosine"].as_f64().unwrap() >= 0.995);
    let types: Vec<&str> = graph["compilation"]["plan_layers"]["gemms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|gemm| gemm["operands"][0].as_str().unwrap())
        .collect();
    assert_eq!(types, ["int8", "int8"]);
    assert_eq!(
        passport["contents"]["toolchain"]["nimctl-quantization"]["version"],
        QUANTIZATION_VERSION.to_string()
    );

    // Nothing is left to do, and nothing is searched again.
    let again = build(&home);
    assert!(!again.stderr.contains("how to quantize"), "{again}");
    assert!(again.json()["jobs"].as_array().unwrap().iter().all(|job| job["reason"].is_null()), "{again}");

    // Judged by rows that calibrated nothing, by the bounds of each precision.
    let validated = home.run(&["validate", "recipe.yaml", "--output", "json"]);
    validated.exits(0);
    let found = validated.json();
    let threshold = |profile: usize| {
        let status = found["profiles"][profile]["status"].as_object().unwrap();
        let gates = status.values().next().unwrap()["gates"].as_array().unwrap();
        gates.iter().find(|gate| gate["gate"] == "row_cosine").unwrap()["threshold"].as_f64().unwrap()
    };
    assert_eq!([threshold(0), threshold(1), threshold(3)], [0.999, 0.995, 0.995]);

    // One field is another graph, and says so.
    home.write(
        "recipe.yaml",
        RECIPE.replace("targets: { gpus", "quantize: { keep_nodes: [down_made] }\n    targets: { gpus"),
    );
    home.run(&["build", "recipe.yaml", "--manifest", "m.yaml"])
        .exits(1)
        .has(&["no graph of the recipe has the node `down_made`"]);

    // The quantized graph belongs to the profiles: nothing that is needed goes.
    home.write("recipe.yaml", RECIPE);
    home.run(&["store", "gc"]).exits(0);
    home.run(&["validate", "recipe.yaml", "--output", "json"]).exits(0);
}

#[test]
fn what_judges_may_not_calibrate() {
    let home = home();
    home.write("recipe.yaml", RECIPE.replace("npy: judged/", "npy: ./"));
    let built = build(&home);
    built.exits(1).has(&["is row 0 of those that calibrate"]);
    // Profiles that aren't quantized were built.
    let outcomes = built.json();
    assert_eq!(outcomes["profiles"][0]["status"], "built", "{built}");
}

#[test]
fn a_gate_that_nothing_reaches_fails_its_profiles_alone() {
    let home = home();
    let gate = "quantize: { embeddings: keep, gate: { min_row_cosine: 0.9999999999 } }\n    targets: { gpus";
    home.write("recipe.yaml", RECIPE.replace("targets: { gpus", gate));
    build(&home)
        .exits(3)
        .has(&["no way was found to reach a min row cosine of 0.9999999999 in int8: the best is 0.99"]);
}

/// Its graph has operators that ONNX Runtime lacks: validation runs its twin.
#[test]
fn nvfp4_is_built_and_validated_by_its_twin() {
    let home = home();
    let profiles = |backend: &str, target: &str| {
        let head = RECIPE.split("profiles:").next().unwrap();
        let profile = format!(
            "profiles:\n  - backend: {backend}\n    precisions: [nvfp4]\n    targets: {target}\n    \
             quantize: {{ gate: {{ min_row_cosine: 0.9 }} }}\n"
        );
        home.write("recipe.yaml", format!("{head}{profile}"));
    };
    profiles("tensorrt-rtx", "{ gpus: [rtx-5090] }");
    let built = build(&home);
    let report = built.exits(0).json();
    let passport = report["profiles"][0]["passport"].as_str().unwrap();
    let passport = fs_err::read(home.path(passport.trim_start_matches("~/"))).unwrap();
    let passport: serde_json::Value = serde_json::from_slice(&passport).unwrap();
    let gemms = passport["graphs"]["net"]["compilation"]["plan_layers"]["gemms"].as_array().unwrap().clone();
    let operands: Vec<&str> = gemms.iter().map(|gemm| gemm["operands"][0].as_str().unwrap()).collect();
    assert_eq!(operands, ["fp4", "fp4"]);
    home.run(&["validate", "recipe.yaml"]).exits(0).has(&["nvfp4: passed"]);
    profiles("tensorrt-rtx", "{ gpus: [l4] }");
    build(&home).exits(1).has(&["compute capability 8.9 has no nvfp4", "needs 12.0 or later"]);
    profiles("onnxruntime", "generic");
    build(&home).exits(1).has(&["nvfp4 graphs have operators that only tensorrt-rtx and tensorrt have"]);
}

/// Convolutions for a GPU that computes them in FP16.
#[test]
fn a_plan_that_falls_back_fails_its_profile_unless_that_is_accepted() {
    let home = quantized_convolutions::home();
    quantized_convolutions::pictures("judged").write(&home.path("judged.npy")).unwrap();
    let recipe = |quantize: &str| {
        format!(
            "schema: nimctl.recipe/1
model: {{ name: small, release: \"1\" }}
graphs:
  net:
    source: {{ path: network.onnx }}
    shapes: {{ x: {{ min: [1, 3, 16, 16], opt: [8, 3, 16, 16], max: [8, 3, 16, 16] }} }}
    samples: {{ x: {{ npy: judged.npy }} }}
    calibration: {{ x: {{ npy: x.npy }} }}
profiles:
  - backend: tensorrt-rtx
    precisions: [int8]
    targets: {{ gpus: [t4] }}
    quantize: {{ gate: {{ min_row_cosine: 0.9 }}, {quantize} }}
"
        )
    };
    let why = "`plain` computes in fp16 (convolutions are not quantized on compute capability 7.5)";
    home.write("recipe.yaml", recipe("convolutions: quantize"));
    build(&home).exits(3).has(&[why, "or accept them with `require: nothing`"]);
    // Neither is it taken for built later.
    build(&home).exits(3).has(&[why]);
    home.run(&["validate", "recipe.yaml"]).exits(3).has(&["nothing was validated", why]);

    home.write("recipe.yaml", recipe("convolutions: quantize, require: nothing"));
    let accepted = build(&home);
    accepted.exits(0);
    let passport = accepted.json()["profiles"][0]["passport"].as_str().unwrap().to_owned();
    assert!(home.read(passport.trim_start_matches("~/")).contains("computes in fp16"), "the passport warns");

    // Nobody asked for convolutions, so there are none; nothing else of this network can be quantized.
    home.write("recipe.yaml", recipe("require: all"));
    build(&home).exits(1).has(&["graph", "has no product"]);
}
