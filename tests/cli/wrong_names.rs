//! Every name in a recipe and in a policy that refers to something, each tried with a wrong one: an error with its line and the
//! nearest name, and exit code 1. `docs/recipe.md` shows the table.

use std::fmt::Write as _;

use crate::documented::is_documented;
use crate::graph::{Precision, write};
use crate::home::Home;

const RECIPE: &str = r#"schema: nimctl.recipe/1
model: { name: m, release: "1" }
graphs:
  main:
    source: { path: graph.onnx }
    shapes:
      x: { min: [1, 4], opt: [2, 4], max: [8, 4] }
    samples:
      x: { npz: { file: samples/in.npz, array: rows } }
profiles:
  - backend: fake
    precisions: [fp16]
    targets: { gpus: [l4] }
    lowering: { keep_ops: [Relu], keep_nodes: [sum], lower_ops: [MatMul] }
  - backend: onnxruntime
    precisions: [fp32]
    targets: generic
validation:
  thresholds: { row_cosine: 0.99 }
  tolerances:
    main/y: { absolute: 0.5 }
  zero_shot:
    image_input: main/x
    text_input: main/x
    image_output: main/y
    text_output: main/y
    images: labelled
    classes: { cat: cat, dog: dog }
    tokenizer: tokenizer.json
"#;
const POLICY: &str = "schema: nimctl.release-policy/1\nrequired:\n  - onnx-fp32\naccept: [executed]\nfail_if:\n  - p50 > +3%\n";

const CHECK: &[&str] = &["recipe", "check", "r.yaml"];
const BUILD: &[&str] = &["build", "r.yaml", "--dry-run"];
const VALIDATE: &[&str] = &["validate", "r.yaml"];
const RELEASE: &[&str] = &["release", "r.yaml", "-o", "out/rel", "--policy", "p.yaml"];

/// What the name is, what is replaced by what, and the first command that says so.
const NAMES: &[(&str, &str, &str, &[&str])] = &[
    ("`graphs.<name>.source.path`", "path: graph.onnx", "path: graf.onnx", BUILD),
    (
        "`graphs.<name>.source.synth.model`",
        "path: graph.onnx",
        "synth: { model: nvclip2, size: tiny, tower: text, seed: 1 }",
        CHECK,
    ),
    (
        "`graphs.<name>.source.synth.size`",
        "path: graph.onnx",
        "synth: { model: nvclip, size: b23, tower: text, seed: 1 }",
        CHECK,
    ),
    (
        "`graphs.<name>.source.synth.tower`",
        "path: graph.onnx",
        "synth: { model: nvclip, size: tiny, tower: texts, seed: 1 }",
        CHECK,
    ),
    ("`graphs.<name>.shapes`: inputs", "      x: { min:", "      xs: { min:", CHECK),
    ("`graphs.<name>.samples`: inputs", "      x: { npz:", "      xx: { npz:", CHECK),
    ("`graphs.<name>.samples`: forms", "{ npz: {", "{ npzz: {", CHECK),
    ("`npy`", "{ npz: { file: samples/in.npz, array: rows } }", "{ npy: samples/inn.npz }", VALIDATE),
    ("`npz.file`", "samples/in.npz", "samples/im.npz", VALIDATE),
    ("`npz.array`", "array: rows", "array: row", VALIDATE),
    (
        "`images.folder`",
        "{ npz: { file: samples/in.npz, array: rows } }",
        "{ images: { folder: labeled } }",
        VALIDATE,
    ),
    (
        "`texts.file`",
        "{ npz: { file: samples/in.npz, array: rows } }",
        "{ texts: { file: text.txt, tokenizer: tokenizer.json } }",
        VALIDATE,
    ),
    (
        "`texts.tokenizer`",
        "{ npz: { file: samples/in.npz, array: rows } }",
        "{ texts: { file: texts.txt, tokenizer: tokeniser.json } }",
        VALIDATE,
    ),
    (
        "`texts.part`",
        "{ npz: { file: samples/in.npz, array: rows } }",
        "{ texts: { file: texts.txt, tokenizer: tokenizer.json, part: mask } }",
        CHECK,
    ),
    ("`profiles[].backend`", "backend: onnxruntime", "backend: onnxruntim", CHECK),
    ("`profiles[].backend`, of a third party", "backend: fake", "backend: fakes", BUILD),
    ("`profiles[].precisions`", "[fp32]", "[fp23]", CHECK),
    ("`profiles[].targets`", "targets: generic", "targets: generics", CHECK),
    ("`targets.gpus`", "[l4]", "[l41]", CHECK),
    ("`lowering.io`", "lowering: { keep_ops", "lowering: { io: keeps, keep_ops", CHECK),
    ("`lowering.keep_ops`", "keep_ops: [Relu]", "keep_ops: [ReLU]", CHECK),
    ("`lowering.lower_ops`", "lower_ops: [MatMul]", "lower_ops: [Matmull]", CHECK),
    ("`lowering.keep_nodes`", "keep_nodes: [sum]", "keep_nodes: [summ]", CHECK),
    ("`validation.thresholds`", "row_cosine: 0.99", "row_cosines: 0.99", CHECK),
    ("`validation.tolerances`: graphs", "main/y: {", "mains/y: {", CHECK),
    ("`validation.tolerances`: outputs", "main/y: {", "main/yy: {", CHECK),
    ("`zero_shot.image_input`", "image_input: main/x", "image_input: main/xx", CHECK),
    ("`zero_shot.text_input`", "text_input: main/x", "text_input: main/xx", CHECK),
    ("`zero_shot.image_output`", "image_output: main/y", "image_output: main/yy", CHECK),
    ("`zero_shot.text_output`", "text_output: main/y", "text_output: main/yy", CHECK),
    ("`zero_shot.images`", "images: labelled", "images: labeled", VALIDATE),
    ("`zero_shot.classes`: folders", "{ cat: cat,", "{ cats: cat,", VALIDATE),
    ("`zero_shot.tokenizer`", "tokenizer: tokenizer.json\n", "tokenizer: tokeniser.json\n", VALIDATE),
    ("policy: `required`", "- onnx-fp32", "- onnx-fp23", RELEASE),
    ("policy: `accept`", "[executed]", "[execute]", RELEASE),
    ("policy: `fail_if`", "p50 > +3%", "p51 > +3%", RELEASE),
];

