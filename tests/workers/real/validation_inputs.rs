//! What `nimctl validate` runs graphs on, and what it can be told to validate: the user's own arrays, images, texts, a
//! labelled set; manifests and ids; one row again.

use std::path::PathBuf;

use nimctl::worker::npy::{Tensor, archive};
use serde_json::{Value, json};

use super::towers::{FP16, TEXT, Tower, VISION, recipe};
use crate::home::Home;

const TOKENIZER: &str = r#"{
    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
    "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
    "model": {"type": "WordLevel", "unk_token": "?",
              "vocab": {"?": 1, "a": 3, "photo": 4, "of": 5, "cat": 6, "dog": 7, "drawing": 8}}
}"#;

/// A home with both towers of the demo's model for ONNX Runtime, built, and files to run them on.
fn built(samples: [&str; 2], validation: &str) -> Home {
    let home = super::home();
    write_recipe(&home, samples, validation);
    home.write("tokenizer.json", TOKENIZER);
    home.write("texts.txt", "a photo of a cat\n\na drawing\n");
    for (index, class) in ["cat", "dog"].into_iter().enumerate() {
        let folder = home.path("images").join(class);
        fs_err::create_dir_all(&folder).unwrap();
        for number in 0..3 {
            let colour = [80 * index as u8, 40 * number, 200];
            let pixel =
                |(x, y): (u32, u32)| [colour[0] ^ (x as u8), colour[1].wrapping_add(y as u8), colour[2]];
            let places = (0..250).flat_map(|y| (0..300).map(move |x| (x, y)));
            let file = fs_err::File::create(folder.join(format!("{number}.png"))).unwrap();
            let mut encoder = png::Encoder::new(file, 300, 250);
            encoder.set_color(png::ColorType::Rgb);
            let pixels: Vec<u8> = places.flat_map(pixel).collect();
            encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        }
    }
    home.set_up(&["build", "r.yaml"]).exits(0);
    home
}

fn write_recipe(home: &Home, [image, text]: [&str; 2], validation: &str) {
    let towers =
        [Tower { samples: image, max_batch: 5, ..VISION }, Tower { samples: text, max_batch: 5, ..TEXT }];
    home.write("r.yaml", recipe(&towers, &format!("{FP16}{validation}")));
}

fn gates(home: &Home) -> Vec<Value> {
    let view = home.set_up(&["validate", "r.yaml", "--output", "json", "--quiet"]).exits(0).json();
    view["profiles"][0]["status"]["executed"]["gates"].as_array().unwrap().clone()
}

const SEEDED: [&str; 2] = ["{ normal: {} }", "{ integers: { low: 0, high: 1024 } }"];
const FILES: [&str; 2] =
    ["{ images: { folder: images/cat } }", "{ texts: { file: texts.txt, tokenizer: tokenizer.json } }"];
const LABELLED: &str = "validation:\n  zero_shot:\n    image_input: vision/IMAGE\n    text_input: text/TEXT\n    \
                        images: images\n    classes: { cat: cat, dog: dog }\n    prompts: [\"a photo of a {}\", \"a \
                        drawing of a {}\"]\n    tokenizer: tokenizer.json\n";

#[test]
fn images_texts_and_a_labelled_set() {
    let home = built(FILES, LABELLED);
    let gates = gates(&home);
    let zero_shot = gates.iter().find(|gate| gate["gate"] == "zero_shot").unwrap();
    assert_eq!(zero_shot["subject"], "vision × text");
    // Six images, made-up weights: what counts is that both graphs agree.
    let wanted = zero_shot["threshold"].as_f64().unwrap() + 0.01;
    assert!((zero_shot["value"].as_f64().unwrap() - wanted).abs() < 1e-9, "{zero_shot}");
    assert!((wanted * 6.0 - (wanted * 6.0).round()).abs() < 1e-9, "{wanted} is no part of six images");

    // The prompts are one short of two whole batches, and the images are spread over two.
    let references: Vec<_> = fs_err::read_dir(home.path("data/store/nimctl/references")).unwrap().collect();
    assert_eq!(references.len(), 2);
    let mut rows: Vec<usize> = references
        .into_iter()
        .map(|entry| {
            let bytes = fs_err::read(entry.unwrap().path()).unwrap();
            let arrays = archive::read_all(&bytes).unwrap();
            let (_, labelled) = arrays.iter().find(|(name, _)| name.starts_with("labelled/")).unwrap();
            labelled.shape()[0]
        })
        .collect();
    rows.sort_unstable();
    assert_eq!(rows, [4, 6]);

    // What is wrong with a file is said with its name.
    fs_err::write(home.path("images/dog/0.png"), "no image").unwrap();
    home.run(&["validate", "r.yaml"]).exits(1);
    fs_err::remove_file(home.path("tokenizer.json")).unwrap();
    home.run(&["validate", "r.yaml"]).exits(1);
    insta::assert_snapshot!(home.transcript());
}

/// A reference that was computed before is not computed again, and one that is damaged is.
#[test]
fn the_reference_is_computed_once() {
    let home = built(SEEDED, "");
    gates(&home);
    let folder = home.path("data/store/nimctl/references");
    let files: Vec<PathBuf> = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 2);
    let whole = fs_err::read(&files[0]).unwrap();
    // Another answer in its place is believed: then the profile's numbers are wrong.
    let mut tensors = archive::read_all(&whole).unwrap();
    for tensor in tensors.values_mut() {
        let values: Vec<f32> = tensor.elements::<f32>().unwrap().into_iter().map(|value| -value).collect();
        *tensor = Tensor::new(tensor.shape(), &values).unwrap();
    }
    fs_err::write(&files[0], archive::write(&tensors).unwrap()).unwrap();
    home.set_up(&["validate", "r.yaml"]).exits(3).has(&["row_cosine", "--only onnx-fp16 --replay "]);
    fs_err::write(&files[0], &whole[..whole.len() / 2]).unwrap();
    gates(&home);
    assert_eq!(archive::read_all(&fs_err::read(&files[0]).unwrap()), archive::read_all(&whole));
}

