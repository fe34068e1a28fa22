//! Situations in which a gate can't be asked, or has no answer: never exit code 0. `docs/gates.md` shows what is said of each.

use std::fmt::Write as _;

use nimctl::worker::npy::Tensor;
use serde_json::{Value, json};

use crate::documented::is_documented;
use crate::graph::{FLOAT, INT64, Precision, Small, write};
use crate::home::Home;

const RECIPE: &str = r#"schema: nimctl.recipe/1
model: { name: m, release: "1" }
graphs:
  g:
    source: { path: g.onnx }
    shapes: { x: { min: [1, 4], opt: [2, 4], max: [4, 4] } }
    samples: { x: { normal: {} } }
profiles:
  - { backend: onnxruntime, precisions: [fp32, fp16], targets: generic }
"#;
const ELSEWHERE: &str = "  - { backend: tensorrt, precisions: [fp16], targets: { gpus: [gh200] } }\n";
const POLICY: &str = "schema: nimctl.release-policy/1\nfail_if: ['p50 > +3%']\n";
const GATE: [&str; 2] = ["--fail-if", "p50 > +3%"];
const QUICK: [&str; 5] = ["--warm-up-ms=5", "--window-ms=5", "--budget-ms=20", "--only=onnx-fp32", "--quiet"];

/// The table, row by row.
struct Table {
    home: Home,
    rows: String,
    count: usize,
    /// What differs from one machine to the next, and what stands for it.
    words: Vec<(String, &'static str)>,
}

impl Table {
    /// Runs a command, and adds a row with its exit code and its first reason.
    #[track_caller]
    fn row(&mut self, situation: &str, arguments: &[&str], code: i32) {
        assert_ne!(code, 0);
        let printed = self.home.set_up(arguments);
        printed.exits(code);
        let refused = printed.stdout.split_once("REFUSED:\n").map(|(_, reasons)| reasons);
        let said = refused.unwrap_or(&printed.stderr).lines().next().unwrap_or_default().trim();
        let said = said.strip_prefix("error: ").unwrap_or(said);
        assert!(!said.is_empty(), "{printed}");
        let mut said = said.replace('|', "\\|");
        for (found, word) in &self.words {
            said = said.replace(found, word);
        }
        let here = regex::Regex::new(r"\(here: [^)]*\)").unwrap();
        let said = here.replace_all(&said, "(here: …)");
        let command = arguments[0];
        let _ = writeln!(self.rows, "| `{command}` | {situation} | {code} | {said} |");
        self.count += 1;
    }