fn home() -> Home {
    let home = Home::new();
    write(&home.path("graph.onnx"), Precision::Float32);
    let rows = nimctl::worker::npy::Tensor::new(&[2, 4], &[0.5_f32; 8]).unwrap();
    let arrays = nimctl::worker::npy::archive::write(&[("rows".to_owned(), rows)].into()).unwrap();
    home.write("samples/in.npz", arrays);
    home.write("texts.txt", "a\n");
    home.write("tokenizer.json", "{}");
    home.write("labelled/cat/1.png", "");
    home.write("labelled/dog/1.png", "");
    home
}

#[test]
fn each_is_refused_with_its_line_and_the_nearest_name() {
    let home = home();
    home.write("p.yaml", POLICY);
    home.write("r.yaml", RECIPE);
    home.set_up(CHECK).exits(0);
    let mut table = "| name | wrong | what is said |\n| --- | --- | --- |\n".to_owned();
    for (what, right, wrong, command) in NAMES {
        let is_policy = what.starts_with("policy");
        let (text, file) = if is_policy { (POLICY, "p.yaml") } else { (RECIPE, "r.yaml") };
        assert_eq!(text.matches(right).count(), 1, "{right}");
        home.write("r.yaml", RECIPE);
        home.write("p.yaml", POLICY);
        home.write(file, text.replace(right, wrong));
        let printed = home.set_up(command);
        // A worker that is missing is missing on this machine.
        printed.exits(if what.contains("third party") { 5 } else { 1 });
        let line = printed.stderr.lines().next().unwrap_or_default();
        let message = line.strip_prefix("error: ").unwrap_or(line);
        let place = regex::Regex::new(&format!("^{file}:[0-9]+:[0-9]+: ")).unwrap();
        assert!(place.is_match(message), "{message}");
        let nearest = ["did you mean `", "the nearest known names are "];
        assert!(nearest.iter().any(|words| message.contains(words)), "{message}");
        let message = message.replace(&folders(&home), "…").replace('|', "\\|");
        let _ = writeln!(table, "| {what} | `{}` | {message} |", wrong.trim());
    }
    is_documented("recipe.md", "## Names", &table);
}

/// Returns the folders that workers are looked for in, as messages list them.
fn folders(home: &Home) -> String {
    let printed = home.set_up(&["build", "r.yaml", "--dry-run"]).stderr.clone();
    let listed = printed.split_once(" is not in ").and_then(|(_, rest)| rest.split_once("; did you"));
    listed.map_or_else(|| "\n".to_owned(), |(folders, _)| folders.to_owned())
}