#[test]
fn arrays_of_the_user_and_bounds_of_the_recipe() {
    let home = built(SEEDED, "");
    let images: Vec<f32> =
        (0..3 * 3 * 224 * 224).map(|index| ((index * 37 % 1000) as f32) / 500.0 - 1.0).collect();
    let texts: Vec<i64> = (0..2 * 77).map(|index| index * 13 % 1024).collect();
    let arrays = [
        ("pictures".to_owned(), Tensor::new(&[3, 3, 224, 224], &images).unwrap()),
        ("TEXT".to_owned(), Tensor::new(&[2, 77], &texts).unwrap()),
    ];
    fs_err::write(home.path("in.npz"), archive::write(&arrays.into()).unwrap()).unwrap();
    let from_npz = ["{ npz: { file: in.npz, array: pictures } }", "{ npz: { file: in.npz } }"];
    let tolerances = |absolute: f64| {
        format!(
            "validation:\n  thresholds: {{ row_cosine: 0.99 }}\n  tolerances:\n    vision/LOGITS_PER_IMAGE: {{ \
             absolute: {absolute} }}\n"
        )
    };
    write_recipe(&home, from_npz, &tolerances(0.5));
    home.set_up(&["build", "r.yaml"]).exits(0);
    let gates = gates(&home);
    let of = |name: &str| -> Vec<&Value> {
        let named = |gate: &&Value| gate["gate"] == name;
        gates.iter().filter(named).collect()
    };
    assert!(of("tolerance").iter().all(|gate| gate["subject"] == "vision/LOGITS_PER_IMAGE"));
    assert_eq!((of("tolerance").len(), of("row_cosine").len()), (3, 3));
    assert!(of("row_cosine").iter().all(|gate| gate["threshold"] == json!(0.99)));
    // The rows of the file are fewer than those of the shapes; ranks are those of three images and two texts.
    assert!(of("row_cosine").iter().all(|gate| gate["worst_row"].as_u64().unwrap() < 2));

    write_recipe(&home, from_npz, &tolerances(1e-9));
    home.set_up(&["validate", "r.yaml"]).exits(3).has(&["tolerance", "FAILED", "--replay vision/"]);
    write_recipe(&home, [from_npz[0], "{ npz: { file: in.npz, array: words } }"], "");
    home.run(&["validate", "r.yaml"]).exits(1);
    write_recipe(&home, SEEDED, "validation: { thresholds: { row_cosine: 2 } }\n");
    home.run(&["validate", "r.yaml"]).exits(1);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn a_manifest_or_an_id_leads_to_the_recipe() {
    let home = built(SEEDED, "");
    let manifest = "manifests/r/model_manifest.yaml";
    home.set_up(&["validate", manifest]).exits(0).has(&["executed  passed", "26 of 26"]);
    let text = fs_err::read_to_string(home.path(manifest)).unwrap();
    let id = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("- profile_id: ").or(line.trim().strip_prefix("- id: ")));
    let id = id.map(|id| id.trim_matches('"').to_owned()).unwrap_or_else(|| {
        let stem = |entry: std::io::Result<fs_err::DirEntry>| {
            entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()
        };
        fs_err::read_dir(home.path("data/store/nimctl/passports")).unwrap().map(stem).next().unwrap()
    });
    home.set_up(&["validate", &id]).exits(0).has(&["executed  passed"]);

    let unknown = "0".repeat(64);
    home.run(&["validate", &unknown]).exits(1);
    home.run(&["validate", "absent.yaml"]).exits(1);
    // The recipe has moved on: the id is not one of its profiles any more.
    let recipe = fs_err::read_to_string(home.path("r.yaml")).unwrap();
    fs_err::write(home.path("r.yaml"), recipe.replace("release: 1.0.0", "release: 1.0.1")).unwrap();
    home.set_up(&["build", "r.yaml"]).exits(0);
    home.set_up(&["validate", &id])
        .exits(3)
        .has(&["the recipe no longer produces it", "nothing was validated"]);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn one_row_again() {
    let home = built(SEEDED, "");
    let replayed = home.set_up(&["validate", "r.yaml", "--replay", "text/max/4"]);
    replayed.exits(0).has(&["replay-text-max-4", "norm_ratio"]);
    assert!(!replayed.stdout.contains("FAILED"), "{replayed}");
    let shape = |name: &str| {
        let tensor = Tensor::read(&home.path("replay-text-max-4").join(name)).unwrap();
        tensor.shape().to_vec()
    };
    assert_eq!(shape("inputs/0-TEXT.npy"), [1, 77]);
    assert_eq!(shape("found/0-LOGITS_PER_TEXT.npy"), shape("reference/0-LOGITS_PER_TEXT.npy"));
    home.run(&["validate", "r.yaml", "--replay", "text/max/5"]).exits(1);
    home.run(&["validate", "r.yaml", "--replay", "audio/max/0"]).exits(1);
    home.run(&["validate", "r.yaml", "--replay", "text/5"]).exits(2);
    insta::assert_snapshot!(home.transcript());
}