    /// Measures against a baseline that was changed.
    #[track_caller]
    fn against(
        &mut self,
        situation: &str,
        base: &Value,
        code: i32,
        more: &[&str],
        change: impl FnOnce(&mut Value),
    ) {
        let mut baseline = base.clone();
        change(&mut baseline);
        self.home.write("changed.json", baseline.to_string());
        let bench = ["bench", "r.yaml", "--baseline", "changed.json", "--batch", "1"];
        self.row(situation, &[&bench[..], &GATE, &QUICK, more].concat(), code);
    }
}

/// The measurement of the first profile in a result of `bench`.
fn measured(document: &mut Value) -> &mut Value {
    let profiles = document["profiles"].as_array_mut().unwrap();
    let profile = profiles.iter_mut().find(|profile| profile["name"] == "onnx-fp32").unwrap();
    &mut profile["bench"]["measured"]
}

fn first_case(document: &mut Value) -> &mut Value {
    &mut measured(document)["cases"][0]
}

fn profile(document: &mut Value) -> &mut Value {
    let profiles = document["profiles"].as_array_mut().unwrap();
    profiles.iter_mut().find(|profile| profile["name"] == "onnx-fp32").unwrap()
}

#[test]
fn a_gate_without_an_answer_is_never_passed() {
    let home = super::home();
    write(&home.path("g.onnx"), Precision::Float32);
    home.write("r.yaml", RECIPE);
    home.set_up(&["build", "r.yaml"]).exits(0);
    let bench = [&["bench", "r.yaml", "--batch", "1", "--output", "json"][..], &QUICK].concat();
    let mut base = home.set_up(&bench).exits(0).json();
    let machine = measured(&mut base)["machine"].clone();
    let cpu = machine["cpu"].as_str().unwrap_or("an unknown processor");
    let ran_on = first_case(&mut base)["ran_on"].as_str().unwrap().to_owned();
    let words = vec![
        (format!("{cpu}, {} cores", machine["logical_cores"]), "C, 2 cores"),
        (ran_on, "ONNX Runtime on the CPU"),
    ];
    let mut table = Table {
        home,
        rows: "| command | situation | exit code | what is said |\n| --- | --- | --- | --- |\n".into(),
        count: 0,
        words,
    };
    of_bench(&mut table, &base);
    of_release(&mut table);
    of_validation(&mut table);
    assert!(table.count >= 30, "{}", table.count);
    is_documented("gates.md", "## Gates without an answer", &table.rows);
}

fn of_bench(table: &mut Table, base: &Value) {
    let bench = [&["bench", "r.yaml", "--batch", "1"][..], &QUICK, &GATE].concat();
    table.row("nothing to compare with", &bench, 1);
    let with = |file: &'static str| [&bench[..], &["--baseline", file]].concat();
    table.row("the baseline's file is missing", &with("absent.json"), 1);
    table.row("the baseline is no result of `bench`", &with("r.yaml"), 1);
    table.against("a baseline of a newer nimctl", base, 1, &[], |b| b["schema"] = json!("nimctl.bench/9"));
    table.against("a baseline of another model", base, 1, &[], |b| b["model"]["name"] = json!("other"));
    table
        .against("the baseline lacks the profile", base, 3, &[], |b| profile(b)["name"] = json!("onnx-fp31"));
    table.against("the baseline could not measure the profile", base, 3, &[], |b| {
        profile(b)["bench"] = json!({ "failed": "out of memory" });
    });
    table.against("the baseline did not measure the profile", base, 3, &[], |b| {
        profile(b)["bench"] = json!({ "skipped": "it was not built" });
    });
    table.against("the baseline lacks the batch", base, 3, &[], |b| first_case(b)["batch"] = json!(3));
    table.against("the baseline lacks the number of streams", base, 3, &["--streams", "2"], |_| ());
    table.against("the baseline lacks the graph", base, 3, &[], |b| first_case(b)["graph"] = json!("h"));
    table.against("the baseline's case failed", base, 3, &[], |b| {
        first_case(b)["failure"] = json!("the worker crashed");
    });
    table.against("too few rounds", base, 3, &["--rounds", "7"], |_| ());
    table.against("too few rounds in the baseline", base, 3, &[], |b| {
        first_case(b)["rounds"].as_array_mut().unwrap().truncate(1);
    });
    table.against("a round of the baseline took no time", base, 3, &[], |b| {
        first_case(b)["rounds"][0]["p50_ms"] = json!(0.0);
    });
    table.against("a baseline of another processor", base, 3, &[], |b| {
        measured(b)["machine"]["cpu"] = json!("Another CPU");
        measured(b)["machine"]["logical_cores"] = json!(64);
    });
    table.against("a baseline of another number of threads", base, 3, &["--threads", "1"], |_| ());
    table.against("a baseline with other optimizations", base, 3, &["--graph-optimization", "off"], |_| ());
    table.against("a baseline that ran on a GPU", base, 3, &[], |b| {
        first_case(b)["ran_on"] = json!("ONNX Runtime 1.32.0 on NVIDIA L4 (8.9)");
    });
    let [_, gate] = GATE;
    let compare = |a: &'static str, b: &'static str| {
        vec!["bench", "r.yaml", "--quiet", "--budget-ms=20", "--compare", a, b, "--fail-if", gate]
    };
    table.row("a profile is compared with itself", &compare("onnx-fp32", "onnx-fp32"), 1);
    table.row("a profile that the recipe does not have", &compare("onnx-fp32", "onnx-fp61"), 1);
    table.home.write("r.yaml", format!("{RECIPE}{ELSEWHERE}"));
    table.row("a profile that was not built here", &compare("onnx-fp32", "tensorrt-gh200-fp16"), 3);
    table.home.write("r.yaml", RECIPE);
    let gate = |gate: &'static str| vec!["bench", "r.yaml", "--baseline", "changed.json", "--fail-if", gate];
    table.row("a metric that does not exist", &gate("p51 > +3%"), 2);
    table.row("a bound that nothing can be beyond", &gate("throughput < -150%"), 2);
}

fn of_release(table: &mut Table) {
    let release = [
        "release",
        "r.yaml",
        "-o",
        "out/r",
        "--only=onnx-fp32",
        "--budget-ms=20",
        "--rounds=8",
        "--policy=p.yaml",
    ];
    table.home.write("p.yaml", POLICY);
    let with = |more: &[&'static str]| [&release[..], more].concat();
    table.row("the policy has `fail_if`, and there is no `--baseline`", &with(&[]), 1);
    table.home.set_up(&["release", "r.yaml", "-o", "unmeasured", "--only=onnx-fp32", "--no-bench"]).exits(0);
    let unmeasured = ["--baseline", "unmeasured"];
    table.row("the same, with `--no-bench`", &with(&[&unmeasured[..], &["--no-bench"]].concat()), 1);
    table.row("the baseline was released with `--no-bench`", &with(&unmeasured), 3);
    table.row("the baseline is no release", &with(&["--baseline", "data"]), 1);
    table.home.write("other.yaml", RECIPE.replace("name: m,", "name: other,"));
    table.home.set_up(&["release", "other.yaml", "-o", "other", "--only=onnx-fp32", "--no-bench"]).exits(0);
    table.row("the baseline is a release of another model", &with(&["--baseline", "other"]), 1);
    let measured =
        ["release", "r.yaml", "-o", "measured", "--only=onnx-fp32", "--budget-ms=20", "--rounds=8"];
    table.home.set_up(&measured).exits(0);
    table.row(
        "the baseline was measured with other threads",
        &with(&["--baseline=measured", "--threads=1"]),
        3,
    );
    table.home.write("p.yaml", "schema: nimctl.release-policy/1\nrequired: ['tensorrt-*']\n");
    table.home.write("r.yaml", format!("{RECIPE}{ELSEWHERE}"));
    let all = ["release", "r.yaml", "-o", "out/r", "--no-bench", "--policy=p.yaml"];
    table.row("a required profile that was not built", &all, 3);
    table.home.write("r.yaml", RECIPE);
}

fn of_validation(table: &mut Table) {
    let none = Tensor::new::<f32>(&[0, 4], &[]).unwrap();
    none.write(&table.home.path("none.npy")).unwrap();
    table.home.write("v.yaml", RECIPE.replace("{ normal: {} }", "{ npy: none.npy }"));
    table.row("samples without rows", &["validate", "v.yaml"], 1);
    table.home.write("v.yaml", RECIPE.replace("name: m,", "name: new,"));
    table.row("nothing was built", &["validate", "v.yaml"], 3);
    Small::new()
        .node("IsNaN", &["x"], "nans")
        .node("NonZero", &["nans"], "places")
        .input("x", FLOAT, &[4])
        .output("places", INT64, Some(&[2]))
        .write(&table.home.path("e.onnx"));
    table.home.write("v.yaml", RECIPE.replace("g.onnx", "e.onnx"));
    table.home.set_up(&["build", "v.yaml"]).exits(0);
    table.row("an output that is empty in all shapes", &["validate", "v.yaml"], 1);

    towers(&table.home, 3, true);
    table.row("`zero_shot`: several pairs of outputs could be the embeddings", &["validate", "z.yaml"], 1);
    towers(&table.home, 5, false);
    table.row("`zero_shot`: no outputs have the same width", &["validate", "z.yaml"], 1);
}

/// Builds two graphs, of images in 3 numbers and of texts in `width`, and a labelled set.
fn towers(home: &Home, width: usize, twice: bool) {
    let vision = Small::new()
        .weight("two", &[], &[2.0])
        .node("GlobalAveragePool", &["IMAGE"], "pooled")
        .node("Flatten", &["pooled"], "image")
        .node("Mul", &["image", "two"], "double")
        .input("IMAGE", FLOAT, &[3, 8, 8])
        .output("image", FLOAT, Some(&[3]));
    let vision = if twice { vision.output("double", FLOAT, Some(&[3])) } else { vision };
    vision.write(&home.path("vision.onnx"));
    let weights: Vec<f32> = (0..4 * width).map(|index| index as f32 * 0.25 - 1.0).collect();
    Small::new()
        .weight("w", &[4, width], &weights)
        .node_with("Cast", &["TEXT"], "numbers", &[("to", FLOAT)])
        .node("MatMul", &["numbers", "w"], "text")
        .input("TEXT", INT64, &[4])
        .output("text", FLOAT, Some(&[width as u64]))
        .write(&home.path("text.onnx"));
    for class in ["cat", "dog"] {
        let folder = home.path("set").join(class);
        fs_err::create_dir_all(&folder).unwrap();
        let mut encoder = png::Encoder::new(fs_err::File::create(folder.join("1.png")).unwrap(), 9, 9);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header().unwrap().write_image_data(&[0; 9 * 9 * 3]).unwrap();
    }
    home.write(
        "words.json",
        r#"{ "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
             "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null, "decoder": null,
             "model": { "type": "WordLevel", "unk_token": "?", "vocab": { "?": 1, "cat": 2, "dog": 3 } } }"#,
    );
    home.write(
        "z.yaml",
        r#"schema: nimctl.recipe/1
model: { name: z, release: "1" }
graphs:
  vision:
    source: { path: vision.onnx }
    shapes: { IMAGE: { min: [1, 3, 8, 8], opt: [2, 3, 8, 8], max: [2, 3, 8, 8] } }
    samples: { IMAGE: { normal: {} } }
  text:
    source: { path: text.onnx }
    shapes: { TEXT: { min: [1, 4], opt: [2, 4], max: [2, 4] } }
    samples: { TEXT: { integers: { low: 0, high: 4 } } }
validation:
  zero_shot:
    image_input: vision/IMAGE
    text_input: text/TEXT
    images: set
    classes: { cat: cat, dog: dog }
    tokenizer: words.json
profiles:
  - { backend: onnxruntime, precisions: [fp32], targets: generic }
"#,
    );
    home.set_up(&["build", "z.yaml"]).exits(0);
}
